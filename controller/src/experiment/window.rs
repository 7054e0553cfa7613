//! Times at which an experiment may run. Days and hours are those of one offset from UTC, which never
//! changes: no hour comes twice and none is left out. Pure: it is told what time it is.

use std::fmt;

use faultline_proto::yaml::{self, Fields, Node, Problems, Span};

/// A minute, counted from the beginning of 1970 in UTC.
type Minute = i64;

const DAY: Minute = 24 * 60;
const DAYS: [(&str, usize); 7] =
    [("mon", 0), ("tue", 1), ("wed", 2), ("thu", 3), ("fri", 4), ("sat", 5), ("sun", 6)];
/// The day of the week on which 1970 began.
const THURSDAY: i64 = 3;
/// Windows of one experiment.
const WINDOWS_MAX: usize = 20;

/// A time of the day, on some days of the week.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeWindow {
    /// From Monday to Sunday: whether it opens on that day.
    pub days: [bool; 7],
    /// The minute of the day at which it opens.
    pub from: i64,
    /// At which it closes; the next day's where that is not later.
    pub to: i64,
    /// Minutes by which its clock is ahead of UTC.
    pub offset: i64,
    /// Where it is written.
    pub span: Span,
}

impl TimeWindow {
    /// When it closes, if it is open at a time; both in seconds since 1970 in UTC.
    fn closes(&self, now: i64) -> Option<i64> {
        let here = now.div_euclid(60) + self.offset;
        let today = here.div_euclid(DAY);
        // One that is open over midnight may be yesterday's.
        let ends = [today - 1, today].map(|day| self.on(day).filter(|(from, _)| *from <= here));
        let end = ends.into_iter().flatten().map(|(_, to)| to).filter(|to| here < *to).max()?;
        Some((end - self.offset) * 60)
    }

    /// When it opens next after a time.
    fn opens(&self, now: i64) -> Option<i64> {
        let here = now.div_euclid(60) + self.offset;
        let today = here.div_euclid(DAY);
        let mut begins = (today..=today + 7).filter_map(|day| self.on(day)).map(|(from, _)| from);
        begins.find(|from| *from > here).map(|from| (from - self.offset) * 60)
    }

    /// From when to when it is open that begins on a day, by its own clock.
    fn on(&self, day: i64) -> Option<(Minute, Minute)> {
        let weekday = usize::try_from((day + THURSDAY).rem_euclid(7)).ok()?;
        let midnight = day * DAY;
        let to = if self.to > self.from { self.to } else { self.to + DAY };
        self.days.get(weekday)?.then_some((midnight + self.from, midnight + to))
    }

    /// A time by its clock: `Mon 2026-11-23 09:00 +01:00`.
    fn show(&self, seconds: i64) -> impl fmt::Display {
        let here = seconds.div_euclid(60) + self.offset;
        let (day, minute) = (here.div_euclid(DAY), here.rem_euclid(DAY));
        let weekday = (day + THURSDAY).rem_euclid(7);
        let name = DAYS.iter().find(|(_, n)| i64::try_from(*n) == Ok(weekday)).map_or("", |d| d.0);
        let (year, month, of_month) = date(day);
        let (hour, minute) = (minute / 60, minute % 60);
        format!("{name} {year}-{month:02}-{of_month:02} {hour:02}:{minute:02} {}", self.zone())
    }

    fn zone(&self) -> String {
        let (sign, ahead) = if self.offset < 0 { ('-', -self.offset) } else { ('+', self.offset) };
        match ahead {
            0 => "UTC".into(),
            _ => format!("{sign}{:02}:{:02}", ahead / 60, ahead % 60),
        }
    }
}

/// Whether one of the windows is open from a time on for so many seconds.
///
/// # Errors
/// Why not, and when one opens next.
pub fn is_open(windows: &[TimeWindow], now: i64, lasts: i64) -> Result<String, String> {
    let Some(first) = windows.first() else { return Ok("at any time".into()) };
    // One that opens as another closes goes on with it.
    let mut end = now;
    for _ in 0..=windows.len() * 8 {
        let next = windows.iter().filter_map(|window| window.closes(end)).max();
        match next.filter(|next| *next > end) {
            Some(next) => end = next,
            None => break,
        }
    }
    if end > now && end - now >= lasts {
        return Ok(format!("open until {}", first.show(end)));
    }
    let next = windows.iter().filter_map(|w| Some((w.opens(now.max(end))?, w))).min_by_key(|n| n.0);
    let next = next.map_or(String::new(), |(at, w)| format!("; it opens next on {}", w.show(at)));
    Err(if end > now {
        format!("it closes on {}, before the run would have ended{next}", first.show(end))
    } else {
        format!("it is {}{next}", first.show(now))
    })
}

/// The date of a day, counted from the beginning of 1970: year, month and day of the month.
fn date(day: i64) -> (i64, i64, i64) {
    let is_leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let (mut year, mut left) = (1970, day.max(0));
    loop {
        let days = if is_leap(year) { 366 } else { 365 };
        if left < days {
            break;
        }
        (year, left) = (year + 1, left - days);
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for days in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if left < days {
            break;
        }
        (month, left) = (month + 1, left - days);
    }
    (year, month, left + 1)
}

/// Decodes one window, or a list of them.
pub(super) fn decode(node: &Node, problems: &mut Problems) -> Option<Vec<TimeWindow>> {
    match &node.value {
        yaml::Value::Sequence(_) => {
            yaml::list(1..=WINDOWS_MAX, "windows", decode_one)(node, problems)
        }
        _ => decode_one(node, problems).map(|window| vec![window]),
    }
}

fn decode_one(node: &Node, problems: &mut Problems) -> Option<TimeWindow> {
    let before = problems.len();
    let mut fields = Fields::open(node, "window", problems)?;
    let span = fields.span();
    let days = fields.optional("days", problems, |node, problems| {
        yaml::list(1..=7, "days", yaml::one_of(&DAYS))(node, problems)
    });
    let from = fields.required("from", problems, |node, problems| time(node, DAY - 1, problems));
    let to = fields.required("to", problems, |node, problems| time(node, DAY, problems));
    let offset = fields.optional("zone", problems, zone);
    fields.finish_with(problems, |name| match name {
        "timezone" | "tz" | "timeZone" => Some("the offset is said with `zone`".into()),
        "start" => Some("when it opens is said with `from`".into()),
        "end" => Some("when it closes is said with `to`".into()),
        _ => None,
    });
    if problems.len() > before {
        return None;
    }
    let mut open = [days.is_none(); 7];
    for day in days.unwrap_or_default() {
        open[day] = true;
    }
    let offset = offset.unwrap_or_default();
    Some(TimeWindow { days: open, from: from?, to: to?, offset, span })
}

/// Reads `09:30`, in minutes.
fn clock(text: &str) -> Option<i64> {
    let (hours, minutes) = text.split_once(':')?;
    let digits = |text: &str| text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
    let (hours, minutes) = (digits(hours).then_some(hours)?, digits(minutes).then_some(minutes)?);
    let (hours, minutes) = (hours.parse::<i64>().ok()?, minutes.parse::<i64>().ok()?);
    (minutes < 60).then_some(hours * 60 + minutes)
}

fn time(node: &Node, max: i64, problems: &mut Problems) -> Option<i64> {
    let minute = node.as_text().and_then(clock).filter(|minute| *minute <= max);
    if minute.is_none() {
        problems
            .add(node.span, format!("{} is not a time of the day", node.describe()))
            .expected("expected hours and minutes: \"09:30\"");
    }
    minute
}

fn zone(node: &Node, problems: &mut Problems) -> Option<i64> {
    let text = node.as_text().unwrap_or_default();
    let ahead = |text: &str| clock(text).filter(|ahead| *ahead <= 14 * 60);
    let offset = match (text, text.strip_prefix('+'), text.strip_prefix('-')) {
        ("UTC" | "Z", ..) => Some(0),
        (_, Some(east), _) => ahead(east),
        (_, _, Some(west)) => ahead(west).map(|behind| -behind),
        _ => None,
    };
    if offset.is_none() {
        problems
            .add(node.span, format!("{} is not a zone", node.describe()))
            .expected("expected UTC, or an offset from it: \"+02:00\"")
            .help("names of zones are not known here: their clocks change");
    }
    offset
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-20 12:00 UTC, a Friday.
    const FRIDAY_NOON: i64 = 1_795_176_000;
    const HOUR: i64 = 3600;

    fn window(days: &[usize], from: i64, to: i64, offset: i64) -> TimeWindow {
        let open = std::array::from_fn(|day| days.contains(&day));
        let (from, to, offset) = (from * 60, to * 60, offset * 60);
        TimeWindow { days: open, from, to, offset, span: Span::default() }
    }

    const WORKDAYS: [usize; 5] = [0, 1, 2, 3, 4];

    #[test]
    fn a_window_is_open_on_its_days_and_hours_and_says_when_it_opens_next() {
        let open = |windows: &[TimeWindow], now| is_open(windows, now, 60);
        let work = [window(&WORKDAYS, 9, 17, 0)];
        let until = "open until fri 2026-11-20 17:00 UTC".to_owned();
        assert_eq!(open(&work, FRIDAY_NOON), Ok(until));
        let closed = "it is fri 2026-11-20 17:00 UTC; it opens next on mon 2026-11-23 09:00 UTC";
        assert_eq!(open(&work, FRIDAY_NOON + 5 * HOUR), Err(closed.into()));
        assert!(open(&work, FRIDAY_NOON - 3 * HOUR).is_ok(), "at nine sharp");
        let early = open(&work, FRIDAY_NOON - 3 * HOUR - 1).expect_err("a second before nine");
        assert!(early.ends_with("opens next on fri 2026-11-20 09:00 UTC"), "{early}");
        assert!(open(&[], FRIDAY_NOON).is_ok());
    }

    #[test]
    fn an_offset_moves_hours_and_days() {
        // Noon in UTC is Friday 22:00 ten hours further east.
        let east = [window(&[4], 21, 23, 10)];
        assert!(is_open(&east, FRIDAY_NOON, 60).is_ok());
        let saturday = [window(&[5], 0, 3, 14)];
        let text = is_open(&saturday, FRIDAY_NOON, 60).expect("it is Saturday 02:00 there");
        assert_eq!(text, "open until sat 2026-11-21 03:00 +14:00");
        assert!(is_open(&[window(&[3], 1, 5, -9)], FRIDAY_NOON, 60).is_err(), "Friday there, too");
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_on_which_it_opens() {
        let night = [window(&[3], 22, 4, 0)];
        assert!(is_open(&night, FRIDAY_NOON - 13 * HOUR, 60).is_ok(), "Thursday 23:00");
        assert!(is_open(&night, FRIDAY_NOON - 9 * HOUR, 60).is_ok(), "Friday 03:00");
        assert!(is_open(&night, FRIDAY_NOON + 11 * HOUR, 60).is_err(), "Friday 23:00");
    }

    #[test]
    fn a_run_must_end_before_the_window_closes() {
        let work = [window(&WORKDAYS, 9, 17, 0)];
        assert!(is_open(&work, FRIDAY_NOON, 5 * HOUR).is_ok());
        let text = is_open(&work, FRIDAY_NOON, 5 * HOUR + 1).expect_err("too long");
        assert!(text.starts_with("it closes on fri 2026-11-20 17:00 UTC, before"), "{text}");
        assert!(text.ends_with("opens next on mon 2026-11-23 09:00 UTC"), "{text}");
        let always = [window(&[0, 1, 2, 3, 4, 5, 6], 0, 24, 0)];
        assert!(is_open(&always, FRIDAY_NOON, 48 * HOUR).is_ok(), "one after the other");
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date(0), (1970, 1, 1));
        assert_eq!(date(11_016), (2000, 2, 29));
        assert_eq!(date(20_777), (2026, 11, 20));
        assert_eq!(date(47_540), (2100, 2, 28));
        assert_eq!(date(47_541), (2100, 3, 1), "no leap year");
    }
}
