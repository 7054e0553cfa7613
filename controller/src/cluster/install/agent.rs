//! The agents' `DaemonSet`, and what it needs.

use serde_json::{Value, json};

use super::{
    super::names::{
        AGENT, AGENT_METRICS_PORT, AGENT_PORT, AGENT_PORT_NAME, AGENT_SECRET, CA_FILE, CERT_FILE,
        COMPONENT_LABEL, KEY_FILE,
    },
    object::{DAEMON_SET, INSTANCE_LABEL, Object, PRIORITY_CLASS, SERVICE, cluster_name, labels},
    settings::Settings,
};

/// What agents need, as `agent/src/kernel/capabilities.rs` says it and why; a test compares them.
pub(super) const CAPABILITIES: [&str; 8] = [
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "KILL",
    "NET_ADMIN",
    "NET_RAW",
    "SYS_ADMIN",
    "SYS_PTRACE",
    "SYS_RESOURCE",
];

/// By this `AppArmor` is told of before Kubernetes 1.30. Its default profile forbids a container to look into the
/// namespaces of another one's processes.
const APPARMOR_ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/agent";
/// The first minor version of Kubernetes 1 that knows the field of that name.
const APPARMOR_FIELD_SINCE: u32 = 30;
/// What an agent takes to revert everything, and a little more.
const GRACE_SECONDS: u32 = 30;
/// Below those of the system, above those of workloads: a node that is short of room must not lose its agent.
const PRIORITY: u32 = 900_000_000;

/// The objects of the agents; `minor` is the version of the server, where it is known.
pub(super) fn objects(settings: &Settings, minor: Option<u32>) -> Vec<Object> {
    let namespace = settings.namespace.as_str();
    let of = |kind, name: &str, body| Object::new(kind, namespace, AGENT, name, body);
    vec![
        of(PRIORITY_CLASS, &cluster_name(AGENT, namespace), priority_class()),
        of(SERVICE, AGENT, service(namespace)),
        of(DAEMON_SET, AGENT, daemon_set(settings, minor)),
    ]
}

fn priority_class() -> Value {
    json!({
        "value": PRIORITY,
        "preemptionPolicy": "Never",
        "description": "Faultline's agents: what takes a fault back must not be the first to go.",
    })
}

fn selector(namespace: &str) -> Value {
    json!({ COMPONENT_LABEL: AGENT, INSTANCE_LABEL: namespace })
}

/// Headless: by it Prometheus finds all agents.
fn service(namespace: &str) -> Value {
    json!({ "spec": {
        "clusterIP": "None",
        "selector": selector(namespace),
        "ports": [{ "name": "metrics", "port": AGENT_METRICS_PORT, "targetPort": "metrics", "protocol": "TCP" }],
    }})
}

fn daemon_set(settings: &Settings, minor: Option<u32>) -> Value {
    let has_field = minor.is_some_and(|minor| minor >= APPARMOR_FIELD_SINCE);
    let namespace = settings.namespace.as_str();
    let mut template = json!({
        "metadata": { "labels": labels(namespace, AGENT) },
        "spec": pod(settings),
    });
    if !settings.privileged {
        if has_field {
            template["spec"]["securityContext"]["appArmorProfile"] =
                json!({ "type": "Unconfined" });
        } else {
            template["metadata"]["annotations"] = json!({ APPARMOR_ANNOTATION: "unconfined" });
        }
    }
    json!({ "spec": {
        "selector": { "matchLabels": selector(namespace) },
        // The port is the node's: the old agent of a node goes first. The others hold theirs meanwhile.
        "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": "25%" } },
        "template": template,
    }})
}

fn pod(settings: &Settings) -> Value {
    let mut node_selector = json!({ "kubernetes.io/os": "linux" });
    for (label, value) in &settings.node_selector {
        node_selector[label] = value.as_str().into();
    }
    let files = [CA_FILE, CERT_FILE, KEY_FILE].map(|file| json!({ "key": file, "path": file }));
    json!({
        "serviceAccountName": AGENT,
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        // Processes and network namespaces of pods are the node's.
        "hostPID": true,
        "hostNetwork": true,
        "dnsPolicy": "ClusterFirstWithHostNet",
        "priorityClassName": cluster_name(AGENT, &settings.namespace),
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "nodeSelector": node_selector,
        "tolerations": [{ "operator": "Exists" }],
        "securityContext": { "runAsUser": 0, "seLinuxOptions": { "type": "spc_t" } },
        "containers": [container(settings)],
        "volumes": [
            { "name": "tls", "secret": {
                "secretName": AGENT_SECRET,
                "defaultMode": 0o400,
                "items": files,
            }},
            { "name": "state", "hostPath": { "path": settings.state_dir, "type": "DirectoryOrCreate" } },
            { "name": "pods", "hostPath": { "path": "/var/log/pods", "type": "DirectoryOrCreate" } },
            { "name": "cgroup", "hostPath": { "path": "/sys/fs/cgroup", "type": "Directory" } },
        ],
    })
}

fn container(settings: &Settings) -> Value {
    let mut arguments = vec![
        format!("--listen=0.0.0.0:{AGENT_PORT}"),
        format!("--metrics-listen=0.0.0.0:{AGENT_METRICS_PORT}"),
        format!("--state-dir={}", settings.state_dir),
        "--log-format=json".into(),
    ];
    let protected = settings.protected().into_iter();
    arguments.extend(protected.map(|namespace| format!("--protect-namespace={namespace}")));
    let health = json!({ "path": "/healthz", "port": "metrics" });
    json!({
        "name": "agent",
        "image": settings.images.agent(),
        "imagePullPolicy": "IfNotPresent",
        "command": ["/faultline-agent"],
        "args": arguments,
        "env": [{ "name": "NODE_NAME", "valueFrom": { "fieldRef": { "fieldPath": "spec.nodeName" } } }],
        "ports": [
            { "name": AGENT_PORT_NAME, "containerPort": AGENT_PORT, "protocol": "TCP" },
            { "name": "metrics", "containerPort": AGENT_METRICS_PORT, "protocol": "TCP" },
        ],
        // What an earlier agent left is taken back before anything is served.
        "startupProbe": { "httpGet": health, "periodSeconds": 1, "failureThreshold": 120 },
        "readinessProbe": { "httpGet": health, "periodSeconds": 2 },
        // It says itself when it has hung for 30 s.
        "livenessProbe": { "httpGet": health, "periodSeconds": 10, "timeoutSeconds": 5 },
        "resources": {
            "requests": { "cpu": "10m", "memory": "32Mi" },
            "limits": { "memory": "256Mi" },
        },
        "securityContext": security(settings),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            { "name": "tls", "mountPath": "/etc/faultline/tls", "readOnly": true },
            { "name": "state", "mountPath": settings.state_dir },
            { "name": "pods", "mountPath": "/var/log/pods", "readOnly": true },
            // The node's own, whole and writable, in the place of the container's view of itself: memory is put
            // under pressure in targets' groups, and who has stopped a process must outlive the agent's group.
            { "name": "cgroup", "mountPath": "/sys/fs/cgroup" },
        ],
    })
}

fn security(settings: &Settings) -> Value {
    if settings.privileged {
        return json!({ "privileged": true, "readOnlyRootFilesystem": true });
    }
    let without = &settings.without_capabilities;
    let capabilities = CAPABILITIES.into_iter().filter(|name| !without.contains(name));
    let capabilities: Vec<&str> = capabilities.collect();
    json!({
        "privileged": false,
        "allowPrivilegeEscalation": true,
        "readOnlyRootFilesystem": true,
        "capabilities": { "drop": ["ALL"], "add": capabilities },
        "seccompProfile": { "type": "RuntimeDefault" },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(settings: &Settings, minor: Option<u32>) -> Value {
        let daemon_set = objects(settings, minor).pop().expect("it is the last");
        assert_eq!(daemon_set.kind, DAEMON_SET);
        daemon_set.value
    }

    #[test]
    fn an_agent_has_what_it_needs_and_no_token() {
        let set = of(&Settings::default(), None);
        let pod = &set["spec"]["template"]["spec"];
        assert_eq!(pod["automountServiceAccountToken"], false);
        assert_eq!(pod["containers"][0]["securityContext"]["privileged"], false);
        let arguments = pod["containers"][0]["args"].to_string();
        assert!(arguments.contains("--protect-namespace=kube-system"), "{arguments}");
    }

    #[test]
    fn apparmor_is_told_in_the_way_that_the_server_knows() {
        let annotation = |set: &Value| {
            set["spec"]["template"]["metadata"]["annotations"][APPARMOR_ANNOTATION].clone()
        };
        let field = |set: &Value| {
            set["spec"]["template"]["spec"]["securityContext"]["appArmorProfile"]["type"].clone()
        };
        for minor in [None, Some(20), Some(29)] {
            let set = of(&Settings::default(), minor);
            assert_eq!((annotation(&set), field(&set)), ("unconfined".into(), Value::Null));
        }
        let set = of(&Settings::default(), Some(30));
        assert_eq!((annotation(&set), field(&set)), (Value::Null, "Unconfined".into()));
    }

    #[test]
    fn the_capabilities_are_those_that_the_agent_keeps() {
        let needed = include_str!("../../../../agent/src/kernel/capabilities.rs");
        let needed: Vec<&str> = needed
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Capability::CAP_")?.strip_suffix(','))
            .collect();
        assert_eq!(needed, CAPABILITIES);
    }
}
