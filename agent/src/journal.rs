//! Undo records on disk: written before the kernel is touched, removed when nothing is left in it.
//!
//! One file per injection, `<fault id>.json`, made by writing a temporary file, syncing it, renaming
//! it and syncing the directory, so that after a loss of power a record is there whole or not at all.
//! A first line carries the version and a checksum all the same: what cannot be understood is not
//! guessed at but reported. Beside a record, `<fault id>.acknowledged` says that a person has looked at
//! a fault that is stuck. Not a log: what happened is told by the controller's journal of the run.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use faultline_proto::{
    boottime::BootTime,
    fault::Fault,
    id::{FaultId, RunId},
    target::Target,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{failpoint, fault::AnyInjection};

/// The version of the records that this agent writes, and the only one that it reads. What a fault kind
/// adds to its plans can be left out, and is then not written: an agent that does not know it reverts
/// such a record all the same.
const VERSION: u32 = 1;
const MAGIC: &str = "faultline-journal";
const EXTENSION: &str = "json";
const TEMPORARY: &str = "tmp";
const ACKNOWLEDGED: &str = "acknowledged";

/// All that is needed to revert one injection, in this process or in a later one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Whose undo this is.
    pub fault_id: FaultId,
    /// The run it belongs to.
    pub run_id: RunId,
    /// `/proc/sys/kernel/random/boot_id` of when it was written: after a reboot the kernel is clean.
    pub boot_id: String,
    /// The pid namespace of who wrote it: in another one nobody can be looked for. Records of older agents
    /// do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid_ns: Option<String>,
    /// What it is on.
    pub target: Target,
    /// What was asked for.
    pub fault: Fault,
    /// The lease that was asked for.
    pub lease: Duration,
    /// The absolute latest end.
    pub deadline: BootTime,
    /// What is done and how it is undone.
    pub injection: AnyInjection,
}

/// A record that is on disk. Only the journal makes one, and only such a one can be injected.
#[derive(Debug)]
pub struct Journalled {
    record: Record,
}

impl Journalled {
    /// What is on disk.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// What is done and how it is undone.
    pub fn injection(&self) -> &AnyInjection {
        &self.record.injection
    }
}

/// What a journal held when it was opened.
#[derive(Debug, Default)]
pub struct Found {
    /// Records to be reverted.
    pub records: Vec<Journalled>,
    /// Files that are no record this agent understands, and why. They are left where they are.
    pub unreadable: BTreeMap<PathBuf, String>,
    /// Faults with a file here that a person has acknowledged to be stuck.
    pub acknowledged: BTreeSet<FaultId>,
}

/// The fault that a file of the journal is about, as its name says; `None` if that says none.
pub fn id_of(path: &Path) -> Option<FaultId> {
    path.file_stem()?.to_str()?.parse().ok()
}

/// The journal could not be written or read.
#[derive(Debug, Error)]
#[error("failed to {verb} {path}")]
pub struct JournalError {
    verb: &'static str,
    path: String,
    #[source]
    source: io::Error,
}

impl JournalError {
    fn new(verb: &'static str, path: &Path, source: io::Error) -> Self {
        Self { verb, path: path.display().to_string(), source }
    }
}

/// The undo records of one agent.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
}

impl Journal {
    /// Opens the journal in `dir`, which is made if it is not there, and reads what it holds.
    ///
    /// # Errors
    /// When the directory cannot be made or read.
    pub fn open(dir: &Path) -> Result<(Self, Found), JournalError> {
        fs::create_dir_all(dir).map_err(|e| JournalError::new("make", dir, e))?;
        let mut found = Found::default();
        let entries = fs::read_dir(dir).map_err(|e| JournalError::new("read", dir, e))?;
        for entry in entries {
            let path = entry.map_err(|e| JournalError::new("read", dir, e))?.path();
            match path.extension().and_then(|e| e.to_str()) {
                // Never renamed, so the kernel was never touched for it. A disk that does not let it go
                // must not keep what else is here from being reverted.
                Some(TEMPORARY) => {
                    if let Err(e) = fs::remove_file(&path) {
                        tracing::warn!(path = %path.display(), error = %e, "cannot be removed");
                    }
                }
                Some(EXTENSION) => match read(&path) {
                    Ok(record) => found.records.push(Journalled { record }),
                    Err(why) => drop(found.unreadable.insert(path, why)),
                },
                Some(ACKNOWLEDGED) => found.acknowledged.extend(id_of(&path)),
                _ => {}
            }
        }
        let journal = Self { dir: dir.to_owned() };
        found.acknowledged.retain(|id| {
            let is_about_something = journal.path(*id).exists();
            if !is_about_something {
                journal.forget(*id);
            }
            is_about_something
        });
        Ok((journal, found))
    }

    /// Puts records on disk: all of them, or none.
    ///
    /// # Errors
    /// When that fails (a full or read-only disk). What was written of them is removed again.
    pub fn append(&self, records: Vec<Record>) -> Result<Vec<Journalled>, JournalError> {
        let written = records.iter().try_for_each(|record| self.write(record)).and_then(|()| {
            failpoint::reach(failpoint::BEFORE_SYNC);
            sync(&self.dir)
        });
        if let Err(error) = written {
            for record in &records {
                // Best effort: a record without a fault behind it reverts to nothing.
                drop(fs::remove_file(self.path(record.fault_id)));
            }
            return Err(error);
        }
        Ok(records.into_iter().map(|record| Journalled { record }).collect())
    }

    /// Notes that a person has looked at a fault that is stuck, over restarts. Its record stays.
    ///
    /// # Errors
    /// When that cannot be written (a full or read-only disk).
    pub fn acknowledge(&self, id: FaultId) -> Result<(), JournalError> {
        let path = self.path(id).with_extension(ACKNOWLEDGED);
        let write = || File::create(&path)?.sync_all();
        write().map_err(|e| JournalError::new("write", &path, e))?;
        sync(&self.dir)
    }

    /// Puts records in the place of those that are on disk for the same injections. Each must take back
    /// what the one before it does as well: the kernel is changed after this, or not at all.
    ///
    /// # Errors
    /// When that fails (a full or read-only disk). Some of the new ones may be there.
    pub fn replace(&self, records: Vec<Record>) -> Result<Vec<Journalled>, JournalError> {
        records.iter().try_for_each(|record| self.write(record))?;
        sync(&self.dir)?;
        Ok(records.into_iter().map(|record| Journalled { record }).collect())
    }

    /// Removes the record of an injection of which nothing is left, and its acknowledgement. Neither
    /// need be there.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self, id: FaultId) -> Result<(), JournalError> {
        let path = self.path(id);
        let record = remove_if_there(&path)?;
        if record {
            failpoint::reach(failpoint::REMOVED);
        }
        let acknowledged = remove_if_there(&path.with_extension(ACKNOWLEDGED))?;
        if record || acknowledged { sync(&self.dir) } else { Ok(()) }
    }

    /// Whether a file that could not be read is still there: a person removes it once it is clear
    /// what it stood for.
    pub fn still_unreadable(&self, path: &Path) -> bool {
        path.exists()
    }

    fn write(&self, record: &Record) -> Result<(), JournalError> {
        let path = self.path(record.fault_id);
        let temporary = path.with_extension(TEMPORARY);
        let write = || -> io::Result<()> {
            let body = serde_json::to_vec(record)?;
            let checksum = crc32fast::hash(&body);
            let mut text =
                format!("{MAGIC} {VERSION} {checksum:08x} {}\n", body.len()).into_bytes();
            text.extend_from_slice(&body);
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&temporary)?;
            file.write_all(&text)?;
            file.sync_all()?;
            failpoint::reach(failpoint::RECORD_WRITTEN);
            fs::rename(&temporary, &path)
        };
        write().map_err(|e| {
            // Best effort: what is left of it is removed when the journal is opened next.
            drop(fs::remove_file(&temporary));
            JournalError::new("write", &path, e)
        })
    }

    /// Removes an acknowledgement that nothing belongs to any more.
    fn forget(&self, id: FaultId) {
        let path = self.path(id).with_extension(ACKNOWLEDGED);
        if let Err(e) = fs::remove_file(&path) {
            tracing::warn!(path = %path.display(), error = %e, "cannot be removed");
        }
    }

    fn path(&self, id: FaultId) -> PathBuf {
        self.dir.join(format!("{id}.{EXTENSION}"))
    }
}

/// Removes a file. Returns whether it was there.
fn remove_if_there(path: &Path) -> Result<bool, JournalError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(JournalError::new("remove", path, e)),
    }
}

/// Makes what was renamed or removed in a directory last over a loss of power, `fsync(2)`.
fn sync(dir: &Path) -> Result<(), JournalError> {
    let sync = || File::open(dir)?.sync_all();
    sync().map_err(|e| JournalError::new("sync", dir, e))
}

fn read(path: &Path) -> Result<Record, String> {
    let bytes = fs::read(path).map_err(|e| e.to_string())?;
    let end = bytes.iter().position(|b| *b == b'\n').ok_or("it has no first line")?;
    let header = std::str::from_utf8(&bytes[..end]).map_err(|e| e.to_string())?;
    let body = &bytes[end + 1..];
    let fields: Vec<&str> = header.split(' ').collect();
    let [MAGIC, version, checksum, length] = fields.as_slice() else {
        return Err("its first line is not that of a record".into());
    };
    if *version != VERSION.to_string() {
        return Err(format!("it has version {version}; this agent understands {VERSION}"));
    }
    if *length != body.len().to_string() {
        return Err(format!("it is torn: {} bytes of {length}", body.len()));
    }
    if *checksum != format!("{:08x}", crc32fast::hash(body)) {
        return Err("its checksum is wrong".into());
    }
    let record: Record = serde_json::from_slice(body).map_err(|e| e.to_string())?;
    let name = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
    if record.fault_id.to_string() != name {
        return Err(format!(
            "it is of fault {}, not of the one it is named after",
            record.fault_id
        ));
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(bits: u64) -> Record {
        let id = FaultId::from_bits(bits).to_string();
        let text = json!({
            "faultId": id,
            "runId": "00000000000000ff",
            "bootId": "b",
            "target": { "namespace": "shop", "pod": "api-1", "uid": "u", "container": null },
            "fault": { "kill": { "signal": 9, "processes": "main", "every": null } },
            "lease": { "secs": 10, "nanos": 0 },
            "deadline": 1,
            "injection": { "kill": {
                "id": id, "target": "shop/api-1", "podUid": "u", "containerId": "c", "containers": "cgroups", "signal": 9,
                "processes": "main", "every": null, "victims": [], "siblings": [], "mainName": null,
                "ownDirs": [],
            } },
        });
        serde_json::from_value(text).expect("a record")
    }

    fn file(dir: &Path, bits: u64) -> PathBuf {
        dir.join(format!("{}.json", FaultId::from_bits(bits)))
    }

    #[test]
    fn what_was_appended_is_found_until_it_is_removed() {
        let dir = tempfile::tempdir().expect("a directory");
        let (journal, found) = Journal::open(dir.path()).expect("opened");
        assert!(found.records.is_empty());
        journal.append(vec![record(1), record(2)]).expect("appended");
        let (journal, found) = Journal::open(dir.path()).expect("opened again");
        assert_eq!(found.records.len(), 2);
        assert!(found.unreadable.is_empty());
        journal.remove(FaultId::from_bits(1)).expect("removed");
        journal.remove(FaultId::from_bits(1)).expect("removed twice is removed");
        let (_, found) = Journal::open(dir.path()).expect("opened again");
        assert_eq!(found.records.len(), 1);
        assert_eq!(found.records[0].record().fault_id, FaultId::from_bits(2));
    }

    #[test]
    fn a_record_that_is_torn_anywhere_is_never_guessed_at() {
        let dir = tempfile::tempdir().expect("a directory");
        let (journal, _) = Journal::open(dir.path()).expect("opened");
        journal.append(vec![record(1)]).expect("appended");
        let path = file(dir.path(), 1);
        let whole = fs::read(&path).expect("read");
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).expect("torn");
            let (_, found) = Journal::open(dir.path()).expect("opened");
            assert!(found.records.is_empty(), "{length} bytes of {}", whole.len());
            assert_eq!(found.unreadable.len(), 1, "it is reported");
            assert!(path.exists(), "and left for a person to look at");
        }
    }

    #[test]
    fn a_flipped_bit_and_another_version_are_reported() {
        let dir = tempfile::tempdir().expect("a directory");
        let (journal, _) = Journal::open(dir.path()).expect("opened");
        journal.append(vec![record(1)]).expect("appended");
        let path = file(dir.path(), 1);
        let whole = fs::read(&path).expect("read");
        let why = |bytes: &[u8]| {
            fs::write(&path, bytes).expect("written");
            let (_, found) = Journal::open(dir.path()).expect("opened");
            assert!(found.records.is_empty());
            found.unreadable.into_values().next().expect("reported")
        };
        let mut flipped = whole.clone();
        *flipped.last_mut().expect("not empty") ^= 1;
        assert!(why(&flipped).contains("checksum"));
        let newer =
            String::from_utf8(whole.clone()).expect("text").replacen("journal 1 ", "journal 2 ", 1);
        assert!(why(newer.as_bytes()).contains("version 2"));
        fs::rename(&path, file(dir.path(), 9)).expect("renamed");
        fs::write(file(dir.path(), 9), &whole).expect("written");
        let (_, found) = Journal::open(dir.path()).expect("opened");
        assert!(
            found
                .unreadable
                .into_values()
                .all(|why| why.contains("not of the one it is named after"))
        );
    }

    #[test]
    fn an_acknowledgement_lasts_as_long_as_what_it_is_about() {
        let dir = tempfile::tempdir().expect("a directory");
        let (journal, _) = Journal::open(dir.path()).expect("opened");
        journal.append(vec![record(1), record(2)]).expect("appended");
        fs::write(file(dir.path(), 2), "torn").expect("written");
        for bits in [1, 2, 3] {
            journal.acknowledge(FaultId::from_bits(bits)).expect("noted");
        }
        let (journal, found) = Journal::open(dir.path()).expect("opened again");
        assert_eq!(found.acknowledged, [1, 2].map(FaultId::from_bits).into());
        assert_eq!((found.records.len(), found.unreadable.len()), (1, 1), "both files stay");
        journal.remove(FaultId::from_bits(1)).expect("removed");
        let (_, found) = Journal::open(dir.path()).expect("opened again");
        assert_eq!(found.acknowledged, [2].map(FaultId::from_bits).into());
        assert_eq!(fs::read_dir(dir.path()).expect("read").count(), 2, "the torn one and its note");
    }

    #[test]
    fn a_record_is_replaced_whole_and_a_disk_that_takes_nothing_keeps_the_one_before() {
        let dir = tempfile::tempdir().expect("a directory");
        let (journal, _) = Journal::open(dir.path()).expect("opened");
        journal.append(vec![record(1), record(2)]).expect("appended");
        let other = |bits| Record { lease: Duration::from_secs(7), ..record(bits) };
        journal.replace(vec![other(1)]).expect("replaced");
        let leases = || {
            let (_, found) = Journal::open(dir.path()).expect("opened again");
            let mut records: Vec<Record> = found.records.into_iter().map(|r| r.record).collect();
            records.sort_by_key(|record| record.fault_id);
            records.iter().map(|record| record.lease.as_secs()).collect::<Vec<_>>()
        };
        assert_eq!(leases(), [7, 10]);
        // Where its temporary file should go there is a directory: even root cannot write there.
        fs::create_dir(file(dir.path(), 2).with_extension("tmp")).expect("made");
        journal.replace(vec![other(2)]).expect_err("refused");
        assert_eq!(leases(), [7, 10], "what is in effect can still be taken back");
    }

    #[test]
    fn what_was_never_renamed_never_touched_a_kernel() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(file(dir.path(), 1).with_extension("tmp"), "half").expect("written");
        let (_, found) = Journal::open(dir.path()).expect("opened");
        assert!(found.records.is_empty() && found.unreadable.is_empty());
        assert_eq!(fs::read_dir(dir.path()).expect("read").count(), 0);
    }

    #[test]
    fn a_disk_that_takes_nothing_refuses_and_keeps_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let (journal, _) = Journal::open(&dir.path().join("journal")).expect("opened");
        // A directory where a record should go: even root cannot write there.
        fs::create_dir(file(&dir.path().join("journal"), 2)).expect("made");
        let error = journal.append(vec![record(1), record(2)]).expect_err("refused");
        assert!(error.to_string().contains("failed to write"), "{error}");
        assert!(!file(&dir.path().join("journal"), 1).exists(), "all or none");
    }
}
