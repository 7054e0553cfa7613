//! What a probe observes beyond that it worked, compared with what it was before anything was injected.

use std::cmp::Ordering;

use crate::experiment::ValueRule;

/// The last values, and those that were not as is asked.
#[derive(Debug, Clone, Default)]
pub struct Values {
    /// The last before the first injection.
    pub before: Option<String>,
    /// The last while faults were in effect.
    pub during: Option<String>,
    /// The first while they were that is not as is asked, and why.
    pub wrong_during: Option<String>,
    /// The last since the system has to recover.
    pub after: Option<String>,
}

/// Whether a value is as is asked.
///
/// # Errors
/// Why it is not, or why that cannot be said: `value 41, 42 before: not-less is asked`.
pub fn check(rule: &ValueRule, value: Option<&str>, before: Option<&str>) -> Result<(), String> {
    let Some(value) = value else {
        return Err(format!("inconclusive: no value, and {rule} is asked"));
    };
    let needs_before = !matches!(rule, ValueRule::Equals(_));
    let Some(before) = before.or(Some("").filter(|_| !needs_before)) else {
        return Err(format!("inconclusive: value {value}, and none before: {rule} is asked"));
    };
    let as_is_asked = match rule {
        ValueRule::Unchanged => Some(order(value, before).map_or(value == before, Ordering::is_eq)),
        ValueRule::NotLess => order(value, before).map(Ordering::is_ge),
        ValueRule::NotMore => order(value, before).map(Ordering::is_le),
        ValueRule::Equals(other) => {
            Some(order(value, other).map_or(value == other, Ordering::is_eq))
        }
        ValueRule::Within(basis_points) => {
            number(value).zip(number(before)).map(|(value, before)| {
                (value - before).abs() <= before.abs() * f64::from(*basis_points) / 10_000.0
            })
        }
    };
    let beside = if needs_before { format!(", {before} before") } else { String::new() };
    match as_is_asked {
        Some(true) => Ok(()),
        Some(false) => Err(format!("value {value}{beside}: {rule} is asked")),
        None => Err(format!(
            "inconclusive: value {value}{beside}: {rule} is asked, and they are not both numbers"
        )),
    }
}

/// How two numbers compare; `None` if they are not both one. Whole ones are compared exactly.
fn order(value: &str, other: &str) -> Option<Ordering> {
    match (value.parse::<i128>(), other.parse::<i128>()) {
        (Ok(value), Ok(other)) => Some(value.cmp(&other)),
        _ => number(value)?.partial_cmp(&number(other)?),
    }
}

/// The number that a text is; what is not finite is none.
pub fn number(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|number| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_compared_as_numbers_and_texts_where_that_makes_sense() {
        let equals = |text: &str| ValueRule::Equals(text.into());
        for (rule, value, before, held) in [
            (ValueRule::Unchanged, "42", "42.0", true),
            (ValueRule::Unchanged, "a", "a", true),
            (ValueRule::Unchanged, "a", "b", false),
            (ValueRule::NotLess, "9", "10", false),
            (ValueRule::NotLess, "10", "9", true),
            (ValueRule::NotLess, "9007199254740993", "9007199254740992", true),
            (ValueRule::NotMore, "9007199254740993", "9007199254740992", false),
            (ValueRule::NotLess, "b", "a", false),
            (equals("0"), "0.0", "7", true),
            (equals("done"), "undone", "done", false),
            (ValueRule::Within(500), "105", "100", true),
            (ValueRule::Within(500), "94.9", "100", false),
            (ValueRule::Within(500), "NaN", "100", false),
        ] {
            let result = check(&rule, Some(value), Some(before));
            assert_eq!(result.is_ok(), held, "{rule}: {value}, {before}: {result:?}");
        }
    }

    #[test]
    fn what_was_not_observed_is_inconclusive_and_never_held() {
        let why = |value, before| check(&ValueRule::NotLess, value, before).expect_err("not held");
        assert_eq!(why(Some("41"), Some("42")), "value 41, 42 before: not-less is asked");
        for (value, before) in [(None, Some("1")), (Some("1"), None), (Some("x"), Some("1"))] {
            assert!(why(value, before).starts_with("inconclusive: "), "{value:?} {before:?}");
        }
        assert_eq!(check(&ValueRule::Equals("1".into()), Some("1"), None), Ok(()));
    }
}
