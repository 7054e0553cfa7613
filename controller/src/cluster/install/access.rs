//! What whoever asks may do, asked before anything is changed.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::{Api, api::PostParams};
use serde_json::{Value, json};

use super::super::{
    connect::Connection,
    error::{Asked, ClusterError},
};

/// Questions at once.
const CONCURRENT_MAX: usize = 8;

/// Those of some things that this user may not do.
///
/// # Errors
/// When the API server cannot be asked.
pub(crate) async fn missing(
    connection: &Connection,
    wanted: Vec<Asked>,
) -> Result<Vec<Asked>, ClusterError> {
    let asking = wanted.into_iter().map(|asked| async move {
        Ok(if may(connection, &asked).await? { None } else { Some(asked) })
    });
    let answers: Vec<Option<Asked>> =
        stream::iter(asking).buffered(CONCURRENT_MAX).try_collect().await?;
    Ok(answers.into_iter().flatten().collect())
}

async fn may(connection: &Connection, wanted: &Asked) -> Result<bool, ClusterError> {
    // `deployments.apps`, `pods/exec`
    let (name, group) = wanted.resource.split_once('.').unwrap_or((&wanted.resource, ""));
    let (resource, subresource) = match name.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
        None => (name, None),
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                group: Some(group.into()),
                resource: Some(resource.into()),
                subresource,
                verb: Some(wanted.verb.into()),
                namespace: wanted.namespace.clone(),
                name: wanted.name.clone(),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let api: Api<SelfSubjectAccessReview> = Api::all(connection.client());
    let asked = Asked::new("create", "selfsubjectaccessreviews.authorization.k8s.io");
    let answer = connection.answer(asked, api.create(&PostParams::default(), &review)).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

/// Who asks, as the API server knows them; `None` where it does not tell (before Kubernetes 1.28).
pub(crate) async fn whoami(connection: &Connection) -> Option<String> {
    let body = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview" });
    let request = http::Request::post("/apis/authentication.k8s.io/v1/selfsubjectreviews")
        .header("content-type", "application/json")
        .body(serde_json::to_vec(&body).ok()?)
        .ok()?;
    let asked = Asked::new("create", "selfsubjectreviews.authentication.k8s.io");
    let client = connection.client();
    let answer = connection.answer(asked, client.request::<Value>(request)).await.ok()?;
    Some(answer["status"]["userInfo"]["username"].as_str()?.to_owned())
}
