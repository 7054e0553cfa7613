//! YAML with positions: a tree whose every node knows where it was written, and a way to decode it
//! that reports every mistake, not the first.
//!
//! Not a general YAML library: no tags, no complex keys, and bounded in size, depth and aliases, so
//! that no file can exhaust the reader. The grammar itself is saphyr-parser's.

mod fields;
mod grammar;
mod node;
mod problem;
mod scalar;

pub use fields::Fields;
pub use node::{Node, SOURCE_BYTES_MAX, Source, Value, parse, quote};
pub use problem::{Problem, Problems, Span, Spanned, nearest};
pub use scalar::{cidr, count, duration, list, name, one_of, percent, size, text};
