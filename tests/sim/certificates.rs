//! Certificates that change while an agent serves, seen by those who connect to it.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use faultline::place::Credentials;
use faultline_proto::pb;
use faultline_tests::pki::{Authority, Pair};
use pb::agent_client::AgentClient;
use tonic::transport::Channel;

use crate::wire::{Agent, agent};

/// How long an agent may take to see what is in its files: it looks every two seconds.
const SEEN_MAX: Duration = Duration::from_secs(15);

/// As a kubelet changes a file of a Secret: at once.
fn replace(dir: &Path, name: &str, text: &str) {
    fs::write(dir.join("new"), text).expect("written");
    fs::rename(dir.join("new"), dir.join(name)).expect("renamed");
}

async fn answers(client: &mut AgentClient<Channel>) -> bool {
    client.describe(pb::DescribeRequest {}).await.is_ok()
}

/// Whether it accepts these credentials for a new connection, and shows a certificate that they trust.
async fn accepts(agent: &Agent, credentials: &Credentials) -> bool {
    match agent.try_once(credentials).await {
        Some(mut client) => answers(&mut client).await,
        None => false,
    }
}

async fn until_accepted(agent: &Agent, credentials: &Credentials) {
    let began = Instant::now();
    while !accepts(agent, credentials).await {
        assert!(began.elapsed() < SEEN_MAX, "the new certificates are not in use");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn an_agent_takes_up_new_certificates_and_obeys_nobody_whom_it_trusts_no_more() {
    let agent = agent();
    let old = agent.authority.controller().expect("signed");
    let mut open = agent.client(&old).await.expect("it listens");
    let authority = Authority::new().expect("an authority");
    let new = authority.controller().expect("signed");
    assert!(!accepts(&agent, &new).await, "not trusted yet");

    let Pair { cert_pem, key_pem } = authority.agent("node1").expect("signed");
    let dir = agent.dir.path();
    // One after the other, as they may be seen: the key is that of another certificate for a while.
    replace(dir, "ca", &authority.ca_pem());
    replace(dir, "cert", &cert_pem);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(answers(&mut open).await, "what does not belong together ends nothing");
    assert!(accepts(&agent, &old).await, "and is not taken up");
    replace(dir, "key", &key_pem);
    until_accepted(&agent, &new).await;
    let refused = open.describe(pb::DescribeRequest {}).await.expect_err("trusted no more");
    assert_eq!(refused.code(), tonic::Code::Unauthenticated, "a connection of before: {refused}");
    assert!(!accepts(&agent, &old).await, "the old authority is trusted no more");

    replace(dir, "cert", "nonsense");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(accepts(&agent, &new).await, "nonsense ends nothing");
}

#[tokio::test]
async fn while_an_authority_is_changed_both_are_trusted() {
    let agent = agent();
    let authority = Authority::new().expect("an authority");
    let bundle = authority.ca_pem() + &agent.authority.ca_pem();
    replace(agent.dir.path(), "ca", &bundle);
    let of = |authority: &Authority| Credentials {
        ca_pem: bundle.clone(),
        ..authority.controller().expect("signed")
    };
    until_accepted(&agent, &of(&authority)).await;
    let old = of(&agent.authority);
    let mut open = agent.client(&old).await.expect("both are trusted");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(answers(&mut open).await, "and its connections go on");
}
