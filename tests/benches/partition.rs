//! How long a partition takes: from a plan to the kernel's acknowledgement, its renewal, a change of it,
//! its revert. Beside it the same cut by the command line tools, where they are installed, and beside
//! the change what deleting and making anew comes to.
//!
//! Nothing is written to a journal here. A pair of namespaces is made once; every cut has its own
//! table in one of them.

use std::{
    fmt::Write as _,
    io::Write as _,
    net::IpAddr,
    process::{Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use divan::Bencher;
use faultline_agent::{
    fault::{Injection, Live, partition::PartitionInjection},
    kernel::{clock, netns::NetNs},
    resolve::Resolved,
};
use faultline_proto::{
    fault::{Cidr, KubeletPath, Partition, PeerSet, PortSide, Protocol, Verdict},
    id::FaultId,
    target::Target,
};
use faultline_tests::{
    flood::Flood,
    netns::{B6, Pair, can_test},
};

const SIZES: [u32; 3] = [1, 1_000, 10_000];
const LEASE: Duration = Duration::from_mins(1);
/// How often each step is measured for the comparison.
const REPETITIONS: usize = 31;

fn main() {
    if !can_test() {
        return;
    }
    divan::main();
    compare();
    compare_amend();
}

#[divan::bench(args = SIZES, sample_size = 1, sample_count = 50)]
fn plan_to_acknowledged(bencher: Bencher<'_, '_>, peers: u32) {
    let (partition, resolved) = (partition(peers), resolved());
    bencher.bench_local(|| Cut::new(&partition, &resolved));
}

#[divan::bench(args = SIZES, sample_size = 1, sample_count = 50)]
fn prepared_to_acknowledged(bencher: Bencher<'_, '_>, peers: u32) {
    let (partition, resolved) = (partition(peers), resolved());
    bencher.with_inputs(|| plan(&partition, &resolved)).bench_local_values(Cut::of);
}

#[divan::bench(args = SIZES, sample_size = 1, sample_count = 50)]
fn prove(bencher: Bencher<'_, '_>, peers: u32) {
    let (partition, resolved) = (partition(peers), resolved());
    bencher.with_inputs(|| Cut::new(&partition, &resolved)).bench_local_values(|mut cut| {
        cut.live.prove().expect("asked");
        cut
    });
}

#[divan::bench(args = SIZES, sample_size = 1, sample_count = 50)]
fn renew(bencher: Bencher<'_, '_>, peers: u32) {
    let mut cut = Cut::new(&partition(peers), &resolved());
    bencher.bench_local(|| cut.live.renew(clock::now().after(LEASE)).expect("renewed"));
}

/// From a cut of so many peers to one of as many others.
#[divan::bench(args = SIZES, sample_size = 1, sample_count = 50)]
fn amend(bencher: Bencher<'_, '_>, peers: u32) {
    let mut cut = Cut::new(&partition(peers), &resolved());
    let mut others = [others(peers), partition(peers)].into_iter().cycle();
    bencher
        .with_inputs(|| others.next().expect("there is no last one"))
        .bench_local_refs(|partition| cut.amend(partition));
}

#[divan::bench(args = SIZES, sample_size = 1, sample_count = 50)]
fn revert(bencher: Bencher<'_, '_>, peers: u32) {
    let (partition, resolved) = (partition(peers), resolved());
    bencher.with_inputs(|| Cut::new(&partition, &resolved)).bench_local_values(|cut| {
        cut.plan.revert().expect("reverted");
        cut
    });
}

/// A cut in effect, reverted when it is dropped.
struct Cut {
    plan: PartitionInjection,
    live: Box<dyn Live>,
}

impl Cut {
    fn new(partition: &Partition, resolved: &Resolved) -> Self {
        Self::of(plan(partition, resolved))
    }

    fn of(plan: PartitionInjection) -> Self {
        let live = plan.inject(clock::now().after(LEASE)).expect("injected");
        Self { plan, live }
    }

    /// Planned and made.
    fn amend(&mut self, partition: &Partition) {
        self.plan = self.plan.amended(partition, &resolved().node_addresses).expect("planned");
        self.live = self.plan.amend().expect("changed");
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        self.plan.revert().expect("reverted");
    }
}

fn plan(partition: &Partition, resolved: &Resolved) -> PartitionInjection {
    let id = FaultId::random().expect("random bytes");
    PartitionInjection::plan(id, partition, resolved).expect("planned")
}

fn pair() -> &'static Pair {
    // Not dropped at the end: its processes end with the pipe to this one.
    static PAIR: OnceLock<Pair> = OnceLock::new();
    PAIR.get_or_init(|| {
        let pair = Pair::new();
        // As on every node, something else already hooks into both directions of both families. The
        // first hook of a machine makes the kernel patch its code, which is not what is measured.
        pair.b.nft(
            "table inet elsewhere {
                chain input { type filter hook input priority 0; }
                chain output { type filter hook output priority 0; }
            }",
        );
        pair
    })
}

fn resolved() -> Resolved {
    Resolved {
        target: Target {
            namespace: "bench".into(),
            pod: "target".into(),
            uid: "0123456789abcdef0123456789abcdef".into(),
            container: None,
        },
        net_ns: NetNs::of_process(pair().a.pid()).expect("it has a process"),
        host_network: false,
        node_addresses: vec!["10.77.0.254".parse().expect("valid")],
        siblings: Vec::new(),
        container: None,
    }
}

fn addresses(count: u32) -> impl Iterator<Item = IpAddr> {
    let others = (1..count).map(|n| std::net::Ipv4Addr::from_bits(0x0a80_0000 + n));
    std::iter::once(std::net::Ipv4Addr::new(10, 77, 0, 2)).chain(others).map(IpAddr::V4)
}

/// Both ways, from so many peers.
fn partition(count: u32) -> Partition {
    both_ways(addresses(count).map(Cidr::host).collect())
}

/// The same with other peers, but for the one that is there.
fn others(count: u32) -> Partition {
    let others = (1..count).map(|n| std::net::Ipv4Addr::from_bits(0x0aa0_0000 + n));
    both_ways(addresses(1).chain(others.map(IpAddr::V4)).map(Cidr::host).collect())
}

fn both_ways(mut cidrs: Vec<Cidr>) -> Partition {
    cidrs.sort_unstable();
    let peers = PeerSet::Cidrs(cidrs);
    Partition {
        egress: Some(peers.clone()),
        ingress: Some(peers),
        protocol: Protocol::Any,
        ports: Vec::new(),
        port_side: PortSide::Either,
        verdict: Verdict::Drop,
        kubelet: KubeletPath::Exempt,
    }
}

/// The same cut, made and undone by programs.
struct Tool {
    name: &'static str,
    programs: &'static [&'static str],
    apply: fn(&[IpAddr]) -> Vec<Step>,
    undo: fn() -> Vec<Step>,
}

/// A program, its arguments, and what it reads.
type Step = (&'static str, Vec<&'static str>, String);

const TOOLS: [Tool; 2] = [
    Tool {
        name: "nft -f -",
        programs: &["nft"],
        apply: |peers| vec![("nft", vec!["-f", "-"], nft_script(peers))],
        undo: || vec![("nft", vec!["delete", "table", "inet", "tool"], String::new())],
    },
    Tool {
        name: "ipset + iptables",
        programs: &["ipset", "iptables"],
        apply: |peers| {
            let rule = |chain, side| ["-A", chain, "-m", "set", "--match-set", "tool", side];
            let verdict = ["-j", "DROP"];
            vec![
                ("ipset", vec!["restore"], ipset_script(peers)),
                ("iptables", [&rule("OUTPUT", "dst")[..], &verdict].concat(), String::new()),
                ("iptables", [&rule("INPUT", "src")[..], &verdict].concat(), String::new()),
            ]
        },
        undo: || {
            vec![
                ("iptables", vec!["-F", "OUTPUT"], String::new()),
                ("iptables", vec!["-F", "INPUT"], String::new()),
                ("ipset", vec!["destroy", "tool"], String::new()),
            ]
        },
    },
];

fn nft_script(peers: &[IpAddr]) -> String {
    let mut script = String::from(
        "table inet tool {\n set lease { type nf_proto; flags timeout; \
         elements = { ipv4 timeout 60s, ipv6 timeout 60s }; }\n \
         set peers { type ipv4_addr; elements = { ",
    );
    for peer in peers {
        write!(script, "{peer}, ").expect("a text");
    }
    script.push_str("}; }\n");
    for (hook, side) in [("input", "saddr"), ("output", "daddr")] {
        writeln!(
            script,
            " chain {hook} {{ type filter hook {hook} priority -350; \
             meta nfproto != @lease accept; ip {side} @peers counter drop; }}"
        )
        .expect("a text");
    }
    script.push_str("}\n");
    script
}

fn ipset_script(peers: &[IpAddr]) -> String {
    let mut script = String::from("create tool hash:ip maxelem 65536\n");
    for peer in peers {
        writeln!(script, "add tool {peer}").expect("a text");
    }
    script
}

fn run(steps: Vec<Step>) {
    for (program, args, input) in steps {
        let mut child = Command::new(program)
            .args(&args)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("it is installed");
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(input.as_bytes()).expect("it reads");
        drop(stdin);
        assert!(child.wait().expect("our child").success(), "{program} {args:?}");
    }
}

/// Prints medians of all ways to cut, and how they compare.
fn compare() {
    println!("\nmedian ms of {REPETITIONS}, cut in both directions");
    println!("{:>6}  {:<18} {:>9} {:>9} {:>9}", "peers", "by", "apply", "revert", "renew");
    for count in SIZES {
        let (partition, resolved) = (partition(count), resolved());
        let mut own = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..REPETITIONS {
            let begun = Instant::now();
            let mut cut = Cut::new(&partition, &resolved);
            own[0].push(begun.elapsed());
            let begun = Instant::now();
            cut.live.renew(clock::now().after(LEASE)).expect("renewed");
            own[2].push(begun.elapsed());
            let begun = Instant::now();
            cut.plan.revert().expect("reverted");
            own[1].push(begun.elapsed());
        }
        let [apply, revert, renew] = own.map(median_ms);
        println!("{count:>6}  {:<18} {apply:>9.3} {revert:>9.3} {renew:>9.3}", "faultline");
        let peers: Vec<IpAddr> = addresses(count).collect();
        for tool in &TOOLS {
            let Some([tool_apply, tool_revert]) = measure(tool, &peers) else { continue };
            println!(
                "{count:>6}  {:<18} {tool_apply:>9.3} {tool_revert:>9.3} {:>9}  ×{:.1} and ×{:.1}",
                tool.name,
                "",
                tool_apply / apply,
                tool_revert / revert
            );
        }
    }
}

/// Medians of applying and undoing, from a thread that is inside already; `None` if the programs
/// cannot be run here.
fn measure(tool: &Tool, peers: &[IpAddr]) -> Option<[f64; 2]> {
    for program in tool.programs {
        let version = Command::new(program).arg("--version").stdout(Stdio::null()).status();
        if !version.is_ok_and(|status| status.success()) {
            eprintln!("SKIPPED: {} is not installed", tool.name);
            return None;
        }
    }
    let times = pair().a.inside(|| {
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..REPETITIONS {
            let begun = Instant::now();
            run((tool.apply)(peers));
            times[0].push(begun.elapsed());
            let begun = Instant::now();
            run((tool.undo)());
            times[1].push(begun.elapsed());
        }
        times
    });
    Some(times.map(median_ms))
}

fn median_ms(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e3
}

/// Prints what a change of a live cut costs, and what deleting it and making it anew does: the time,
/// and how many packets of a flood from the peer that both cut got through.
fn compare_amend() {
    println!(
        "\nmedian ms of {REPETITIONS} changes of a live cut, and what passed of a flood meanwhile"
    );
    println!("{:>6}  {:<18} {:>9} {:>9} {:>9}", "peers", "by", "change", "passed", "of");
    for count in SIZES {
        let contents = [others(count), partition(count)].map(and_v6);
        let mut cut = Cut::new(&contents[1], &resolved());
        under_flood(count, "amend", |n| cut.amend(&contents[n % 2]));
        under_flood(count, "delete and create", |n| {
            cut.plan.revert().expect("reverted");
            cut = Cut::new(&contents[n % 2], &resolved());
        });
    }
}

/// The same and the other address of the peer that is there: the flood is of both families.
fn and_v6(partition: Partition) -> Partition {
    let mut cidrs = match partition.egress {
        Some(PeerSet::Cidrs(cidrs)) => cidrs,
        _ => Vec::new(),
    };
    cidrs.push(Cidr::host(B6));
    both_ways(cidrs)
}

fn under_flood(count: u32, by: &str, mut change: impl FnMut(usize)) {
    let flood = Flood::start(pair(), 9000);
    let (sent, arrived) = flood.so_far();
    let mut times = Vec::new();
    for n in 0..REPETITIONS {
        let begun = Instant::now();
        change(n);
        times.push(begun.elapsed());
    }
    let (sent_after, arrived_after) = flood.so_far();
    println!(
        "{count:>6}  {by:<18} {:>9.3} {:>9} {:>9}",
        median_ms(times),
        arrived_after - arrived,
        sent_after - sent
    );
}
