//! The transactions of a partition: making it, extending its lease, changing it into another one. Each
//! is one batch, of which the kernel does all or nothing. They are built here and not sent.

use std::time::Duration;

use super::{
    content::Content,
    rules::{LEASE, LEASE_ID, Make, Parts, Ruleset, parts},
};
use crate::kernel::nft::{Batch, Element, KeyType, SetKind};

/// The shortest timeout of an element: one tick of the slowest kernel (`CONFIG_HZ=100`). A kernel
/// before 6.10 rounds less down to none, which means "never" (`nf_msecs_to_jiffies64`).
const TIMEOUT_MS_MIN: u64 = 10;

/// How many things a table holds, by which it is seen whether somebody else put more into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Shape {
    pub(super) objects: u32,
    pub(super) rules: u32,
}

/// What the table of a partition holds.
pub(super) fn shape(content: &Content) -> Shape {
    let parts = parts(content);
    Shape {
        objects: count(&[&parts.base_chains, &parts.chains, &parts.sets]),
        rules: parts.base_rules + parts.rules,
    }
}

/// What the table of `from` holds when all is ready for `to`, and nothing is changed yet.
pub(super) fn shape_made_ready(from: &Content, to: &Content) -> Shape {
    let (old, new) = (shape(from), parts(to));
    Shape {
        objects: old.objects + count(&[&new.chains, &new.sets]) - 1,
        rules: old.rules + new.rules,
    }
}

/// The chains of a partition that its base chains go to, which no other has in the same table.
pub(super) fn inner_chains(content: &Content) -> Vec<String> {
    parts(content).chains
}

/// So many things, and the set of the lease.
fn count(names: &[&[String]]) -> u32 {
    let count: usize = names.iter().map(|names| names.len()).sum();
    u32::try_from(count + 1).unwrap_or(u32::MAX)
}

/// All that it takes to bring the partition into effect, for so long.
pub(super) fn injection(table: &str, owner: &str, content: &Content, lease: Duration) -> Batch {
    let mut ruleset = Ruleset::new(table, content, Make::All);
    ruleset.batch.new_table(table, owner);
    ruleset.batch.new_set(table, LEASE, LEASE_ID, KeyType::Family, SetKind::Timeouts);
    ruleset.batch.add_elements(table, LEASE, &lease_elements(lease));
    ruleset.fill_in();
    ruleset.batch
}

/// The sets and chains of a partition that another one is to become, beside those that it has. No
/// packet comes to them.
///
/// Not in the transaction that has packets come to them: the ranges of a set can be looked up a
/// moment after the new rules can, where the kernel makes an array of them when all else is done
/// (`nft_rbtree_commit`), and a packet would find nothing in between.
pub(super) fn make_ready(table: &str, to: &Content) -> Batch {
    let mut ruleset = Ruleset::new(table, to, Make::Inner);
    ruleset.fill_in();
    ruleset.batch
}

/// Takes back [`make_ready`].
pub(super) fn unmake(table: &str, to: &Content) -> Batch {
    let mut batch = Batch::default();
    delete_inner(&mut batch, table, &parts(to));
    batch
}

/// Makes of one partition another, for which all is ready. A packet sees the rules of the one or of
/// the other: which, the kernel decides once for each base chain that it comes to (`nft_do_chain`).
/// So base chains that both have must stay: of one that is deleted and another that is created, a
/// packet could come to the second before the change and to the first after it, and pass both.
///
/// The set of the lease is not touched: it ends when it would have, and what has ended stays ended.
pub(super) fn switch(table: &str, from: &Content, to: &Content) -> Batch {
    let (old, new) = (parts(from), parts(to));
    let mut ruleset = Ruleset::new(table, to, Make::Base);
    for chain in &old.base_chains {
        ruleset.batch.flush_chain(table, chain);
        if !new.base_chains.contains(chain) {
            ruleset.batch.delete_chain(table, chain);
        }
    }
    delete_inner(&mut ruleset.batch, table, &old);
    ruleset.kept = &old.base_chains;
    ruleset.fill_in();
    ruleset.batch
}

/// Deletes what no base chain goes to any more.
fn delete_inner(batch: &mut Batch, table: &str, parts: &Parts) {
    for chain in &parts.chains {
        batch.flush_chain(table, chain);
    }
    for chain in &parts.chains {
        batch.delete_chain(table, chain);
    }
    for set in &parts.sets {
        batch.delete_set(table, set);
    }
}

/// Ends the lease and begins it anew. The kernel refuses all of it if the lease has ended: an element
/// whose time is over cannot be deleted.
pub(super) fn renewal(table: &str, lease: Duration) -> Batch {
    let mut batch = Batch::default();
    let elements = lease_elements(lease);
    // Re-adding a live element does not change its timeout, and updating one in place needs 6.12.
    batch.delete_elements(table, LEASE, &elements);
    batch.add_elements(table, LEASE, &elements);
    batch
}

fn lease_elements(lease: Duration) -> [Element; 2] {
    let timeout_ms = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX).max(TIMEOUT_MS_MIN);
    let element =
        |family: i32| Element::key(&[u8::try_from(family).unwrap_or(0)]).expiring_after(timeout_ms);
    [element(libc::NFPROTO_IPV4), element(libc::NFPROTO_IPV6)]
}
