//! Between the wire's messages and the supervisor's requests. Everything that comes in is checked
//! again, whoever sent it.

use std::time::Duration;

use faultline_proto::{
    InvalidWire,
    boottime::BootTime,
    fault::Fault,
    id::{FaultId, RunId},
    limits::{
        INJECTIONS_PER_REQUEST_MAX, LEASE_MAX, LEASE_MIN, LIFETIME_MAX, PREPARED_MAX,
        PROBE_EVERY_MAX, PROBE_EVERY_MIN, PROBE_TIMEOUT_MAX, PROBE_TIMEOUT_MIN,
    },
    pb,
    probe::Spec,
    status::State,
    target::Target,
};

use crate::{
    kernel::clock,
    observe,
    supervisor::{
        AmendItem, PrepareItem, PreparedItem, RevertScope, Status, Stuck, Unrecorded, When,
    },
};

pub(super) struct PrepareRequest {
    pub(super) run_id: RunId,
    pub(super) items: Vec<PrepareItem>,
    pub(super) dry_run: bool,
}

pub(super) fn prepare(wire: pb::PrepareRequest) -> Result<PrepareRequest, InvalidWire> {
    let count = wire.injections.len();
    if count == 0 || count > INJECTIONS_PER_REQUEST_MAX {
        let problem = format!("expected 1 to {INJECTIONS_PER_REQUEST_MAX}, got {count}");
        return Err(InvalidWire::new("injections", problem));
    }
    let items = wire
        .injections
        .into_iter()
        .enumerate()
        .map(|(i, injection)| item(injection).map_err(|e| e.within(&format!("injections[{i}]"))))
        .collect::<Result<_, _>>()?;
    Ok(PrepareRequest { run_id: wire.run_id.parse()?, items, dry_run: wire.dry_run })
}

fn item(wire: pb::Injection) -> Result<PrepareItem, InvalidWire> {
    let missing = |field: &str| InvalidWire::new(field, "is missing");
    let target = wire.target.ok_or_else(|| missing("target"))?;
    let fault = wire.fault.ok_or_else(|| missing("fault"))?;
    let lease = Duration::from_millis(wire.lease_ms);
    if !(LEASE_MIN..=LEASE_MAX).contains(&lease) {
        let problem = format!("expected {LEASE_MIN:?} to {LEASE_MAX:?}, got {lease:?}");
        return Err(InvalidWire::new("lease_ms", problem));
    }
    let deadline = BootTime::from_nanos(wire.deadline_boottime_ns);
    // A deadline in the past is the supervisor's to refuse: what was prepared before is the same.
    let latest = clock::now().after(LIFETIME_MAX + PREPARED_MAX);
    if deadline > latest {
        let problem = format!("is more than {LIFETIME_MAX:?} away");
        return Err(InvalidWire::new("deadline_boottime_ns", problem));
    }
    Ok(PrepareItem {
        fault_id: wire.fault_id.parse()?,
        target: Target::try_from(target).map_err(|e| e.within("target"))?,
        fault: Fault::try_from(fault).map_err(|e| e.within("fault"))?,
        lease,
        deadline,
    })
}

pub(super) fn prepared(item: PreparedItem) -> pb::Prepared {
    pb::Prepared { fault_id: item.fault_id.to_string(), plan: item.plan }
}

pub(super) fn fault_ids(ids: &[String]) -> Result<Vec<FaultId>, InvalidWire> {
    if ids.is_empty() || ids.len() > INJECTIONS_PER_REQUEST_MAX {
        let problem = format!("expected 1 to {INJECTIONS_PER_REQUEST_MAX}, got {}", ids.len());
        return Err(InvalidWire::new("fault_ids", problem));
    }
    ids.iter().map(|id| id.parse()).collect()
}

/// What a person has looked at; none, if a halt is only to be ended.
pub(super) fn acknowledged(wire: &pb::ResumeRequest) -> Result<Vec<FaultId>, InvalidWire> {
    match wire.acknowledged_fault_ids.as_slice() {
        [] => Ok(Vec::new()),
        ids => fault_ids(ids),
    }
}

pub(super) fn stuck(stuck: &Stuck) -> pb::StuckFault {
    pb::StuckFault {
        fault_id: stuck.fault_id.map_or_else(String::new, |id| id.to_string()),
        reason: stuck.to_string(),
        acknowledged: stuck.acknowledged,
    }
}

/// Changes, each of another injection: of two, which is the last would be guessed at.
pub(super) fn amend(wire: pb::AmendRequest) -> Result<Vec<AmendItem>, InvalidWire> {
    let count = wire.amendments.len();
    if count == 0 || count > INJECTIONS_PER_REQUEST_MAX {
        let problem = format!("expected 1 to {INJECTIONS_PER_REQUEST_MAX}, got {count}");
        return Err(InvalidWire::new("amendments", problem));
    }
    let mut items: Vec<AmendItem> = Vec::with_capacity(count);
    for (i, amendment) in wire.amendments.into_iter().enumerate() {
        let at = format!("amendments[{i}]");
        let fault_id: FaultId =
            amendment.fault_id.parse().map_err(|e: InvalidWire| e.within(&at))?;
        if items.iter().any(|item| item.fault_id == fault_id) {
            let problem = format!("{fault_id} is there twice");
            return Err(InvalidWire::new("fault_id", problem).within(&at));
        }
        let fault = amendment.fault.ok_or_else(|| InvalidWire::new("fault", "is missing"));
        let fault = fault.and_then(|fault| Fault::try_from(fault).map_err(|e| e.within("fault")));
        items.push(AmendItem { fault_id, fault: fault.map_err(|e| e.within(&at))? });
    }
    Ok(items)
}

/// A time after which a request is not to be done any more; `None` for 0.
pub(super) fn not_after(nanos: u64) -> Option<BootTime> {
    (nanos > 0).then_some(BootTime::from_nanos(nanos))
}

pub(super) fn observe(wire: pb::ObserveRequest) -> Result<observe::Request, InvalidWire> {
    let missing = |field: &str| InvalidWire::new(field, "is missing");
    let target = wire.target.ok_or_else(|| missing("target"))?;
    let probe = wire.probe.ok_or_else(|| missing("probe"))?;
    let within = |field: &str, millis: u64, least: Duration, most: Duration| {
        let found = Duration::from_millis(millis);
        let problem = || format!("expected {least:?} to {most:?}, got {found:?}");
        let is_within = (least..=most).contains(&found);
        if is_within { Ok(found) } else { Err(InvalidWire::new(field, problem())) }
    };
    Ok(observe::Request {
        target: Target::try_from(target).map_err(|e| e.within("target"))?,
        probe: Spec::try_from(probe).map_err(|e| e.within("probe"))?,
        every: within("every_ms", wire.every_ms, PROBE_EVERY_MIN, PROBE_EVERY_MAX)?,
        timeout: within("timeout_ms", wire.timeout_ms, PROBE_TIMEOUT_MIN, PROBE_TIMEOUT_MAX)?,
    })
}

pub(super) fn observation(observation: observe::Observation) -> pb::Observation {
    let attempt = observation.sample.map(|sample| pb::Attempt {
        began_boottime_ns: nanos(sample.began),
        took_ns: nanos(sample.took),
        late_ns: nanos(sample.uncertainty),
        failure: sample
            .failure
            .map(|failure| pb::Failure { kind: failure.kind.name().into(), text: failure.text }),
        value: sample.value,
    });
    pb::Observation { attempt, settled_until_boottime_ns: nanos(observation.settled_until) }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// When a commit is to take place, and when no more.
pub(super) fn when(wire: &pb::CommitRequest, now: BootTime) -> Result<When, InvalidWire> {
    let (at, not_after) = (not_after(wire.at_boottime_ns), not_after(wire.not_after_boottime_ns));
    if at > Some(now.after(PREPARED_MAX)) {
        let problem = format!("is more than {PREPARED_MAX:?} away");
        return Err(InvalidWire::new("at_boottime_ns", problem));
    }
    if at.zip(not_after).is_some_and(|(at, not_after)| not_after < at) {
        let problem = "is before at_boottime_ns: nothing would ever be injected";
        return Err(InvalidWire::new("not_after_boottime_ns", problem));
    }
    Ok(When { at, not_after })
}

pub(super) fn revert(wire: &pb::RevertRequest) -> Result<RevertScope, InvalidWire> {
    match (wire.fault_ids.is_empty(), wire.run_id.is_empty()) {
        (false, true) => fault_ids(&wire.fault_ids).map(RevertScope::Faults),
        (true, false) => wire.run_id.parse().map(RevertScope::Run),
        (true, true) => Ok(RevertScope::Everything),
        (false, false) => Err(InvalidWire::new("run_id", "must be empty when fault_ids is not")),
    }
}

pub(super) fn status(status: Status) -> pb::InjectionStatus {
    let nanos = |time: Option<BootTime>| time.map_or(0, BootTime::as_nanos);
    pb::InjectionStatus {
        fault_id: status.fault_id.to_string(),
        run_id: status.run_id.to_string(),
        kind: status.kind.into(),
        target: Some(status.target.into()),
        state: pb::State::from(status.state).into(),
        effect: Some(pb::Effect {
            proof: pb::Proof::from(status.proof).into(),
            evidence: status.evidence,
            proven_boottime_ns: nanos(status.proven),
        }),
        lease_end_boottime_ns: status.lease_end.as_nanos(),
        deadline_boottime_ns: status.deadline.as_nanos(),
        committed_boottime_ns: nanos(status.committed),
        reverted_boottime_ns: nanos(status.reverted),
        revert_reason: status.reason.map_or(0, |reason| pb::RevertReason::from(reason).into()),
        residue: status.residue,
        changed_by_others: status.changed_by_others,
        failure: status.failure,
    }
}

/// What is said of a fault of which there is no record: neither its kind nor its target is known.
pub(super) fn unrecorded(unrecorded: Unrecorded) -> pb::InjectionStatus {
    let state = if unrecorded.residue.is_empty() { State::Reverted } else { State::Stuck };
    pb::InjectionStatus {
        fault_id: unrecorded.fault_id.to_string(),
        state: pb::State::from(state).into(),
        revert_reason: pb::RevertReason::Restarted.into(),
        residue: unrecorded.residue,
        ..pb::InjectionStatus::default()
    }
}
