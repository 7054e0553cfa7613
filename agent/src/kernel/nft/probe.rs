//! Whether this kernel's nftables can do what the fault kinds need of it, found out by doing it.
//!
//! In an empty namespace of its own, which ends with the look: nothing else sees it.

use std::sync::OnceLock;

use super::{
    Batch, Element, Expr, Hook, KeyType, Nft, SetKind,
    interval::{self, Range},
    of_protocol,
};
use crate::kernel::{KernelError, netns::in_scratch};

const TABLE: &str = "faultline_probe";
const OWNER: &str = "a look at what this kernel can do";

/// Tries everything once: tables that keep a comment (Linux 5.10), sets with timeouts and with
/// intervals, lookups, counters and rejects in both directions. A success is remembered; a failure
/// is not, because modules can be loaded later.
///
/// # Errors
/// What the kernel refused.
pub fn probe() -> Result<(), KernelError> {
    static AVAILABLE: OnceLock<()> = OnceLock::new();
    if AVAILABLE.get().is_none() {
        in_scratch(attempt)?;
        // Another thread may have found out meanwhile.
        AVAILABLE.get_or_init(|| ());
    }
    Ok(())
}

fn attempt() -> Result<(), KernelError> {
    let mut nft = Nft::open()?;
    let mut batch = Batch::default();
    batch.new_table(TABLE, OWNER);
    batch.new_set(TABLE, "lease", 1, KeyType::Family, SetKind::Timeouts);
    batch.add_elements(TABLE, "lease", &[Element::key(&[2]).expiring_after(60_000)]);
    batch.new_set(TABLE, "ports", 2, KeyType::Port, SetKind::Intervals);
    let ports = interval::elements(vec![Range { first: 1, last: 9 }], KeyType::Port.key_len());
    batch.add_elements(TABLE, "ports", &ports);
    for (chain, hook) in [("input", Hook::Input), ("output", Hook::Output)] {
        batch.new_base_chain(TABLE, chain, hook, 0);
        batch.add_rule(
            TABLE,
            chain,
            &[Expr::LoadFamily, Expr::NotIn("lease".into()), Expr::Accept],
        );
        let tcp = of_protocol(6);
        batch.add_rule(TABLE, chain, &[&tcp[..], &[Expr::Count, Expr::RejectWithReset]].concat());
        batch.add_rule(TABLE, chain, &[Expr::RejectAsProhibited]);
    }
    nft.commit(batch)?;
    let owner = nft.table(TABLE)?.and_then(|table| table.owner);
    if owner.as_deref() == Some(OWNER) {
        return Ok(());
    }
    Err(KernelError::Unexpected {
        verb: "read back",
        object: format!("table inet {TABLE}"),
        problem: "its comment is not kept; that needs Linux 5.10".into(),
    })
}
