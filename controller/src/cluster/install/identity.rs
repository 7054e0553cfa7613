//! The identities of an installation: which of those that are kept stay, and which are made anew. Pure.
//!
//! All agents share one certificate: they are pods of one `DaemonSet`, which gives the same Secret to all of them.
//!
//! An authority is changed in three steps, so that agents and controllers which have seen only some of them still
//! speak to each other, and faults go on:
//!
//! ```text
//! step              authority   also trusted   certificates signed by   when
//! (before)          old         -              old
//! 1 Trusted         new         old            old
//! 2 Signed          new         old            new                      every agent trusts the new one
//! 3 (over)          new         -              new                      every agent shows a new one
//! ```

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::{
    super::names::{
        AGENT, AGENT_SECRET, AGENTS_SERVER_NAME, CA_FILE, CA_NAME, CA_SECRET, CERT_FILE,
        CONTROLLER, CONTROLLER_SECRET, KEY_FILE,
    },
    object::{Object, SECRET},
};
use crate::{
    pki::{Authority, Identity, Usage, check, renewal_due, validity},
    place::{CONTROLLER_NAME, Credentials},
};

/// The file of an authority that is still trusted, in the authority's Secret.
pub(super) const PREVIOUS_FILE: &str = "previous.crt";

/// Ten years: it is renewed by `install`, which somebody has to run.
const AUTHORITY_VALID_FOR: Duration = Duration::from_hours(24 * 3650);
/// A year: the controller in the cluster renews it.
const VALID_FOR: Duration = Duration::from_hours(24 * 365);

/// What is kept in a cluster. What cannot be read counts as not there.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// The authority's Secret is there, and nothing is in it: it waits to be filled.
    pub(super) is_empty: bool,
    pub(super) authority: Option<Identity>,
    pub(super) previous_pem: Option<String>,
    pub(super) agent: Option<Identity>,
    pub(super) controller: Option<Identity>,
}

/// Who an identity is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Agent,
    Controller,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Self::Agent => AGENTS_SERVER_NAME,
            Self::Controller => CONTROLLER_NAME,
        }
    }

    fn usage(self) -> Usage {
        match self {
            Self::Agent => Usage::Server,
            Self::Controller => Usage::Client,
        }
    }
}

/// The identities of an installation, as they are to be.
#[derive(Debug)]
pub(super) struct Identities {
    authority: Authority,
    /// An authority that is still trusted, while it is changed.
    previous_pem: Option<String>,
    agent: Identity,
    controller: Identity,
    /// What was made anew and why, for a person.
    pub(super) notes: Vec<String>,
}

impl Identities {
    /// All anew.
    pub(super) fn new() -> Result<Self, rcgen::Error> {
        let authority = Authority::new(CA_NAME, AUTHORITY_VALID_FOR)?;
        let (agent, controller) =
            (issue(&authority, Side::Agent)?, issue(&authority, Side::Controller)?);
        Ok(Self { authority, previous_pem: None, agent, controller, notes: Vec::new() })
    }

    /// What is kept, where that is good, and what is missing, invalid or in the last third of its time made anew.
    /// With `rotate`, an authority that is good begins to be changed as well.
    pub(super) fn of(kept: Kept, rotate: bool, now: SystemTime) -> Result<Self, rcgen::Error> {
        let Some((authority, age)) = kept.authority.and_then(|kept| usable(kept, now)) else {
            let mut this = Self::new()?;
            this.notes.push("a new certificate authority, and certificates of it".into());
            return Ok(this);
        };
        let (authority, previous_pem, notes) = match kept.previous_pem {
            // One change at a time: it goes on where it was interrupted.
            Some(previous) => (authority, Some(previous), Vec::new()),
            None if rotate || age == Age::Due => {
                let old = authority.pem().to_owned();
                let note = "a new certificate authority takes the place of the old one".to_owned();
                (Authority::new(CA_NAME, AUTHORITY_VALID_FOR)?, Some(old), vec![note])
            }
            None => (authority, None, Vec::new()),
        };
        Self::under(authority, previous_pem, kept.agent, kept.controller, notes, now)
    }

    /// The same, but that an authority stays, and whether it should not. `None` if there is one that cannot sign: what is
    /// broken is not replaced while nobody looks.
    pub(super) fn renewed(
        kept: Kept,
        now: SystemTime,
    ) -> Result<Option<(Self, bool)>, rcgen::Error> {
        if kept.is_empty {
            let mut this = Self::new()?;
            this.notes.push("a certificate authority, and certificates of it".into());
            return Ok(Some((this, false)));
        }
        let Some((authority, age)) = kept.authority.and_then(|kept| usable(kept, now)) else {
            return Ok(None);
        };
        let (agent, controller, previous) = (kept.agent, kept.controller, kept.previous_pem);
        let this = Self::under(authority, previous, agent, controller, Vec::new(), now)?;
        Ok(Some((this, age == Age::Due)))
    }

    /// What is kept of certificates, where it is good, under an authority.
    fn under(
        authority: Authority,
        previous_pem: Option<String>,
        agent: Option<Identity>,
        controller: Option<Identity>,
        mut notes: Vec<String>,
        now: SystemTime,
    ) -> Result<Self, rcgen::Error> {
        let mut of = |kept: Option<Identity>, side: Side| {
            let trusted = previous_pem.iter().map(String::as_str).chain([authority.pem()]);
            let why = match &kept {
                None => "is missing".to_owned(),
                Some(kept) => match flaw(kept, side, trusted, now) {
                    None => return Ok(kept.clone()),
                    Some(why) => why,
                },
            };
            notes.push(format!("a new certificate for {}: the one before {why}", side.name()));
            issue(&authority, side)
        };
        let (agent, controller) = (of(agent, Side::Agent)?, of(controller, Side::Controller)?);
        Ok(Self { authority, previous_pem, agent, controller, notes })
    }

    /// Whether the authority is being changed.
    pub(super) fn is_changing(&self) -> bool {
        self.previous_pem.is_some()
    }

    /// Whether both certificates are the new authority's: the second step has been made.
    pub(super) fn is_signed(&self, now: SystemTime) -> bool {
        let by_new = |identity, side: Side| {
            check(identity, self.authority.pem(), side.name(), side.usage(), now).is_ok()
        };
        by_new(&self.agent, Side::Agent) && by_new(&self.controller, Side::Controller)
    }

    /// The second step: certificates of the new authority.
    pub(super) fn sign(&mut self) -> Result<(), rcgen::Error> {
        self.agent = issue(&self.authority, Side::Agent)?;
        self.controller = issue(&self.authority, Side::Controller)?;
        Ok(())
    }

    /// The third step: the old authority is trusted no more.
    pub(super) fn forget(&mut self) {
        self.previous_pem = None;
    }

    /// Everything that is trusted.
    fn bundle(&self) -> String {
        let mut bundle = self.authority.pem().to_owned();
        bundle.extend(self.previous_pem.as_deref());
        bundle
    }

    /// What the controller proves itself with.
    pub(super) fn credentials(&self) -> Credentials {
        let Identity { cert_pem, key_pem } = self.controller.clone();
        Credentials { ca_pem: self.bundle(), cert_pem, key_pem }
    }

    /// Credentials that only an agent accepts which trusts the new authority.
    pub(super) fn of_new_authority(&self) -> Result<Credentials, rcgen::Error> {
        let Identity { cert_pem, key_pem } = issue(&self.authority, Side::Controller)?;
        Ok(Credentials { ca_pem: self.bundle(), cert_pem, key_pem })
    }

    /// Credentials that accept only an agent which shows a certificate of the new authority.
    pub(super) fn trusting_new_alone(&self) -> Credentials {
        Credentials { ca_pem: self.authority.pem().to_owned(), ..self.credentials() }
    }

    /// The Secrets.
    pub(super) fn objects(&self, namespace: &str) -> Vec<Object> {
        let leaf = |name: &str, component: &str, identity: &Identity| {
            let mut data = data(identity);
            data[CA_FILE] = base64(&self.bundle());
            secret(namespace, component, name, &data)
        };
        let mut of_authority = data(self.authority.identity());
        if let Some(previous) = &self.previous_pem {
            of_authority[PREVIOUS_FILE] = base64(previous);
        }
        vec![
            secret(namespace, CONTROLLER, CA_SECRET, &of_authority),
            leaf(AGENT_SECRET, AGENT, &self.agent),
            leaf(CONTROLLER_SECRET, CONTROLLER, &self.controller),
        ]
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Age {
    Good,
    Due,
}

/// An authority that can still sign.
fn usable(kept: Identity, now: SystemTime) -> Option<(Authority, Age)> {
    let validity = validity(&kept.cert_pem).ok()?;
    let age = if renewal_due(validity, now) { Age::Due } else { Age::Good };
    let is_valid = validity.not_before <= now && now < validity.not_after;
    let authority = Authority::load(CA_NAME, kept).ok()?;
    // Whether the key is the certificate's is told by what it signs, from this moment on.
    let signed = issue(&authority, Side::Agent).ok()?;
    let (pem, made) = (authority.pem(), SystemTime::now());
    let works = check(&signed, pem, AGENTS_SERVER_NAME, Usage::Server, made).is_ok();
    (is_valid && works).then_some((authority, age))
}

/// Why an identity should be made anew; `None` if it should stay.
fn flaw<'a>(
    kept: &Identity,
    side: Side,
    trusted: impl Iterator<Item = &'a str>,
    now: SystemTime,
) -> Option<String> {
    let mut last = None;
    for authority in trusted {
        match check(kept, authority, side.name(), side.usage(), now) {
            Ok(()) => {
                let due = validity(&kept.cert_pem).is_ok_and(|validity| renewal_due(validity, now));
                return due.then(|| "is in the last third of its time".to_owned());
            }
            Err(flaw) => last = Some(format!("cannot be used ({flaw})")),
        }
    }
    last
}

fn issue(authority: &Authority, side: Side) -> Result<Identity, rcgen::Error> {
    authority.issue(side.name(), side.usage(), VALID_FOR)
}

/// The Secrets, before there are identities.
pub(super) fn empty(namespace: &str) -> Vec<Object> {
    let of = |component: &str, name: &str| {
        Object::new(SECRET, namespace, component, name, json!({ "type": "Opaque" }))
    };
    vec![of(CONTROLLER, CA_SECRET), of(AGENT, AGENT_SECRET), of(CONTROLLER, CONTROLLER_SECRET)]
}

fn secret(namespace: &str, component: &str, name: &str, data: &Value) -> Object {
    let body = json!({ "type": "Opaque", "data": data });
    Object::new(SECRET, namespace, component, name, body)
}

fn data(identity: &Identity) -> Value {
    json!({ CERT_FILE: base64(&identity.cert_pem), KEY_FILE: base64(&identity.key_pem) })
}

fn base64(text: &str) -> Value {
    // As Kubernetes writes the bytes of a Secret.
    json!(k8s_openapi::ByteString(text.as_bytes().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    fn kept(identities: &Identities) -> Kept {
        Kept {
            is_empty: false,
            authority: Some(identities.authority.identity().clone()),
            previous_pem: identities.previous_pem.clone(),
            agent: Some(identities.agent.clone()),
            controller: Some(identities.controller.clone()),
        }
    }

    fn of(kept: Kept, rotate: bool, now: SystemTime) -> Identities {
        Identities::of(kept, rotate, now).expect("keys can be made")
    }

    #[test]
    fn what_is_good_stays() {
        let now = SystemTime::now();
        let made = Identities::new().expect("made");
        let again = of(kept(&made), false, now);
        assert_eq!((&again.agent, &again.controller), (&made.agent, &made.controller));
        assert!(again.notes.is_empty() && !again.is_changing());
    }

    #[test]
    fn what_is_missing_broken_or_old_is_made_anew_and_nothing_else() {
        let made = Identities::new().expect("made");
        let now = SystemTime::now();
        let missing = Kept { agent: None, ..kept(&made) };
        let mixed = Identity { key_pem: made.controller.key_pem.clone(), ..made.agent.clone() };
        for (kept, at) in [(missing, now), (Kept { agent: Some(mixed), ..kept(&made) }, now)] {
            let again = of(kept, false, at);
            assert_eq!(again.controller, made.controller);
            assert_ne!(again.agent, made.agent);
            assert_eq!(again.notes.len(), 1, "{:?}", again.notes);
        }
        let later = now + 300 * DAY;
        let old = of(kept(&made), false, later);
        assert_ne!(old.agent, made.agent);
        assert_eq!(old.authority.pem(), made.authority.pem());
        let without = of(Kept { authority: None, ..kept(&made) }, false, now);
        assert_ne!(without.authority.pem(), made.authority.pem());
        assert!(without.is_signed(now) && !without.is_changing());
    }

    #[test]
    fn an_authority_is_changed_in_three_steps() {
        let now = SystemTime::now();
        let made = Identities::new().expect("made");
        let mut first = of(kept(&made), true, now);
        assert!(first.is_changing() && !first.is_signed(now));
        assert_eq!(first.agent, made.agent, "the old certificate stays for now");
        assert_eq!(first.bundle().matches("BEGIN CERTIFICATE").count(), 2);
        // Interrupted here, it goes on with the same authority, whether or not that is asked for again.
        let resumed = of(kept(&first), true, now);
        assert_eq!(resumed.authority.pem(), first.authority.pem());
        first.sign().expect("signed");
        assert!(first.is_signed(now));
        let resumed = of(kept(&first), false, now);
        assert_eq!(resumed.agent, first.agent);
        first.forget();
        let over = of(kept(&first), false, now);
        assert!(!over.is_changing() && over.notes.is_empty());
    }

    #[test]
    fn secrets_without_content_are_filled_and_a_broken_authority_is_left_to_a_person() {
        let now = SystemTime::now();
        let empty = Kept { is_empty: true, ..Kept::default() };
        let (filled, due) = Identities::renewed(empty, now).expect("made").expect("filled");
        assert!(filled.is_signed(now) && !due);
        let broken = Kept { authority: None, ..kept(&filled) };
        assert!(Identities::renewed(broken, now).expect("told").is_none());
        let (same, _) = Identities::renewed(kept(&filled), now).expect("made").expect("there");
        assert!(same.notes.is_empty());
    }

    #[test]
    fn an_authority_in_the_last_third_of_its_time_is_changed() {
        let made = Identities::new().expect("made");
        let later = SystemTime::now() + 3000 * DAY;
        assert!(of(kept(&made), false, later).is_changing());
    }
}
