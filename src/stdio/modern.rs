//! The modern era in front of children: every request stands for itself (section 3.4).
//!
//! ```text
//! worker ─▶ Modern::serve ─▶ ladder.rs ─▶ Warm::take ─▶ child       (warm.rs: one child for all, or one a principal)
//!                                            │ no modern era there
//!                                            └────────▶ upgrade.rs  (a session child in its stead)
//! ```
//!
//! What is the same for all children is here; a request becomes a [`Call`], which knows its asker and waits in a queue
//! where it must.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::Setting;
use super::era::Known;
use super::ladder;
use super::line::{Line, Shape};
use super::outlet::{Caller, Outlet, outlet};
use super::upgrade::Upgrade;
use super::warm::{Home, Warm};
use crate::auth::Principal;
use crate::config::Share;
use crate::edge::Answer;
use crate::edge::http1::Incoming;
use crate::gate::Relay;
use crate::header;
use crate::limits::{STDIO_QUEUED_BYTES_MAX, STDIO_QUEUED_MAX, STDIO_WARM_MAX};
use crate::mcp::message::item_member;
use crate::mcp::{MessageFault, Reason};
use crate::reply::{self, Refusal, Reply};

/// A request that is on its way to a child, or waits for one.
pub(super) struct Call {
    pub(super) key: u64,
    pub(super) principal: Arc<Principal>,
    pub(super) body: Vec<u8>,
    /// `Mcp-Param-*`, names in lower case.
    headers: Vec<(String, Vec<u8>)>,
    /// The tool, prompt or resource that it is about.
    pub(super) item: Option<String>,
    id: Box<str>,
    pub(super) outlet: Outlet,
    pub(super) deadline: Instant,
    /// Whether a session was tried for it, in vain.
    pub(super) tried: bool,
}

impl Call {
    /// A header of its request.
    pub(super) fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_slice())
    }

    /// The id as it was written.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn fail(self, why: Failure) {
        self.outlet.answer(why.reply(&self.id));
    }

    pub(super) fn refuse_busy(self) {
        self.outlet.answer(Refusal::Busy { id: Some((*self.id).into()) }.reply());
    }
}

/// Whether one more call may wait among these: they hold their bodies.
pub(super) fn has_room(waiting: &VecDeque<Call>) -> bool {
    let bytes: usize = waiting.iter().map(|call| call.body.len()).sum();
    waiting.len() < STDIO_QUEUED_MAX && bytes < STDIO_QUEUED_BYTES_MAX
}

/// Why an answer will not come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Failure {
    /// The child that worked on it ended.
    Died,
    /// It took longer than it may.
    TimedOut,
    /// What the child said cannot be given to anybody.
    Unreadable,
}

impl Failure {
    /// The error of whoever asked with `id`. It is about the server and not about the request, so the status is that of
    /// an answer.
    pub(super) fn reply(self, id: &str) -> Reply {
        let why = match self {
            Self::Died => "the MCP server died",
            Self::TimedOut => "the MCP server did not answer in time",
            Self::Unreadable => "the MCP server's answer cannot be read",
        };
        reply::modern(reply::rpc_error(-32603, why, Some(id)).into_bytes(), Some(-32603))
    }
}

/// Issuer and subject.
pub(super) type Who = (Box<str>, Box<str>);

pub(super) fn who(principal: &Principal) -> Who {
    (principal.issuer.clone(), principal.subject.clone())
}

/// All children of the modern era.
pub(super) struct Modern {
    home: Arc<Home>,
    share: Share,
    warm: Mutex<HashMap<Option<Who>, Arc<Warm>>>,
    keys: AtomicU64,
    closing: AtomicBool,
}

impl Modern {
    /// Nothing is started before somebody asks.
    pub(super) fn new(setting: &Arc<Setting>) -> Self {
        let known: Arc<Known> = Arc::default();
        let legacy = Upgrade::new(setting, &known);
        let home = Home { setting: Arc::clone(setting), legacy, known };
        Self {
            home: Arc::new(home),
            share: setting.stdio.share,
            warm: Mutex::default(),
            keys: AtomicU64::new(1),
            closing: AtomicBool::new(false),
        }
    }

    /// Serves one POST of the modern era: a request whose `_meta` names its protocol version, or a notification.
    pub(super) fn serve(&self, relay: Relay, request: &Incoming, mut caller: Box<dyn Caller>) -> Answer {
        let principal = relay.permit.principal();
        let Ok(line) = Line::read(request.body()) else {
            let fault = MessageFault { reason: Reason::BadKind, id: None };
            return Answer::Reply(caller.refuse(&Refusal::Message(fault)));
        };
        if line.shape == Shape::Notification {
            // M-02. No notification of a client means anything here: a cancellation is a stream that is closed (M-14).
            return Answer::Reply(caller.begin(Reply::new(202)));
        }
        let Some(id) = line.readable_id().filter(|_| line.shape == Shape::Request) else {
            let fault = MessageFault { reason: Reason::BadId, id: None };
            return Answer::Reply(caller.refuse(&Refusal::Message(fault)));
        };
        if let Err(reply) = ladder::envelope(&line) {
            return Answer::Reply(caller.begin(reply));
        }
        let busy = |mut caller: Box<dyn Caller>| {
            Answer::Reply(caller.refuse(&Refusal::Busy { id: Some(id.into()) }))
        };
        let listens = line.method == ladder::LISTEN;
        if listens && self.closing.load(Ordering::Relaxed) {
            return busy(caller);
        }
        if listens && let Err(refusal) = caller.take_place() {
            return Answer::Reply(refusal);
        }
        self.home.setting.pace.quicken();
        let key = self.keys.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let make = |outlet: Outlet| Call {
            key,
            principal: Arc::clone(principal),
            headers: param_headers(request),
            item: item(&line),
            body: request.body().to_vec(),
            id: id.into(),
            outlet,
            deadline: now + self.home.setting.stdio.request_time,
            tried: false,
        };
        if self.home.known.is_legacy() {
            let legacy = Arc::clone(&self.home.legacy);
            let (outlet, tap) = outlet(caller, listens, move || legacy.left(key));
            self.home.legacy.take(make(outlet), now);
            return Answer::Relay(Box::new(tap));
        }
        let Some(warm) = self.warm_for(principal) else { return busy(caller) };
        let (leaver, legacy) = (Arc::downgrade(&warm), Arc::clone(&self.home.legacy));
        let (outlet, tap) = outlet(caller, listens, move || {
            if let Some(warm) = leaver.upgrade() {
                warm.left(key);
            }
            legacy.left(key); // where it was handed over meanwhile
        });
        if self.home.known.is_served_by_sessions() {
            self.home.legacy.take(make(outlet), now); // until more is known
        } else {
            warm.take(make(outlet), now);
        }
        Answer::Relay(Box::new(tap))
    }

    /// The child that serves this principal.
    fn warm_for(&self, principal: &Principal) -> Option<Arc<Warm>> {
        let whose = match self.share {
            Share::All => None,
            Share::Principal => Some(who(principal)),
        };
        let mut all = self.warm.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.contains_key(&whose) && all.len() >= STDIO_WARM_MAX {
            // Whoever has not used theirs for longest starts a new one when they come back.
            let idle = all.iter().filter_map(|(whose, warm)| Some((warm.idle_since()?, whose.clone())));
            let (_, longest) = idle.min_by_key(|(since, _)| *since)?;
            all.remove(&longest);
        }
        Some(Arc::clone(all.entry(whose).or_insert_with(|| Warm::new(&self.home))))
    }

    fn all(&self) -> Vec<Arc<Warm>> {
        self.warm.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// What is due by now; `true` while something will be.
    pub(super) fn tick(&self, now: Instant) -> bool {
        // What sessions were tried for, and cannot do, waits where it came from.
        for call in self.home.legacy.give_back() {
            match self.warm_for(&call.principal) {
                Some(warm) => warm.take(call, now),
                None => call.refuse_busy(),
            }
        }
        let mut busy = self.home.legacy.tick(now);
        let most = self.home.setting.stdio.session_idle_time;
        let is_used = |warm: &Warm| warm.idle_since().is_none_or(|since| now < since + most);
        // The one that all share stays warm; one caller's is ended as a session would be.
        let mut all = self.warm.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|whose, warm| whose.is_none() || is_used(warm));
        drop(all);
        for warm in self.all() {
            busy |= warm.tick(now);
        }
        busy
    }

    /// Ends all subscriptions in good order, and takes no more of them.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
        self.all().iter().for_each(|warm| warm.close());
        self.home.legacy.close();
    }
}

/// `Mcp-Param-*`, which may stand there once each; the gate has seen to that.
fn param_headers(request: &Incoming) -> Vec<(String, Vec<u8>)> {
    let all = request.headers().filter_map(|(name, value)| {
        let name = name.to_ascii_lowercase();
        name.starts_with(header::MCP_PARAM_PREFIX).then(|| (name, value.to_vec()))
    });
    all.collect()
}

/// What the request is about, as the gate's rules have it.
fn item(line: &Line<'_>) -> Option<String> {
    let member = item_member(&line.method)?;
    let params = line.params()?;
    let mut reader = crate::mcp::json::Reader::new(params.raw.as_bytes()).ok()?;
    let mut found = None;
    let read = reader.object(|reader, name| {
        if name == member && reader.kind()? == crate::mcp::json::Kind::String {
            found = reader.string()?.decode().map(String::from);
            return Ok(());
        }
        reader.skip().map(drop)
    });
    read.ok().and(found)
}
