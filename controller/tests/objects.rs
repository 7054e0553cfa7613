//! Objects of a real cluster, as `kubernetes` probes see them, compared with what is done to them, and pods that come
//! back, compared with what Kubernetes itself says: where `FAULTLINE_TEST_CLUSTER` names a kubeconfig. Needs no agents.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use faultline::{
    cluster::{Cluster, ClusterChoice, Connection, ObjectWatch, names},
    comeback::{Comeback, Comebacks},
    experiment::{Figure, Object, ObjectKind, Selector},
    place::{Place, Seen},
};
use k8s_openapi::{
    api::{apps::v1::Deployment, autoscaling::v1::HorizontalPodAutoscaler, core::v1},
    apimachinery::pkg::apis::meta::v1::Time,
};
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

/// What a test works with: a cluster, and a namespace of its own in it.
struct Setting {
    choice: ClusterChoice,
    connection: Connection,
    client: kube::Client,
    namespace: String,
}

/// Does something in a namespace that is deleted afterwards, whatever comes of it.
async fn in_namespace<F: Future<Output = ()> + Send + 'static>(name: &str, work: fn(Setting) -> F) {
    let Some(kubeconfig) = std::env::var_os("FAULTLINE_TEST_CLUSTER") else {
        println!("SKIPPED: FAULTLINE_TEST_CLUSTER names no kubeconfig");
        return;
    };
    let choice = ClusterChoice { kubeconfig: Some(kubeconfig.into()), ..ClusterChoice::default() };
    let connection = Connection::open(&choice).await.expect("a cluster");
    let client = connection.client();
    let namespace = format!("four-{name}-{}", std::process::id());
    let namespaces: Api<v1::Namespace> = Api::all(client.clone());
    create(&namespaces, json!({"metadata": {"name": namespace}})).await;
    let setting = Setting { choice, connection, client, namespace: namespace.clone() };
    let outcome = tokio::spawn(work(setting)).await;
    namespaces.delete(&namespace, &DeleteParams::default()).await.expect("deleted");
    outcome.expect("as it is");
}

fn image() -> String {
    std::env::var("FAULTLINE_TEST_IMAGE").unwrap_or_else(|_| IMAGE_DEFAULT.into())
}

/// Two pods.
async fn deploy(setting: &Setting) -> Api<Deployment> {
    let deployments = Api::namespaced(setting.client.clone(), &setting.namespace);
    let labels = json!({"app": "api"});
    create(&deployments, json!({
        "metadata": {"name": "api"},
        "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "main", "image": image()}]}}}
    })).await;
    deployments
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_seen_as_they_are_by_one_watch_each() {
    in_namespace("objects", look_at_everything).await;
}

async fn look_at_everything(setting: Setting) {
    let deployments = deploy(&setting).await;
    let Setting { connection, client, namespace, .. } = setting;
    let labels = json!({"app": "api"});
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

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_comes_back_when_kubernetes_says_so() {
    in_namespace("comeback", lose_a_pod).await;
}

/// What `Cluster::connect` looks for: an agent's pod and an identity. Nobody speaks with it.
async fn pretend_to_be_installed(setting: &Setting) {
    let Setting { client, namespace, .. } = setting;
    let pods: Api<v1::Pod> = Api::namespaced(client.clone(), namespace);
    let labels = json!({names::COMPONENT_LABEL: names::AGENT});
    let container = json!({"name": "main", "image": image()});
    let pod = json!({
        "metadata": {"name": "agent", "labels": labels},
        "spec": {"automountServiceAccountToken": false, "containers": [container]}
    });
    create(&pods, pod).await;
    let secrets: Api<v1::Secret> = Api::namespaced(client.clone(), namespace);
    let files = json!({names::CA_FILE: "none", names::CERT_FILE: "none", names::KEY_FILE: "none"});
    let secret = json!({"metadata": {"name": names::CONTROLLER_SECRET}, "stringData": files});
    create(&secrets, secret).await;
}

async fn lose_a_pod(setting: Setting) {
    deploy(&setting).await;
    pretend_to_be_installed(&setting).await;
    let Setting { client, namespace, choice, .. } = setting;
    let choice = ClusterChoice { installation: Some(namespace.clone()), ..choice };
    let cluster = Cluster::connect(&choice).await.expect("a cluster");
    let place = Place::Cluster(Box::new(cluster));
    let labels = [("app".to_owned(), "api".to_owned())].into();
    let target = Selector { namespaces: vec![namespace.clone()], labels, ..Selector::default() };
    let mut comebacks = Comebacks::new(&[("api".to_owned(), target)].into());
    let (began, began_wall) = (Instant::now(), SystemTime::now());
    let (mut seen, mut deleted) = (Seen::default(), None);
    let pods: Api<v1::Pod> = Api::namespaced(client, &namespace);
    let back: Comeback = loop {
        assert!(began.elapsed() < WAIT_MAX, "a pod comes back: {:?}", comebacks.all());
        sleep(Duration::from_millis(20)).await;
        let Some(states) = place.look_at_states(&mut seen).expect("it is told") else {
            comebacks.unchanged(began.elapsed());
            continue;
        };
        let ours = states.iter().filter(|state| state.pod.namespace == namespace && state.ready);
        let ours = ours.filter(|state| state.pod.owner.is_some());
        let ready: Vec<String> = ours.map(|state| state.pod.name.clone()).collect();
        comebacks.look(began.elapsed(), states);
        if let ([first, _], None) = (ready.as_slice(), &deleted) {
            comebacks.begin();
            pods.delete(first, &DeleteParams::default()).await.expect("deleted");
            deleted = Some((first.clone(), began.elapsed()));
        }
        if let Some(back) = comebacks.all().first().filter(|back| back.ready.is_some()) {
            break back.clone();
        }
    };
    let (name, asked) = deleted.expect("one was deleted");
    assert_eq!(back.instead_of.as_ref().map(|pod| &pod.name), Some(&name));
    assert!(back.lost.at.saturating_sub(asked) < Duration::from_secs(1), "{back:?}, {asked:?}");
    // Kubernetes says whole seconds, and its watch brings them a little later.
    let new = pods.get(&back.pod.name).await.expect("it is there");
    let conditions = new.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let condition = |name: &str| {
        let mut found = conditions.clone().filter(|condition| condition.type_ == name);
        found.next().and_then(|condition| condition.last_transition_time.clone())
    };
    for (what, told, moment) in [
        ("created", new.metadata.creation_timestamp.clone(), back.recreated),
        ("scheduled", condition("PodScheduled"), back.scheduled),
        ("ready", condition("Ready"), back.ready),
    ] {
        let told: Time = told.expect("it has a time");
        let told = Duration::from_secs(u64::try_from(told.0.as_second()).expect("after 1970"));
        let moment = began_wall + moment.expect("it was seen").at;
        let moment = moment.duration_since(UNIX_EPOCH).expect("after 1970");
        let late = moment.checked_sub(told).unwrap_or_else(|| panic!("{what}: before it was so"));
        println!("{what}: seen {late:?} after the second began in which it was");
        assert!(late < Duration::from_secs(2), "{what}: {late:?}");
    }
}
