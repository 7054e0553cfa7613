//! What is tried, made ready once, and then tried any number of times.

use faultline_proto::probe::Spec;

use crate::{Dialer, Failure, dns, grpc, http, prometheus, socket};

/// What is tried. Every attempt makes a connection of its own: one that is kept open would not notice
/// a cut until something is sent on it.
#[derive(Debug)]
pub struct Attempt(Kind);

#[derive(Debug)]
enum Kind {
    Dns(dns::DnsAttempt),
    Grpc(grpc::GrpcAttempt),
    Http(Box<http::HttpAttempt>),
    Prometheus(Box<prometheus::PrometheusAttempt>),
    Tcp(socket::TcpAttempt),
    Udp(socket::UdpAttempt),
}

impl Attempt {
    /// Makes ready what a probe tries.
    ///
    /// # Errors
    /// When a secure connection cannot be made ready, and why.
    pub fn new(spec: &Spec) -> Result<Self, String> {
        Ok(Self(match spec.clone() {
            Spec::Dns(dns) => Kind::Dns(dns::DnsAttempt(dns)),
            Spec::Grpc(grpc) => Kind::Grpc(grpc::GrpcAttempt::new(grpc)?),
            Spec::Http(http) => Kind::Http(Box::new(http::HttpAttempt::new(http)?)),
            Spec::Prometheus(query) => {
                Kind::Prometheus(Box::new(prometheus::PrometheusAttempt::new(query)?))
            }
            Spec::Tcp(tcp) => Kind::Tcp(socket::TcpAttempt(tcp)),
            Spec::Udp(udp) => Kind::Udp(socket::UdpAttempt(udp)),
        }))
    }

    /// Tries once: the value that was observed, if there is one, or why it failed. It has no end of
    /// its own: whoever waits no longer drops it.
    ///
    /// # Errors
    /// When the answer is not the one asked for, or none came.
    pub async fn run(&self, dialer: &impl Dialer) -> Result<Option<String>, Failure> {
        match &self.0 {
            Kind::Dns(attempt) => attempt.run(dialer).await,
            Kind::Grpc(attempt) => attempt.run(dialer).await,
            Kind::Http(attempt) => attempt.run(dialer).await,
            Kind::Prometheus(attempt) => attempt.run(dialer).await,
            Kind::Tcp(attempt) => attempt.run(dialer).await,
            Kind::Udp(attempt) => attempt.run(dialer).await,
        }
    }
}
