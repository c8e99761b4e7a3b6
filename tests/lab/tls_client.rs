//! TLS of a scripted client.

use std::io;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::certs::{Authority, Identity};

/// How a client speaks TLS.
pub(crate) struct ClientSide<'a> {
    /// The authority of the server.
    pub(crate) authority: &'a Authority,
    /// The certificate that the client shows.
    pub(crate) identity: Option<&'a Identity>,
    /// The one version it knows.
    pub(crate) version: &'static SupportedProtocolVersion,
}

impl<'a> ClientSide<'a> {
    /// TLS 1.3, with this certificate if there is one.
    pub(crate) fn new(authority: &'a Authority, identity: Option<&'a Identity>) -> Self {
        Self { authority, identity, version: &rustls::version::TLS13 }
    }

    /// Shakes hands, and checks that the server is `danelaw.test`.
    pub(crate) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> io::Result<TlsStream<S>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.certificate.clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_protocol_versions(&[self.version])
            .unwrap()
            .with_root_certificates(roots);
        let config = match self.identity {
            Some(identity) => config.with_client_auth_cert(identity.chain.clone(), identity.private_key()).unwrap(),
            None => config.with_no_client_auth(),
        };
        TlsConnector::from(Arc::new(config)).connect("danelaw.test".try_into().unwrap(), stream).await
    }
}
