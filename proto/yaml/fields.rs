//! Decoding one mapping: every field asked for is known, everything else is a mistake.

use super::{
    node::{Node, Value},
    problem::{Problems, Span},
};

/// A mapping that is being decoded. Ask for every field it may have, then [`Fields::finish`].
#[derive(Debug)]
pub struct Fields<'a> {
    what: &'static str,
    span: Span,
    entries: &'a [(Node, Node)],
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// Opens `node`, which should be the mapping that `what` is written as.
    pub fn open(node: &'a Node, what: &'static str, problems: &mut Problems) -> Option<Self> {
        if let Value::Mapping(entries) = &node.value {
            return Some(Self { what, span: node.span, entries, known: Vec::new() });
        }
        problems
            .add(node.span, format!("{what} must be a mapping, found {}", node.describe()))
            .expected("expected `name: value` lines, indented below");
        None
    }

    /// Where the mapping stands.
    pub fn span(&self) -> Span {
        self.span
    }

    /// The node of a field, if it is there.
    pub fn node(&mut self, name: &'static str) -> Option<&'a Node> {
        self.known.push(name);
        let entry = self.entries.iter().find(|(key, _)| key.as_text() == Some(name));
        entry.map(|(_, value)| value)
    }

    /// Where the key of a field stands, if it is there.
    pub fn key_span(&self, name: &str) -> Option<Span> {
        self.entries.iter().find(|(key, _)| key.as_text() == Some(name)).map(|(key, _)| key.span)
    }

    /// A field that may be left out.
    pub fn optional<T>(
        &mut self,
        name: &'static str,
        problems: &mut Problems,
        decode: impl FnOnce(&'a Node, &mut Problems) -> Option<T>,
    ) -> Option<T> {
        decode(self.node(name)?, problems)
    }

    /// A field that must be there; its absence is reported.
    pub fn required<T>(
        &mut self,
        name: &'static str,
        problems: &mut Problems,
        decode: impl FnOnce(&'a Node, &mut Problems) -> Option<T>,
    ) -> Option<T> {
        let Some(node) = self.node(name) else {
            problems.add(self.span, format!("{} needs `{name}`", self.what));
            return None;
        };
        decode(node, problems)
    }

    /// Reports every field that was not asked for, with the nearest one that was.
    pub fn finish(self, problems: &mut Problems) {
        let missing: Vec<&str> = self
            .known
            .iter()
            .filter(|name| !self.entries.iter().any(|(key, _)| key.as_text() == Some(**name)))
            .copied()
            .collect();
        for (key, _) in self.entries {
            let Some(name) = key.as_text() else { continue };
            if self.known.contains(&name) {
                continue;
            }
            let mut known = self.known.clone();
            known.sort_unstable();
            known.dedup();
            problems
                .add(key.span, format!("unknown field `{name}` in {}", self.what))
                .expected(format!("expected one of: {}", known.join(", ")))
                .suggest(name, missing.iter().copied());
        }
    }
}
