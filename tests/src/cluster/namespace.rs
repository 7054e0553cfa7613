//! Namespaces of the tests' own, deleted with everything in them.

use super::kubectl::{kubectl, ok};

/// A namespace that lives as long as this.
#[derive(Debug)]
pub struct Namespace(String);

impl Namespace {
    /// Makes one. `name` says which test it is of.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn new(name: &str) -> Self {
        let name = format!("fl-{name}-{}", std::process::id());
        ok(&["create", "namespace", &name]);
        Self(name)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // What whoever reads the failure wants to see.
            for args in [
                &["get", "pods", "-A", "-o", "wide"][..],
                &["get", "events", "-n", &self.0, "--sort-by=.lastTimestamp"],
            ] {
                eprintln!("{}", kubectl(args).out);
            }
        }
        drop(kubectl(&["delete", "namespace", &self.0, "--wait=false"]));
    }
}
