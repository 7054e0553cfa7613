//! The lease: it ends in the kernel, with nobody's help, and what has ended does not come back.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use faultline_agent::{fault::Injection, kernel::clock};
use faultline_tests::netns::{B4, Pair, Prober, can_test};

use super::{Injected, at, cut, peers, plan};

/// How far the end seen from outside may be from the lease's.
const TOLERANCE: Duration = Duration::from_millis(100);

/// Whoever has this finds tables without a lease as they were left. An agent that starts sweeps those
/// of all namespaces.
pub(super) fn ended_tables() -> MutexGuard<'static, ()> {
    static ENDED: Mutex<()> = Mutex::new(());
    ENDED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether two instants are within the tolerance of each other.
pub(super) fn is_near(one: Instant, other: Instant) -> bool {
    one.abs_diff(other) < TOLERANCE
}

#[test]
fn without_a_renewal_the_cut_ends_with_its_lease() {
    if !can_test() {
        return;
    }
    let pair = Pair::new();
    let plan = plan(&pair.a, &cut(Some(peers(&["10.77.0.2"])), None)).expect("planned");
    let prober = Prober::start(&pair.a, &pair.b, at(B4, 9000));
    thread::sleep(Duration::from_millis(200));
    let lease = Duration::from_millis(1500);
    let begun = Instant::now();
    let injected = Injected::new(plan, lease);
    thread::sleep(lease + Duration::from_millis(500));
    let (gap_begin, gap_end) = prober.longest_gap();
    assert!(gap_begin.abs_diff(begun) < TOLERANCE);
    assert!(gap_end.abs_diff(begun + lease) < TOLERANCE, "{:?}", gap_end - begun);
    injected.revert();
}

#[test]
fn a_renewal_extends_it() {
    if !can_test() {
        return;
    }
    let pair = Pair::new();
    let plan = plan(&pair.a, &cut(Some(peers(&["10.77.0.2"])), None)).expect("planned");
    let prober = Prober::start(&pair.a, &pair.b, at(B4, 9000));
    thread::sleep(Duration::from_millis(100));
    let begun = Instant::now();
    let lease = Duration::from_millis(600);
    let mut injected = Injected::new(plan, lease);
    for _ in 0..5 {
        thread::sleep(Duration::from_millis(200));
        injected.live.renew(clock::now().after(lease)).expect("renewed");
    }
    let renewed = Instant::now();
    thread::sleep(lease + Duration::from_millis(400));
    let (gap_begin, gap_end) = prober.longest_gap();
    assert!(gap_begin.abs_diff(begun) < TOLERANCE, "no packet passes while it is renewed");
    assert!(gap_end.abs_diff(renewed + lease) < TOLERANCE, "{:?}", gap_end - begun);
    injected.revert();
}

#[test]
fn what_has_ended_is_not_brought_back() {
    if !can_test() {
        return;
    }
    let _alone = ended_tables();
    let pair = Pair::new();
    pair.b.serve_tcp(at(B4, 80));
    let plan = plan(&pair.a, &cut(Some(peers(&["10.77.0.2"])), None)).expect("planned");
    let mut injected = Injected::new(plan, Duration::from_millis(200));
    thread::sleep(Duration::from_millis(300));
    let error = injected.live.renew(clock::now().after(Duration::from_secs(5)));
    let error = error.expect_err("it has ended").to_string();
    assert!(error.contains("the lease has ended"), "{error}");
    assert!(pair.a.connect(at(B4, 80)).is_ok(), "traffic must stay");
    injected.revert();
}

#[test]
fn a_lease_in_the_past_injects_nothing() {
    if !can_test() {
        return;
    }
    let pair = Pair::new();
    let before = pair.a.dump();
    let plan = plan(&pair.a, &cut(Some(peers(&["10.77.0.2"])), None)).expect("planned");
    assert!(plan.inject(clock::now()).is_err());
    assert_eq!(pair.a.dump(), before);
}

/// The distance of two instants, whichever is earlier.
trait AbsDiff {
    fn abs_diff(self, other: Self) -> Duration;
}

impl AbsDiff for Instant {
    fn abs_diff(self, other: Self) -> Duration {
        self.saturating_duration_since(other) + other.saturating_duration_since(self)
    }
}
