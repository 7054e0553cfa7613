//! Whom no fault may be on, whatever an experiment's selectors say: namespaces that are protected always, and pods that
//! nobody has enabled where that is asked for. Pure: what a place knows of it is handed in.

use std::collections::{BTreeMap, BTreeSet};

use faultline_proto::yaml::Span;

use super::{PlanError, PlannedInjection};
use crate::place::Pod;

/// The label or annotation, of a pod or of its namespace, that says whether faults may be on it.
pub const ENABLED: &str = "faultline.dev/enabled";

/// Whom no fault may be on.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    /// Namespaces that are protected, and what to do about it.
    pub namespaces: BTreeMap<String, String>,
    /// Only those that are enabled may be hit.
    pub opt_in: Option<OptIn>,
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
            for pod in pods.iter().filter(|pod| injection.hits.contains(&pod.uid)) {
                if let Err((rule, why, span)) = self.may_be_hit(pod) {
                    let (kind, pod) = (injection.fault.kind(), pod.target().to_string());
                    return Err(PlanError::Guarded { rule, kind, pod, why, span });
                }
            }
        }
        Ok(())
    }

    /// Whether a fault may be on a pod; if not, the rule that says so, why, and where it is written.
    fn may_be_hit(&self, pod: &Pod) -> Result<(), (&'static str, String, Option<Span>)> {
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
        let guard = Guard { namespaces, opt_in: None };
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
}
