//! `stopConditions:` — what is so bad that a run ends at once. What a probe tries is said in `probes`.

use std::time::Duration;

use faultline_proto::{
    probe::Spec,
    units,
    yaml::{self, Fields, Node, Problems, Span, Spanned},
};

use super::{Comparison, PROBE_TIMEOUT_DEFAULT, Probe, ProbeKind, Quantile, bound};

/// Stop conditions of one experiment.
const CONDITIONS_MAX: usize = 100;
/// The kind of probe that a condition may bring along.
const QUERY: &str = "prometheus";
/// How often that one asks.
const QUERY_EVERY: Duration = Duration::from_millis(500);
/// The longest time that a condition looks back.
const OVER_MAX: Duration = Duration::from_hours(1);
/// The shortest.
const OVER_MIN: Duration = Duration::from_millis(50);

/// What ends a run at once, and takes everything back.
#[derive(Debug, Clone, PartialEq)]
pub struct StopCondition {
    /// The probe that is watched.
    pub probe: Spanned<String>,
    /// What of it is too bad.
    pub rule: StopRule,
    /// Where it is written.
    pub span: Span,
    /// Where the time that it looks back is written.
    pub over_span: Span,
}

/// What of a probe is too bad.
#[derive(Debug, Clone, PartialEq)]
pub enum StopRule {
    /// The share of attempts that succeed.
    Success {
        /// Fewer than, or not more than.
        comparison: Comparison,
        /// Hundredths of a percent.
        basis_points: u32,
        /// Of the attempts of the last so long.
        over: Duration,
    },
    /// How long attempts that succeed take.
    Latency {
        /// Of so many of them.
        quantile: Quantile,
        /// Longer than, or at least.
        comparison: Comparison,
        /// So long.
        bound: Duration,
        /// Of the attempts of the last so long.
        over: Duration,
    },
    /// The number that the probe gives.
    Value {
        /// How it compares.
        comparison: Comparison,
        /// With what.
        bound: f64,
        /// All the time for so long; zero: once.
        lasting: Duration,
    },
    /// Nothing can be said of the system for so long.
    Unobserved {
        /// So long.
        limit: Duration,
        /// Only a number counts as an observation.
        of_value: bool,
    },
}

const BELOW: [Comparison; 2] = [Comparison::LessThan, Comparison::AtMost];
const ABOVE: [Comparison; 2] = [Comparison::MoreThan, Comparison::AtLeast];
const ANY: [Comparison; 5] = [
    Comparison::MoreThan,
    Comparison::AtLeast,
    Comparison::LessThan,
    Comparison::AtMost,
    Comparison::Equal,
];

/// Conditions, and the probes that some of them bring along.
#[derive(Debug, Default)]
pub(super) struct Stops {
    pub(super) conditions: Vec<StopCondition>,
    pub(super) probes: Vec<Probe>,
}

/// Decodes the list of conditions.
pub(super) fn decode(node: &Node, problems: &mut Problems) -> Option<Stops> {
    let mut stops = Stops::default();
    let mut nth = 0;
    let decode = |node: &Node, problems: &mut Problems| {
        nth += 1;
        decode_one(node, nth, &mut stops.probes, problems)
    };
    let all = yaml::list(1..=CONDITIONS_MAX, "conditions", decode)(node, problems)?;
    stops.conditions = all.into_iter().flatten().collect();
    Some(stops)
}

/// One item is one condition, or two where it also says for how long it may be blind.
fn decode_one(
    node: &Node,
    nth: usize,
    probes: &mut Vec<Probe>,
    problems: &mut Problems,
) -> Option<Vec<StopCondition>> {
    let before = problems.len();
    let mut fields = Fields::open(node, "a stop condition", problems)?;
    let span = fields.span();
    let query = fields.optional(QUERY, problems, |node, p| Spec::decode(QUERY, node, p));
    let probe = if fields.key_span(QUERY).is_some() {
        if let Some(span) = fields.key_span("probe") {
            let problem = problems.add(span, format!("`probe` beside `{QUERY}`"));
            problem.expected("expected one of them: a query is a probe of its own");
        }
        fields.node("probe");
        Some(Spanned { value: format!("stop-condition-{nth}"), span })
    } else {
        fields.required("probe", problems, yaml::name)
    };
    let success = fields.optional("success", problems, decode_success);
    let latency = fields.optional("latency", problems, decode_latency);
    let value = fields.optional("value", problems, |node, problems| {
        bound::decode(node, &ANY, "> 0.25", number, problems)
    });
    let unobserved = fields.optional("unobserved", problems, yaml::duration(OVER_MIN..=OVER_MAX));
    let over = fields.optional("over", problems, yaml::duration(OVER_MIN..=OVER_MAX));
    let lasting = fields.optional("for", problems, yaml::duration(Duration::ZERO..=OVER_MAX));
    check_fields(&fields, problems);
    let [over_at, blind_at] =
        ["over", "unobserved"].map(|name| fields.key_span(name).unwrap_or(span));
    fields.finish(problems);
    if problems.len() > before {
        return None;
    }
    let rule = match (success, latency, value, over) {
        (Some((comparison, basis_points)), _, _, Some(over)) => {
            Some(StopRule::Success { comparison, basis_points, over })
        }
        (_, Some((quantile, comparison, bound)), _, Some(over)) => {
            Some(StopRule::Latency { quantile, comparison, bound, over })
        }
        (_, _, Some((comparison, bound)), _) => {
            Some(StopRule::Value { comparison, bound, lasting: lasting.unwrap_or_default() })
        }
        _ => None,
    };
    let of_value = value.is_some();
    let blind = unobserved.map(|limit| StopRule::Unobserved { limit, of_value });
    let probe = probe?;
    probes.extend(query.map(|spec| Probe {
        name: probe.value.clone(),
        kind: ProbeKind::Network(spec),
        from: None,
        every: QUERY_EVERY,
        timeout: PROBE_TIMEOUT_DEFAULT,
        steady: None,
        during: None,
        recovery: None,
        is_load: false,
        verifies: None,
    }));
    let condition = |rule: StopRule| {
        let is_blind = matches!(rule, StopRule::Unobserved { .. });
        let over_span = if is_blind { blind_at } else { over_at };
        StopCondition { probe: probe.clone(), rule, span, over_span }
    };
    Some(rule.into_iter().chain(blind).map(condition).collect())
}

/// Reports measures that are missing or too many, and times that belong to another measure.
fn check_fields(fields: &Fields<'_>, problems: &mut Problems) {
    let written = |name: &str| fields.key_span(name);
    let measures = ["success", "latency", "value"];
    let mut found = measures.iter().filter_map(|name| Some((*name, written(name)?)));
    let first = found.next();
    if let (Some((first, _)), Some((other, span))) = (first, found.next()) {
        problems
            .add(span, format!("`{other}` beside `{first}` in one stop condition"))
            .help("make it a condition of its own");
        return;
    }
    match first {
        None if written("unobserved").is_none() => {
            problems
                .add(fields.span(), "a stop condition that never ends anything")
                .expected("expected one of: success, latency, value, unobserved");
        }
        Some((name @ ("success" | "latency"), at))
            if written("over").is_none() && written("for").is_none() =>
        {
            let problem = problems.add(at, format!("`{name}` needs `over`"));
            problem.expected("of the attempts of how long?").help("add `over: 10s`");
        }
        _ => {}
    }
    if let (Some(("success" | "latency", _)), Some(span)) = (first, written("for")) {
        problems
            .add(span, "`for` belongs to `value`")
            .help("how far it looks back is said with `over`");
    }
    if let (Some(("value", _)), Some(span)) = (first, written("over")) {
        problems
            .add(span, "`over` belongs to `success` and `latency`")
            .help("how long a value has to be so is said with `for`");
    }
    for name in ["over", "for"] {
        if let (None, Some(span)) = (first, written(name)) {
            problems
                .add(span, format!("`{name}` has nothing to look at"))
                .help("how long nothing may be seen is the value of `unobserved` itself");
        }
    }
}

fn decode_success(node: &Node, problems: &mut Problems) -> Option<(Comparison, u32)> {
    let (comparison, points) =
        bound::decode(node, &BELOW, "< 25%", units::parse_percent, problems)?;
    let never = comparison == Comparison::LessThan && points == 0;
    if points > 10_000 || never {
        let problem = problems.add(node.span, format!("{} is not a bound", node.describe()));
        problem.expected(if never {
            "expected more than 0%: a share is never less than that"
        } else {
            "expected a percentage from 0% to 100%"
        });
        return None;
    }
    Some((comparison, points))
}

fn decode_latency(
    node: &Node,
    problems: &mut Problems,
) -> Option<(Quantile, Comparison, Duration)> {
    let mut fields = Fields::open(node, "latency", problems)?;
    let mut found = None;
    for quantile in Quantile::ALL {
        let bound = fields.optional(quantile.name, problems, |node, problems| {
            bound::decode(node, &ABOVE, "> 2s", units::parse_duration, problems)
        });
        if let (Some(_), Some(span)) = (found, fields.key_span(quantile.name)) {
            problems
                .add(span, format!("`{}` beside another one", quantile.name))
                .help("make it a condition of its own");
        }
        found = found.or(bound.map(|(comparison, bound)| (quantile, comparison, bound)));
    }
    if fields.keys().next().is_none() {
        problems.add(fields.span(), "a latency of nothing").expected("expected `p99: \"> 2s\"`");
    }
    fields.finish(problems);
    found
}

fn number(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
    number.ok_or_else(|| "expected a number such as 0.25".into())
}

/// Reports conditions on probes that there are not. Only to be asked where all probes could be read.
pub(super) fn check_probes(
    conditions: &[StopCondition],
    probes: &[Probe],
    problems: &mut Problems,
) {
    let names: Vec<&str> = probes.iter().map(|probe| probe.name.as_str()).collect();
    for condition in conditions {
        let StopCondition { probe, rule, .. } = condition;
        if let Some(found) = probes.iter().find(|found| found.name == probe.value) {
            check_over(condition, found, problems);
            let of_value = matches!(
                rule,
                StopRule::Value { .. } | StopRule::Unobserved { of_value: true, .. }
            );
            if of_value && !gives_value(&found.kind) {
                problems
                    .add(probe.span, format!("probe `{}` gives no number", probe.value))
                    .expected("expected one that does: an http probe with `json` or `match`, say")
                    .help("of a probe like this, `success`, `latency` and `unobserved` are known");
            }
            continue;
        }
        let problem =
            problems.add(probe.span, format!("unknown probe {}", yaml::quote(&probe.value)));
        if names.is_empty() {
            problem
                .expected("this experiment has no probes")
                .help("a stop condition watches a probe: add it to `spec.probes`");
        } else {
            problem.expected(format!("expected one of: {}", names.join(", ")));
            problem.suggest(&probe.value, names.iter().copied());
        }
    }
}

/// Reports a time in which the probe makes no attempt, or hardly one.
fn check_over(condition: &StopCondition, probe: &Probe, problems: &mut Problems) {
    let (field, written, least, why) = match condition.rule {
        StopRule::Success { over, .. } | StopRule::Latency { over, .. } => {
            ("over", over, probe.every, "there is an attempt in it")
        }
        // What is a little later than the one before is no reason to end a run.
        StopRule::Unobserved { limit, .. } => {
            ("unobserved", limit, probe.every * 2, "an attempt may be a little late")
        }
        StopRule::Value { .. } => return,
    };
    if written < least {
        let (name, every) = (&probe.name, units::duration(probe.every));
        let written = units::duration(written);
        let text =
            format!("`{field}` is {written}, and probe `{name}` makes an attempt every {every}");
        let least = units::duration(least);
        problems
            .add(condition.over_span, text)
            .expected(format!("expected at least {least}: {why}"));
    }
}

/// Whether a probe observes more than that it worked.
fn gives_value(kind: &ProbeKind) -> bool {
    match kind {
        ProbeKind::Exec(_)
        | ProbeKind::Pods(_)
        | ProbeKind::Kubernetes(_)
        | ProbeKind::Network(Spec::Prometheus(_)) => true,
        ProbeKind::Network(Spec::Http(http)) => http.json.is_some() || http.matches.is_some(),
        ProbeKind::Network(Spec::Tcp(tcp)) => tcp.expect.is_some(),
        ProbeKind::Network(Spec::Udp(udp)) => udp.expect.is_some(),
        ProbeKind::Network(Spec::Dns(_) | Spec::Grpc(_)) => false,
    }
}
