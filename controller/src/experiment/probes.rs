//! `probes:` — how the system is observed, and within what bounds it must stay.

use std::time::Duration;

use faultline_proto::{
    limits::{PROBE_EVERY_MAX, PROBE_EVERY_MIN, PROBE_TIMEOUT_MAX, PROBE_TIMEOUT_MIN},
    probe::{self, Exec, Spec},
    target::Target,
    units,
    yaml::{self, Fields, Node, Problems, Span, Spanned},
};

use crate::probe::WAITING_MAX;

use super::{
    PROBE_EVERY_DEFAULT, PROBE_TIMEOUT_DEFAULT, PROBES_MAX, Probe, ProbeKind,
    background::{self, Role},
    kubernetes, pods,
    tolerance::{decode_recovery, decode_tolerance},
    verifies,
};

/// The kinds that need a place to be run in, or to be told by.
const EXEC: &str = "exec";
const PODS: &str = "pods";
const KUBERNETES: &str = "kubernetes";
/// The same kinds: none of them is made from a pod's network, nor is a load.
const OF_PLACE: [&str; 3] = [EXEC, PODS, KUBERNETES];

/// What stands in a report between the name of a probe and that of the pod that it is made from. It is in no name.
const FROM_MARK: char = '@';

impl Probe {
    /// What it is called in reports as it is made from a pod, also once it goes on from another one.
    pub fn name_from(&self, pod: &Target) -> String {
        format!("{}{FROM_MARK}{pod}", self.name)
    }

    /// Whether it is the probe of this name in the experiment, or that as it is made from one of its pods.
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.from.is_some() && is_made_from(&self.name, name)
    }
}

/// Whether what is reported under a name is the probe `of`, as it is made from a pod.
pub fn is_made_from(reported: &str, of: &str) -> bool {
    reported.split_once(FROM_MARK).is_some_and(|(name, _)| name == of)
}

/// Decodes a list of probes or loads. Those with mistakes are left out: the mistakes are told. `names` are
/// those that are taken already.
pub(super) fn decode(
    node: &Node,
    role: Role,
    names: &mut Vec<Spanned<String>>,
    problems: &mut Problems,
) -> Option<Vec<Probe>> {
    let decode = |node: &Node, problems: &mut Problems| {
        let (name, probe) = decode_probe(node, role, problems);
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
    let what = match role {
        Role::Probe => "probes",
        Role::Load => "loads",
    };
    yaml::list(0..=PROBES_MAX, what, decode)(node, problems)
}

fn decode_probe(
    node: &Node,
    role: Role,
    problems: &mut Problems,
) -> (Option<Spanned<String>>, Option<Probe>) {
    let before = problems.len();
    let Some(mut fields) = Fields::open(node, role.what(), problems) else { return (None, None) };
    let name = fields.required("name", problems, yaml::name);
    let networks: Vec<Spec> = probe::KINDS
        .iter()
        .filter_map(|kind| fields.optional(kind, problems, |node, p| Spec::decode(kind, node, p)))
        .collect();
    let exec = fields.optional(EXEC, problems, Exec::decode);
    let pods = fields.optional(PODS, problems, pods::decode);
    let kubernetes = fields.optional(KUBERNETES, problems, kubernetes::decode);
    one_kind(&fields, role, problems);
    let from = match role {
        Role::Probe => decode_from(&mut fields, problems),
        Role::Load => None,
    };
    let every = match role {
        Role::Probe => {
            let range = PROBE_EVERY_MIN..=PROBE_EVERY_MAX;
            fields.optional("every", problems, yaml::duration(range))
        }
        Role::Load => fields.required("rate", problems, background::rate),
    };
    let timeout =
        fields.optional("timeout", problems, yaml::duration(PROBE_TIMEOUT_MIN..=PROBE_TIMEOUT_MAX));
    if role == Role::Probe
        && let Some(node) = fields.node("timeout")
    {
        not_too_many(node.span, every, timeout, problems);
    }
    let steady = fields.optional("steady", problems, |node, p| decode_tolerance(node, "steady", p));
    let during = fields.optional("during", problems, |node, p| decode_tolerance(node, "during", p));
    let recovery = fields.optional("recovery", problems, decode_recovery);
    let verifies = fields.optional("verifies", problems, verifies::decode);
    if let Some(span) = fields.key_span("verifies")
        && ["during", "recovery"].iter().all(|key| fields.key_span(key).is_none())
    {
        problems
            .add(span, "nothing is asked of this probe that it could verify anything by")
            .expected("expected `during` or `recovery` beside it");
    }
    fields.finish_with(problems, |key| match key {
        "success" => Some("`success` belongs in `steady` or `during`".into()),
        "within" | "stableFor" => Some(format!("`{key}` belongs in `recovery`")),
        "interval" | "period" if role == Role::Probe => {
            Some("how often is said with `every`".into())
        }
        "rate" => Some(
            "a load is written in `spec.background`; how often a probe tries is `every`".into(),
        ),
        "every" => Some("how often is said with `rate`".into()),
        "k8s" | "endpoints" | "replicas" | "hpa" => Some(
            "an object of a cluster is looked at by a `kubernetes` probe, pods by a `pods` probe"
                .into(),
        ),
        "sql" | "redis" => Some("what a client prints is seen by an `exec` probe".into()),
        _ => belongs(key),
    });
    let network = networks.into_iter().next().map(ProbeKind::Network);
    let of_place = exec.map(ProbeKind::Exec).or(pods.map(ProbeKind::Pods));
    let kind = network.or(of_place).or(kubernetes.map(ProbeKind::Kubernetes));
    let probe = match (&name, kind) {
        (Some(name), Some(kind)) if problems.len() == before => Some(Probe {
            name: name.value.clone(),
            kind,
            from,
            every: every.unwrap_or(PROBE_EVERY_DEFAULT),
            timeout: timeout.unwrap_or(PROBE_TIMEOUT_DEFAULT),
            steady,
            during,
            recovery,
            is_load: role == Role::Load,
            verifies,
        }),
        _ => None,
    };
    (name, probe)
}

/// Reports a timeout that lets more attempts wait for an answer than may be under way at once: those beyond would not be
/// made, which is known beforehand.
fn not_too_many(
    at: Span,
    every: Option<Duration>,
    timeout: Option<Duration>,
    problems: &mut Problems,
) {
    let (Some(timeout), every) = (timeout, every.unwrap_or(PROBE_EVERY_DEFAULT)) else { return };
    let most = every * WAITING_MAX;
    if timeout <= most {
        return;
    }
    let millis = timeout.as_millis().div_ceil(u128::from(WAITING_MAX));
    let least = Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX));
    let (timeout, every) = (units::duration(timeout), units::duration(every));
    problems
        .add(
            at,
            format!("{timeout} is more than {WAITING_MAX} times {every}, from attempt to attempt"),
        )
        .expected(format!(
            "expected at most {}: no more attempts wait at once",
            units::duration(most)
        ))
        .help(format!("or write `every: {}` or more", units::duration(least)));
}

/// From the pods of which target it is made.
fn decode_from(fields: &mut Fields<'_>, problems: &mut Problems) -> Option<Spanned<String>> {
    let from = fields.optional("from", problems, yaml::name);
    for (kind, why) in [
        (EXEC, "where a command runs is said by its `target`"),
        (PODS, "who looks at pods is not one of them"),
        (KUBERNETES, "the API server is asked by the controller"),
    ] {
        if let (Some(span), Some(_)) = (fields.key_span("from"), fields.key_span(kind)) {
            let expected = "expected `from` beside a kind that needs a network only";
            problems.add(span, why).expected(expected);
        }
    }
    from
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
fn one_kind(fields: &Fields<'_>, role: Role, problems: &mut Problems) {
    let is_kind = |name: &str| OF_PLACE.contains(&name) || probe::KINDS.contains(&name);
    let written: Vec<(&str, Span)> = fields.keys().filter(|(name, _)| is_kind(name)).collect();
    let mut kinds = match role {
        Role::Probe => [&probe::KINDS[..], &OF_PLACE].concat(),
        Role::Load => background::LOAD_KINDS.to_vec(),
    };
    kinds.sort_unstable();
    match written.as_slice() {
        [(kind, _)] if kinds.contains(kind) => {}
        [(kind, span)] => {
            problems
                .add(*span, format!("`{kind}` is no load"))
                .expected(format!("expected one of: {}", kinds.join(", ")));
        }
        [] => {
            problems
                .add(fields.span(), format!("{} that tries nothing", role.what()))
                .expected(format!("expected one of: {}", kinds.join(", ")));
        }
        [(first, _), others @ ..] => {
            for (name, span) in others {
                problems
                    .add(
                        *span,
                        format!("{} is of one kind, and this one is `{first}`", role.what()),
                    )
                    .help(format!("make `{name}` {} of its own", role.what()));
            }
        }
    }
}
