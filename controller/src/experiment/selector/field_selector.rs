//! `fieldSelector:` — conditions on fields of a pod in kubectl's syntax: `status.phase=Running, spec.nodeName!=n1`.

use std::fmt;

use faultline_proto::yaml::{Node, Problems};

use super::lexer::{self, Token, Tokens, Wrong};

/// A field of a pod that the API server selects by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// `metadata.name`
    Name,
    /// `metadata.namespace`
    Namespace,
    /// `spec.nodeName`
    Node,
    /// `status.phase`
    Phase,
    /// `status.podIP`
    Address,
}

/// Every field, as it is written.
const FIELDS: [(&str, Field); 5] = [
    ("metadata.name", Field::Name),
    ("metadata.namespace", Field::Namespace),
    ("spec.nodeName", Field::Node),
    ("status.phase", Field::Phase),
    ("status.podIP", Field::Address),
];

impl Field {
    /// As it is written.
    pub fn name(self) -> &'static str {
        FIELDS.iter().find(|(_, field)| *field == self).map_or("", |(name, _)| name)
    }
}

/// A condition on one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldRequirement {
    /// Which.
    pub field: Field,
    /// Whether it must be `value`, or must not.
    pub equals: bool,
    /// What it is compared with.
    pub value: String,
}

impl fmt::Display for FieldRequirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.equals { "=" } else { "!=" };
        write!(f, "{}{sign}{}", self.field.name(), self.value)
    }
}

/// Decodes it.
pub(in super::super) fn decode(
    node: &Node,
    problems: &mut Problems,
) -> Option<Vec<FieldRequirement>> {
    lexer::decode(node, "field selector", "\"spec.nodeName=node1\"", problems, parse)
}

fn parse(text: &str) -> Result<Vec<FieldRequirement>, Wrong> {
    let mut tokens = Tokens::new(text);
    let mut requirements = Vec::new();
    loop {
        requirements.push(requirement(&mut tokens)?);
        match tokens.take() {
            None => return Ok(requirements),
            Some(token) if token.text == "," => {}
            other => return Err(tokens.unexpected(other, "expected `,` before the next field")),
        }
    }
}

fn requirement(tokens: &mut Tokens<'_>) -> Result<FieldRequirement, Wrong> {
    let names = FIELDS.map(|(name, _)| name);
    let expected = format!("expected one of: {}", names.join(", "));
    let token = tokens.take();
    let Some(word) = token.filter(Token::is_word) else {
        return Err(tokens.unexpected(token, &expected));
    };
    let Some((_, field)) = FIELDS.iter().find(|(name, _)| *name == word.text) else {
        let message = format!("pods cannot be selected by the field `{}`", word.text);
        return Err(Wrong::new(word.range(), message, expected).suggest(word.text, &names));
    };
    let sign = tokens.take();
    let equals = match sign.map(|sign| sign.text) {
        Some("=" | "==") => true,
        Some("!=") => false,
        _ => return Err(tokens.unexpected(sign, "expected `=`, `==` or `!=`")),
    };
    let value = tokens.take();
    match value.filter(Token::is_word) {
        Some(value) => Ok(FieldRequirement { field: *field, equals, value: value.text.to_owned() }),
        None => Err(tokens.unexpected(value, "expected what the field is compared with")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubectls_syntax_is_read() {
        let read = parse("status.phase=Running, spec.nodeName != n1").expect("valid");
        let shown: Vec<String> = read.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["status.phase=Running", "spec.nodeName!=n1"]);
        assert!(!read[1].equals);
    }

    #[test]
    fn another_field_is_refused_with_the_nearest() {
        let wrong = parse("metadata.nme=a").expect_err("no such field");
        assert_eq!(wrong.help.as_deref(), Some("did you mean `metadata.name`?"));
        assert_eq!(wrong.at, 0..12);
        for text in ["status.phase", "status.phase=", "status.phase in (a)", "status.phase=a b"] {
            parse(text).expect_err(text);
        }
    }
}
