//! How late an attempt was under way: where there is no time to be had, some goes by between the instant at which it was
//! to begin and its first packet. What is learnt of the system by then is that much less certain.

use std::{
    task::Poll,
    time::{Duration, Instant},
};

/// Less than this is how long it always takes.
const LATE_MIN: Duration = Duration::from_millis(1);

/// Makes an attempt that was to begin at `due`. Beside what came of it: how late it was under way, which is when it had
/// been polled for the first time; zero where that is nothing out of the ordinary.
pub async fn with_lateness<T>(due: Instant, attempt: impl Future<Output = T>) -> (T, Duration) {
    // Not in two places of a future that is large enough.
    let mut attempt = Box::pin(attempt);
    let mut late = None;
    let outcome = std::future::poll_fn(|context| {
        let polled: Poll<T> = attempt.as_mut().poll(context);
        late.get_or_insert_with(|| due.elapsed());
        polled
    });
    let outcome = outcome.await;
    (outcome, late.filter(|late| *late >= LATE_MIN).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;

    use super::*;

    #[tokio::test]
    async fn what_waits_before_its_first_poll_is_late_and_nothing_else() {
        let due = Instant::now();
        let busy = with_lateness(due, async { 1 });
        sleep(Duration::from_millis(30));
        let (outcome, late) = busy.await;
        assert_eq!(outcome, 1);
        assert!(late >= Duration::from_millis(30), "{late:?}");

        let slow = async { tokio::time::sleep(Duration::from_millis(30)).await };
        let ((), late) = with_lateness(Instant::now(), slow).await;
        assert!(late < Duration::from_millis(30), "an answer that takes long is none: {late:?}");
    }
}
