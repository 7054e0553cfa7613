//! `labelSelector:` — conditions on labels in kubectl's syntax: `app in (api, web), tier != cache, !legacy`.

use std::{collections::BTreeMap, fmt};

use faultline_proto::yaml::{Node, Problems, Value};

use super::{
    super::targets::{is_label_name, is_label_value},
    lexer::{self, Token, Tokens, Wrong},
};

/// What stands behind a label's name.
const OPERATORS: &str =
    "expected `=`, `==`, `!=`, `in`, `notin`, or `,` where the label must only be there";
const LABEL_PARTS: &str = "expected at most 63 letters, digits, `-`, `_` and `.`";

/// A condition on one label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelRequirement {
    /// The label's name.
    pub key: String,
    /// What must be true of it.
    pub operator: LabelOperator,
}

/// What must be true of a label, as Kubernetes' `matchExpressions` have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabelOperator {
    /// It is there, with one of these values.
    In(Vec<String>),
    /// It is not there, or with another value.
    NotIn(Vec<String>),
    /// It is there.
    Exists,
    /// It is not there.
    DoesNotExist,
}

impl LabelRequirement {
    /// Whether labels are so.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        match &self.operator {
            LabelOperator::In(values) => value.is_some_and(|value| values.contains(value)),
            LabelOperator::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            LabelOperator::Exists => value.is_some(),
            LabelOperator::DoesNotExist => value.is_none(),
        }
    }
}

impl fmt::Display for LabelRequirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        match &self.operator {
            LabelOperator::In(values) => match values.as_slice() {
                [value] => write!(f, "{key}={value}"),
                _ => write!(f, "{key} in ({})", values.join(", ")),
            },
            LabelOperator::NotIn(values) => match values.as_slice() {
                [value] => write!(f, "{key}!={value}"),
                _ => write!(f, "{key} notin ({})", values.join(", ")),
            },
            LabelOperator::Exists => f.write_str(key),
            LabelOperator::DoesNotExist => write!(f, "!{key}"),
        }
    }
}

/// Decodes it.
pub(in super::super) fn decode(
    node: &Node,
    problems: &mut Problems,
) -> Option<Vec<LabelRequirement>> {
    if let Value::Mapping(_) = &node.value {
        problems
            .add(node.key.unwrap_or(node.span), "`labelSelector` is a text, found a mapping")
            .expected("expected kubectl's syntax: \"app in (api, web), !legacy\"")
            .help("what Kubernetes has under `matchLabels` is `labels` here");
        return None;
    }
    lexer::decode(node, "label selector", "\"app in (api, web), !legacy\"", problems, parse)
}

/// Reads a selector.
fn parse(text: &str) -> Result<Vec<LabelRequirement>, Wrong> {
    let mut tokens = Tokens::new(text);
    let mut requirements = Vec::new();
    loop {
        requirements.push(requirement(&mut tokens)?);
        match tokens.take() {
            None => return Ok(requirements),
            Some(token) if token.text == "," => {}
            other => return Err(tokens.unexpected(other, "expected `,` before the next label")),
        }
    }
}

fn requirement(tokens: &mut Tokens<'_>) -> Result<LabelRequirement, Wrong> {
    if tokens.take_if("!") {
        let key = key(tokens)?;
        return Ok(LabelRequirement { key, operator: LabelOperator::DoesNotExist });
    }
    let key = key(tokens)?;
    let Some(next) = tokens.peek().filter(|token| token.text != ",") else {
        return Ok(LabelRequirement { key, operator: LabelOperator::Exists });
    };
    tokens.take();
    let operator = match next.text {
        "=" | "==" => LabelOperator::In(vec![value(tokens)?]),
        "!=" => LabelOperator::NotIn(vec![value(tokens)?]),
        "in" => LabelOperator::In(values(tokens)?),
        "notin" => LabelOperator::NotIn(values(tokens)?),
        written => {
            let wrong = tokens.unexpected(Some(next), OPERATORS);
            return Err(wrong.suggest(written, &["in", "notin"]));
        }
    };
    Ok(LabelRequirement { key, operator })
}

fn key(tokens: &mut Tokens<'_>) -> Result<String, Wrong> {
    let token = tokens.take();
    match token.filter(Token::is_word) {
        Some(word) if is_label_name(word.text) => Ok(word.text.to_owned()),
        Some(word) => {
            let message = format!("`{}` is not the name of a label", word.text);
            Err(Wrong::new(word.range(), message, LABEL_PARTS))
        }
        None => Err(tokens.unexpected(token, "expected the name of a label")),
    }
}

/// The value behind `=`, which may be empty, as labels' values may be.
fn value(tokens: &mut Tokens<'_>) -> Result<String, Wrong> {
    match tokens.peek() {
        None => Ok(String::new()),
        Some(token) if token.text == "," => Ok(String::new()),
        Some(_) => word(tokens),
    }
}

fn word(tokens: &mut Tokens<'_>) -> Result<String, Wrong> {
    let token = tokens.take();
    match token.filter(Token::is_word) {
        Some(word) if is_label_value(word.text) => Ok(word.text.to_owned()),
        Some(word) => {
            let message = format!("`{}` is not the value of a label", word.text);
            Err(Wrong::new(word.range(), message, LABEL_PARTS))
        }
        None => Err(tokens.unexpected(token, "expected the value of a label")),
    }
}

fn values(tokens: &mut Tokens<'_>) -> Result<Vec<String>, Wrong> {
    let token = tokens.take();
    if token.is_none_or(|token| token.text != "(") {
        return Err(tokens.unexpected(token, "expected values in brackets: `(a, b)`"));
    }
    let mut values = Vec::new();
    loop {
        values.push(word(tokens)?);
        match tokens.take() {
            Some(token) if token.text == ")" => return Ok(values),
            Some(token) if token.text == "," => {}
            other => return Err(tokens.unexpected(other, "expected `,` or `)`")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> BTreeMap<String, String> {
        let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[track_caller]
    fn matches(selector: &str, of: &str) -> bool {
        parse(selector).expect(selector).iter().all(|one| one.matches(&labels(of)))
    }

    #[test]
    fn what_matches_is_what_kubectl_matches() {
        for (selector, of, is) in [
            ("app in (api, web), !legacy", "app=web", true),
            ("app in (api, web), !legacy", "app=web,legacy=", false),
            ("app in (api,web)", "app=db", false),
            ("app notin (db)", "app=api", true),
            // As in Kubernetes, a label that is not there has another value.
            ("app notin (db)", "tier=x", true),
            ("app!=db", "tier=x", true),
            ("app != db", "app=db", false),
            ("app==api,tier", "app=api,tier=", true),
            ("tier=", "tier=", true),
            ("tier=, app", "tier=x,app=y", false),
            ("example.com/zone = a", "example.com/zone=a", true),
            // `in` can be a label's name, and a value.
            ("in in (in)", "in=in", true),
        ] {
            assert_eq!(matches(selector, of), is, "{selector} of {of}");
        }
    }

    #[test]
    fn it_is_shown_as_it_is_written() {
        for text in ["app in (api, web)", "app=api", "app!=db", "app notin (a, b)", "!app", "app"] {
            assert_eq!(parse(text).expect(text)[0].to_string(), text);
        }
    }

    #[test]
    fn a_mistake_is_told_with_its_place() {
        for (text, at, help) in [
            ("app im (a)", 4..6, Some("did you mean `in`?")),
            ("app in a", 7..8, None),
            ("app in (a", 9..9, None),
            ("app in ()", 8..9, None),
            ("app=a tier=b", 6..10, None),
            ("-app", 0..4, None),
            ("app=a,", 6..6, None),
            ("app > 3", 4..5, None),
        ] {
            let wrong = parse(text).expect_err(text);
            assert_eq!((wrong.at, wrong.help.as_deref()), (at, help), "{text}");
        }
    }
}
