//! Names as a resolver of one's own finds them: the files that say so, and the name servers.

use std::net::{IpAddr, SocketAddr};

use faultline_proto::probe::RecordType;

use crate::{Dialer, Failure, FailureKind, dns};

/// Domains that a short name is tried in; as many as the C library takes.
const SEARCH_MAX: usize = 6;
/// Points at most that resolv.conf(5) lets a name need.
const NDOTS_MAX: usize = 15;

/// What hosts(5) and resolv.conf(5) say.
#[derive(Debug, Clone, Default)]
pub struct Names {
    hosts: String,
    /// Who is asked.
    pub servers: Vec<SocketAddr>,
    search: Vec<String>,
    ndots: usize,
}

impl Names {
    /// Reads the two files. What is not understood is passed over, as resolvers do.
    pub fn read(hosts: String, resolv_conf: &str) -> Self {
        let (mut search, mut ndots) = (Vec::new(), 1);
        for line in resolv_conf.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                // The last one counts.
                Some("search" | "domain") => {
                    search = words.take(SEARCH_MAX).map(str::to_owned).collect();
                }
                Some("options") => {
                    let found = words.filter_map(|word| word.strip_prefix("ndots:")?.parse().ok());
                    ndots = found.fold(ndots, |_, last: usize| last.min(NDOTS_MAX));
                }
                _ => {}
            }
        }
        Self { hosts, servers: dns::name_servers(resolv_conf), search, ndots }
    }

    /// The addresses of a name, asked for over `dialer` where no file says them.
    ///
    /// # Errors
    /// When there are none, or nobody can be asked.
    pub async fn resolve(&self, name: &str, dialer: &impl Dialer) -> Result<Vec<IpAddr>, Failure> {
        let known = self.in_hosts(name);
        if !known.is_empty() {
            return Ok(known);
        }
        let mut failure = None;
        for candidate in self.candidates(name) {
            let (v4, v6) = futures::join!(
                dns::ask_any(dialer, &candidate, RecordType::A),
                dns::ask_any(dialer, &candidate, RecordType::Aaaa),
            );
            let found: Vec<IpAddr> = [&v4, &v6]
                .into_iter()
                .flatten()
                .flatten()
                .filter_map(|text| text.parse().ok())
                .collect();
            if !found.is_empty() {
                return Ok(found);
            }
            if let Err(error) = v4 {
                if error.kind != FailureKind::Resolve {
                    return Err(error);
                }
                failure = Some(error);
            }
        }
        Err(failure.unwrap_or_else(|| {
            Failure::new(FailureKind::Resolve, format!("{name} has no address"))
        }))
    }

    fn in_hosts(&self, name: &str) -> Vec<IpAddr> {
        let name = name.trim_end_matches('.');
        let of_line = |line: &str| {
            let mut words = line.split('#').next()?.split_whitespace();
            let address = words.next()?.parse().ok()?;
            words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
        };
        self.hosts.lines().filter_map(of_line).collect()
    }

    /// The names in full that a name may stand for, in the order in which they are tried.
    fn candidates(&self, name: &str) -> Vec<String> {
        if let Some(whole) = name.strip_suffix('.') {
            return vec![whole.to_owned()];
        }
        let mut names: Vec<String> =
            self.search.iter().map(|domain| format!("{name}.{domain}")).collect();
        let points = name.matches('.').count();
        let at = if points >= self.ndots { 0 } else { names.len() };
        names.insert(at, name.to_owned());
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_as_resolvers_read_them() {
        let hosts = "127.0.0.1 localhost\n10.0.0.5 db db.shop # first\nfd00::5 DB\nnonsense db\n";
        let conf = "search a b\nsearch shop.svc svc\nnameserver 10.0.0.10\noptions x ndots:2 y\n";
        let names = Names::read(hosts.into(), conf);
        let found: Vec<String> = names.in_hosts("db").iter().map(ToString::to_string).collect();
        assert_eq!(found, ["10.0.0.5", "fd00::5"]);
        assert!(names.in_hosts("d").is_empty());
        assert_eq!(names.candidates("api"), ["api.shop.svc", "api.svc", "api"]);
        assert_eq!(names.candidates("api.x.y"), ["api.x.y", "api.x.y.shop.svc", "api.x.y.svc"]);
        assert_eq!(names.candidates("api."), ["api"]);
        assert_eq!(Names::read(String::new(), "").candidates("api"), ["api"]);
    }
}
