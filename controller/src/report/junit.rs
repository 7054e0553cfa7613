//! A report as `JUnit` XML: one case for the hypothesis, for each thing that was asked of a probe, for each
//! assertion, and two for each fault: that its effect was proven, and that its revert was.
//!
//! A *failure* is what was observed and is not as it was asked; an *error* is what kept anybody from
//! observing it; what was not judged because the run ended before is *skipped*.

use std::{collections::BTreeMap, io, time::Duration};

use quick_junit::{NonSuccessKind, Report as Document, TestCase, TestCaseStatus, TestSuite};

use super::{AssertionReport, InjectionReport, Outcome, ProbeReport, Report, Verdict};

/// The document.
///
/// # Errors
/// When it cannot be made.
pub(super) fn document(report: &Report) -> io::Result<String> {
    let mut suite = TestSuite::new(report.experiment.as_str());
    suite.set_time(from_ms(Some(report.duration_ms)));
    for (name, value) in [
        ("runId", report.run_id.clone()),
        ("seed", report.seed.to_string()),
        ("place", report.place.clone()),
        ("file", report.file.clone()),
        ("verdict", report.verdict.name().into()),
    ] {
        suite.add_property((name, value.as_str()));
    }
    if !report.pods.is_empty() {
        let pods: Vec<String> = report.pods.iter().map(super::pod::sentence).collect();
        suite.set_system_out(pods.join("\n"));
    }
    let classname = format!("faultline.{}", report.experiment);
    let faults = report.injections.iter().flat_map(|fault| [effect(fault), revert(fault)]);
    let cases = std::iter::once(hypothesis(report))
        .chain(report.probes.iter().flat_map(bounds))
        .chain(report.assertions.iter().map(assertion))
        .chain(faults);
    for mut case in tell_apart(cases) {
        case.set_classname(classname.as_str());
        suite.add_test_case(case);
    }
    let mut document = Document::new("faultline");
    document.set_time(from_ms(Some(report.duration_ms)));
    document.add_test_suite(suite);
    document.to_string().map_err(io::Error::other)
}

/// What should have stayed true; where nothing was said, that the run is as it was asked.
fn hypothesis(report: &Report) -> TestCase {
    let text = report.hypothesis.as_deref().unwrap_or("everything is as it was asked");
    let status = match report.verdict {
        Verdict::Held => TestCaseStatus::success(),
        Verdict::Deviated => wrong(NonSuccessKind::Failure, report.verdict.name(), &report.reasons),
        Verdict::Refused | Verdict::Residue | Verdict::Interrupted | Verdict::Unfinished => {
            let reasons = [report.reasons.as_slice(), report.residue.as_slice()].concat();
            wrong(NonSuccessKind::Error, report.verdict.name(), &reasons)
        }
    };
    case(&format!("hypothesis: {text}"), status, Some(report.duration_ms))
}

fn bounds(probe: &ProbeReport) -> impl Iterator<Item = TestCase> {
    probe.bounds.iter().map(|bound| {
        let name = format!("probe {}: {}", probe.name, bound.window);
        let mut case = case(&name, asked(bound.outcome, &bound.why), None);
        case.set_system_out(match bound.outcome {
            Outcome::NotJudged => format!("asked: {}", bound.asked()),
            _ => format!("asked: {}; {}", bound.asked(), bound.was()),
        });
        case
    })
}

fn assertion(assertion: &AssertionReport) -> TestCase {
    // The same may be asserted twice.
    let name = format!("assertion: {} ({})", assertion.asked, assertion.place);
    let mut case = case(&name, asked(assertion.outcome, &[assertion.sentence()]), None);
    case.set_system_out(assertion.was.as_str());
    case
}

fn asked(outcome: Outcome, why: &[String]) -> TestCaseStatus {
    match outcome {
        Outcome::Held => TestCaseStatus::success(),
        Outcome::Deviated => wrong(NonSuccessKind::Failure, outcome.name(), why),
        Outcome::Inconclusive => wrong(NonSuccessKind::Error, outcome.name(), why),
        Outcome::NotJudged => {
            let mut status = TestCaseStatus::skipped();
            status.set_message("the run ended before it could be judged");
            status
        }
    }
}

fn effect(injection: &InjectionReport) -> TestCase {
    let name = format!("effect of {}", of(injection));
    let why = injection.failure.as_deref().unwrap_or(&injection.evidence);
    let status = match injection.effect.as_str() {
        "proven" => TestCaseStatus::success(),
        "failed" => wrong(NonSuccessKind::Failure, "no-effect", &[why.into()]),
        _ => wrong(NonSuccessKind::Error, "unproven", &["its effect was not seen".into()]),
    };
    let mut case = case(&name, status, injection.time_to_effect_ms);
    if injection.effect == "proven" {
        case.set_system_out(injection.evidence.as_str());
    }
    case
}

fn revert(injection: &InjectionReport) -> TestCase {
    let is_clean = injection.state == "reverted" && injection.residue.is_empty();
    let status = if is_clean {
        TestCaseStatus::success()
    } else {
        let state = format!("it is {}, and not proven to be reverted", injection.state);
        let reasons = [&[state], injection.residue.as_slice()].concat();
        wrong(NonSuccessKind::Failure, "residue", &reasons)
    };
    case(&format!("revert of {}", of(injection)), status, injection.time_to_revert_ms)
}

/// The same in every run: whoever compares runs knows a case by its name.
fn of(injection: &InjectionReport) -> String {
    let InjectionReport { kind, target, node, .. } = injection;
    format!("{kind} of {target} on {node}")
}

/// Numbers those whose name there was already: two steps may do the same.
fn tell_apart(cases: impl Iterator<Item = TestCase>) -> Vec<TestCase> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut told: Vec<TestCase> = cases.collect();
    for case in &mut told {
        let count = seen.entry(case.name.as_str().to_owned()).or_default();
        *count += 1;
        if *count > 1 {
            case.name = format!("{} ({count})", case.name.as_str()).into();
        }
    }
    told
}

fn case(name: &str, status: TestCaseStatus, took_ms: Option<f64>) -> TestCase {
    let mut case = TestCase::new(name, status);
    case.set_time(from_ms(took_ms));
    case
}

/// The first reason is what is shown in a list, all of them where it is opened.
fn wrong(kind: NonSuccessKind, what: &str, reasons: &[String]) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(kind);
    let first = reasons.first().map_or(what, String::as_str);
    status.set_type(what).set_message(first).set_description(reasons.join("\n"));
    status
}

fn from_ms(ms: Option<f64>) -> Duration {
    Duration::try_from_secs_f64(ms.unwrap_or(0.0) / 1e3).unwrap_or_default()
}
