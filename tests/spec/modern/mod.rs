//! MCP servers that are programs, and clients of the modern era; the program is the scripted child.

mod downgraded;
mod large;
mod levels;
mod probing;
mod shared;
mod translated;

use std::time::{Duration, Instant};

use open_mcp_auth_proxy::config::Stdio;
use serde_json::{Value, json};

use super::world::issuer::Token;
use super::world::raw::Raw;
use super::world::{World, request, wait_until};

/// A world whose MCP server is the scripted child with these arguments.
pub fn world(arguments: &str, change: impl FnOnce(&mut Stdio)) -> World {
    let world = super::stdio::world(arguments, change);
    // So that many may call at once, from the first moment on.
    wait_until("the keys are there", || world.log.text().contains("keys loaded"));
    world
}

/// One modern client.
pub struct Client<'w> {
    world: &'w World,
    bearer: String,
    capabilities: Value,
    meta: Value,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub stream: bool,
    pub messages: Vec<Value>,
}

impl Answer {
    /// The response, which is the last message.
    pub fn last(&self) -> &Value {
        self.messages.last().unwrap_or(&Value::Null)
    }

    /// The text of a tool's result.
    pub fn text(&self) -> &str {
        self.last()["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text: {self:?}"))
    }

    pub fn code(&self) -> i64 {
        self.last()["error"]["code"].as_i64().unwrap_or_else(|| panic!("no error: {self:?}"))
    }
}

impl<'w> Client<'w> {
    pub fn new(world: &'w World) -> Self {
        Self::with(world, &world.token().scope("mcp_resources"))
    }

    pub fn with(world: &'w World, token: &Token) -> Self {
        let bearer = format!("Bearer {}", token.compact());
        Self { world, bearer, capabilities: json!({}), meta: json!({}) }
    }

    pub fn can(mut self, capabilities: Value) -> Self {
        self.capabilities = capabilities;
        self
    }

    /// Adds a member to `_meta`.
    pub fn meta(mut self, name: &str, value: Value) -> Self {
        self.meta[name] = value;
        self
    }

    /// A request as a modern client writes it, with these headers besides.
    pub fn text(&self, id: &str, method: &str, params: &Value, headers: &[(&str, &str)]) -> String {
        let mut params = params.clone();
        let mut meta = self.meta.clone();
        meta["io.modelcontextprotocol/protocolVersion"] = json!("2026-07-28");
        meta["io.modelcontextprotocol/clientCapabilities"] = self.capabilities.clone();
        params["_meta"] = meta;
        let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#);
        let name = params["name"].as_str().or_else(|| params["uri"].as_str());
        let mut all = vec![
            ("Authorization", self.bearer.as_str()),
            ("Accept", "application/json, text/event-stream"),
            ("MCP-Protocol-Version", "2026-07-28"),
            ("Mcp-Method", method),
        ];
        all.extend(name.filter(|_| method != "subscriptions/listen").map(|name| ("Mcp-Name", name)));
        all.extend_from_slice(headers);
        request("POST", "/mcp", &all, &body)
    }

    /// Sends a request whose answer is read later.
    pub fn send(&self, id: &str, method: &str, params: &Value) -> Raw {
        let mut raw = self.world.raw();
        raw.send(self.text(id, method, params, &[]));
        raw
    }

    pub fn ask(&self, id: &str, method: &str, params: &Value) -> Answer {
        self.ask_with(id, method, params, &[])
    }

    pub fn ask_with(&self, id: &str, method: &str, params: &Value, headers: &[(&str, &str)]) -> Answer {
        let mut raw = self.world.raw();
        raw.send(self.text(id, method, params, headers));
        read(&mut raw)
    }

    /// `tools/call`
    pub fn call(&self, tool: &str, arguments: Value) -> Answer {
        self.ask("1", "tools/call", &json!({"name": tool, "arguments": arguments}))
    }

    /// Every line that the child has received.
    pub fn seen(&self) -> Vec<String> {
        let answer = self.call("seen", json!({}));
        serde_json::from_str(answer.text()).unwrap()
    }
}

/// Reads a whole answer, JSON or events.
pub fn read(raw: &mut Raw) -> Answer {
    let answer = raw.answer().expect("an answer");
    let stream = answer.header("content-type") == Some("text/event-stream");
    let text = answer.text();
    let messages = if stream {
        text.split("\n\n").filter_map(data).collect()
    } else {
        serde_json::from_str(&text).into_iter().collect()
    };
    Answer { status: answer.status, stream, messages }
}

fn data(event: &str) -> Option<Value> {
    let data = event.lines().find_map(|line| line.strip_prefix("data: "))?;
    Some(serde_json::from_str(data).unwrap_or_else(|err| panic!("{err}: {data}")))
}

/// The events of an answer that does not end, as they come.
pub struct Events {
    raw: Raw,
    pending: String,
}

impl Events {
    /// Reads the head, which must be that of a stream.
    pub fn begin(mut raw: Raw) -> Self {
        let head = raw.head().expect("a head");
        assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
        Self { raw, pending: String::new() }
    }

    /// The next message; `None` when the stream has ended.
    pub fn next(&mut self) -> Option<Value> {
        loop {
            if let Some((event, rest)) = self.pending.split_once("\n\n") {
                let found = data(event);
                self.pending = rest.to_owned();
                if found.is_some() {
                    return found;
                }
                continue;
            }
            self.pending.push_str(&String::from_utf8(self.raw.chunk()?).unwrap());
        }
    }
}

/// Whether a process is there, and no zombie.
pub fn is_alive(pid: u64) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    status.is_ok_and(|status| !status.contains(") Z "))
}

/// How long something took.
pub fn timed<T>(what: impl FnOnce() -> T) -> (T, Duration) {
    let began = Instant::now();
    (what(), began.elapsed())
}
