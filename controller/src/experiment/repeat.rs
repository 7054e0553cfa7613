//! `repeat:` — steps that are done again and again: how often, how regularly, and which.

use std::time::Duration;

use faultline_proto::{
    units,
    yaml::{self, Fields, Node, Problems, Span},
};

use super::{ROUNDS_MAX, Repeat, Step, Until, WAIT_MAX, method};

/// The shortest time from round to round.
const EVERY_MIN: Duration = Duration::from_millis(10);
/// The most that a round may be moved, in hundredths of a percent: two rounds never change places.
const JITTER_MAX: u32 = 5_000;

/// Decodes what stands below `repeat`.
pub(super) fn decode(node: &Node, problems: &mut Problems) -> Option<Repeat> {
    let before = problems.len();
    let mut fields = Fields::open(node, "repeat", problems)?;
    let span = fields.span();
    let times = fields.optional("times", problems, yaml::count(1..=ROUNDS_MAX.into()));
    let time = fields.optional("for", problems, yaml::duration(EVERY_MIN..=WAIT_MAX));
    let every = fields.optional("every", problems, yaml::duration(EVERY_MIN..=WAIT_MAX));
    let jitter = fields.optional("jitter", problems, yaml::percent(0..=JITTER_MAX));
    let steps = fields.required("steps", problems, method::decode);
    let written = |name: &str| fields.key_span(name);
    let spans = [written("times"), written("for"), written("every"), written("jitter")];
    fields.finish_with(problems, |name| match name {
        "count" | "rounds" => Some("how often is said with `times`".into()),
        "interval" | "period" => Some("from round to round is said with `every`".into()),
        _ => Some("what is repeated is a list under `steps`".into()),
    });
    check(span, spans, problems);
    if problems.len() > before {
        return None;
    }
    let until = match (times.and_then(|times| u32::try_from(times).ok()), time) {
        (Some(times), _) => Until::Times(times),
        (None, time) => Until::For(time?),
    };
    let jitter_basis_points = jitter.unwrap_or_default();
    let repeat = Repeat { until, every, jitter_basis_points, steps: steps?, span };
    if repeat.round().is_zero() && matches!((until, every), (Until::For(_), None)) {
        let problem = problems.add(span, "rounds that take no time, one after the other");
        problem.expected("from round to round?").help("add `every: 1s`");
        return None;
    }
    is_slower_than(&repeat, spans[2], problems)?;
    is_few(&repeat, spans[1], problems)?;
    are_few_in_all(&repeat, problems)?;
    Some(repeat)
}

/// Reports what is missing or too much: `times` or `for`, and `every` with `jitter`.
fn check(span: Span, spans: [Option<Span>; 4], problems: &mut Problems) {
    let [times, time, every, jitter] = spans;
    match (times, time) {
        (None, None) => {
            let problem = problems.add(span, "`repeat` has no end");
            problem.expected("how often?").help("add `times: 5`, or `for: 2m`");
        }
        (Some(_), Some(time)) => {
            let problem = problems.add(time, "`for` beside `times` in one `repeat`");
            problem.expected("expected one of them");
        }
        _ => {}
    }
    if let (Some(jitter), None) = (jitter, every) {
        let problem = problems.add(jitter, "`jitter` needs `every`");
        problem.expected("by how much of what?").help("add `every: 10s`");
    }
}

/// Whether so long a time is no more rounds than there may be; reports it if it is.
fn is_few(repeat: &Repeat, at: Option<Span>, problems: &mut Problems) -> Option<()> {
    let (Until::For(time), Some(at)) = (repeat.until, at) else { return Some(()) };
    let every = repeat.every.unwrap_or_else(|| repeat.round());
    let rounds = rounds(repeat);
    if rounds <= u128::from(ROUNDS_MAX) {
        return Some(());
    }
    let (text, every) = (units::duration(time), units::duration(every));
    // Rounded up to what is written whole.
    let least = time / ROUNDS_MAX;
    let unit = if least < Duration::from_secs(1) { 1_000_000 } else { 1_000_000_000 };
    let nanos = least.as_nanos().div_ceil(unit) * unit;
    let least = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
    problems
        .add(at, format!("{text} of a round every {every} are {rounds} rounds"))
        .expected(format!("expected at most {ROUNDS_MAX}"))
        .help(format!("add or change `every` to {} or more", units::duration(least)));
    None
}

/// Whether rounds within rounds are no more than there may be in all; reports it if they are.
fn are_few_in_all(repeat: &Repeat, problems: &mut Problems) -> Option<()> {
    let all = rounds_in_all(repeat);
    let own = rounds(repeat);
    if all == own || all <= u128::from(ROUNDS_MAX) {
        return Some(());
    }
    problems
        .add(repeat.span, format!("rounds within rounds: {all} in all"))
        .expected(format!("expected at most {ROUNDS_MAX}, each of these counted"));
    None
}

/// How many rounds it has at most, where rounds take as long as planned.
fn rounds(repeat: &Repeat) -> u128 {
    match repeat.until {
        Until::Times(times) => times.into(),
        Until::For(time) => {
            let every = repeat.every.unwrap_or_else(|| repeat.round());
            time.as_nanos().div_ceil(every.as_nanos().max(1))
        }
    }
}

/// The same, with those inside of it.
fn rounds_in_all(repeat: &Repeat) -> u128 {
    let inside = repeat.steps.iter().map(|step| match step {
        Step::Repeat(inner) => rounds_in_all(inner),
        _ => 0,
    });
    let inside: u128 = inside.fold(0, u128::saturating_add);
    rounds(repeat).saturating_mul(inside.max(1))
}

/// Whether rounds do not overlap; reports it if they would.
fn is_slower_than(repeat: &Repeat, at: Option<Span>, problems: &mut Problems) -> Option<()> {
    let (Some(every), Some(at)) = (repeat.every, at) else { return Some(()) };
    let round = repeat.round();
    if round <= every {
        return Some(());
    }
    let (round, every) = (units::duration(round), units::duration(every));
    problems
        .add(at, format!("a round takes {round}, and `every` is {every}"))
        .expected(format!("expected at least {round}: rounds do not overlap"));
    None
}
