//! `imagePull`: new pods of a workload wait for an image that cannot be had. Its name ends in `.invalid`, which
//! nobody can own (RFC 2606). That makes the workload roll: as many old pods go as its strategy allows.

use std::time::Duration;

use faultline_proto::{
    fault::{FieldForm, FieldInfo},
    yaml::{self, Fields, Node, Problems, Spanned, nearest},
};
use k8s_openapi::api::core::v1;
use serde_json::Value;

use super::{
    Before, Change, Expanded, Kind, KindInfo, Look, Planned, Sight, look,
    template::{ROLLED, check_rolls},
    workloads,
};
use crate::place::Pod;

/// Its name.
pub(super) const NAME: &str = "imagePull";
/// Where the template's containers are.
pub(super) const CONTAINERS: &str = "/spec/template/spec/containers";
/// What the kubelet says of an image that it cannot have (Kubernetes' `pkg/kubelet/images`).
const REASONS: [&str; 4] =
    ["ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "RegistryUnavailable"];
/// A kubelet may take long to give up on a name.
const PROOF_WINDOW: Duration = Duration::from_mins(3);

/// For help texts and `faultline inject image-pull`.
pub(super) const INFO: KindInfo = KindInfo {
    name: NAME,
    about: "Have new pods of a workload wait for an image that cannot be had",
    fields: &[
        FieldInfo {
            name: "target",
            value: "TARGET",
            help: "Pods of the Deployment, StatefulSet or DaemonSet",
            form: FieldForm::Target,
        },
        FieldInfo {
            name: "container",
            value: "NAME",
            help: "Whose image [default: the first container's]",
            form: FieldForm::Scalar,
        },
    ],
};

/// As an experiment has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    target: Spanned<String>,
    container: Option<String>,
}

pub(super) fn decode(body: &Node, problems: &mut Problems) -> Option<Spec> {
    let before = problems.len();
    let mut fields = Fields::open(body, NAME, problems)?;
    let target = fields.required("target", problems, yaml::name);
    let container = fields.optional("container", problems, yaml::name);
    fields.finish(problems);
    let container = container.map(|name| name.value);
    (problems.len() == before).then_some(Spec { target: target?, container })
}

/// The image that a fault has pods wait for.
pub(super) fn image(fault: &str) -> String {
    format!("faultline.invalid/cannot-be-pulled:{fault}")
}

/// Why a container waits for that image.
fn waits(pod: &v1::Pod, image: &str) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let container = spec.containers.iter().find(|c| c.image.as_deref() == Some(image))?;
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let status = statuses.iter().find(|status| status.name == container.name)?;
    let waiting = status.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref().filter(|reason| REASONS.contains(reason))?;
    Some(format!("{} of {}: {reason}", container.name, pod.metadata.name.as_deref()?))
}

impl Kind for Spec {
    fn targets(&self) -> Vec<&Spanned<String>> {
        vec![&self.target]
    }

    fn expand(&self, chosen: &[&Pod], all: &[Pod]) -> Result<Vec<Expanded>, String> {
        workloads(chosen, all, &ROLLED)
    }

    fn plan(&self, before: &Before<'_>) -> Result<Planned, String> {
        check_rolls(before.on, before.object)?;
        let containers = before.object.pointer(CONTAINERS).and_then(Value::as_array);
        let name = |container: &Value| container["name"].as_str().unwrap_or_default().to_owned();
        let names: Vec<String> = containers.into_iter().flatten().map(name).collect();
        let at = match &self.container {
            None => Some(0),
            Some(wanted) => names.iter().position(|name| name == wanted),
        };
        let Some(at) = at else {
            let wanted = self.container.as_deref().unwrap_or_default();
            let near = nearest(wanted, names.iter().map(String::as_str));
            let help = near.map_or_else(
                || format!("it has: {}", names.join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            return Err(format!("{} has no container `{wanted}`; {help}", before.on));
        };
        let path = format!("{CONTAINERS}/{at}/image");
        let now = before.object.pointer(&path).cloned();
        let change = Change::Value { path, before: now, ours: image(before.fault).into() };
        let container = names.get(at).map_or("", String::as_str);
        Ok(Planned {
            text: format!("have `{container}` of new pods of {} wait for its image", before.on),
            changes: vec![change],
            pods: look::refs(look::of(before.on, before.pods)),
            ..Planned::default()
        })
    }

    fn look(&self, look: &Look<'_>) -> Sight {
        let image = image(look.fault);
        let waiting = look.own_pods().into_iter().find_map(|pod| waits(pod, &image));
        waiting.map_or_else(
            || Sight::Missing("no new pod was seen that waits for the image".into()),
            Sight::Proven,
        )
    }

    fn proof_window(&self) -> Duration {
        PROOF_WINDOW
    }
}
