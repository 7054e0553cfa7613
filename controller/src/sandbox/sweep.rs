//! What a sandbox left behind whose process was killed: control groups and a directory. Everything
//! else went with its processes.

use std::{fs, path::Path};

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

/// Makes a group in every hierarchy, and notes what has to be taken back for it.
pub(super) fn make_groups(
    roots: &[Root],
    relative: &[String],
    directory: &Path,
) -> Result<(), StepError> {
    let mut handed_down = Vec::new();
    for root in roots {
        let mut enabled = Vec::new();
        for relative in relative {
            enabled.extend(root.make(relative)?);
        }
        handed_down.push((root.mount_point.clone(), enabled));
    }
    let text = serde_json::to_string(&handed_down).step(|| "note the controllers".into())?;
    write_private(&directory.join(HANDED_DOWN), &text)
}

/// Takes back from the machine's root what it was made to hand down.
pub(super) fn take_back(roots: &[Root], directory: &Path) {
    let text = fs::read(directory.join(HANDED_DOWN)).unwrap_or_default();
    let noted: Vec<(std::path::PathBuf, Vec<String>)> =
        serde_json::from_slice(&text).unwrap_or_default();
    for root in roots {
        if let Some((_, enabled)) = noted.iter().find(|(mount, _)| *mount == root.mount_point) {
            root.take_back(enabled);
        }
    }
}
