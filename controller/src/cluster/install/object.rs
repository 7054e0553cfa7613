//! Objects of a cluster as they are written in manifests.

use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Map, Value, json};

use super::super::names::COMPONENT_LABEL;

/// The label of everything that belongs to Faultline.
pub(super) const PART_OF_LABEL: &str = "app.kubernetes.io/part-of";
/// Its value.
pub(super) const PART_OF: &str = "faultline";
/// The label with the namespace of the installation that an object belongs to.
pub(super) const INSTANCE_LABEL: &str = "app.kubernetes.io/instance";

/// A kind of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    group: &'static str,
    version: &'static str,
    name: &'static str,
    plural: &'static str,
    /// Whether its objects are in namespaces.
    pub(super) is_namespaced: bool,
}

const fn kind(
    group: &'static str,
    version: &'static str,
    name: &'static str,
    plural: &'static str,
    is_namespaced: bool,
) -> Kind {
    Kind { group, version, name, plural, is_namespaced }
}

const RBAC: &str = "rbac.authorization.k8s.io";

pub(super) const NAMESPACE: Kind = kind("", "v1", "Namespace", "namespaces", false);
pub(super) const PRIORITY_CLASS: Kind =
    kind("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", false);
pub(super) const CLUSTER_ROLE: Kind = kind(RBAC, "v1", "ClusterRole", "clusterroles", false);
pub(super) const CLUSTER_ROLE_BINDING: Kind =
    kind(RBAC, "v1", "ClusterRoleBinding", "clusterrolebindings", false);
pub(super) const ROLE: Kind = kind(RBAC, "v1", "Role", "roles", true);
pub(super) const ROLE_BINDING: Kind = kind(RBAC, "v1", "RoleBinding", "rolebindings", true);
pub(super) const SERVICE_ACCOUNT: Kind = kind("", "v1", "ServiceAccount", "serviceaccounts", true);
pub(super) const SECRET: Kind = kind("", "v1", "Secret", "secrets", true);
pub(super) const SERVICE: Kind = kind("", "v1", "Service", "services", true);
pub(super) const NETWORK_POLICY: Kind =
    kind("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", true);
pub(super) const DAEMON_SET: Kind = kind("apps", "v1", "DaemonSet", "daemonsets", true);
pub(super) const DEPLOYMENT: Kind = kind("apps", "v1", "Deployment", "deployments", true);
pub(super) const POD: Kind = kind("", "v1", "Pod", "pods", true);
pub(super) const LEASE: Kind = kind("coordination.k8s.io", "v1", "Lease", "leases", true);
pub(super) const CONFIG_MAP: Kind = kind("", "v1", "ConfigMap", "configmaps", true);

impl Kind {
    /// As the client knows it.
    pub(super) fn api_resource(self) -> ApiResource {
        let gvk = GroupVersionKind::gvk(self.group, self.version, self.name);
        ApiResource::from_gvk_with_plural(&gvk, self.plural)
    }

    /// As access rules name it: `deployments.apps`.
    pub(super) fn resource(self) -> String {
        match self.group {
            "" => self.plural.into(),
            group => format!("{}.{group}", self.plural),
        }
    }

    /// Its name: `Deployment`.
    pub(super) fn name(self) -> &'static str {
        self.name
    }
}

/// An object of a manifest.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Object {
    pub(super) kind: Kind,
    pub(super) namespace: Option<String>,
    pub(super) name: String,
    /// All of it, as it is sent and printed.
    pub(super) value: Value,
}

impl Object {
    /// One of a component of the installation in `installation`; `body` is what it has beside its metadata.
    pub(super) fn new(
        kind: Kind,
        installation: &str,
        component: &str,
        name: &str,
        body: Value,
    ) -> Self {
        let namespace = kind.is_namespaced.then(|| installation.to_owned());
        let mut metadata = Map::new();
        metadata.insert("name".into(), name.into());
        metadata.insert("labels".into(), labels(installation, component));
        if let Some(namespace) = &namespace {
            metadata.insert("namespace".into(), namespace.as_str().into());
        }
        let mut value = Map::new();
        let resource = kind.api_resource();
        value.insert("apiVersion".into(), resource.api_version.into());
        value.insert("kind".into(), kind.name.into());
        value.insert("metadata".into(), metadata.into());
        if let Value::Object(body) = body {
            value.extend(body);
        }
        Self { kind, namespace, name: name.into(), value: value.into() }
    }

    /// The same, with another label.
    #[must_use]
    pub(super) fn labelled(mut self, label: &str, text: &str) -> Self {
        self.value["metadata"]["labels"][label] = text.into();
        self
    }

    /// For a person: `Deployment faultline/faultline-controller`.
    pub(super) fn title(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{} {namespace}/{}", self.kind.name, self.name),
            None => format!("{} {}", self.kind.name, self.name),
        }
    }
}

/// The labels of an object of an installation.
pub(super) fn labels(installation: &str, component: &str) -> Value {
    json!({
        PART_OF_LABEL: PART_OF,
        INSTANCE_LABEL: installation,
        COMPONENT_LABEL: component,
    })
}

/// The name of an object that is in no namespace: two installations in one cluster must not share it.
pub(super) fn cluster_name(base: &str, installation: &str) -> String {
    if installation == super::super::names::NAMESPACE_DEFAULT {
        base.into()
    } else {
        format!("{base}-{installation}")
    }
}
