//! Downtimes of real cuts: nftables drops or resets what comes to a server in a network namespace, probes of a run see
//! that through TCP, and datagrams of the test's own say when it was.

use std::{
    fmt,
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use faultline::{
    report::{OutageReport, ProbeReport, Report},
    run::{Interrupt, Recorder, run_recorded},
};

use super::{
    APART_MS, LEAD,
    cut_observer::{Cut, Observer},
};
use crate::{
    fake_agent::{FakeAgent, Flaw},
    netns::{B4, Namespace, Pair},
    pki::Authority,
    sim,
    torture::rng::Rng,
};

/// The port that is probed.
const PORT: u16 = 8080;
/// The port that is observed.
const OBSERVED_PORT: u16 = 9000;
/// How often the probes try, each by itself.
const EVERY_MS: [u64; 3] = [10, 20, 100];
/// Less than the second after which a lost SYN is sent again, which would be answered behind a short cut.
const TIMEOUT_MS: u64 = 400;
/// How long a cut is, in milliseconds.
const LASTS_MS: std::ops::Range<u64> = 50..1500;
/// For how long all is well between two, in milliseconds.
const BETWEEN_MS: std::ops::Range<u64> = 700..1000;
/// A time without arrivals that is shorter was no cut: a receiver that was not given any time.
const SHORTEST: Duration = Duration::from_millis(30);
/// What a cut may take longer than is planned, on average: `nft` is started twice for each.
const NFT_TAKES: Duration = Duration::from_millis(200);
/// Nobody answers, or whoever is there refuses.
const CUT: [&str; 2] = [
    "table inet cut {
        chain input {
            type filter hook input priority 0; policy drop;
        }
    }",
    "table inet cut {
        chain input {
            type filter hook input priority 0; policy drop;
            meta l4proto tcp reject with tcp reset
        }
    }",
];

/// What all probes said of all cuts.
#[derive(Debug, Default)]
pub struct CutTally {
    /// How many cuts its observer saw.
    pub cuts: usize,
    /// How many times a probe was compared with a cut.
    pub compared: usize,
    /// The greatest difference beyond what is said to be uncertain, in spacings of its probe.
    pub worst_spacings: f64,
    /// What is not as is promised, each in a sentence.
    pub wrong: Vec<String>,
}

impl fmt::Display for CutTally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cuts, compared, worst_spacings, wrong } = self;
        let wrong = wrong.len();
        write!(
            f,
            "{cuts} cuts, {compared} compared: {wrong} wrong; worst: {worst_spacings:.2} spacings"
        )
    }
}

/// Makes `count` cuts of lengths by chance, and compares what probes report of them with what their observer saw.
///
/// # Errors
/// When there is no run to be had, or it ends before the last cut.
///
/// # Panics
/// When no namespaces can be made or `nft` fails.
pub fn compare(seed: u64, count: usize) -> anyhow::Result<CutTally> {
    let mut rng = Rng::of_round(seed, 0);
    let planned: Vec<(Duration, Duration, &str)> = (0..count)
        .map(|_| (rng.millis(BETWEEN_MS), rng.millis(LASTS_MS), *rng.pick(&CUT)))
        .collect();
    let lasts =
        planned.iter().map(|(after, lasts, _)| *after + *lasts + NFT_TAKES).sum::<Duration>();
    let pair = Pair::new();
    pair.b.serve_tcp(SocketAddr::new(B4, PORT));
    let observer = Observer::start(&pair.a, &pair.b, SocketAddr::new(B4, OBSERVED_PORT));
    let begun = Instant::now();
    let (report, done) = thread::scope(|scope| {
        let running = scope.spawn(|| pair.a.inside(|| observe(LEAD + lasts)));
        thread::sleep(LEAD);
        cut(&pair.b, &planned);
        let done = begun.elapsed();
        (running.join().expect("no panic"), done)
    });
    let (report, origin) = report?;
    anyhow::ensure!(report.probes.len() == EVERY_MS.len(), "not observed: {:?}", report.reasons);
    let run_lasted = Duration::from_secs_f64(report.duration_ms / 1e3);
    anyhow::ensure!(
        done < run_lasted,
        "the run ended after {run_lasted:?}, the cuts took {done:?}"
    );
    let mut cuts = observer.cuts();
    cuts.retain(|cut| cut.least() >= SHORTEST);
    let mut tally = CutTally { cuts: cuts.len(), ..CutTally::default() };
    for probe in &report.probes {
        judge(probe, &cuts, origin, &mut tally);
    }
    Ok(tally)
}

fn cut(server: &Namespace, planned: &[(Duration, Duration, &str)]) {
    for (after, lasts, how) in planned {
        thread::sleep(*after);
        server.nft(how);
        thread::sleep(*lasts);
        server.nft("delete table inet cut");
    }
}

fn probe(every_ms: u64) -> String {
    let to = SocketAddr::new(B4, PORT);
    format!(
        "    - {{ name: every-{every_ms}, tcp: {{ address: \"{to}\" }}, every: {every_ms}ms, timeout: {TIMEOUT_MS}ms }}\n"
    )
}

/// One run, and when it began: with all probes, in the namespace of the thread that calls; its fault is one of a made-up agent.
fn observe(lasts: Duration) -> anyhow::Result<(Report, Instant)> {
    // On this thread alone, and those that it starts: no other one is in the namespace.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("no runtime")?.block_on(async {
        let authority = Authority::new()?;
        let agent = FakeAgent::start(&authority, "node1", Flaw::None).await?;
        let (place, _dir) = sim::place(
            vec![sim::pod("api-1", "node1", 1)],
            vec![agent.endpoint.clone()],
            &authority.controller()?,
        )?;
        let probes: String = EVERY_MS.into_iter().map(probe).collect();
        let lasts = lasts.as_millis();
        let experiment = sim::experiment(&format!(
            "targets: {{ all: {{ labels: {{ app: api }} }} }}
  probes:
{probes}  method:
    - kill: {{ target: all }}
    - wait: {lasts}ms"
        ));
        let console = faultline::report::Console::new(faultline::report::Output::Json);
        let (recorder, interrupt) = (Recorder::nowhere(), Interrupt::default());
        let report = run_recorded(&experiment, &place, &console, &interrupt, &recorder).await;
        Ok((report, recorder.origin()))
    })
}

fn judge(probe: &ProbeReport, cuts: &[Cut], origin: Instant, tally: &mut CutTally) {
    let ms = |at: Instant| at.saturating_duration_since(origin).as_secs_f64() * 1e3;
    let every_ms = probe.every_ms;
    let mut reported: Vec<OutageReport> = probe.outages.clone();
    for cut in cuts {
        let (early, late) = (ms(cut.after) - APART_MS, ms(cut.until) + APART_MS);
        let is_this = |r: &OutageReport| r.began_ms < late && r.ended_ms > early;
        let (mine, others): (Vec<_>, Vec<_>) = reported.into_iter().partition(is_this);
        reported = others;
        tally.compared += 1;
        let was: f64 = mine.iter().map(|r| r.ended_ms - r.began_ms).sum();
        let uncertain: f64 = mine.iter().map(|r| r.uncertainty_ms).sum();
        let (least, most) = (cut.least().as_secs_f64() * 1e3, cut.most().as_secs_f64() * 1e3);
        let off = (least - was).max(was - most).max(0.0);
        tally.worst_spacings = tally.worst_spacings.max((off - uncertain).max(0.0) / every_ms);
        // Of a cut between two attempts nothing can be known: it is shorter than a spacing.
        if off > every_ms + uncertain {
            tally.wrong.push(format!(
                "{}: a cut of {least:.1} to {most:.1} ms at {:.0} ms was reported as {was:.1} ± {uncertain:.1} ms",
                probe.name,
                ms(cut.after)
            ));
        }
    }
    tally.wrong.extend(reported.iter().map(|r| {
        let (began, ended) = (r.began_ms, r.ended_ms);
        format!("{}: down from {began:.0} to {ended:.0} ms, when nothing was cut", probe.name)
    }));
}
