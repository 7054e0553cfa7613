//! `kubernetes`: what kind of probe looks at one object of a cluster — how many addresses of a Service are ready,
//! how many replicas a workload has, how many an autoscaler wants, and conditions.

use std::fmt;

use faultline_proto::{
    probe::Bound,
    yaml::{self, Fields, Node, Problems, Span, nearest, quote},
};

use super::{
    conditions::{self, Conditions},
    pods::decode_bound,
};

/// A look at one object, as it is at each attempt.
#[derive(Debug, Clone)]
pub struct KubernetesProbe {
    /// Which.
    pub object: Object,
    /// What its numbers must be.
    pub bounds: Vec<(Figure, Bound)>,
    /// What its conditions must be.
    pub conditions: Conditions,
    /// The number that is the probe's value.
    pub value: Figure,
    /// Where it is written.
    pub span: Span,
}

/// An object of a cluster, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Of which kind.
    pub kind: ObjectKind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// A kind of object that can be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectKind {
    /// A Service: the addresses behind it.
    Service,
    /// A Deployment.
    Deployment,
    /// A `StatefulSet`.
    StatefulSet,
    /// A `DaemonSet`.
    DaemonSet,
    /// A `HorizontalPodAutoscaler`.
    Autoscaler,
}

/// A number that an object has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Figure {
    /// Replicas that are ready; of a Service, addresses that get its traffic.
    Ready,
    /// Replicas that there are; of a Service, addresses, ready or not.
    Replicas,
    /// Replicas that there should be.
    Desired,
    /// Replicas of the latest template.
    Updated,
}

/// As `kubectl` writes the kinds, with the short names that it takes.
const KINDS: [(ObjectKind, &[&str]); 5] = [
    (ObjectKind::Service, &["service", "svc", "endpoints", "ep"]),
    (ObjectKind::Deployment, &["deployment", "deploy"]),
    (ObjectKind::StatefulSet, &["statefulset", "sts"]),
    (ObjectKind::DaemonSet, &["daemonset", "ds"]),
    (ObjectKind::Autoscaler, &["hpa", "horizontalpodautoscaler"]),
];

const FIGURES: [(&str, Figure); 4] = [
    ("ready", Figure::Ready),
    ("replicas", Figure::Replicas),
    ("desired", Figure::Desired),
    ("updated", Figure::Updated),
];

impl ObjectKind {
    /// As it is written: `deployment`.
    pub fn name(self) -> &'static str {
        KINDS.iter().find(|(kind, _)| *kind == self).map_or("", |(_, names)| names[0])
    }

    fn read(text: &str) -> Option<Self> {
        let plural = text.strip_suffix('s').unwrap_or(text);
        let is = |names: &[&str]| names.contains(&text) || names.contains(&plural);
        KINDS.iter().find(|(_, names)| is(names)).map(|(kind, _)| *kind)
    }

    /// The numbers that objects of this kind have; the first is the value where nothing is said.
    fn figures(self) -> &'static [Figure] {
        match self {
            Self::Service => &[Figure::Ready, Figure::Replicas],
            Self::Deployment | Self::StatefulSet | Self::DaemonSet => {
                &[Figure::Ready, Figure::Replicas, Figure::Desired, Figure::Updated]
            }
            Self::Autoscaler => &[Figure::Replicas, Figure::Desired],
        }
    }

    /// Whether Kubernetes tells conditions of it, with all versions that there are.
    fn has_conditions(self) -> bool {
        matches!(self, Self::Deployment | Self::StatefulSet | Self::DaemonSet)
    }
}

impl Figure {
    /// As it is written.
    pub fn name(self) -> &'static str {
        FIGURES.iter().find(|(_, figure)| *figure == self).map_or("", |(name, _)| name)
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} in namespace {}", self.kind.name(), self.name, self.namespace)
    }
}

/// Decodes it.
pub(super) fn decode(node: &Node, problems: &mut Problems) -> Option<KubernetesProbe> {
    let mut fields = Fields::open(node, "kubernetes", problems)?;
    let named = fields.required("object", problems, object);
    let namespace = fields.required("namespace", problems, yaml::name);
    let kind = named.as_ref().map(|(kind, _)| *kind);
    let mut bounds = Vec::new();
    for (name, figure) in FIGURES {
        let bound = fields.optional(name, problems, decode_bound);
        bounds.extend(bound.map(|bound| (figure, bound)));
        if let (Some(kind), Some(span)) = (kind, fields.key_span(name)) {
            has_figure(kind, figure, span, problems);
        }
    }
    let conditions = fields.optional("conditions", problems, conditions::decode);
    if let (Some(kind), Some(span)) = (kind, fields.key_span("conditions"))
        && !kind.has_conditions()
    {
        problems
            .add(span, format!("a {} has no conditions that all versions tell", kind.name()))
            .expected("expected `conditions` of a deployment, statefulset or daemonset");
    }
    let value = fields.optional("value", problems, yaml::one_of(&FIGURES));
    if let (Some(kind), Some(value), Some(span)) = (kind, value, fields.key_span("value")) {
        has_figure(kind, value, span, problems);
    }
    let span = fields.span();
    fields.finish_with(problems, |key| match key {
        "service" | "deployment" | "statefulset" | "daemonset" | "hpa" | "workload" | "name"
        | "kind" => Some("which object is said as kubectl does: `object: deployment/api`".into()),
        "endpoints" | "addresses" => Some("how many addresses are ready is `ready`".into()),
        "current" | "count" => Some("how many there are is `replicas`".into()),
        "pods" | "labels" | "restarts" => Some("pods are looked at by a `pods` probe".into()),
        _ => None,
    });
    let ((kind, name), namespace) = named.zip(namespace)?;
    Some(KubernetesProbe {
        object: Object { kind, namespace: namespace.value, name },
        bounds,
        conditions: conditions.unwrap_or_default(),
        value: value.unwrap_or(kind.figures()[0]),
        span,
    })
}

/// `deployment/api`.
fn object(node: &Node, problems: &mut Problems) -> Option<(ObjectKind, String)> {
    let text = yaml::text(node, problems)?;
    let example = "expected a kind and a name, as kubectl writes them: `deployment/api`";
    let Some((kind, name)) = text.value.split_once('/') else {
        problems.add(node.span, format!("{} is no object", node.describe())).expected(example);
        return None;
    };
    let Some(kind) = ObjectKind::read(&kind.to_lowercase()) else {
        let known: Vec<&str> = KINDS.iter().map(|(kind, _)| kind.name()).collect();
        let near =
            nearest(kind, known.iter().copied()).map(|near| format!("write `{near}/{name}`"));
        let problem = problems.add(node.span, format!("{} cannot be looked at", quote(kind)));
        problem.expected(format!("expected one of: {}", known.join(", ")));
        if let Some(help) = near {
            problem.help(help);
        }
        return None;
    };
    if !faultline_proto::target::is_object_name(name) {
        problems.add(node.span, format!("{} is not a name", quote(name))).expected(example);
        return None;
    }
    Some((kind, name.to_owned()))
}

fn has_figure(kind: ObjectKind, figure: Figure, span: Span, problems: &mut Problems) {
    let known = kind.figures();
    if !known.contains(&figure) {
        let known: Vec<&str> = known.iter().map(|figure| figure.name()).collect();
        problems
            .add(span, format!("a {} has no number `{}`", kind.name(), figure.name()))
            .expected(format!("expected one of: {}", known.join(", ")));
    }
}
