//! Invariants: the positions at which reads cut the stream make no difference; a written reply reads as the same reply;
//! and the client gets one clean reply, which cannot act on its session, and is positive only if the remote's is.

use bytes::BytesMut;
use danelaw::smtp::reply::{Class, EnhancedCode, Reply, ReplyDecoder, ReplyError};

pub(crate) fn invariant(input: (u8, &[u8])) {
    let (piece, octets) = input;
    let (replies, error) = decode(octets, octets.len());
    assert_eq!(decode(octets, piece.into()), (replies.clone(), error));
    for reply in &replies {
        // Written lines have at most 512 octets, so the first writing may cut a line; the second must not change it.
        let written = rewritten(reply);
        assert_eq!(written.code(), reply.code());
        assert_eq!(rewritten(&written), written);
        check_relayed(reply);
    }
}

fn decode(octets: &[u8], piece: usize) -> (Vec<Reply>, Option<ReplyError>) {
    let (mut decoder, mut buffer, mut replies) = (ReplyDecoder::new(), BytesMut::new(), Vec::new());
    for piece in octets.chunks(piece.max(1)) {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Some(reply)) => replies.push(reply),
                Ok(None) => break,
                Err(error) => return (replies, Some(error)),
            }
        }
    }
    (replies, None)
}

fn rewritten(reply: &Reply) -> Reply {
    let mut written = BytesMut::new();
    reply.write(&mut written);
    for line in written.strip_suffix(b"\r\n").expect("a reply ends with CRLF").split(|octet| *octet == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        assert!(line.len() <= 510 && line.iter().all(|octet| (b' '..=b'~').contains(octet)), "{line:?}");
    }
    let reply = ReplyDecoder::new().decode(&mut written).expect("danelaw writes a reply").expect("a whole one");
    assert!(written.is_empty(), "danelaw writes no second reply");
    reply
}

fn check_relayed(reply: &Reply) {
    let relayed = rewritten(&reply.relayed("mx.example[192.0.2.1]"));
    assert!(!matches!(relayed.code().number(), 220 | 221 | 235 | 300..=399 | 421 | 521 | 530..=539), "{relayed}");
    assert!(relayed.class() != Class::Success || reply.class() == Class::Success, "{relayed}");
    assert_eq!(relayed.enhanced().map(EnhancedCode::class), Some(relayed.class()), "{relayed}");
}
