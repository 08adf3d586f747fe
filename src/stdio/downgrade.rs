//! Sessions in front of a server that knows none: between a session and its child, and out of the way elsewhere.
//!
//! ```text
//!  session ── initialize ──▶ straight ──▶ child
//!                               │ it refuses as only a modern server does
//!                               ▼
//!                            probing ── server/discover ──▶ child
//!                               │ it answers                 │ it does not: its refusal goes to the client
//!                               ▼                            ▼
//!                          translating                    straight
//! ```
//!
//! Translating: every request gets the `_meta` that its session implies, and a number of ours. `initialize` is answered
//! from `server/discover`; `ping`, `logging/setLevel`, `resources/subscribe` and `resources/unsubscribe` are answered
//! here; changes come from a `subscriptions/listen` of ours. A result that asks for input becomes requests to the client,
//! and its answers a new call with the `requestState` that the server gave.
//!
//! A session calls [`Alone::send`] under its lock. So nothing is told to the session from there; what there is to tell
//! waits until [`Alone::told`] is asked.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use serde_json::{Value, json};

use super::cut::too_large;
use super::id::Id;
use super::ladder;
use super::line::{CAPABILITIES_MEMBER, CLIENT_MEMBER, LOG_LEVEL_MEMBER, Line, SERVER_MEMBER, Shape};
use super::process::{Child, End, NotSent, Sink};
use super::remap::{Answer, Ledger, Routed, cancellation};
use super::splice::Splice;
use super::translate::{Filter, NEWEST_LEGACY};
use crate::limits::{STDIO_ASKED_MAX, STDIO_ROUNDS_MAX};
use crate::log::Log;
use crate::mcp::message::VERSION_MEMBER;
use crate::reply::rpc_error;

/// The child's end of a session. The process is stopped when it is dropped.
pub(super) struct Alone(Arc<Downgrade>);

/// What stands between.
pub(super) struct Downgrade {
    session: Weak<dyn Sink>,
    log: Log,
    state: Mutex<State>,
}

struct State {
    child: Option<Child>,
    mode: Mode,
    /// Lines that the session has not been given yet.
    told: Vec<String>,
}

enum Mode {
    /// Nothing was said yet.
    Fresh,
    /// `initialize` is not answered yet; its text.
    Opening(Box<str>),
    /// Nothing is translated.
    Straight,
    /// The text of `initialize`, and how it was refused.
    Probing(Box<str>, Box<str>),
    Translating(Box<Translation>),
}

/// A session at a modern server.
struct Translation {
    /// What every request says in `_meta`.
    capabilities: Value,
    client: Value,
    level: Option<String>,
    server: Value,
    ledger: Ledger<Asker>,
    listen: Option<u64>,
    uris: Vec<String>,
    /// What the client is asked, by the id that the question has: the call, and the key of its answer.
    asked: HashMap<Id, (u64, String)>,
    asks: u64,
    /// Calls that wait for answers of the client, by a number of their own.
    calls: BTreeMap<u64, Call>,
}

enum Asker {
    /// A call of the client: its text, and how often it was asked for input.
    Client(Box<str>, u32),
    Listen,
}

struct Call {
    /// As it goes to the server, but for the answers.
    text: Box<str>,
    round: u32,
    /// `requestState`, as it was written.
    state: Option<Box<str>>,
    answers: BTreeMap<String, Option<String>>,
}

/// The number of the probe, which is the first request of ours at this child.
const PROBE: u64 = 1;

impl Drop for Alone {
    fn drop(&mut self) {
        let child = self.0.lock().child.take();
        drop(child);
    }
}

impl Alone {
    /// Writes one line of the client, or what it means; never blocks.
    pub(super) fn send(&self, line: &[u8]) -> Result<(), NotSent> {
        let mut state = self.0.lock();
        let State { child, mode, told } = &mut *state;
        let child = child.as_ref().ok_or(NotSent::Gone)?;
        match mode {
            Mode::Fresh => {
                if Line::read(line).is_ok_and(|line| line.method == "initialize") {
                    *mode = Mode::Opening(String::from_utf8_lossy(line).into());
                }
                child.send(line)
            }
            Mode::Opening(_) | Mode::Straight => child.send(line),
            Mode::Probing(..) => Err(NotSent::Full),
            Mode::Translating(translation) => {
                let Ok(line) = Line::read(line) else { return Ok(()) };
                translation.take_from_client(&line, child, told)
            }
        }
    }

    /// What there is for the session.
    pub(super) fn told(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().told)
    }
}

impl Downgrade {
    /// Stands before `session`, which has no child yet.
    pub(super) fn new<S: Sink + 'static>(session: &Arc<S>, log: &Log) -> Arc<Self> {
        let session: Arc<dyn Sink> = Arc::<S>::clone(session);
        Self::before(Arc::downgrade(&session), log)
    }

    /// As [`Downgrade::new`], where the session may be over already.
    pub(super) fn before(session: Weak<dyn Sink>, log: &Log) -> Arc<Self> {
        let state = State { child: None, mode: Mode::Fresh, told: Vec::new() };
        Arc::new(Self { session, log: log.clone(), state: Mutex::new(state) })
    }

    /// The child is on its way.
    pub(super) fn adopt(self: &Arc<Self>, child: Child) -> Alone {
        self.lock().child = Some(child);
        Alone(Arc::clone(self))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink for Downgrade {
    fn line(&self, text: &[u8]) -> bool {
        let Some(session) = self.session.upgrade() else { return true };
        let mut guard = self.lock();
        let state = &mut *guard;
        let Some(child) = &state.child else { return true };
        match &mut state.mode {
            Mode::Fresh | Mode::Straight => {
                drop(guard);
                return session.line(text);
            }
            Mode::Opening(opening) => {
                let line = Line::read(text).ok();
                let answers = line.as_ref().filter(|line| matches!(line.shape, Shape::Result | Shape::Error));
                let Some(answer) = answers else {
                    drop(guard);
                    return session.line(text);
                };
                if !is_modern_refusal(answer) {
                    state.mode = Mode::Straight;
                    drop(guard);
                    return session.line(text);
                }
                let _ = child.send(ladder::own_request(PROBE, "server/discover", None).as_bytes());
                let opening = std::mem::take(opening);
                state.mode = Mode::Probing(opening, answer.text.into());
                return true;
            }
            Mode::Probing(opening, refusal) => {
                let Ok(line) = Line::read(text) else { return false };
                if line.id.and_then(|id| id.number()) != Some(PROBE) {
                    return true;
                }
                let result: Option<Value> =
                    line.result().and_then(|result| serde_json::from_str(result.raw).ok());
                match result.filter(|result| result.get("supportedVersions").is_some()) {
                    Some(discovered) => {
                        self.log.info("the MCP server has no sessions; they are translated", &[]);
                        let (translation, answer) = Translation::begin(opening, discovered);
                        state.told.push(answer);
                        state.mode = Mode::Translating(Box::new(translation));
                    }
                    None => {
                        let refusal = String::from(std::mem::take(refusal));
                        state.told.push(refusal);
                        state.mode = Mode::Straight;
                    }
                }
            }
            Mode::Translating(translation) => {
                if !translation.take_from_child(text, child, &mut state.told) {
                    return false;
                }
            }
        }
        let told = std::mem::take(&mut state.told);
        drop(guard);
        for line in told {
            session.line(line.as_bytes());
        }
        true
    }

    fn too_long(&self) {
        let only = match &self.lock().mode {
            Mode::Translating(translation) => Some(translation.ledger.only()),
            _ => None,
        };
        match (only, self.session.upgrade()) {
            (Some(Some(number)), _) => drop(self.line(too_large(&number.to_string()).as_bytes())),
            (None, Some(session)) => session.too_long(),
            (Some(None), _) | (None, None) => {}
        }
    }

    fn ended(&self, end: &End) {
        if let Some(session) = self.session.upgrade() {
            session.ended(end);
        }
    }
}

/// How a server without sessions answers `initialize` (M-21): it names its versions, has no such method, or misses what
/// every modern request has.
fn is_modern_refusal(line: &Line<'_>) -> bool {
    matches!(line.error_code(), Some(-32022 | -32601 | -32602 | -32600))
}

impl Translation {
    /// A session at a server that answered `server/discover` with this, and the answer to its `initialize`.
    fn begin(opening: &str, discovered: Value) -> (Self, String) {
        let message: Value = serde_json::from_str(opening).unwrap_or_default();
        let params = message.get("params").cloned().unwrap_or_default();
        let part = |name: &str| params.get(name).cloned();
        let asked = params.get("protocolVersion").and_then(Value::as_str).unwrap_or_default();
        let known = ["2024-11-05", "2025-03-26", "2025-06-18", NEWEST_LEGACY];
        let version = known.iter().find(|known| **known == asked).unwrap_or(&NEWEST_LEGACY);
        let capabilities = discovered.get("capabilities").cloned().unwrap_or_else(|| json!({}));
        let unnamed = || json!({"name": "MCP server", "version": "0"});
        let server = discovered.get("_meta").and_then(|meta| meta.get(SERVER_MEMBER)).cloned();
        let mut result = json!({"protocolVersion": version, "capabilities": capabilities,
            "serverInfo": server.unwrap_or_else(unnamed)});
        if let (Some(told), Some(result)) = (discovered.get("instructions"), result.as_object_mut()) {
            result.insert("instructions".into(), told.clone());
        }
        let id =
            Line::read(opening.as_bytes()).ok().and_then(|line| line.readable_id()).unwrap_or("0").to_owned();
        let answer = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
        let mut ledger = Ledger::default();
        let (probe, _) = ledger.open_own(Asker::Listen, |_| String::new());
        ledger.close(probe); // its number is used up
        // A session that never set a level is told everything, as sessions are.
        let level = capabilities.get("logging").map(|_| "debug".to_owned());
        let translation = Self {
            capabilities: part("capabilities").unwrap_or_else(|| json!({})),
            client: part("clientInfo").unwrap_or_default(),
            level,
            server: capabilities,
            ledger,
            listen: None,
            uris: Vec::new(),
            asked: HashMap::new(),
            asks: 0,
            calls: BTreeMap::new(),
        };
        (translation, answer)
    }

    fn take_from_client(
        &mut self,
        line: &Line<'_>,
        child: &Child,
        told: &mut Vec<String>,
    ) -> Result<(), NotSent> {
        match line.shape {
            Shape::Request => self.request(line, child, told),
            Shape::Notification => self.notification(line, child),
            Shape::Result | Shape::Error => self.answered(line, child, told),
        }
    }

    fn request(&mut self, line: &Line<'_>, child: &Child, told: &mut Vec<String>) -> Result<(), NotSent> {
        let Some(id) = line.readable_id() else { return Ok(()) };
        let params: Value = match &*line.method {
            "logging/setLevel" | "resources/subscribe" | "resources/unsubscribe" => {
                line.params().and_then(|params| serde_json::from_str(params.raw).ok()).unwrap_or_default()
            }
            _ => Value::Null,
        };
        let text = |name: &str| params.get(name).and_then(Value::as_str).map(str::to_owned);
        match (&*line.method, text("level"), text("uri")) {
            ("ping", ..) => {}
            ("logging/setLevel", Some(level), _) => self.level = Some(level),
            ("resources/subscribe", _, Some(uri)) => {
                if !self.uris.contains(&uri) && self.uris.len() < STDIO_ASKED_MAX {
                    self.uris.push(uri);
                }
                self.listen(child);
            }
            ("resources/unsubscribe", _, Some(uri)) => {
                self.uris.retain(|known| *known != uri);
                self.listen(child);
            }
            ("logging/setLevel" | "resources/subscribe" | "resources/unsubscribe", ..) => {
                told.push(rpc_error(-32602, "a parameter is missing", Some(id)));
                return Ok(());
            }
            _ => {
                let text = self.with_meta(line);
                return self.call(text, 0, child);
            }
        }
        told.push(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#));
        Ok(())
    }

    /// Sends a call of the client, whose text says everything.
    fn call(&mut self, text: String, round: u32, child: &Child) -> Result<(), NotSent> {
        let Ok(line) = Line::read(text.as_bytes()) else { return Ok(()) };
        let Some((number, out)) = self.ledger.open(&line, Asker::Client(text.as_str().into(), round)) else {
            return Ok(());
        };
        let sent = child.send(out.as_bytes());
        if sent.is_err() {
            self.ledger.close(number);
        }
        sent
    }

    /// The text of a request with the `_meta` that its session implies.
    fn with_meta(&self, line: &Line<'_>) -> String {
        let mut meta = json!({VERSION_MEMBER: ladder::OURS, CAPABILITIES_MEMBER: self.capabilities});
        if let Some(meta) = meta.as_object_mut() {
            if !self.client.is_null() {
                meta.insert(CLIENT_MEMBER.into(), self.client.clone());
            }
            if let Some(level) = &self.level {
                meta.insert(LOG_LEVEL_MEMBER.into(), level.clone().into());
            }
        }
        let meta = meta.to_string();
        let mut splice = Splice::new(line.text);
        let inner = meta.get(1..meta.len() - 1).unwrap_or_default();
        let comma =
            |raw: &str| if raw.get(1..).unwrap_or_default().trim_start().starts_with('}') { "" } else { "," };
        if let Some(theirs) = line.meta.filter(|meta| meta.raw.starts_with('{')) {
            splice.replace(theirs.at + 1..theirs.at + 1, format!("{inner}{}", comma(theirs.raw)));
        } else if let Some(params) = line.params() {
            splice.replace(params.at + 1..params.at + 1, format!(r#""_meta":{meta}{}"#, comma(params.raw)));
        } else if line.body.is_none() {
            let end = line.text.trim_end().len().saturating_sub(1);
            splice.replace(end..end, format!(r#","params":{{"_meta":{meta}}}"#));
        }
        splice.line()
    }

    fn notification(&mut self, line: &Line<'_>, child: &Child) -> Result<(), NotSent> {
        match &*line.method {
            "notifications/initialized" => self.listen(child),
            "notifications/cancelled" => {
                let Some(id) = Id::of(line.cancelled.as_ref()) else { return Ok(()) };
                let found = self.ledger.iter_mut().find_map(|(number, entry)| {
                    let ours = matches!(entry.asker, Asker::Client(..))
                        && Id::read(entry.id()).as_ref() == Some(&id);
                    ours.then_some(number)
                });
                if let Some(number) = found {
                    self.ledger.close(number);
                    return child.send(cancellation(number, "the client cancelled it").as_bytes());
                }
                self.calls.retain(|_, call| {
                    Line::read(call.text.as_bytes()).ok().and_then(|line| Id::of(line.id.as_ref())).as_ref()
                        != Some(&id)
                });
            }
            // Roots are asked for where they are needed, and a client of this era has no progress to tell.
            _ => {}
        }
        Ok(())
    }

    /// Opens the subscription anew, with everything that this session is to be told.
    fn listen(&mut self, child: &Child) {
        let asked = json!({"notifications": {"toolsListChanged": true, "promptsListChanged": true,
            "resourcesListChanged": true, "resourceSubscriptions": self.uris}});
        let filter = Filter::honoured(Some(&asked.to_string()), &self.server).json();
        let before = self.listen.take();
        if filter.as_object().is_some_and(|filter| !filter.is_empty()) {
            let (number, line) = self.ledger.open_own(Asker::Listen, |number| {
                let params = json!({"notifications": filter, "_meta": ladder::own_meta(&json!({}))});
                json!({"jsonrpc": "2.0", "id": number, "method": ladder::LISTEN, "params": params})
                    .to_string()
            });
            self.listen = Some(number);
            let _ = child.send(line.as_bytes());
        }
        if let Some(before) = before {
            self.ledger.close(before);
            let _ = child.send(cancellation(before, "another one follows").as_bytes());
        }
    }

    /// The client answers what it was asked. With the last answer, the call goes to the server again.
    fn answered(&mut self, line: &Line<'_>, child: &Child, told: &mut Vec<String>) -> Result<(), NotSent> {
        let asked = Id::of(line.id.as_ref()).and_then(|id| self.asked.remove(&id));
        let Some((number, key)) = asked else { return Ok(()) };
        let Some(call) = self.calls.get_mut(&number) else { return Ok(()) };
        let Some(result) = line.result() else {
            // An error cannot cross: results are all that a modern server is answered with.
            let Some(call) = self.calls.remove(&number) else { return Ok(()) };
            let error = line.body.map_or("{}", |body| body.raw);
            if let Some(id) = Line::read(call.text.as_bytes()).ok().and_then(|line| line.readable_id()) {
                told.push(format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#));
            }
            return Ok(());
        };
        call.answers.insert(key, Some(result.raw.to_owned()));
        if call.answers.values().any(Option::is_none) {
            return Ok(());
        }
        let Some(call) = self.calls.remove(&number) else { return Ok(()) };
        self.again(&call, child)
    }

    /// Sends a call once more, with the answers and the state that the server gave.
    fn again(&mut self, call: &Call, child: &Child) -> Result<(), NotSent> {
        let Ok(line) = Line::read(call.text.as_bytes()) else { return Ok(()) };
        let Some(params) = line.params() else { return Ok(()) };
        let given = call.answers.iter().filter_map(|(key, answer)| {
            answer.as_ref().map(|answer| format!("{}:{answer}", Value::from(&**key)))
        });
        let given = format!("{{{}}}", given.collect::<Vec<_>>().join(","));
        let mut splice = Splice::new(line.text);
        // A later round replaces what the one before it said.
        match line.responses {
            Some(before) => splice.replace(before.range(), given),
            None => splice.replace(params.at + 1..params.at + 1, format!(r#""inputResponses":{given},"#)),
        }
        match (line.state, &call.state) {
            (Some(before), Some(state)) => splice.replace(before.range(), state.to_string()),
            (None, Some(state)) => {
                splice.replace(params.at + 1..params.at + 1, format!(r#""requestState":{state},"#));
            }
            (_, None) => {}
        }
        let text = splice.line();
        self.call(text, call.round + 1, child)
    }

    fn take_from_child(&mut self, text: &[u8], child: &Child, told: &mut Vec<String>) -> bool {
        let Ok(line) = Line::read(text) else { return false };
        if line.shape == Shape::Notification && line.method == "notifications/message" && !line.ambiguous {
            told.push(line.text.trim().to_owned()); // there is one client, so it is for that
            return true;
        }
        match self.ledger.route(text) {
            Routed::Answer(answer) => self.concluded(answer, child, told),
            Routed::Event { number, text, .. } if Some(number) != self.listen => told.push(text),
            Routed::Event { .. } if line.method != "notifications/subscriptions/acknowledged" => {
                let mut message: Value = serde_json::from_str(line.text).unwrap_or_default();
                if let Some(params) = message.get_mut("params").and_then(Value::as_object_mut) {
                    params.remove("_meta");
                }
                told.push(message.to_string());
            }
            Routed::Event { .. } | Routed::Ended(_) | Routed::Nobody(_) => {}
        }
        true
    }

    fn concluded(&mut self, answer: Answer<Asker>, child: &Child, told: &mut Vec<String>) {
        let Asker::Client(call, round) = answer.entry.asker else {
            self.listen = None;
            return;
        };
        let line = Line::read(answer.text.as_bytes()).ok();
        let asks = line.as_ref().filter(|line| {
            line.result_type.and_then(|piece| piece.text()).as_deref() == Some("input_required")
        });
        let Some(line) = asks else {
            told.push(answer.text);
            return;
        };
        let result: Value =
            line.result().and_then(|result| serde_json::from_str(result.raw).ok()).unwrap_or_default();
        let requests = result.get("inputRequests").and_then(Value::as_object).cloned().unwrap_or_default();
        if round >= STDIO_ROUNDS_MAX || self.asked.len() + requests.len() > STDIO_ASKED_MAX {
            let id = line.readable_id();
            told.push(rpc_error(-32603, "the MCP server asks for more than can be asked", id));
            return;
        }
        self.asks += 1;
        let number = self.asks;
        let mut waiting = Call {
            text: call,
            round,
            state: line.state.map(|state| state.raw.into()),
            answers: BTreeMap::new(),
        };
        for (at, (key, request)) in requests.into_iter().enumerate() {
            let id = format!("ask-{number}-{at}");
            let method = request.get("method").cloned().unwrap_or_default();
            let params = request.get("params").cloned().unwrap_or_else(|| json!({}));
            told.push(json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string());
            self.asked.insert(Id::Text(id.into()), (number, key.clone()));
            waiting.answers.insert(key, None);
        }
        if waiting.answers.is_empty() {
            let _ = self.again(&waiting, child);
        } else {
            self.calls.insert(number, waiting);
        }
    }
}
