//! What whoever injects through the API server must be allowed to, for `install`, for `doctor`, and to be asked for
//! before anything is done.

/// Verbs on a resource, as in an RBAC rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permission {
    /// The API group; empty for the core group.
    pub group: &'static str,
    /// The resource: `deployments`, `pods/eviction`.
    pub resource: &'static str,
    /// The verbs.
    pub verbs: &'static [&'static str],
    /// What it is needed for: kinds of faults, or who needs it always.
    pub needed_for: &'static str,
}

/// Everything that faults through the API server and those who take them back need.
pub const PERMISSIONS: &[Permission] = &[
    Permission {
        group: "",
        resource: "pods",
        verbs: &["get", "list", "watch", "delete"],
        needed_for: "podDelete; unschedulable and imagePull of StatefulSets; every proof",
    },
    Permission { group: "", resource: "pods/eviction", verbs: &["create"], needed_for: "drain" },
    Permission {
        group: "",
        resource: "nodes",
        verbs: &["get", "list", "watch", "patch"],
        needed_for: "cordon, drain, taint",
    },
    Permission {
        group: "apps",
        resource: "deployments",
        verbs: &["get", "list", "watch", "patch"],
        needed_for: "scale, rolloutRestart, unschedulable, imagePull",
    },
    Permission {
        group: "apps",
        resource: "statefulsets",
        verbs: &["get", "list", "watch", "patch"],
        needed_for: "scale, rolloutRestart, unschedulable, imagePull",
    },
    Permission {
        group: "apps",
        resource: "daemonsets",
        verbs: &["get", "list", "watch", "patch"],
        needed_for: "rolloutRestart, unschedulable, imagePull",
    },
    Permission {
        group: "apps",
        resource: "replicasets",
        verbs: &["get", "list", "watch", "patch", "delete"],
        needed_for: "scale; what a Deployment leaves of scale, unschedulable and imagePull",
    },
    Permission {
        group: "apps",
        resource: "controllerrevisions",
        verbs: &["list", "patch", "delete"],
        needed_for: "what other workloads leave of unschedulable and imagePull",
    },
    Permission {
        group: "autoscaling",
        resource: "horizontalpodautoscalers",
        verbs: &["list"],
        needed_for: "scale: an autoscaler would work against it",
    },
];
