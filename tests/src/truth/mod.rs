//! Downtimes that are reported, compared with the truth: many servers that are out for random times and
//! note when, and one run with a probe on each.
//!
//! Every outage must be reported to within one spacing of its probe and what is said to be uncertain, and
//! one that a request met must be reported at all.

mod cut_observer;
pub mod cuts;
mod server;

use std::{
    fmt,
    net::SocketAddr,
    time::{Duration, Instant},
};

use faultline::{
    report::{Console, OutageReport, Output, ProbeReport, Report},
    run::{Interrupt, Recorder, run_recorded},
};

use tokio::{sync::watch, task::JoinHandle};

use self::server::{How, Outage, Planned, serve};
use crate::{
    fake_agent::{FakeAgent, Flaw},
    pki::Authority,
    sim,
    torture::rng::Rng,
};

/// Before the first outage: the look at the steady state takes two seconds at most.
const LEAD: Duration = Duration::from_secs(4);
/// What was reported so much before and after what was is still of that: less than half of what is between two.
const APART_MS: f64 = 250.0;
/// The shortest outage.
const SHORTEST_MS: f64 = 20.0;
/// The longest is so many times as long.
const LONGEST_TIMES: f64 = 250.0;

/// A server, its probe, and what is planned for it.
#[derive(Debug)]
struct Subject {
    address: SocketAddr,
    every: Duration,
    timeout: Duration,
    service_time: Duration,
    is_http: bool,
    plan: Vec<Planned>,
}

impl Subject {
    fn draw(number: u8, rng: &mut Rng) -> Self {
        let ms = Duration::from_millis;
        Self {
            // No port that a client may be given: a connection to itself would be an answer.
            address: ([127, 9, 9, number + 1], 8080).into(),
            every: ms(*rng.pick(&[10, 20, 50, 100, 200])),
            timeout: ms(*rng.pick(&[500, 1000])),
            service_time: ms(*rng.pick(&[0, 0, 3, 40])),
            is_http: rng.chance(75),
            plan: Vec::new(),
        }
    }

    fn add(&mut self, rng: &mut Rng) {
        let after = Duration::from_millis(rng.within(600..1200));
        let share = f64::from(u32::try_from(rng.within(0..10_000)).unwrap_or(0)) / 10_000.0;
        let lasts = Duration::from_secs_f64(SHORTEST_MS * LONGEST_TIMES.powf(share) / 1e3);
        let how = match rng.within(0..3) {
            0 if self.is_http => How::Silent,
            // Whoever is answered in time has met no outage.
            1 if self.is_http && lasts > self.timeout * 2 => How::Late,
            _ => How::Refuses,
        };
        self.plan.push(Planned { after, lasts, how });
    }

    fn lasts(&self) -> Duration {
        self.plan.iter().map(|planned| planned.after + planned.lasts).sum()
    }

    fn probe(&self, number: usize) -> String {
        let Self { address, every, timeout, is_http, .. } = self;
        let kind = if *is_http {
            format!("http: {{ url: \"http://{address}/\" }}")
        } else {
            format!("tcp: {{ address: \"{address}\" }}")
        };
        let (every, timeout) = (every.as_millis(), timeout.as_millis());
        format!("    - {{ name: p{number}, {kind}, every: {every}ms, timeout: {timeout}ms }}\n")
    }
}

/// What became of all outages.
#[derive(Debug, Default)]
pub struct Tally {
    /// How many there were.
    pub outages: usize,
    /// Of them, those that were not reported, because no attempt fell into them.
    pub unseen: usize,
    /// Outages that were reported where no server was out: it, or the probe, was not given any time.
    pub besides: usize,
    /// How often the reported time was further from the truth than is said to be uncertain, spacing aside.
    pub beyond_uncertainty: usize,
    /// The greatest difference, in spacings of its probe.
    pub worst_spacings: f64,
    /// What is not as is promised, each in a sentence.
    pub wrong: Vec<String>,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { outages, unseen, besides, beyond_uncertainty, worst_spacings, wrong } = self;
        write!(
            f,
            "{outages} outages: {} wrong, {unseen} unseen between two attempts, {besides} besides; \
             {beyond_uncertainty} beyond what is said to be uncertain; worst: {worst_spacings:.2} spacings",
            wrong.len()
        )
    }
}

/// Has `servers` servers be out `outages` times in all, and compares.
///
/// # Errors
/// When there is no agent or no server to be had, or a server ends.
pub async fn compare(seed: u64, servers: u8, outages: usize) -> anyhow::Result<Tally> {
    let mut rng = Rng::of_round(seed, 0);
    let mut subjects: Vec<Subject> =
        (0..servers).map(|number| Subject::draw(number, &mut rng)).collect();
    for _ in 0..outages {
        if let Some(subject) = subjects.iter_mut().min_by_key(|subject| subject.lasts()) {
            subject.add(&mut rng);
        }
    }
    let end = LEAD + subjects.iter().map(Subject::lasts).max().unwrap_or_default();
    let (stop, stopped) = watch::channel(false);
    let serving: Vec<_> = subjects
        .iter()
        .map(|subject| {
            let mut plan = subject.plan.clone();
            if let Some(first) = plan.first_mut() {
                first.after += LEAD;
            }
            tokio::spawn(serve(subject.address, subject.service_time, plan, stopped.clone()))
        })
        .collect();
    let (report, origin) = observe(&subjects, end).await?;
    anyhow::ensure!(report.probes.len() == subjects.len(), "not observed: {:?}", report.reasons);
    anyhow::ensure!(!serving.iter().any(JoinHandle::is_finished), "a server has ended");
    stop.send_replace(true);
    let mut tally = Tally::default();
    for ((subject, serving), probe) in subjects.iter().zip(serving).zip(&report.probes) {
        let truth = serving.await??;
        judge(subject, &truth, probe, origin, &mut tally);
    }
    Ok(tally)
}

/// One run, and when it began: with a probe on each server; its fault is one of a made-up agent.
async fn observe(subjects: &[Subject], lasts: Duration) -> anyhow::Result<(Report, Instant)> {
    let authority = Authority::new()?;
    let agent = FakeAgent::start(&authority, "node1", Flaw::None).await?;
    let (place, _dir) = sim::place(
        vec![sim::pod("api-1", "node1", 1)],
        vec![agent.endpoint.clone()],
        &authority.controller()?,
    )?;
    let probes: String =
        subjects.iter().enumerate().map(|(number, subject)| subject.probe(number)).collect();
    let experiment = sim::experiment(&format!(
        "targets: {{ all: {{ labels: {{ app: api }} }} }}
  probes:
{probes}  method:
    - kill: {{ target: all }}
    - wait: {}ms",
        lasts.as_millis()
    ));
    let console = Console::new(Output::Json);
    let (recorder, interrupt) = (Recorder::nowhere(), Interrupt::default());
    let report = run_recorded(&experiment, &place, &console, &interrupt, &recorder).await;
    Ok((report, recorder.origin()))
}

fn judge(
    subject: &Subject,
    truth: &[Outage],
    probe: &ProbeReport,
    origin: Instant,
    tally: &mut Tally,
) {
    let ms = |at: Instant| at.saturating_duration_since(origin).as_secs_f64() * 1e3;
    let every_ms = probe.every_ms;
    let mut reported: Vec<OutageReport> = probe.outages.clone();
    for outage in truth {
        let (from, to) = (ms(outage.began.0), ms(outage.ended.1));
        let (early, late) = (from - APART_MS, to + APART_MS);
        let is_this = |r: &OutageReport| r.began_ms < late && r.ended_ms > early;
        let (mine, others): (Vec<_>, Vec<_>) = reported.into_iter().partition(is_this);
        reported = others;
        tally.outages += 1;
        let was: f64 = mine.iter().map(|r| r.ended_ms - r.began_ms).sum();
        let least = ms(outage.ended.0) - ms(outage.began.1);
        let most = to - from;
        let off = (least - was).max(was - most).max(0.0);
        let uncertain: f64 = mine.iter().map(|r| r.uncertainty_ms).sum();
        tally.worst_spacings = tally.worst_spacings.max((off - uncertain).max(0.0) / every_ms);
        // What nobody looked at may be anywhere.
        let uncertain = uncertain + probe.downtime.unobserved_ms;
        if mine.is_empty() {
            tally.unseen += 1;
        } else if off > uncertain {
            tally.beyond_uncertainty += 1;
        }
        let is_met = outage.met > 0 && outage.how != How::Late;
        let text = format!(
            "{} every {every_ms} ms, timeout {} ms, service {} ms: {:?}, {least:.1} to {most:.1} ms, \
             reported {was:.1} ± {uncertain:.1} ms",
            probe.name,
            subject.timeout.as_millis(),
            subject.service_time.as_millis(),
            outage.how
        );
        if mine.is_empty() && is_met {
            tally.wrong.push(format!("not reported, though a request met it: {text}"));
        } else if off > every_ms + uncertain {
            tally.wrong.push(format!("too far from the truth: {text}"));
        }
    }
    tally.besides += reported.len();
}
