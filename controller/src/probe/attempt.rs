//! One attempt of each kind of probe. Every attempt makes a connection of its own: one that is kept
//! open would not notice a cut until something is sent on it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use faultline_probe::{Failure, FailureKind};
use http_body_util::{BodyExt, Empty};
use hyper::{Request, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::{
    experiment::ProbeKind,
    place::{Place, Pod},
};

/// The pod that a command runs in: another one, once another one has taken its place.
#[derive(Debug, Clone)]
pub struct CurrentPod(Arc<Mutex<Pod>>);

impl CurrentPod {
    /// At first.
    pub fn new(pod: Pod) -> Self {
        Self(Arc::new(Mutex::new(pod)))
    }

    /// From now on.
    pub fn set(&self, pod: Pod) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = pod;
    }

    fn get(&self) -> Pod {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What is tried, with all that it takes to try it.
#[derive(Debug)]
pub enum Target {
    /// A request.
    Http {
        /// `host:port`.
        authority: String,
        /// The path and query.
        path: String,
        /// The status that is a success.
        status: u16,
    },
    /// A connection.
    Tcp {
        /// `host:port`.
        address: String,
    },
    /// A command in a pod.
    Exec {
        /// Where pods are.
        place: Arc<Place>,
        /// In which.
        pod: CurrentPod,
        /// The program and its arguments.
        command: Vec<String>,
    },
}

impl Target {
    /// Makes ready what a probe tries. `exec_pod` is the pod that an exec probe's command runs in.
    pub fn new(
        kind: &ProbeKind,
        place: &Arc<Place>,
        exec_pod: Option<CurrentPod>,
    ) -> Result<Self, String> {
        Ok(match kind {
            ProbeKind::Http { url, status } => {
                let (authority, path) = split_url(url);
                Self::Http { authority, path, status: *status }
            }
            ProbeKind::Tcp { address } => Self::Tcp { address: address.clone() },
            ProbeKind::Exec { target, command } => {
                let pod = exec_pod.ok_or_else(|| format!("target `{}` is nobody", target.value))?;
                Self::Exec { place: Arc::clone(place), pod, command: command.clone() }
            }
        })
    }

    /// Tries once: the value that was observed, if this kind has one, or why it failed.
    pub(super) async fn attempt(&self, timeout: Duration) -> Result<Option<String>, Failure> {
        match self {
            Self::Http { authority, path, status } => http(authority, path, *status).await?,
            Self::Tcp { address } => drop(connect(address).await?),
            Self::Exec { place, pod, command } => exec(place, &pod.get(), command, timeout).await?,
        }
        Ok(None)
    }
}

/// `http://host[:port][/path]`, which the experiment's check has seen already.
fn split_url(url: &str) -> (String, String) {
    let rest = url.strip_prefix("http://").unwrap_or(url);
    let (authority, path) = match rest.find(['/', '?']) {
        Some(at) if rest[at..].starts_with('/') => (&rest[..at], rest[at..].to_owned()),
        Some(at) => (&rest[..at], format!("/{}", &rest[at..])),
        None => (rest, "/".to_owned()),
    };
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let bare_v6 = authority.ends_with(']');
    let authority =
        if has_port && !bare_v6 { authority.to_owned() } else { format!("{authority}:80") };
    (authority, path)
}

async fn connect(address: &str) -> Result<TcpStream, Failure> {
    let stream = TcpStream::connect(address).await.map_err(|e| Failure::from(&e))?;
    stream.set_nodelay(true).map_err(|e| Failure::from(&e))?;
    Ok(stream)
}

async fn http(authority: &str, path: &str, expected: u16) -> Result<(), Failure> {
    let stream = connect(authority).await?;
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|e| of_http(&e))?;
    let request = Request::get(path)
        .header(header::HOST, authority)
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|e| Failure::new(FailureKind::Other, e.to_string()))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|e| of_http(&e))?;
        let status = response.status().as_u16();
        // A status line whose body never comes is no answer.
        response.into_body().collect().await.map_err(|e| of_http(&e))?;
        if status == expected {
            Ok(())
        } else {
            Err(Failure::new(FailureKind::Status, format!("status {status}")))
        }
    };
    tokio::pin!(exchange, connection);
    tokio::select! {
        result = &mut exchange => result,
        ended = &mut connection => match ended {
            Ok(()) => exchange.await,
            Err(e) => Err(of_http(&e)),
        },
    }
}

fn of_http(error: &hyper::Error) -> Failure {
    let kind =
        match std::error::Error::source(error).and_then(|e| e.downcast_ref::<std::io::Error>()) {
            Some(io) => Failure::from(io).kind,
            None if error.is_parse() => FailureKind::Protocol,
            None => FailureKind::Reset,
        };
    Failure::new(kind, error.to_string())
}

async fn exec(
    place: &Place,
    pod: &Pod,
    command: &[String],
    timeout: Duration,
) -> Result<(), Failure> {
    let failure = |text| Failure::new(FailureKind::Exec, text);
    let outcome = place.exec(pod, command, timeout).await.map_err(|e| failure(e.to_string()))?;
    match outcome.code {
        0 => Ok(()),
        code => Err(failure(format!("exit code {code}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::split_url;

    #[test]
    fn urls_are_split() {
        for (url, authority, path) in [
            ("http://a", "a:80", "/"),
            ("http://a:8080/x?y", "a:8080", "/x?y"),
            ("http://a?y", "a:80", "/?y"),
            ("http://[fd00::1]/", "[fd00::1]:80", "/"),
            ("http://[fd00::1]:81", "[fd00::1]:81", "/"),
        ] {
            assert_eq!(split_url(url), (authority.to_owned(), path.to_owned()), "{url}");
        }
    }
}
