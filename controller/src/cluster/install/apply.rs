//! Objects, brought into a cluster and out of it. What others own of an object stays theirs: this is server-side
//! apply (since Kubernetes 1.18), and what somebody else has set to another value is set to ours.

use kube::{
    Api,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PropagationPolicy},
};

use super::{
    super::{
        connect::Connection,
        error::{Asked, ClusterError},
    },
    object::{Kind, Object},
};

/// Who owns the fields that are set here, as the API server notes it.
pub(super) const FIELD_MANAGER: &str = "faultline-install";

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Applied {
    Created,
    Changed,
    Unchanged,
}

/// All objects of a kind, or those of a namespace.
pub(super) fn api(
    connection: &Connection,
    kind: Kind,
    namespace: Option<&str>,
) -> Api<DynamicObject> {
    match namespace {
        Some(namespace) => {
            Api::namespaced_with(connection.client(), namespace, &kind.api_resource())
        }
        None => Api::all_with(connection.client(), &kind.api_resource()),
    }
}

fn asked(verb: &'static str, kind: Kind, namespace: Option<&str>, name: &str) -> Asked {
    let asked = Asked::new(verb, kind.resource()).named(name);
    match namespace {
        Some(namespace) => asked.within(namespace),
        None => asked,
    }
}

/// An object as it is; `None` if it is not there.
pub(super) async fn get(
    connection: &Connection,
    kind: Kind,
    namespace: Option<&str>,
    name: &str,
) -> Result<Option<DynamicObject>, ClusterError> {
    let api = api(connection, kind, namespace);
    connection.answer(asked("get", kind, namespace, name), api.get_opt(name)).await
}

/// Makes an object what it should be.
pub(super) async fn apply(
    connection: &Connection,
    object: &Object,
) -> Result<Applied, ClusterError> {
    let namespace = object.namespace.as_deref();
    let before = get(connection, object.kind, namespace, &object.name).await?;
    let after = patch(connection, object, &PatchParams::apply(FIELD_MANAGER).force()).await?;
    Ok(match before {
        None => Applied::Created,
        Some(before) if before.metadata.resource_version == after.metadata.resource_version => {
            Applied::Unchanged
        }
        Some(_) => Applied::Changed,
    })
}

/// Asks whether an object could be made what it should be, and changes nothing.
pub(super) async fn rehearse(connection: &Connection, object: &Object) -> Result<(), ClusterError> {
    let params = PatchParams::apply(FIELD_MANAGER).force().dry_run();
    patch(connection, object, &params).await.map(drop)
}

async fn patch(
    connection: &Connection,
    object: &Object,
    params: &PatchParams,
) -> Result<DynamicObject, ClusterError> {
    let namespace = object.namespace.as_deref();
    let api = api(connection, object.kind, namespace);
    let asked = asked("patch", object.kind, namespace, &object.name);
    let patch = Patch::Apply(&object.value);
    connection.answer(asked, api.patch(&object.name, params, &patch)).await
}

/// Deletes an object, and what belongs to it first. Returns whether it was there.
pub(super) async fn delete(
    connection: &Connection,
    kind: Kind,
    namespace: Option<&str>,
    name: &str,
) -> Result<bool, ClusterError> {
    let params = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Foreground),
        ..DeleteParams::default()
    };
    let api = api(connection, kind, namespace);
    match connection.answer(asked("delete", kind, namespace, name), api.delete(name, &params)).await
    {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

/// The names of the objects of a kind that have some labels, `key=value,…`.
pub(super) async fn names(
    connection: &Connection,
    kind: Kind,
    namespace: Option<&str>,
    labels: &str,
) -> Result<Vec<String>, ClusterError> {
    let api = api(connection, kind, namespace);
    let asked = Asked::new("list", kind.resource());
    let asked = match namespace {
        Some(namespace) => asked.within(namespace),
        None => asked,
    };
    let params = ListParams::default().labels(labels);
    let list = connection.answer(asked, api.list(&params)).await?;
    Ok(list.items.into_iter().filter_map(|object| object.metadata.name).collect())
}
