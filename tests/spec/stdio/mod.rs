//! MCP servers that are programs, behind the proxy: the scripted child, its sessions, its misdeeds and its end.

mod sessions;
mod shared;
mod routing;
mod misdeeds;
mod places;
mod ending;
mod expiry;
mod http_sse;
mod program;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use open_mcp_auth_proxy::config::{CommandLine, Config, Stdio, Upstream};
use serde_json::{Value, json};

use crate::world::raw::{Raw, RawAnswer};
use crate::world::{World, request, wait_until};

/// The scripted child; `cargo build --example scripted-child` makes it.
pub fn scripted_child() -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    let path = path.join("examples/scripted-child");
    assert!(path.exists(), "cargo build --example scripted-child has not been run");
    path
}

/// A world whose MCP server is the scripted child with these arguments.
pub fn world(arguments: &str, change: impl FnOnce(&mut Stdio)) -> World {
    world_with(arguments, change, |_| {})
}

/// As [`world`], with other things changed too.
pub fn world_with(
    arguments: &str,
    change: impl FnOnce(&mut Stdio),
    besides: impl FnOnce(&mut Config),
) -> World {
    let command = CommandLine::split(&format!("{} {arguments}", scripted_child().display())).unwrap();
    let mut stdio = Stdio::new(command);
    change(&mut stdio);
    World::with(|config| {
        config.upstream = Upstream::Stdio(Box::new(stdio));
        besides(config);
    })
}

/// A client with a legacy session.
pub struct Client<'w> {
    pub world: &'w World,
    pub bearer: String,
    pub session: String,
    pub version: &'static str,
}

pub fn initialize(version: &str) -> String {
    json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": version,
        "capabilities": {"sampling": {}, "elicitation": {}, "roots": {}},
        "clientInfo": {"name": "test", "version": "1"}}})
    .to_string()
}

pub fn call(id: impl Into<Value>, tool: &str, arguments: Value) -> String {
    json!({"jsonrpc": "2.0", "id": id.into(), "method": "tools/call",
        "params": {"name": tool, "arguments": arguments}})
    .to_string()
}

/// `tools/call` of the tool that does deeds.
pub fn deed(id: impl Into<Value>, deed: &str) -> String {
    call(id, "do", json!({ "deed": deed }))
}

/// As [`deed`], with a progress token.
pub fn deed_with_token(id: i64, token: &str, deed: &str) -> String {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": "do",
        "arguments": {"deed": deed}, "_meta": {"progressToken": token}}})
    .to_string()
}

/// One event of a stream: its id and its data.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Event {
    pub id: Option<String>,
    pub data: String,
}

impl Event {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|err| panic!("{err}: {:?}", self.data))
    }
}

pub fn events(text: &str) -> Vec<Event> {
    let mut all = Vec::new();
    for block in text.split("\n\n").filter(|block| !block.is_empty() && *block != ":") {
        let field = |name: &str| {
            block.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim_start().to_owned())
        };
        all.push(Event { id: field("id:"), data: field("data:").unwrap_or_default() });
    }
    all
}

/// Every message of an answer, whichever form it has.
pub fn messages(answer: &RawAnswer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    match answer.header("content-type") {
        Some("application/json") => vec![serde_json::from_slice(&answer.body).unwrap()],
        Some("text/event-stream") => {
            events(&answer.text()).iter().filter(|event| !event.data.is_empty()).map(Event::json).collect()
        }
        other => panic!("{other:?}"),
    }
}

/// The text of a tool's result.
pub fn text(message: &Value) -> String {
    message["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{message}")).to_owned()
}

impl<'w> Client<'w> {
    pub fn open(world: &'w World) -> Self {
        Self::open_as(world, "alice", "2025-11-25")
    }

    pub fn open_as(world: &'w World, subject: &str, version: &'static str) -> Self {
        let bearer = format!("Bearer {}", world.token().subject(subject).compact());
        let mut client = Self { world, bearer, session: String::new(), version };
        let answer = client.post(&initialize(version));
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
        assert_eq!(messages(&answer)[0]["result"]["protocolVersion"], version);
        client.session = answer.header("mcp-session-id").expect("a session").to_owned();
        assert_eq!(client.post(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).status, 202);
        client
    }

    pub fn headers(&self) -> Vec<(&str, &str)> {
        let mut headers =
            vec![("Authorization", self.bearer.as_str()), ("Accept", "application/json, text/event-stream")];
        if !self.session.is_empty() {
            headers
                .extend([("Mcp-Session-Id", self.session.as_str()), ("MCP-Protocol-Version", self.version)]);
        }
        headers
    }

    pub fn post(&self, body: &str) -> RawAnswer {
        self.world.ask("POST", "/mcp", &self.headers(), body)
    }

    /// A POST that is answered at once, and so in JSON; on a machine with much else to do, again until it is.
    pub fn quickly(&self, body: &str) -> RawAnswer {
        for _ in 0..50 {
            let answer = self.post(body);
            if answer.status == 200 && answer.header("content-type") == Some("application/json") {
                return answer;
            }
        }
        panic!("never an answer in JSON to {body}");
    }

    /// A POST whose answer is not waited for.
    pub fn begin(&self, body: &str) -> Raw {
        let mut raw = self.world.raw();
        raw.send(request("POST", "/mcp", &self.headers(), body));
        raw
    }

    /// GET; the stream's head has been read.
    pub fn listen(&self, last: Option<&str>) -> Raw {
        let mut headers = self.headers();
        headers.extend(last.map(|last| ("Last-Event-ID", last)));
        let mut raw = self.world.raw();
        raw.send(request("GET", "/mcp", &headers, ""));
        let head = raw.head().expect("a head");
        assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
        raw
    }

    pub fn delete(&self) -> RawAnswer {
        self.world.ask("DELETE", "/mcp", &self.headers(), "")
    }

    /// The text of one tool call.
    pub fn tool(&self, tool: &str, arguments: Value) -> String {
        text(messages(&self.post(&call(1000, tool, arguments))).last().unwrap())
    }

    pub fn whoami(&self) -> Value {
        serde_json::from_str(&self.tool("whoami", json!({}))).unwrap()
    }

    pub fn pid(&self) -> u64 {
        self.whoami()["pid"].as_u64().unwrap()
    }

    /// Every line that the child was sent.
    pub fn seen(&self) -> Vec<Value> {
        let lines: Vec<String> = serde_json::from_str(&self.tool("seen", json!({}))).unwrap();
        lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Reads a stream until `enough`, and gives its events.
pub fn read_until(raw: &mut Raw, enough: impl Fn(&[Event]) -> bool) -> Vec<Event> {
    let mut stream = String::new();
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let found = events(&stream);
        if stream.ends_with("\n\n") && enough(&found) {
            return found;
        }
        assert!(Instant::now() < until, "{stream}");
        let chunk = raw.chunk().unwrap_or_else(|| panic!("the stream ended: {stream}"));
        stream.push_str(std::str::from_utf8(&chunk).unwrap());
    }
}

/// Reads a stream to its end.
pub fn read_all(raw: &mut Raw) -> Vec<Event> {
    let mut stream = String::new();
    while let Some(chunk) = raw.chunk() {
        stream.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    events(&stream)
}

pub fn is_alive(pid: u64) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

pub fn no_process_is_left(world: &World) {
    wait_until("every process has ended", || world.bridge().processes() == 0);
}
