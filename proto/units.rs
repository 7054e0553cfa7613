//! Durations, sizes and percentages as people write them, and back.

use std::{fmt, time::Duration};

const DURATION_UNITS: [(&str, u64); 5] = [
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

const SIZE_UNITS: [(&str, u64); 13] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

/// Reads `30s`, `250ms`, `1m30s` or `1.5h`. A bare number has no unit and is refused.
///
/// # Errors
/// What was expected, for a person.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let mut rest = text;
    let mut nanos = 0_u64;
    while !rest.is_empty() {
        let (value, unit, tail) = split_quantity(rest);
        if value.is_empty() {
            return Err("expected a duration such as 30s, 250ms or 1m30s".into());
        }
        let scale = DURATION_UNITS.iter().find(|(name, _)| *name == unit);
        let Some((_, scale)) = scale else {
            return Err(if unit.is_empty() {
                format!("a duration needs a unit: {value}s or {value}ms")
            } else {
                format!("unknown unit {unit:?} of a duration; the units are us, ms, s, m and h")
            });
        };
        let part = scaled(value, *scale).ok_or("the duration is too long")?;
        nanos = nanos.checked_add(part).ok_or("the duration is too long")?;
        rest = tail;
    }
    if text.is_empty() {
        return Err("expected a duration such as 30s, 250ms or 1m30s".into());
    }
    Ok(Duration::from_nanos(nanos))
}

/// Reads `256MiB`, `256Mi`, `1.5GB` or `4096B`, in bytes. A bare number is refused.
///
/// # Errors
/// What was expected, for a person.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let (value, unit, tail) = split_quantity(text);
    if value.is_empty() || !tail.is_empty() {
        return Err("expected a size such as 256MiB, 256Mi or 1.5GB".into());
    }
    let scale = SIZE_UNITS.iter().find(|(name, _)| *name == unit);
    let Some((_, scale)) = scale else {
        return Err(if unit.is_empty() {
            format!("a size needs a unit: {value}MiB or {value}B")
        } else {
            format!(
                "unknown unit {unit:?} of a size; the units are B, KiB, MiB, GiB, TiB, kB, MB, GB, TB"
            )
        });
    };
    scaled(value, *scale).ok_or_else(|| "the size is too large".into())
}

/// Reads `80%` or `12.5%`, in hundredths of a percent.
///
/// # Errors
/// What was expected, for a person.
pub fn parse_percent(text: &str) -> Result<u32, String> {
    let wrong = || "expected a percentage such as 80%".to_owned();
    let value = text.strip_suffix('%').ok_or_else(wrong)?.trim_end();
    let (number, unit, tail) = split_quantity(value);
    if number.is_empty() || !unit.is_empty() || !tail.is_empty() {
        return Err(wrong());
    }
    let basis_points = scaled(number, 100).ok_or("the percentage is too large")?;
    u32::try_from(basis_points).map_err(|_too_large| "the percentage is too large".to_owned())
}

/// A leading decimal number, the letters after it, and what follows those.
fn split_quantity(text: &str) -> (&str, &str, &str) {
    let number = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (value, rest) = text.split_at(number);
    let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
    let (unit, tail) = rest.split_at(unit);
    (value, unit, tail)
}

/// `value` (digits, perhaps a point and digits) times `scale`, exact to the unit; `None` when it
/// does not fit or is not a number.
fn scaled(value: &str, scale: u64) -> Option<u64> {
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    if whole.is_empty() || (value.contains('.') && fraction.is_empty()) {
        return None;
    }
    // Nineteen digits of a fraction are more than any unit here can tell apart.
    let fraction = fraction.get(..fraction.len().min(19))?;
    let digits = if fraction.is_empty() { 0 } else { fraction.parse::<u64>().ok()? };
    let one = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let sum = u128::from(whole.parse::<u64>().ok()?) * u128::from(scale)
        + u128::from(digits) * u128::from(scale) / one;
    u64::try_from(sum).ok()
}

/// Shows a duration the way it is written in an experiment: `30s`, `1m30s`, `250ms`.
pub fn duration(duration: Duration) -> impl fmt::Display {
    struct Shown(Duration);
    impl fmt::Display for Shown {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let nanos = self.0.as_nanos();
            let seconds = self.0.as_secs();
            if nanos == 0 {
                write!(f, "0s")
            } else if nanos < 1_000_000 {
                write!(f, "{}us", nanos / 1_000)
            } else if nanos < 1_000_000_000 {
                decimal(f, nanos, 1_000_000, "ms")
            } else if seconds < 60 {
                decimal(f, nanos, 1_000_000_000, "s")
            } else {
                let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
                if hours > 0 {
                    write!(f, "{hours}h")?;
                }
                if minutes > 0 {
                    write!(f, "{minutes}m")?;
                }
                if rest > 0 { write!(f, "{rest}s") } else { Ok(()) }
            }
        }
    }
    Shown(duration)
}

/// `nanos / unit` with at most three digits after the point and no trailing zero.
fn decimal(f: &mut fmt::Formatter<'_>, nanos: u128, unit: u128, name: &str) -> fmt::Result {
    let thousandths = nanos * 1_000 / unit;
    let (whole, fraction) = (thousandths / 1_000, thousandths % 1_000);
    if fraction == 0 {
        write!(f, "{whole}{name}")
    } else {
        let digits = format!("{fraction:03}");
        write!(f, "{whole}.{}{name}", digits.trim_end_matches('0'))
    }
}

/// Shows a size in the largest binary unit, with at most one digit after the point: `256MiB`.
pub fn size(bytes: u64) -> impl fmt::Display {
    struct Shown(u64);
    impl fmt::Display for Shown {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let units =
                [("TiB", 1_u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
            for (name, unit) in units {
                if self.0 >= unit {
                    let tenths = u128::from(self.0) * 10 / u128::from(unit);
                    return match tenths % 10 {
                        0 => write!(f, "{}{name}", tenths / 10),
                        tenth => write!(f, "{}.{tenth}{name}", tenths / 10),
                    };
                }
            }
            write!(f, "{}B", self.0)
        }
    }
    Shown(bytes)
}

/// Shows hundredths of a percent: `80%`, `12.5%`.
pub fn percent(basis_points: u32) -> impl fmt::Display {
    struct Shown(u32);
    impl fmt::Display for Shown {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self.0 % 100 {
                0 => write!(f, "{}%", self.0 / 100),
                rest => {
                    let digits = format!("{rest:02}");
                    write!(f, "{}.{}%", self.0 / 100, digits.trim_end_matches('0'))
                }
            }
        }
    }
    Shown(basis_points)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_shown() {
        for (text, millis) in
            [("30s", 30_000), ("250ms", 250), ("1m30s", 90_000), ("1.5s", 1_500), ("2h", 7_200_000)]
        {
            let parsed = parse_duration(text).expect(text);
            assert_eq!(parsed, Duration::from_millis(millis));
            assert_eq!(duration(parsed).to_string(), text);
        }
        for text in ["", "30", "s", "30 s", "-1s", "30sec", "1..5s", "1.s", "99999999999h", "∞"] {
            assert!(parse_duration(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn sizes_and_percentages_are_read_and_shown() {
        assert_eq!(parse_size("256MiB"), Ok(256 << 20));
        assert_eq!(parse_size("1.5Gi"), Ok(3 << 29));
        assert_eq!(parse_size("10MB"), Ok(10_000_000));
        assert_eq!(size(256 << 20).to_string(), "256MiB");
        assert_eq!(parse_percent("12.5%"), Ok(1250));
        assert_eq!(percent(1250).to_string(), "12.5%");
        for text in ["", "1", "MiB", "1 XB", "1MiB2", "99999999999TiB"] {
            assert!(parse_size(text).is_err(), "{text:?}");
        }
        for text in ["", "80", "%", "x%", "99999999999%"] {
            assert!(parse_percent(text).is_err(), "{text:?}");
        }
    }
}
