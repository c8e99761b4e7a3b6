//! The server, which is `openssl s_server`, and its judges: danelaw, `openssl s_client` and `posttls-finger`.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use danelaw::dane::tlsa::Usable;
use danelaw::dane::verify::{Expectation, References};
use danelaw::name::Name;
use danelaw::policy::TlsPolicy;
use danelaw::refusal::TlsFailure;
use danelaw::tls::{KeyProof, PostQuantum, Tls};
use rustls_pki_types::CertificateDer;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::certificates::pem;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    Tls12,
    Tls13,
}

/// A running server; it sends back each line in reverse.
pub(crate) struct Server {
    process: Child,
    address: SocketAddr,
    _files: TempDir,
}

impl Server {
    /// Shows this chain and holds this key.
    pub(crate) fn start(version: Version, chain: &[CertificateDer<'_>], key: &str) -> Self {
        let version = match version {
            Version::Tls12 => "-tls1_2",
            Version::Tls13 => "-tls1_3",
        };
        Self::with(&["-cipher", "ALL:@SECLEVEL=0", version], chain, key)
    }

    /// The same, with other arguments for openssl.
    pub(crate) fn with(arguments: &[&str], chain: &[CertificateDer<'_>], key: &str) -> Self {
        let files = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = files.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let (leaf, others) = chain.split_first().unwrap();
        let mut command = Command::new("openssl");
        command.args(["s_server", "-accept", "127.0.0.1:0", "-rev"]).args(arguments);
        command.args(["-no-CAfile", "-no-CApath", "-no-CAstore"]);
        command.arg("-cert").arg(write("leaf.pem", &pem("CERTIFICATE", leaf)));
        command.arg("-key").arg(write("key.pem", key));
        if !others.is_empty() {
            let others: String = others.iter().map(|other| pem("CERTIFICATE", other)).collect();
            command.arg("-cert_chain").arg(write("others.pem", &others));
        }
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        let address = loop {
            line.clear();
            if said.read_line(&mut line).unwrap() == 0 {
                let mut why = String::new();
                let _ = process.stderr.take().unwrap().read_to_string(&mut why);
                panic!("openssl does not serve this: {why}");
            }
            if let Some(address) = line.trim().strip_prefix("ACCEPT ") {
                break address.parse().unwrap();
            }
        };
        // Its further output is read, so that it never waits for the test.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        let mut errors = process.stderr.take().unwrap();
        std::thread::spawn(move || std::io::copy(&mut errors, &mut std::io::sink()));
        Self { process, address, _files: files }
    }

    /// danelaw's verdict: the depth of the match, or the reason against it.
    pub(crate) fn danelaw(&self, name: &str, records: &[String]) -> Result<usize, TlsFailure> {
        let name = Name::parse(name).unwrap();
        let policy = TlsPolicy::Dane(
            Expectation {
                usable: Usable::new(name.clone(), records.iter().filter_map(|r| r.parse().ok()).collect()).unwrap(),
                references: References::new(name, []),
            }
            .into(),
        );
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(self.address).await.unwrap();
            let mut secured = tokio::time::timeout(
                Duration::from_secs(20),
                Tls::new(PostQuantum::Offer).unwrap().handshake(stream, &policy),
            )
            .await
            .expect("a handshake in time")?;
            let Some(found) = secured.protection.proof().and_then(KeyProof::record) else { panic!() };
            let depth = found.depth;
            // The session has to carry octets both ways.
            secured.stream.write_all(b"danelaw\n").await.unwrap();
            secured.stream.flush().await.unwrap();
            let mut answer = [0; 8];
            secured.stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"walenad\n");
            Ok(depth)
        })
    }

    /// Whether OpenSSL's own DANE accepts the server.
    pub(crate) fn openssl(&self, name: &str, records: &[String]) -> Result<(), String> {
        let output = Command::new("openssl")
            .args(["s_client", "-brief", "-verify_return_error", "-connect", &self.address.to_string()])
            // As Postfix sets it up: level 1 when it must match, purpose sslserver, no names for DANE-EE.
            .args(["-cipher", "DEFAULT@SECLEVEL=1", "-purpose", "sslserver", "-dane_ee_no_namechecks"])
            .args(["-dane_tlsa_domain", name])
            .args(records.iter().flat_map(|record| ["-dane_tlsa_rrdata", record.as_str()]))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() && said.contains("Verification: OK") { Ok(()) } else { Err(why(&said)) }
    }

    /// Whether Postfix says "Verified", where its client can be given the record without DNS: a digest for DANE-EE, a
    /// certificate or a key in full for DANE-TA. `None` elsewhere.
    pub(crate) fn postfix(&self, name: &str, records: &[String], home: &Path) -> Option<Result<(), String>> {
        let [record] = records else { return None };
        let (numbers, data) = (record.get(..5)?, record.get(6..)?);
        let mut command = Command::new("posttls-finger");
        command.env("MAIL_CONFIG", home).args(["-c", "-w", "-t", "10", "-T", "10"]);
        let target = format!("[127.0.0.1]:{}", self.address.port());
        let digest = if numbers.ends_with('1') { "sha256" } else { "sha512" };
        let anchor = home.join(format!("anchor-{}.pem", self.address.port()));
        match numbers {
            "3 0 1" | "3 1 1" | "3 0 2" | "3 1 2" => {
                command.args(["-l", "fingerprint", "-d", digest, &target, data]);
            }
            "2 0 0" | "2 1 0" => {
                let label = if numbers == "2 0 0" { "CERTIFICATE" } else { "PUBLIC KEY" };
                let octets: Vec<u8> =
                    (0..data.len() / 2).map(|at| u8::from_str_radix(&data[2 * at..][..2], 16).unwrap()).collect();
                std::fs::write(&anchor, pem(label, &octets)).unwrap();
                command.args(["-l", "secure", "-A"]).arg(&anchor).args([&target, name]);
            }
            _ => return None,
        }
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        for line in BufReader::new(process.stdout.take().unwrap()).lines().map_while(Result::ok) {
            said.push_str(&line);
            said.push('\n');
            // It would go on and wait for a greeting.
            if line.contains("TLS connection established") {
                break;
            }
        }
        let _ = process.kill();
        let _ = process.wait();
        Some(if said.contains(" Verified TLS connection established") { Ok(()) } else { Err(why(&said)) })
    }
}

/// The line of the output that gives the reason.
fn why(said: &str) -> String {
    let line = said.lines().find(|line| line.contains("num=") || line.contains("alert"));
    line.unwrap_or(said).to_owned()
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
