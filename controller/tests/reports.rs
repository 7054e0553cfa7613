//! What is made of journals, word for word: of each `journal/NAME.jsonl`, the summary, `junit.xml` and
//! `report.html`. `FAULTLINE_UPDATE=1` writes those anew, to be read in the diff.
//!
//! The journals are of a run of `journal/cut.yaml` in the sandbox; `killed.jsonl` is one that was ended in
//! the middle of a line. Their texts contain markup, which nobody may take for such. What is added to a
//! report is read with a default, or these are recorded anew.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use roxmltree::{Document, Node};
use serde_json::Value;

const JOURNALS: [(&str, i32); 2] = [("killed", 4), ("whole", 0)];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/journal").join(name)
}

/// The exit code, what is printed, and the directory with the files that were written.
fn rebuilt(name: &str) -> (Option<i32>, String, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = dir.path().join("journal.jsonl");
    fs::copy(fixture(&format!("{name}.jsonl")), &journal).expect("a fixture");
    let mut command = Command::new(env!("CARGO_BIN_EXE_faultline"));
    command.arg("report").arg(dir.path()).arg("--rebuild");
    let output = command.output().expect("it starts");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let text = text.replace(&dir.path().display().to_string(), "DIR");
    (output.status.code(), text, dir)
}

#[test]
fn what_is_made_of_a_journal_is_as_it_was_read_by_a_person() {
    let update = std::env::var_os("FAULTLINE_UPDATE").is_some();
    for (name, code) in JOURNALS {
        let (found, summary, dir) = rebuilt(name);
        assert_eq!(found, Some(code), "{name}: {summary}");
        let read = |file: &str| fs::read_to_string(dir.path().join(file)).expect("written");
        for (extension, said) in
            [("txt", summary), ("junit.xml", read("junit.xml")), ("html", read("report.html"))]
        {
            let expected = fixture(&format!("{name}.{extension}"));
            if update {
                fs::write(&expected, &said).expect("writable");
            }
            let known = fs::read_to_string(&expected).unwrap_or_default();
            assert!(said == known, "{name}.{extension} is another one now:\n{said}");
        }
    }
}

#[test]
fn the_page_is_one_file_that_loads_and_runs_nothing() {
    for (name, _) in JOURNALS {
        let (_, _, dir) = rebuilt(name);
        let page = fs::read_to_string(dir.path().join("report.html")).expect("a page");
        for foreign in ["<script", " src=", " href=", "url(", "@import", "http://", "https://"] {
            // What stands in the text of an experiment is shown, and does nothing.
            let found = page.match_indices(foreign).filter(|(at, _)| {
                let before = &page[..*at];
                before.rfind('<') > before.rfind('>')
            });
            assert_eq!(found.count(), 0, "{name}: {foreign}");
        }
        assert!(page.contains("&lt;script&gt;alert('x')&lt;/script&gt; &amp; &quot;one&quot;"));
        assert!(page.contains("prefers-color-scheme: dark") && page.contains("@media print"));
        assert!(page.contains("name=\"viewport\""));
        // Every chart has a title that says in words what it shows.
        let charts = page.matches("<svg role=\"img\"").count();
        assert!(charts >= 3, "{charts} charts");
        assert_eq!(page.matches("<title id=").count(), charts);
    }
}

fn attribute(node: Node<'_, '_>, name: &str) -> usize {
    node.attribute(name).and_then(|text| text.parse().ok()).expect("a number")
}

/// What the schema of `JUnit` asks of a document, as far as we write it.
#[test]
fn the_junit_document_is_as_its_readers_expect() {
    for (name, _) in JOURNALS {
        let (_, _, dir) = rebuilt(name);
        let text = fs::read_to_string(dir.path().join("junit.xml")).expect("a document");
        let document = Document::parse(&text).expect("XML");
        let root = document.root_element();
        assert_eq!(root.tag_name().name(), "testsuites");
        let suites: Vec<_> = root.children().filter(Node::is_element).collect();
        assert_eq!(suites.len(), 1);
        let suite = suites[0];
        assert_eq!((suite.tag_name().name(), suite.attribute("name")), ("testsuite", Some("cut")));
        let cases: Vec<_> = suite.children().filter(|n| n.has_tag_name("testcase")).collect();
        let mut names = BTreeSet::new();
        let mut counts = [0; 3];
        for case in &cases {
            assert!(names.insert(case.attribute("name").expect("a name")), "names differ");
            assert_eq!(case.attribute("classname"), Some("faultline.cut"));
            let time = case.attribute("time").and_then(|time| time.parse::<f64>().ok());
            assert!(time.is_some_and(|time| time >= 0.0), "{case:?}");
            let bad = ["failure", "error", "skipped"];
            let ends: Vec<_> =
                case.children().filter(|n| bad.contains(&n.tag_name().name())).collect();
            assert!(ends.len() <= 1, "one end of each case");
            for end in ends {
                let kind = bad.iter().position(|name| end.has_tag_name(*name));
                counts[kind.expect("one of them")] += 1;
                assert!(end.attribute("message").is_some_and(|text| !text.is_empty()));
            }
        }
        for node in [root, suite] {
            assert_eq!(attribute(node, "tests"), cases.len(), "{name}");
            let [failures, errors, skipped] = counts;
            assert_eq!(attribute(node, "failures"), failures, "{name}");
            assert_eq!(attribute(node, "errors"), errors, "{name}");
            assert_eq!(attribute(node, "skipped"), skipped, "{name}");
        }
        assert!(names.iter().any(|name| name.contains("<script>alert('x')</script>")));
    }
}

/// What a validating reader says against a document; `None`: nothing, or there is no such reader here.
fn against_the_schema(junit: &str) -> Option<String> {
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/junit.xsd");
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("junit.xml");
    fs::write(&file, junit).expect("writable");
    let mut xmllint = Command::new("xmllint");
    xmllint.args(["--noout", "--nonet", "--schema"]).arg(schema).arg(file);
    match xmllint.output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => {
            let required = std::env::var("FAULTLINE_REQUIRE_ALL").is_ok_and(|value| value == "1");
            assert!(!required, "xmllint: {error}");
            println!("SKIPPED: there is no xmllint ({error})");
            None
        }
    }
}

#[test]
fn the_junit_document_keeps_to_its_schema() {
    for (name, _) in JOURNALS {
        let (_, _, dir) = rebuilt(name);
        let text = fs::read_to_string(dir.path().join("junit.xml")).expect("a document");
        assert_eq!(against_the_schema(&text), None, "{name}");
    }
    let (_, _, junit) = had_it_been(|report| {
        report["verdict"] = "deviated".into();
        report["reasons"] = serde_json::json!(["it is <wrong> & \"quoted\""]);
        report["assertions"][0]["outcome"] = "inconclusive".into();
        report["assertions"][1]["outcome"] = "not-judged".into();
        report["injections"][0]["effect"] = "failed".into();
        report["injections"][0]["residue"] = serde_json::json!(["a table"]);
    });
    for end in ["<failure ", "<error ", "<skipped "] {
        assert!(junit.contains(end), "{junit}");
    }
    assert_eq!(against_the_schema(&junit), None);
    if against_the_schema("<testsuites/>").is_some() {
        let twice = junit.replace("probe lost: recovery", "probe other: steady");
        assert!(against_the_schema(&twice).is_some(), "names that are there twice");
        let late = junit.replacen("time=\"", "time=\"-", 1);
        assert!(against_the_schema(&late).is_some(), "a time before");
    }
}

#[test]
fn rounds_of_one_fault_are_one_lane_with_a_bar_each() {
    let (_, page, _) = had_it_been(|report| {
        let again = report["injections"][0].clone();
        let injections = report["injections"].as_array_mut().expect("injections");
        injections.extend([again.clone(), again]);
    });
    let (_, timeline) = page.split_once("<h2>Timeline</h2>").expect("a timeline");
    let (_, lane) = timeline.split_once("<div class=\"lane-name\">").expect("a lane");
    let lane = lane.split("<div class=\"lane-name\">").next().expect("its end");
    assert!(lane.contains(" · 3 times · from "), "{lane}");
    assert_eq!(lane.matches("<div class=\"bar\"").count(), 3, "{lane}");
    let (_, page, _) = had_it_been(|_| {});
    assert!(!page.contains("1 times"), "one is told without a number");
    let (_, chart) = page.split_once("<div class=\"chart latency\">").expect("a chart");
    let chart = chart.split("</div>").next().expect("its end");
    assert!(chart.matches("class=\"tag\"").count() >= 2, "a scale has two ends: {chart}");
}

/// The summary, the page and the document of the whole run, had it come to something else.
fn had_it_been(change: impl FnOnce(&mut Value)) -> (String, String, String) {
    let whole = fs::read_to_string(fixture("whole.jsonl")).expect("a fixture");
    let mut lines: Vec<String> = whole.lines().map(str::to_owned).collect();
    let is_verdict = |line: &&mut String| line.contains("\"event\":\"verdict\"");
    let line = lines.iter_mut().find(is_verdict).expect("a verdict");
    let mut report: Value = serde_json::from_str(line).expect("JSON");
    change(&mut report);
    *line = report.to_string();
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("journal.jsonl"), format!("{}\n", lines.join("\n")))
        .expect("writable");
    let mut command = Command::new(env!("CARGO_BIN_EXE_faultline"));
    let output =
        command.arg("report").arg(dir.path()).arg("--rebuild").output().expect("it starts");
    let read = |file: &str| fs::read_to_string(dir.path().join(file)).expect("written");
    let summary = String::from_utf8(output.stdout).expect("UTF-8");
    (summary, read("report.html"), read("junit.xml"))
}

#[test]
fn everything_that_was_asked_is_told_also_where_it_held() {
    let (_, page, junit) = had_it_been(|_| {});
    let asked = page.split_once("<h2>Asked</h2>").expect("a table").1;
    let asked = asked.split_once("</table>").expect("its end").0;
    for (what, was, place) in [
        ("success &gt;= 90%", "100% of ", "probe other, before the fault"),
        ("success &gt;= 90%", "100% of ", "probe other, during the fault"),
        ("recovery within 10s, stable for 200ms", "11.4 ms", "probe lost, after the fault"),
        ("downtime of lost &lt; 3s", "1.00 s ± 53.2 ms", "cut.yaml:24"),
        ("timeToRecover of lost &lt; 5s", "11.4 ms ± 50.0 ms", "cut.yaml:25"),
    ] {
        let mut rows = asked.split("<tr>");
        let row = rows.find(|row| row.contains(what) && row.contains(was) && row.contains(place));
        assert!(row.is_some_and(|row| row.contains(">held<")), "{what} in {place}: {asked}");
    }
    for case in [
        "probe other: steady",
        "probe other: during",
        "probe lost: recovery",
        "assertion: downtime of lost &lt; 3s (cut.yaml:24)",
    ] {
        let (_, case) = junit.split_once(&format!("name=\"{case}\"")).expect(case);
        assert!(case.split("</testcase>").next().is_some_and(|text| text.contains("<system-out>")));
    }
}

#[test]
fn pods_that_were_lost_are_told_everywhere() {
    let (summary, page, junit) = had_it_been(|report| {
        report["pods"] = serde_json::json!([
            {"targets": ["api"], "namespace": "shop", "pod": "api-b", "uid": "b", "node": "node2",
             "insteadOf": "api-a", "loss": "deleted", "lostAtMs": 1200.0, "timeToRecreatedMs": 310.0,
             "timeToScheduledMs": 320.0, "timeToReadyMs": 1400.0, "uncertaintyMs": 20.0, "restarts": 0},
            {"targets": ["db"], "namespace": "shop", "pod": "db-0", "uid": "d", "node": null,
             "insteadOf": "db-0", "loss": "gone", "lostAtMs": 1200.0, "timeToRecreatedMs": 310.0,
             "timeToScheduledMs": null, "timeToReadyMs": null, "uncertaintyMs": 20.0, "restarts": 2},
        ]);
    });
    let sentences = [
        "pod shop/api-b in the place of api-a was deleted at 1.20 s: recreated after 310.0 ms, scheduled after \
         320.0 ms, ready after 1.40 s (± 20.0 ms)",
        "pod shop/db-0 anew was gone at 1.20 s: recreated after 310.0 ms, not scheduled when the run ended, \
         containers started again: 2 (± 20.0 ms)",
    ];
    for sentence in sentences {
        assert!(summary.contains(&format!("\n  {sentence}\n")), "{summary}");
        assert!(junit.contains(sentence), "{junit}");
    }
    let (_, table) = page.split_once("<h2>Pods</h2>").expect("a table");
    assert!(table.contains("class=\"n good\" data-label=\"ready after\">1.40 s<"), "{table}");
    assert!(table.contains("class=\"n bad\" data-label=\"ready after\">–<"), "{table}");
    let (_, page, _) = had_it_been(|_| {});
    assert!(!page.contains("<h2>Pods</h2>"), "nothing where nobody was lost");
}

/// A journal whose controller was killed tells of pods what was known last.
#[test]
fn what_was_known_of_pods_is_in_a_journal_without_an_end() {
    let whole = fs::read_to_string(fixture("whole.jsonl")).expect("a fixture");
    let before = whole.lines().take_while(|line| !line.contains("\"event\":\"verdict\""));
    let mut lines: Vec<String> = before.map(str::to_owned).collect();
    let pod = |number: usize, ready: &str| {
        format!(
            r#"{{"atMs":900.1,"wallUnixMs":1795266479226,"event":"pod","number":{number},"pod":{{"targets":["api"],"namespace":"shop","pod":"api-b","uid":"b","node":null,"insteadOf":null,"loss":"not-ready","lostAtMs":1.0,"timeToRecreatedMs":null,"timeToScheduledMs":null,"timeToReadyMs":{ready},"uncertaintyMs":20.0,"restarts":0}}}}"#
        )
    };
    lines.extend([pod(0, "null"), pod(1, "null"), pod(0, "55.5")]);
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("journal.jsonl");
    fs::write(&file, format!("{}\n", lines.join("\n"))).expect("writable");
    let journal = faultline::report::journal::read(&file).expect("a journal");
    let report = faultline::report::journal::rebuild(journal).report;
    let ready: Vec<_> = report.pods.iter().map(|pod| pod.time_to_ready_ms).collect();
    assert_eq!(ready, [Some(55.5), None]);
}

#[test]
fn no_more_is_called_recovered_than_was_seen() {
    let said = |change: fn(&mut Value)| {
        let (_, page, _) = had_it_been(change);
        let (_, means) = page.split_once("class=\"means\">").expect("a sentence");
        means.split_once('<').expect("its end").0.to_owned()
    };
    assert_eq!(said(|_| {}), "the hypothesis held, and the system recovered");
    let not_asked = said(|report| report["probes"][1]["bounds"] = Value::Array(Vec::new()));
    assert_eq!(not_asked, "the hypothesis held");
    let failing = said(|report| {
        report["probes"][1]["bounds"] = Value::Array(Vec::new());
        report["probes"][1]["downtime"]["ongoing"] = true.into();
    });
    assert_eq!(failing, "the hypothesis held; lost still failed, and nothing more was asked");
}

#[test]
fn the_figure_that_is_wrong_is_the_one_that_is_marked() {
    let wrong = |figure: &str, was: &str| {
        serde_json::json!([{
            "window": "during", "outcome": "deviated", "why": ["is wrong"],
            "figures": [
                {"figure": "success", "bound": ">= 90%", "was": "100%", "outcome": "held"},
                {"figure": figure, "bound": "of it", "was": was, "outcome": "deviated"},
            ],
        }])
    };
    let row =
        |text: &str| text.lines().find(|l| l.starts_with("  other ")).expect("a row").to_owned();
    let during = |page: &str| {
        let (_, page) = page.split_once("<h2>Observed</h2>").expect("a table");
        let mut rows = page.split("<tr>");
        let found = rows.find(|row| row.contains("other<small>during</small>"));
        found.expect("a row").to_owned()
    };
    let (summary, page, _) = had_it_been(|report| {
        report["probes"][0]["bounds"] = wrong("p99", "4.3 ms");
        report["probes"][0]["during"]["within"] = false.into();
    });
    assert!(!row(&summary).contains("100 % (!)"), "{summary}");
    assert!(row(&summary).contains("4.3 ms (!)"), "{summary}");
    assert!(during(&page).contains("class=\"n bad\" data-label=\"p99\""), "{page}");
    assert!(during(&page).contains("class=\"n good\" data-label=\"succeeded\""), "{page}");
    let (summary, page, _) = had_it_been(|report| {
        report["probes"][0]["bounds"] = wrong("value", "43");
        report["probes"][0]["value"] =
            serde_json::json!({"before": "42", "during": "43", "after": "42"});
    });
    assert!(row(&summary).contains("42 → 43 → 42 (!)"), "{summary}");
    assert!(during(&page).contains("class=\"n bad\" data-label=\"value\">43<"), "{page}");
    assert!(!during(&page).contains("class=\"n bad\" data-label=\"p99\""), "{page}");
}

#[test]
fn that_nothing_was_injected_is_said_where_the_journal_says_it() {
    let whole = fs::read_to_string(fixture("whole.jsonl")).expect("a fixture");
    let (before, _) = whole.split_once(",\"event\":\"prepared\"").expect("it injects");
    let before: Vec<&str> =
        before.lines().take_while(|line| !line.contains("\"inject\"")).collect();
    let dir = tempfile::tempdir().expect("a directory");
    let code = |text: String| {
        let file = dir.path().join("journal.jsonl");
        fs::write(&file, text).expect("writable");
        let journal = faultline::report::journal::read(&file).expect("a journal");
        faultline::report::journal::rebuild(journal).report.exit_code
    };
    let silent = format!("{}\n", before.join("\n"));
    let stopped =
        r#"{"atMs":900.1,"wallUnixMs":1795266479226,"event":"stopped","reasons":["interrupted"]}"#;
    assert_eq!(code(format!("{silent}{stopped}\n")), 3);
    assert_eq!(code(silent), 4);
}

/// Wherever a controller is killed: what is left of its journal is explained, and what may still be in a
/// kernel is never called clean.
#[test]
fn every_beginning_of_a_journal_is_explained() {
    let whole = fs::read_to_string(fixture("whole.jsonl")).expect("a fixture");
    let lines: Vec<&str> = whole.lines().collect();
    let is = |line: &str, event: &str| line.contains(&format!("\"event\":\"{event}\""));
    let dir = tempfile::tempdir().expect("a directory");
    let journal = dir.path().join("journal.jsonl");
    let (mut prepared, mut reverted, mut over) = (false, false, false);
    for count in 1..lines.len() {
        let last = lines[count - 1];
        prepared |= is(last, "prepared");
        reverted |= is(last, "reverted");
        over |= last.contains("\"phase\":\"recovery\"");
        if is(last, "sample") {
            continue;
        }
        // The line that comes next is torn somewhere.
        let torn = &lines[count][..lines[count].len() / 2];
        let text = format!("{}\n{torn}", lines[..count].join("\n"));
        fs::write(&journal, text).expect("writable");
        let journal = faultline::report::journal::read(&journal).expect("it is read");
        let rebuilt = faultline::report::journal::rebuild(journal);
        let report = &rebuilt.report;
        if is(last, "verdict") {
            assert_eq!((report.exit_code, rebuilt.remarks.len()), (0, 1));
            continue;
        }
        // What comes after the last line is not known: another step may have been injected.
        let expected = if over && reverted { 1 } else { 4 };
        assert_eq!(report.exit_code, expected, "{last}");
        assert_eq!(report.verdict.name(), "unfinished");
        assert!(report.reasons[0].starts_with("the journal ends "), "{:?}", report.reasons);
        assert_eq!(report.probes.len(), 2, "what probes saw is measured again");
    }
    assert!(prepared && reverted && over, "the fixture has it all");
}

/// What a journal without its verdict gives is what the run itself had measured.
#[test]
fn attempts_that_were_recorded_are_measured_again_to_the_same() {
    let read = |text: &str| {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("journal.jsonl");
        fs::write(&file, text).expect("writable");
        let journal = faultline::report::journal::read(&file).expect("a journal");
        faultline::report::journal::rebuild(journal).report
    };
    let whole = fs::read_to_string(fixture("whole.jsonl")).expect("a fixture");
    let (live, judged) = (read(&whole), whole.find("\"event\":\"verdict\"").expect("a verdict"));
    let again = read(&whole[..=whole[..judged].rfind('\n').expect("lines before it")]);
    assert_eq!((live.verdict.name(), again.verdict.name()), ("held", "unfinished"));
    assert_eq!((live.probes.len(), again.probes.len()), (2, 2));
    for (live, again) in live.probes.iter().zip(&again.probes) {
        let attempts = |series: &[u32]| series.iter().sum::<u32>();
        assert_eq!(attempts(&live.series.attempts), attempts(&again.series.attempts));
        assert_eq!(attempts(&live.series.failures), attempts(&again.series.failures));
        assert_eq!(live.downtime.outages, again.downtime.outages);
        let difference = (live.downtime.total_ms - again.downtime.total_ms).abs();
        assert!(difference < 0.001, "{}: {difference} ms", live.name);
        let medians = [live, again].map(|p| p.steady.latency.map(|l| l.p50_ms));
        assert_eq!(medians[0], medians[1], "{}", live.name);
    }
}
