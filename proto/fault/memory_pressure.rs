//! `memoryPressure`: memory charged to the target container's cgroup until its usage is at a level.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Around, Draw, FieldForm, FieldInfo, KindInfo, Scope, target_name};
use crate::{
    InvalidWire,
    limits::{MEMORY_LEVEL_BYTES_MAX, MEMORY_LEVEL_BYTES_MIN, RAMP_MAX},
    pb,
    status::wire_enum,
    units,
    yaml::{self, Fields, Node, Problems, Spanned},
};

/// The highest level, in hundredths of a percent of the limit: above 100 % on purpose.
const LIMIT_BASIS_POINTS_MAX: u32 = 20_000;

/// For help texts and `faultline inject memory-pressure`.
pub const INFO: KindInfo = KindInfo {
    name: "memoryPressure",
    about: "Fill the memory of a container's cgroup to a level",
    fields: &[
        FieldInfo {
            name: "target",
            value: "TARGET",
            help: "Whose container",
            form: FieldForm::Target,
        },
        FieldInfo {
            name: "to",
            value: "SIZE|PERCENT",
            help: "The usage to reach: 256MiB, or 80% of the cgroup's limit",
            form: FieldForm::Scalar,
        },
        FieldInfo {
            name: "ramp",
            value: "DURATION",
            help: "How long it takes to get there [default: at once]",
            form: FieldForm::Scalar,
        },
        FieldInfo {
            name: "oomVictim",
            value: "helper|kernel",
            help: "Who goes first when memory runs out: what we started, or whom the kernel chooses [default: helper]",
            form: FieldForm::Scalar,
        },
    ],
    scope: Scope::Container,
    sample,
};

/// Memory charged to one container's cgroup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemoryPressure {
    /// The usage of the whole cgroup that is reached and held.
    pub level: Level,
    /// From the start to the level, linearly; zero: at once.
    pub ramp: Duration,
    /// Whom the kernel kills when memory runs out.
    pub oom_victim: OomVictim,
}

/// How much memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Level {
    /// So many bytes.
    Bytes(u64),
    /// So many hundredths of a percent of the cgroup's limit.
    LimitBasisPoints(u32),
}

/// Whom the kernel kills when memory runs out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OomVictim {
    /// The helper that holds the memory, by the highest `oom_score_adj`.
    Helper,
    /// Whom it chooses: out-of-memory on purpose.
    Kernel,
}

wire_enum!(OomVictim { Helper, Kernel });

impl MemoryPressure {
    /// The ramp, and the time to allocate at a slow machine's pace.
    pub fn proof_window(&self) -> Duration {
        self.ramp + Duration::from_secs(30)
    }
}

/// As an experiment has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    pub(super) target: Spanned<String>,
    pub(super) pressure: MemoryPressure,
}

impl Spec {
    pub(super) fn decode(body: &Node, problems: &mut Problems) -> Option<Self> {
        let before = problems.len();
        let mut fields = Fields::open(body, "memoryPressure", problems)?;
        let target = fields.required("target", problems, target_name);
        let level = fields.required("to", problems, decode_level);
        let ramp = fields.optional("ramp", problems, yaml::duration(Duration::ZERO..=RAMP_MAX));
        let oom_victim = fields.optional(
            "oomVictim",
            problems,
            yaml::one_of(&[("helper", OomVictim::Helper), ("kernel", OomVictim::Kernel)]),
        );
        let oom_victim = oom_victim.unwrap_or(OomVictim::Helper);
        if let (Some(level), Some(span)) = (level, fields.key_span("to"))
            && let Err(problem) = check(level, oom_victim)
        {
            problems.add(span, problem);
        }
        fields.finish(problems);
        let pressure = MemoryPressure { level: level?, ramp: ramp.unwrap_or_default(), oom_victim };
        (problems.len() == before).then_some(Self { target: target?, pressure })
    }
}

fn decode_level(node: &Node, problems: &mut Problems) -> Option<Level> {
    if node.as_text().is_some_and(|text| text.ends_with('%')) {
        let percent = yaml::percent(1..=LIMIT_BASIS_POINTS_MAX)(node, problems);
        return percent.map(Level::LimitBasisPoints);
    }
    let size = yaml::size(MEMORY_LEVEL_BYTES_MIN..=MEMORY_LEVEL_BYTES_MAX)(node, problems);
    size.map(Level::Bytes)
}

/// A level above the limit is never reached when the helper is what the kernel kills first.
fn check(level: Level, oom_victim: OomVictim) -> Result<(), String> {
    match (level, oom_victim) {
        (Level::LimitBasisPoints(points), OomVictim::Helper) if points > 10_000 => Err(format!(
            "{} of the limit is never reached while the helper is killed first: \
             write at most 100%, or `oomVictim: kernel`",
            units::percent(points)
        )),
        _ => Ok(()),
    }
}

impl TryFrom<pb::MemoryPressure> for MemoryPressure {
    type Error = InvalidWire;

    fn try_from(wire: pb::MemoryPressure) -> Result<Self, InvalidWire> {
        use pb::memory_pressure::Level as Wire;
        let bytes = MEMORY_LEVEL_BYTES_MIN..=MEMORY_LEVEL_BYTES_MAX;
        let level = match wire.level {
            Some(Wire::Bytes(b)) if bytes.contains(&b) => Level::Bytes(b),
            Some(Wire::LimitBasisPoints(p)) if (1..=LIMIT_BASIS_POINTS_MAX).contains(&p) => {
                Level::LimitBasisPoints(p)
            }
            Some(Wire::Bytes(b)) => {
                let (min, max) = bytes.into_inner();
                let problem = format!("expected {min} to {max} bytes, got {b}");
                return Err(InvalidWire::new("level", problem));
            }
            Some(Wire::LimitBasisPoints(p)) => {
                let problem = format!(
                    "expected 1 to {LIMIT_BASIS_POINTS_MAX} hundredths of a percent, got {p}"
                );
                return Err(InvalidWire::new("level", problem));
            }
            None => return Err(InvalidWire::new("level", "none is set")),
        };
        let ramp = Duration::from_millis(wire.ramp_ms);
        if ramp > RAMP_MAX {
            return Err(InvalidWire::new("ramp_ms", format!("{ramp:?} is more than {RAMP_MAX:?}")));
        }
        let oom_victim = OomVictim::from_wire(wire.oom_victim)
            .ok_or_else(|| InvalidWire::new("oom_victim", "not a choice this agent knows"))?;
        check(level, oom_victim).map_err(|problem| InvalidWire::new("level", problem))?;
        Ok(Self { level, ramp, oom_victim })
    }
}

impl From<MemoryPressure> for pb::MemoryPressure {
    fn from(pressure: MemoryPressure) -> Self {
        use pb::memory_pressure::Level as Wire;
        let level = match pressure.level {
            Level::Bytes(bytes) => Wire::Bytes(bytes),
            Level::LimitBasisPoints(points) => Wire::LimitBasisPoints(points),
        };
        Self {
            level: Some(level),
            ramp_ms: u64::try_from(pressure.ramp.as_millis()).unwrap_or(u64::MAX),
            oom_victim: pb::OomVictim::from(pressure.oom_victim).into(),
        }
    }
}

/// Of the limit: a level that is above what a small program uses and below what has it killed.
const SAMPLE_BASIS_POINTS: std::ops::Range<u64> = 3_000..8_500;

/// A random one: see [`super::Draw`].
fn sample(draw: &mut dyn Draw, _around: &Around<'_>) -> pb::fault::Kind {
    use pb::memory_pressure::Level as Wire;
    let points = u32::try_from(draw.within(SAMPLE_BASIS_POINTS)).unwrap_or(5_000);
    let victim = *draw.pick(&[pb::OomVictim::Helper, pb::OomVictim::Kernel]);
    pb::fault::Kind::MemoryPressure(pb::MemoryPressure {
        level: Some(Wire::LimitBasisPoints(points)),
        ramp_ms: if draw.chance(50) { 0 } else { draw.within(1..800) },
        oom_victim: victim.into(),
    })
}

#[cfg(test)]
mod tests {
    use pb::memory_pressure::Level as Wire;

    use super::*;

    #[test]
    fn the_wire_form_is_the_same_and_is_checked_again() {
        let pressure = MemoryPressure {
            level: Level::LimitBasisPoints(8_000),
            ramp: Duration::from_secs(5),
            oom_victim: OomVictim::Helper,
        };
        let wire = pb::MemoryPressure::from(pressure.clone());
        assert_eq!(MemoryPressure::try_from(wire), Ok(pressure));
        let refused = |wire: pb::MemoryPressure| {
            MemoryPressure::try_from(wire).expect_err("out of bounds").field
        };
        let level = |level| pb::MemoryPressure { level, ramp_ms: 0, oom_victim: 1 };
        assert_eq!(refused(level(None)), "level");
        assert_eq!(refused(level(Some(Wire::Bytes(1)))), "level");
        assert_eq!(refused(level(Some(Wire::LimitBasisPoints(10_001)))), "level");
        let long = pb::MemoryPressure { ramp_ms: u64::MAX, ..level(Some(Wire::Bytes(1 << 20))) };
        assert_eq!(refused(long), "ramp_ms");
        let nobody = pb::MemoryPressure { oom_victim: 7, ..level(Some(Wire::Bytes(1 << 20))) };
        assert_eq!(refused(nobody), "oom_victim");
    }
}
