//! `kill`: a signal to processes of the target container, once or again and again.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Around, Draw, FieldForm, FieldInfo, Hold, KindInfo, Scope, target_name};
use crate::{
    InvalidWire,
    limits::{KILL_EVERY_MIN, LIFETIME_MAX, PROCESS_NAME_BYTES_MAX},
    pb,
    yaml::{self, Fields, Node, Problems, Spanned, nearest},
};

/// For help texts and `faultline inject kill`.
pub const INFO: KindInfo = KindInfo {
    name: "kill",
    about: "Send a signal to processes of a container",
    fields: &[
        FieldInfo {
            name: "target",
            value: "TARGET",
            help: "Whose container",
            form: FieldForm::Target,
        },
        FieldInfo {
            name: "signal",
            value: "SIGNAL",
            help: "A name or number of signal(7) [default: KILL]",
            form: FieldForm::Scalar,
        },
        FieldInfo {
            name: "processes",
            value: "main|all|NAME",
            help: "The main process, all of them, or those of a name [default: main]",
            form: FieldForm::Scalar,
        },
        FieldInfo {
            name: "every",
            value: "DURATION",
            help: "Again and again for the time of the fault [default: once]",
            form: FieldForm::Scalar,
        },
    ],
    scope: Scope::Container,
    sample,
};

/// A signal to processes of one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kill {
    /// Which signal.
    pub signal: Signal,
    /// To which of its processes.
    pub processes: Processes,
    /// How often; `None`: once.
    pub every: Option<Duration>,
}

/// Which processes of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Processes {
    /// Its main process.
    Main,
    /// All of them.
    All,
    /// Those whose `comm` or whose executable's base name is this; at most 15 bytes.
    Named(String),
}

/// A signal of Linux, `signal(7)`: 1 to 64.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Signal(u8);

/// The standard signals by number, from 1, as on x86 and ARM (`signal(7)`).
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

impl Signal {
    /// `SIGKILL`.
    pub const KILL: Self = Self(9);
    /// `SIGTERM`.
    pub const TERM: Self = Self(15);
    /// `SIGCONT`.
    pub const CONT: Self = Self(18);
    /// `SIGSTOP`.
    pub const STOP: Self = Self(19);

    /// The signal of this number, if there is one.
    pub fn from_number(number: u32) -> Option<Self> {
        u8::try_from(number).ok().filter(|n| (1..=64).contains(n)).map(Self)
    }

    /// The signal of this name (`KILL`, `SIGKILL`) or number.
    pub fn from_name(text: &str) -> Option<Self> {
        if let Ok(number) = text.parse() {
            return Self::from_number(number);
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let index = NAMES.iter().position(|n| *n == name)?;
        Self::from_number(u32::try_from(index).ok()? + 1)
    }

    /// Its number.
    pub fn number(self) -> u8 {
        self.0
    }

    /// Whether it stops a process unless that handles it, until a `SIGCONT`.
    pub fn stops(self) -> bool {
        (19..=22).contains(&self.0)
    }

    /// Whether it is sent to end a process: unless handled it does, and a process that handles it is
    /// expected to end too. Others, such as `HUP` and `USR1`, are means of talking to a process.
    pub fn is_meant_to_end(self) -> bool {
        matches!(self.0, 2..=9 | 11 | 15 | 16 | 24 | 25 | 31)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.get(usize::from(self.0) - 1) {
            Some(name) => write!(f, "SIG{name}"),
            None => write!(f, "signal {}", self.0),
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<u32> for Signal {
    type Error = InvalidWire;

    fn try_from(number: u32) -> Result<Self, InvalidWire> {
        Self::from_number(number)
            .ok_or_else(|| InvalidWire::new("signal", format!("expected 1 to 64, got {number}")))
    }
}

impl From<Signal> for u32 {
    fn from(signal: Signal) -> Self {
        signal.0.into()
    }
}

impl Kill {
    /// A repeated signal lasts, and so does one that stops processes: they must be continued.
    pub fn hold(&self) -> Hold {
        if self.every.is_some() || self.signal.stops() { Hold::Lasts } else { Hold::Instant }
    }

    /// `SIGKILL` acts at once; a process that handles `SIGTERM` has the 30 s that Kubernetes gives.
    pub fn proof_window(&self) -> Duration {
        match self.signal {
            Signal::KILL => Duration::from_secs(5),
            signal if signal.is_meant_to_end() => Duration::from_secs(35),
            _ => Duration::from_secs(2),
        }
    }
}

/// As an experiment has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    pub(super) target: Spanned<String>,
    pub(super) kill: Kill,
}

impl Spec {
    pub(super) fn decode(body: &Node, problems: &mut Problems) -> Option<Self> {
        let before = problems.len();
        let mut fields = Fields::open(body, "kill", problems)?;
        let target = fields.required("target", problems, target_name);
        let signal = fields.optional("signal", problems, decode_signal).unwrap_or(Signal::KILL);
        let processes = fields.optional("processes", problems, decode_processes);
        let every =
            fields.optional("every", problems, yaml::duration(KILL_EVERY_MIN..=LIFETIME_MAX));
        fields.finish(problems);
        let kill = Kill { signal, processes: processes.unwrap_or(Processes::Main), every };
        (problems.len() == before).then_some(Self { target: target?, kill })
    }

    pub(super) fn hold(&self) -> Hold {
        self.kill.hold()
    }
}

fn decode_signal(node: &Node, problems: &mut Problems) -> Option<Signal> {
    let text = node.as_text().unwrap_or_default();
    let signal = Signal::from_name(text);
    if signal.is_none() {
        let upper = text.to_ascii_uppercase();
        let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
        let problem = problems.add(node.span, format!("{} is not a signal", node.describe()));
        problem.expected("expected a name such as KILL or TERM, or a number from 1 to 64");
        if let Some(name) = nearest(bare, NAMES) {
            problem.help(format!("did you mean `{name}`?"));
        }
    }
    signal
}

fn decode_processes(node: &Node, problems: &mut Problems) -> Option<Processes> {
    let name = yaml::text(node, problems)?;
    match name.value.as_str() {
        "main" => Some(Processes::Main),
        "all" => Some(Processes::All),
        other => match check_name(other) {
            Ok(()) => Some(Processes::Named(name.value)),
            Err(problem) => {
                problems.add(node.span, problem);
                None
            }
        },
    }
}

fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.contains(['/', '\0', '\n']) {
        return Err(format!("{name:?} cannot be a process name"));
    }
    if name.len() > PROCESS_NAME_BYTES_MAX {
        let cut: String = name
            .char_indices()
            .take_while(|(i, c)| i + c.len_utf8() <= PROCESS_NAME_BYTES_MAX)
            .map(|(_, c)| c)
            .collect();
        return Err(format!(
            "a process name has at most {PROCESS_NAME_BYTES_MAX} bytes in the kernel: write {cut:?}"
        ));
    }
    Ok(())
}

impl TryFrom<pb::Kill> for Kill {
    type Error = InvalidWire;

    fn try_from(wire: pb::Kill) -> Result<Self, InvalidWire> {
        use pb::process_selector::Which;
        let processes = match wire.processes.and_then(|p| p.which) {
            Some(Which::Main(true)) => Processes::Main,
            Some(Which::All(true)) => Processes::All,
            Some(Which::Named(name)) => {
                check_name(&name).map_err(|p| InvalidWire::new("processes.named", p))?;
                Processes::Named(name)
            }
            _ => return Err(InvalidWire::new("processes", "none is selected")),
        };
        let every = Duration::from_millis(wire.every_ms);
        if !every.is_zero() && !(KILL_EVERY_MIN..=LIFETIME_MAX).contains(&every) {
            let problem = format!("expected {KILL_EVERY_MIN:?} to {LIFETIME_MAX:?}, got {every:?}");
            return Err(InvalidWire::new("every_ms", problem));
        }
        let every = (!every.is_zero()).then_some(every);
        Ok(Self { signal: wire.signal.try_into()?, processes, every })
    }
}

impl From<Kill> for pb::Kill {
    fn from(kill: Kill) -> Self {
        use pb::process_selector::Which;
        let which = match kill.processes {
            Processes::Main => Which::Main(true),
            Processes::All => Which::All(true),
            Processes::Named(name) => Which::Named(name),
        };
        let every = kill.every.unwrap_or_default().as_millis();
        Self {
            signal: kill.signal.into(),
            processes: Some(pb::ProcessSelector { which: Some(which) }),
            every_ms: u64::try_from(every).unwrap_or(u64::MAX),
        }
    }
}

/// Signals that stop; that end; and that do nothing to a process without a handler, of which the first
/// continues one that is stopped.
const STOPPING: &[u32] = &[19, 19, 19, 20, 21];
const ENDING: &[u32] = &[9, 9, 15, 2, 1];
const HARMLESS: &[u32] = &[18, 23, 28];

/// A random one, stopping most of the time: see [`super::Draw`].
fn sample(draw: &mut dyn Draw, around: &Around<'_>) -> pb::fault::Kind {
    use pb::process_selector::Which;
    let signals = match draw.within(0..100) {
        0..60 => STOPPING,
        _ if around.is_shared => &HARMLESS[1..],
        60..80 => ENDING,
        _ => HARMLESS,
    };
    let signal = *draw.pick(signals);
    let which = match draw.within(0..3) {
        0 => Which::Main(true),
        1 => Which::All(true),
        _ => Which::Named(around.process.into()),
    };
    let every_ms = if draw.chance(30) { draw.within(10..300) } else { 0 };
    let processes = Some(pb::ProcessSelector { which: Some(which) });
    pb::fault::Kind::Kill(pb::Kill { signal, processes, every_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        assert_eq!(Signal::from_name("sigterm"), Some(Signal::TERM));
        assert_eq!(Signal::from_name("9"), Some(Signal::KILL));
        assert_eq!(Signal::from_name("CONT").map(Signal::number), Some(18));
        assert_eq!(Signal::from_name("SYS").map(Signal::number), Some(31));
        assert!(Signal::from_name("0").is_none() && Signal::from_name("65").is_none());
        assert!(Signal::STOP.stops() && !Signal::CONT.stops() && !Signal::KILL.stops());
        assert!(Signal::KILL.is_meant_to_end() && !Signal::STOP.is_meant_to_end());
    }

    #[test]
    fn the_wire_form_is_the_same_and_is_checked_again() {
        let kill = Kill {
            signal: Signal::TERM,
            processes: Processes::Named("postgres".into()),
            every: Some(Duration::from_secs(1)),
        };
        let wire = pb::Kill::from(kill.clone());
        assert_eq!(Kill::try_from(wire.clone()), Ok(kill));
        let bad_signal = pb::Kill { signal: 65, ..wire.clone() };
        assert_eq!(Kill::try_from(bad_signal).expect_err("65").field, "signal");
        let nobody = pb::Kill { processes: None, ..wire.clone() };
        assert_eq!(Kill::try_from(nobody).expect_err("none").field, "processes");
        let too_often = pb::Kill { every_ms: 1, ..wire };
        assert_eq!(Kill::try_from(too_often).expect_err("1 ms").field, "every_ms");
    }
}
