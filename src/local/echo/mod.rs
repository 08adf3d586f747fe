//! The MCP server of `--local`: it says back what it is told, in both eras and over both transports.
//!
//! ```text
//!            ┌ one answer ──────────────────────▶ application/json
//! POST /mcp ─┤
//!            └ the tool `count` ─ its own thread ─▶ text/event-stream, one event at a time
//! GET /sse ── an open stream ◀─ answers ─ POST /messages/?session_id=…
//! ```
//!
//! It checks no token: the proxy in front of it does, and tells it who calls in headers of its own. Sessions of the
//! legacy era are names and nothing else; they exist so that the proxy has some to bind.

mod content;

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::{Value, json};

use crate::edge::feed::{Feed, feed};
use crate::edge::http1::{Fault, Incoming, Method};
use crate::edge::{Answer, Handler};
use crate::header;
use crate::limits::{LOCAL_COUNTS_MAX, LOCAL_SESSIONS_MAX, STACK_BYTES};
use crate::reply::{HeaderValue, Reply};
use content::{Era, MODERN, Outcome, RpcError, answer, finish, response, text_result};

/// Between two numbers of the tool `count`: long enough to see that each arrives by itself.
const COUNT_PAUSE: Duration = Duration::from_millis(200);
/// Where the version stands in `_meta` (MCP 2026-07-28).
const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
/// Where the client's capabilities stand in `_meta` (MCP 2026-07-28).
const META_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";

/// The echo server.
#[derive(Debug, Default)]
pub struct Echo {
    /// Sessions of Streamable HTTP, the oldest first.
    sessions: Mutex<VecDeque<String>>,
    /// Streams of HTTP+SSE, the oldest first.
    streams: Mutex<VecDeque<(String, Feed)>>,
    counting: Arc<AtomicUsize>,
}

/// What was asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place {
    /// Streamable HTTP.
    Message,
    /// The end of a session.
    End,
    /// The stream of HTTP+SSE.
    Stream,
    /// A message for such a stream.
    Post,
}

/// One JSON-RPC message.
struct Rpc {
    id: Value,
    method: String,
    params: Value,
}

impl Rpc {
    /// Reads a request or a notification; `None` for a response, which nobody here waits for.
    fn read(value: Value) -> Option<Self> {
        let Value::Object(mut members) = value else { return None };
        let method = members.get("method")?.as_str()?.to_owned();
        let mut member = |name: &str| members.remove(name).unwrap_or_default();
        Some(Self { id: member("id"), params: member("params"), method })
    }
}

impl Echo {
    /// A server without sessions.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Streamable HTTP.
    fn message(&self, request: &Incoming) -> Answer {
        let Ok(value) = serde_json::from_slice::<Value>(request.body()) else {
            return error(400, &Value::Null, RpcError::new(-32700, "the body is not JSON"));
        };
        let version = value.pointer("/params/_meta").and_then(|meta| meta.get(META_VERSION)).cloned();
        match (value, version) {
            (value, Some(version)) => self.modern(value, &version, request),
            (Value::Array(batch), None) => self.batch(batch, request),
            (value, None) => self.legacy(value, request),
        }
    }

    /// 2026-07-28 (requirements M-01 to M-18).
    fn modern(&self, value: Value, version: &Value, request: &Incoming) -> Answer {
        let capable = value
            .pointer("/params/_meta")
            .is_some_and(|meta| meta.get(META_CAPABILITIES).is_some_and(Value::is_object));
        let Some(rpc) = Rpc::read(value) else { return Answer::Reply(Reply::new(400)) };
        if !version.as_str().is_some_and(|version| MODERN.contains(&version)) {
            let mut fault = RpcError::new(-32022, "this protocol version is not spoken here");
            fault.data = Some(json!({ "supported": MODERN, "requested": version }));
            return error(400, &rpc.id, fault);
        }
        if rpc.id.is_null() {
            return Answer::Reply(Reply::new(202));
        }
        if !capable {
            return error(400, &rpc.id, RpcError::new(-32602, "_meta must name the client's capabilities"));
        }
        match answer(Era::Modern, &rpc.method, &rpc.params, &caller(request)) {
            Outcome::Done(Err(fault)) if fault.code == -32601 => error(404, &rpc.id, fault),
            outcome => self.told(Era::Modern, rpc, outcome),
        }
    }

    /// 2025-03-26 to 2025-11-25 (requirements SH-02 to SH-14).
    fn legacy(&self, value: Value, request: &Incoming) -> Answer {
        let rpc = Rpc::read(value);
        if rpc.as_ref().is_some_and(|rpc| rpc.method == "initialize") {
            let Ok(session) = name() else { return Answer::Reply(Reply::new(500)) };
            let Some(rpc) = rpc else { return Answer::Reply(Reply::new(400)) };
            let Outcome::Done(result) = answer(Era::Legacy, &rpc.method, &rpc.params, &Value::Null) else {
                return Answer::Reply(Reply::new(500));
            };
            let mut sessions = lock(&self.sessions);
            if sessions.len() >= LOCAL_SESSIONS_MAX {
                sessions.pop_front();
            }
            sessions.push_back(session.clone());
            drop(sessions);
            let reply = Reply::json(200, response(&rpc.id, result).to_string());
            return Answer::Reply(reply.header(header::MCP_SESSION_ID, HeaderValue::cleaned(session)));
        }
        if let Err(reply) = self.in_session(request) {
            return Answer::Reply(reply);
        }
        match rpc {
            Some(rpc) if !rpc.id.is_null() => {
                let outcome = answer(Era::Legacy, &rpc.method, &rpc.params, &caller(request));
                self.told(Era::Legacy, rpc, outcome)
            }
            _ => Answer::Reply(Reply::new(202)),
        }
    }

    /// A batch of 2025-03-26 (SH-01): its answers in one array. Counting has no stream here, so it is done at once.
    fn batch(&self, batch: Vec<Value>, request: &Incoming) -> Answer {
        if let Err(reply) = self.in_session(request) {
            return Answer::Reply(reply);
        }
        let caller = caller(request);
        let requests = batch.into_iter().filter_map(Rpc::read).filter(|rpc| !rpc.id.is_null());
        let answers: Vec<Value> = requests
            .map(|rpc| match answer(Era::Legacy, &rpc.method, &rpc.params, &caller) {
                Outcome::Done(result) => response(&rpc.id, result),
                Outcome::Count { to, .. } => response(&rpc.id, Ok(text_result(&format!("counted to {to}")))),
            })
            .collect();
        Answer::Reply(match answers.is_empty() {
            true => Reply::new(202),
            false => Reply::json(200, Value::Array(answers).to_string()),
        })
    }

    fn in_session(&self, request: &Incoming) -> Result<(), Reply> {
        let Some(session) = request.header_str(header::MCP_SESSION_ID) else { return Err(Reply::new(400)) };
        match lock(&self.sessions).iter().any(|known| known == session) {
            true => Ok(()),
            false => Err(Reply::new(404)),
        }
    }

    fn end(&self, request: &Incoming) -> Reply {
        if let Err(reply) = self.in_session(request) {
            return reply;
        }
        lock(&self.sessions)
            .retain(|known| Some(known.as_str()) != request.header_str(header::MCP_SESSION_ID));
        Reply::new(204)
    }

    /// Answers over Streamable HTTP: as JSON, or as a stream for what takes its time.
    fn told(&self, era: Era, rpc: Rpc, outcome: Outcome) -> Answer {
        match outcome {
            Outcome::Done(result) => Answer::Reply(Reply::json(200, response(&rpc.id, result).to_string())),
            Outcome::Count { to, token } => {
                let (feed, source) = feed();
                match self.count(era, rpc.id, to, token, feed) {
                    Ok(()) => Answer::Stream(event_stream(), source),
                    Err(reply) => Answer::Reply(reply),
                }
            }
        }
    }

    /// Counts in a thread of its own, since it takes its time.
    fn count(&self, era: Era, id: Value, to: u64, token: Option<Value>, feed: Feed) -> Result<(), Reply> {
        let counting = Arc::clone(&self.counting);
        if counting.fetch_add(1, Ordering::Relaxed) >= LOCAL_COUNTS_MAX {
            counting.fetch_sub(1, Ordering::Relaxed);
            return Err(Reply::new(503).header(header::RETRY_AFTER, HeaderValue::fixed("2")));
        }
        let left = Arc::clone(&counting);
        let run = move || {
            for n in 1..=to {
                thread::sleep(COUNT_PAUSE);
                let told = token.as_ref().map_or(Ok(()), |token| {
                    feed.send(event(&json!({
                        "jsonrpc": "2.0", "method": "notifications/progress",
                        "params": { "progressToken": token, "progress": n, "total": to },
                    })))
                });
                if told.is_err() || feed.is_gone() {
                    break;
                }
            }
            let result = finish(era, "tools/call", text_result(&format!("counted to {to}")));
            // A client that has gone is told nothing more.
            let _ = feed.send(event(&response(&id, Ok(result))));
            counting.fetch_sub(1, Ordering::Relaxed);
        };
        match thread::Builder::new().name("echo-count".to_owned()).stack_size(STACK_BYTES).spawn(run) {
            Ok(_) => Ok(()),
            Err(_) => {
                left.fetch_sub(1, Ordering::Relaxed);
                Err(Reply::new(503).header(header::RETRY_AFTER, HeaderValue::fixed("2")))
            }
        }
    }

    /// HTTP+SSE: opens a stream and says where messages for it go (SSE-01, SSE-02).
    fn open(&self) -> Answer {
        let Ok(session) = name() else { return Answer::Reply(Reply::new(500)) };
        let (feed, source) = feed();
        let mut streams = lock(&self.streams);
        streams.retain(|(_, feed)| !feed.is_gone());
        if streams.len() >= LOCAL_SESSIONS_MAX {
            streams.pop_front();
        }
        let first = format!("event: endpoint\ndata: /messages/?session_id={session}\n\n");
        if feed.send(first).is_err() {
            return Answer::Reply(Reply::new(500));
        }
        streams.push_back((session, feed));
        Answer::Stream(event_stream(), source)
    }

    /// HTTP+SSE: a message, whose answer goes over the stream (SSE-03).
    fn post(&self, request: &Incoming) -> Reply {
        let named =
            request.query().unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("session_id="));
        let found = lock(&self.streams).iter().find(|(known, _)| Some(known.as_str()) == named).cloned();
        let Some((_, feed)) = found else { return Reply::new(404) };
        let Ok(value) = serde_json::from_slice::<Value>(request.body()) else { return Reply::new(400) };
        let Some(rpc) = Rpc::read(value).filter(|rpc| !rpc.id.is_null()) else { return Reply::new(202) };
        let sent = match answer(Era::Legacy, &rpc.method, &rpc.params, &caller(request)) {
            Outcome::Done(result) => {
                feed.send(event(&response(&rpc.id, result))).map_err(|_| Reply::new(404))
            }
            Outcome::Count { to, token } => self.count(Era::Legacy, rpc.id, to, token, feed),
        };
        match sent {
            Ok(()) => Reply::new(202),
            Err(reply) => reply,
        }
    }
}

impl Handler for Echo {
    type Pass = Place;

    fn admit(&self, head: &Incoming) -> Result<Place, Reply> {
        let allow = |methods| Err(Reply::new(405).header(header::ALLOW, HeaderValue::fixed(methods)));
        match (head.path(), head.method()) {
            ("/mcp", Method::Post) => Ok(Place::Message),
            ("/mcp", Method::Delete) => Ok(Place::End),
            ("/mcp", _) => allow("POST, DELETE"),
            ("/sse", Method::Get) => Ok(Place::Stream),
            ("/sse", _) => allow("GET"),
            ("/messages/", Method::Post) => Ok(Place::Post),
            ("/messages/", _) => allow("POST"),
            _ => Err(Reply::new(404)),
        }
    }

    fn serve(&self, place: Place, request: &Incoming) -> Answer {
        match place {
            Place::Message => self.message(request),
            Place::End => Answer::Reply(self.end(request)),
            Place::Stream => self.open(),
            Place::Post => Answer::Reply(self.post(request)),
        }
    }

    fn refuse(&self, _head: Option<&Incoming>, fault: Fault) -> Reply {
        Reply::new(fault.status()).body(format!("{fault}\n"))
    }
}

/// What the proxy says of the caller, and whether a token came through, which must never be.
fn caller(request: &Incoming) -> Value {
    json!({
        "subject": request.header_str(header::X_MCP_AUTH_SUBJECT),
        "client_id": request.header_str(header::X_MCP_AUTH_CLIENT_ID),
        "scopes": request.header_str(header::X_MCP_AUTH_SCOPES),
        "issuer": request.header_str(header::X_MCP_AUTH_ISSUER),
        "token_seen": request.header(header::AUTHORIZATION).is_some(),
    })
}

fn error(status: u16, id: &Value, fault: RpcError) -> Answer {
    Answer::Reply(Reply::json(status, response(id, Err(fault)).to_string()))
}

fn event(message: &Value) -> String {
    format!("event: message\ndata: {message}\n\n")
}

fn event_stream() -> Reply {
    Reply::new(200)
        .header(header::CONTENT_TYPE, HeaderValue::fixed("text/event-stream"))
        .header(header::CACHE_CONTROL, HeaderValue::fixed("no-store"))
}

/// A name for a session that nobody guesses (SH-11).
fn name() -> io::Result<String> {
    let mut bytes = [0_u8; 16];
    SystemRandom::new().fill(&mut bytes).map_err(|_| io::Error::other("the system has no random numbers"))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
