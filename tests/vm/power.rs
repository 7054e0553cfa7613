//! Loss of power: what the journal has promised is on the disk, whole, and nothing else is guessed.
//!
//! The disk is a device of the device mapper whose writes are dropped from one moment on
//! (`dm-flakey`, `drop_writes`): what is not on it by then never comes to be. The file system is mounted
//! with as little help for careless writers as ext4 offers.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use faultline_agent::journal::{Journal, Record};
use faultline_proto::id::FaultId;
use nix::mount::{MsFlags, mount, umount};
use serde_json::json;

use crate::own_machine;

/// The empty disk that the machine was given.
const DISK: &str = "/dev/vda";
const DEVICE: &str = "faultline-power";
const ROUNDS: u64 = 40;
/// Between two writes, so that some losses come right after a promise and before anything else could
/// have taken it to the disk.
const PAUSE: Duration = Duration::from_millis(5);
/// Records that are on the disk at once, so that there is always something to remove.
const RECORDS_KEPT: u64 = 4;
/// No help from the file system: contents may come later than names, and a rename forces nothing.
const CARELESS: &str = "data=writeback,noauto_da_alloc";

fn run(program: &str, args: &[&str]) -> String {
    let mut command = Command::new(program);
    // There may be nobody but dmsetup itself to make the device's node.
    command.args(args).env("DM_DISABLE_UDEV", "1");
    let output = command.output().unwrap_or_else(|e| {
        panic!("{program} (of Debian's dmsetup or e2fsprogs) cannot be started: {e}")
    });
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A disk with a file system that loses its power when told to.
struct Disk {
    sectors: String,
    directory: tempfile::TempDir,
}

impl Disk {
    fn new() -> Self {
        assert!(Path::new(DISK).exists(), "{DISK} is missing: the machine needs a scratch disk");
        let sectors = run("blockdev", &["--getsz", DISK]);
        let disk = Self { sectors, directory: tempfile::tempdir().expect("a directory") };
        run("dmsetup", &["create", DEVICE, "--table", &disk.table("linear", "")]);
        run("mkfs.ext4", &["-q", "-F", &device()]);
        disk.mount();
        disk
    }

    fn table(&self, kind: &str, options: &str) -> String {
        format!("0 {} {kind} {DISK} 0 {options}", self.sectors)
    }

    fn mount(&self) {
        let (device, directory) = (device(), self.directory.path());
        mount(Some(device.as_str()), directory, Some("ext4"), MsFlags::empty(), Some(CARELESS))
            .expect("mounted");
    }

    fn journal(&self) -> PathBuf {
        self.directory.path().join("journal")
    }

    /// From here on no write reaches the disk.
    fn cut_power(&self) {
        // Up for 0 s, then down for an hour.
        load(&self.table("flakey", "0 3600 1 drop_writes"));
    }

    /// What is on the disk is all there is, after the file system's own repair.
    fn restart(&self) {
        umount(self.directory.path()).expect("nobody uses it");
        load(&self.table("linear", ""));
        // What the kernel still remembers of the dropped writes must go.
        run("blockdev", &["--flushbufs", &device()]);
        fs::write("/proc/sys/vm/drop_caches", "3").expect("caches dropped");
        self.mount();
    }
}

fn device() -> String {
    format!("/dev/mapper/{DEVICE}")
}

fn load(table: &str) {
    // Without a flush: what is on its way is lost as well.
    run("dmsetup", &["suspend", "--noflush", "--nolockfs", DEVICE]);
    run("dmsetup", &["load", DEVICE, "--table", table]);
    run("dmsetup", &["resume", DEVICE]);
}

impl Drop for Disk {
    fn drop(&mut self) {
        umount(self.directory.path()).ok();
        drop(Command::new("dmsetup").args(["remove", "--force", DEVICE]).status());
    }
}

fn record(bits: u64) -> Record {
    let id = FaultId::from_bits(bits).to_string();
    let record = json!({
        "faultId": id,
        "runId": "00000000000000ff",
        "bootId": "b",
        "target": { "namespace": "shop", "pod": "api-1", "uid": "u", "container": null },
        "fault": { "kill": { "signal": 9, "processes": "main", "every": null } },
        "lease": { "secs": 10, "nanos": 0 },
        "deadline": 1,
        "injection": { "kill": {
            "id": id, "target": "shop/api-1", "podUid": "u", "containerId": "c",
            "containers": "cgroups", "signal": 9, "processes": "main", "every": null, "victims": [],
            "siblings": [], "mainName": null, "ownDirs": [],
        } },
    });
    serde_json::from_value(record).expect("a record")
}

/// What the journal has promised of each record; one that is missing here may be there or not.
type Promised = BTreeMap<FaultId, bool>;

/// Appends and removes until told to stop, and notes what was promised.
fn write(journal: &Journal, promised: &Mutex<Promised>, stop: &AtomicBool, first: u64) {
    let note = |id: FaultId, is_there: Option<bool>| {
        let mut promised = promised.lock().expect("nobody panics with it");
        match is_there {
            Some(is_there) => drop(promised.insert(id, is_there)),
            None => drop(promised.remove(&id)),
        }
    };
    for bits in first.. {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let id = FaultId::from_bits(bits);
        if journal.append(vec![record(bits)]).is_ok() {
            note(id, Some(true));
        }
        thread::sleep(PAUSE);
        if let Some(old) = bits.checked_sub(RECORDS_KEPT).filter(|old| *old >= first) {
            let old = FaultId::from_bits(old);
            note(old, None);
            if journal.remove(old).is_ok() {
                note(old, Some(false));
            }
            thread::sleep(PAUSE);
        }
    }
}

#[test]
fn what_was_promised_is_there_whole_after_a_loss_of_power_at_any_moment() {
    let _turn = own_machine();
    let disk = Disk::new();
    let mut checked = 0;
    for round in 0..ROUNDS {
        let (journal, found) = Journal::open(&disk.journal()).expect("opened");
        for record in found.records {
            journal.remove(record.record().fault_id).expect("removed");
        }
        let (promised, stop) = (Arc::new(Mutex::new(Promised::new())), AtomicBool::new(false));
        let before = thread::scope(|scope| {
            let writer = scope.spawn(|| write(&journal, &promised, &stop, round * 1_000_000 + 1));
            // A different part of a write each time.
            thread::sleep(Duration::from_micros(100_000 + round * 3_217));
            // Nothing is promised while this is held: one write may be under way, no more.
            let promises = promised.lock().expect("nobody panics with it");
            disk.cut_power();
            stop.store(true, Ordering::SeqCst);
            let before = promises.clone();
            drop(promises);
            writer.join().expect("the writer ends");
            before
        });
        disk.restart();
        let (_, found) = Journal::open(&disk.journal()).expect("opened after the loss");
        assert!(found.unreadable.is_empty(), "round {round}: torn: {:?}", found.unreadable);
        let there: Vec<FaultId> = found.records.iter().map(|r| r.record().fault_id).collect();
        for (id, is_there) in &before {
            let said = if *is_there { "promised, and is lost" } else { "removed, and is back" };
            assert!(there.contains(id) == *is_there, "round {round}: {id} was {said}");
        }
        checked += before.len();
    }
    println!("{checked} promises kept over {ROUNDS} losses of power");
    assert!(checked > 100, "only {checked} promises were tried");
}
