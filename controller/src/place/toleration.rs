//! What a pod bears of its node.

/// Which taints of a node a pod bears, as its spec says: `core/v1` `Toleration`, `ToleratesTaint` in
/// `k8s.io/api/core/v1/toleration.go`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Toleration {
    /// Of this key; of every one if `None`.
    pub key: Option<String>,
    /// Of this value; of every one if `None`.
    pub value: Option<String>,
    /// Of this effect; of every one if `None`.
    pub effect: Option<String>,
    /// It does so for a time only.
    pub is_limited: bool,
}

impl Toleration {
    /// Whether a pod may stay for good where there is such a taint. `value` is `None` where nobody knows it yet.
    pub fn bears(&self, key: &str, value: Option<&str>, effect: &str) -> bool {
        let fits = |mine: &Option<String>, is: Option<&str>| {
            mine.as_deref().is_none_or(|mine| is.is_some_and(|is| is == mine))
        };
        !self.is_limited
            && fits(&self.key, Some(key))
            && fits(&self.effect, Some(effect))
            && fits(&self.value, value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taint_is_borne_as_kubelets_see_it() {
        let of = |key: Option<&str>, value: Option<&str>, effect: Option<&str>| Toleration {
            key: key.map(Into::into),
            value: value.map(Into::into),
            effect: effect.map(Into::into),
            is_limited: false,
        };
        let bears = |one: &Toleration| one.bears("a", Some("x"), "NoExecute");
        assert!(bears(&of(None, None, None)));
        assert!(bears(&of(Some("a"), None, Some("NoExecute"))));
        assert!(bears(&of(Some("a"), Some("x"), None)));
        assert!(!bears(&of(Some("b"), None, None)));
        assert!(!bears(&of(Some("a"), Some("y"), None)));
        assert!(!bears(&of(None, None, Some("NoSchedule"))));
        assert!(
            !bears(&Toleration { is_limited: true, ..Toleration::default() }),
            "and then it goes"
        );
        assert!(!of(Some("a"), Some("x"), None).bears("a", None, "NoExecute"), "nobody knows");
    }
}
