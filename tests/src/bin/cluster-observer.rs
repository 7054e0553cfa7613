//! What the cluster ring sees traffic with, in pods of its own: an echo over TCP and UDP, and somebody who asks it
//! again and again and tells each outage as it saw it. It shares nothing with what it observes.
//!
//! ```text
//! cluster-observer serve PORT
//! cluster-observer watch ADDRESS:PORT EVERY_MS
//! ```
//! `watch` prints `up AT` at the first answer and `outage FROM TO` after each outage, in milliseconds since 1970: from
//! the first datagram that was not answered to the first one that was again.

use std::{
    collections::BTreeMap,
    env,
    io::{self, Read as _, Write as _},
    net::{TcpListener, UdpSocket},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_millis(400);

fn main() -> io::Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["serve", port] => serve(port),
        ["watch", address, every_ms] => {
            let every = every_ms.parse().map_err(io::Error::other)?;
            watch(address, Duration::from_millis(every))
        }
        _ => Err(io::Error::other("serve PORT, or watch ADDRESS:PORT EVERY_MS")),
    }
}

fn serve(port: &str) -> io::Result<()> {
    let udp = UdpSocket::bind(format!("[::]:{port}"))?;
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((len, from)) = udp.recv_from(&mut buffer) {
            // One that cannot be answered is lost, as the other side will see.
            drop(udp.send_to(&buffer[..len], from));
        }
    });
    for stream in TcpListener::bind(format!("[::]:{port}"))?.incoming() {
        let mut stream = stream?;
        thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok(len @ 1..) = stream.read(&mut buffer) {
                if stream.write_all(&buffer[..len]).is_err() {
                    return;
                }
            }
        });
    }
    Ok(())
}

/// When each datagram that has no answer yet was sent.
type Open = Arc<Mutex<BTreeMap<u64, u128>>>;

fn watch(address: &str, every: Duration) -> io::Result<()> {
    let socket = UdpSocket::bind("[::]:0").or_else(|_no_v6| UdpSocket::bind("0.0.0.0:0"))?;
    let address = match address.parse::<std::net::SocketAddr>() {
        // A socket of both families wants the address of one.
        Ok(std::net::SocketAddr::V4(v4)) if socket.local_addr()?.is_ipv6() => {
            std::net::SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port())
        }
        other => other.map_err(io::Error::other)?,
    };
    let open: Open = Arc::default();
    let answers = socket.try_clone()?;
    let heard = Arc::clone(&open);
    thread::spawn(move || listen(&answers, &heard));
    let began = Instant::now();
    for number in 0_u64.. {
        let due = began + every * u32::try_from(number).unwrap_or(u32::MAX);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        open.lock().unwrap_or_else(PoisonError::into_inner).insert(number, now_ms());
        // What cannot even be sent is lost.
        drop(socket.send_to(&number.to_be_bytes(), address));
    }
    Ok(())
}

fn listen(socket: &UdpSocket, open: &Open) {
    let mut buffer = [0; 8];
    let mut is_up = false;
    loop {
        match socket.recv(&mut buffer) {
            Ok(8) => {}
            // An ICMP error of an earlier datagram is told here; that one stays without an answer.
            Ok(_) | Err(_) => continue,
        }
        let number = u64::from_be_bytes(buffer);
        let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
        let late = PATIENCE.as_millis();
        // What comes too late is as good as lost: whoever is stopped answers all at once when it goes on.
        let in_time = open.get(&number).copied().filter(|sent| now_ms() - sent < late);
        let Some(sent) = in_time else { continue };
        open.remove(&number);
        if !is_up {
            is_up = true;
            // What was sent before the other side was there is no outage.
            open.retain(|other, _| *other > number);
            println!("up {sent}");
            continue;
        }
        let lost = open.iter().filter(|(other, at)| **other < number && sent - **at >= late);
        if let Some(from) = lost.map(|(_, at)| *at).min() {
            println!("outage {from} {sent}");
            open.retain(|other, _| *other > number);
        }
    }
}

fn now_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()
}
