//! What this node is and what its kernel can do: found once, when the agent starts.

use std::{fs, sync::Arc};

use faultline_proto::pb;
use nix::sys::utsname::uname;

use crate::{
    fault,
    kernel::cgroup::{CgroupFs, Version},
    resolve::Resolver,
};

/// A thing that fault kinds need of the node, and whether it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feature {
    /// Its name: `nf_tables`.
    pub name: &'static str,
    /// Whether it is there.
    pub available: bool,
    /// Why it is missing, or how it was found.
    pub detail: String,
}

impl From<Feature> for pb::Feature {
    fn from(feature: Feature) -> Self {
        let Feature { name, available, detail } = feature;
        Self { name: name.into(), available, detail }
    }
}

/// This node.
#[derive(Debug)]
pub struct NodeInfo {
    /// Its name.
    pub node: String,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// As `uname -r` says.
    pub kernel_release: String,
    /// What fault kinds need.
    pub features: Vec<Feature>,
    /// How targets are found.
    pub resolver: Arc<Resolver>,
}

impl NodeInfo {
    /// Looks at the node. What cannot be found out is said in its place.
    pub fn gather(node: String, resolver: Arc<Resolver>) -> Self {
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let kernel_release =
            uname().map_or_else(|e| e.to_string(), |u| u.release().to_string_lossy().into_owned());
        Self {
            node,
            boot_id: boot_id.trim().into(),
            kernel_release,
            features: fault::features(&resolver),
            resolver,
        }
    }

    /// Which control groups the memory controller is in; any, where there is none.
    pub fn cgroup_version(&self) -> pb::CgroupVersion {
        let CgroupFs { hierarchies } = &self.resolver.cgroups;
        let hierarchy = self.resolver.cgroups.with_controller("memory").or(hierarchies.first());
        match hierarchy.map(|h| h.version) {
            None => pb::CgroupVersion::None,
            Some(Version::V1) => pb::CgroupVersion::V1,
            Some(Version::V2) => pb::CgroupVersion::V2,
        }
    }
}
