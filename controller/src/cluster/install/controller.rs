//! The controller's `Deployment`, and who may reach it.

use serde_json::{Value, json};

use super::{
    super::names::{COMPONENT_LABEL, CONTROLLER, CONTROLLER_METRICS_PORT},
    object::{DEPLOYMENT, INSTANCE_LABEL, NETWORK_POLICY, Object, labels},
    settings::Settings,
};

/// An id that belongs to nobody.
const USER: u32 = 65_532;

/// The objects of the controller.
pub(super) fn objects(settings: &Settings) -> Vec<Object> {
    let namespace = settings.namespace.as_str();
    let of = |kind, body| Object::new(kind, namespace, CONTROLLER, CONTROLLER, body);
    vec![of(NETWORK_POLICY, network_policy()), of(DEPLOYMENT, deployment(settings))]
}

/// Nobody connects to a pod of this namespace, but for metrics. (Agents are in the network of their nodes, which no
/// policy governs: they are protected by their certificates.)
fn network_policy() -> Value {
    json!({ "spec": {
        "podSelector": {},
        "policyTypes": ["Ingress"],
        "ingress": [{ "ports": [{ "port": CONTROLLER_METRICS_PORT, "protocol": "TCP" }] }],
    }})
}

fn deployment(settings: &Settings) -> Value {
    let namespace = settings.namespace.as_str();
    json!({ "spec": {
        "replicas": 1,
        "selector": { "matchLabels": { COMPONENT_LABEL: CONTROLLER, INSTANCE_LABEL: namespace } },
        "template": {
            "metadata": { "labels": labels(namespace, CONTROLLER) },
            "spec": {
                "serviceAccountName": CONTROLLER,
                "automountServiceAccountToken": true,
                "enableServiceLinks": false,
                "nodeSelector": { "kubernetes.io/os": "linux" },
                "securityContext": {
                    "runAsNonRoot": true,
                    "runAsUser": USER,
                    "runAsGroup": USER,
                    "seccompProfile": { "type": "RuntimeDefault" },
                },
                "containers": [container(settings)],
            },
        },
    }})
}

fn container(settings: &Settings) -> Value {
    let field = |name: &str, path: &str| json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } });
    let health = json!({ "path": "/healthz", "port": "metrics" });
    json!({
        "name": "controller",
        "image": settings.images.controller(),
        "imagePullPolicy": "IfNotPresent",
        "command": ["/faultline"],
        "args": ["controller"],
        "env": [
            field("POD_NAME", "metadata.name"),
            field("FAULTLINE_INSTALLATION", "metadata.namespace"),
        ],
        "ports": [{ "name": "metrics", "containerPort": CONTROLLER_METRICS_PORT, "protocol": "TCP" }],
        "readinessProbe": { "httpGet": health, "periodSeconds": 5 },
        "livenessProbe": { "httpGet": health, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6 },
        "resources": {
            "requests": { "cpu": "10m", "memory": "64Mi" },
            "limits": { "memory": "512Mi" },
        },
        "securityContext": {
            "privileged": false,
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": { "drop": ["ALL"] },
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
    })
}
