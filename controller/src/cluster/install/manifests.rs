//! Everything that is installed, in the order in which it must come. Pure.

use serde_json::json;

use super::{
    agent, controller,
    object::{NAMESPACE, Object, cluster_name},
    rbac,
    settings::Settings,
};

/// The namespace. Pods in it do what Pod Security Standards forbid to others.
pub(super) fn namespace(settings: &Settings) -> Object {
    let name = settings.namespace.as_str();
    let object =
        Object::new(NAMESPACE, name, cluster_name("faultline", name).as_str(), name, json!({}));
    ["enforce", "audit", "warn"].into_iter().fold(object, |object, mode| {
        object.labelled(&format!("pod-security.kubernetes.io/{mode}"), "privileged")
    })
}

/// Everything but the namespace and the Secrets; `minor` is the server's version, where it is known.
pub(super) fn objects(settings: &Settings, minor: Option<u32>) -> Vec<Object> {
    let mut objects = rbac::objects(&settings.namespace);
    objects.extend(agent::objects(settings, minor));
    objects.extend(controller::objects(settings));
    objects
}
