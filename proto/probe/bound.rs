//! A bound on a number: `< 0.05`.

use std::fmt;

use super::address::{Wrong, checked, wrong};
use crate::yaml::{Node, Problems};

/// A comparison with a number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bound {
    sign: Sign,
    number: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    AtLeast,
    AtMost,
    Equal,
    NotEqual,
    MoreThan,
    LessThan,
}

/// The longer ones first: `<=` begins with `<`.
const SIGNS: [(&str, Sign); 6] = [
    (">=", Sign::AtLeast),
    ("<=", Sign::AtMost),
    ("==", Sign::Equal),
    ("!=", Sign::NotEqual),
    (">", Sign::MoreThan),
    ("<", Sign::LessThan),
];

impl Bound {
    /// Decodes one.
    pub fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        checked(Self::parse)(node, problems)
    }

    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        let text = text.trim();
        let found = SIGNS.iter().find_map(|(name, sign)| Some((*sign, text.strip_prefix(name)?)));
        let number = |text: &str| text.trim().parse::<f64>().ok().filter(|n| n.is_finite());
        match found.map(|(sign, rest)| (sign, number(rest))) {
            Some((sign, Some(number))) => Ok(Self { sign, number }),
            Some((_, None)) => Err(wrong(
                format!("`{text}` is not a bound"),
                "expected a number behind the comparison",
            )),
            None => {
                let wrong = wrong(
                    format!("`{text}` is not a bound"),
                    "expected a comparison with a number: \"< 0.05\"",
                );
                match number(text) {
                    Some(_) => Err(wrong.help(format!("write \"== {text}\""))),
                    None => Err(wrong),
                }
            }
        }
    }

    /// Whether a number is within it.
    #[expect(clippy::float_cmp, reason = "`== 3` asks for exactly 3")]
    pub fn contains(self, number: f64) -> bool {
        match self.sign {
            Sign::AtLeast => number >= self.number,
            Sign::AtMost => number <= self.number,
            Sign::Equal => number == self.number,
            Sign::NotEqual => number != self.number,
            Sign::MoreThan => number > self.number,
            Sign::LessThan => number < self.number,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = SIGNS.iter().find(|(_, sign)| *sign == self.sign).map_or("", |(name, _)| name);
        write!(f, "{sign} {}", self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_read_and_hold_for_numbers() {
        for (text, inside, outside) in [
            ("< 0.05", 0.049, 0.05),
            ("<=0.05", 0.05, 0.051),
            (">= 3", 3.0, 2.9),
            ("> -1", 0.0, -1.0),
            ("== 3", 3.0, 3.1),
            ("!= 3", 3.1, 3.0),
        ] {
            let bound = Bound::parse(text).expect(text);
            assert!(bound.contains(inside) && !bound.contains(outside), "{text}");
            assert_eq!(Bound::parse(&bound.to_string()), Ok(bound));
            assert!(!bound.contains(f64::NAN) || text.starts_with("!="), "{text}");
        }
        for text in ["", "3", "< ", "< five", "=< 3", "< NaN", "< inf"] {
            assert!(Bound::parse(text).is_err(), "{text}");
        }
    }
}
