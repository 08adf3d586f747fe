//! The legacy era over HTTP: which session a request belongs to, and how many there may be.
//!
//! A session is found by its name, once the MAC has shown that it was given to this principal (decision D6); a name
//! that is unknown, over, or somebody else's is answered 404 alike (SH-13). HTTP+SSE has the same sessions, each with
//! its event stream, whose end is theirs.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom as _, SystemRandom};
use smol_str::SmolStr;

use super::Setting;
use super::commons::{Commons, Peer};
use super::downgrade::Downgrade;
use super::modern::{Who, who};
use super::outlet::{Caller, Nobody, outlet};
use super::process::TooMany;
use super::replay::EventId;
use super::session::{Posted, Session, Transport, Way};
use crate::auth::Principal;
use crate::config::Share;
use crate::edge::Answer;
use crate::edge::http1::{Incoming, Method};
use crate::gate::Relay;
use crate::header;
use crate::mcp::message::Message;
use crate::reply::{HeaderValue, Refusal, Reply, SessionFault, rpc_error};
use crate::route::Endpoint;

/// All sessions.
pub(super) struct Legacy {
    setting: Arc<Setting>,
    table: Mutex<HashMap<Box<str>, Arc<Session>>>,
    /// The children that the sessions of one principal share, where they do.
    shared: Mutex<HashMap<Who, Weak<Commons>>>,
    /// Whether the server turned out not to be shared like that.
    alone: Arc<AtomicBool>,
}

impl Legacy {
    pub(super) fn new(setting: Arc<Setting>) -> Self {
        Self { setting, table: Mutex::default(), shared: Mutex::default(), alone: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Arc<Session>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sessions that there are.
    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }

    /// Answers a request.
    pub(super) fn serve(&self, relay: Relay, request: &Incoming, caller: Box<dyn Caller>) -> Answer {
        let mut asker = Asker { caller: Some(caller), id: relay.id.clone() };
        let principal = Arc::clone(relay.permit.principal());
        match (relay.endpoint, request.method()) {
            (Endpoint::StreamableHttp, Method::Post) => self.post(&principal, request, &mut asker),
            (Endpoint::StreamableHttp, method) => match self.named(&principal, request) {
                Err(refusal) => asker.refuse(refusal),
                Ok(session) if method == Method::Delete => {
                    self.lock().remove(&session.name);
                    session.end("its client ended it");
                    asker.reply(Reply::new(204))
                }
                Ok(session) => Self::listen(&session, request, &mut asker),
            },
            (Endpoint::Sse, _) => self.open(&principal, &mut asker),
            (Endpoint::Messages, _) => self.message(&principal, request, &mut asker),
        }
    }

    /// The session that `Mcp-Session-Id` names.
    fn named(&self, principal: &Principal, request: &Incoming) -> Result<Arc<Session>, Refused> {
        if request.header(header::MCP_SESSION_ID).is_none() {
            return Err(Refused::Session(SessionFault::Missing));
        }
        let sealed = request.header_str(header::MCP_SESSION_ID);
        let name = sealed.and_then(|sealed| self.setting.key.open(principal, sealed));
        let session = name.and_then(|name| self.find(name, Transport::Streamable));
        let session = session.ok_or(Refused::Unknown)?;
        if session.speaks(request.header(header::MCP_PROTOCOL_VERSION)) {
            Ok(session)
        } else {
            Err(Refused::Session(SessionFault::Version))
        }
    }

    fn find(&self, name: &str, transport: Transport) -> Option<Arc<Session>> {
        let session = self.lock().get(name).cloned()?;
        (session.transport == transport && !session.is_over()).then_some(session)
    }

    /// POST of Streamable HTTP.
    fn post(&self, principal: &Arc<Principal>, request: &Incoming, asker: &mut Asker) -> Answer {
        let begins = request.header(header::MCP_SESSION_ID).is_none() && begins_a_session(request.body());
        let session = if begins {
            self.start(principal, Transport::Streamable)
        } else {
            self.named(principal, request)
        };
        let session = match session {
            Ok(session) => session,
            Err(refusal) => return asker.refuse(refusal),
        };
        let mut way: Option<Way> = None;
        let posted = session.post(request.body(), takes_events(request), &mut || {
            let caller = asker.caller.take().unwrap_or_else(|| Box::new(Nobody));
            let (outlet, tap) = outlet(caller, false, session.when_gone());
            way = Some((outlet.clone(), tap));
            outlet
        });
        if way.is_some() {
            self.setting.pace.quicken();
        }
        if begins && !session.has_begun() {
            session.end("it could not begin");
        }
        match (posted, way) {
            (_, Some((_, tap))) => Answer::Relay(Box::new(tap)),
            (Posted::Reply(reply), None) => asker.reply(reply),
            (Posted::Refused(fault), None) => asker.refuse(Refused::Session(fault)),
            (Posted::Busy | Posted::Waits, None) => asker.refuse(Refused::Busy),
            // It could not even be started; whoever begins a session has none that could be unknown.
            (Posted::Over, None) if begins => {
                asker.reply(Reply::json(200, rpc_error(-32603, "the MCP server died", asker.id.as_deref())))
            }
            (Posted::Over, None) => asker.refuse(Refused::Unknown),
        }
    }

    /// GET of Streamable HTTP.
    fn listen(session: &Arc<Session>, request: &Incoming, asker: &mut Asker) -> Answer {
        let Some(mut caller) = asker.caller.take() else { return Answer::Reply(Reply::new(500)) };
        if let Err(refusal) = caller.take_place() {
            return Answer::Reply(refusal);
        }
        let last = request.header_str(header::LAST_EVENT_ID).and_then(EventId::read);
        let (outlet, tap) = outlet(caller, true, session.when_gone());
        session.listen(&outlet, last);
        Answer::Relay(Box::new(tap))
    }

    /// GET of HTTP+SSE: a stream, a session, and where messages for it go (SSE-01 to SSE-05).
    fn open(&self, principal: &Arc<Principal>, asker: &mut Asker) -> Answer {
        let Some(mut caller) = asker.caller.take() else { return Answer::Reply(Reply::new(500)) };
        if let Err(refusal) = caller.take_place() {
            return Answer::Reply(refusal);
        }
        let session = match self.start(principal, Transport::Sse) {
            Ok(session) => session,
            Err(refusal) => {
                asker.caller = Some(caller);
                return asker.refuse(refusal);
            }
        };
        let target = format!("{}?session_id={}", self.setting.messages_path, session.name);
        let target = self.setting.key.seal_target(principal, &target);
        let event = format!("event: endpoint\ndata: {}{target}\n\n", self.setting.prefix);
        let (outlet, tap) = outlet(caller, true, session.when_gone());
        session.open_standing(outlet, event);
        Answer::Relay(Box::new(tap))
    }

    /// POST of HTTP+SSE; its answer goes over the stream.
    fn message(&self, principal: &Principal, request: &Incoming, asker: &mut Asker) -> Answer {
        let opened = self.setting.key.open_target(principal, request.target());
        let name = opened.and_then(|open| open.query.strip_prefix("session_id="));
        let Some(session) = name.and_then(|name| self.find(name, Transport::Sse)) else {
            return asker.refuse(Refused::Unknown);
        };
        // No answer is opened here: all go over the stream.
        let posted = session.post(request.body(), true, &mut || outlet(Box::new(Nobody), false, || {}).0);
        match posted {
            Posted::Reply(reply) => asker.reply(reply.body("Accepted")),
            Posted::Refused(fault) => asker.refuse(Refused::Session(fault)),
            Posted::Busy | Posted::Waits => asker.refuse(Refused::Busy),
            Posted::Over => asker.refuse(Refused::Unknown),
        }
    }

    /// A session, with a child.
    fn start(&self, principal: &Arc<Principal>, transport: Transport) -> Result<Arc<Session>, Refused> {
        let setting = &self.setting;
        let Ok(name) = name() else { return Err(Refused::Busy) };
        let sealed = setting.key.seal(principal, &name).ok_or(Refused::Busy)?;
        let session = Arc::new(Session::new(
            name.into(),
            Arc::clone(principal),
            transport,
            HeaderValue::cleaned(sealed),
            setting.stdio.request_time,
            &setting.log,
        ));
        let evicted = self.make_room(&session)?;
        if let Some(evicted) = evicted {
            evicted.end("its owner began more sessions than there may be");
        }
        match self.child_for(&session) {
            Ok(child) => session.adopt(child),
            Err(TooMany) => {
                self.lock().remove(&session.name);
                return Err(Refused::Busy);
            }
        }
        Ok(session)
    }

    /// A child of its own for a session, or a place at the one of its principal.
    fn child_for(&self, session: &Arc<Session>) -> Result<Peer, TooMany> {
        let setting = &self.setting;
        if setting.stdio.share == Share::All || self.alone.load(Ordering::Relaxed) {
            let translation = Downgrade::new(session, &setting.log);
            let child = setting.children.spawn(&setting.launch, Arc::clone(&translation) as _)?;
            return Ok(Peer::Alone(translation.adopt(child)));
        }
        let who = who(&session.principal);
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.retain(|_, commons| commons.strong_count() > 0);
        let running = shared.get(&who).and_then(Weak::upgrade).filter(|commons| !commons.is_over());
        let commons = match running {
            Some(commons) => commons,
            None => Commons::start(setting, &self.alone)?,
        };
        shared.insert(who, Arc::downgrade(&commons));
        commons.join(session).ok_or(TooMany)
    }

    /// Puts a session into the table, where there is room; a principal who has too many gives up the one that it has
    /// not used for longest, if none of its clients is connected to that.
    fn make_room(&self, session: &Arc<Session>) -> Result<Option<Arc<Session>>, Refused> {
        let stdio = &self.setting.stdio;
        let mut table = self.lock();
        let is_theirs = |other: &&Arc<Session>| {
            (&other.principal.issuer, &other.principal.subject)
                == (&session.principal.issuer, &session.principal.subject)
        };
        let mut evicted = None;
        if table.values().filter(is_theirs).count() >= stdio.sessions_per_principal {
            let idle = table.values().filter(is_theirs);
            let idle = idle.filter_map(|other| Some((other.idle_since()?, Arc::clone(other))));
            evicted = Some(idle.min_by_key(|(since, _)| *since).ok_or(Refused::Busy)?.1);
        }
        if let Some(evicted) = &evicted {
            table.remove(&evicted.name);
        } else if table.len() >= stdio.sessions {
            return Err(Refused::Busy);
        }
        table.insert(session.name.clone(), Arc::clone(session));
        Ok(evicted)
    }

    /// Looks at every session; `true` where a request is under way, so that it should be looked at again soon.
    pub(super) fn tick(&self, now: Instant) -> bool {
        let mut busy = false;
        let all: Vec<_> = self.lock().values().cloned().collect();
        for session in all {
            busy |= session.tick(now);
            let idle = session.idle_since();
            if idle.is_some_and(|since| now >= since + self.setting.stdio.session_idle_time) {
                session.end("nobody used it");
            }
            if session.is_over() {
                self.lock().remove(&session.name);
            }
        }
        busy
    }

    /// Ends every session.
    pub(super) fn stop(&self) {
        let all: Vec<_> = self.lock().drain().map(|(_, session)| session).collect();
        for session in all {
            session.end("the proxy stops");
        }
    }
}

/// A request, until its answer is under way.
struct Asker {
    caller: Option<Box<dyn Caller>>,
    id: Option<SmolStr>,
}

/// Why a request is answered here.
enum Refused {
    Unknown,
    Busy,
    Session(SessionFault),
}

impl Asker {
    fn reply(&mut self, reply: Reply) -> Answer {
        Answer::Reply(match &mut self.caller {
            Some(caller) => caller.begin(reply),
            None => reply,
        })
    }

    fn refuse(&mut self, why: Refused) -> Answer {
        let id = self.id.take();
        let refusal = match why {
            Refused::Unknown => Refusal::UnknownSession { id },
            Refused::Busy => Refusal::Busy { id },
            Refused::Session(fault) => Refusal::Session { fault, id },
        };
        Answer::Reply(match &mut self.caller {
            Some(caller) => caller.refuse(&refusal),
            None => refusal.reply(),
        })
    }
}

fn begins_a_session(body: &[u8]) -> bool {
    match Message::read(body) {
        Ok(Message::One(rpc)) => rpc.method == "initialize" && rpc.id.is_some(),
        Ok(Message::Batch(_)) | Err(_) => false,
    }
}

/// Whether the client takes an event stream as the answer; one that says nothing takes anything (RFC 9110 section
/// 12.5.1).
fn takes_events(request: &Incoming) -> bool {
    let Some(accept) = request.header(header::ACCEPT) else { return true };
    let accept = String::from_utf8_lossy(accept).to_ascii_lowercase();
    ["text/event-stream", "text/*", "*/*"].iter().any(|media| accept.contains(media))
}

/// A name that nobody guesses (SH-11): 128 bits.
fn name() -> io::Result<String> {
    let mut bytes = [0_u8; 16];
    SystemRandom::new().fill(&mut bytes).map_err(|_| io::Error::other("the system has no random numbers"))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}
