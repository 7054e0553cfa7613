//! A process that holds a sandbox, for the tests: they have threads, and cannot enter one.
//!
//! It takes a description of the sandbox as JSON, says `ready` and what it has, then obeys lines of
//! JSON on standard input, each answered by one line. SIGTERM takes the sandbox down, as the end of
//! the input does.

use std::{collections::BTreeMap, io::Write as _, path::Path, process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use faultline::{
    experiment::{SandboxPod, SandboxSpec, Workload},
    place::{Place, inventory},
    sandbox::{self, Entered, Sandbox},
};
use faultline_proto::yaml::{Span, Spanned};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::timeout,
};

const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    if let Some(code) = sandbox::reexec(std::env::args_os()) {
        return code;
    }
    match hold() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn hold() -> anyhow::Result<()> {
    let text = std::env::args().nth(1).context("a description is needed")?;
    if text == "join" {
        return join(&std::env::args().nth(2).context("an inventory is needed")?);
    }
    let spec = spec(&serde_json::from_str(&text)?)?;
    let entered = sandbox::enter()?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(serve(&entered, &spec))
}

/// What another process does that finds its way in through the inventory.
fn join(file: &str) -> anyhow::Result<()> {
    let inventory = inventory::load(Path::new(file))?;
    let running = sandbox::running();
    inventory.enter()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let pod = inventory.pods().into_iter().next().context("a pod")?;
        let echo = timeout(ATTEMPT_TIMEOUT, tcp(&format!("{}:7000", pod.addresses[0]))).await??;
        let place = Place::Inventory(inventory);
        let hostname = place.exec(&pod, &["hostname".into()], ATTEMPT_TIMEOUT).await?;
        say(&json!({
            "running": running,
            "echo": echo,
            "hostname": String::from_utf8_lossy(&hostname.stdout),
            "describe": place.describe(),
            "ca": place.credentials().await?.ca_pem,
        }));
        Ok(())
    })
}

fn spec(described: &Value) -> anyhow::Result<SandboxSpec> {
    let pods = described["pods"].as_array().context("pods")?.iter().map(|pod| {
        let workload = match pod["command"].as_array() {
            Some(words) => {
                Workload::Command(words.iter().filter_map(Value::as_str).map(Into::into).collect())
            }
            None => Workload::Echo,
        };
        let number = |key: &str| pod[key].as_u64().and_then(|number| u32::try_from(number).ok());
        Ok(SandboxPod {
            name: pod["name"].as_str().context("name")?.into(),
            namespace: pod["namespace"].as_str().unwrap_or("default").into(),
            labels: BTreeMap::from([("app".into(), "test".into())]),
            replicas: number("replicas"),
            node: pod["node"]
                .as_str()
                .map(|node| Spanned { value: node.into(), span: Span::default() }),
            workload,
            memory_limit_bytes: pod["memory"].as_u64(),
        })
    });
    Ok(SandboxSpec {
        nodes: u32::try_from(described["nodes"].as_u64().context("nodes")?)?,
        pods: pods.collect::<anyhow::Result<_>>()?,
        restart_agents_after: described["restartAgentsMs"].as_u64().map(Duration::from_millis),
    })
}

async fn serve(entered: &Entered, spec: &SandboxSpec) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let started = std::time::Instant::now();
    let sandbox = Sandbox::up(entered, spec, None).await?;
    say(&json!({
        "ready": true,
        "upMs": started.elapsed().as_secs_f64() * 1e3,
        "id": sandbox.id(),
        "directory": sandbox.directory(),
        "swept": sandbox.swept(),
        "missing": entered.missing(),
    }));
    let mut lines = lines();
    loop {
        tokio::select! {
            line = lines.recv() => {
                let Some(line) = line else { break };
                let asked: Value = serde_json::from_str(&line)?;
                if asked["do"] == "drop" {
                    drop(sandbox);
                    say(&json!({}));
                    return Ok(());
                }
                match answer(&sandbox, &asked).await {
                    Ok(answer) => say(&answer),
                    Err(error) => say(&json!({ "error": format!("{error:#}") })),
                }
            }
            _ = terminate.recv() => break,
        }
    }
    let started = std::time::Instant::now();
    let residue = sandbox.down().await;
    say(&json!({ "residue": residue, "downMs": started.elapsed().as_secs_f64() * 1e3 }));
    Ok(())
}

/// The lines of standard input, read on a thread of their own.
fn lines() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

fn say(value: &Value) {
    println!("{value}");
    std::io::stdout().flush().ok();
}

async fn answer(sandbox: &Sandbox, asked: &Value) -> anyhow::Result<Value> {
    let text = |key: &str| asked[key].as_str().context("an argument is missing");
    Ok(match text("do")? {
        "pods" => serde_json::to_value(sandbox.pods())?,
        "agents" => serde_json::to_value(sandbox.agents())?,
        "agentPid" => json!(sandbox.agent_pid(text("node")?)),
        "podPid" => json!(sandbox.pod_process(text("uid")?)),
        "exec" => {
            let pods = sandbox.pods();
            let name = text("pod")?;
            let pod = pods.iter().find(|pod| pod.name == name).context("no such pod")?;
            let command = asked["command"].as_array().context("command")?;
            let command: Vec<String> =
                command.iter().filter_map(Value::as_str).map(Into::into).collect();
            let within = Duration::from_millis(asked["withinMs"].as_u64().unwrap_or(5000));
            let outcome = sandbox.exec(pod, &command, within).await?;
            json!({
                "code": outcome.code,
                "stdout": String::from_utf8_lossy(&outcome.stdout),
                "stderr": String::from_utf8_lossy(&outcome.stderr),
            })
        }
        "tcp" => json!({ "echo": timeout(ATTEMPT_TIMEOUT, tcp(text("address")?)).await?? }),
        "udp" => json!({ "echo": timeout(ATTEMPT_TIMEOUT, udp(text("address")?)).await?? }),
        "http" => json!({ "answer": timeout(ATTEMPT_TIMEOUT, http(text("address")?)).await?? }),
        other => bail!("cannot do {other}"),
    })
}

async fn tcp(address: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"ping").await?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into())
}

async fn udp(address: &str) -> anyhow::Result<String> {
    let to = tokio::net::lookup_host(address).await?.next().context("no address")?;
    let any = if to.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
    let socket = tokio::net::UdpSocket::bind(any).await?;
    socket.send_to(b"ping", to).await?;
    let mut answer = [0; 16];
    let (len, _) = socket.recv_from(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer[..len]).into())
}

async fn http(address: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /any HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
