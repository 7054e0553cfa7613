//! `podDelete`: pods are deleted, and whoever made them makes others. There is nothing to take back: that a new pod
//! comes is recovery.

use std::time::Duration;

use faultline_proto::{
    fault::{Counted, FieldForm, FieldInfo, Hold},
    yaml::{self, Fields, Node, Problems, Spanned},
};

use super::{Before, Expanded, Kind, KindInfo, Look, Object, Planned, Sight, killed, look};
use crate::place::Pod;

/// Its name.
pub(super) const NAME: &str = "podDelete";
/// The longest grace that can be asked for.
const GRACE_MAX: Duration = Duration::from_hours(1);
/// What a pod has that says nothing: Kubernetes' default. Also as long as it is not known which pod it is.
const GRACE_DEFAULT: Duration = Duration::from_secs(30);
/// How long a kubelet and the API server may take besides.
const BESIDES: Duration = Duration::from_mins(1);

/// For help texts and `faultline inject pod-delete`.
pub(super) const INFO: KindInfo = KindInfo {
    name: NAME,
    about: "Delete pods; whoever made them makes others",
    fields: &[
        FieldInfo { name: "target", value: "TARGET", help: "Which pods", form: FieldForm::Target },
        FieldInfo {
            name: "grace",
            value: "DURATION",
            help: "How long its processes have to end [default: as the pod says]",
            form: FieldForm::Scalar,
        },
        FieldInfo {
            name: "force",
            value: "true|false",
            help: "Do not wait for its node: the name is free at once [default: false]",
            form: FieldForm::Scalar,
        },
    ],
};

/// As an experiment has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    target: Spanned<String>,
    grace: Option<Duration>,
    force: bool,
    /// How long the pod that it is on takes to end where it is not told how long it has.
    own_grace: Option<Duration>,
}

impl Spec {
    /// The same, on this pod.
    pub(super) fn on(self, pod: &Pod) -> Self {
        Self { own_grace: pod.grace, ..self }
    }
}

pub(super) fn decode(body: &Node, problems: &mut Problems) -> Option<Spec> {
    let before = problems.len();
    let mut fields = Fields::open(body, NAME, problems)?;
    let target = fields.required("target", problems, yaml::name);
    let grace =
        fields.optional("grace", problems, yaml::duration(Duration::from_secs(1)..=GRACE_MAX));
    let force =
        fields.optional("force", problems, yaml::one_of(&[("true", true), ("false", false)]));
    if let (Some(true), Some(span)) = (force, fields.key_span("grace")) {
        problems
            .add(span, "`grace` beside `force: true`")
            .expected("expected one of them: a pod that is deleted by force has no grace");
    }
    fields.finish(problems);
    let force = force.unwrap_or_default();
    (problems.len() == before).then_some(Spec { target: target?, grace, force, own_grace: None })
}

impl Kind for Spec {
    fn hold(&self) -> Hold {
        Hold::Instant
    }

    fn targets(&self) -> Vec<&Spanned<String>> {
        vec![&self.target]
    }

    fn expand(&self, chosen: &[&Pod], _all: &[Pod]) -> Result<Vec<Expanded>, String> {
        let pod = |pod: &&Pod| {
            let name = pod.target();
            match pod.owner.as_deref() {
                None => Err(format!("nothing would make pod {name} again")),
                Some(owner) if owner.starts_with("node/") => Err(format!(
                    "pod {name} is of a file on its node: its kubelet makes it, and does not end it because of the API"
                )),
                Some(_) => {
                    let hits = vec![pod.uid.clone()];
                    Ok(Expanded { object: Object::pod(pod), hits, beside: Vec::new() })
                }
            }
        };
        chosen.iter().map(pod).collect()
    }

    fn plan(&self, before: &Before<'_>) -> Result<Planned, String> {
        let seconds = self.grace.map(|grace| u32::try_from(grace.as_secs()).unwrap_or(u32::MAX));
        let grace = if self.force { Some(0) } else { seconds };
        let how = match grace {
            Some(0) => " by force".to_owned(),
            Some(seconds) => format!(" with {seconds} s of grace"),
            None => String::new(),
        };
        Ok(Planned {
            text: format!("delete pod {}{how}", before.on),
            delete: Some(grace),
            pods: look::refs(look::of(before.on, before.pods)),
            ..Planned::default()
        })
    }

    fn look(&self, look: &Look<'_>) -> Sight {
        match look.own_pods().first() {
            Some(pod) if pod.metadata.deletion_timestamp.is_some() => {
                Sight::Missing("it is told to end, and is still there".into())
            }
            Some(_) => Sight::Missing("it is still there".into()),
            None => Sight::Proven("the pod of this uid has gone".into()),
        }
    }

    fn proof_window(&self) -> Duration {
        let own_grace = self.own_grace.filter(|_| !self.force);
        self.grace.or(own_grace).unwrap_or(GRACE_DEFAULT) + BESIDES
    }

    fn counted(&self) -> Option<Counted> {
        Some(killed("pod"))
    }
}
