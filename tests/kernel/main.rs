//! The kernel ring: each fault kind on the real kernel, seen by observers of the tests' own.

mod kill;
mod memory_pressure;
