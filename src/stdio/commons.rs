//! One child for all sessions of one principal (section 3.3), where `stdio.share` says so.
//!
//! ```text
//! session ─┐                 ┌─────────┐ ids and tokens of ours ┌───────┐
//! session ─┼─ Peer::send ──▶ │ Commons │ ─────────────────────▶ │ child │
//! session ─┘ ◀─ Sink::line ─ └─────────┘ ◀───────────────────── └───────┘
//! ```
//!
//! The handshake belongs to the process, so it is ours: once, with no capabilities, so that the server asks nobody for
//! anything. Each session's `initialize` is answered from its result. What would change the process for all, or cannot be
//! told apart, is not there: log levels, tasks, requests of the server. Changes of lists are told to all sessions, those
//! of a resource to the ones that subscribed to it, a log message to the only request under way or to nobody.
//!
//! A server that refuses our handshake is one that knows no sessions, or not without capabilities. Then every session has
//! a child of its own, as if nothing were shared, and those that have begun are moved there before they notice.
//!
//! A session calls [`Peer::send`] under its lock. So nothing is told to it from there, but by [`Peer::told`]; and lines of
//! the child are given to sessions when our own lock is free.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use serde_json::{Value, json};

use super::Setting;
use super::cut::too_large;
use super::downgrade::{Alone, Downgrade};
use super::id::Id;
use super::line::{Line, Shape};
use super::process::{Child, End, NotSent, Sink, TooMany};
use super::remap::{Ledger, Routed, cancellation};
use super::splice::one_line;
use super::translate;
use crate::limits::STDIO_ASKED_MAX;
use crate::reply::rpc_error;

/// The child's end of a session.
pub(super) enum Peer {
    /// A child that is nobody else's.
    Alone(Alone),
    /// A part of one.
    Shared(Port),
}

impl Peer {
    /// Writes one line of the client, or what it means; never blocks.
    pub(super) fn send(&self, line: &[u8]) -> Result<(), NotSent> {
        match self {
            Self::Alone(alone) => alone.send(line),
            Self::Shared(port) => port.commons.take(port.number, line),
        }
    }

    /// What there is for the session.
    pub(super) fn told(&self) -> Vec<String> {
        match self {
            Self::Alone(alone) => alone.told(),
            Self::Shared(port) => port.commons.told(port.number),
        }
    }
}

/// The place of one session; given up when dropped.
pub(super) struct Port {
    commons: Arc<Commons>,
    number: u64,
}

impl Drop for Port {
    fn drop(&mut self) {
        self.commons.leave(self.number);
    }
}

/// A child that the sessions of one principal share. It is stopped with the last of them.
pub(super) struct Commons {
    setting: Arc<Setting>,
    /// Whether the server was found not to be shared like this.
    refused: Arc<AtomicBool>,
    state: Mutex<State>,
}

struct State {
    child: Option<Child>,
    phase: Phase,
    members: HashMap<u64, Member>,
    next: u64,
    ledger: Ledger<Asker>,
    /// Who subscribed to a resource.
    uris: HashMap<String, BTreeSet<u64>>,
}

enum Phase {
    Opening,
    /// The result of `initialize`, as sessions get it.
    Open(Value),
    Over,
}

/// One session.
struct Member {
    session: Weak<dyn Sink>,
    /// Its `initialize`, where that waits for ours.
    opening: Option<Box<str>>,
    told: Vec<String>,
    /// The child that it has for itself after all.
    alone: Option<Alone>,
}

enum Asker {
    /// `initialize` of ours.
    Opening,
    /// A session, and the resource that it subscribes to by this.
    Member(u64, Option<String>),
    /// A request of ours whose answer tells nothing.
    Ignored,
}

/// What goes to sessions once the lock is free.
type Mail = Vec<(Weak<dyn Sink>, String)>;

/// The way back from the child.
struct Run(Weak<Commons>);

impl Sink for Run {
    fn line(&self, line: &[u8]) -> bool {
        self.0.upgrade().is_none_or(|commons| commons.line(line))
    }

    fn too_long(&self) {
        let Some(commons) = self.0.upgrade() else { return };
        let only = commons.lock().ledger.only();
        if let Some(number) = only {
            commons.line(too_large(&number.to_string()).as_bytes());
        }
    }

    fn ended(&self, end: &End) {
        if let Some(commons) = self.0.upgrade() {
            commons.ended(end);
        }
    }
}

impl Commons {
    /// Starts a child and begins to open it. `refused` is set where it turns out that it cannot be shared.
    pub(super) fn start(setting: &Arc<Setting>, refused: &Arc<AtomicBool>) -> Result<Arc<Self>, TooMany> {
        let mut ledger = Ledger::default();
        let (_, line) = ledger.open_own(Asker::Opening, |number| translate::initialize(number, &json!({})));
        let state = State {
            child: None,
            phase: Phase::Opening,
            members: HashMap::new(),
            next: 1,
            ledger,
            uris: HashMap::new(),
        };
        let commons = Arc::new(Self {
            setting: Arc::clone(setting),
            refused: Arc::clone(refused),
            state: Mutex::new(state),
        });
        // Its end may come before it is written down here; then a second stop does nothing.
        let child = setting.children.spawn(&setting.launch, Arc::new(Run(Arc::downgrade(&commons))))?;
        let _ = child.send(line.as_bytes());
        let mut state = commons.lock();
        if !matches!(state.phase, Phase::Over) {
            state.child = Some(child);
        }
        drop(state);
        Ok(commons)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether its child has ended, or is not shared.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.lock().phase, Phase::Over)
    }

    /// Takes a session in, which has no child yet; `None` where this one has ended meanwhile.
    pub(super) fn join<S: Sink + 'static>(self: &Arc<Self>, session: &Arc<S>) -> Option<Peer> {
        let session: Arc<dyn Sink> = Arc::<S>::clone(session);
        let member =
            Member { session: Arc::downgrade(&session), opening: None, told: Vec::new(), alone: None };
        let mut state = self.lock();
        if matches!(state.phase, Phase::Over) {
            return None;
        }
        let number = state.next;
        state.next += 1;
        state.members.insert(number, member);
        Some(Peer::Shared(Port { commons: Arc::clone(self), number }))
    }

    /// A session has ended: what it waits for is cancelled, and what it alone subscribed to given up.
    fn leave(&self, number: u64) {
        let mut guard = self.lock();
        let state = &mut *guard;
        let member = state.members.remove(&number);
        let theirs = |asker: &Asker| matches!(asker, Asker::Member(owner, _) if *owner == number);
        let open: Vec<u64> = state
            .ledger
            .iter_mut()
            .filter(|(_, entry)| theirs(&entry.asker))
            .map(|(number, _)| number)
            .collect();
        for number in open {
            state.ledger.close(number);
            state.write(&cancellation(number, "the session has ended"));
        }
        let uris: Vec<String> =
            state.uris.iter().filter(|(_, who)| who.contains(&number)).map(|(uri, _)| uri.clone()).collect();
        for uri in uris {
            if state.forsake(&uri, number) {
                let params = json!({"uri": uri});
                let (_, line) = state.ledger.open_own(Asker::Ignored, |number| {
                    json!({"jsonrpc": "2.0", "id": number, "method": "resources/unsubscribe", "params": params})
                        .to_string()
                });
                state.write(&line);
            }
        }
        drop(guard);
        drop(member); // with a child of its own, perhaps
    }

    fn told(&self, number: u64) -> Vec<String> {
        let mut state = self.lock();
        let Some(member) = state.members.get_mut(&number) else { return Vec::new() };
        let mut told = std::mem::take(&mut member.told);
        told.extend(member.alone.iter().flat_map(Alone::told));
        told
    }

    /// Takes a line of a session's client.
    fn take(&self, number: u64, text: &[u8]) -> Result<(), NotSent> {
        let Ok(line) = Line::read(text) else { return Ok(()) };
        let mut guard = self.lock();
        let state = &mut *guard;
        let member = state.members.get_mut(&number).ok_or(NotSent::Gone)?;
        if let Some(alone) = &member.alone {
            return alone.send(text);
        }
        if state.child.is_none() {
            return Err(NotSent::Gone);
        }
        match line.shape {
            Shape::Request => state.request(number, &line),
            Shape::Notification => {
                // Of all others, either we have said it ourselves, or it is about what the server cannot ask for.
                let cancelled = Id::of(line.cancelled.as_ref());
                match cancelled.filter(|_| line.method == "notifications/cancelled") {
                    Some(id) => state.cancel(number, &id),
                    None => Ok(()),
                }
            }
            // Nobody was asked anything.
            Shape::Result | Shape::Error => Ok(()),
        }
    }

    fn line(self: &Arc<Self>, text: &[u8]) -> bool {
        let Ok(line) = Line::read(text) else { return false };
        let mut guard = self.lock();
        let state = &mut *guard;
        let mut mail = Mail::new();
        match line.shape {
            Shape::Request => state.asked(&line),
            Shape::Notification => state.notified(&line, &mut mail),
            Shape::Result | Shape::Error => {
                let Routed::Answer(answer) = state.ledger.route(text) else { return true };
                match answer.entry.asker {
                    Asker::Member(number, uri) => {
                        if let (Some(uri), true) = (uri, answer.code.is_some()) {
                            state.forsake(&uri, number);
                        }
                        state.mail(number, answer.text, &mut mail);
                    }
                    Asker::Opening if answer.code.is_none() => state.opened(&answer.text, &mut mail),
                    Asker::Opening => {
                        let moved = self.part(state);
                        drop(guard);
                        moved.into_iter().for_each(drop);
                        return true;
                    }
                    Asker::Ignored => {}
                }
            }
        }
        drop(guard);
        deliver(mail);
        true
    }

    /// The server is not to be shared: every session gets a child of its own. Gives the child that was shared.
    fn part(&self, state: &mut State) -> Option<Child> {
        let log = &self.setting.log;
        log.warn("the MCP server refuses to be shared; each session has a process of its own", &[]);
        self.refused.store(true, Ordering::Relaxed);
        state.phase = Phase::Over;
        for member in state.members.values_mut() {
            let translation = Downgrade::before(Weak::clone(&member.session), log);
            let child = self.setting.children.spawn(&self.setting.launch, Arc::clone(&translation) as _);
            let Ok(child) = child else { continue }; // too many are being started: its deadline ends it
            let alone = translation.adopt(child);
            if let Some(opening) = member.opening.take() {
                let _ = alone.send(opening.as_bytes());
            }
            member.alone = Some(alone);
        }
        state.child.take()
    }

    fn ended(&self, end: &End) {
        let mut guard = self.lock();
        let state = &mut *guard;
        state.phase = Phase::Over;
        state.child = None;
        let shared = state.members.values().filter(|member| member.alone.is_none());
        let sessions: Vec<_> = shared.filter_map(|member| member.session.upgrade()).collect();
        drop(state.ledger.drain());
        drop(guard);
        sessions.iter().for_each(|session| session.ended(end));
    }
}

impl State {
    fn write(&self, line: &str) {
        if let Some(child) = &self.child {
            let _ = child.send(line.as_bytes());
        }
    }

    fn tell(&mut self, number: u64, message: String) -> Result<(), NotSent> {
        if let Some(member) = self.members.get_mut(&number) {
            member.told.push(message);
        }
        Ok(())
    }

    fn mail(&self, number: u64, message: String, mail: &mut Mail) {
        if let Some(member) = self.members.get(&number) {
            mail.push((Weak::clone(&member.session), message));
        }
    }

    fn request(&mut self, number: u64, line: &Line<'_>) -> Result<(), NotSent> {
        let Some(id) = line.readable_id() else { return Ok(()) };
        let uri = || {
            let params: Value = serde_json::from_str(line.params()?.raw).ok()?;
            params.get("uri")?.as_str().map(str::to_owned)
        };
        let done = || format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#);
        match &*line.method {
            "initialize" => {
                if let Phase::Open(result) = &self.phase {
                    let answer = initialized(id, result);
                    return self.tell(number, answer);
                }
                if let Some(member) = self.members.get_mut(&number) {
                    member.opening = Some(line.text.into());
                }
                Ok(())
            }
            "ping" => self.tell(number, done()),
            "logging/setLevel" => {
                let why = "the log level belongs to a process that several sessions share";
                self.tell(number, rpc_error(-32601, why, Some(id)))
            }
            "resources/subscribe" => {
                let uri = uri();
                if let Some(uri) = &uri {
                    if self.uris.len() >= STDIO_ASKED_MAX && !self.uris.contains_key(uri) {
                        return self.tell(number, rpc_error(-32603, "too many subscriptions", Some(id)));
                    }
                    self.uris.entry(uri.clone()).or_default().insert(number);
                }
                self.forward(number, line, uri)
            }
            "resources/unsubscribe" => match uri() {
                // The others go on.
                Some(uri) if !self.forsake(&uri, number) => self.tell(number, done()),
                _ => self.forward(number, line, None),
            },
            _ => self.forward(number, line, None),
        }
    }

    /// Sends a client's request under a number of ours.
    fn forward(&mut self, number: u64, line: &Line<'_>, uri: Option<String>) -> Result<(), NotSent> {
        let Some((ours, text)) = self.ledger.open(line, Asker::Member(number, uri)) else {
            return self.tell(number, rpc_error(-32600, "one member name twice", line.readable_id()));
        };
        let sent = self.child.as_ref().map_or(Err(NotSent::Gone), |child| child.send(text.as_bytes()));
        if sent.is_err() {
            self.ledger.close(ours);
        }
        sent
    }

    /// A session gives up a resource. Says whether nobody is left who wants it.
    fn forsake(&mut self, uri: &str, number: u64) -> bool {
        let Some(who) = self.uris.get_mut(uri) else { return true };
        who.remove(&number);
        let last = who.is_empty();
        if last {
            self.uris.remove(uri);
        }
        last
    }

    /// A session's client cancels one of its own requests, whichever id others use.
    fn cancel(&mut self, number: u64, id: &Id) -> Result<(), NotSent> {
        let found = self.ledger.iter_mut().find_map(|(ours, entry)| {
            let theirs = matches!(entry.asker, Asker::Member(owner, _) if owner == number);
            (theirs && Id::read(entry.id()).as_ref() == Some(id)).then_some(ours)
        });
        let Some(ours) = found else { return Ok(()) };
        self.ledger.close(ours);
        self.write(&cancellation(ours, "the client cancelled it"));
        Ok(())
    }

    /// The server asks for something; nobody has said that they can do it.
    fn asked(&self, line: &Line<'_>) {
        let Some(id) = line.readable_id() else { return };
        self.write(&match &*line.method {
            "ping" => format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#),
            _ => rpc_error(-32601, "several sessions share this process; none can be asked", Some(id)),
        });
    }

    fn notified(&mut self, line: &Line<'_>, mail: &mut Mail) {
        if line.ambiguous {
            return;
        }
        let to: Vec<u64> = match &*line.method {
            "notifications/progress" => {
                if let Routed::Event { number, text, .. } = self.ledger.route(line.text.as_bytes())
                    && let Some(Asker::Member(owner, _)) = self.ledger.entry(number).map(|entry| &entry.asker)
                {
                    self.mail(*owner, text, mail);
                }
                return;
            }
            "notifications/message" => {
                let only = self.ledger.only().and_then(|number| self.ledger.entry(number));
                match only.map(|entry| &entry.asker) {
                    Some(Asker::Member(owner, _)) => vec![*owner],
                    _ => Vec::new(),
                }
            }
            "notifications/tools/list_changed"
            | "notifications/prompts/list_changed"
            | "notifications/resources/list_changed" => self.members.keys().copied().collect(),
            "notifications/resources/updated" => {
                let params: Option<Value> =
                    line.params().and_then(|params| serde_json::from_str(params.raw).ok());
                let uri = params.as_ref().and_then(|params| params.get("uri")?.as_str());
                uri.and_then(|uri| self.uris.get(uri)).into_iter().flatten().copied().collect()
            }
            _ => Vec::new(),
        };
        let text = one_line(line.text);
        to.into_iter().for_each(|number| self.mail(number, text.to_string(), mail));
    }

    /// Our handshake is done: sessions that wait for it have theirs.
    fn opened(&mut self, answer: &str, mail: &mut Mail) {
        self.write(translate::INITIALIZED);
        let mut message: Value = serde_json::from_str(answer).unwrap_or_default();
        let mut result = message.get_mut("result").map(Value::take).unwrap_or_default();
        if let Some(capabilities) = result.get_mut("capabilities").and_then(Value::as_object_mut) {
            capabilities.remove("logging");
            capabilities.remove("tasks");
        }
        for member in self.members.values_mut() {
            let Some(opening) = member.opening.take() else { continue };
            let line = Line::read(opening.as_bytes()).ok();
            if let Some(id) = line.and_then(|line| line.readable_id()) {
                mail.push((Weak::clone(&member.session), initialized(id, &result)));
            }
        }
        self.phase = Phase::Open(result);
    }
}

fn initialized(id: &str, result: &Value) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)
}

fn deliver(mail: Mail) {
    for (session, message) in mail {
        if let Some(session) = session.upgrade() {
            session.line(message.as_bytes());
        }
    }
}
