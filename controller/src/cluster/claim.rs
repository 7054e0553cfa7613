//! What a claim is: a Lease for each owner of pods that a run hits, so that two controllers do not hit the same ones,
//! also where no agent could tell. Pure.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};

use crate::place::Pod;

/// How long a claim lives that nobody renews.
pub(super) const LIFE: Duration = Duration::from_secs(15);
/// How often it is renewed.
pub(super) const RENEW_EVERY: Duration = Duration::from_secs(5);
/// By how much the clocks of two controllers may differ.
const CLOCKS_DIFFER_MAX: Duration = Duration::from_secs(15);
/// The label that claims are known by.
pub(super) const CLAIM_LABEL: &str = "faultline.dev/claim";
/// The annotations that say of whom a claim is, and by which experiment.
const OF_ANNOTATION: &str = "faultline.dev/claim-of";
const EXPERIMENT_ANNOTATION: &str = "faultline.dev/experiment";
/// The longest name of an object.
const NAME_BYTES_MAX: usize = 253;

/// What a run claims for a pod that it hits: all pods of its owner, or the pod where nothing made it.
pub fn claimed(pod: &Pod) -> String {
    match &pod.owner {
        Some(owner) if owner.contains('/') => format!("{}/{owner}", pod.namespace),
        _ => format!("{}/pod/{}", pod.namespace, pod.name),
    }
}

/// The name of the Lease for it. A namespace and a kind have no dots, so that no two have one name.
pub(super) fn lease_name(claimed: &str) -> String {
    let mut name = format!("faultline.{}", claimed.replace('/', "."));
    if name.len() > NAME_BYTES_MAX {
        // FNV-1a of all of it, for what is cut off.
        let hash = claimed.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        name.truncate(NAME_BYTES_MAX - 17);
        name = format!("{}-{hash:016x}", name.trim_end_matches(['.', '-']));
    }
    name
}

/// The Lease of a run that claims something now; `labels` are those by which it is known to belong to an installation.
pub(super) fn lease(
    claimed: &str,
    run: &str,
    experiment: &str,
    mut labels: BTreeMap<String, String>,
    now: Timestamp,
) -> Lease {
    labels.insert(CLAIM_LABEL.into(), "run".into());
    let annotations = [(OF_ANNOTATION, claimed), (EXPERIMENT_ANNOTATION, experiment)];
    let annotations = annotations.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Lease {
        metadata: ObjectMeta {
            name: Some(lease_name(claimed)),
            labels: Some(labels),
            annotations: Some(annotations.into()),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(run.to_owned()),
            lease_duration_seconds: i32::try_from(LIFE.as_secs()).ok(),
            acquire_time: Some(MicroTime(now)),
            renew_time: Some(MicroTime(now)),
            ..LeaseSpec::default()
        }),
    }
}

/// Whether a run holds it.
pub(super) fn is_of(lease: &Lease, run: &str) -> bool {
    let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref());
    holder == Some(run)
}

/// Who has claimed it, in words; `None`: nobody, or nobody any more.
pub(super) fn held_by_another(lease: &Lease, run: &str, now: Timestamp) -> Option<String> {
    let spec = lease.spec.as_ref()?;
    let holder = spec.holder_identity.as_deref().filter(|holder| !holder.is_empty())?;
    let renewed = spec.renew_time.as_ref().or(spec.acquire_time.as_ref())?.0;
    let life = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let life = life.map_or(LIFE, Duration::from_secs) + CLOCKS_DIFFER_MAX;
    let age = Duration::try_from(now.duration_since(renewed)).unwrap_or_default();
    if holder == run || age > life {
        return None;
    }
    let annotations = lease.metadata.annotations.clone().unwrap_or_default();
    let get = |name: &str| annotations.get(name).cloned().unwrap_or_default();
    let (seconds, left) = (age.as_secs(), life.saturating_sub(age).as_secs());
    Some(format!(
        "run {holder} of experiment {} is at work on {} (renewed {seconds} s ago in the Lease {}/{}; one that \
         was killed gives it up in {left} s)",
        get(EXPERIMENT_ANNOTATION),
        get(OF_ANNOTATION),
        lease.metadata.namespace.as_deref().unwrap_or_default(),
        lease.metadata.name.as_deref().unwrap_or_default()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_of_one_owner_are_one_claim() {
        let pod = |owner: Option<&str>| Pod {
            namespace: "shop".into(),
            name: "api-0".into(),
            owner: owner.map(str::to_owned),
            ..Pod::default()
        };
        assert_eq!(claimed(&pod(Some("deployment/api"))), "shop/deployment/api");
        assert_eq!(claimed(&pod(None)), "shop/pod/api-0");
        assert_eq!(lease_name("shop/deployment/api"), "faultline.shop.deployment.api");
        let (a, b) =
            (format!("shop/pod/{}", "x".repeat(253)), format!("shop/pod/{}y", "x".repeat(252)));
        assert_ne!(lease_name(&a), lease_name(&b));
        assert!(lease_name(&a).len() <= NAME_BYTES_MAX);
    }

    #[test]
    fn a_claim_is_held_until_it_is_old() {
        let then = Timestamp::from_second(1_000_000).expect("a time");
        let labels = BTreeMap::from([("of".to_owned(), "faultline".to_owned())]);
        let lease = lease("shop/deployment/api", "a1", "cut", labels, then);
        let labels = lease.metadata.labels.clone().unwrap_or_default();
        assert!(labels.contains_key("of") && labels.contains_key(CLAIM_LABEL), "{labels:?}");
        let at = |seconds: i64| Timestamp::from_second(1_000_000 + seconds).expect("a time");
        let why = held_by_another(&lease, "b2", at(3)).expect("held");
        assert!(
            why.starts_with("run a1 of experiment cut is at work on shop/deployment/api"),
            "{why}"
        );
        assert_eq!(held_by_another(&lease, "a1", at(3)), None, "its own");
        assert!(is_of(&lease, "a1") && !is_of(&lease, "b2"));
        assert_eq!(held_by_another(&lease, "b2", at(31)), None, "its holder has gone");
        // A clock that is behind makes nobody look old.
        assert!(held_by_another(&lease, "b2", at(-9)).is_some());
    }
}
