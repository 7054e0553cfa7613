//! Sockets of another network namespace, and the files that say there which names have which
//! addresses. One thread lives in the namespace and hands out what it opens: no thread of a runtime
//! ever leaves its own.

use std::{
    fs::File,
    io::{self, Read as _},
    net::{Ipv4Addr, Ipv6Addr, TcpStream, UdpSocket},
    os::fd::AsFd as _,
    path::Path,
    sync::mpsc,
    thread,
};

use nix::{
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
    sys::socket::{AddressFamily, SockFlag, SockType, socket},
};
use tokio::sync::oneshot;

use super::{KernelError, netns::NetNs};

/// Requests that wait for the thread.
const QUEUE_LEN_MAX: usize = 64;
/// Bytes of a file that are read.
const FILE_BYTES_MAX: u64 = 64 << 10;

enum Request {
    Stream { v6: bool, reply: oneshot::Sender<io::Result<TcpStream>> },
    Datagrams { v6: bool, reply: oneshot::Sender<io::Result<UdpSocket>> },
    Files { reply: oneshot::Sender<NameFiles> },
}

/// What hosts(5) and resolv.conf(5) of a container say; empty where they cannot be read.
#[derive(Debug, Clone, Default)]
pub struct NameFiles {
    /// `/etc/hosts`
    pub hosts: String,
    /// `/etc/resolv.conf`
    pub resolv_conf: String,
}

/// Opens sockets inside a network namespace. Its thread ends when this is dropped.
#[derive(Debug, Clone)]
pub struct Sockets {
    requests: mpsc::SyncSender<Request>,
}

impl Sockets {
    /// Enters a namespace with a thread of its own. `root` is the root directory of the container
    /// whose files are read, as this process sees it.
    ///
    /// # Errors
    /// When the thread cannot be made, or cannot enter the namespace.
    pub fn inside(net_ns: &NetNs, root: File) -> Result<Self, KernelError> {
        let net_ns = net_ns.try_clone()?;
        let (requests, queue) = mpsc::sync_channel(QUEUE_LEN_MAX);
        let (entered, has_entered) = mpsc::sync_channel(1);
        let thread = thread::Builder::new().name("observe".into()).stack_size(256 << 10);
        let work = move || {
            let enters = net_ns.enter_for_good();
            let is_inside = enters.is_ok();
            // Nobody waits any more only if the process is ending.
            entered.send(enters).ok();
            if is_inside {
                for request in queue {
                    serve(request, &root);
                }
            }
        };
        thread.spawn(work).map_err(|e| KernelError::io("start", "a thread that observes", e))?;
        match has_entered.recv() {
            Ok(Ok(())) => Ok(Self { requests }),
            Ok(Err(error)) => Err(error),
            Err(_) => {
                let ended = io::Error::from(io::ErrorKind::BrokenPipe);
                Err(KernelError::io("start", "a thread that observes", ended))
            }
        }
    }

    /// A socket that is to be connected. It does not block.
    ///
    /// # Errors
    /// What the kernel said.
    pub async fn stream(&self, v6: bool) -> io::Result<TcpStream> {
        self.ask(|reply| Request::Stream { v6, reply }).await?
    }

    /// A socket for datagrams, bound to a port of its own. It does not block.
    ///
    /// # Errors
    /// What the kernel said.
    pub async fn datagrams(&self, v6: bool) -> io::Result<UdpSocket> {
        self.ask(|reply| Request::Datagrams { v6, reply }).await?
    }

    /// What the container's files say of names now.
    ///
    /// # Errors
    /// When too many ask at once.
    pub async fn name_files(&self) -> io::Result<NameFiles> {
        self.ask(|reply| Request::Files { reply }).await
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> io::Result<T> {
        let (reply, answer) = oneshot::channel();
        let busy = |_full| io::Error::from(io::ErrorKind::ResourceBusy);
        self.requests.try_send(request(reply)).map_err(busy)?;
        answer.await.map_err(|_ended| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}

/// Whoever no longer waits does not want what was opened: it is closed.
fn serve(request: Request, root: &File) {
    match request {
        Request::Stream { v6, reply } => drop(reply.send(stream(v6))),
        Request::Datagrams { v6, reply } => drop(reply.send(datagrams(v6))),
        Request::Files { reply } => {
            let hosts = read(root, "etc/hosts").unwrap_or_default();
            let resolv_conf = read(root, "etc/resolv.conf").unwrap_or_default();
            drop(reply.send(NameFiles { hosts, resolv_conf }));
        }
    }
}

fn stream(v6: bool) -> io::Result<TcpStream> {
    let family = if v6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    Ok(TcpStream::from(socket(family, SockType::Stream, flags, None)?))
}

fn datagrams(v6: bool) -> io::Result<UdpSocket> {
    let socket = if v6 {
        UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?
    } else {
        UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?
    };
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Reads a file of a container. Its links lead no further than its own root, and what is not a plain
/// file is not waited for.
fn read(root: &File, path: &str) -> io::Result<String> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
    let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_IN_ROOT);
    let file = File::from(openat2(root.as_fd(), Path::new(path), how)?);
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, path::PathBuf};

    use nix::{sys::stat::Mode, unistd::mkfifo};

    use super::*;

    #[test]
    fn a_container_cannot_lead_a_reader_out_of_its_root_or_keep_it_waiting() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("etc")).expect("a directory");
        fs::create_dir_all(root.join("run")).expect("a directory");
        fs::write(dir.path().join("secret"), "secret").expect("written");
        fs::write(root.join("run/real"), "real").expect("written");
        let open = File::open(&root).expect("the root");
        let etc = |name: &str| -> PathBuf { root.join("etc").join(name) };
        let read = |name: &str| read(&open, &format!("etc/{name}")).ok();
        symlink("/run/real", etc("inside")).expect("a link");
        assert_eq!(read("inside").as_deref(), Some("real"), "links mean what they do inside");
        symlink(dir.path().join("secret"), etc("absolute")).expect("a link");
        symlink("../../secret", etc("relative")).expect("a link");
        assert_eq!((read("absolute"), read("relative")), (None, None));
        mkfifo(&etc("pipe"), Mode::S_IRWXU).expect("a pipe");
        assert_eq!(read("pipe"), None);
        fs::write(etc("long"), vec![b'x'; 1 << 20]).expect("written");
        assert_eq!(read("long").map(|text| text.len()), Some(64 << 10));
    }
}
