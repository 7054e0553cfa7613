//! Whether traffic flows between the pods of a node.

use std::{
    io,
    net::{SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use super::{
    draw::{PLANTED, PODS},
    node::Node,
};
use crate::observer::in_net_ns_of;

/// How long a datagram or a connection may take between two pods.
const ECHO_MAX: Duration = Duration::from_millis(500);
/// The built-in workload's port for TCP.
const WORKLOAD_PORT: u16 = 7000;

/// What does not come through between the pods, each as one sentence.
pub(super) fn between_pods(node: &Node) -> Vec<String> {
    let mut problems = Vec::new();
    for from in 0..PODS {
        let Some(holder) = node.holder(from) else {
            problems.push(format!("{} is not there", node.pod_name(from)));
            continue;
        };
        let targets = (0..PODS).filter(|to| *to != from);
        let targets: Vec<_> = targets.filter_map(|to| Some((to, node.echo(to)?))).collect();
        let said = in_net_ns_of(holder, || targets.iter().filter_map(cannot_reach).collect());
        let said: Vec<String> = said;
        problems.extend(said.iter().map(|what| format!("{}: {what}", node.pod_name(from))));
    }
    problems
}

/// Why a pod cannot be reached from here; `None` if it can.
fn cannot_reach((position, echo): &(usize, SocketAddr)) -> Option<String> {
    if let Err(error) = echoes(*echo) {
        return Some(format!("UDP to {echo}: {error}"));
    }
    // The planted pod runs another program than the built-in echo.
    let workload = SocketAddr::new(echo.ip(), WORKLOAD_PORT);
    let tcp = || TcpStream::connect_timeout(&workload, ECHO_MAX).err();
    let error = (*position != PLANTED).then(tcp).flatten()?;
    Some(format!("TCP to {workload}: {error}"))
}

/// Whether a datagram comes back.
fn echoes(to: SocketAddr) -> io::Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(ECHO_MAX))?;
    socket.connect(to)?;
    socket.send(b"ping")?;
    socket.recv(&mut [0; 8]).map(drop)
}
