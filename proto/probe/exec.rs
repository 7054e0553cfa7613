//! `exec`: a command in a pod, and what it prints.

use super::{Pattern, address::checked, socket};
use crate::yaml::{self, Fields, Node, Problems, Spanned};

/// Arguments of one command.
const ARGUMENTS_MAX: usize = 256;

/// A command in the first pod of a target; exit code 0 is a success.
#[derive(Debug, Clone, PartialEq)]
pub struct Exec {
    /// The target's name.
    pub target: Spanned<String>,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// What it must print.
    pub expect: Option<Pattern>,
}

impl Exec {
    /// Decodes it.
    pub fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        let mut fields = Fields::open(node, "exec", problems)?;
        let target = fields.required("target", problems, yaml::name);
        let command = fields.required("command", problems, decode_command);
        let expect = fields.optional("expect", problems, checked(Pattern::parse));
        fields.finish_with(problems, |key| match key {
            "pod" => Some("say which pod by a `target` of `spec.targets`".into()),
            "args" => Some("the arguments are part of `command`".into()),
            other => socket::hint(other),
        });
        Some(Self { target: target?, command: command?, expect })
    }
}

/// Decodes a program and its arguments.
pub fn decode_command(node: &Node, problems: &mut Problems) -> Option<Vec<String>> {
    if let Some(text) = node.as_text() {
        let words: Vec<&str> = text.split_whitespace().collect();
        problems
            .add(node.span, "a command is a list: no shell splits it")
            .expected("expected the program and its arguments")
            .help(format!("write `command: [{}]`", words.join(", ")));
        return None;
    }
    let argument = |node: &Node, problems: &mut Problems| match node.as_text() {
        Some(text) if !text.contains('\0') => Some(text.to_owned()),
        _ => {
            problems
                .add(node.span, format!("found {}", node.describe()))
                .expected("expected a text; quote what YAML reads as something else");
            None
        }
    };
    let command =
        yaml::list(1..=ARGUMENTS_MAX, "words, the program first", argument)(node, problems)?;
    if command.first().is_some_and(|program| program.trim().is_empty()) {
        problems.add(node.span, "the program of this command has no name");
        return None;
    }
    Some(command)
}
