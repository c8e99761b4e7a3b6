//! One command to a remote and its reply, and the reasons for which a reply does not come.

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;

use crate::refusal::{Reason, Stage};
use crate::smtp::reply::{Code, Reply, ReplyDecoder, is_blank};
use crate::tls;
use crate::wire::{Wire, WireError};

/// The longest wait for the answer to QUIT.
const QUIT: Duration = Duration::from_secs(5);

/// Sends one command and reads its reply.
pub(super) async fn exchange<S>(
    wire: &mut Wire<S>,
    stage: Stage,
    command: &str,
    limit: Duration,
) -> Result<Reply, Reason>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // RFC 2920 §3.1 in reverse: a reply that is there before its command would shift all that follow.
    wire.fill_ready().await.map_err(|error| Reason::Lost { stage, error })?;
    // An empty line behind the last reply is none, and is skipped in front of the next one.
    let tolerates = stage.precedes_mail() && is_blank(&wire.input);
    if !wire.input.is_empty() && !tolerates {
        return Err(unsolicited(&mut wire.input, stage));
    }
    wire.output.extend_from_slice(command.as_bytes());
    wire.output.extend_from_slice(b"\r\n");
    if let Err(error) = wire.flush(limit).await {
        // A remote that has closed the connection may have said why: in an alert of TLS.
        return Err(match wire.fill_ready().await {
            Err(said) if tls::failure_of(&said).is_some() => Reason::Lost { stage, error: said },
            Ok(()) | Err(_) => broken(stage, error),
        });
    }
    let decoder = match stage {
        Stage::Ehlo | Stage::EhloUnderTls => ReplyDecoder::to_ehlo(),
        Stage::Connect | Stage::Greeting | Stage::StartTls | Stage::Handshake => ReplyDecoder::before_mail(),
        Stage::Mail | Stage::Rcpt | Stage::Data | Stage::Message | Stage::EndOfMessage => ReplyDecoder::new(),
    };
    wire.reply_by(decoder, limit).await.map_err(|error| broken(stage, error))
}

/// The reason for a reply without a command: 421 may come at any time (RFC 5321 §3.8), no other reply may.
pub(super) fn unsolicited(input: &mut BytesMut, stage: Stage) -> Reason {
    match ReplyDecoder::new().decode(input) {
        Ok(Some(reply)) if reply.code() == Code::SERVICE_NOT_AVAILABLE => Reason::Closing(reply),
        Ok(_) | Err(_) => Reason::Unsolicited(stage),
    }
}

/// The reason for an exchange that broke at this stage.
pub(super) fn broken(stage: Stage, error: WireError) -> Reason {
    match error {
        WireError::Timeout(limit) => Reason::Timeout { stage, limit },
        WireError::Lost(error) => Reason::Lost { stage, error },
        WireError::Protocol(error) => Reason::Protocol { stage, error },
    }
}

/// Sends QUIT and waits a moment for the answer, in a task of its own, so that no transaction waits for it
/// (RFC 5321 §4.1.1.10).
pub(super) fn quit<S>(mut wire: Wire<S>, limit: Duration) -> JoinHandle<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limit = limit.min(QUIT);
    tokio::spawn(async move {
        wire.output.extend_from_slice(b"QUIT\r\n");
        let _ = wire.flush(limit).await;
        let _ = wire.reply(limit).await;
        let _ = wire.close(limit).await;
    })
}
