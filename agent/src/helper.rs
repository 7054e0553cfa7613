//! The entry point of helper processes that faults start.
