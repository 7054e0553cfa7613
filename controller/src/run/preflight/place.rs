//! `requirePlace`, compared with what a place is.

use super::one_line;
use crate::{
    experiment::{PlaceFacts, RequiredPlace},
    place::Place,
};

/// Whether a place is the one that is required.
pub(super) async fn is_required(required: &RequiredPlace, place: &Place) -> Result<String, String> {
    let here = place.describe();
    let cluster = place.cluster();
    let uid = match cluster {
        Some(cluster) if required.asks_uid() => {
            Some(cluster.uid().await.map_err(|error| one_line(&error))?)
        }
        _ => None,
    };
    let facts = PlaceFacts {
        is_sandbox: place.is_sandbox(),
        file: place.file(),
        is_cluster: cluster.is_some(),
        context: cluster.and_then(|cluster| cluster.connection().context()),
        cluster_uid: uid.as_deref(),
    };
    match required.check(&facts) {
        Ok(()) => Ok(here),
        Err(why) => Err(format!("this is {here}, and {why}")),
    }
}
