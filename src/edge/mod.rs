//! The HTTP engine: listener, connection caps, workers, stream threads, and stopping.
//!
//! ```text
//!            accept thread ──▶ park (epoll, one slot each) ◀──── sweeper: deadlines
//!                                │ ready      ▲ idle, half-read, half-written
//!                                ▼            │
//!                             workers ────────┤
//!                                │ answers that take their time
//!                                ▼            │
//!                          stream threads ────┘
//! ```
//!
//! A connection costs a descriptor and a small struct while it waits, and a thread only while bytes of it are being
//! looked at. The engine knows nothing of MCP or tokens: it asks a [`Handler`]. Why it is our own is told in
//! docs/decisions/0001-http-engine.md.

pub mod chunked;
pub mod http1;
pub mod feed;
pub mod pump;
mod conn;
mod park;
mod standby;
mod wake;
mod worker;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::epoll::{EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Resource, Rlimit};

use crate::client::{Proxies, household};
use crate::limits::{
    KEEPALIVE_COUNT, KEEPALIVE_INTERVAL, KEEPALIVE_TIME, STACK_BYTES, WORKERS_MAX, WORKERS_MIN,
};
use crate::log::Log;
use crate::reply::Reply;
pub use conn::Head;
use conn::{Conn, Counted, Grant};
pub(crate) use conn::{header_name, status_line};
use http1::{Fault, Incoming};
use park::Park;
use pump::{Inbox, Pump};
pub use pump::{Producer, Step, Waker, Watch};
use standby::Standby;
pub use standby::while_waiting;
pub(crate) use wake::Wake;

/// What the engine asks of the program behind it.
///
/// `admit` is called as soon as the head is whole, before a byte of the body is waited for, so that nobody without a
/// token makes us hold a body. `serve` is called when the body is whole.
pub trait Handler: Send + Sync + 'static {
    /// What `admit` found out, kept until `serve`.
    type Pass: Send + 'static;

    /// Judges a request by its head.
    ///
    /// # Errors
    /// The answer, where the request goes no further. It must not depend on the body.
    fn admit(&self, head: &Incoming) -> Result<Self::Pass, Reply>;

    /// Answers a whole request.
    fn serve(&self, pass: Self::Pass, request: &Incoming) -> Answer;

    /// Answers what could not be read: `head` is there when the fault is in the body.
    fn refuse(&self, head: Option<&Incoming>, fault: Fault) -> Reply;

    /// The server stops and takes no new connections: the last moment to end in good order what has no end of its own.
    fn stopping(&self) {}
}

/// What becomes of a request.
pub enum Answer {
    /// An answer that is whole already.
    Reply(Reply),
    /// A stream whose head is sent now and whose bytes come from a [`feed::Feed`], until that is dropped.
    Stream(Reply, feed::Source),
    /// An answer that is made piece by piece, by an MCP server for example.
    Relay(Box<dyn Producer>),
}

/// How the engine is to behave.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Largest body, in bytes.
    pub message_bytes: usize,
    /// Connections in all.
    pub connections: usize,
    /// Connections of one address; `None` is no limit for loopback and half of all for others.
    pub connections_per_address: Option<usize>,
    /// Proxies in front of us, whose connections are those of many clients and are not counted by address.
    pub trusted: Proxies,
    /// Worker threads.
    pub workers: usize,
    /// How many of them wait for work at one time; the others stand in for those that have to wait otherwise.
    pub at_work: usize,
    /// Stream threads.
    pub pumps: usize,
    /// From the first byte of a head to its last.
    pub head_time: Duration,
    /// The fixed part of the time for a body.
    pub body_time: Duration,
    /// A connection without a request.
    pub idle_time: Duration,
    /// A client that takes nothing.
    pub write_time: Duration,
    /// From [`Server::stop`] to the end of what is still running.
    pub drain_time: Duration,
}

impl Settings {
    /// Settings for `limits`, with what they leave open derived from this machine.
    #[must_use]
    pub fn new(limits: &crate::config::Limits) -> Self {
        let processors = thread::available_parallelism().map_or(2, usize::from);
        let connections = limits.connections.unwrap_or_else(|| descriptors() / 2 - 32);
        Self {
            message_bytes: limits.message_bytes,
            connections: connections.max(8),
            connections_per_address: limits.connections_per_address,
            trusted: Proxies::default(),
            workers: limits.workers.unwrap_or_else(|| (processors * 4).clamp(WORKERS_MIN, WORKERS_MAX)),
            at_work: processors,
            pumps: if processors > 4 { 2 } else { 1 },
            head_time: limits.head_time,
            body_time: limits.body_time,
            idle_time: limits.idle_time,
            write_time: limits.write_time,
            drain_time: limits.drain_time,
        }
    }
}

/// Raises the soft limit of open descriptors to the hard one, and says what it is now; at least 128 and at most a
/// number that a table of slots is still small for.
fn descriptors() -> usize {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let wanted = limit.maximum;
    let raised = rustix::process::setrlimit(Resource::Nofile, Rlimit { current: wanted, maximum: wanted });
    let now = if raised.is_ok() { wanted } else { limit.current };
    usize::try_from(now.unwrap_or(u64::MAX)).unwrap_or(usize::MAX).clamp(80, 131_072)
}

/// How many connections there are, in all and by address.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    all: AtomicUsize,
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

impl Counts {
    pub(crate) fn all(&self) -> usize {
        self.all.load(Ordering::Relaxed)
    }

    /// Counts a connection in, unless its address has `most` already.
    fn enter(self: &Arc<Self>, address: IpAddr, most: usize) -> Option<Counted> {
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let count = by_address.entry(address).or_insert(0);
        if *count >= most {
            return None;
        }
        *count += 1;
        drop(by_address);
        self.all.fetch_add(1, Ordering::Relaxed);
        Some(Counted(Arc::clone(self), address))
    }

    pub(crate) fn leave(&self, address: IpAddr) {
        self.all.fetch_sub(1, Ordering::Relaxed);
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&address);
            }
        }
    }
}

/// What all threads of a server share.
struct Shared<H: Handler> {
    park: Arc<Park<H::Pass>>,
    pumps: Vec<Arc<Inbox<H::Pass>>>,
    handler: Arc<H>,
    settings: Settings,
    log: Log,
    counts: Arc<Counts>,
    body_bytes: Arc<AtomicUsize>,
    standby: Arc<Standby>,
    /// Wakes the accept thread, to stop.
    accept_wake: Wake,
    /// Wakes every worker at once, to end.
    wake: Wake,
    stopping: AtomicBool,
    halted: AtomicBool,
}

/// The token of [`Shared::wake`] among the events of workers.
const WAKE: u64 = u64::MAX;

impl<H: Handler> Shared<H> {
    /// The stream thread that carries this connection's answers.
    fn pump_for(&self, conn: &Conn<H::Pass>) -> &Inbox<H::Pass> {
        let index = conn.slot as usize % self.pumps.len().max(1);
        #[expect(
            clippy::indexing_slicing,
            reason = "start() makes at least one, and the index is below their number"
        )]
        &self.pumps[index]
    }
}

/// A running server. Dropping it does not stop it; [`Server::stop`] does.
pub struct Server<H: Handler> {
    shared: Arc<Shared<H>>,
    addr: SocketAddr,
    acceptor: Option<JoinHandle<()>>,
    threads: Vec<JoinHandle<()>>,
}

impl<H: Handler> Server<H> {
    /// Starts to serve on a bound listener.
    ///
    /// # Errors
    /// Where the system has no descriptors or threads left for it.
    pub fn start(listener: TcpListener, handler: Arc<H>, settings: Settings, log: Log) -> io::Result<Self> {
        let addr = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        prepare(&listener)?;
        let pumps =
            (0..settings.pumps.max(1)).map(|_| Inbox::new().map(Arc::new)).collect::<io::Result<Vec<_>>>()?;
        let park = Arc::new(Park::new(settings.connections)?);
        let standby = Arc::new(Standby::new(settings.at_work, Arc::clone(&park) as _));
        let shared = Arc::new(Shared {
            park,
            pumps,
            handler,
            log,
            counts: Arc::default(),
            body_bytes: Arc::default(),
            standby,
            accept_wake: Wake::new()?,
            wake: Wake::new()?,
            stopping: AtomicBool::new(false),
            halted: AtomicBool::new(false),
            settings,
        });
        rustix::event::epoll::add(
            shared.park.epoll(),
            &shared.wake,
            EventData::new_u64(WAKE),
            EventFlags::IN,
        )?;
        let mut server = Self { shared, addr, acceptor: None, threads: Vec::new() };
        if let Err(err) = server.spawn_all(listener) {
            server.halt();
            return Err(err);
        }
        Ok(server)
    }

    fn spawn_all(&mut self, listener: TcpListener) -> io::Result<()> {
        for inbox in self.shared.pumps.clone() {
            let mut pump = Pump::new(inbox, Arc::clone(&self.shared), self.shared.settings.write_time)?;
            let log = self.shared.log.clone();
            self.threads.push(spawn("streams", move || {
                while let Err(_panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pump.run()))
                {
                    log.error("a stream thread panicked and goes on", &[]);
                }
            })?);
        }
        for number in 0..self.shared.settings.workers.max(1) {
            let shared = Arc::clone(&self.shared);
            self.threads.push(spawn(&format!("worker-{number}"), move || shared.work())?);
        }
        let shared = Arc::clone(&self.shared);
        let sweeper = spawn("sweeper", move || shared.sweep())?;
        let alarm = sweeper.thread().clone();
        self.threads.push(sweeper);
        let shared = Arc::clone(&self.shared);
        self.acceptor = Some(spawn("accept", move || shared.accept_all(&listener, &alarm))?);
        Ok(())
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Connections open now.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.counts.all()
    }

    /// Stops: takes no new connections, ends the unused ones and the endless streams, lets the rest finish within
    /// `drain_time`, ends everything, and joins all threads.
    pub fn stop(mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        self.shared.accept_wake.wake();
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        self.shared.handler.stopping();
        for pump in &self.shared.pumps {
            pump.drain();
        }
        for thread in &self.threads {
            thread.thread().unpark(); // the sweeper, which then closes what is unused
        }
        let until = Instant::now() + self.shared.settings.drain_time;
        while self.shared.counts.all() > 0 && Instant::now() < until {
            thread::sleep(Duration::from_millis(5));
        }
        self.halt();
    }

    fn halt(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        self.shared.halted.store(true, Ordering::Relaxed);
        self.shared.accept_wake.wake();
        self.shared.standby.open();
        self.shared.wake.wake();
        for pump in &self.shared.pumps {
            pump.halt();
        }
        for thread in self.threads.drain(..) {
            thread.thread().unpark();
            let _ = thread.join();
        }
        drop(self.shared.park.sweep(|_| true));
    }
}

impl<H: Handler> Shared<H> {
    /// The accept thread. No error ends it; only stopping does.
    fn accept_all(self: &Arc<Self>, listener: &TcpListener, sweeper: &thread::Thread) {
        let mut reserve = reserve();
        let mut pause = Duration::from_millis(10);
        while !self.stopping.load(Ordering::Relaxed) {
            match listener.accept() {
                Ok((stream, peer)) => {
                    pause = Duration::from_millis(10);
                    let first = self.counts.all() == 0;
                    self.take_in(stream, peer.ip().to_canonical());
                    if first {
                        sweeper.unpark();
                    }
                }
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {
                    let mut fds =
                        [PollFd::new(listener, PollFlags::IN), PollFd::new(&self.accept_wake, PollFlags::IN)];
                    let _ = poll(&mut fds, None);
                }
                Err(err) => {
                    use rustix::io::Errno;
                    let full = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
                    if !full.iter().any(|errno| err.raw_os_error() == Some(errno.raw_os_error())) {
                        // The connection died before it was accepted; the next one need not have.
                        let died = [Errno::CONNABORTED, Errno::INTR, Errno::PROTO];
                        if !died.iter().any(|errno| err.raw_os_error() == Some(errno.raw_os_error())) {
                            thread::sleep(Duration::from_millis(1)); // a firewall's refusal, for example
                        }
                        continue;
                    }
                    // One descriptor is kept for this moment: the client is told at once instead of left hanging.
                    drop(reserve.take());
                    if let Ok((stream, _)) = listener.accept() {
                        turn_away(&stream);
                    }
                    reserve = self::reserve();
                    self.log.warn("out of descriptors, a connection was turned away", &[("error", &err)]);
                    thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
            }
        }
    }

    fn take_in(&self, stream: TcpStream, peer: IpAddr) {
        let most = match self.settings.connections_per_address {
            _ if self.settings.trusted.contains(peer) => self.settings.connections,
            Some(most) => most,
            None if peer.is_loopback() => self.settings.connections,
            None => self.settings.connections / 2,
        };
        if self.counts.all() >= self.settings.connections {
            self.log.debug("too many connections, one was turned away", &[]);
            turn_away(&stream);
            return;
        }
        let Some(counted) = self.counts.enter(household(peer), most) else {
            self.log.debug("too many connections of one address, one was turned away", &[("peer", &peer)]);
            turn_away(&stream);
            return;
        };
        if stream.set_nonblocking(true).is_err() {
            return; // already gone
        }
        let mut conn = Box::new(Conn::new(stream, peer, counted, Grant::new(Arc::clone(&self.body_bytes))));
        let now = Instant::now();
        conn.since = Some(now);
        conn.deadline = Some(now + self.settings.head_time);
        if let Err(conn) = self.park.admit(conn) {
            turn_away(&conn.stream);
        }
    }
}

/// What every accepted connection inherits (tcp(7)): answers leave at once, and a client that has gone without a word,
/// with its power or its network, is found out within two minutes although nothing is sent to it.
fn prepare(listener: &TcpListener) -> io::Result<()> {
    use rustix::net::sockopt;
    sockopt::set_tcp_nodelay(listener, true)?;
    sockopt::set_socket_keepalive(listener, true)?;
    sockopt::set_tcp_keepidle(listener, KEEPALIVE_TIME)?;
    sockopt::set_tcp_keepintvl(listener, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(listener, KEEPALIVE_COUNT)?;
    Ok(())
}

/// 503, as far as it goes without waiting.
fn turn_away(stream: &TcpStream) {
    let _ = stream.set_nonblocking(true);
    let answer = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let _ = io::Write::write(&mut &*stream, answer);
    let _ = stream.shutdown(std::net::Shutdown::Write);
}

/// Any descriptor will do, and this one needs no file system.
fn reserve() -> Option<OwnedFd> {
    rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).ok()
}

/// A named thread with a small stack.
fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(body)
}
