//! What one part of an experiment says of another: every name refers to something, and everything
//! named is referred to.

use std::collections::{BTreeMap, BTreeSet};

use faultline_proto::yaml::{Problems, Span, Spanned, nearest, quote};

use super::{
    Assertion, Inject, Leaf, PodsProbe, Probe, ProbeKind, SandboxSpec, Selector, Step, Whose,
    targets::Target,
};

/// The decoded parts of one experiment: what of them has no mistakes.
pub(super) struct Parts<'a> {
    pub(super) targets: Option<&'a [Target]>,
    pub(super) probes: Option<&'a [Probe]>,
    pub(super) method: Option<&'a [Step]>,
    pub(super) assertions: Option<&'a [Assertion]>,
    /// What the method names, also where it has mistakes.
    pub(super) mentions: &'a [Spanned<String>],
    pub(super) sandbox: Option<&'a SandboxSpec>,
}

/// Reports names that refer to nothing, and targets that nothing refers to; of the latter it is only
/// known when nothing else is wrong.
pub(super) fn references(parts: &Parts<'_>, otherwise_right: bool, problems: &mut Problems) {
    // Of targets that could not be read at all it is not known what they are called.
    let Some(targets) = parts.targets else { return };
    let used = used(parts);
    let before = problems.len();
    let names: BTreeSet<&str> = targets.iter().map(|target| target.name.value.as_str()).collect();
    // One wrong name is often written many times.
    let mut nearest_names: BTreeMap<&str, Option<&str>> = BTreeMap::new();
    let is_said = |mention: &&Spanned<String>| used.iter().any(|name| name.span == mention.span);
    let others = parts.mentions.iter().filter(|mention| !is_said(mention));
    let all = used.iter().copied().chain(others);
    for name in all.filter(|name| !names.contains(name.value.as_str())) {
        let nearest = nearest_names
            .entry(&name.value)
            .or_insert_with(|| nearest(&name.value, names.iter().copied()));
        unknown(name, *nearest, targets, problems);
    }
    if otherwise_right && problems.len() == before {
        let used: BTreeSet<&str> = used.iter().map(|name| name.value.as_str()).collect();
        for target in targets {
            if !used.contains(target.name.value.as_str()) {
                problems
                    .add(target.name.span, format!("nothing uses {}", quote(&target.name.value)))
                    .expected("expected a fault or a probe that names this target")
                    .help("take it out, or look for a fault that was meant to name it");
            }
        }
    }
    let Some(sandbox) = parts.sandbox else { return };
    for target in targets {
        if let Some(selector) = &target.selector {
            let by = quote(&target.name.value);
            in_sandbox(&by, target.name.span, selector, sandbox, problems);
        }
    }
    for probe in parts.probes.unwrap_or_default() {
        if let ProbeKind::Pods(PodsProbe { whose: Whose::Matching(selector), .. }) = &probe.kind {
            let by = format!("probe {}", quote(&probe.name));
            in_sandbox(&by, selector.span, selector, sandbox, problems);
        }
    }
}

/// Every mention of a target.
fn used<'a>(parts: &Parts<'a>) -> Vec<&'a Spanned<String>> {
    let steps = parts.method.unwrap_or_default().iter();
    let injects = steps.flat_map(Step::leaves).flat_map(|leaf| match leaf {
        Leaf::Inject(injects) => injects,
        Leaf::Rest => &[],
    });
    let by_faults = injects.flat_map(|inject: &Inject| inject.spec.targets());
    let by_probes = parts.probes.unwrap_or_default().iter().filter_map(|probe| match &probe.kind {
        ProbeKind::Exec(exec) => Some(&exec.target),
        ProbeKind::Network(_) => probe.from.as_ref(),
        ProbeKind::Kubernetes(_) => None,
        ProbeKind::Pods(pods) => pods.target(),
    });
    let assertions = parts.assertions.unwrap_or_default().iter();
    let by_assertions = assertions.filter_map(|assertion| assertion.target.as_ref());
    by_faults.chain(by_probes).chain(by_assertions).collect()
}

/// Reports mentions of probes that there are not, where some of those that there are have mistakes.
pub(super) fn probe_names<'a>(
    mentions: impl Iterator<Item = &'a Spanned<String>>,
    known: &[&str],
    problems: &mut Problems,
) {
    let names: BTreeSet<&str> = known.iter().copied().collect();
    for mention in mentions.filter(|mention| !names.contains(mention.value.as_str())) {
        let text = format!("unknown probe {}", quote(&mention.value));
        let shown: Vec<&str> = names.iter().copied().collect();
        let problem = problems.add(mention.span, text);
        problem.expected(format!("expected one of: {}", shown.join(", ")));
        problem.suggest(&mention.value, names.iter().copied());
    }
}

fn unknown(
    name: &Spanned<String>,
    nearest: Option<&str>,
    targets: &[Target],
    problems: &mut Problems,
) {
    let names: Vec<&str> = targets.iter().map(|target| target.name.value.as_str()).collect();
    let problem = problems.add(name.span, format!("unknown target {}", quote(&name.value)));
    if names.is_empty() {
        problem.expected("this experiment has no targets").help("add it to `spec.targets`");
        return;
    }
    let shown: Vec<&str> = names.iter().take(10).copied().collect();
    let more = if names.len() > shown.len() { ", …" } else { "" };
    problem.expected(format!("expected one of: {}{more}", shown.join(", ")));
    match nearest {
        Some(nearest) => problem.help(format!("did you mean `{nearest}`?")),
        None => problem.help(format!("add `{}` to `spec.targets`", name.value)),
    };
}

/// Reports a selector that selects none of the pods that the experiment's own sandbox has.
fn in_sandbox(
    by: &str,
    span: Span,
    selector: &Selector,
    sandbox: &SandboxSpec,
    problems: &mut Problems,
) {
    let matches = sandbox.pods.iter().any(|pod| {
        let names = pod.names();
        (selector.namespaces.is_empty() || selector.namespaces.contains(&pod.namespace))
            && selector.labels.iter().all(|(key, value)| pod.labels.get(key) == Some(value))
            && selector.label_selector.iter().all(|one| one.matches(&pod.labels))
            && selector.owner.as_ref().is_none_or(|owner| owner.made(&pod.name, &pod.labels))
            && (selector.names.is_empty() || names.iter().any(|n| selector.names.contains(n)))
            && pod.node.as_ref().is_none_or(|node| {
                selector.nodes.is_empty() || selector.nodes.contains(&node.value)
            })
    });
    if !matches {
        let mut pods: Vec<String> =
            sandbox.pods.iter().flat_map(super::SandboxPod::names).collect();
        pods.truncate(10);
        problems
            .add(span, format!("no pod of the sandbox is selected by {by}"))
            .expected(format!("the pods are {}", pods.join(", ")))
            .help("compare its labels, names and namespace with `spec.sandbox.pods`");
    }
}
