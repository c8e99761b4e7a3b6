//! The second opinion of `openssl s_client`, which has DANE built in (OpenSSL 1.1.0 and later; run with 3.0).

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rcgen::KeyPair;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection, Stream};

#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesServerCert for Shows {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// Whether OpenSSL, set up as Postfix does it, accepts this chain under this name at this time.
pub(crate) fn accepts(chain: &[CertificateDer<'static>], key: &KeyPair, expected: (&str, &[String]), now: u64) -> bool {
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let key = aws_lc_rs::sign::any_supported_type(&key).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Shows(Arc::new(CertifiedKey::new(chain.to_vec(), key)))));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = std::thread::spawn(move || {
        let (mut tcp, _) = listener.accept().unwrap();
        let mut session = ServerConnection::new(Arc::new(config)).unwrap();
        let mut stream = Stream::new(&mut session, &mut tcp);
        // A client that refuses the certificate leaves here.
        let _ = stream.write_all(b"220 mx.example.com\r\n").and_then(|()| stream.read(&mut [0; 1]));
    });
    let (name, records) = expected;
    let output = Command::new("openssl")
        .args(["s_client", "-brief", "-verify_return_error", "-connect", &address])
        // Postfix: level 1 when it must match, purpose sslserver, no names for DANE-EE.
        .args(["-cipher", "DEFAULT@SECLEVEL=1", "-purpose", "sslserver", "-dane_ee_no_namechecks"])
        .args(["-attime", &now.to_string(), "-dane_tlsa_domain", name])
        .args(records.iter().flat_map(|record| ["-dane_tlsa_rrdata", record.as_str()]))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    server.join().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    output.status.success() && said.contains("Verification: OK")
}
