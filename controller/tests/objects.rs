//! Objects of a real cluster, as `kubernetes` probes see them, compared with what is done to them: where
//! `FAULTLINE_TEST_CLUSTER` names a kubeconfig. Needs no agents.

use std::time::Duration;

use faultline::{
    cluster::{ClusterChoice, Connection, ObjectWatch},
    experiment::{Figure, Object, ObjectKind},
};
use k8s_openapi::api::{apps::v1::Deployment, autoscaling::v1::HorizontalPodAutoscaler, core::v1};
use kube::{
    Api, Resource,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::time::{Instant, sleep};

/// A container that does nothing; the nodes must have it.
const IMAGE_DEFAULT: &str = "k8slab.local/pause:1";
const WAIT_MAX: Duration = Duration::from_mins(1);

fn object<K: serde::de::DeserializeOwned>(value: serde_json::Value) -> K {
    serde_json::from_value(value).expect("an object")
}

async fn create<K>(api: &Api<K>, value: serde_json::Value)
where
    K: Resource + Clone + serde::Serialize + serde::de::DeserializeOwned + std::fmt::Debug,
{
    api.create(&PostParams::default(), &object(value)).await.expect("created");
}

/// Waits until a figure is so.
async fn until(watch: &ObjectWatch, figure: Figure, number: u32) {
    let end = Instant::now() + WAIT_MAX;
    loop {
        let state = watch.now().expect("it is told");
        if state.as_ref().and_then(|state| state.figures.get(&figure)) == Some(&number) {
            return;
        }
        assert!(Instant::now() < end, "{} is not {number}: {state:?}", figure.name());
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_seen_as_they_are_by_one_watch_each() {
    let Some(kubeconfig) = std::env::var_os("FAULTLINE_TEST_CLUSTER") else {
        println!("SKIPPED: FAULTLINE_TEST_CLUSTER names no kubeconfig");
        return;
    };
    let choice = ClusterChoice { kubeconfig: Some(kubeconfig.into()), ..ClusterChoice::default() };
    let connection = Connection::open(&choice).await.expect("a cluster");
    let client = connection.client();
    let namespace = format!("four-objects-{}", std::process::id());
    let namespaces: Api<v1::Namespace> = Api::all(client.clone());
    create(&namespaces, json!({"metadata": {"name": namespace}})).await;
    let outcome =
        tokio::spawn(look_at_everything(connection.clone(), client, namespace.clone())).await;
    namespaces.delete(&namespace, &DeleteParams::default()).await.expect("deleted");
    outcome.expect("as it is");
}

async fn look_at_everything(connection: Connection, client: kube::Client, namespace: String) {
    let image = std::env::var("FAULTLINE_TEST_IMAGE").unwrap_or_else(|_| IMAGE_DEFAULT.into());
    let labels = json!({"app": "api"});
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &namespace);
    create(&deployments, json!({
        "metadata": {"name": "api"},
        "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "main", "image": image}]}}}
    })).await;
    let services: Api<v1::Service> = Api::namespaced(client.clone(), &namespace);
    create(
        &services,
        json!({"metadata": {"name": "api"}, "spec": {"selector": labels, "ports": [{"port": 80}]}}),
    )
    .await;
    let autoscalers: Api<HorizontalPodAutoscaler> = Api::namespaced(client.clone(), &namespace);
    create(&autoscalers, json!({
        "metadata": {"name": "api"},
        "spec": {"minReplicas": 2, "maxReplicas": 4, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "api"}}
    })).await;
    let watch = async |kind| {
        let object = Object { kind, namespace: namespace.clone(), name: "api".into() };
        ObjectWatch::start(&connection, &object).await.expect("a watch")
    };
    let deployment = watch(ObjectKind::Deployment).await;
    let service = watch(ObjectKind::Service).await;
    let autoscaler = watch(ObjectKind::Autoscaler).await;
    let other = watch(ObjectKind::StatefulSet).await;
    assert_eq!(other.now(), Ok(None), "there is none of that name");
    until(&deployment, Figure::Ready, 2).await;
    until(&service, Figure::Ready, 2).await;
    until(&autoscaler, Figure::Replicas, 2).await;
    let state = deployment.now().expect("told").expect("there");
    assert_eq!(state.conditions.get("Available").map(String::as_str), Some("True"));

    // The watches alone bring what changes.
    let scale = json!({"spec": {"replicas": 3}});
    let params = PatchParams::default();
    deployments.patch("api", &params, &Patch::Merge(&scale)).await.expect("scaled");
    until(&deployment, Figure::Desired, 3).await;
    until(&deployment, Figure::Ready, 3).await;
    until(&service, Figure::Ready, 3).await;
    services.delete("api", &DeleteParams::default()).await.expect("deleted");
    let end = Instant::now() + WAIT_MAX;
    while service.now().expect("told").is_some() {
        assert!(Instant::now() < end, "the Service has gone");
        sleep(Duration::from_millis(50)).await;
    }
}
