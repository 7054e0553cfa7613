//! The tree: documents of scalars, sequences and mappings, each with its span.

use std::collections::{HashMap, VecDeque};

use saphyr_parser::{Event, Parser, ScalarStyle};

use super::{
    grammar,
    problem::{Problems, Span},
};

/// The largest source that is read.
pub const SOURCE_BYTES_MAX: usize = 4 << 20;
/// How deep mappings and sequences may nest.
const DEPTH_MAX: usize = 32;
/// How many nodes a source may have, those that aliases repeat included.
const NODES_MAX: usize = 200_000;

/// A text that was read from somewhere, and the name to call it by in messages.
#[derive(Debug, Clone)]
pub struct Source {
    /// A file's path, or what stands for one.
    pub name: String,
    /// All of it.
    pub text: String,
}

/// A value and where it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where it stands; for nothing (`key:` alone), where its key does.
    pub span: Span,
    /// Where its key stands, if it is a value of a mapping.
    pub key: Option<Span>,
    /// What it is.
    pub value: Value,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A scalar as it was written, quotes taken off. `plain` when it had none.
    Scalar {
        /// The text.
        text: String,
        /// Not quoted.
        plain: bool,
    },
    /// A sequence.
    Sequence(Vec<Node>),
    /// A mapping, in the order written. Keys are scalars and differ.
    Mapping(Vec<(Node, Node)>),
}

impl Node {
    /// What this is, in the words of a message: `a mapping`.
    pub fn describe(&self) -> String {
        match &self.value {
            Value::Scalar { text, plain: true } if is_null(text) => "nothing".into(),
            Value::Scalar { text, .. } if text.is_empty() => "an empty text".into(),
            Value::Scalar { text, .. } => quote(text),
            Value::Sequence(_) => "a list".into(),
            Value::Mapping(_) => "a mapping".into(),
        }
    }

    /// Whether nothing was written here (`key:` alone, `null` or `~`).
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true } if is_null(text))
    }

    /// The text of a scalar.
    pub fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } if !self.is_null() => Some(text),
            _ => None,
        }
    }

    /// The value of a key, if this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Mapping(entries) => {
                entries.iter().find(|(k, _)| k.as_text() == Some(key)).map(|(_, value)| value)
            }
            _ => None,
        }
    }
}

/// `text` in backticks, on one line and not too long for a message.
pub fn quote(text: &str) -> String {
    let mut shown: String =
        text.chars().take(40).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().count() > 40 {
        shown.push('…');
    }
    format!("`{shown}`")
}

fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// Reads the documents of a source. Grammar, limits and doubled keys are checked here.
///
/// # Errors
/// Every mistake found; the grammar stops at its first.
pub fn parse(text: &str) -> Result<Vec<Node>, Problems> {
    let mut problems = Problems::new();
    if text.len() > SOURCE_BYTES_MAX {
        let limit = crate::units::size(SOURCE_BYTES_MAX as u64);
        problems
            .add(Span { line: 1, column: 1, ..Span::default() }, format!("larger than {limit}"));
        return Err(problems);
    }
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        match event {
            Ok((event, span)) => {
                if let Err((span, message)) = builder.take(event, convert(span)) {
                    builder.problems.add(span, message);
                    return Err(builder.problems);
                }
            }
            Err(error) => {
                let bracket = builder.open.last().filter(|open| !open.is_block());
                let bracket = bracket.map(|open| (open.span, if open.mapping { '}' } else { ']' }));
                grammar::explain(text, &error, bracket, &mut builder.problems);
                return Err(builder.problems);
            }
        }
    }
    if builder.problems.is_empty() { Ok(builder.documents) } else { Err(builder.problems) }
}

/// What is said of a source that nests too deep, by whichever limit it was found.
pub(super) fn too_deep() -> String {
    format!("nested more than {DEPTH_MAX} levels deep")
}

fn convert(span: saphyr_parser::Span) -> Span {
    Span {
        start: span.start.index(),
        end: span.end.index().max(span.start.index()),
        line: span.start.line(),
        column: span.start.col() + 1,
    }
}

/// A collection that is not closed yet.
struct Open {
    span: Span,
    anchor: usize,
    mapping: bool,
    children: Vec<Node>,
}

impl Open {
    /// Whether it is written by indentation: a `[` or `{` is wider than nothing.
    fn is_block(&self) -> bool {
        self.span.end == self.span.start
    }
}

#[derive(Default)]
struct Builder {
    documents: Vec<Node>,
    open: Vec<Open>,
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
    problems: Problems,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), (Span, String)> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_tag(span, tag.is_some());
                let plain = style == ScalarStyle::Plain;
                let value = Value::Scalar { text: text.into_owned(), plain };
                self.close(Node { span, key: None, value }, anchor)
            }
            Event::Alias(anchor) => {
                let Some((node, size)) = self.anchors.get(&anchor).cloned() else {
                    return Err((span, "this alias refers to nothing".into()));
                };
                self.nodes += size;
                self.close(Node { span, ..node }, 0)
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_tag(span, tag.is_some());
                self.begin(span, anchor, false)
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_tag(span, tag.is_some());
                self.begin(span, anchor, true)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(span),
            _ => Ok(()),
        }
    }

    /// A tag asks for a type of its own; ignoring it would change what was meant.
    fn refuse_tag(&mut self, span: Span, tagged: bool) {
        if tagged {
            self.problems
                .add(span, "a tag (`!…`) means nothing here")
                .help("write the value without it");
        }
    }

    fn begin(&mut self, span: Span, anchor: usize, mapping: bool) -> Result<(), (Span, String)> {
        if self.open.len() >= DEPTH_MAX {
            return Err((span, too_deep()));
        }
        self.open.push(Open { span, anchor, mapping, children: Vec::new() });
        Ok(())
    }

    fn end(&mut self, end: Span) -> Result<(), (Span, String)> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        // The end of a block is only known to the parser where the next thing begins.
        let last = open.children.last().map_or(open.span.start, |child| child.span.end);
        let span = Span { end: if open.is_block() { last } else { end.end }, ..open.span };
        let value = if open.mapping {
            Value::Mapping(self.pairs(open.children))
        } else {
            Value::Sequence(open.children)
        };
        self.close(Node { span, key: None, value }, open.anchor)
    }

    /// Pairs up keys and values, and reports keys that are no scalars or stand twice.
    fn pairs(&mut self, children: Vec<Node>) -> Vec<(Node, Node)> {
        let mut children = VecDeque::from(children);
        let mut pairs: Vec<(Node, Node)> = Vec::with_capacity(children.len() / 2);
        let mut lines: HashMap<String, usize> = HashMap::new();
        while let (Some(key), Some(mut value)) = (children.pop_front(), children.pop_front()) {
            let Some(name) = key.as_text() else {
                let found = key.describe();
                self.problems.add(key.span, format!("a key must be a name, found {found}"));
                continue;
            };
            if let Some(line) = lines.insert(name.to_owned(), key.span.line) {
                self.problems
                    .add(key.span, format!("{} stands twice in this mapping", quote(name)))
                    .expected(format!("it was set in line {line} already"));
                continue;
            }
            value.key = Some(key.span);
            if value.span.start == value.span.end {
                value.span = key.span;
            }
            pairs.push((key, value));
        }
        pairs
    }

    /// Puts a finished node where it belongs.
    fn close(&mut self, node: Node, anchor: usize) -> Result<(), (Span, String)> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err((node.span, format!("more than {NODES_MAX} values, aliases counted")));
        }
        if anchor > 0 {
            let size = count(&node);
            self.anchors.insert(anchor, (node.clone(), size));
        }
        match self.open.last_mut() {
            Some(open) => open.children.push(node),
            None => self.documents.push(node),
        }
        Ok(())
    }
}

fn count(node: &Node) -> usize {
    1 + match &node.value {
        Value::Scalar { .. } => 0,
        Value::Sequence(items) => items.iter().map(count).sum(),
        Value::Mapping(pairs) => pairs.iter().map(|(key, value)| count(key) + count(value)).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_problem(text: &str) -> String {
        let problems = parse(text).expect_err(text).into_sorted();
        format!("{}:{} {}", problems[0].span.line, problems[0].span.column, problems[0].message)
    }

    #[test]
    fn nodes_know_where_they_stand() {
        let documents = parse("a: 1\nb:\n  - x\n  - 'y'\n---\nc: 2\nd:\n").expect("valid");
        assert_eq!(documents.len(), 2);
        let Some(Node { value: Value::Sequence(items), .. }) = documents[0].get("b") else {
            panic!("b is a list")
        };
        assert_eq!((items[1].span.line, items[1].span.column), (4, 5));
        assert_eq!(items[1].value, Value::Scalar { text: "y".into(), plain: false });
        assert_eq!((documents[0].span.start, documents[0].span.end), (0, 21), "ends with its last");
        let nothing = documents[1].get("d").expect("d is there");
        assert!(nothing.is_null());
        assert_eq!((nothing.span.line, nothing.span.column), (7, 1), "nothing stands at its key");
    }

    #[test]
    fn tags_are_refused() {
        assert_eq!(first_problem("a: !secret x\n"), "1:4 a tag (`!…`) means nothing here");
    }

    #[test]
    fn aliases_repeat_and_are_bounded() {
        let documents = parse("a: &x {k: v}\nb: *x\n").expect("valid");
        assert_eq!(
            documents[0].get("b").and_then(|b| b.get("k")).and_then(Node::as_text),
            Some("v")
        );
        let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for i in 1..9 {
            let refs = vec![format!("*a{}", i - 1); 10].join(",");
            bomb = format!("{bomb}a{i}: &a{i} [{refs}]\n");
        }
        assert!(first_problem(&bomb).contains("more than 200000 values"));
    }

    #[test]
    fn depth_doubled_keys_and_grammar_are_reported_where_they_are() {
        let deep = first_problem(&"[".repeat(1 << 20));
        assert!(deep.contains("nested more than 32 levels"), "{deep}");
        assert_eq!(first_problem("a: 1\na: 2\n"), "2:1 `a` stands twice in this mapping");
        assert!(first_problem("a: [1, 2\n").contains("not closed"));
        assert!(first_problem(&"x".repeat(5 << 20)).contains("larger than 4MiB"));
    }
}
