//! What may be shown on a terminal: text from experiments, probes and agents, without characters that
//! move the cursor or turn the direction of what is read. It is cleaned where it is shown and written,
//! so that a run, its report and its journal say the same.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// The field of a journal with the text of the experiment, which is read again as it is.
const SOURCE: &str = "source";

/// The text, with a mark for every character that does more than to be read. Ends of lines and tabs stay.
pub fn clean(text: &str) -> String {
    let lines = text.replace("\r\n", "\n");
    lines.chars().map(|c| if is_shown(c) { c } else { '\u{fffd}' }).collect()
}

/// As [`clean`], with its later lines further to the right than its first: none of them can be taken for
/// a line of our own.
pub(super) fn indented(text: &str, spaces: usize) -> String {
    clean(text.trim_end()).replace('\n', &format!("\n{:spaces$}", ""))
}

fn is_shown(c: char) -> bool {
    let is_of_lines = matches!(c, '\n' | '\t');
    // Marks, embeddings, overrides and isolates of direction, and the separators that end a line.
    let turns = matches!(
        c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    is_of_lines || !(c.is_control() || turns)
}

/// Cleans every text of a document, but not the names of its fields.
pub fn clean_all(value: &mut Value) {
    match value {
        Value::String(text) => *text = clean(text),
        Value::Array(items) => items.iter_mut().for_each(clean_all),
        Value::Object(fields) => {
            let texts = fields.iter_mut().filter(|(name, _)| *name != SOURCE);
            texts.for_each(|(_, value)| clean_all(value));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Whether JSON may have a text that is to be cleaned: a quick look, as nearly none has.
pub fn may_be_unclean(json: &[u8]) -> bool {
    json.windows(2).any(|two| {
        matches!(
            two,
            [b'\\', b'u' | b'r' | b'b' | b'f']
                | [0x7f, _]
                | [0xc2, 0x80..=0x9f]
                | [0xd8, 0x9c]
                | [0xe2, 0x80 | 0x81]
        )
    })
}

/// The same, with clean texts.
pub fn cleaned<T: Serialize + DeserializeOwned>(data: T) -> T {
    let clean = || {
        let json = serde_json::to_vec(&data).ok().filter(|json| may_be_unclean(json))?;
        let mut value = serde_json::from_slice(&json).ok()?;
        clean_all(&mut value);
        serde_json::from_value(value).ok()
    };
    clean().unwrap_or(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_the_cursor_or_turns_the_text_is_marked() {
        let bad = [
            "\u{1b}", "\r", "\u{8}", "\u{7f}", "\u{9b}", "\u{85}", "\u{202e}", "\u{2066}",
            "\u{2028}",
        ];
        for bad in bad {
            let text = format!("a{bad}b");
            assert_eq!(clean(&text), "a\u{fffd}b", "{text:?}");
            let json = serde_json::to_vec(&text).expect("JSON");
            assert!(may_be_unclean(&json), "{text:?}");
            assert_eq!(cleaned(vec![text]), ["a\u{fffd}b"]);
        }
        assert_eq!(clean("é – 漢\r\n\tb"), "é – 漢\n\tb");
        assert_eq!(indented("a\nHELD\n", 4), "a\n    HELD");
    }

    #[test]
    fn the_text_of_an_experiment_is_kept_as_it_is() {
        let mut value = serde_json::json!({ "source": "a\r\nb", "why": "a\r\nb\r" });
        clean_all(&mut value);
        assert_eq!(value, serde_json::json!({ "source": "a\r\nb", "why": "a\nb\u{fffd}" }));
    }
}
