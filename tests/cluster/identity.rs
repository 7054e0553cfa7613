//! Whom agents obey: the controller of their installation, and nobody else.

use faultline::{
    agents::Fleet,
    cluster::{Cluster, ClusterChoice, names},
    place::Credentials,
};
use faultline_tests::{cluster::ok, pki::Authority};

use super::installed;

/// A file of one of Faultline's Secrets.
fn secret(name: &str, file: &str) -> String {
    let template = format!("go-template={{{{index .data \"{file}\" | base64decode}}}}");
    ok(&["get", "secret", "-n", names::NAMESPACE_DEFAULT, name, "-o", &template])
}

#[test]
fn an_agents_certificate_and_that_of_another_authority_are_refused() {
    let _turn = installed();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let cluster = Cluster::connect(&ClusterChoice::default()).await.expect("a cluster");
        let endpoints = cluster.agents();
        assert!(!endpoints.is_empty());
        let of = |file: &str| secret(names::AGENT_SECRET, file);
        let as_agent = Credentials {
            ca_pem: of(names::CA_FILE),
            cert_pem: of(names::CERT_FILE),
            key_pem: of(names::KEY_FILE),
        };
        let stranger = Authority::new().expect("an authority").controller().expect("a certificate");
        let as_stranger = Credentials {
            ca_pem: of(names::CA_FILE),
            cert_pem: stranger.cert_pem,
            key_pem: stranger.key_pem,
        };
        for (who, credentials) in [("an agent", as_agent), ("a stranger", as_stranger)] {
            let (fleet, errors) = Fleet::connect_some(&endpoints, &credentials).await;
            assert_eq!(fleet.agents().count(), 0, "{who} is obeyed");
            assert_eq!(errors.len(), endpoints.len(), "{who}: {errors:?}");
        }
    });
}
