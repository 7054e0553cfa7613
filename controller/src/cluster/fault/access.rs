//! Whether whoever asks may do what a fault needs, asked before anything is done.

use std::collections::BTreeSet;

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::{Api, api::PostParams};

use super::{Change, FaultError, Object, ObjectKind, Planned, PodRef};
use crate::cluster::{ClusterError, connect::Connection, error::Asked};

/// A verb on a resource, in a namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Need {
    verb: &'static str,
    group: &'static str,
    resource: &'static str,
    part: Option<&'static str>,
    namespace: Option<String>,
}

/// What it takes to inject what is planned on an object, and to take it back.
pub(super) fn needs(object: &Object, planned: &Planned) -> BTreeSet<Need> {
    let on = |kind: ObjectKind, verb, namespace: Option<&String>| Need {
        verb,
        group: kind.group(),
        resource: kind.resource(),
        part: None,
        namespace: namespace.cloned(),
    };
    let namespace = object.namespace.as_ref();
    let mut needs = BTreeSet::new();
    if planned.delete.is_some() {
        needs.insert(on(ObjectKind::Pod, "delete", namespace));
    }
    if !planned.changes.is_empty() || planned.mark.is_some() {
        needs.extend(["get", "patch"].map(|verb| on(object.kind, verb, namespace)));
    }
    let is_template = |change: &Change| match change {
        Change::Value { path, .. } | Change::Item { path, .. } => {
            path.starts_with("/spec/template")
        }
    };
    let rolls = planned.changes.iter().any(is_template);
    // What is left beside the object afterwards: see `sweep`.
    match object.kind {
        ObjectKind::Deployment if !planned.changes.is_empty() => {
            needs.extend(["list", "patch"].map(|verb| on(ObjectKind::ReplicaSet, verb, namespace)));
            needs.extend(rolls.then(|| on(ObjectKind::ReplicaSet, "delete", namespace)));
        }
        ObjectKind::StatefulSet | ObjectKind::DaemonSet if !planned.changes.is_empty() => {
            let verbs: &[&str] =
                if rolls { &["list", "patch", "delete"] } else { &["list", "patch"] };
            needs.extend(verbs.iter().map(|verb| Need {
                resource: "controllerrevisions",
                ..on(object.kind, verb, namespace)
            }));
            if object.kind == ObjectKind::StatefulSet {
                needs.insert(on(ObjectKind::Pod, "list", namespace));
                needs.extend(rolls.then(|| on(ObjectKind::Pod, "delete", namespace)));
            }
        }
        _ => {}
    }
    needs.extend(planned.evict.iter().map(|PodRef { namespace, .. }| Need {
        part: Some("eviction"),
        ..on(ObjectKind::Pod, "create", Some(namespace))
    }));
    needs
}

/// Asks whether this user may do all of it.
///
/// # Errors
/// What they may not, with the command that allows it; or that it cannot be asked.
pub(super) async fn check(
    connection: &Connection,
    needs: BTreeSet<Need>,
) -> Result<(), FaultError> {
    let asking = needs.into_iter().map(|need| check_one(connection, need));
    futures::future::try_join_all(asking).await?;
    Ok(())
}

async fn check_one(connection: &Connection, need: Need) -> Result<(), FaultError> {
    let Need { verb, group, resource, part, namespace } = need;
    let attributes = ResourceAttributes {
        verb: Some(verb.into()),
        group: Some(group.into()),
        resource: Some(resource.into()),
        subresource: part.map(str::to_owned),
        namespace: namespace.clone(),
        ..ResourceAttributes::default()
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let api: Api<SelfSubjectAccessReview> = Api::all(connection.client());
    let params = PostParams::default();
    let creating = api.create(&params, &review);
    let asked = Asked::new("create", "selfsubjectaccessreviews.authorization.k8s.io");
    let answer = connection.answer(asked, creating).await?;
    if answer.status.is_some_and(|status| status.allowed) {
        return Ok(());
    }
    let mut name = resource.to_owned();
    if !group.is_empty() {
        name = format!("{name}.{group}");
    }
    if let Some(part) = part {
        name = format!("{name}/{part}");
    }
    let asked = Asked { verb, resource: name, namespace, name: None };
    Err(ClusterError::Denied { asked: Box::new(asked), who: None }.into())
}
