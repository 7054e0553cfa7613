//! How fast memory pressure is there: from the injection until the container's usage is at the level.
//!
//! `cargo bench -p faultline-tests --bench memory_pressure`. Goal: 2.5 GiB/s, within 2 %.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use faultline_agent::{fault::AnyInjection, helper, kernel::clock};
use faultline_proto::{
    fault::{Fault, Level, MemoryPressure, OomVictim},
    id::FaultId,
};
use faultline_tests::process::{Pod, resolver};

const LEVEL_BYTES: u64 = 2 << 30;
const ROUNDS: usize = 7;

fn main() {
    assert!(helper::use_executable(Path::new(env!("CARGO_BIN_EXE_helper"))));
    let Some(mut pod) = Pod::new() else { return };
    let container = pod.container();
    let main = pod.spawn(&container, &["sleep", "1001"]);
    let target = pod.resolved(&container, main);
    let fault = Fault::MemoryPressure(MemoryPressure {
        level: Level::Bytes(LEVEL_BYTES),
        ramp: Duration::ZERO,
        oom_victim: OomVictim::Helper,
    });
    let mut rounds = Vec::new();
    for _round in 0..ROUNDS {
        let id = FaultId::random().expect("random bits");
        let plan = AnyInjection::plan(id, &fault, &target, &resolver()).expect("planned");
        let plan = plan.as_injection();
        let begin = Instant::now();
        let live = plan.inject(clock::now().after(Duration::from_mins(1))).expect("injected");
        let ready = begin.elapsed();
        while container.usage() < LEVEL_BYTES / 100 * 98 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let reached = begin.elapsed();
        std::thread::sleep(Duration::from_millis(300));
        let off = container.usage().abs_diff(LEVEL_BYTES);
        let begin = Instant::now();
        plan.revert().expect("reverted");
        rounds.push((reached, ready, begin.elapsed(), off));
        drop(live);
    }
    rounds.sort();
    let (reached, ready, reverted, off) = rounds[ROUNDS / 2];
    let filling = reached.saturating_sub(ready).as_micros().max(1);
    let mib_per_second = u128::from(LEVEL_BYTES >> 20) * 1_000_000 / filling;
    println!(
        "memory pressure to {} MiB, median of {ROUNDS}: helper ready {ready:?}, level after \
         {reached:?}, {mib_per_second} MiB/s, {} KiB off the level, revert {reverted:?}",
        LEVEL_BYTES >> 20,
        off >> 10
    );
}
