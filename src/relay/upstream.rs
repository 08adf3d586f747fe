//! Connections to the MCP server: opened without blocking, kept for the next request, probed when they are stale.
//!
//! ```text
//! worker ── take() ──▶ idle links (the last one first) ── or ── connect(), which is finished by the exchange
//!   ▲                        ▲
//!   └─ exchange ─ put_back() ┘
//! ```
//!
//! A name is resolved when the program starts and again by a thread of its own, never on the path of a request. Nothing
//! here blocks: a [`Link`] says when it would, and an exchange waits in epoll.

use std::io::{self, IoSlice, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;

use super::redirect::{self, Moved};
use super::socket::{Address, Socket};
use crate::config::{BaseUrl, PublicUrl};
use crate::limits::{RESOLVE_TTL, STACK_BYTES, UPSTREAM_IDLE_MAX, UPSTREAM_IDLE_TIME_MAX};
use crate::log::Log;

/// An idle link younger than this is used without being probed, where the server has shown that it keeps links.
const PROBE_AFTER: Duration = Duration::from_millis(1);

/// All links to one MCP server.
pub struct Pool {
    base: BaseUrl,
    authority: String,
    tls: Option<(Arc<rustls::ClientConfig>, ServerName<'static>)>,
    addresses: Mutex<Vec<Address>>,
    idle: Mutex<Vec<(Link, Instant)>>,
    /// Whether the server keeps an unused link, as far as the last look at one has shown. Some close after each answer
    /// without saying so, and a call that goes out on such a link is lost.
    keeps_links: AtomicBool,
    moved: Moved,
    /// `host[:port]` of the URL by which clients reach us: a server that reads X-Forwarded-Host calls itself so.
    public_authority: String,
    numbers: AtomicU32,
    stopped: AtomicBool,
    resolver: Mutex<Option<JoinHandle<()>>>,
}

/// Why a pool cannot be made.
#[derive(Debug)]
pub enum PoolError {
    /// The host is no name that a certificate could be for.
    Host(String),
    /// TLS cannot be set up.
    Tls(rustls::Error),
    /// The thread that resolves the name cannot be started.
    Thread(io::Error),
}

impl std::fmt::Display for PoolError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Host(host) => write!(f, "base_url: {host} cannot be the name in a certificate"),
            Self::Tls(_) => f.write_str("base_url: TLS cannot be set up"),
            Self::Thread(_) => f.write_str("the thread that resolves base_url's host cannot be started"),
        }
    }
}

impl std::error::Error for PoolError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Host(_) => None,
            Self::Tls(err) => Some(err),
            Self::Thread(err) => Some(err),
        }
    }
}

impl Pool {
    /// A pool for `base`. The name is looked up before this returns, and a failure is only logged: the MCP server may
    /// come later than we.
    ///
    /// # Errors
    /// [`PoolError`]
    pub fn start(
        base: &BaseUrl,
        public: &PublicUrl,
        roots: Arc<rustls::RootCertStore>,
        log: &Log,
    ) -> Result<Arc<Self>, PoolError> {
        let tls = if base.tls { Some(tls(base, roots)?) } else { None };
        let pool = Arc::new(Self {
            base: base.clone(),
            authority: base.authority(),
            tls,
            addresses: Mutex::new(literal(base)),
            idle: Mutex::new(Vec::new()),
            keeps_links: AtomicBool::new(false),
            moved: Moved::default(),
            public_authority: public.authority.clone(),
            numbers: AtomicU32::new(0),
            stopped: AtomicBool::new(false),
            resolver: Mutex::new(None),
        });
        if lock(&pool.addresses).is_empty() {
            pool.resolve(log);
            let (weak, log) = (Arc::downgrade(&pool), log.clone());
            let resolver =
                thread::Builder::new().name("resolver".into()).stack_size(STACK_BYTES).spawn(move || {
                    loop {
                        let known = weak.upgrade().is_some_and(|pool| !lock(&pool.addresses).is_empty());
                        thread::park_timeout(if known { RESOLVE_TTL } else { Duration::from_secs(1) });
                        match weak.upgrade() {
                            Some(pool) if !pool.stopped.load(Ordering::Relaxed) => pool.resolve(&log),
                            _ => return,
                        }
                    }
                });
            *lock(&pool.resolver) = Some(resolver.map_err(PoolError::Thread)?);
        }
        Ok(pool)
    }

    /// Ends the resolver thread and closes what is idle.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        lock(&self.idle).clear();
        if let Some(resolver) = lock(&self.resolver).take() {
            resolver.thread().unpark();
            let _ = resolver.join();
        }
    }

    /// Where the MCP server is, for people.
    #[must_use]
    pub fn shown(&self) -> String {
        self.base.shown()
    }

    /// `host[:port]`, for `Host`.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The path in front of every path, or nothing.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.base.prefix
    }

    fn resolve(&self, log: &Log) {
        match (self.base.host.as_str(), self.base.port).to_socket_addrs() {
            Ok(found) => {
                let found: Vec<_> = found.take(8).map(Address::Net).collect();
                if !found.is_empty() {
                    *lock(&self.addresses) = found;
                }
            }
            Err(err) => {
                log.warn(
                    "the MCP server's name cannot be resolved",
                    &[("host", &self.base.host), ("error", &err)],
                );
            }
        }
    }

    /// An idle link that still holds, as far as can be seen.
    pub(crate) fn take(&self) -> Option<Link> {
        loop {
            let (mut link, since) = lock(&self.idle).pop()?;
            let age = since.elapsed();
            if age > UPSTREAM_IDLE_TIME_MAX {
                lock(&self.idle).clear(); // the others are older still
                return None;
            }
            let young = age < PROBE_AFTER;
            if young && self.keeps_links.load(Ordering::Relaxed) || link.is_quiet() {
                if !young {
                    self.keeps_links.store(true, Ordering::Relaxed);
                }
                link.reused = true;
                return Some(link);
            }
            self.keeps_links.store(false, Ordering::Relaxed);
        }
    }

    /// What to ask for instead of `target`, where the MCP server has moved it within itself.
    pub(crate) fn follow(&self, target: &str) -> Option<String> {
        self.moved.follow(target)
    }

    /// The target to which a redirect leads that may be followed; it is remembered.
    pub(super) fn redirected(&self, from: &str, location: &[u8]) -> Option<String> {
        let to = redirect::target(from, location, &[&self.authority, &self.public_authority])?;
        self.moved.remember(from, &to);
        Some(to)
    }

    /// A target that was remembered led nowhere.
    pub(super) fn lost(&self) {
        self.moved.forget();
    }

    /// Keeps a link for the next request.
    pub(crate) fn put_back(&self, link: Link) {
        let mut idle = lock(&self.idle);
        if idle.len() < UPSTREAM_IDLE_MAX && !self.stopped.load(Ordering::Relaxed) {
            idle.push((link, Instant::now()));
        }
    }

    /// The addresses to try, the one that worked last first.
    pub(crate) fn addresses(&self) -> Vec<Address> {
        lock(&self.addresses).clone()
    }

    /// Remembers which address worked.
    pub(crate) fn worked(&self, address: &Address) {
        let mut addresses = lock(&self.addresses);
        if let Some(at) = addresses.iter().position(|known| known == address) {
            addresses.swap(0, at);
        }
    }

    /// Begins a connection. It is up once [`Link::is_connected`] says so.
    pub(crate) fn connect(&self, address: &Address) -> io::Result<Link> {
        let stream = Socket::connect(address)?;
        let tls = match &self.tls {
            Some((config, name)) => {
                let session = rustls::ClientConnection::new(Arc::clone(config), name.clone());
                let mut session = session.map_err(io::Error::other)?;
                // All of a request is handed over at once, and requests are bounded already.
                session.set_buffer_limit(None);
                Some(Box::new(session))
            }
            None => None,
        };
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        Ok(Link { stream, tls, unsent: Vec::new(), sent: 0, number, reused: false })
    }
}

/// Addresses that need no lookup; `localhost` is loopback by RFC 6761 section 6.3.
fn literal(base: &BaseUrl) -> Vec<Address> {
    if let Some(path) = &base.socket {
        return vec![Address::Path(path.clone())];
    }
    let addresses = match base.host.parse::<IpAddr>() {
        Ok(address) => vec![address],
        Err(_) if base.host.eq_ignore_ascii_case("localhost") => {
            vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
        }
        Err(_) => Vec::new(),
    };
    addresses.into_iter().map(|address| Address::Net(SocketAddr::new(address, base.port))).collect()
}

fn tls(
    base: &BaseUrl,
    roots: Arc<rustls::RootCertStore>,
) -> Result<(Arc<rustls::ClientConfig>, ServerName<'static>), PoolError> {
    let name = ServerName::try_from(base.host.clone()).map_err(|_| PoolError::Host(base.host.clone()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(PoolError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((Arc::new(config), name))
}

/// One connection to the MCP server.
pub(crate) struct Link {
    stream: Socket,
    tls: Option<Box<rustls::ClientConnection>>,
    unsent: Vec<u8>,
    sent: usize,
    /// Tells links apart, for those who watch descriptors.
    pub(crate) number: u32,
    /// Whether it has carried a request before.
    pub(crate) reused: bool,
}

impl Link {
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Whether the connection is up; `Ok(false)` while that is open.
    pub(crate) fn is_connected(&self) -> io::Result<bool> {
        self.stream.is_connected()
    }

    /// Whether nothing has been heard on an idle link: neither an end nor bytes that nobody asked for.
    fn is_quiet(&self) -> bool {
        self.stream.is_quiet()
    }

    /// Sends head and body; what the socket does not take now is kept for [`Link::flush`]. An error says that nothing
    /// left, so that the request may go out on another link; one that comes later is found when the answer is read.
    pub(crate) fn send(&mut self, head: &[u8], body: &[u8]) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            tls.writer().write_all(head)?;
            tls.writer().write_all(body)?;
            return match tls.write_tls(&mut &self.stream) {
                Err(err) if !would_block(&err) && err.kind() != io::ErrorKind::Interrupted => Err(err),
                _ => {
                    let _ = self.flush();
                    Ok(())
                }
            };
        }
        let whole = body.is_empty();
        let parts = [IoSlice::new(head), IoSlice::new(body)];
        let sent = if whole { (&self.stream).write(head) } else { (&self.stream).write_vectored(&parts) };
        let taken = match sent {
            Ok(taken) => taken,
            Err(err) if would_block(&err) => 0,
            Err(err) => return Err(err),
        };
        self.unsent.clear();
        self.sent = 0;
        if taken < head.len() + body.len() {
            self.unsent.extend_from_slice(head.get(taken..).unwrap_or_default());
            self.unsent.extend_from_slice(body.get(taken.saturating_sub(head.len())..).unwrap_or_default());
        }
        Ok(())
    }

    /// Sends what was kept; `Ok(true)` when nothing is left.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() {
                match tls.write_tls(&mut &self.stream) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(_) => {}
                    Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                    Err(err) if would_block(&err) => return Ok(false),
                    Err(err) => return Err(err),
                }
            }
            return Ok(true);
        }
        while self.sent < self.unsent.len() {
            match (&self.stream).write(self.unsent.get(self.sent..).unwrap_or_default()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(taken) => self.sent += taken,
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) if would_block(&err) => return Ok(false),
                Err(err) => return Err(err),
            }
        }
        if !self.unsent.is_empty() {
            self.unsent = Vec::new();
            self.sent = 0;
        }
        Ok(true)
    }

    /// Whether a part of the request is still here.
    pub(crate) fn has_unsent(&self) -> bool {
        self.sent < self.unsent.len() || self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Whether more may be had without the socket being ready again.
    pub(crate) fn reads_ahead(&self) -> bool {
        self.tls.is_some()
    }

    /// Reads what has arrived. `Ok(0)` is the end; [`io::ErrorKind::WouldBlock`] says that nothing is there.
    pub(crate) fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            return loop {
                match (&self.stream).read(into) {
                    Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                    other => break other,
                }
            };
        };
        loop {
            match tls.reader().read(into) {
                // A peer that ends without close_notify may have been cut off by somebody else; a body that knows its
                // own end does not need it, and one that does not is then not whole.
                Err(err) if would_block(&err) => {}
                other => return other,
            }
            match tls.read_tls(&mut &self.stream) {
                Ok(_) => {}
                Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
                Err(err) => return Err(err),
            }
            let processed = tls.process_new_packets().map_err(io::Error::other);
            // Handshake messages and alerts of ours.
            while tls.wants_write() {
                match tls.write_tls(&mut &self.stream) {
                    Ok(_) => {}
                    Err(err) if would_block(&err) => break,
                    Err(err) => return Err(err),
                }
            }
            processed?;
        }
    }
}

fn would_block(err: &io::Error) -> bool {
    err.kind() == io::ErrorKind::WouldBlock
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
