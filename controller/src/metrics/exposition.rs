//! OpenMetrics text to the older text format, which node_exporter's textfile collector and the
//! Pushgateway read, and how counts go on from an earlier text.
//!
//! The two differ in the names of counters (the family bears `_total` in the older one), in units, and
//! in how a text ends.

use std::collections::BTreeMap;

/// A family of a text in the older format.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Family {
    help: String,
    kind: String,
    /// Values, by name and labels, as written.
    series: BTreeMap<String, String>,
}

/// OpenMetrics text, in the older format.
pub fn classic(openmetrics: &str) -> String {
    let counters: Vec<&str> = openmetrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    let infos: Vec<&str> = openmetrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" info"))
        .collect();
    let mut out = String::with_capacity(openmetrics.len());
    for line in openmetrics.lines() {
        let mut words = line.splitn(4, ' ');
        let (first, about, name) = (words.next(), words.next(), words.next());
        match (first, about, name) {
            (Some("#"), Some("UNIT" | "EOF"), _) => continue,
            (Some("#"), Some(about @ ("HELP" | "TYPE")), Some(name)) => {
                let rest = words.next().unwrap_or_default();
                let (suffix, rest) = match (counters.contains(&name), infos.contains(&name)) {
                    (true, _) => ("_total", rest),
                    (_, true) => ("_info", if about == "TYPE" { "gauge" } else { rest }),
                    _ => ("", rest),
                };
                out.extend(["# ", about, " ", name, suffix, " ", rest]);
            }
            _ => out.push_str(line),
        }
        out.push('\n');
    }
    out
}

/// A text in the older format with what an earlier one counted added, and with what that one says and
/// this one does not.
///
/// # Errors
/// The line of the earlier one that is none of such a text.
pub fn go_on(earlier: &str, now: &str) -> Result<String, String> {
    let mut families = parse(earlier)?;
    for (name, family) in parse(now)? {
        let known = families.entry(name).or_default();
        known.help = family.help;
        known.kind = family.kind;
        for (series, value) in family.series {
            let before = known.series.get(&series).and_then(|value| value.parse::<u64>().ok());
            let value = match (known.kind.as_str(), before, value.parse::<u64>()) {
                ("counter", Some(before), Ok(more)) => before.saturating_add(more).to_string(),
                _ => value,
            };
            known.series.insert(series, value);
        }
    }
    let mut out = String::new();
    for (name, Family { help, kind, series }) in families {
        out.extend(["# HELP ", &name, " ", &help, "\n# TYPE ", &name, " ", &kind, "\n"]);
        for (series, value) in series {
            out.extend([&series, " ", &value, "\n"]);
        }
    }
    Ok(out)
}

/// Reads what [`classic`] and [`go_on`] write: no histograms, no times.
fn parse(text: &str) -> Result<BTreeMap<String, Family>, String> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (about, name) = (words.next(), words.next());
            let rest = words.next().unwrap_or_default();
            match (about, name) {
                (Some("HELP"), Some(name)) => {
                    rest.clone_into(&mut families.entry(name.to_owned()).or_default().help);
                }
                (Some("TYPE"), Some(name)) => {
                    rest.clone_into(&mut families.entry(name.to_owned()).or_default().kind);
                }
                _ => {}
            }
            continue;
        }
        // A label's value may hold spaces; what is behind the last one is the number.
        let (series, value) = line.rsplit_once(' ').ok_or_else(|| line.to_owned())?;
        let name = series.split('{').next().unwrap_or(series);
        if value.parse::<f64>().is_err() || name.is_empty() || name.contains(' ') {
            return Err(line.to_owned());
        }
        let family = families.entry(name.to_owned()).or_default();
        family.series.insert(series.to_owned(), value.to_owned());
    }
    Ok(families)
}
