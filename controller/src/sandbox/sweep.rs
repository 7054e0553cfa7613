//! What a sandbox left behind whose process was killed: control groups and a directory. Everything
//! else went with its processes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use super::{
    cgroups::{self, Root},
    error::{SandboxError, Step as _, StepError},
    identity::write_private,
    runtime_dir::Base,
};

/// The controllers that the machine's root was made to hand down, so that they can be taken back.
const HANDED_DOWN: &str = "handed-down.json";

/// Removes every sandbox that nobody holds. Returns what was done, each as one sentence.
pub(super) fn sweep(base: &Base) -> Result<Vec<String>, SandboxError> {
    let mut report = Vec::new();
    for (id, directory) in base.abandoned() {
        let roots = cgroups::usable(&id);
        let groups: Vec<_> = roots.iter().map(|root| root.path.clone()).collect();
        let processes: usize =
            groups.iter().map(|group| cgroups::processes(group).len()).max().unwrap_or(0);
        let left = cgroups::clear(&groups);
        if left.is_empty() {
            take_back(&roots, &directory);
            base.remove(&directory)?;
            report.push(format!(
                "swept the sandbox {id} of a process that was killed ({processes} of its processes still ran)"
            ));
        } else {
            let left: Vec<_> = left.iter().map(|group| group.display().to_string()).collect();
            report.push(format!("could not sweep the sandbox {id}: {} stays", left.join(", ")));
        }
    }
    for (id, groups) in cgroups::empty() {
        if !base.contains(&id) && cgroups::clear(&groups).is_empty() {
            report.push(format!(
                "swept the control groups of the sandbox {id}, whose directory is lost"
            ));
        }
    }
    Ok(report)
}

/// What the machine's roots were made to hand down: the hierarchies and the controllers.
type HandedDown = BTreeMap<PathBuf, BTreeSet<String>>;

fn noted(directory: &Path) -> HandedDown {
    let text = fs::read(directory.join(HANDED_DOWN)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// Makes groups in every hierarchy. What the machine's roots will be made to hand down for that is
/// noted before, and what other sandboxes have noted with it: the last of them to end takes it back.
pub(super) fn make_groups(
    base: &Base,
    roots: &[Root],
    relative: &[String],
    directory: &Path,
) -> Result<(), StepError> {
    let own = roots.iter().map(|root| {
        (root.mount_point.clone(), root.to_hand_down().into_iter().collect::<BTreeSet<_>>())
    });
    let mut all = HandedDown::new();
    for (mount, controllers) in base.directories().iter().flat_map(|other| noted(other)).chain(own)
    {
        all.entry(mount).or_default().extend(controllers);
    }
    let text = serde_json::to_string(&all).step(|| "note the controllers".into())?;
    write_private(&directory.join(HANDED_DOWN), &text)?;
    for root in roots {
        relative.iter().try_for_each(|group| root.make(group))?;
    }
    Ok(())
}

/// Takes back from the machine's roots what they were made to hand down.
pub(super) fn take_back(roots: &[Root], directory: &Path) {
    let noted = noted(directory);
    for root in roots {
        if let Some(controllers) = noted.get(&root.mount_point) {
            root.take_back(controllers);
        }
    }
}
