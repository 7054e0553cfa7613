//! Where a sandbox keeps its files: `/run/faultline/sandbox-<id>` as root, and otherwise below
//! `$XDG_RUNTIME_DIR`, or a directory of this user in the temporary one.
//!
//! A directory whose `lock` somebody holds (flock(2)) belongs to a running sandbox; the lock ends
//! with the process that holds it, however it ends. The directory above is locked itself while
//! something is made or removed in it, so that nobody sweeps what is half made.

use std::{
    env, fs,
    fs::{DirBuilder, File, Permissions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use faultline_proto::id::RunId;
use nix::unistd::geteuid;

use super::error::{SandboxError, Step as _, StepError};

/// What the name of a sandbox's directory begins with.
const PREFIX: &str = "sandbox-";
const LOCK: &str = "lock";
/// The inventory's name in it.
pub(super) const INVENTORY: &str = "inventory.json";

/// The directory of a sandbox, held: others leave it alone until this is dropped.
#[derive(Debug)]
pub(super) struct RuntimeDir {
    pub(super) id: String,
    pub(super) path: PathBuf,
    _lock: File,
}

/// The directory that this user's sandboxes are in. It need not exist.
pub(super) fn base() -> PathBuf {
    if geteuid().is_root() {
        return "/run/faultline".into();
    }
    let own = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    own.map_or_else(
        || env::temp_dir().join(format!("faultline-{}", geteuid())),
        |own| own.join("faultline"),
    )
}

/// The inventories of the sandboxes of this user that run now.
pub fn running() -> Vec<PathBuf> {
    let directories = list(&base()).into_iter().map(|(_, path)| path);
    let held = directories.filter(|path| is_held(path).unwrap_or(false));
    held.map(|path| path.join(INVENTORY)).filter(|file| file.exists()).collect()
}

/// The sandboxes' directories in `base`, running or not: their ids and paths.
fn list(base: &Path) -> Vec<(String, PathBuf)> {
    let Ok(entries) = fs::read_dir(base) else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let id = name.to_str()?.strip_prefix(PREFIX)?;
            Some((id.to_owned(), entry.path()))
        })
        .collect()
}

fn is_held(path: &Path) -> io::Result<bool> {
    match File::open(path.join(LOCK)) {
        // Shared, so that two who look do not take each other for a sandbox.
        Ok(file) => match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The directory above, locked: nobody else makes or removes anything in it.
pub(super) struct Base {
    path: PathBuf,
    _lock: File,
}

impl Base {
    /// Makes it where it is not there, checks that it is this user's alone, and locks it.
    pub(super) fn lock(path: &Path) -> Result<Self, SandboxError> {
        let shown = || format!("prepare {}", path.display());
        loop {
            match DirBuilder::new().mode(0o700).create(path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(error).step(shown)?;
                }
                _ => {}
            }
            let seen = fs::symlink_metadata(path).step(shown)?;
            if !seen.is_dir() || seen.uid() != geteuid().as_raw() || seen.mode() & 0o022 != 0 {
                return Err(SandboxError::NotPrivate { path: path.to_owned() });
            }
            // Others could look into it, and not put anything there: nothing in it is not ours.
            if seen.mode() & 0o077 != 0 {
                fs::set_permissions(path, Permissions::from_mode(0o700)).step(shown)?;
            }
            let lock = File::open(path).step(shown)?;
            lock.lock().step(|| format!("lock {}", path.display()))?;
            // Whoever held it before may have removed it as the last.
            let locked = lock.metadata().step(shown)?;
            let now = fs::symlink_metadata(path);
            if now.is_ok_and(|now| (now.dev(), now.ino()) == (locked.dev(), locked.ino())) {
                return Ok(Self { path: path.to_owned(), _lock: lock });
            }
        }
    }

    /// The sandboxes that nobody holds: their ids and directories.
    pub(super) fn abandoned(&self) -> Vec<(String, PathBuf)> {
        let all = list(&self.path).into_iter();
        all.filter(|(_, path)| matches!(is_held(path), Ok(false))).collect()
    }

    /// Whether a sandbox has a directory here, running or not.
    pub(super) fn contains(&self, id: &str) -> bool {
        self.path.join(format!("{PREFIX}{id}")).exists()
    }

    /// The directories of all sandboxes, running or not.
    pub(super) fn directories(&self) -> Vec<PathBuf> {
        list(&self.path).into_iter().map(|(_, path)| path).collect()
    }

    /// Makes and holds a directory for a new sandbox.
    pub(super) fn create(&self) -> Result<RuntimeDir, StepError> {
        let id = RunId::random().step(|| "draw an id for the sandbox".into())?.to_string();
        let path = self.path.join(format!("{PREFIX}{id}"));
        make(&path)?;
        let file = path.join(LOCK);
        let lock = File::create_new(&file).step(|| format!("make {}", file.display()))?;
        lock.lock().step(|| format!("lock {}", file.display()))?;
        Ok(RuntimeDir { id, path, _lock: lock })
    }

    /// Removes a sandbox's directory, and this one if it was the last.
    pub(super) fn remove(&self, path: &Path) -> Result<(), StepError> {
        debug_assert!(path.starts_with(&self.path), "{} is another's", path.display());
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
        .step(|| format!("remove {}", path.display()))
    }
}

impl Drop for Base {
    fn drop(&mut self) {
        // Fails while there is another sandbox in it, and should.
        drop(fs::remove_dir(&self.path));
    }
}

/// Makes a directory that only this user can enter.
pub(super) fn make(path: &Path) -> Result<(), StepError> {
    DirBuilder::new().mode(0o700).create(path).step(|| format!("make {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_directory_is_left_alone_and_a_dropped_one_is_abandoned() {
        let above = tempfile::tempdir().expect("a directory");
        let path = above.path().join("faultline");
        let held = Base::lock(&path).expect("private").create().expect("made");
        assert!(Base::lock(&path).expect("private").abandoned().is_empty());
        let (id, directory) = (held.id.clone(), held.path.clone());
        drop(held);
        let base = Base::lock(&path).expect("private");
        assert_eq!(base.abandoned(), [(id, directory.clone())]);
        base.remove(&directory).expect("removed");
        drop(base);
        assert!(!path.exists(), "the last one takes the directory above with it");
    }

    #[test]
    fn a_directory_that_others_can_write_to_is_refused_and_one_they_can_enter_is_closed() {
        let above = tempfile::tempdir().expect("a directory");
        let path = above.path().join("faultline");
        DirBuilder::new().create(&path).expect("made");
        fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("it is ours");
        let base = Base::lock(&path).expect("nobody else could write there");
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o700);
        drop(base);
        DirBuilder::new().create(&path).expect("made");
        fs::set_permissions(&path, Permissions::from_mode(0o775)).expect("it is ours");
        let error = Base::lock(&path).map(drop).expect_err("not private");
        assert!(matches!(error, SandboxError::NotPrivate { .. }), "{error}");
    }
}
