//! Which Services send traffic to a pod. Pure.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1;

use crate::place::Pod;

/// Services that choose their pods by labels.
#[derive(Debug)]
pub(super) struct Services(Vec<Service>);

#[derive(Debug)]
struct Service {
    namespace: String,
    name: String,
    selector: BTreeMap<String, String>,
}

impl Services {
    /// Of all Services, those that choose pods: one without a selector, or for a name elsewhere, chooses none.
    pub(super) fn of(services: &[Arc<v1::Service>]) -> Self {
        let service = |service: &Arc<v1::Service>| {
            let spec = service.spec.as_ref()?;
            let selector = spec.selector.clone().filter(|selector| !selector.is_empty())?;
            if spec.type_.as_deref() == Some("ExternalName") {
                return None;
            }
            Some(Service {
                namespace: service.metadata.namespace.clone()?,
                name: service.metadata.name.clone()?,
                selector,
            })
        };
        Self(services.iter().filter_map(service).collect())
    }

    /// The names of those that choose a pod, in order.
    pub(super) fn in_front_of(&self, pod: &Pod) -> Vec<String> {
        let chooses = |service: &&Service| {
            let mut selector = service.selector.iter();
            service.namespace == pod.namespace
                && selector.all(|(name, value)| pod.labels.get(name) == Some(value))
        };
        let mut names: Vec<String> =
            self.0.iter().filter(chooses).map(|service| service.name.clone()).collect();
        names.sort();
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_chooses_pods_of_its_namespace_by_labels() {
        let service = |text: &str| -> Arc<v1::Service> {
            Arc::new(serde_json::from_str(text).expect("a service"))
        };
        let services = Services::of(&[
            service(
                r#"{"metadata": {"namespace": "shop", "name": "web"}, "spec": {"selector": {"app": "web"}}}"#,
            ),
            service(
                r#"{"metadata": {"namespace": "shop", "name": "api"}, "spec": {"selector": {"app": "web", "tier": "x"}}}"#,
            ),
            service(r#"{"metadata": {"namespace": "shop", "name": "all"}, "spec": {}}"#),
            service(
                r#"{"metadata": {"namespace": "other", "name": "web2"}, "spec": {"selector": {"app": "web"}}}"#,
            ),
        ]);
        let labels = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
        let pod = Pod { namespace: "shop".into(), labels, ..Pod::default() };
        assert_eq!(services.in_front_of(&pod), ["web"]);
    }
}
