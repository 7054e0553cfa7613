//! The built-in workload: answers HTTP on 8080, and sends back what it gets on TCP 7000 and UDP
//! 7001, so that a first experiment needs nothing else installed.

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, header, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
};

use super::error::{Step as _, StepError};

const HTTP_PORT: u16 = 8080;
const TCP_PORT: u16 = 7000;
const UDP_PORT: u16 = 7001;

/// The workload, listening.
pub(super) struct Echo {
    answer: Bytes,
    http: TcpListener,
    tcp: TcpListener,
    udp: UdpSocket,
}

impl Echo {
    /// Takes the ports, for both families: a socket of `::` is for IPv4 as well, since
    /// `net.ipv6.bindv6only` is 0 in a new network namespace.
    pub(super) async fn bind(pod: &str, ipv6: bool) -> Result<Self, StepError> {
        let any = if ipv6 {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        } else {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        };
        let listen = async |port| {
            TcpListener::bind((any, port)).await.step(|| format!("listen on TCP port {port}"))
        };
        let answer = serde_json::json!({ "pod": pod }).to_string() + "\n";
        Ok(Self {
            answer: answer.into(),
            http: listen(HTTP_PORT).await?,
            tcp: listen(TCP_PORT).await?,
            udp: UdpSocket::bind((any, UDP_PORT))
                .await
                .step(|| format!("listen on UDP port {UDP_PORT}"))?,
        })
    }

    /// Answers until the process ends.
    pub(super) async fn serve(self) -> Result<(), StepError> {
        let udp = Arc::new(self.udp);
        tokio::try_join!(
            accept(self.http, |stream| http(stream, self.answer.clone())),
            accept(self.tcp, tcp),
            datagrams(&udp),
        )?;
        Ok(())
    }
}

async fn accept<F: Future<Output = ()> + Send + 'static>(
    listener: TcpListener,
    serve: impl Fn(TcpStream) -> F,
) -> Result<(), StepError> {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                drop(stream.set_nodelay(true));
                tokio::spawn(serve(stream));
            }
            // Out of descriptors: what is open now will close.
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
        }
    }
}

async fn http(stream: TcpStream, answer: Bytes) {
    let service = service_fn(|_request| {
        let mut response = Response::new(Full::new(answer.clone()));
        let json = header::HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        async { Ok::<_, Infallible>(response) }
    });
    // A client that breaks off is not this server's error.
    drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
}

async fn tcp(mut stream: TcpStream) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(len @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..len]).await.is_err() {
            return;
        }
    }
}

async fn datagrams(socket: &UdpSocket) -> Result<(), StepError> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        // An error belongs to an earlier datagram that could not be delivered; the next may be.
        if let Ok((len, from)) = socket.recv_from(&mut buffer).await {
            drop(socket.send_to(&buffer[..len], from).await);
        }
    }
}
