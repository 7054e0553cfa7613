//! The start-up sweep: what carries our name on this node and has no record is removed, so that even a
//! lost journal leaves nothing behind for ever. It never touches what does not carry our name.
//!
//! Nor does it touch what a lease still keeps: on a machine that is several nodes at once it may be
//! another agent's, and if it is nobody's, its lease ends it. It is looked at again later.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
    thread,
    time::{Duration, SystemTime},
};

use faultline_proto::id::FaultId;

use super::partition;
use crate::{
    errors::chain,
    helper,
    kernel::{cgroup_dir, netns::NetNs},
    resolve::Resolver,
};

/// A control group younger than this may be of an agent that is just about to use it: on a machine
/// that is several nodes at once, as a sandbox's is, agents see each other's. They are looked at again.
pub const CGROUP_AGE_MIN: Duration = Duration::from_secs(2);

/// Threads that look into network namespaces at once.
const SWEEPERS: usize = 8;

/// What a sweep did.
#[derive(Debug, Default)]
pub struct Swept {
    /// What was removed, each as one sentence.
    pub removed: Vec<String>,
    /// What carries our name and could not be removed.
    pub failed: Vec<String>,
    /// What carries our name and has a lease that has not ended: it was left alone.
    pub in_effect: Vec<String>,
    /// Control groups without a record were too young to be judged: sweep again when
    /// [`CGROUP_AGE_MIN`] has passed.
    pub is_too_early: bool,
}

/// Removes everything on this node that carries our name and is not of a fault in `known`. What is of
/// one in `lost`, of which this agent knows that it was its own, is removed whatever its lease says.
pub fn sweep(resolver: &Resolver, known: &BTreeSet<FaultId>, lost: &BTreeSet<FaultId>) -> Swept {
    let mut swept = Swept::default();
    match helper::sweep() {
        Ok((ids, failed)) => {
            swept.removed.extend(ids.iter().map(|id| format!("the helper of fault {id}")));
            swept.failed.extend(failed.iter().map(|e| chain(e)));
        }
        Err(e) => swept.failed.push(format!("a helper: {e}")),
    }
    swept.all_tables(known, lost);
    swept.groups(resolver, known);
    swept
}

/// The part of [`sweep`] that is about network namespaces.
pub fn sweep_tables(known: &BTreeSet<FaultId>, lost: &BTreeSet<FaultId>) -> Swept {
    let mut swept = Swept::default();
    swept.all_tables(known, lost);
    swept
}

/// Takes back what bears the names of these faults, of which there is no record to revert them by.
/// Returns what is left of each, one sentence for each thing: nothing, if the kernel holds nothing by
/// its name.
///
/// A helper is left to its timer: killed, one that stopped processes could not continue them.
pub fn take_back_by_name(
    resolver: &Resolver,
    ids: &BTreeSet<FaultId>,
) -> BTreeMap<FaultId, Vec<String>> {
    let mut left: BTreeMap<_, Vec<String>> = ids.iter().map(|id| (*id, Vec::new())).collect();
    let all = NetNs::all().unwrap_or_else(|e| {
        not_known(&mut left, &format!("the networks could not be looked at: {}", chain(&e)));
        Vec::new()
    });
    for net_ns in all {
        let place = net_ns.path().display();
        match partition::found_in(&net_ns) {
            Ok(found) => {
                for table in found {
                    if let Some(left) = left.get_mut(&table.fault)
                        && let Err(e) = partition::remove_from(&net_ns, table.fault)
                    {
                        left.push(format!("the table in {place}: {}", chain(&e)));
                    }
                }
            }
            Err(e) if e.is_gone() => {}
            // Whose tables are there is not known: nothing is proven of any.
            Err(e) => {
                not_known(
                    &mut left,
                    &format!("the tables in {place} could not be read: {}", chain(&e)),
                );
            }
        }
    }
    match helper::find() {
        Ok(helpers) => {
            for found in helpers {
                if let Some(left) = left.get_mut(&found.fault) {
                    left.push(format!("helper process {}", found.process.pid));
                }
            }
        }
        Err(e) => {
            not_known(&mut left, &format!("the helpers could not be looked for: {}", chain(&e)));
        }
    }
    for hierarchy in &resolver.cgroups.hierarchies {
        let ours = cgroup_dir::ours_below(&hierarchy.mount_point).unwrap_or_else(|e| {
            not_known(&mut left, &format!("control groups could not be looked at: {}", chain(&e)));
            Vec::new()
        });
        for (id, dir) in ours {
            if let Some(left) = left.get_mut(&id)
                && let Err(e) = fs::remove_dir(&dir)
                && e.kind() != io::ErrorKind::NotFound
            {
                left.push(format!("control group {}: {e}", dir.display()));
            }
        }
    }
    left
}

/// Where something could not be looked at, nothing is proven of any of them.
fn not_known(left: &mut BTreeMap<FaultId, Vec<String>>, why: &str) {
    for left in left.values_mut() {
        left.push(why.to_owned());
    }
}

impl Swept {
    /// Several namespaces at once: to take a table away is mostly to wait until no packet is on its way
    /// through it.
    fn all_tables(&mut self, known: &BTreeSet<FaultId>, lost: &BTreeSet<FaultId>) {
        let all = match NetNs::all() {
            Ok(all) => all,
            Err(e) => return self.failed.push(format!("the networks: {}", chain(&e))),
        };
        let share = all.len().div_ceil(SWEEPERS).max(1);
        let look = |part: &[NetNs]| {
            let mut swept = Self::default();
            for net_ns in part {
                swept.tables(net_ns, known, lost);
            }
            swept
        };
        thread::scope(|scope| {
            let mut sweepers = Vec::new();
            for part in all.chunks(share) {
                match thread::Builder::new().spawn_scoped(scope, move || look(part)) {
                    Ok(sweeper) => sweepers.push(sweeper),
                    // The system has no thread to give.
                    Err(_) => self.take(look(part)),
                }
            }
            for sweeper in sweepers {
                match sweeper.join() {
                    Ok(part) => self.take(part),
                    Err(_panic) => {
                        self.failed.push("tables: a thread of the sweep panicked".into());
                    }
                }
            }
        });
    }

    /// Takes in what another part of it did.
    fn take(&mut self, part: Self) {
        self.removed.extend(part.removed);
        self.failed.extend(part.failed);
        self.in_effect.extend(part.in_effect);
    }

    fn tables(&mut self, net_ns: &NetNs, known: &BTreeSet<FaultId>, lost: &BTreeSet<FaultId>) {
        let place = net_ns.path().display();
        let found = match partition::found_in(net_ns) {
            Ok(found) => found,
            // It has gone meanwhile, and its tables with it.
            Err(e) if e.is_gone() => return,
            Err(e) => return self.failed.push(format!("tables in {place}: {e}")),
        };
        for table in found.into_iter().filter(|table| !known.contains(&table.fault)) {
            let what = format!("the table of fault {} in {place}", table.fault);
            if table.is_in_effect && !lost.contains(&table.fault) {
                self.in_effect.push(what);
                continue;
            }
            match partition::remove_from(net_ns, table.fault) {
                Ok(_) => self.removed.push(what),
                Err(e) => self.failed.push(format!("{what}: {e}")),
            }
        }
    }

    fn groups(&mut self, resolver: &Resolver, known: &BTreeSet<FaultId>) {
        for hierarchy in &resolver.cgroups.hierarchies {
            let ours = match cgroup_dir::ours_below(&hierarchy.mount_point) {
                Ok(ours) => ours,
                Err(e) => {
                    self.failed.push(format!("control groups: {}", chain(&e)));
                    continue;
                }
            };
            for (_, dir) in ours.into_iter().filter(|(id, _)| !known.contains(id)) {
                if is_old(&dir) {
                    self.take_in(&format!("control group {}", dir.display()), fs::remove_dir(&dir));
                } else {
                    self.is_too_early = true;
                }
            }
        }
    }

    fn take_in(&mut self, what: &str, result: io::Result<()>) {
        match result {
            Ok(()) => self.removed.push(what.to_owned()),
            // In use by an agent of another node on this machine: not this one's to take away.
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => self.failed.push(format!("{what}: {e}")),
        }
    }
}

fn is_old(dir: &Path) -> bool {
    let changed = fs::metadata(dir).and_then(|meta| meta.modified());
    let age = changed.ok().and_then(|changed| SystemTime::now().duration_since(changed).ok());
    age.is_some_and(|age| age >= CGROUP_AGE_MIN)
}
