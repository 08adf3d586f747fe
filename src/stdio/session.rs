//! One legacy session: a client, a child, and who waits for what.
//!
//! ```text
//!           POST initialize
//! (none) ───────────────────▶ STARTING ── its result ──▶ READY ── DELETE, idle, the child's end ──▶ OVER
//!                                └── its error, a deadline, the child's end ───────────────────────▶ OVER
//! ```
//!
//! Since the child serves this client alone, or seems to (`commons.rs`), ids and tokens stay as they are, and lines pass as
//! they came; what is kept is who waits. The state is behind one lock, held for the bookkeeping of one message: whatever goes out under it is put
//! into a queue. A client that leaves has not cancelled (SH-07); the child goes on, and so does its bookkeeping.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::commons::Peer;
use super::cut::too_large;
use super::id::Id;
use super::line::{Line, Shape};
use super::outlet::{Outlet, Tap};
use super::process::{End, NotSent, Sink};
use super::replay::EventId;
use super::splice::one_line;
use super::streams::{STANDING, Streams, initialized};
use crate::auth::Principal;
use crate::limits::{STDIO_ASKED_MAX, STDIO_CANCEL_TIME_MAX, STDIO_PENDING_MAX};
use crate::log::Log;
use crate::mcp::json::{Kind as Json, Reader};
use crate::mcp::revision::Revision;
use crate::reply::{HeaderValue, Reply, SessionFault, rpc_error};

/// How a client is connected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Transport {
    /// Streamable HTTP: an answer to each POST, and perhaps a standing stream.
    Streamable,
    /// HTTP+SSE: one stream, which is the session.
    Sse,
}

/// A session.
pub(super) struct Session {
    /// Its name, before it is bound to its principal.
    pub(super) name: Box<str>,
    pub(super) principal: Arc<Principal>,
    pub(super) transport: Transport,
    /// What the client is given for its name.
    sealed: HeaderValue,
    request_time: Duration,
    log: Log,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    /// Nobody said `initialize` yet.
    Fresh,
    Starting,
    Ready,
    Over,
}

struct State {
    child: Option<Peer>,
    phase: Phase,
    /// As the server wrote it in the answer to `initialize`.
    version: Box<str>,
    revision: Option<Revision>,
    streams: Streams,
    pending: HashMap<Id, Pending>,
    /// By progress token, the request that it belongs to.
    tokens: HashMap<Id, Id>,
    /// What the server asked the client, and on which stream.
    asked: HashMap<Id, u32>,
    used: Instant,
}

/// A request of the client that has no answer yet.
struct Pending {
    stream: u32,
    token: Option<Id>,
    deadline: Instant,
    /// When the client said that it wants no answer any more.
    cancelled: Option<Instant>,
    initialize: bool,
}

/// What became of a POST.
pub(super) enum Posted {
    /// It is to be answered with this.
    Reply(Reply),
    /// It is refused.
    Refused(SessionFault),
    /// The child does not take it now.
    Busy,
    /// The session is over.
    Over,
    /// The answer comes through the tap.
    Waits,
}

impl Session {
    pub(super) fn new(
        name: Box<str>,
        principal: Arc<Principal>,
        transport: Transport,
        sealed: HeaderValue,
        request_time: Duration,
        log: &Log,
    ) -> Self {
        let now = Instant::now();
        let state = State {
            child: None,
            phase: Phase::Fresh,
            version: Box::from(""),
            revision: None,
            streams: Streams::new(now),
            pending: HashMap::new(),
            tokens: HashMap::new(),
            asked: HashMap::new(),
            used: now,
        };
        Self { name, principal, transport, sealed, request_time, log: log.clone(), state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The child is on its way; lines may be sent to it.
    pub(super) fn adopt(&self, child: Peer) {
        let mut state = self.lock();
        // It may have ended already; then this is the last that is heard of it.
        if state.phase != Phase::Over {
            state.child = Some(child);
        }
    }

    /// What is called when the client of an outlet leaves.
    pub(super) fn when_gone(self: &Arc<Self>) -> impl FnOnce() + Send + 'static {
        let session: Weak<Self> = Arc::downgrade(self);
        move || {
            if let Some(session) = session.upgrade() {
                let mut state = session.lock();
                state.used = Instant::now();
                state.streams.forget_gone();
                if session.transport == Transport::Sse && !state.streams.is_listened_to() {
                    session.finish(&mut state, "the event stream was closed");
                }
            }
        }
    }

    /// Whether a request that names this protocol version fits (SH-16).
    pub(super) fn speaks(&self, version: Option<&[u8]>) -> bool {
        let state = self.lock();
        version.is_none_or(|version| state.version.is_empty() || version == state.version.as_bytes())
    }

    /// Whether there is a child that might answer.
    pub(super) fn is_over(&self) -> bool {
        self.lock().phase == Phase::Over
    }

    /// Whether `initialize` has been sent to the child.
    pub(super) fn has_begun(&self) -> bool {
        !matches!(self.lock().phase, Phase::Fresh)
    }

    /// Since when nobody uses it; `None` while somebody does.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let state = self.lock();
        (state.streams.are_quiet() && state.pending.is_empty()).then_some(state.used)
    }

    /// Takes the messages of one POST. `open` makes the way for an answer, where one is due, and gives its outlet.
    pub(super) fn post(&self, body: &[u8], takes_events: bool, open: &mut dyn FnMut() -> Outlet) -> Posted {
        let posted = self.take(body, takes_events, open);
        self.hear();
        posted
    }

    /// Takes what a translation has for the client, where there is one.
    fn hear(&self) {
        let told = self.lock().child.as_ref().map(Peer::told).unwrap_or_default();
        for line in told {
            self.line(line.as_bytes());
        }
    }

    fn take(&self, body: &[u8], takes_events: bool, open: &mut dyn FnMut() -> Outlet) -> Posted {
        let Ok(text) = std::str::from_utf8(body) else { return Posted::Refused(SessionFault::Unreadable) };
        let Ok(texts) = split(text) else { return Posted::Refused(SessionFault::Unreadable) };
        let batch = text.trim_start().starts_with('[');
        let mut lines = Vec::with_capacity(texts.len());
        for text in texts {
            match Line::read(text.as_bytes()) {
                Ok(line) => lines.push(line),
                Err(_) => return Posted::Refused(SessionFault::Unreadable),
            }
        }
        let now = Instant::now();
        let mut state = self.lock();
        state.used = now;
        if let Err(fault) = state.judge(&lines, batch, self.transport) {
            return fault;
        }
        let waits = lines.iter().filter(|line| line.shape == Shape::Request).count();
        let stream = match self.transport {
            Transport::Sse => STANDING,
            Transport::Streamable if waits == 0 => STANDING,
            Transport::Streamable => {
                let initialize = lines.iter().any(is_initialize);
                state.streams.open(open(), waits, batch, takes_events && !initialize, now)
            }
        };
        for line in &lines {
            let sent = match line.shape {
                Shape::Request => state.ask(line, stream, now + self.request_time),
                Shape::Notification => state.notify(line, now),
                Shape::Result | Shape::Error => state.reply(line, now, self.request_time),
            };
            if let Err(why) = sent {
                // What is pending of this POST is given up by its deadline, or with the child.
                let over = why == NotSent::Gone;
                if waits == 0 || self.transport == Transport::Sse {
                    return if over { Posted::Over } else { Posted::Busy };
                }
                state.fail(line, stream, now);
            }
        }
        if self.transport == Transport::Streamable && waits > 0 {
            return Posted::Waits;
        }
        Posted::Reply(Reply::new(202))
    }

    /// GET: a client listens, perhaps where it was interrupted.
    pub(super) fn listen(&self, outlet: &Outlet, last: Option<EventId>) {
        let now = Instant::now();
        let mut state = self.lock();
        state.used = now;
        if let Some(last) = last
            && state.streams.resume(outlet, last, now)
        {
            return;
        }
        let last = last.filter(|last| last.stream == STANDING);
        state.streams.listen(outlet.clone(), last, now);
    }

    /// The stream of HTTP+SSE begins.
    pub(super) fn open_standing(&self, outlet: Outlet, event: String) {
        self.lock().streams.open_standing(outlet, event);
    }

    /// Ends it: nobody is left waiting, and the child is stopped.
    pub(super) fn end(&self, why: &'static str) {
        self.finish(&mut self.lock(), why);
    }

    fn finish(&self, state: &mut State, why: &'static str) {
        if state.phase == Phase::Over {
            return;
        }
        self.log.debug("a session ended", &[("subject", &&*self.principal.subject), ("why", &why)]);
        state.over("the session has ended");
    }

    /// Deadlines, cancelled requests, silent streams; `true` while a request is under way.
    pub(super) fn tick(&self, now: Instant) -> bool {
        self.hear();
        let mut state = self.lock();
        let busy = !state.pending.is_empty();
        state.streams.tick(now);
        let due = |pending: &Pending| {
            now >= pending.deadline || pending.cancelled.is_some_and(|at| now >= at + STDIO_CANCEL_TIME_MAX)
        };
        let overdue: Vec<Id> =
            state.pending.iter().filter(|(_, pending)| due(pending)).map(|(id, _)| id.clone()).collect();
        for id in overdue {
            let Some(pending) = state.forget(&id) else { continue };
            if pending.cancelled.is_some() {
                state.streams.give_up(pending.stream);
                continue;
            }
            self.log.warn("the MCP server did not answer in time", &[]);
            let json = id.json();
            let error = rpc_error(-32603, "the MCP server did not answer in time", Some(&json));
            if pending.initialize {
                // It must not be cancelled, and without it there is no session.
                state.streams.answer(pending.stream, Reply::json(200, error));
                self.finish(&mut state, "initialize was not answered");
                return false;
            }
            let cancel = format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{json},"reason":"it took too long"}}}}"#
            );
            if let Some(child) = &state.child {
                let _ = child.send(cancel.as_bytes());
            }
            state.streams.emit(pending.stream, &error, true, now);
        }
        busy
    }
}

impl Sink for Session {
    fn line(&self, line: &[u8]) -> bool {
        let Ok(text) = std::str::from_utf8(line) else { return false };
        let Ok(texts) = split(text) else { return false };
        let now = Instant::now();
        let mut all = true;
        for text in texts {
            // A line that two readers could take differently leads nowhere.
            match Line::read(text.as_bytes()) {
                Ok(line) if !line.ambiguous => {
                    let mut state = self.lock();
                    self.lead(&mut state, &line, now);
                }
                _ => all = false,
            }
        }
        all
    }

    fn too_long(&self) {
        let only = {
            let state = self.lock();
            let mut waiting = state.pending.keys();
            waiting.next().filter(|_| waiting.len() == 0).map(Id::json)
        };
        if let Some(id) = only {
            self.line(too_large(&id).as_bytes());
        }
    }

    fn ended(&self, end: &End) {
        let mut state = self.lock();
        let why = if end.asked { "the session has ended" } else { "the MCP server died" };
        state.over(why);
    }
}

impl Session {
    /// Leads a message of the child to where it belongs.
    fn lead(&self, state: &mut State, line: &Line<'_>, now: Instant) {
        if state.phase == Phase::Over {
            return;
        }
        let text = line.text.trim();
        match line.shape {
            Shape::Result | Shape::Error => {
                let Some(id) = Id::of(line.id.as_ref()) else { return };
                let Some(pending) = state.forget(&id) else {
                    self.log.debug("the MCP server answered what nobody asked", &[]);
                    return;
                };
                if pending.initialize {
                    self.initialized(state, line, &pending);
                } else {
                    state.streams.emit(pending.stream, text, true, now);
                }
            }
            Shape::Request => self.lead_request(state, line, now),
            Shape::Notification => {
                let stream = state.stream_of_notification(line, now + self.request_time);
                state.streams.emit(stream, text, false, now);
            }
        }
    }

    /// The answer to `initialize` begins the session, or ends it.
    fn initialized(&self, state: &mut State, line: &Line<'_>, pending: &Pending) {
        let text = line.text.trim();
        let version = line.result().and_then(|result| version_of(result.raw));
        if line.shape == Shape::Result {
            let version = version.unwrap_or_default();
            state.revision = Revision::parse(&version);
            state.version = version.into();
            state.phase = Phase::Ready;
            let resumes = state.revision.is_some_and(Revision::streams_resume);
            state.streams.resumable(resumes && self.transport == Transport::Streamable);
        }
        if self.transport == Transport::Sse {
            state.streams.emit(STANDING, text, true, Instant::now());
        } else if line.shape == Shape::Result {
            state.streams.answer(pending.stream, initialized(text, self.sealed.clone()));
        } else {
            state.streams.answer(pending.stream, Reply::json(200, text));
        }
        if line.shape == Shape::Error {
            self.finish(state, "initialize was answered with an error");
        }
    }

    /// A request of the server goes to the client that works with it, who answers with another POST.
    fn lead_request(&self, state: &mut State, line: &Line<'_>, now: Instant) {
        let Some(id) = Id::of(line.id.as_ref()) else { return };
        let stream = state.stream_of_request();
        let nobody = stream == STANDING && !state.streams.is_listened_to();
        let refusal = if nobody && line.method == "ping" {
            self.log.debug("answered a ping of the MCP server", &[]);
            Some(format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, id.json()))
        } else if state.asked.len() >= STDIO_ASKED_MAX {
            Some(rpc_error(-32603, "too many requests at once", Some(&id.json())))
        } else {
            None
        };
        if let Some(answer) = refusal {
            if let Some(child) = &state.child {
                let _ = child.send(answer.as_bytes());
            }
            return;
        }
        state.asked.insert(id, stream);
        // Whoever is asked may take time to answer; what waits for that waits anew.
        state.extend(stream, now + self.request_time);
        state.streams.emit(stream, line.text.trim(), false, now);
    }
}

impl State {
    /// Whether these messages may be sent in this phase and revision.
    fn judge(&self, lines: &[Line<'_>], batch: bool, transport: Transport) -> Result<(), Posted> {
        let refused = |fault| Err(Posted::Refused(fault));
        let initialize = lines.iter().any(is_initialize);
        match self.phase {
            Phase::Over => return Err(Posted::Over),
            Phase::Starting | Phase::Ready if initialize => return refused(SessionFault::AlreadyInitialized),
            Phase::Fresh if !initialize && transport == Transport::Streamable => {
                return refused(SessionFault::Unreadable);
            }
            Phase::Fresh | Phase::Starting | Phase::Ready => {}
        }
        if batch && !self.revision.is_some_and(Revision::allows_batches) {
            return refused(SessionFault::NoBatches);
        }
        let requests = lines.iter().filter(|line| line.shape == Shape::Request);
        let mut seen = Vec::new();
        for id in requests.map(|line| Id::of(line.id.as_ref())) {
            let Some(id) = id else { return refused(SessionFault::Unreadable) };
            if self.pending.contains_key(&id) || seen.contains(&id) {
                return refused(SessionFault::IdInUse);
            }
            seen.push(id);
        }
        if self.pending.len() + seen.len() > STDIO_PENDING_MAX { Err(Posted::Busy) } else { Ok(()) }
    }

    fn send(&self, line: &Line<'_>) -> Result<(), NotSent> {
        self.child.as_ref().ok_or(NotSent::Gone)?.send(one_line(line.text.trim()).as_bytes())
    }

    /// A request of the client.
    fn ask(&mut self, line: &Line<'_>, stream: u32, deadline: Instant) -> Result<(), NotSent> {
        self.send(line)?;
        let Some(id) = Id::of(line.id.as_ref()) else { return Ok(()) };
        let token = Id::of(line.token.as_ref());
        if let Some(token) = &token {
            self.tokens.insert(token.clone(), id.clone());
        }
        let initialize = is_initialize(line);
        if initialize {
            self.phase = Phase::Starting;
        }
        self.pending.insert(id, Pending { stream, token, deadline, cancelled: None, initialize });
        Ok(())
    }

    /// A request that could not be sent is answered with an error.
    fn fail(&mut self, line: &Line<'_>, stream: u32, now: Instant) {
        if line.shape != Shape::Request {
            return;
        }
        let id = Id::of(line.id.as_ref()).map(|id| id.json());
        let error = rpc_error(-32603, "the MCP server does not take requests", id.as_deref());
        self.streams.emit(stream, &error, true, now);
    }

    /// A notification of the client.
    fn notify(&mut self, line: &Line<'_>, now: Instant) -> Result<(), NotSent> {
        if line.method == "notifications/cancelled"
            && let Some(pending) = Id::of(line.cancelled.as_ref()).and_then(|id| self.pending.get_mut(&id))
            && !pending.initialize
        {
            pending.cancelled = Some(now);
        }
        self.send(line)
    }

    /// The client's answer to a request of the server. One that nobody waits for any more goes no further.
    fn reply(&mut self, line: &Line<'_>, now: Instant, time: Duration) -> Result<(), NotSent> {
        let Some(stream) = Id::of(line.id.as_ref()).and_then(|id| self.asked.remove(&id)) else {
            return Ok(());
        };
        self.extend(stream, now + time);
        self.send(line)
    }

    fn extend(&mut self, stream: u32, deadline: Instant) {
        for pending in self.pending.values_mut() {
            if stream == STANDING || pending.stream == stream {
                pending.deadline = pending.deadline.max(deadline);
            }
        }
    }

    /// Takes a request out of the books.
    fn forget(&mut self, id: &Id) -> Option<Pending> {
        let pending = self.pending.remove(id)?;
        if let Some(token) = &pending.token
            && self.tokens.get(token) == Some(id)
        {
            self.tokens.remove(token);
        }
        Some(pending)
    }

    fn stream_of_request(&self) -> u32 {
        self.streams.only_waiting().unwrap_or_else(|| self.stream_of_anything())
    }

    /// The standing stream where somebody listens, else the oldest POST, else the standing stream for later.
    fn stream_of_anything(&self) -> u32 {
        match self.streams.oldest_waiting() {
            Some(post) if !self.streams.is_listened_to() => post,
            _ => STANDING,
        }
    }

    fn stream_of_notification(&mut self, line: &Line<'_>, deadline: Instant) -> u32 {
        match &*line.method {
            "notifications/progress" => {
                let asker = Id::of(line.progress.as_ref()).and_then(|token| self.tokens.get(&token).cloned());
                if let Some(pending) = asker.and_then(|id| self.pending.get_mut(&id)) {
                    pending.deadline = pending.deadline.max(deadline);
                    let stream = pending.stream;
                    if self.streams.can_tell(stream) {
                        return stream;
                    }
                }
                STANDING
            }
            "notifications/cancelled" => {
                let stream = Id::of(line.cancelled.as_ref()).and_then(|id| self.asked.remove(&id));
                match stream.filter(|stream| self.streams.can_tell(*stream)) {
                    Some(stream) => stream,
                    None => self.stream_of_anything(),
                }
            }
            // A log message belongs to the request under way, where there is only one: there it comes before its answer.
            "notifications/message" => self.stream_of_request(),
            _ => self.stream_of_anything(),
        }
    }

    /// The end, from whichever side: everybody who waits is told.
    fn over(&mut self, why: &str) {
        let first = self.phase != Phase::Over;
        self.phase = Phase::Over;
        self.child = None;
        if !first {
            return;
        }
        let now = Instant::now();
        for (id, pending) in std::mem::take(&mut self.pending) {
            let error = rpc_error(-32603, why, Some(&id.json()));
            if pending.initialize && pending.stream != STANDING {
                self.streams.answer(pending.stream, Reply::json(200, error));
            } else {
                self.streams.emit(pending.stream, &error, true, now);
            }
        }
        self.tokens.clear();
        self.asked.clear();
        self.streams.end();
    }
}

/// `text`, or the elements of the array that it is.
fn split(text: &str) -> Result<Vec<&str>, crate::mcp::json::JsonFault> {
    if !text.trim_start().starts_with('[') {
        return Ok(vec![text]);
    }
    let mut reader = Reader::new(text.as_bytes())?;
    let mut all = Vec::new();
    reader.array(|reader| {
        all.push(reader.raw()?.1);
        Ok(())
    })?;
    reader.end()?;
    Ok(all)
}

/// `protocolVersion` of an `initialize` result.
fn version_of(result: &str) -> Option<String> {
    let mut version = None;
    let mut reader = Reader::new(result.as_bytes()).ok()?;
    let read = reader.object(|reader, name| {
        if name == "protocolVersion" && reader.kind()? == Json::String {
            version = reader.string()?.decode().map(|text| text.into_owned());
            return Ok(());
        }
        reader.skip().map(drop)
    });
    read.ok().and(version)
}

fn is_initialize(line: &Line<'_>) -> bool {
    line.shape == Shape::Request && line.method == "initialize"
}

/// What carries the answer to one request.
pub(super) type Way = (Outlet, Tap);
