//! One document to one experiment. Every mistake is collected; a value is made only without any.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use faultline_proto::{
    limits::{LEASE_DEFAULT, LEASE_MAX, LEASE_MIN},
    yaml::{self, Fields, Node, Problems, Spanned, Value},
};

use super::{
    API_VERSION, Experiment, KIND, Probe, SandboxSpec, Step, assertion,
    background::Role,
    check, labels, mentions, method, probes, safety, sandbox, stop,
    targets::{self, Target},
};

/// The fields of `spec`, for whoever wrote one of them beside it.
const SPEC_FIELDS: [&str; 12] = [
    "hypothesis",
    "seed",
    "lease",
    "targets",
    "probes",
    "background",
    "method",
    "blastRadius",
    "safety",
    "sandbox",
    "stopConditions",
    "assertions",
];

/// What one document came to.
pub(super) struct Decoded {
    /// Its name, also when it has mistakes: another must not have it.
    pub(super) name: Option<Spanned<String>>,
    /// `None` when it has mistakes.
    pub(super) experiment: Option<Experiment>,
}

/// Decodes a document.
pub(super) fn decode(document: &Node, problems: &mut Problems) -> Decoded {
    let nothing = Decoded { name: None, experiment: None };
    let before = problems.len();
    let Some(mut fields) = Fields::open(document, "an experiment", problems) else {
        return nothing;
    };
    let version = fields.required("apiVersion", problems, |node, problems| {
        Some(exactly(node, API_VERSION, problems))
    });
    let kind =
        fields.required("kind", problems, |node, problems| Some(exactly(node, KIND, problems)));
    // Something else entirely: what the rest of it lacks is of no interest.
    if version == Some(Is::Other) || kind == Some(Is::Other) {
        return nothing;
    }
    let metadata = fields.required("metadata", problems, decode_metadata);
    let spec = fields.required("spec", problems, decode_spec);
    fields.finish_with(problems, |key| {
        SPEC_FIELDS
            .contains(&key)
            .then(|| format!("`{key}` belongs in `spec`: indent it further than `spec`"))
    });
    let experiment = match (&metadata, spec) {
        (Some(Metadata { name, labels }), Some(spec)) if problems.len() == before => {
            Some(Experiment { name: name.value.clone(), labels: labels.clone(), ..spec })
        }
        _ => None,
    };
    Decoded { name: metadata.map(|metadata| metadata.name), experiment }
}

/// Whether a field that has one value has it, is another thing, or was mistyped.
#[derive(PartialEq)]
enum Is {
    It,
    Mistyped,
    Other,
}

fn exactly(node: &Node, expected: &'static str, problems: &mut Problems) -> Is {
    let text = node.as_text().unwrap_or_default();
    if text == expected {
        return Is::It;
    }
    let problem = problems.add(node.span, format!("found {}", node.describe()));
    problem.expected(format!("expected {expected}")).suggest(text, [expected]);
    let group = expected.split('/').next().unwrap_or_default();
    let near = problem.help.is_some() || text.starts_with(group);
    if near { Is::Mistyped } else { Is::Other }
}

fn decode_metadata(node: &Node, problems: &mut Problems) -> Option<Metadata> {
    let mut fields = Fields::open(node, "metadata", problems)?;
    let name = fields.required("name", problems, yaml::name);
    let labels = fields.optional("labels", problems, labels::decode);
    fields.finish(problems);
    Some(Metadata { name: name?, labels: labels.unwrap_or_default() })
}

/// What an experiment is called, and sorted by.
struct Metadata {
    name: Spanned<String>,
    labels: BTreeMap<String, String>,
}

/// Decodes everything but the name.
fn decode_spec(node: &Node, problems: &mut Problems) -> Option<Experiment> {
    let before = problems.len();
    let mut fields = Fields::open(node, "spec", problems)?;
    let hypothesis = fields.optional("hypothesis", problems, yaml::text);
    let seed = fields.optional("seed", problems, yaml::count(0..=u64::MAX));
    let lease = fields.optional("lease", problems, yaml::duration(LEASE_MIN..=LEASE_MAX));
    let sandbox: Option<SandboxSpec> = fields.optional("sandbox", problems, sandbox::decode);
    let nodes = sandbox.as_ref().map(|sandbox| sandbox.nodes);
    let written = |fields: &Fields<'_>, name: &str| fields.key_span(name).is_some();
    let targets: Option<Vec<Target>> = if written(&fields, "targets") {
        fields.optional("targets", problems, |node, p| targets::decode(node, nodes, p))
    } else {
        Some(Vec::new())
    };
    let before_probes = problems.len();
    let mut names = Vec::new();
    let probes: Option<Vec<Probe>> = if written(&fields, "probes") {
        fields.optional("probes", problems, |node, p| {
            probes::decode(node, Role::Probe, &mut names, p)
        })
    } else {
        Some(Vec::new())
    };
    let loads = fields.optional("background", problems, |node, p| {
        probes::decode(node, Role::Load, &mut names, p)
    });
    let mut probes = probes.map(|probes| [probes, loads.unwrap_or_default()].concat());
    let probes_are_right = problems.len() == before_probes;
    let method: Option<Vec<Step>> = fields.required("method", problems, method::decode);
    let blast_radius = fields.optional("blastRadius", problems, safety::decode_blast_radius);
    let safety = fields.optional("safety", problems, safety::decode);
    let stop_conditions = fields.optional("stopConditions", problems, stop::decode);
    let stop_conditions = stop_conditions.map(|stops| {
        // A condition may bring its own probe along.
        if let Some(probes) = &mut probes {
            probes.extend(stops.probes);
        }
        stops.conditions
    });
    if let (Some(conditions), Some(probes), true) = (&stop_conditions, &probes, probes_are_right) {
        stop::check_probes(conditions, probes, problems);
    }
    let assertions = fields.optional("assertions", problems, assertion::decode);
    if let (Some(assertions), Some(probes), true) = (&assertions, &probes, probes_are_right) {
        assertion::check_probes(assertions, probes, problems);
    }
    if !probes_are_right && all_named(&mut fields, &names) {
        // Of probes with mistakes it is known what they are called.
        let brought = probes.iter().flatten().map(|probe| probe.name.as_str());
        let known: Vec<&str> = names.iter().map(|n| n.value.as_str()).chain(brought).collect();
        let by_stops = stop_conditions.iter().flatten().map(|condition| &condition.probe);
        let by_assertions = assertions.iter().flatten().filter_map(|a| a.probe.as_ref());
        check::probe_names(by_stops.chain(by_assertions), &known, problems);
    }
    let method_node = fields.node("method");
    // `targets` is a field like the others even where it is not written.
    fields.node("targets");
    fields.node("probes");
    fields.finish(problems);
    let mentions = method_node.map(mentions::of_steps).unwrap_or_default();
    let parts = check::Parts {
        targets: targets.as_deref(),
        probes: probes.as_deref(),
        method: method.as_deref(),
        assertions: assertions.as_deref(),
        mentions: &mentions,
        sandbox: sandbox.as_ref(),
    };
    let right = problems.len() == before;
    check::references(&parts, right, problems);
    if problems.len() > before {
        return None;
    }
    let targets = targets?
        .into_iter()
        .map(|target| Some((target.name.value, target.selector?)))
        .collect::<Option<_>>()?;
    Some(Experiment {
        file: String::new(),
        name: String::new(),
        labels: BTreeMap::new(),
        hypothesis: hypothesis.map(|text| text.value),
        seed: seed.unwrap_or_else(draw_seed),
        lease: lease.unwrap_or(LEASE_DEFAULT),
        targets,
        probes: probes?,
        method: method?,
        blast_radius: blast_radius.unwrap_or_default(),
        safety: safety.unwrap_or_default(),
        stop_conditions: stop_conditions.unwrap_or_default(),
        assertions: assertions.unwrap_or_default(),
        sandbox,
    })
}

/// Whether the name of every probe and load could be read.
fn all_named(fields: &mut Fields<'_>, names: &[Spanned<String>]) -> bool {
    let mut written = 0;
    for list in ["probes", "background"] {
        match fields.node(list).map(|node| &node.value) {
            None => {}
            Some(Value::Sequence(items)) => written += items.len(),
            Some(_) => return false,
        }
    }
    written == names.len()
}

/// A seed for an experiment that names none. It need not be unpredictable, only new each time; and
/// it is short, for whoever types it, and for readers of JSON whose numbers end at 2^53.
fn draw_seed() -> u64 {
    let seed = getrandom::u32().unwrap_or_else(|_no_random_source| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        now.unwrap_or(Duration::ZERO).subsec_nanos()
    });
    seed.into()
}
