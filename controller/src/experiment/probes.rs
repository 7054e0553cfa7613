//! `probes:` — how the system is observed, and within what bounds it must stay.

use std::time::Duration;

use faultline_proto::{
    probe::{self, Exec, Spec},
    units,
    yaml::{self, Fields, Node, Problems, Span, Spanned},
};

use super::{
    Comparison, PROBE_EVERY_DEFAULT, PROBE_EVERY_MAX, PROBE_EVERY_MIN, PROBE_TIMEOUT_DEFAULT,
    PROBE_TIMEOUT_MAX, PROBE_TIMEOUT_MIN, PROBES_MAX, Probe, ProbeKind, Recovery,
    STABLE_FOR_DEFAULT, Tolerance, WAIT_MAX,
};

/// The kind that needs a place to be run in.
const EXEC: &str = "exec";

/// Decodes the list of probes. Those with mistakes are left out: the mistakes are told.
pub(super) fn decode(node: &Node, problems: &mut Problems) -> Option<Vec<Probe>> {
    let mut names: Vec<Spanned<String>> = Vec::new();
    let decode = |node: &Node, problems: &mut Problems| {
        let (name, probe) = decode_probe(node, problems);
        if let Some(name) = name {
            match names.iter().find(|other| other.value == name.value) {
                Some(other) => {
                    problems
                        .add(name.span, format!("two probes are called `{}`", name.value))
                        .expected(format!("the first is in line {}", other.span.line));
                }
                None => names.push(name),
            }
        }
        probe
    };
    yaml::list(0..=PROBES_MAX, "probes", decode)(node, problems)
}

fn decode_probe(node: &Node, problems: &mut Problems) -> (Option<Spanned<String>>, Option<Probe>) {
    let before = problems.len();
    let Some(mut fields) = Fields::open(node, "a probe", problems) else { return (None, None) };
    let name = fields.required("name", problems, yaml::name);
    let networks: Vec<Spec> = probe::KINDS
        .iter()
        .filter_map(|kind| fields.optional(kind, problems, |node, p| Spec::decode(kind, node, p)))
        .collect();
    let exec = fields.optional(EXEC, problems, Exec::decode);
    one_kind(&fields, problems);
    let every =
        fields.optional("every", problems, yaml::duration(PROBE_EVERY_MIN..=PROBE_EVERY_MAX));
    let timeout =
        fields.optional("timeout", problems, yaml::duration(PROBE_TIMEOUT_MIN..=PROBE_TIMEOUT_MAX));
    let steady = fields.optional("steady", problems, |node, p| decode_tolerance(node, "steady", p));
    let during = fields.optional("during", problems, |node, p| decode_tolerance(node, "during", p));
    let recovery = fields.optional("recovery", problems, decode_recovery);
    fields.finish_with(problems, |key| match key {
        "success" => Some("`success` belongs in `steady` or `during`".into()),
        "within" | "stableFor" => Some(format!("`{key}` belongs in `recovery`")),
        "interval" | "period" => Some("how often is said with `every`".into()),
        "sql" | "redis" => Some("what a client prints is seen by an `exec` probe".into()),
        _ => belongs(key),
    });
    let kind = networks.into_iter().next().map(ProbeKind::Network).or(exec.map(ProbeKind::Exec));
    let probe = match (&name, kind) {
        (Some(name), Some(kind)) if problems.len() == before => Some(Probe {
            name: name.value.clone(),
            kind,
            every: every.unwrap_or(PROBE_EVERY_DEFAULT),
            timeout: timeout.unwrap_or(PROBE_TIMEOUT_DEFAULT),
            steady,
            during,
            recovery,
        }),
        _ => None,
    };
    (name, probe)
}

/// Where a field belongs that is one of a kind's.
fn belongs(key: &str) -> Option<String> {
    let kinds: Vec<String> =
        probe::kinds_with(key).iter().map(|kind| format!("`{kind}`")).collect();
    let (last, others) = kinds.split_last()?;
    let kinds =
        if others.is_empty() { last.clone() } else { format!("{} or {last}", others.join(", ")) };
    Some(format!("`{key}` belongs in {kinds}"))
}

/// Reports a probe that is none of the kinds, or several.
fn one_kind(fields: &Fields<'_>, problems: &mut Problems) {
    let is_kind = |name: &str| name == EXEC || probe::KINDS.contains(&name);
    let written: Vec<(&str, Span)> = fields.keys().filter(|(name, _)| is_kind(name)).collect();
    match written.as_slice() {
        [_] => {}
        [] => {
            let mut kinds = probe::KINDS.to_vec();
            kinds.push(EXEC);
            kinds.sort_unstable();
            problems
                .add(fields.span(), "a probe that tries nothing")
                .expected(format!("expected one of: {}", kinds.join(", ")));
        }
        [(first, _), others @ ..] => {
            for (name, span) in others {
                problems
                    .add(*span, format!("a probe is of one kind, and this one is `{first}`"))
                    .help(format!("make `{name}` a probe of its own"));
            }
        }
    }
}

fn decode_tolerance(node: &Node, name: &'static str, problems: &mut Problems) -> Option<Tolerance> {
    if let Some(text) = node.as_text() {
        problems
            .add(node.span, format!("{name} must be a mapping, found {}", node.describe()))
            .expected("expected what is measured, and its bound")
            .help(format!("write `{name}: {{ success: \"{text}\" }}`"));
        return None;
    }
    let mut fields = Fields::open(node, name, problems)?;
    let tolerance = fields.required("success", problems, decode_bound);
    for name in ["latency", "value", "p99"] {
        fields.refused(name, problems, "this version judges by `success` only");
    }
    fields.finish(problems);
    tolerance
}

fn decode_bound(node: &Node, problems: &mut Problems) -> Option<Tolerance> {
    let text = node.as_text().unwrap_or_default().trim();
    let operators = [
        (">=", Comparison::AtLeast),
        ("<=", Comparison::AtMost),
        ("==", Comparison::Equal),
        (">", Comparison::MoreThan),
        ("<", Comparison::LessThan),
    ];
    let found = operators
        .iter()
        .find_map(|(sign, comparison)| Some((sign, *comparison, text.strip_prefix(sign)?.trim())));
    let expected = "expected a comparison with a percentage: \">= 99%\"";
    let Some((sign, comparison, rest)) = found else {
        let problem = problems.add(node.span, format!("{} is not a bound", node.describe()));
        problem.expected(expected);
        if units::parse_percent(text).is_ok() {
            problem.help(format!("write \">= {text}\""));
        }
        return None;
    };
    let Some(success_basis_points) = units::parse_percent(rest).ok().filter(|p| *p <= 10_000)
    else {
        let problem = problems.add(node.span, format!("{} is not a bound", node.describe()));
        problem.expected("expected a percentage from 0% to 100%");
        if rest.parse::<u32>().is_ok_and(|number| number <= 100) {
            problem.help(format!("write \"{sign} {rest}%\""));
        }
        return None;
    };
    let never = match comparison {
        Comparison::MoreThan => success_basis_points == 10_000,
        Comparison::LessThan => success_basis_points == 0,
        _ => false,
    };
    if never {
        problems
            .add(node.span, format!("{} never holds", node.describe()))
            .help(format!("did you mean \"{sign}= {rest}\"?"));
        return None;
    }
    Some(Tolerance { comparison, success_basis_points })
}

fn decode_recovery(node: &Node, problems: &mut Problems) -> Option<Recovery> {
    let mut fields = Fields::open(node, "recovery", problems)?;
    let within =
        fields.required("within", problems, yaml::duration(Duration::from_millis(1)..=WAIT_MAX));
    let stable_for =
        fields.optional("stableFor", problems, yaml::duration(Duration::ZERO..=WAIT_MAX));
    fields.refused("value", problems, "comparing what a probe answers comes later");
    fields.finish(problems);
    Some(Recovery { within: within?, stable_for: stable_for.unwrap_or(STABLE_FOR_DEFAULT) })
}
