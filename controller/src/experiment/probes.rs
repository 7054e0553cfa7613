//! `probes:` — how the system is observed, and within what bounds it must stay.

use std::time::Duration;

use faultline_proto::{
    units,
    yaml::{self, Fields, Node, Problems, Span, Spanned},
};

use super::{
    Comparison, PROBE_EVERY_DEFAULT, PROBE_EVERY_MAX, PROBE_EVERY_MIN, PROBE_TIMEOUT_DEFAULT,
    PROBE_TIMEOUT_MAX, PROBE_TIMEOUT_MIN, PROBES_MAX, Probe, ProbeKind, Recovery,
    STABLE_FOR_DEFAULT, Tolerance, WAIT_MAX, address,
};

const KINDS: [&str; 3] = ["exec", "http", "tcp"];

/// Arguments of one command.
const ARGUMENTS_MAX: usize = 256;

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
    let http = fields.optional("http", problems, decode_http);
    let tcp = fields.optional("tcp", problems, decode_tcp);
    let exec = fields.optional("exec", problems, decode_exec);
    one_kind(&fields, problems);
    let every =
        fields.optional("every", problems, yaml::duration(PROBE_EVERY_MIN..=PROBE_EVERY_MAX));
    let timeout =
        fields.optional("timeout", problems, yaml::duration(PROBE_TIMEOUT_MIN..=PROBE_TIMEOUT_MAX));
    let steady = fields.optional("steady", problems, |node, p| decode_tolerance(node, "steady", p));
    let during = fields.optional("during", problems, |node, p| decode_tolerance(node, "during", p));
    let recovery = fields.optional("recovery", problems, decode_recovery);
    fields.finish_with(problems, |key| match key {
        "url" | "status" => Some(format!("`{key}` belongs in `http`")),
        "address" => Some("`address` belongs in `tcp`".into()),
        "target" | "command" => Some(format!("`{key}` belongs in `exec`")),
        "success" => Some("`success` belongs in `steady` or `during`".into()),
        "within" | "stableFor" => Some(format!("`{key}` belongs in `recovery`")),
        "interval" | "period" => Some("how often is said with `every`".into()),
        "grpc" | "sql" | "redis" | "prometheus" | "dns" => {
            Some("in this version a probe is http, tcp or exec".into())
        }
        _ => None,
    });
    let kind = http.or(tcp).or(exec);
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

/// Reports a probe that is none of the kinds, or several.
fn one_kind(fields: &Fields<'_>, problems: &mut Problems) {
    let written: Vec<(&str, Span)> =
        fields.keys().filter(|(name, _)| KINDS.contains(name)).collect();
    match written.as_slice() {
        [_] => {}
        [] => {
            problems
                .add(fields.span(), "a probe that tries nothing")
                .expected("expected one of: http, tcp, exec");
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

fn decode_http(node: &Node, problems: &mut Problems) -> Option<ProbeKind> {
    let mut fields = Fields::open(node, "http", problems)?;
    let url = fields.required("url", problems, |node, problems| {
        checked(node, address::check_http_url, problems)
    });
    let status = fields.optional("status", problems, yaml::count(100..=599));
    for name in ["method", "headers", "body"] {
        fields.refused(name, problems, "an http probe is a GET without headers of its own");
    }
    fields.finish(problems);
    let status = status.and_then(|status| u16::try_from(status).ok()).unwrap_or(200);
    Some(ProbeKind::Http { url: url?, status })
}

fn decode_tcp(node: &Node, problems: &mut Problems) -> Option<ProbeKind> {
    let mut fields = Fields::open(node, "tcp", problems)?;
    let address = fields.required("address", problems, |node, problems| {
        checked(node, address::check_tcp_address, problems)
    });
    fields.finish(problems);
    Some(ProbeKind::Tcp { address: address? })
}

fn checked(
    node: &Node,
    check: fn(&str) -> Result<(), address::Wrong>,
    problems: &mut Problems,
) -> Option<String> {
    let text = yaml::text(node, problems)?;
    if let Err(wrong) = check(&text.value) {
        let problem = problems.add(node.span, wrong.message);
        problem.expected(wrong.expected).help = wrong.help;
        return None;
    }
    Some(text.value)
}

fn decode_exec(node: &Node, problems: &mut Problems) -> Option<ProbeKind> {
    let mut fields = Fields::open(node, "exec", problems)?;
    let target = fields.required("target", problems, yaml::name);
    let command = fields.required("command", problems, decode_command);
    fields.finish(problems);
    Some(ProbeKind::Exec { target: target?, command: command? })
}

/// Decodes a program and its arguments.
pub(super) fn decode_command(node: &Node, problems: &mut Problems) -> Option<Vec<String>> {
    if let Some(text) = node.as_text() {
        let words: Vec<&str> = text.split_whitespace().collect();
        problems
            .add(node.span, "a command is a list: no shell splits it")
            .expected("expected the program and its arguments")
            .help(format!("write `command: [{}]`", words.join(", ")));
        return None;
    }
    let argument = |node: &Node, problems: &mut Problems| match node.as_text() {
        Some(text) if !text.contains('\0') => Some(text.to_owned()),
        _ => {
            problems
                .add(node.span, format!("found {}", node.describe()))
                .expected("expected a text; quote what YAML reads as something else");
            None
        }
    };
    let command =
        yaml::list(1..=ARGUMENTS_MAX, "words, the program first", argument)(node, problems)?;
    if command.first().is_some_and(|program| program.trim().is_empty()) {
        problems.add(node.span, "the program of this command has no name");
        return None;
    }
    Some(command)
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
