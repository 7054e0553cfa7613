//! What is said while a run goes on: lines of text for a person, with a live line below them on a
//! terminal. With `--output json` nothing is said: the report at the end is everything.

use std::{
    io::{IsTerminal, Write},
    time::Duration,
};

use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{PlanReport, Report, clean::indented, text};

/// The width of the headings of lines.
const HEADING_WIDTH: usize = 9;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs: JSON on standard output, and nothing else there.
    Json,
}

/// Where a run is told about.
#[derive(Debug)]
pub struct Console {
    output: Output,
    live: ProgressBar,
}

impl Console {
    /// Writes to stdout, and the live line to stderr where that is a terminal.
    pub fn new(output: Output) -> Self {
        let terminal = std::io::stderr().is_terminal() && std::io::stdout().is_terminal();
        let target = if output == Output::Text && terminal {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let live = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            live.set_style(style);
        }
        // Nothing is drawn before there is something to say.
        live.finish_and_clear();
        Self { output, live }
    }

    /// How results are written.
    pub fn output(&self) -> Output {
        self.output
    }

    /// Says something under a short heading: `inject`, `revert`.
    pub fn say(&self, heading: &str, text: &str) {
        self.line(Style::new().fg_color(Some(AnsiColor::Cyan.into())).bold(), heading, text);
    }

    /// Says something that should worry the reader.
    pub fn warn(&self, heading: &str, text: &str) {
        self.line(Style::new().fg_color(Some(AnsiColor::Yellow.into())).bold(), heading, text);
    }

    /// Whether there is a live line: somebody looks at a terminal.
    pub fn is_live(&self) -> bool {
        !self.live.is_hidden()
    }

    /// Replaces the live line.
    pub fn live(&self, text: String) {
        if !self.live.is_hidden() {
            self.live.set_message(text);
            if self.live.is_finished() {
                self.live.reset();
            }
            self.live.tick();
        }
    }

    /// Takes the live line away.
    pub fn quiet(&self) {
        self.live.finish_and_clear();
    }

    /// The end of a run, for a person.
    pub fn report(&self, report: &Report) {
        self.quiet();
        if self.output == Output::Text {
            self.print(&text::summary(report));
        }
    }

    /// What `faultline plan` came to, for a person.
    pub fn plan(&self, plan: &PlanReport) {
        if self.output == Output::Text {
            self.print(&plan.text());
        }
    }

    fn line(&self, style: Style, heading: &str, text: &str) {
        if self.output == Output::Text {
            let text = indented(text, HEADING_WIDTH + 4);
            self.print(&format!("{style}{heading:>HEADING_WIDTH$}{style:#}  {text}\n"));
        }
    }

    /// Prints; a reader that went away is no reason to leave a fault behind.
    fn print(&self, text: &str) {
        self.live.suspend(|| {
            let mut out = anstream::stdout();
            drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
        });
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.live.finish_and_clear();
    }
}

/// A number of things for a person: `1 node`, `3 nodes`.
pub fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// A time for a person: `3.1 ms`, `5.02 s`.
pub fn time(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 1.0 {
        format!("{:.1} ms", seconds * 1e3)
    } else if seconds < 120.0 {
        format!("{seconds:.2} s")
    } else {
        format!("{:.1} min", seconds / 60.0)
    }
}
