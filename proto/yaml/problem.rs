//! Where something was written, and what is wrong with it.

/// A range of a source, in characters from its start; lines and columns count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// The first character.
    pub start: usize,
    /// Behind the last character.
    pub end: usize,
    /// The line of the first character.
    pub line: usize,
    /// The column of the first character.
    pub column: usize,
}

/// A value and where it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub span: Span,
}

/// One mistake in a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it is.
    pub span: Span,
    /// What is wrong: one line, for a person.
    pub message: String,
    /// What was expected, said at the place itself.
    pub expected: Option<String>,
    /// What to do next: often the nearest valid name.
    pub help: Option<String>,
}

/// The mistakes found so far in one source.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Problems {
    list: Vec<Problem>,
}

impl Problems {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a mistake; what is returned takes the expectation and the help.
    pub fn add(&mut self, span: Span, message: impl Into<String>) -> &mut Problem {
        self.list.push(Problem { span, message: message.into(), expected: None, help: None });
        let last = self.list.len() - 1;
        &mut self.list[last]
    }

    /// Whether none was found.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many were found so far.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// The mistakes at a place.
    pub fn at_mut(&mut self, span: Span) -> impl Iterator<Item = &mut Problem> {
        self.list.iter_mut().filter(move |problem| problem.span == span)
    }

    /// Adds the mistakes of another list.
    pub fn append(&mut self, other: Self) {
        self.list.extend(other.list);
    }

    /// The mistakes in the order they stand in the source. What an alias repeats is told once.
    pub fn into_sorted(mut self) -> Vec<Problem> {
        self.list.sort_by(|a, b| {
            let key = |problem: &Problem| (problem.span.start, problem.span.end);
            key(a).cmp(&key(b)).then_with(|| a.message.cmp(&b.message))
        });
        self.list.dedup();
        self.list
    }
}

impl Problem {
    /// What was expected, said at the place itself.
    pub fn expected(&mut self, text: impl Into<String>) -> &mut Self {
        self.expected = Some(text.into());
        self
    }

    /// What to do next.
    pub fn help(&mut self, text: impl Into<String>) -> &mut Self {
        self.help = Some(text.into());
        self
    }

    /// "did you mean", when one of `candidates` is close to what was written.
    pub fn suggest<'a>(
        &mut self,
        written: &str,
        candidates: impl IntoIterator<Item = &'a str>,
    ) -> &mut Self {
        if let Some(nearest) = nearest(written, candidates) {
            self.help = Some(format!("did you mean `{nearest}`?"));
        }
        self
    }
}

/// Names longer than this are compared with nothing: it would take time and memory, and nobody
/// mistypes a name that long.
const NEAREST_BYTES_MAX: usize = 100;

/// The candidate that is closest to `written`, if any is close enough to have been meant.
pub fn nearest<'a>(
    written: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    if written.len() > NEAREST_BYTES_MAX {
        return None;
    }
    let lower = written.to_lowercase();
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= NEAREST_BYTES_MAX)
        .map(|candidate| {
            (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate)
        })
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len().min(lower.len()) / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
