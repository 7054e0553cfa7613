//! What bad input gets: every `bad_input/NAME.yaml` has one or more mistakes, and `NAME.txt` is what
//! is said of it, word for word. `FAULTLINE_UPDATE=1` writes those files anew, to be read in the diff.

use std::{
    fs,
    path::{Path, PathBuf},
};

use faultline::{diagnostics, experiment};
use faultline_proto::yaml::Source;

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    files.sort();
    files
}

fn source(path: &Path) -> Source {
    let name = path.file_name().expect("a name").to_string_lossy().into_owned();
    Source { name, text: fs::read_to_string(path).expect("readable") }
}

#[test]
fn every_mistake_is_told_at_its_place_with_what_was_expected() {
    let update = std::env::var_os("FAULTLINE_UPDATE").is_some();
    let cases = files("tests/bad_input", "yaml");
    assert!(cases.len() > 40, "the cases are missing");
    let mut wrong = Vec::new();
    for case in cases {
        let errors = experiment::load_source(source(&case)).expect_err("a case has a mistake");
        let said = diagnostics::render(&errors, false);
        let expected = case.with_extension("txt");
        if update {
            fs::write(&expected, &said).expect("writable");
        }
        let expected = fs::read_to_string(&expected).unwrap_or_default();
        if said != expected {
            wrong.push(format!("{}\nexpected:\n{expected}\nsaid:\n{said}", case.display()));
        }
        let listed = diagnostics::list(&errors);
        assert_eq!(listed.len(), errors.count());
        assert!(listed.iter().all(|d| d.line.is_some() && d.column.is_some()));
        assert!(listed.is_sorted_by_key(|d| (d.line, d.column)), "{}", case.display());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_experiment_in_the_readme_is_valid() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = fs::read_to_string(readme).expect("readable");
    let (_, rest) = readme.split_once("```yaml\n").expect("an experiment");
    let (text, _) = rest.split_once("```").expect("its end");
    let loaded = experiment::load_source(Source { name: "README.md".into(), text: text.into() });
    assert_eq!(loaded.map_err(|e| diagnostics::render(&e, false)).map(|l| l.len()), Ok(1));
}

#[test]
fn every_example_is_valid() {
    let mut examples = files("../examples", "yaml");
    examples.extend(files("../examples/kubernetes", "yaml"));
    assert!(examples.len() >= 4, "{examples:?}");
    match experiment::load(&examples) {
        Ok(loaded) => {
            assert!(loaded.len() >= examples.len());
            for loaded in loaded {
                let file = Path::new(&loaded.source.name).file_stem().expect("a stem");
                assert_eq!(loaded.experiment.name, file.to_string_lossy(), "named as its file");
            }
        }
        Err(errors) => panic!("{}", diagnostics::render(&errors, false)),
    }
}

/// Bytes are changed, lines taken out, doubled and indented anew: whatever comes of it is either an
/// experiment or a mistake at a place that can be shown.
#[test]
fn no_file_makes_it_panic_or_say_nothing() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % u64::try_from(below.max(1)).expect("small")).expect("small")
    };
    let seeds: Vec<String> = files("../examples", "yaml")
        .iter()
        .chain(&files("tests/bad_input", "yaml"))
        .map(|path| fs::read_to_string(path).expect("readable"))
        .collect();
    let junk =
        ["\t", "é", "\u{feff}", ":", "- ", "{", "]", "\"", "*a", "&a ", "!x", "\r", "%", "|"];
    for round in 0..3_000 {
        let mut lines: Vec<String> =
            seeds[round % seeds.len()].lines().map(str::to_owned).collect();
        for _ in 0..=next(3) {
            let at = next(lines.len());
            let Some(line) = lines.get(at).cloned() else { continue };
            match next(5) {
                0 => drop(lines.remove(at)),
                1 => lines.insert(at, line),
                2 => lines[at] = format!("{}{line}", " ".repeat(next(6))),
                3 => lines[at] = line.trim_start().to_owned(),
                _ => {
                    let chars: Vec<char> = line.chars().collect();
                    let (head, tail) = chars.split_at(next(chars.len() + 1));
                    let (head, tail): (String, String) =
                        (head.iter().collect(), tail.iter().skip(next(3)).collect());
                    lines[at] = format!("{head}{}{tail}", junk[next(junk.len())]);
                }
            }
        }
        let text = lines.join("\n");
        match experiment::load_source(Source { name: "f".into(), text: text.clone() }) {
            Ok(loaded) => assert!(!loaded.is_empty(), "{text}"),
            Err(errors) => {
                assert!(errors.count() > 0, "{text}");
                assert!(diagnostics::render(&errors, false).contains("error: "), "{text}");
                assert_eq!(diagnostics::list(&errors).len(), errors.count());
            }
        }
    }
}

/// As many mistakes as a file can hold, in few lines and in many: reading and telling them takes a
/// moment, not minutes.
#[test]
fn a_file_of_nothing_but_mistakes_is_told_in_time() {
    let head = "apiVersion: faultline.dev/v1alpha1\nkind: Experiment\nmetadata: {name: x}\nspec:\n";
    let many = |count: usize, line: fn(usize) -> String| -> String {
        (0..count).map(line).collect::<Vec<String>>().concat()
    };
    let targets = many(100, |n| format!("    t{n}: {{labels: {{a: b}}}}\n"));
    let fault = "{partition: {between: [unknown-1, unknown-2]}, for: 1s},";
    let steps = format!("    - parallel: [{}]\n", fault.repeat(64)).repeat(300);
    let fields = many(90_000, |n| format!("f{n}: 1, "));
    let lines = many(90_000, |n| format!("  é{n}: 1\n"));
    let long = "x".repeat(4_000_000);
    for (name, text) in [
        ("references", format!("{head}  targets:\n{targets}  method:\n{steps}")),
        ("one line", format!("{{{fields}}}")),
        ("many lines", format!("{head}{lines}")),
        ("a long name", format!("{head}  {long}: 1\n")),
        ("a long value", format!("{head}  seed: {long}\n")),
        ("open brackets", format!("{head}  method: {}", "[{a: ".repeat(800_000))),
        ("errors at the end", format!("{head}  # {}\n b: 1", "é".repeat(1_900_000))),
    ] {
        assert!(text.len() < 4 << 20, "{name}");
        let started = std::time::Instant::now();
        let source = Source { name: name.into(), text };
        let errors = experiment::load_source(source).expect_err(name);
        let shown = diagnostics::render(&errors, false);
        assert_eq!(diagnostics::list(&errors).len(), errors.count());
        let took = started.elapsed();
        eprintln!("{name}: {} mistakes, {} bytes shown, {took:?}", errors.count(), shown.len());
        assert!(shown.len() < 40_000, "{name}: {} bytes", shown.len());
        assert!(took.as_secs() < 30, "{name}: {took:?}");
    }
}
