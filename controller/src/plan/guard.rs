//! Whom no fault may be on, whatever an experiment's selectors say: namespaces that are protected always, and pods that
//! nobody has enabled where that is asked for. Pure: what a place knows of it is handed in.

use std::collections::{BTreeMap, BTreeSet};

use faultline_proto::yaml::Span;

use super::{On, PlanError, PlannedInjection};
use crate::{cluster::fault::ObjectKind, place::Pod};

/// The label or annotation, of a pod or of its namespace, that says whether faults may be on it.
pub const ENABLED: &str = "faultline.dev/enabled";

/// The namespace of what a cluster itself consists of.
const SYSTEM: &str = "kube-system";

/// The rule that guards somebody, why, and where it is written.
type Guarded = (&'static str, String, Option<Span>);

/// Whom no fault may be on.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    /// Namespaces that are protected, and what to do about it.
    pub namespaces: BTreeMap<String, String>,
    /// Only those that are enabled may be hit.
    pub opt_in: Option<OptIn>,
    /// What nodes say of themselves, by name, where a fault is on one as such.
    pub nodes: BTreeMap<String, NodeSays>,
}

/// What a node says of faults on it: of a cordon, a drain or a taint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodeSays {
    /// Whether they may be, if it says so.
    pub enabled: Option<bool>,
    /// It bears the control plane.
    pub is_control_plane: bool,
}

/// That only those may be hit who are enabled.
#[derive(Debug, Clone, Default)]
pub struct OptIn {
    /// The namespaces whose label or annotation enables all their pods.
    pub namespaces: BTreeSet<String>,
    /// Who asks for it, for a message.
    pub asked_by: String,
    /// Where that is written, if in the experiment.
    pub span: Option<Span>,
}

impl Guard {
    /// Whether nobody of these is guarded.
    ///
    /// # Errors
    /// The first who is.
    pub(super) fn check<'i>(
        &self,
        injections: impl IntoIterator<Item = &'i PlannedInjection>,
        pods: &[Pod],
    ) -> Result<(), PlanError> {
        for injection in injections {
            let kind = injection.fault.kind();
            if let On::Object(object) = &injection.target
                && object.kind == ObjectKind::Node
                && let Err((rule, why, span)) = self.may_be_changed(&object.name)
            {
                return Err(PlanError::Guarded { rule, kind, pod: object.to_string(), why, span });
            }
            for pod in pods.iter().filter(|pod| injection.concerns(pod)) {
                if let Err((rule, why, span)) = self.may_be_hit(pod) {
                    let pod = pod.target().to_string();
                    return Err(PlanError::Guarded { rule, kind, pod, why, span });
                }
            }
        }
        Ok(())
    }

    /// Whether a fault may be on a node as such; if not, as of a pod.
    fn may_be_changed(&self, node: &str) -> Result<(), Guarded> {
        let says = self.nodes.get(node).copied().unwrap_or_default();
        if says.enabled == Some(false) {
            return Err(("optIn", format!("it has {ENABLED}=false"), None));
        }
        if let (true, Some(what_to_do)) = (says.is_control_plane, self.namespaces.get(SYSTEM)) {
            let why = format!("the control plane is on it, protected as {SYSTEM} is{what_to_do}");
            return Err(("protected", why, None));
        }
        match &self.opt_in {
            Some(OptIn { asked_by, span, .. }) if says.enabled != Some(true) => {
                let why = format!(
                    "{asked_by} asks for {ENABLED}=true, as a label or an annotation of the node itself; \
                     `kubectl label node {node} {ENABLED}=true` allows it"
                );
                Err(("optIn", why, *span))
            }
            _ => Ok(()),
        }
    }

    /// Whether a fault may be on a pod; if not, the rule that says so, why, and where it is written.
    fn may_be_hit(&self, pod: &Pod) -> Result<(), Guarded> {
        if let Some(what_to_do) = self.namespaces.get(&pod.namespace) {
            let why = format!("namespace {} is protected always{what_to_do}", pod.namespace);
            return Err(("protected", why, None));
        }
        let says = |value: &str| {
            let is_it =
                |map: &BTreeMap<String, String>| map.get(ENABLED).is_some_and(|v| v == value);
            is_it(&pod.labels) || is_it(&pod.annotations)
        };
        if says("false") {
            return Err(("optIn", format!("it has {ENABLED}=false"), None));
        }
        let Some(OptIn { namespaces, asked_by, span }) = &self.opt_in else { return Ok(()) };
        if says("true") || namespaces.contains(&pod.namespace) {
            return Ok(());
        }
        let why = format!(
            "{asked_by} asks for {ENABLED}=true, as a label or an annotation of the pod or of its namespace; \
             `kubectl label namespace {} {ENABLED}=true` allows all of its pods",
            pod.namespace
        );
        Err(("optIn", why, *span))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(namespace: &str, label: Option<&str>) -> Pod {
        let labels = label.map(|value| (ENABLED.to_owned(), value.to_owned()));
        Pod { namespace: namespace.into(), labels: labels.into_iter().collect(), ..Pod::default() }
    }

    #[test]
    fn protected_namespaces_are_never_hit_and_a_pod_can_always_say_no() {
        let namespaces = BTreeMap::from([("kube-system".to_owned(), "; do this".to_owned())]);
        let guard = Guard { namespaces, ..Guard::default() };
        let (rule, why, _) =
            guard.may_be_hit(&pod("kube-system", Some("true"))).expect_err("never");
        assert_eq!(rule, "protected");
        assert_eq!(why, "namespace kube-system is protected always; do this");
        guard.may_be_hit(&pod("shop", None)).expect("nobody asks for more");
        guard.may_be_hit(&pod("shop", Some("false"))).expect_err("it says no");
    }

    #[test]
    fn where_it_is_asked_for_only_the_enabled_are_hit() {
        let opt_in = OptIn { namespaces: ["shop".to_owned()].into(), ..OptIn::default() };
        let guard = Guard { opt_in: Some(opt_in), ..Guard::default() };
        guard.may_be_hit(&pod("shop", None)).expect("its namespace is enabled");
        guard.may_be_hit(&pod("bank", Some("true"))).expect("it is enabled");
        guard.may_be_hit(&pod("bank", None)).expect_err("nobody enabled it");
        guard.may_be_hit(&pod("bank", Some("yes"))).expect_err("that means nothing");
        guard.may_be_hit(&pod("shop", Some("false"))).expect_err("its own word counts");
    }

    #[test]
    fn a_node_is_asked_itself_and_the_control_plane_is_protected() {
        let says = |enabled, is_control_plane| NodeSays { enabled, is_control_plane };
        let nodes = [
            ("cp", says(None, true)),
            ("on", says(Some(true), false)),
            ("off", says(Some(false), false)),
            ("silent", says(None, false)),
        ];
        let nodes = nodes.map(|(name, says)| (name.to_owned(), says)).into();
        let namespaces = BTreeMap::from([(SYSTEM.to_owned(), "; do this".to_owned())]);
        let mut guard = Guard { namespaces, nodes, opt_in: None };
        let rule = |guard: &Guard, node: &str| guard.may_be_changed(node).err().map(|(r, ..)| r);
        let all = |guard: &Guard| ["cp", "on", "off", "silent"].map(|node| rule(guard, node));
        assert_eq!(all(&guard), [Some("protected"), None, Some("optIn"), None]);
        guard.opt_in = Some(OptIn::default());
        assert_eq!(all(&guard), [Some("protected"), None, Some("optIn"), Some("optIn")]);
        guard.namespaces.clear();
        assert_eq!(rule(&guard, "cp"), Some("optIn"), "allowed, and not enabled");
    }
}
