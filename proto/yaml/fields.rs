//! Decoding one mapping: every field asked for is known, everything else is a mistake.

use super::{
    node::{Node, Value, quote},
    problem::{Problems, Span, nearest},
};

/// A mapping that is being decoded. Ask for every field it may have, then [`Fields::finish`].
#[derive(Debug)]
pub struct Fields<'a> {
    what: String,
    span: Span,
    entries: &'a [(Node, Node)],
    known: Vec<&'static str>,
    refused: Vec<&'static str>,
    missing: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// Opens `node`, which should be the mapping that `what` is written as.
    pub fn open(node: &'a Node, what: impl Into<String>, problems: &mut Problems) -> Option<Self> {
        let what = what.into();
        if let Value::Mapping(entries) = &node.value {
            let span = node.key.unwrap_or(node.span);
            return Some(Self {
                what,
                span,
                entries,
                known: vec![],
                refused: vec![],
                missing: vec![],
            });
        }
        let problem =
            problems.add(node.span, format!("{what} must be a mapping, found {}", node.describe()));
        problem.expected(if node.is_null() && node.key.is_some() {
            "expected `name: value` lines below, indented further than this"
        } else {
            "expected `name: value` lines"
        });
        if let Some(name) = node.as_text().and_then(glued_name) {
            problem.help(format!("a space is needed after `{name}:`"));
        }
        None
    }

    /// Where the mapping's key stands, or the mapping itself where it has none.
    pub fn span(&self) -> Span {
        self.span
    }

    /// The names that are written, and where.
    pub fn keys(&self) -> impl Iterator<Item = (&'a str, Span)> + use<'a> {
        self.entries.iter().filter_map(|(key, _)| Some((key.as_text()?, key.span)))
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

    /// A field that must be there; [`Fields::finish`] reports its absence.
    pub fn required<T>(
        &mut self,
        name: &'static str,
        problems: &mut Problems,
        decode: impl FnOnce(&'a Node, &mut Problems) -> Option<T>,
    ) -> Option<T> {
        let Some(node) = self.node(name) else {
            self.missing.push(name);
            return None;
        };
        decode(node, problems)
    }

    /// A field that people have reason to expect but that is not to be had: `why` says so.
    pub fn refused(&mut self, name: &'static str, problems: &mut Problems, why: &str) {
        if let Some(span) = self.key_span(name) {
            self.refused.push(name);
            problems.add(span, format!("`{name}` is not in this version")).expected(why);
        }
    }

    /// Reports every field that was not asked for, with the nearest one that was, and every required
    /// one that is not there, unless it is one of those nearest: then it was mistyped.
    pub fn finish(self, problems: &mut Problems) {
        self.finish_with(problems, |_| None);
    }

    /// As [`Fields::finish`]; where no name is near, `hint` may know where a field belongs.
    pub fn finish_with(mut self, problems: &mut Problems, hint: impl Fn(&str) -> Option<String>) {
        self.known.sort_unstable();
        self.known.dedup();
        let expected = format!("expected one of: {}", self.known.join(", "));
        let absent = |known: &&str| self.key_span(known).is_none();
        let absent: Vec<&str> = self.known.iter().copied().filter(absent).collect();
        // The last known field above: what is not indented enough was meant to belong to it.
        let mut above: Option<&(Node, Node)> = None;
        for entry in self.entries {
            let (key, _) = entry;
            let Some(name) = key.as_text() else { continue };
            if self.known.contains(&name) {
                above = Some(entry);
                continue;
            }
            if self.refused.contains(&name) {
                continue;
            }
            let meant = nearest(name, absent.iter().copied());
            self.missing.retain(|missing| Some(*missing) != meant);
            let help = meant
                .map(|meant| format!("did you mean `{meant}`?"))
                .or_else(|| hint(name))
                .or_else(|| owner(above, name));
            let message = format!("unknown field {} in {}", quote(name), self.what);
            problems.add(key.span, message).expected(&expected).help = help;
        }
        for name in &self.missing {
            problems.add(self.span, format!("{} needs `{name}`", self.what));
        }
    }
}

/// That an unknown field probably belongs to the field above it, if that has nothing.
fn owner(above: Option<&(Node, Node)>, name: &str) -> Option<String> {
    if name == "<<" {
        return Some("merging (`<<`) is not supported: write the fields out".into());
    }
    let (owner, _) = above.filter(|(_, value)| value.is_null())?;
    let owner = owner.as_text()?;
    Some(format!("if {} belongs to `{owner}`, indent it further than `{owner}`", quote(name)))
}

/// The name in `name:value`, which is a text to YAML and not what was meant.
fn glued_name(text: &str) -> Option<&str> {
    let (name, rest) = text.split_once(':')?;
    let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric());
    (is_name && !name.is_empty() && !rest.starts_with("//")).then_some(name)
}
