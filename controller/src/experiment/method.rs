//! `method:` — what is done, in order. What a fault kind's fields mean is the kind's own business.

use std::time::Duration;

use faultline_proto::{
    fault::Hold,
    limits::{LIFETIME_MAX, LIFETIME_MIN},
    yaml::{self, Fields, Node, Problems, Span, Spanned, quote},
};

use super::{
    FaultKind, FaultSpec, Inject, PARALLEL_MAX, QUIET_MAX, STEPS_MAX, Step, WAIT_MAX, repeat,
};

/// Decodes the list of steps.
pub(super) fn decode(node: &Node, problems: &mut Problems) -> Option<Vec<Step>> {
    yaml::list(1..=STEPS_MAX, "steps", decode_step)(node, problems)
}

fn decode_step(node: &Node, problems: &mut Problems) -> Option<Step> {
    let mut fields = Fields::open(node, "a step", problems)?;
    let alone = |fields: &Fields<'_>, name: &str, problems: &mut Problems| {
        for (other, span) in fields.keys().filter(|(other, _)| *other != name) {
            let problem =
                problems.add(span, format!("{} beside `{name}` in one step", quote(other)));
            problem.help(match (other, name) {
                ("for", "parallel") => "each fault in `parallel` has a `for` of its own".into(),
                ("for" | "times" | "every" | "jitter" | "steps", "repeat") => {
                    "it belongs to `repeat`: indent it further than `repeat`".into()
                }
                ("for", _) => format!("the duration is the value of `{name}` itself: `{name}: 5s`"),
                _ => "make it a step of its own".into(),
            });
        }
    };
    if let Some(wait) = fields.node("wait") {
        alone(&fields, "wait", problems);
        let range = Duration::from_millis(1)..=WAIT_MAX;
        return yaml::duration(range)(wait, problems).map(Step::Wait);
    }
    if let Some(quiet) = fields.node("quiet") {
        alone(&fields, "quiet", problems);
        let range = Duration::from_millis(1)..=QUIET_MAX;
        let value = yaml::duration(range)(quiet, problems)?;
        return Some(Step::Quiet(Spanned { value, span: quiet.key.unwrap_or(quiet.span) }));
    }
    if let Some(repeat) = fields.node("repeat") {
        alone(&fields, "repeat", problems);
        return repeat::decode(repeat, problems).map(Step::Repeat);
    }
    if let Some(parallel) = fields.node("parallel") {
        alone(&fields, "parallel", problems);
        let faults = yaml::list(1..=PARALLEL_MAX, "faults", decode_in_parallel)(parallel, problems);
        return faults.map(Step::Parallel);
    }
    decode_inject(fields, &["parallel", "quiet", "repeat", "wait"], problems).map(Step::Inject)
}

fn decode_in_parallel(node: &Node, problems: &mut Problems) -> Option<Inject> {
    let fields = Fields::open(node, "a fault in `parallel`", problems)?;
    for name in ["wait", "parallel", "quiet", "repeat"] {
        if let Some(span) = fields.key_span(name) {
            problems
                .add(span, format!("`{name}` inside `parallel`"))
                .expected("expected a fault: these all begin at one instant");
            return None;
        }
    }
    decode_inject(fields, &[], problems)
}

/// Decodes a fault and its `for`. `others` are what else could have been written here.
fn decode_inject(
    mut fields: Fields<'_>,
    others: &[&'static str],
    problems: &mut Problems,
) -> Option<Inject> {
    let before = problems.len();
    let written: Vec<(&'static str, Span)> = FaultKind::all()
        .filter_map(|kind| Some((kind.name, fields.key_span(kind.name)?)))
        .collect();
    let (kind, span) = match written.as_slice() {
        [one] => *one,
        [] => {
            unknown_kind(&fields, others, problems);
            return None;
        }
        [(first, _), (second, span), ..] => {
            problems
                .add(*span, format!("`{second}` beside `{first}` in one step"))
                .expected("expected one fault")
                .help("make two steps of it, or a list under `parallel` to begin at one instant");
            return None;
        }
    };
    let body = fields.node(kind)?;
    let spec = FaultSpec::decode(kind, body, problems);
    let misplaced = body.get("for").and_then(|duration| duration.key);
    if let Some(span) = misplaced {
        for problem in problems.at_mut(span) {
            problem.help(format!("`for` belongs beside `{kind}`: indent it less"));
        }
    }
    let range = LIFETIME_MIN..=LIFETIME_MAX;
    let duration = fields.optional("for", problems, yaml::duration(range));
    let duration_span = fields.key_span("for");
    fields.finish_with(problems, |name| {
        let info = FaultKind::named(kind)?;
        let owned = info.fields.iter().any(|field| field.name == name);
        if owned {
            return Some(format!("`{name}` belongs to `{kind}`: indent it further than `{kind}`"));
        }
        let repeats = matches!(name, "every" | "jitter" | "times" | "repeat");
        repeats.then(|| "write `repeat: { times: 5, every: 10s, steps: [ … ] }`".into())
    });
    match (spec.as_ref().map(FaultSpec::hold), duration_span) {
        (Some(Hold::Lasts), None) if misplaced.is_none() => {
            problems
                .add(span, format!("`{kind}` needs `for`"))
                .expected("how long does it last?")
                .help(format!("add `for: 30s` beside `{kind}`, in the same column"));
        }
        (Some(Hold::Instant), Some(at)) => {
            let problem = problems.add(at, format!("this `{kind}` is over at once"));
            problem.expected("expected no `for`");
            let repeats = FaultKind::named(kind)
                .is_some_and(|kind| kind.fields.iter().any(|field| field.name == "every"));
            if repeats {
                problem.help(format!("to repeat it for so long, give `{kind}` an `every`"));
            }
        }
        _ => {}
    }
    let duration = duration.unwrap_or_default();
    (problems.len() == before).then_some(Inject { spec: spec?, duration, span })
}

fn unknown_kind(fields: &Fields<'_>, others: &[&'static str], problems: &mut Problems) {
    let mut names: Vec<&str> = FaultKind::all().map(|kind| kind.name).collect();
    names.extend(others);
    let expected = format!("expected one of: {}", names.join(", "));
    let mut any = false;
    for (name, span) in fields.keys().filter(|(name, _)| *name != "for") {
        any = true;
        let problem = problems.add(span, format!("unknown fault kind {}", quote(name)));
        problem.expected(&expected).suggest(name, names.iter().copied());
    }
    if !any {
        problems.add(fields.span(), "a step that does nothing").expected(expected);
    }
}
