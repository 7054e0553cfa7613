//! What an experiment asks of a place beyond its pods: of a cluster, each is a watch of its own.

use crate::experiment::{Experiment, ProbeKind, Selector, Whose};

/// What selectors are about, beside pods.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needs {
    /// Nodes, for their labels.
    pub nodes: bool,
    /// Services, for the pods behind them.
    pub services: bool,
}

impl Needs {
    /// What all selectors of an experiment need.
    pub fn of(experiment: &Experiment) -> Self {
        let probes = experiment.probes.iter().filter_map(|probe| match &probe.kind {
            ProbeKind::Pods(pods) => match &pods.whose {
                Whose::Matching(selector) => Some(selector.as_ref()),
                Whose::Target(_) => None,
            },
            ProbeKind::Network(_) | ProbeKind::Exec(_) | ProbeKind::Kubernetes(_) => None,
        });
        let targets = experiment.targets.values().chain(&experiment.safety.protected);
        targets.chain(probes).fold(Self::default(), Self::and)
    }

    fn and(self, selector: &Selector) -> Self {
        Self {
            nodes: self.nodes || !selector.node_labels.is_empty(),
            services: self.services || selector.service.is_some(),
        }
    }
}
