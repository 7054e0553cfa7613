//! Pods that no fault can be on.

use super::Pod;

/// Such pods, as a cluster tells of them. Other places have none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Aside {
    /// On no node yet.
    pub waiting: Vec<Pod>,
    /// They have succeeded or failed: nothing of them runs any more.
    pub over: Vec<Pod>,
}
