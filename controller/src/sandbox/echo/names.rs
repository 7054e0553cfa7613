//! The name server of the echo service: it knows the names of `/etc/hosts`, for which in the sandbox
//! there is a pod or a node, and no others.

use std::{collections::BTreeMap, fs, net::IpAddr};

use tokio::net::UdpSocket;

use super::super::error::StepError;

const HEADER_BYTES: usize = 12;
/// The largest message that is taken over UDP, RFC 1035.
const MESSAGE_BYTES_MAX: usize = 512;
const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;
const NAME_ERROR: u8 = 3;
/// For how many seconds an answer may be kept.
const TTL_S: u32 = 1;

/// Names, in small letters, and their addresses.
type Names = BTreeMap<String, Vec<IpAddr>>;

/// Answers until the process ends.
pub(super) async fn serve(socket: &UdpSocket) -> Result<(), StepError> {
    let names = read(&fs::read_to_string("/etc/hosts").unwrap_or_default());
    let mut query = [0; MESSAGE_BYTES_MAX];
    loop {
        // An error belongs to an earlier datagram that could not be delivered; the next may be.
        let Ok((len, from)) = socket.recv_from(&mut query).await else { continue };
        if let Some(answer) = answer(&query[..len], &names) {
            drop(socket.send_to(&answer, from).await);
        }
    }
}

fn read(hosts: &str) -> Names {
    let mut names = Names::new();
    for line in hosts.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let Some(Ok(address)) = words.next().map(str::parse) else { continue };
        for name in words {
            names.entry(name.to_ascii_lowercase()).or_default().push(address);
        }
    }
    names
}

/// Answers a query of one question; `None`: it is none.
fn answer(query: &[u8], names: &Names) -> Option<Vec<u8>> {
    let is_query = query.get(2)? & 0x80 == 0;
    if !is_query || query.get(4..6)? != [0, 1] {
        return None;
    }
    let (name, end) = question(query)?;
    let kind = u16::from_be_bytes([*query.get(end)?, *query.get(end + 1)?]);
    let question = query.get(HEADER_BYTES..end + 4)?;
    let known = names.get(&name);
    let records: Vec<Vec<u8>> =
        known.into_iter().flatten().filter_map(|address| record(*address, kind)).collect();
    let count = u16::try_from(records.len()).ok()?.to_be_bytes();
    let code = if known.is_some() { 0 } else { NAME_ERROR };
    // An answer, by the one who knows, with recursion asked for as in the query.
    let flags = [0x84 | (query[2] & 1), code];
    let head = [&query[..2], &flags, &[0, 1], &count, &[0, 0, 0, 0]].concat();
    Some([&head, question, &records.concat()].concat())
}

/// The name of the question, and where its type stands.
fn question(query: &[u8]) -> Option<(String, usize)> {
    let mut at = HEADER_BYTES;
    let mut labels = Vec::new();
    loop {
        let len = usize::from(*query.get(at)?);
        at += 1;
        match len {
            0 => return Some((labels.join("."), at)),
            1..=63 => {
                let label = query.get(at..at + len)?;
                labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
                at += len;
            }
            // A question has nothing to point to.
            _ => return None,
        }
    }
}

fn record(address: IpAddr, kind: u16) -> Option<Vec<u8>> {
    let data = match address {
        IpAddr::V4(address) if kind == TYPE_A => address.octets().to_vec(),
        IpAddr::V6(address) if kind == TYPE_AAAA => address.octets().to_vec(),
        _ => return None,
    };
    let len = u16::try_from(data.len()).ok()?.to_be_bytes();
    let class = 1_u16.to_be_bytes();
    // Its name is a pointer to that of the question, right behind the header.
    Some([&[0xc0, 12][..], &kind.to_be_bytes(), &class, &TTL_S.to_be_bytes(), &len, &data].concat())
}

#[cfg(test)]
mod tests {
    use faultline_probe::dns::{query, read_reply};
    use faultline_proto::probe::RecordType;

    use super::*;

    #[test]
    fn names_of_the_file_are_known_and_no_others() {
        let names = read("10.0.0.1 Echo-1 echo-1.default # one\nfd00::1 echo-1\n\nx y\n");
        let ask = |name: &str, record| {
            let answer = answer(&query(7, name, record), &names).expect("an answer");
            read_reply(&answer, 7, name, record).expect("to the question")
        };
        let found = ask("echo-1", RecordType::A);
        assert_eq!((found.code, found.found), (0, vec!["10.0.0.1".to_owned()]));
        assert_eq!(ask("ECHO-1", RecordType::Aaaa).found, ["fd00::1"]);
        assert_eq!(ask("echo-1.default", RecordType::Aaaa).found.len(), 0);
        assert_eq!(ask("y", RecordType::A).code, NAME_ERROR);
    }

    #[test]
    fn what_is_no_query_is_not_answered() {
        let names = Names::new();
        let query = query(7, "echo-1", RecordType::A);
        for len in 0..query.len() {
            assert_eq!(answer(&query[..len], &names), None, "{len} bytes of it");
        }
        let mut looped = query.clone();
        looped[HEADER_BYTES] = 0xc0;
        assert_eq!(answer(&looped, &names), None);
        let own = answer(&query, &names).expect("an answer");
        assert_eq!(answer(&own, &names), None, "an answer is not answered");
    }
}
