//! The policy host of all domains with a policy of MTA-STS: it gives each request the same answer.

use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::tls;
use crate::world::LISTED;

/// The properties of the policy host.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Where it listens.
    #[arg(long)]
    listen: SocketAddr,
    /// Key and certificate.
    #[arg(long)]
    pem: PathBuf,
}

pub(crate) async fn run(options: Options) {
    let acceptor = tls::acceptor(&options.pem);
    let listener = TcpListener::bind(options.listen).await.expect("the address of the policy host is free");
    println!("ready");
    while let Ok((stream, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        tokio::spawn(async move { serve(stream, acceptor).await });
    }
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor) -> std::io::Result<()> {
    let mut stream = acceptor.accept(stream).await?;
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await?);
    }
    let text = format!("version: STSv1\r\nmode: enforce\r\nmx: *.{LISTED}\r\nmax_age: 604800\r\n");
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n", text.len());
    stream.write_all((head + &text).as_bytes()).await?;
    stream.shutdown().await
}
