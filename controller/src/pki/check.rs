//! Whether a certificate is what it should be, and how long it still is.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{KeyPair, PublicKeyData as _};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _};
use thiserror::Error;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert, ring};

use super::{Identity, Usage};

/// What is wrong with an identity.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Flaw {
    /// It cannot be read as a certificate.
    #[error("its certificate cannot be read")]
    Unreadable,
    /// The key is none, or that of another certificate.
    #[error("its key is not that of its certificate")]
    OtherKey,
    /// The authority did not sign it for this use and name, or it is not valid at this time.
    #[error("its certificate is not accepted: {0}")]
    NotAccepted(String),
}

/// From when until when a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// From.
    pub not_before: SystemTime,
    /// Until.
    pub not_after: SystemTime,
}

impl Validity {
    /// How long it is still valid; nothing if it is over.
    pub fn left(&self, now: SystemTime) -> Duration {
        self.not_after.duration_since(now).unwrap_or_default()
    }
}

/// Whether a certificate is in the last third of its time, so that it should be renewed now.
pub fn renewal_due(validity: Validity, now: SystemTime) -> bool {
    let whole = validity.not_after.duration_since(validity.not_before).unwrap_or_default();
    validity.left(now) < whole / 3
}

/// Whether an identity is accepted for a name and a use by somebody who trusts `authority_pem`, and has its key.
///
/// # Errors
/// What is wrong with it.
pub fn check(
    identity: &Identity,
    authority_pem: &str,
    name: &str,
    usage: Usage,
    now: SystemTime,
) -> Result<(), Flaw> {
    let der = der(&identity.cert_pem)?;
    let certificate = EndEntityCert::try_from(&der).map_err(|_not_one| Flaw::Unreadable)?;
    let key = KeyPair::from_pem(&identity.key_pem).map_err(|_no_key| Flaw::OtherKey)?;
    if certificate.subject_public_key_info().as_ref() != key.subject_public_key_info() {
        return Err(Flaw::OtherKey);
    }
    let authority = self::der(authority_pem)?;
    let anchor = anchor_from_trusted_cert(&authority).map_err(|_not_one| Flaw::Unreadable)?;
    let usage = match usage {
        Usage::Client => KeyUsage::client_auth(),
        Usage::Server => KeyUsage::server_auth(),
    };
    let time = UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).unwrap_or_default());
    let not_accepted = |error: webpki::Error| Flaw::NotAccepted(error.to_string());
    let algorithms = [ring::ECDSA_P256_SHA256, ring::ECDSA_P384_SHA384, ring::ED25519];
    certificate
        .verify_for_usage(&algorithms, &[anchor], &[], time, usage, None, None)
        .map_err(not_accepted)?;
    let server_name =
        ServerName::try_from(name).map_err(|_no_name| Flaw::NotAccepted(name.into()))?;
    certificate.verify_is_valid_for_subject_name(&server_name).map_err(not_accepted)
}

fn der(pem: &str) -> Result<CertificateDer<'static>, Flaw> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_no_pem| Flaw::Unreadable)
}

/// From when until when the first certificate of a PEM text is valid.
///
/// # Errors
/// When it cannot be read.
pub fn validity(pem: &str) -> Result<Validity, Flaw> {
    read_validity(&der(pem)?).ok_or(Flaw::Unreadable)
}

/// Of DER, what RFC 5280 section 4.1 has before the validity, skipped: version, serial number, algorithm, issuer.
fn read_validity(der: &[u8]) -> Option<Validity> {
    const SEQUENCE: u8 = 0x30;
    const VERSION: u8 = 0xa0;
    let (certificate, _) = element(der, SEQUENCE)?;
    let (mut rest, _) = element(certificate, SEQUENCE)?;
    if rest.first() == Some(&VERSION) {
        rest = any(rest)?.2;
    }
    for _ in ["serial number", "algorithm", "issuer"] {
        rest = any(rest)?.2;
    }
    let (times, _) = element(rest, SEQUENCE)?;
    let (tag, not_before, times) = any(times)?;
    let not_before = time(tag, not_before)?;
    let (tag, not_after, _) = any(times)?;
    Some(Validity { not_before, not_after: time(tag, not_after)? })
}

/// The content of the next element if it has this tag, and what follows it.
fn element(der: &[u8], wanted: u8) -> Option<(&[u8], &[u8])> {
    let (tag, content, rest) = any(der)?;
    (tag == wanted).then_some((content, rest))
}

/// The next element: its tag, its content, and what follows it (X.690, section 8.1).
fn any(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = der.split_first_chunk::<2>()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// `YYMMDDhhmmssZ` or `YYYYMMDDhhmmssZ` (RFC 5280, section 4.1.2.5).
fn time(tag: u8, content: &[u8]) -> Option<SystemTime> {
    const UTC_TIME: u8 = 0x17;
    const GENERALIZED_TIME: u8 = 0x18;
    let text = std::str::from_utf8(content).ok()?.strip_suffix('Z')?;
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            let year: u64 = year.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let part = |at: usize| rest.get(at..at + 2)?.parse::<u64>().ok();
    let (month, day) = (part(0)?, part(2)?);
    let seconds = part(4)? * 3600 + part(6)? * 60 + part(8)?;
    let since = days_since_1970(year, month, day)? * 86_400 + seconds;
    UNIX_EPOCH.checked_add(Duration::from_secs(since))
}

/// Days from 1970-01-01, in the Gregorian calendar.
fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    const BEFORE_MONTH: [u64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let before = BEFORE_MONTH.get(usize::try_from(month.checked_sub(1)?).ok()?)?;
    let leap_days = |years: u64| years / 4 - years / 100 + years / 400;
    let is_leap = leap_days(year) > leap_days(year.checked_sub(1)?);
    let this_year = before + day.checked_sub(1)? + u64::from(is_leap && month > 2);
    let years = year.checked_sub(1970)?;
    Some(years * 365 + leap_days(year - 1) - leap_days(1969) + this_year)
}

#[cfg(test)]
mod tests {
    use super::{super::Authority, *};

    const NAME: &str = "controller.faultline.internal";
    const DAY: Duration = Duration::from_hours(24);

    #[test]
    fn an_identity_is_accepted_for_its_name_use_authority_and_time_only() {
        let authority = Authority::new("a test", DAY).expect("made");
        let other = Authority::new("a test", DAY).expect("made");
        let identity = authority.issue(NAME, Usage::Client, DAY).expect("signed");
        let now = SystemTime::now();
        let checked = |identity: &Identity, by: &Authority, name: &str, usage, at| {
            check(identity, by.pem(), name, usage, at)
        };
        assert_eq!(checked(&identity, &authority, NAME, Usage::Client, now), Ok(()));
        let wrong = [
            checked(&identity, &other, NAME, Usage::Client, now),
            checked(&identity, &authority, "other.internal", Usage::Client, now),
            checked(&identity, &authority, NAME, Usage::Server, now),
            checked(&identity, &authority, NAME, Usage::Client, now + 2 * DAY),
        ];
        for checked in wrong {
            assert!(matches!(checked, Err(Flaw::NotAccepted(_))), "{checked:?}");
        }
        let stranger = authority.issue(NAME, Usage::Client, DAY).expect("signed");
        let mixed = Identity { key_pem: stranger.key_pem, ..identity };
        assert_eq!(checked(&mixed, &authority, NAME, Usage::Client, now), Err(Flaw::OtherKey));
        let none = Identity { cert_pem: "none".into(), ..mixed };
        assert_eq!(checked(&none, &authority, NAME, Usage::Client, now), Err(Flaw::Unreadable));
    }

    #[test]
    fn an_authority_that_was_kept_signs_like_the_one_that_was_made() {
        let made = Authority::new("a test", DAY).expect("made");
        let kept = Authority::load("a test", made.identity().clone()).expect("a key");
        let identity = kept.issue(NAME, Usage::Server, DAY).expect("signed");
        assert_eq!(check(&identity, made.pem(), NAME, Usage::Server, SystemTime::now()), Ok(()));
    }

    #[test]
    fn the_validity_is_read_out_of_the_certificate() {
        // Short and long times, of which the second is in the form for years from 2050 on.
        for valid_for in [DAY, 365 * 60 * DAY] {
            let authority = Authority::new("a test", valid_for).expect("made");
            let read = validity(authority.pem()).expect("read");
            let expected = SystemTime::now() + valid_for;
            let off = expected.duration_since(read.not_after).expect("rounded down");
            assert!(off < Duration::from_secs(20), "{off:?}");
            assert!(read.not_before < SystemTime::now());
        }
        assert_eq!(validity("none"), Err(Flaw::Unreadable));
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        for ((year, month, day), days) in [
            ((1970, 1, 1), 0),
            ((2000, 2, 29), 11_016),
            ((2000, 3, 1), 11_017),
            ((2026, 11, 29), 20_786),
            ((2100, 3, 1), 47_541),
        ] {
            assert_eq!(days_since_1970(year, month, day), Some(days), "{year}-{month}-{day}");
        }
        assert_eq!(days_since_1970(2026, 13, 1), None);
    }

    #[test]
    fn renewal_is_due_in_the_last_third() {
        let from = UNIX_EPOCH + Duration::from_secs(1000);
        let validity = Validity { not_before: from, not_after: from + 9 * DAY };
        assert!(!renewal_due(validity, from + 5 * DAY));
        assert!(renewal_due(validity, from + 7 * DAY));
        assert!(renewal_due(validity, from + 10 * DAY));
    }
}
