//! What the controller may do in the cluster: one table, as small as it can be, with the reason for each line.
//!
//! Agents may do nothing: they have a service account so that nobody gives them the namespace's default one, no rule
//! names it, and no token of it is mounted.

use serde_json::{Value, json};

use super::{
    super::{
        fault::PERMISSIONS,
        names::{AGENT, AGENT_SECRET, CA_SECRET, CONTROLLER, CONTROLLER_SECRET},
    },
    object::{
        CLUSTER_ROLE, CLUSTER_ROLE_BINDING, Object, ROLE, ROLE_BINDING, SERVICE_ACCOUNT,
        cluster_name,
    },
};

/// Some verbs on some resources, and what for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    /// The API group; empty for the core.
    pub(super) group: &'static str,
    pub(super) resources: &'static [&'static str],
    pub(super) verbs: &'static [&'static str],
    /// Only objects of these names; any, if empty.
    pub(super) names: &'static [&'static str],
    /// What for. Not in the manifest; here for whoever reads the table.
    #[allow(dead_code, reason = "the reason is part of the table")]
    pub(super) why: &'static str,
}

const fn rule(
    group: &'static str,
    resources: &'static [&'static str],
    verbs: &'static [&'static str],
    why: &'static str,
) -> Rule {
    Rule { group, resources, verbs, names: &[], why }
}

const READ: &[&str] = &["get", "list", "watch"];

/// In the whole cluster, beside what faults through the API server need ([`PERMISSIONS`]).
pub(super) const CLUSTER_RULES: &[Rule] = &[
    rule("", &["pods"], READ, "targets, agents, and how a system recovers"),
    rule(
        "",
        &["nodes", "services", "namespaces"],
        READ,
        "targets by node, zone, Service or namespace",
    ),
    rule(
        "policy",
        &["poddisruptionbudgets"],
        &["list"],
        "what budgets allow, of the pods that would be hit",
    ),
    rule("coordination.k8s.io", &["leases"], &["get"], "leaders by the holder of a Lease"),
    rule(
        "",
        &["endpoints"],
        READ,
        "leaders by the annotation of an older election; probes of a Service where no slices are served",
    ),
    rule("discovery.k8s.io", &["endpointslices"], READ, "probes of a Service"),
    // Workloads are among what faults need; of autoscalers these only list.
    rule("autoscaling", &["horizontalpodautoscalers"], READ, "probes of an autoscaler"),
    rule("", &["events"], &["create"], "what a run does, on the pods and nodes that it is done to"),
    rule("", &["pods/exec"], &["create", "get"], "probes and leaders by the answer of a command"),
    rule(
        "",
        &["pods/portforward"],
        &["create", "get"],
        "agents, for who runs outside of the cluster",
    ),
];

/// In the namespace of the installation.
pub(super) const NAMESPACE_RULES: &[Rule] = &[
    Rule {
        names: &[CA_SECRET, AGENT_SECRET, CONTROLLER_SECRET],
        ..rule("", &["secrets"], &["get", "patch"], "its identity, and the renewal of certificates")
    },
    rule("", &["configmaps"], &["create", "list", "delete"], "what the newest runs came to"),
    rule("apps", &["daemonsets"], &["get"], "which nodes should have an agent"),
    rule(
        "coordination.k8s.io",
        &["leases"],
        &["get", "list", "watch", "create", "update", "patch", "delete"],
        "the election of a leader, and one run at a time for each target",
    ),
];

fn role(rules: &[Rule]) -> Value {
    let rules = rules.iter().map(|rule| {
        let mut value = json!({
            "apiGroups": [rule.group],
            "resources": rule.resources,
            "verbs": rule.verbs,
        });
        if !rule.names.is_empty() {
            value["resourceNames"] = json!(rule.names);
        }
        value
    });
    json!({ "rules": rules.collect::<Vec<_>>() })
}

fn cluster_role() -> Value {
    let mut role = role(CLUSTER_RULES);
    let faults = PERMISSIONS.iter().map(|permission| {
        json!({
            "apiGroups": [permission.group],
            "resources": [permission.resource],
            "verbs": permission.verbs,
        })
    });
    if let Some(rules) = role["rules"].as_array_mut() {
        rules.extend(faults);
    }
    role
}

fn binding(kind: &str, role: &str, namespace: &str) -> Value {
    json!({
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role },
        "subjects": [{ "kind": "ServiceAccount", "name": CONTROLLER, "namespace": namespace }],
    })
}

/// The service accounts, and what they may do.
pub(super) fn objects(namespace: &str) -> Vec<Object> {
    let cluster = cluster_name(CONTROLLER, namespace);
    let account = |name| {
        let body = json!({ "automountServiceAccountToken": false });
        Object::new(SERVICE_ACCOUNT, namespace, name, name, body)
    };
    let of = |kind, name: &str, body| Object::new(kind, namespace, CONTROLLER, name, body);
    vec![
        account(AGENT),
        account(CONTROLLER),
        of(CLUSTER_ROLE, &cluster, cluster_role()),
        of(CLUSTER_ROLE_BINDING, &cluster, binding("ClusterRole", &cluster, namespace)),
        of(ROLE, CONTROLLER, role(NAMESPACE_RULES)),
        of(ROLE_BINDING, CONTROLLER, binding("Role", CONTROLLER, namespace)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_may_do_anything_with_everything() {
        for rule in CLUSTER_RULES.iter().chain(NAMESPACE_RULES) {
            let all = rule.resources.iter().chain(rule.verbs).chain(rule.names);
            assert!(!all.chain([&rule.group]).any(|word| word.contains('*')), "{rule:?}");
            assert!(!rule.why.is_empty());
            let secrets = rule.resources.contains(&"secrets");
            assert!(!secrets || !rule.names.is_empty(), "all secrets: {rule:?}");
        }
        assert!(!CLUSTER_RULES.iter().any(|rule| rule.resources.contains(&"secrets")));
    }

    /// What a `kubernetes` probe lists and watches, whatever kind of object it is of.
    #[test]
    fn whatever_a_probe_looks_at_may_be_watched() {
        let role = cluster_role();
        let rules = role["rules"].as_array().expect("rules");
        for (group, resource) in [
            ("", "endpoints"),
            ("discovery.k8s.io", "endpointslices"),
            ("apps", "deployments"),
            ("apps", "statefulsets"),
            ("apps", "daemonsets"),
            ("autoscaling", "horizontalpodautoscalers"),
        ] {
            let has =
                |list: &Value, word| list.as_array().is_some_and(|l| l.contains(&json!(word)));
            for verb in READ {
                let may = rules.iter().any(|rule| {
                    has(&rule["apiGroups"], group)
                        && has(&rule["resources"], resource)
                        && has(&rule["verbs"], verb)
                });
                assert!(may, "{verb} {resource}.{group}");
            }
        }
    }

    #[test]
    fn agents_may_do_nothing() {
        let text = serde_json::to_string(
            &objects("faultline").iter().map(|o| &o.value).collect::<Vec<_>>(),
        )
        .expect("JSON");
        let subjects = text.matches(&format!("\"name\":\"{AGENT}\"")).count();
        assert_eq!(subjects, 1, "its account, and no binding: {text}");
    }
}
