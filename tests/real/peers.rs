//! MX hosts that misbehave in ways that no real server can be configured for. Each follows its [`Script`], and records
//! every command that it hears.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion};

use crate::certs::Identity;
use crate::pki::stray_key;

/// How a peer departs from a good MX.
#[derive(Clone, Copy)]
pub(crate) enum Script {
    /// It greets with this line and sends no reply after that.
    Greets(&'static str),
    /// It offers STARTTLS and then refuses the command.
    RefusesStartTls,
    /// It shows the certificate of another host without having the key.
    Replays(&'static SupportedProtocolVersion),
    /// It takes the message and hangs up before its reply to the end of data.
    HangsUpAfterDot,
}

pub(crate) struct Peer {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Peer {
    pub(crate) fn start(address: SocketAddr, script: Script, identity: &Identity) -> Self {
        let listener = TcpListener::bind(address).expect("the subnet is ours");
        let tls = Arc::new(tls(script, identity));
        let heard = Arc::new(Mutex::new(Vec::new()));
        let stopped = Arc::new(AtomicBool::new(false));
        let host = Host { script, tls, heard: Arc::clone(&heard) };
        let ends = Arc::clone(&stopped);
        let thread = thread::spawn(move || {
            for stream in listener.incoming().take_while(|_| !ends.load(Ordering::SeqCst)).flatten() {
                let host = host.clone();
                // A peer's sessions are meant to end with an error.
                thread::spawn(move || host.serve(stream).unwrap_or_else(|error| host.note(&format!("end: {error}"))));
            }
        });
        Self { address, heard, stopped, thread: Some(thread) }
    }

    /// Every command so far, with the prefix `tls: ` for those under TLS, and the ends of sessions.
    pub(crate) fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether any session so far heard the command, in cleartext or not.
    pub(crate) fn heard_command(&self, verb: &str) -> bool {
        self.heard().iter().any(|line| line.trim_start_matches("tls: ").to_ascii_uppercase().starts_with(verb))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes the listener.
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().map(JoinHandle::join);
        if thread::panicking() {
            eprintln!("--- peer at {}\n{}", self.address, self.heard().join("\n"));
        }
    }
}

/// The state of a peer that its sessions share.
#[derive(Clone)]
struct Host {
    script: Script,
    tls: Arc<ServerConfig>,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Host {
    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut clear = BufReader::new(stream);
        if let Script::Greets(line) = self.script {
            say(&mut clear, line)?;
            return self.converse(&mut clear, "");
        }
        say(&mut clear, "220 mx.example.test ESMTP")?;
        self.converse(&mut clear, "")?;
        say(&mut clear, "220 2.0.0 go ahead")?;
        let connection = ServerConnection::new(Arc::clone(&self.tls)).map_err(io::Error::other)?;
        self.converse(&mut BufReader::new(StreamOwned::new(connection, clear.into_inner())), "tls: ")
    }

    /// Answers commands until STARTTLS (in cleartext) or the end.
    fn converse<S: Read + Write>(&self, stream: &mut BufReader<S>, prefix: &str) -> io::Result<()> {
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let line = line.trim_end();
            self.note(&format!("{prefix}{line}"));
            match line.split(' ').next().unwrap_or_default().to_ascii_uppercase().as_str() {
                _ if matches!(self.script, Script::Greets(_)) => say(stream, "503 5.5.1 no")?,
                "EHLO" if prefix.is_empty() => say(stream, "250-mx.example.test\r\n250 STARTTLS")?,
                "EHLO" => say(stream, "250-mx.example.test\r\n250 8BITMIME")?,
                "STARTTLS" if matches!(self.script, Script::RefusesStartTls) => say(stream, "454 4.7.0 not now")?,
                "STARTTLS" => return Ok(()),
                "DATA" => {
                    say(stream, "354 go ahead")?;
                    skip_message(stream)?;
                    self.note("the final dot");
                    // Only the script HangsUpAfterDot gets this far: the peer hangs up.
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
                "QUIT" => return say(stream, "221 2.0.0 bye").and(Err(io::ErrorKind::ConnectionAborted.into())),
                _ => say(stream, "250 2.0.0 ok")?,
            }
        }
    }

    fn note(&self, line: &str) {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).push(line.to_owned());
    }
}

fn say<S: Read + Write>(stream: &mut BufReader<S>, reply: &str) -> io::Result<()> {
    stream.get_mut().write_all(format!("{reply}\r\n").as_bytes())?;
    stream.get_mut().flush()
}

fn skip_message<S: Read>(stream: &mut BufReader<S>) -> io::Result<()> {
    let mut line = Vec::new();
    while line != b".\r\n" {
        line.clear();
        if stream.read_until(b'\n', &mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

fn tls(script: Script, identity: &Identity) -> ServerConfig {
    let (versions, key) = match script {
        Script::Replays(version) => (vec![version], stray_key()),
        _ => (rustls::ALL_VERSIONS.to_vec(), identity.private_key()),
    };
    let provider = default_provider();
    let key = provider.key_provider.load_private_key(key).expect("a key of rcgen's");
    // A CertifiedKey built like this is not checked for a key that belongs to the certificate.
    let pair = Arc::new(CertifiedKey::new(identity.chain.clone(), key));
    ServerConfig::builder_with_provider(provider.into())
        .with_protocol_versions(&versions)
        .expect("versions of the provider")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Fixed(pair)))
}

#[derive(Debug)]
struct Fixed(Arc<CertifiedKey>);

impl ResolvesServerCert for Fixed {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}
