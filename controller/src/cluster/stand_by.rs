//! Who stands by: whether a controller in the cluster would take back what a run leaves behind, and whether the clock by
//! which it would is the one that the run writes deadlines in.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    jiff::{Timestamp, fmt::rfc2822},
};
use kube::{Api, client::Body};

use super::{
    Asked, ClusterError, Connection,
    fault::FaultError,
    names::{CONTROLLER, NAMESPACE_DEFAULT},
};
use crate::report::{time, utc};

/// By how much the clock of this machine may differ from the API server's.
const CLOCKS_DIFFER_MAX: Duration = Duration::from_secs(5);
/// How long ago the Lease of a controller that stands by is renewed at most, and by how much its clock may be ahead. It
/// does so every 2 s, and is replaced after 15 s.
const RENEWED_MAX: Duration = Duration::from_secs(30);
/// A server tells the second only.
const SECOND: Duration = Duration::from_secs(1);

/// Checks that what lasts would be taken back, and when it should.
///
/// # Errors
/// When no controller is seen to stand by (unless that is accepted), or clocks differ too much.
pub(super) async fn check(
    connection: &Connection,
    namespace: &str,
    without_controller: bool,
) -> Result<(), FaultError> {
    let server = server_time(connection).await?;
    if without_controller {
        return Ok(());
    }
    let lease = lease(connection, namespace).await?;
    let spec = lease.and_then(|lease| lease.spec);
    stands_by(spec.as_ref(), server, namespace).map_err(FaultError::Impossible)
}

/// The Lease by which a controller is known to stand by, or to have done so.
///
/// # Errors
/// When that is not told.
pub(super) async fn lease(
    connection: &Connection,
    namespace: &str,
) -> Result<Option<Lease>, ClusterError> {
    let api: Api<Lease> = Api::namespaced(connection.client(), namespace);
    let asked = Asked::new("get", "leases.coordination.k8s.io").within(namespace).named(CONTROLLER);
    connection.answer(asked, api.get_opt(CONTROLLER)).await
}

/// The API server's time, which that of this machine may not differ from by much: deadlines are written by the one, and
/// kept by the other.
async fn server_time(connection: &Connection) -> Result<Duration, FaultError> {
    let request = http::Request::get("/version").body(Body::empty());
    let request = request.map_err(|error| FaultError::Impossible(error.to_string()))?;
    let before = unix_now();
    let client = connection.client();
    let answer = connection.answer(Asked::new("get", "/version"), client.send(request)).await?;
    let after = unix_now();
    let date = answer.headers().get(http::header::DATE).and_then(|date| date.to_str().ok());
    let server = date.and_then(unix_time).ok_or_else(|| {
        FaultError::Impossible(format!(
            "the API server {} does not tell its time, by which deadlines are kept",
            connection.server()
        ))
    })?;
    same_time(before, after, server).map_err(FaultError::Impossible)?;
    Ok(server)
}

fn unix_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// `Sun, 29 Nov 2026 09:55:04 GMT`, as HTTP has it (RFC 9110, 5.6.7).
fn unix_time(date: &str) -> Option<Duration> {
    let seconds = rfc2822::parse(date).ok()?.timestamp().as_second();
    u64::try_from(seconds).ok().map(Duration::from_secs)
}

/// Whether the time of a server that answered between two times of this machine can be the same.
fn same_time(before: Duration, after: Duration, server: Duration) -> Result<(), String> {
    let (ahead, behind) = (before.saturating_sub(server + SECOND), server.saturating_sub(after));
    let (by, how) = if ahead > behind { (ahead, "ahead of") } else { (behind, "behind") };
    if by <= CLOCKS_DIFFER_MAX {
        return Ok(());
    }
    Err(format!(
        "the clock of this machine is {} {how} the API server's, and what is changed through it is taken back by the \
         clock: at most {} are allowed; synchronize it (NTP)",
        time(by),
        time(CLOCKS_DIFFER_MAX)
    ))
}

/// Whether a Lease was renewed lately, as of `now`.
fn stands_by(lease: Option<&LeaseSpec>, now: Duration, namespace: &str) -> Result<(), String> {
    let is_held =
        |spec: &&LeaseSpec| spec.holder_identity.as_deref().is_some_and(|h| !h.is_empty());
    let renewed = lease.filter(is_held).and_then(|spec| spec.renew_time.as_ref());
    let found = match renewed.and_then(|renewed| unix_of(renewed.0)) {
        None => format!("nobody holds the Lease {namespace}/{CONTROLLER}"),
        Some(renewed) if now.abs_diff(renewed) <= RENEWED_MAX => return Ok(()),
        Some(renewed) => format!(
            "the Lease {namespace}/{CONTROLLER} was renewed at {}, and for the API server it is {}",
            utc(renewed),
            utc(now)
        ),
    };
    let how = if namespace == NAMESPACE_DEFAULT {
        "`faultline install`".to_owned()
    } else {
        format!("`faultline install --namespace {namespace}`")
    };
    Err(format!(
        "nobody would take it back if this run were killed: no controller stands by in the cluster ({found}); {how} \
         installs one, and `safety: {{ withoutController: true }}` (`inject --without-controller`) allows it all the same"
    ))
}

fn unix_of(time: Timestamp) -> Option<Duration> {
    u64::try_from(time.as_millisecond()).ok().map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn clocks_may_differ_by_what_is_not_known_and_a_little() {
        assert_eq!(unix_time("Thu, 01 Jan 1970 00:01:40 GMT"), Some(s(100)));
        assert_eq!(unix_time("now"), None);
        assert_eq!(same_time(s(100), s(100), s(100)), Ok(()));
        assert_eq!(same_time(s(106), s(110), s(100)), Ok(()), "5 s beyond the second that is told");
        let ahead = same_time(s(3700), s(3700), s(100)).expect_err("an hour");
        assert!(ahead.contains(" ahead of the API server's"), "{ahead}");
        assert_eq!(same_time(s(90), s(95), s(100)), Ok(()));
        let behind = same_time(s(90), s(94), s(100)).expect_err("6 s");
        assert!(behind.contains(" behind the API server's"), "{behind}");
    }

    #[test]
    fn a_controller_stands_by_that_renews_its_lease() {
        let lease = |holder: &str, second: i64| LeaseSpec {
            holder_identity: Some(holder.into()),
            renew_time: Timestamp::from_second(second).ok().map(MicroTime),
            ..LeaseSpec::default()
        };
        let check = |lease: &LeaseSpec| stands_by(Some(lease), s(1_000), "chaos");
        assert_eq!(check(&lease("a", 998)), Ok(()));
        let why = check(&lease("a", 900)).expect_err("it has gone");
        assert!(why.contains("Lease chaos/faultline-controller was renewed at "), "{why}");
        assert!(why.contains("`faultline install --namespace chaos` installs one"), "{why}");
        assert!(check(&lease("a", 2_000)).is_err(), "its clock is wrong");
        let why = check(&lease("", 998)).expect_err("it was given up");
        assert!(why.contains("nobody holds the Lease chaos/faultline-controller"), "{why}");
        let why = stands_by(None, s(1_000), "faultline").expect_err("there is none");
        assert!(why.contains("`faultline install` installs one"), "{why}");
    }
}
