//! Which statuses of an HTTP answer count as a success.

use std::{fmt, ops::RangeInclusive};

use super::address::{Wrong, checked, wrong};
use crate::{
    limits::PROBE_LIST_MAX,
    yaml::{self, Node, Problems, Value},
};

const SHAPE: &str =
    "expected a status such as 200, a class such as 2xx, or a range such as 200-204";

/// Statuses, as ranges. Not empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statuses(Vec<RangeInclusive<u16>>);

impl Default for Statuses {
    /// 200.
    fn default() -> Self {
        Self(vec![200..=200])
    }
}

impl Statuses {
    /// Whether a status is one of them.
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|range| range.contains(&status))
    }

    /// Reads `200`, `2xx` or `200-204`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        let number = |text: &str| {
            let digits = text.len() == 3 && text.bytes().all(|b| b.is_ascii_digit());
            let number = text.parse::<u16>().ok().filter(|_| digits)?;
            (100..=599).contains(&number).then_some(number)
        };
        let class = text.strip_suffix("xx").or_else(|| text.strip_suffix("XX"));
        let range = if let Some(class) = class {
            number(&format!("{class}00")).map(|first| first..=first + 99)
        } else if let Some((from, to)) = text.split_once('-') {
            number(from.trim()).zip(number(to.trim())).map(|(from, to)| from..=to)
        } else {
            number(text).map(|status| status..=status)
        };
        match range {
            Some(range) if !range.is_empty() => Ok(Self(vec![range])),
            Some(range) => Err(wrong(format!("`{text}` is empty"), SHAPE).help(format!(
                "write {}-{}",
                range.end(),
                range.start()
            ))),
            None => Err(wrong(format!("`{text}` is not a status"), SHAPE)),
        }
    }
}

impl Statuses {
    /// Reads several, with commas between them, as they are shown.
    ///
    /// # Errors
    /// What is wrong with the first that is none, or that there are too many.
    pub(super) fn parse_list(text: &str) -> Result<Self, Wrong> {
        let mut all = Self(Vec::new());
        for one in text.split(',').take(PROBE_LIST_MAX) {
            all.0.extend(Self::parse(one.trim())?.0);
        }
        Ok(all)
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, range) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            match (*range.start(), *range.end()) {
                (from, to) if from == to => write!(f, "{comma}{from}")?,
                (from, to) if from % 100 == 0 && to == from + 99 => {
                    write!(f, "{comma}{}xx", from / 100)?;
                }
                (from, to) => write!(f, "{comma}{from}-{to}")?,
            }
        }
        Ok(())
    }
}

/// Decodes one of them, or a list.
pub(super) fn decode(node: &Node, problems: &mut Problems) -> Option<Statuses> {
    if let Value::Sequence(_) = node.value {
        let one = |node: &Node, problems: &mut Problems| checked(Statuses::parse)(node, problems);
        let all = yaml::list(1..=PROBE_LIST_MAX, "statuses", one)(node, problems)?;
        return Some(Statuses(all.into_iter().flat_map(|statuses| statuses.0).collect()));
    }
    checked(Statuses::parse)(node, problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_numbers_classes_and_ranges() {
        let within = |text: &str, status| Statuses::parse(text).expect(text).contains(status);
        assert!(within("200", 200) && !within("200", 201));
        assert!(within("2xx", 299) && !within("2xx", 300));
        assert!(within("200-204", 204) && !within("200-204", 205));
        for text in ["99", "600", "0200", "6xx", "20x", "204-200", "ok", "-200", "+20"] {
            assert!(Statuses::parse(text).is_err(), "{text}");
        }
        for text in ["503", "4xx", "200-204"] {
            assert_eq!(Statuses::parse(text).expect(text).to_string(), text);
        }
    }
}
