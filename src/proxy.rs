//! Wires the parts together; the only place that knows them all.
//!
//! [`Front`] is what the engine asks: it lets [`Gate`] judge, opens session MACs, and begins exchanges with the MCP
//! server. [`Proxy`] starts and stops everything. One line per request goes to the log from here.

mod relayed;
mod ticket;

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::auth::keys::{KeyStore, StartFault};
use crate::auth::roots::{RootsFault, root_store};
use crate::auth::session::SessionKey;
use crate::auth::{Authenticator, Principal};
use crate::client::{Client, Proxies};
use crate::clock::{Clock, Timestamp};
use crate::config::{BaseUrl, Config, Paths, PublicUrl, Upstream};
use crate::cors::Grant;
use crate::edge::http1::{Fault, Incoming, Method};
use crate::edge::{Answer, Handler, Server, Settings};
use crate::gate::{Admitted, Gate, Relay};
use crate::header;
use crate::limits::{INTROSPECTION_WORKERS, STREAMS_SPARED_PART};
use crate::log::Log;
use crate::mcp::revision::Era;
use crate::provider::relay::{LoginRelay, RelayFault};
use crate::relay::exchange::{Exchange, Order};
use crate::relay::headers::{self, Outbound};
use crate::relay::sse::{self, EndpointRewriter};
use crate::relay::streams::Streams;
use crate::relay::upstream::{Pool, PoolError};
use crate::reply::{ClientFault, Refusal, Reply};
use crate::route::{Endpoint, Login};
use crate::secret::Secret;
use crate::spare;
use crate::stdio::{Bridge, BridgeFault};
use relayed::Relayed;
use ticket::{Line, Ticket};

/// Why the proxy does not start.
#[derive(Debug)]
pub enum StartError {
    /// The address is taken or not ours.
    Listen(SocketAddr, io::Error),
    /// The trust roots cannot be read.
    Roots(RootsFault),
    /// The keys of the issuers cannot be looked after.
    Keys(StartFault),
    /// The way to the MCP server cannot be prepared.
    Pool(PoolError),
    /// The login relay cannot be prepared.
    Login(RelayFault),
    /// The system has no threads or descriptors for us.
    System(io::Error),
    /// The MCP server is a program that cannot be started.
    Bridge(BridgeFault),
    /// The built-in demonstration listens on loopback alone.
    NotLoopback(SocketAddr),
}

impl StartError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Listen(..) => {
                "end the program that has this port, or change listen_port and listen_address"
            }
            Self::Roots(_) | Self::Keys(_) | Self::Login(RelayFault::Roots(_)) => {
                "check ca_file and SSL_CERT_FILE"
            }
            Self::Pool(_) => "check base_url",
            Self::System(_) | Self::Login(RelayFault::Thread(_)) => {
                "raise the limits of open files and threads for this user"
            }
            Self::Bridge(BridgeFault::Launch(_)) => {
                "check stdio.user_command and stdio.work_dir; a program in another folder is written with its whole path"
            }
            Self::Bridge(BridgeFault::System(_)) => {
                "raise the limits of open files and threads for this user"
            }
            Self::NotLoopback(_) => {
                "leave --listen out, or name an address of loopback, such as 127.0.0.1:8080"
            }
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen(addr, _) => write!(f, "cannot listen on {addr}"),
            Self::Roots(_) => f.write_str("the trust roots for outgoing TLS cannot be read"),
            Self::Keys(_) => f.write_str("the keys of the issuers cannot be looked after"),
            Self::Pool(_) => f.write_str("the way to the MCP server cannot be prepared"),
            Self::Login(_) => f.write_str("the login relay cannot be prepared"),
            Self::System(_) => f.write_str("the system refuses threads or descriptors"),
            Self::Bridge(fault) => write!(f, "{fault}"),
            Self::NotLoopback(addr) => {
                write!(f, "--local does not listen on {addr}: whoever reaches it is let in")
            }
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Listen(_, err) | Self::System(err) | Self::Login(RelayFault::Thread(err)) => Some(err),
            Self::Roots(err) | Self::Login(RelayFault::Roots(err)) => Some(err),
            Self::Keys(err) => Some(err),
            Self::Pool(err) => Some(err),
            // Its own level is told already.
            Self::Bridge(fault) => std::error::Error::source(fault),
            Self::NotLoopback(_) => None,
        }
    }
}

/// A running proxy.
pub struct Proxy {
    server: Server<Front>,
    behind: Arc<Behind>,
    keys: Arc<KeyStore>,
    login: Option<Arc<LoginRelay>>,
    log: Log,
}

/// What the gate stands in front of.
enum Behind {
    /// An MCP server that speaks HTTP.
    Http(Http),
    /// One that is a program.
    Stdio(Bridge),
}

/// The way to an MCP server that speaks HTTP.
struct Http {
    pool: Arc<Pool>,
    base: BaseUrl,
    authorization: Option<Secret>,
    first_byte_timeout: Duration,
}

impl Behind {
    fn start(config: &Config, sessions: &Arc<SessionKey>, log: &Log) -> Result<Self, StartError> {
        match &config.upstream {
            Upstream::Http { base, first_byte_timeout, authorization } => {
                let roots = match base.tls {
                    true => root_store(config.ca_file.as_deref()).map_err(StartError::Roots)?,
                    false => rustls::RootCertStore::empty().into(), // nobody is asked for a certificate
                };
                Ok(Self::Http(Http {
                    pool: Pool::start(base, &config.public, roots, log).map_err(StartError::Pool)?,
                    base: base.clone(),
                    authorization: authorization.clone(),
                    first_byte_timeout: *first_byte_timeout,
                }))
            }
            Upstream::Stdio(stdio) => {
                Bridge::start(stdio, config, sessions, log).map(Self::Stdio).map_err(StartError::Bridge)
            }
        }
    }

    fn stop(&self) {
        match self {
            Self::Http(http) => http.pool.stop(),
            Self::Stdio(bridge) => bridge.stop(),
        }
    }
}

impl Proxy {
    /// Starts everything. The identity provider need not be there yet, nor the MCP server.
    ///
    /// # Errors
    /// [`StartError`]
    pub fn start(config: Config, clock: Clock, log: Log) -> Result<Self, StartError> {
        let listener =
            TcpListener::bind(config.listen).map_err(|err| StartError::Listen(config.listen, err))?;
        Self::start_on(listener, config, clock, log)
    }

    /// As [`Proxy::start`], on a listener that is there already; `listen` of the configuration is not looked at.
    ///
    /// # Errors
    /// [`StartError`]
    pub fn start_on(
        listener: TcpListener,
        mut config: Config,
        clock: Clock,
        log: Log,
    ) -> Result<Self, StartError> {
        if config.limits.workers.is_none() && config.issuers.iter().any(|one| one.introspection.is_some()) {
            config.limits.workers = Some(INTROSPECTION_WORKERS);
        }
        let bound = listener.local_addr().map_err(|err| StartError::Listen(config.listen, err))?;
        let keys = KeyStore::start(&config.issuers, config.ca_file.as_deref(), &clock, &log);
        let keys = Arc::new(keys.map_err(StartError::Keys)?);
        let introspecting = config.issuers.iter().any(|one| one.introspection.is_some());
        let mut settings = Settings::new(&config.limits);
        settings.trusted = Proxies::new(config.trusted_proxies.clone());
        keys.share_workers(settings.workers, introspecting);
        let sessions = Arc::new(SessionKey::new(config.session_key.as_ref()));
        let behind = Behind::start(&config, &sessions, &log).inspect_err(|_| keys.shutdown())?;
        let behind = Arc::new(behind);
        keys.prefetch();
        let auth = Authenticator::new(&config, Arc::clone(&keys), log.clone());
        let login = LoginRelay::start(&config, &clock, &log).map_err(StartError::Login)?.map(Arc::new);
        let all = config.limits.streams;
        let streams_each =
            config.limits.streams_per_principal.unwrap_or_else(|| all - all / STREAMS_SPARED_PART);
        let front = Front {
            gate: Gate::new(&config, auth, bound),
            sessions,
            behind: Arc::clone(&behind),
            paths: config.paths.clone(),
            public: config.public.clone(),
            identity: config.identity_headers,
            streams: Streams::new(config.limits.streams, streams_each),
            streams_outlive_token: config.streams_outlive_token,
            leeway_seconds: config.leeway_seconds,
            stream_idle_time: config.limits.stream_idle_time,
            login: login.clone(),
            clock,
            log: log.clone(),
        };
        let server = Server::start(listener, Arc::new(front), settings, log.clone());
        let server = server.map_err(StartError::System).inspect_err(|_| {
            behind.stop();
            keys.shutdown();
        })?;
        Ok(Self { server, behind, keys, login, log })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// Connections of clients that are open now.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.server.connections()
    }

    /// What the MCP server is, for the log.
    fn protects(&self) -> String {
        match &*self.behind {
            Behind::Http(http) => http.pool.shown().to_owned(),
            Behind::Stdio(_) => "a program".to_owned(),
        }
    }

    /// The bridge, where the MCP server is a program.
    #[must_use]
    pub fn bridge(&self) -> Option<&Bridge> {
        match &*self.behind {
            Behind::Http(_) => None,
            Behind::Stdio(bridge) => Some(bridge),
        }
    }

    /// Stops: running requests finish within a bound, and every thread is joined.
    pub fn stop(self) {
        self.server.stop();
        if let Some(login) = &self.login {
            login.stop();
        }
        self.behind.stop();
        self.keys.shutdown();
        self.log.info("stopped", &[]);
    }
}

/// Runs the proxy until SIGTERM or SIGINT; a second one ends the program at once.
///
/// # Errors
/// [`StartError`]
pub fn serve(config: Config, log: Log) -> Result<(), StartError> {
    let signal = StopSignal::watch().map_err(StartError::System)?;
    let loopback = config.listen.ip().is_loopback();
    let proxy = Proxy::start(config, Clock::system(), log.clone())?;
    log.info("listening", &[("address", &proxy.addr()), ("mcp_server", &proxy.protects())]);
    if !loopback {
        log.warn("the listener is reachable from other hosts; tokens need TLS in front of it", &[]);
    }
    signal.wait();
    log.info("stopping", &[]);
    proxy.stop();
    Ok(())
}

/// SIGTERM and SIGINT, noticed from the moment it is made, so that one which comes while the program starts still ends
/// it in good order. A second signal ends it at once.
pub struct StopSignal {
    seen: Arc<AtomicBool>,
    signals: signal_hook::iterator::Signals,
}

impl StopSignal {
    /// Begins to watch.
    ///
    /// # Errors
    /// Where the system does not let us handle signals.
    pub fn watch() -> io::Result<Self> {
        use signal_hook::consts::{SIGINT, SIGTERM};
        let seen = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // Order matters: the second signal finds the flag that the first one set.
            signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&seen))?;
            signal_hook::flag::register(signal, Arc::clone(&seen))?;
        }
        Ok(Self { seen, signals: signal_hook::iterator::Signals::new([SIGINT, SIGTERM])? })
    }

    /// Waits for the first of them, which may have come already.
    pub fn wait(mut self) {
        if !self.seen.load(Ordering::Relaxed) {
            let _ = self.signals.forever().next();
        }
    }
}

/// What stands behind the engine.
struct Front {
    gate: Gate,
    sessions: Arc<SessionKey>,
    behind: Arc<Behind>,
    paths: Paths,
    public: PublicUrl,
    identity: bool,
    streams: Arc<Streams>,
    streams_outlive_token: bool,
    leeway_seconds: i64,
    stream_idle_time: Option<Duration>,
    login: Option<Arc<LoginRelay>>,
    clock: Clock,
    log: Log,
}

/// What is known of a request once its head was admitted.
struct Pass {
    admitted: To,
    line: Line,
}

/// Where it goes.
enum To {
    /// To the MCP server, once its message was judged.
    Mcp(Admitted),
    /// To the identity provider.
    Login(Arc<LoginRelay>, Login, Grant, Client),
}

impl Handler for Front {
    type Pass = Pass;

    fn admit(&self, head: &Incoming) -> Result<Pass, Reply> {
        let mut line = Line::new(&self.log, head);
        if let Some(relay) = &self.login {
            match self.gate.login(head, &mut line.audit) {
                Ok(None) => {}
                Ok(Some((login, grant, client))) => {
                    let admitted = To::Login(Arc::clone(relay), login, grant, client);
                    return Ok(Pass { admitted, line });
                }
                Err(reply) => {
                    line.write(reply.status);
                    return Err(reply);
                }
            }
        }
        match self.gate.admit(head, self.clock.now(), &mut line.audit) {
            Ok(admitted) => Ok(Pass { admitted: To::Mcp(admitted), line }),
            Err(reply) => {
                line.write(reply.status);
                Err(reply)
            }
        }
    }

    fn serve(&self, pass: Pass, request: &Incoming) -> Answer {
        let Pass { admitted, mut line } = pass;
        let admitted = match admitted {
            To::Mcp(admitted) => admitted,
            To::Login(relay, login, grant, client) => {
                let finish = Box::new(move |outcome| line.login(outcome, &grant));
                return relay.begin(login, request, client, finish);
            }
        };
        let relay = match self.gate.decide(&admitted, request, &mut line.audit) {
            Ok(relay) => relay,
            Err(reply) => {
                line.write(reply.status);
                return Answer::Reply(reply);
            }
        };
        let mut ticket = Ticket {
            principal: Arc::clone(relay.permit.principal()),
            sessions: Arc::clone(&self.sessions),
            grant: admitted.grant,
            id: None,
            streams: Arc::clone(&self.streams),
            stream_ends: self.stream_ends(relay.permit.principal().expires),
            place: None,
            line,
        };
        match &*self.behind {
            Behind::Http(http) => self.relay(http, relay, request, admitted.client, ticket),
            Behind::Stdio(bridge) => {
                ticket.id = relay.id.clone();
                bridge.serve(relay, request, Box::new(ticket))
            }
        }
    }

    fn refuse(&self, head: Option<&Incoming>, fault: Fault) -> Reply {
        let refusal = Refusal::Client(ClientFault::Unreadable(fault));
        let Some(head) = head else {
            self.log.debug("unreadable request", &[("status", &fault.status()), ("reason", &fault)]);
            return refusal.reply();
        };
        let mut line = Line::new(&self.log, head);
        let reply = self.gate.dress(Some(head), line.audit.refuse(&refusal));
        line.write(reply.status);
        reply
    }

    fn stopping(&self) {
        if let Behind::Stdio(bridge) = &*self.behind {
            bridge.close();
        }
    }
}

impl Front {
    /// Begins the exchange with the MCP server. The permit is used up here: one request, one permit.
    fn relay(
        &self,
        http: &Http,
        relay: Relay,
        request: &Incoming,
        client: IpAddr,
        mut ticket: Ticket,
    ) -> Answer {
        let pool = &http.pool;
        let Relay { permit, endpoint, era, id, .. } = relay;
        let principal = permit.principal();
        // A modern request has no session; whatever is sent under that name is not even looked at (M-15).
        let sealed = request.header_str(header::MCP_SESSION_ID).filter(|_| era != Era::Modern);
        let session = sealed.map(|sealed| self.sessions.open(principal, sealed));
        let target = if endpoint == Endpoint::Messages {
            self.sessions.open_target(principal, request.target()).map(|open| {
                let join = if open.query.is_empty() { "" } else { "?" };
                Cow::Owned(format!("{}{}{join}{}", pool.prefix(), open.path, open.query))
            })
        } else if pool.prefix().is_empty() {
            Some(Cow::Borrowed(request.target()))
        } else {
            Some(Cow::Owned(format!("{}{}", pool.prefix(), request.target())))
        };
        let (Some(target), false) = (target, session == Some(None)) else {
            return Answer::Reply(ticket.refuse(&Refusal::UnknownSession { id }));
        };
        let moved = pool.follow(&target);
        let followed = moved.is_some();
        let target = moved.map_or(target, Cow::Owned);
        let mut head = spare::bytes();
        headers::request_head(
            &mut head,
            request,
            &Outbound {
                target: &target,
                authority: pool.authority(),
                session: session.flatten(),
                authorization: http.authorization.as_ref(),
                identity: self.identity.then_some(&**principal),
                public: (&self.public.scheme, &self.public.authority),
                peer: client,
            },
        );
        let endless = request.method() == Method::Get;
        if endless && let Err(full) = ticket.take_place() {
            return Answer::Reply(ticket.refuse_stream(full, id));
        }
        ticket.id = id;
        let order = Order {
            head,
            body: request.body(),
            followed,
            idempotent: request.method() == Method::Get,
            head_only: false,
            endless,
            first_byte_timeout: http.first_byte_timeout,
            stream_idle_time: self.stream_idle_time,
            stream_ends: ticket.stream_ends,
            rewriter: (endpoint == Endpoint::Sse).then(|| Box::new(self.rewriter(&http.base, principal))),
        };
        Answer::Relay(Relayed::boxed(Exchange::begin(pool, order, ticket)))
    }

    /// When streams end that a token opened which holds until then.
    fn stream_ends(&self, expires: Timestamp) -> Option<Instant> {
        if self.streams_outlive_token {
            return None;
        }
        let left = expires.plus(self.leeway_seconds).0.saturating_sub(self.clock.now().0);
        Instant::now().checked_add(Duration::from_secs(u64::try_from(left).unwrap_or(0)))
    }

    /// Leads the endpoint events of one stream back to us, bound to whoever opened it (SSE-03, SSE-05).
    fn rewriter(&self, base: &BaseUrl, principal: &Arc<Principal>) -> EndpointRewriter {
        let (base, public, paths) = (base.clone(), self.public.clone(), self.paths.clone());
        let (sessions, principal) = (Arc::clone(&self.sessions), Arc::clone(principal));
        EndpointRewriter::new(Box::new(move |address| {
            let (target, whole) = sse::resolve(address, &base, &public, &paths.sse, &paths.messages)?;
            let target = sessions.seal_target(&principal, &target);
            // A path stays a path: it leads back to us by whatever name the client knows us.
            Ok(if whole { public.join(&target) } else { format!("{}{target}", public.prefix) })
        }))
    }
}
