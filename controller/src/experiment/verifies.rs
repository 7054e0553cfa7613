//! What a probe is the proof of, for dashboards that ask for it by name: `verifies: { fallback: cache }`.
//! Whether it is proven is judged by what the probe's `during` and `recovery` ask for, and by nothing else.

use faultline_proto::yaml::{self, Fields, Node, Problems, Spanned};
use serde::{Deserialize, Serialize};

/// What a probe that stays within its bounds proves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Verifies {
    /// That a fallback of this type takes over.
    Fallback(String),
    /// That this region is cut off from the others.
    RegionIsolation(String),
    /// That a database is promoted.
    DatabasePromotion {
        /// In this region.
        region: String,
        /// Of this service.
        service: String,
    },
    /// That traffic goes to another region.
    TrafficRedirection {
        /// From this one.
        from: String,
        /// To this one.
        to: String,
    },
}

/// Decodes it: one of the four.
pub(super) fn decode(node: &Node, problems: &mut Problems) -> Option<Verifies> {
    let mut fields = Fields::open(node, "verifies", problems)?;
    let value = |name: Spanned<String>| name.value;
    let fallback = fields.optional("fallback", problems, yaml::name);
    let isolation = fields.optional("regionIsolation", problems, yaml::name);
    let promotion = fields.optional("databasePromotion", problems, |node, problems| {
        let (region, service) = two(node, "databasePromotion", ["region", "service"], problems)?;
        Some(Verifies::DatabasePromotion { region, service })
    });
    let redirection = fields.optional("trafficRedirection", problems, |node, problems| {
        let (from, to) = two(node, "trafficRedirection", ["from", "to"], problems)?;
        Some(Verifies::TrafficRedirection { from, to })
    });
    let span = fields.span();
    let written = fields.keys().count();
    fields.finish(problems);
    if written != 1 {
        problems.add(span, format!("a probe verifies one thing, and here are {written}")).expected(
            "expected one of: databasePromotion, fallback, regionIsolation, trafficRedirection",
        );
        return None;
    }
    let single = fallback.map(value).map(Verifies::Fallback);
    single.or(isolation.map(value).map(Verifies::RegionIsolation)).or(promotion).or(redirection)
}

/// Two names.
fn two(
    node: &Node,
    what: &'static str,
    [first, second]: [&'static str; 2],
    problems: &mut Problems,
) -> Option<(String, String)> {
    let mut fields = Fields::open(node, what, problems)?;
    let one = fields.required(first, problems, yaml::name);
    let other = fields.required(second, problems, yaml::name);
    fields.finish(problems);
    Some((one?.value, other?.value))
}
