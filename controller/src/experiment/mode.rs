//! `mode:` and `leader:` — how many of the pods that match are meant, or which one of them.

use faultline_proto::{
    probe::{Pattern, decode_command},
    yaml::{self, Fields, Node, Problems, Value},
};

use super::{
    selector::NAMES_MAX,
    targets::{is_label_name, is_label_value},
};

/// How many of the pods that match a selector.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Mode {
    /// All of them.
    #[default]
    All,
    /// One, chosen by the seed.
    One,
    /// So many, chosen by the seed.
    Count(u32),
    /// So many hundredths of a percent, at least one, rounded down; chosen by the seed.
    Percent(u32),
    /// More than half: `n / 2 + 1`.
    Majority,
    /// The largest number that is less than half.
    Minority,
    /// The one that leads.
    Leader(Leader),
}

/// How the one that leads is known.
#[derive(Debug, Clone, PartialEq)]
pub enum Leader {
    /// It has this label.
    Label {
        /// The label's name.
        name: String,
        /// Its value.
        value: String,
    },
    /// It has this annotation.
    Annotation {
        /// The annotation's name.
        name: String,
        /// Its value.
        value: String,
    },
    /// It holds the Lease of this name in its namespace.
    Lease(String),
    /// The Endpoints of this name in its namespace say so, in the annotation that elections used before Leases.
    Endpoints(String),
    /// This command ends with exit code 0 in it, and says what is asked for.
    Command {
        /// The program and its arguments.
        command: Vec<String>,
        /// What it must print.
        says: Option<Pattern>,
    },
}

impl Leader {
    /// Whether somebody has to be asked, and a look at the pods does not tell.
    pub fn is_asked(&self) -> bool {
        !matches!(self, Self::Label { .. } | Self::Annotation { .. })
    }
}

/// A mode as written: who the leader is, is written beside it.
enum Written {
    Leader,
    Other(Mode),
}

/// The ways to say who leads.
const LEADERS: [&str; 5] = ["label", "annotation", "lease", "endpoints", "command"];
const LEADER_EXAMPLE: &str =
    "add `leader: { label: role=primary }`, with the label that the leader has";

/// `mode:` and the `leader:` that belongs to one of them. What has a mistake becomes the default.
pub(super) fn decode(fields: &mut Fields<'_>, problems: &mut Problems) -> Mode {
    let mode_span = fields.key_span("mode");
    let mode = fields.optional("mode", problems, decode_mode);
    let leader_span = fields.key_span("leader");
    let leader = fields.optional("leader", problems, decode_leader);
    match (&mode, leader_span) {
        (Some(Written::Leader), None) => {
            problems
                .add(mode_span.unwrap_or(fields.span()), "`mode: leader` needs `leader`")
                .help(LEADER_EXAMPLE);
        }
        (Some(Written::Other(_)), Some(span)) => {
            problems.add(span, "`leader` belongs to `mode: leader`, and the mode is another one");
        }
        (None, Some(span)) if mode_span.is_none() => {
            problems.add(span, "`leader` belongs to `mode: leader`").help("add `mode: leader`");
        }
        _ => {}
    }
    match (mode, leader) {
        (Some(Written::Leader), Some(leader)) => Mode::Leader(leader),
        (Some(Written::Other(mode)), _) => mode,
        _ => Mode::default(),
    }
}

fn decode_mode(node: &Node, problems: &mut Problems) -> Option<Written> {
    if let Value::Mapping(_) = &node.value {
        return decode_share(node, problems).map(Written::Other);
    }
    let text = node.as_text().unwrap_or_default();
    Some(match text {
        "all" => Written::Other(Mode::All),
        "one" => Written::Other(Mode::One),
        "majority" => Written::Other(Mode::Majority),
        "minority" => Written::Other(Mode::Minority),
        "leader" => Written::Leader,
        _ => {
            let names = ["all", "one", "majority", "minority", "leader"];
            let problem = problems.add(node.span, format!("{} is not a mode", node.describe()));
            problem.expected(
                "expected all, one, majority, minority, leader, { count: 2 } or { percent: 50% }",
            );
            problem.suggest(text, names);
            if text.ends_with('%') {
                problem.help(format!("write `mode: {{ percent: {text} }}`"));
            } else if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
                problem.help(format!("write `mode: {{ count: {text} }}`"));
            }
            return None;
        }
    })
}

/// `{ count: 2 }` or `{ percent: 50% }`.
fn decode_share(node: &Node, problems: &mut Problems) -> Option<Mode> {
    let before = problems.len();
    let mut fields = Fields::open(node, "mode", problems)?;
    let count = fields.optional("count", problems, yaml::count(1..=NAMES_MAX as u64));
    let percent = fields.optional("percent", problems, yaml::percent(1..=10_000));
    let written = fields.keys().count();
    if written != 1 {
        problems
            .add(fields.span(), format!("found {written} ways to say how many"))
            .expected("expected one: `{ count: 2 }` or `{ percent: 50% }`");
    }
    fields.finish(problems);
    let mode = match (count, percent) {
        (Some(count), None) => Mode::Count(u32::try_from(count).ok()?),
        (None, Some(percent)) => Mode::Percent(percent),
        _ => return None,
    };
    (problems.len() == before).then_some(mode)
}

fn decode_leader(node: &Node, problems: &mut Problems) -> Option<Leader> {
    let before = problems.len();
    let mut fields = Fields::open(node, "leader", problems)?;
    let label = fields.optional("label", problems, |node, problems| {
        pair(node, "label", is_label_value, problems)
    });
    let annotation = fields.optional("annotation", problems, |node, problems| {
        pair(node, "annotation", |value| !value.is_empty(), problems)
    });
    let lease = fields.optional("lease", problems, yaml::name).map(|name| name.value);
    let endpoints = fields.optional("endpoints", problems, yaml::name).map(|name| name.value);
    let command = fields.optional("command", problems, decode_command);
    let says = fields.optional("says", problems, Pattern::decode);
    if let (Some(span), None) = (fields.key_span("says"), fields.key_span("command")) {
        problems.add(span, "`says` belongs to `command`, and there is none");
    }
    let ways = LEADERS.iter().filter(|name| fields.key_span(name).is_some()).count();
    if ways != 1 {
        problems
            .add(fields.span(), format!("found {ways} ways to know who leads"))
            .expected(format!("expected one of: {}", LEADERS.join(", ")));
    }
    fields.finish_with(problems, |key| match key {
        "expect" | "output" => Some("what the command must print is `says`".into()),
        "exec" => Some("write `command: [program, argument]`".into()),
        _ => None,
    });
    if problems.len() != before {
        return None;
    }
    label
        .map(|(name, value)| Leader::Label { name, value })
        .or(annotation.map(|(name, value)| Leader::Annotation { name, value }))
        .or(lease.map(Leader::Lease))
        .or(endpoints.map(Leader::Endpoints))
        .or(command.map(|command| Leader::Command { command, says }))
}

/// `NAME=VALUE`.
fn pair(
    node: &Node,
    what: &str,
    is_value: impl Fn(&str) -> bool,
    problems: &mut Problems,
) -> Option<(String, String)> {
    let pair = node.as_text().and_then(|text| text.split_once('='));
    let pair = pair.filter(|(name, value)| is_label_name(name) && is_value(value));
    if pair.is_none() {
        let article = if what == "label" { "a" } else { "an" };
        problems
            .add(node.span, format!("{} is not {article} {what}", node.describe()))
            .expected("expected NAME=VALUE, such as role=primary");
    }
    pair.map(|(name, value)| (name.to_owned(), value.to_owned()))
}
