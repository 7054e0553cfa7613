//! The network, through rtnetlink: a bridge in the hub, a node behind it, pods behind the node.
//!
//! Routed, not bridged, from node to node, as clusters are: every pod sees every other under its own
//! address. There is no detection of duplicate addresses, which would take a second each: all
//! addresses are ours.

use std::{
    fs::{self, File},
    net::IpAddr,
    os::fd::AsRawFd as _,
    path::Path,
};

use futures::TryStreamExt as _;
use rtnetlink::{
    Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
    new_connection,
    packet_route::{
        address::{AddressAttribute, AddressFlags, AddressHeaderFlags},
        link::{InfoData, InfoKind, InfoVeth},
    },
};
use tokio::task::JoinHandle;

use super::{
    address::{self, Pair},
    error::{Step as _, StepError},
    layout::{NodePlan, PodPlan},
};

/// The hub's bridge.
pub(super) const HUB_BRIDGE: &str = "fl0";
/// A node's bridge, called as the CNI plugin of that kind calls it.
const NODE_BRIDGE: &str = "cni0";
/// A node's and a pod's interface.
const UPLINK: &str = "eth0";

/// Whether this kernel has IPv6.
pub(super) fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6").exists()
}

/// A connection to one network namespace: the one that the caller was in when it was opened.
pub(super) struct Net {
    handle: Handle,
    ipv6: bool,
    connection: JoinHandle<()>,
}

impl Drop for Net {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Net {
    /// Opens a connection to the namespace that the calling thread is in.
    pub(super) fn open(ipv6: bool) -> Result<Self, StepError> {
        let (connection, handle, _) = new_connection().step(|| "open a netlink socket".into())?;
        let connection = tokio::spawn(connection);
        Ok(Self { handle, ipv6, connection })
    }

    async fn index(&self, name: &str) -> Result<u32, StepError> {
        let mut links = self.handle.link().get().match_name(name).execute();
        let link = links.try_next().await.step(|| format!("find interface {name}"))?;
        link.map(|link| link.header.index)
            .ok_or(nix::Error::ENODEV)
            .step(|| format!("find interface {name}"))
    }

    async fn up(&self, name: &str) -> Result<(), StepError> {
        let message = LinkUnspec::new_with_name(name).up().build();
        let request = self.handle.link().set(message);
        request.execute().await.step(|| format!("set interface {name} up"))
    }

    async fn bridge(&self, name: &str, mac: [u8; 6]) -> Result<u32, StepError> {
        // With an address of its own: otherwise it changes with the ports, and neighbours would
        // have to find out.
        let message = LinkBridge::new(name).address(mac.to_vec()).build();
        let request = self.handle.link().add(message);
        request.execute().await.step(|| format!("make bridge {name}"))?;
        self.index(name).await
    }

    /// Makes a pair of interfaces: `name` as a port of `bridge` here, and `eth0` with the hardware
    /// address `mac` in the namespace `peer`.
    async fn cable(
        &self,
        name: &str,
        bridge: &str,
        peer: &File,
        mac: [u8; 6],
    ) -> Result<(), StepError> {
        // It is set up from inside: the kernel opens no end before there is the other.
        let far = LinkUnspec::new_with_name(UPLINK);
        let far = far.address(mac.to_vec()).setns_by_fd(peer.as_raw_fd()).build();
        let near = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .name(name)
            .controller(self.index(bridge).await?)
            .up()
            .set_info_data(InfoData::Veth(InfoVeth::Peer(far)))
            .build();
        let request = self.handle.link().add(near);
        request.execute().await.step(|| format!("make interface {name}"))
    }

    async fn addresses(&self, name: &str, pair: Pair) -> Result<(), StepError> {
        let index = self.index(name).await?;
        self.address(index, pair.v4.into(), pair.v4_prefix).await?;
        if self.ipv6 {
            self.address(index, pair.v6.into(), pair.v6_prefix).await?;
        }
        Ok(())
    }

    async fn address(&self, index: u32, address: IpAddr, prefix: u8) -> Result<(), StepError> {
        let mut request = self.handle.address().add(index, address, prefix);
        if address.is_ipv6() {
            let message = request.message_mut();
            message.header.flags |= AddressHeaderFlags::Nodad;
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        request.execute().await.step(|| format!("add address {address}"))
    }

    /// Adds a route to a network of each family; `None` for the default route.
    async fn routes(&self, to: Option<Pair>, via: Pair) -> Result<(), StepError> {
        let mut v4 = RouteMessageBuilder::<std::net::Ipv4Addr>::new().gateway(via.v4);
        let mut v6 = RouteMessageBuilder::<std::net::Ipv6Addr>::new().gateway(via.v6);
        if let Some(to) = to {
            v4 = v4.destination_prefix(to.v4, to.v4_prefix);
            v6 = v6.destination_prefix(to.v6, to.v6_prefix);
        }
        let request = self.handle.route().add(v4.build());
        request.execute().await.step(|| format!("add a route via {}", via.v4))?;
        if self.ipv6 {
            let request = self.handle.route().add(v6.build());
            request.execute().await.step(|| format!("add a route via {}", via.v6))?;
        }
        Ok(())
    }

    /// Makes the hub's bridge.
    pub(super) async fn build_hub(&self) -> Result<(), StepError> {
        self.up("lo").await?;
        no_address_detection(self.ipv6)?;
        self.bridge(HUB_BRIDGE, [0x02, 0xfa, 0, 0, 0, 1]).await?;
        self.addresses(HUB_BRIDGE, address::hub()).await
    }

    /// Removes every interface but `lo`, and returns what is left.
    pub(super) async fn clear_hub(&self) -> Result<Vec<String>, StepError> {
        for (index, name) in self.links().await? {
            // Two ends go with one: the second is gone already.
            let result = self.handle.link().del(index).execute().await;
            result.step(|| format!("remove interface {name}")).or_else(gone)?;
        }
        Ok(self.links().await?.into_iter().map(|(_, name)| name).collect())
    }

    async fn links(&self) -> Result<Vec<(u32, String)>, StepError> {
        use rtnetlink::packet_route::link::LinkAttribute;
        let links: Vec<_> = self
            .handle
            .link()
            .get()
            .execute()
            .try_collect()
            .await
            .step(|| "list interfaces".into())?;
        Ok(links
            .into_iter()
            .filter_map(|link| {
                let name = link.attributes.iter().find_map(|attribute| match attribute {
                    LinkAttribute::IfName(name) => Some(name.clone()),
                    _ => None,
                })?;
                (name != "lo").then_some((link.header.index, name))
            })
            .collect())
    }

    /// Joins the node whose namespace the caller is in to the hub that `self` is connected to.
    pub(super) async fn join_node(&self, plan: &NodePlan) -> Result<(), StepError> {
        no_address_detection(plan.ipv6)?;
        forward(plan.ipv6)?;
        let mac = [0x02, 0xfa, 0, 0, 2, plan.index];
        self.cable(&plan.name, HUB_BRIDGE, &own_namespace()?, mac).await?;
        let node = Self::open(plan.ipv6)?;
        node.up("lo").await?;
        node.up(UPLINK).await?;
        node.addresses(UPLINK, address::node(plan.index)).await?;
        node.bridge(NODE_BRIDGE, [0x02, 0xfa, 0, 0, 1, plan.index]).await?;
        node.addresses(NODE_BRIDGE, address::gateway(plan.index)).await?;
        node.routes(None, address::hub()).await?;
        for other in (1..=plan.nodes).filter(|other| *other != plan.index) {
            node.routes(Some(address::pods(other)), address::node(other)).await?;
        }
        self.routes(Some(address::pods(plan.index)), address::node(plan.index)).await
    }

    /// Joins the pod whose namespace the caller is in to the node that `self` is connected to.
    pub(super) async fn join_pod(&self, plan: &NodePlan, pod: &PodPlan) -> Result<(), StepError> {
        no_address_detection(plan.ipv6)?;
        // By its address: neighbours that know it from an earlier pod of that address need not find out.
        let mac = [0x02, 0xfa, 0, 1, plan.index, pod.host];
        self.cable(&cable_name(pod), NODE_BRIDGE, &own_namespace()?, mac).await?;
        let inside = Self::open(plan.ipv6)?;
        inside.up("lo").await?;
        inside.up(UPLINK).await?;
        inside.addresses(UPLINK, address::pod(plan.index, pod.host)).await?;
        inside.routes(None, address::gateway(plan.index)).await
    }

    /// Removes what joined a pod to the node that `self` is connected to, if it is still there.
    pub(super) async fn remove_pod(&self, pod: &PodPlan) -> Result<(), StepError> {
        let name = cable_name(pod);
        let index = match self.index(&name).await {
            Ok(index) => index,
            Err(error) => return gone(error),
        };
        let result = self.handle.link().del(index).execute().await;
        result.step(|| format!("remove interface {name}")).or_else(gone)
    }
}

/// What the node's end of a pod's cable is called.
fn cable_name(pod: &PodPlan) -> String {
    format!("pod{}", pod.host)
}

fn gone(error: StepError) -> Result<(), StepError> {
    let code = error.source.raw_os_error();
    if code == Some(nix::libc::ENODEV) { Ok(()) } else { Err(error) }
}

fn own_namespace() -> Result<File, StepError> {
    let path = "/proc/self/ns/net";
    File::open(path).step(|| format!("open {path}"))
}

/// `accept_dad`: the kernel's own link-local addresses are usable at once as well (ip-sysctl.rst).
fn no_address_detection(ipv6: bool) -> Result<(), StepError> {
    if !ipv6 {
        return Ok(());
    }
    for scope in ["all", "default"] {
        sysctl(&format!("ipv6/conf/{scope}/disable_ipv6"), "0")?;
        sysctl(&format!("ipv6/conf/{scope}/accept_dad"), "0")?;
    }
    Ok(())
}

fn forward(ipv6: bool) -> Result<(), StepError> {
    sysctl("ipv4/ip_forward", "1")?;
    if ipv6 { sysctl("ipv6/conf/all/forwarding", "1") } else { Ok(()) }
}

/// Writes a setting of the network namespace that the calling thread is in.
fn sysctl(name: &str, value: &str) -> Result<(), StepError> {
    let path = format!("/proc/sys/net/{name}");
    fs::write(&path, value).step(|| format!("write {path}"))
}
