//! Our table among others: telling it apart, and removing it and nothing else.

use faultline_proto::id::FaultId;

use super::{rules::LEASE, transaction::Shape};
use crate::kernel::{
    KernelError,
    netns::NetNs,
    nft::{Nft, Table},
};

/// A table of ours that was found in a namespace, whoever made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The fault it is for.
    pub fault: FaultId,
    /// Whether its lease has not ended: somebody may be there who renews it.
    pub is_in_effect: bool,
}

/// Our tables in a namespace. For the sweep at start-up: the journal may be lost, the names are not.
///
/// # Errors
/// When the namespace cannot be entered or the kernel could not be asked.
pub fn found_in(net_ns: &NetNs) -> Result<Vec<Found>, KernelError> {
    net_ns.enter(|| {
        let mut nft = Nft::open()?;
        let mut found = Vec::new();
        for table in nft.tables()? {
            let fault = FaultId::from_object_name(&table.name);
            if let Some(fault) = fault.filter(|fault| is_ours(&table, *fault)) {
                let is_in_effect = nft.element_count(&table.name, LEASE)? > 0;
                found.push(Found { fault, is_in_effect });
            }
        }
        Ok(found)
    })
}

/// Removes the table of a fault from a namespace, whatever is in it. Returns what was left alone or
/// went with it that was not ours, each as one sentence. No error if there is no such table.
///
/// # Errors
/// When it could not be removed.
pub fn remove_from(net_ns: &NetNs, id: FaultId) -> Result<Vec<String>, KernelError> {
    net_ns.enter(|| remove_table(&mut Nft::open()?, id, &[]))
}

/// Removes our table of a fault, and tells what went with it. `expected` is what is known to be in it,
/// one of these; empty: nothing is known.
pub(super) fn remove_table(
    nft: &mut Nft,
    id: FaultId,
    expected: &[Shape],
) -> Result<Vec<String>, KernelError> {
    let name = id.object_name();
    let Some(table) = nft.table(&name)? else { return Ok(Vec::new()) };
    if !is_ours(&table, id) {
        return Ok(vec![format!(
            "the nftables table {name} is not Faultline's; it was left alone"
        )]);
    }
    let found = shape_of(nft, &table)?;
    let mut notes = Vec::new();
    if let Some(meant) = expected.first().filter(|_| !expected.contains(&found)) {
        for difference in differences(found, *meant) {
            notes.push(format!(
                "somebody changed the nftables table {name}: it had {difference} when it was deleted"
            ));
        }
    }
    // By its handle: a table that took its place meanwhile has another one.
    nft.delete_table(&table)?;
    Ok(notes)
}

/// How many things a table holds now.
pub(super) fn shape_of(nft: &mut Nft, table: &Table) -> Result<Shape, KernelError> {
    let rules = u32::try_from(nft.rules(&table.name)?.len()).unwrap_or(u32::MAX);
    Ok(Shape { objects: table.objects, rules })
}

/// In what a table differs from what it should hold: "3 rules instead of 2".
pub(super) fn differences(found: Shape, expected: Shape) -> Vec<String> {
    [
        ("chains, sets and other objects", found.objects, expected.objects),
        ("rules", found.rules, expected.rules),
    ]
    .into_iter()
    .filter(|(_, found, expected)| found != expected)
    .map(|(what, found, expected)| format!("{found} {what} instead of {expected}"))
    .collect()
}

/// What is kept with our table of a fault, and not with another of the same name.
pub(super) fn owner(id: FaultId) -> String {
    format!("Faultline fault {id}")
}

/// Whether a table is the one that Faultline made for a fault.
pub(super) fn is_ours(table: &Table, id: FaultId) -> bool {
    table.owner.as_deref() == Some(&owner(id))
}
