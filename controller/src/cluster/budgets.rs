//! `PodDisruptionBudget`s: which pods each covers, and how many of them may be away now.

use std::collections::BTreeMap;

use kube::{
    Api,
    api::{ApiResource, DynamicObject, ListParams},
};
use serde::Deserialize;

use super::{Asked, Cluster, ClusterError};
use crate::place::Pod;

/// The versions in which servers have budgets, the newest first: 1.20 has the second only.
const VERSIONS: [&str; 2] = ["v1", "v1beta1"];

/// A budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// How many of its pods may be disrupted now, as Kubernetes counts them.
    pub disruptions_allowed: i64,
    selector: Option<LabelSelector>,
    /// Whether a selector without a condition means everybody: not in the older version.
    empty_is_everybody: bool,
}

/// Kubernetes' selector of labels.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct LabelSelector {
    match_labels: BTreeMap<String, String>,
    match_expressions: Vec<Expression>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Expression {
    key: String,
    operator: String,
    #[serde(default)]
    values: Vec<String>,
}

impl Expression {
    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        match self.operator.as_str() {
            "In" => value.is_some_and(|value| self.values.contains(value)),
            "NotIn" => value.is_none_or(|value| !self.values.contains(value)),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            // What is not known here is taken for a cover: it is the careful side.
            _ => true,
        }
    }
}

impl Budget {
    /// Whether it covers a pod.
    pub fn covers(&self, pod: &Pod) -> bool {
        let Some(selector) = &self.selector else { return false };
        let is_empty = selector.match_labels.is_empty() && selector.match_expressions.is_empty();
        pod.namespace == self.namespace
            && (self.empty_is_everybody || !is_empty)
            && selector.match_labels.iter().all(|(key, value)| pod.labels.get(key) == Some(value))
            && selector.match_expressions.iter().all(|one| one.matches(&pod.labels))
    }

    fn read(object: &DynamicObject, version: &str) -> Option<Self> {
        let (spec, status) = (&object.data["spec"], &object.data["status"]);
        let selector = spec.get("selector").cloned();
        Some(Self {
            namespace: object.metadata.namespace.clone()?,
            name: object.metadata.name.clone()?,
            disruptions_allowed: status["disruptionsAllowed"].as_i64().unwrap_or(0),
            selector: selector.and_then(|selector| serde_json::from_value(selector).ok()),
            empty_is_everybody: version == "v1",
        })
    }
}

impl Cluster {
    /// All budgets, as they are now.
    ///
    /// # Errors
    /// When they are not told.
    pub async fn budgets(&self) -> Result<Vec<Budget>, ClusterError> {
        let mut last = None;
        for version in VERSIONS {
            let resource = ApiResource {
                group: "policy".into(),
                version: version.into(),
                api_version: format!("policy/{version}"),
                kind: "PodDisruptionBudget".into(),
                plural: "poddisruptionbudgets".into(),
            };
            let api: Api<DynamicObject> = Api::all_with(self.connection.client(), &resource);
            let asked = Asked::new("list", "poddisruptionbudgets.policy");
            match self.connection.answer(asked, api.list(&ListParams::default())).await {
                Ok(list) => {
                    let all = list.items.iter();
                    return Ok(all.filter_map(|one| Budget::read(one, version)).collect());
                }
                // A server that has no such version.
                Err(error) if error.is_not_found() => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        last.map_or(Ok(Vec::new()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(selector: &str, version: &str) -> Budget {
        let text = format!(
            r#"{{"apiVersion": "policy/{version}", "kind": "PodDisruptionBudget",
            "metadata": {{"namespace": "shop", "name": "b"}}, "spec": {{"selector": {selector}}},
            "status": {{"disruptionsAllowed": 2}}}}"#
        );
        Budget::read(&serde_json::from_str(&text).expect("an object"), version).expect("a budget")
    }

    fn pod(namespace: &str, app: &str) -> Pod {
        let labels = BTreeMap::from([("app".to_owned(), app.to_owned())]);
        Pod { namespace: namespace.into(), labels, ..Pod::default() }
    }

    #[test]
    fn a_budget_covers_what_its_selector_says() {
        let api = budget(r#"{"matchLabels": {"app": "api"}}"#, "v1");
        assert_eq!(api.disruptions_allowed, 2);
        assert!(api.covers(&pod("shop", "api")));
        assert!(!api.covers(&pod("shop", "db")));
        assert!(!api.covers(&pod("bank", "api")));
        let not_in =
            r#"{"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["db"]}]}"#;
        assert!(budget(not_in, "v1").covers(&pod("shop", "api")));
        assert!(!budget(not_in, "v1").covers(&pod("shop", "db")));
    }

    #[test]
    fn an_empty_selector_means_everybody_in_the_newer_version_alone() {
        assert!(budget("{}", "v1").covers(&pod("shop", "api")));
        assert!(!budget("{}", "v1beta1").covers(&pod("shop", "api")));
    }
}
