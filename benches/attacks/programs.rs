//! Attacks by an MCP server that is a program, or through one: the misdeeds of the tests' scripted child, for which a
//! client of its own asks, while the normal client has another session, or shares the very child.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::Arena;
use super::list::{Attack, attack, nothing};
use super::world::raw::Raw;
use super::world::request;

/// What a client speaks, and so whose child is whose.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Era {
    /// A session, and a child for it.
    Legacy,
    /// One child for all.
    Shared,
    /// One child for each principal.
    Principal,
}

const fn program(name: &'static str, era: Era, attackers: usize, run: fn(&Arena)) -> Attack {
    Attack { program: Some(era), ..attack(name, attackers, run) }
}

const fn flood(name: &'static str, era: Era, run: fn(&Arena)) -> Attack {
    Attack { unit: " MB", ..program(name, era, 1, run) }
}

pub const ATTACKS: &[Attack] = &[
    program("stdio sessions: nothing at all", Era::Legacy, 1, nothing),
    flood("stdio sessions: 50 MB/s of standard error", Era::Legacy, |arena| writes(arena, "complain:50")),
    flood("stdio sessions: standard error without measure", Era::Legacy, |arena| writes(arena, "complain:0")),
    flood("stdio sessions: garbage without measure", Era::Legacy, |arena| writes(arena, "babble")),
    flood("stdio sessions: notifications without measure", Era::Legacy, |arena| writes(arena, "stdout:0")),
    program("stdio sessions: one that never reads", Era::Legacy, 4, never_reads),
    program("stdio sessions: one that never answers", Era::Legacy, 4, never_answers),
    program("stdio shared: nothing at all", Era::Shared, 1, nothing),
    flood("stdio shared: 50 MB/s of standard error", Era::Shared, |arena| writes(arena, "complain:50")),
    flood("stdio shared: standard error without measure", Era::Shared, |arena| writes(arena, "complain:0")),
    flood("stdio shared: garbage without measure", Era::Shared, |arena| writes(arena, "babble")),
    program("stdio shared: calls that are never answered", Era::Shared, 4, never_answers),
    program("stdio by principal: one that never reads", Era::Principal, 4, never_reads),
];

/// The scripted child, where it has been built.
pub fn child() -> Option<PathBuf> {
    let mut path = std::env::current_exe().ok()?;
    path.pop();
    path.pop();
    Some(path.join("examples/scripted-child")).filter(|path| path.exists())
}

/// The configuration of a program instead of a server on the network.
pub fn settings(era: Era) -> String {
    let child = child().map(|path| path.display().to_string()).unwrap_or_default();
    let (speaks, share) = match era {
        Era::Legacy => ("legacy", "all"),
        Era::Shared => ("modern", "all"),
        Era::Principal => ("modern", "principal"),
    };
    format!(
        "transport_mode: stdio\nstdio: {{ enabled: true, user_command: '{child} --era {speaks}', share: {share} }}\n"
    )
}

/// A client that can ask for a tool.
pub struct Client {
    era: Era,
    bearer: String,
    session: String,
}

impl Client {
    /// Opens a session, where there are such.
    pub fn open(addr: std::net::SocketAddr, bearer: &str, era: Era) -> Self {
        let mut client = Self { era, bearer: bearer.to_owned(), session: String::new() };
        if era == Era::Legacy {
            let initialize = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
                "protocolVersion": "2025-11-25", "capabilities": {},
                "clientInfo": {"name": "attacks", "version": "1"}}});
            let answer = Raw::connect(addr).send(client.post(&initialize)).answer().expect("an answer");
            client.session = answer.header("mcp-session-id").expect("a session").to_owned();
            let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
            let answer = Raw::connect(addr).send(client.post(&initialized)).answer();
            assert_eq!(answer.map(|answer| answer.status), Some(202));
        }
        client
    }

    /// Ends the session, and so its child.
    fn close(&self, arena: &Arena) {
        let headers = [("Authorization", self.bearer.as_str()), ("Mcp-Session-Id", &self.session)];
        if let (Some(mut stream), false) = (arena.connect(), self.session.is_empty()) {
            let _ = stream.write_all(request("DELETE", "/mcp", &headers, "").as_bytes());
            let _ = stream.read(&mut [0; 512]);
        }
    }

    /// A call as it is sent.
    pub fn call(&self, id: usize, tool: &str, arguments: &Value) -> String {
        let mut params = json!({"name": tool, "arguments": arguments});
        if self.era != Era::Legacy {
            params["_meta"] = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientCapabilities": {}});
        }
        self.post(&json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}))
    }

    fn post(&self, message: &Value) -> String {
        let mut headers = vec![
            ("Authorization", self.bearer.as_str()),
            ("Accept", "application/json, text/event-stream"),
            ("MCP-Protocol-Version", if self.era == Era::Legacy { "2025-11-25" } else { "2026-07-28" }),
        ];
        if !self.session.is_empty() {
            headers.push(("Mcp-Session-Id", &self.session));
        }
        let method = message["method"].as_str().unwrap_or_default();
        if self.era != Era::Legacy {
            headers.extend([
                ("Mcp-Method", method),
                ("Mcp-Name", message["params"]["name"].as_str().unwrap_or_default()),
            ]);
        }
        request("POST", "/mcp", &headers, &message.to_string())
    }
}

/// Makes the child do this, and counts what it gets rid of, in MB.
fn writes(arena: &Arena, deed: &str) {
    let client = Client::open(arena.addr, &arena.mallory, arena.era.expect("a program"));
    let before = written();
    let mut raw = Raw::connect(arena.addr);
    raw.send(client.call(1, "do", &json!({ "deed": deed })));
    let mut counted = 0;
    while !arena.is_over() {
        std::thread::sleep(Duration::from_millis(20));
        let all = (written() - before) / 1_000_000;
        arena.did(all - counted);
        counted = all;
    }
    client.close(arena);
}

/// What the MCP servers have written, the children of the one child of ours, in bytes.
fn written() -> usize {
    let bytes = |pid: &String| {
        let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
        let line = io.lines().find_map(|line| line.strip_prefix("wchar: "));
        line.and_then(|bytes| bytes.parse::<usize>().ok()).unwrap_or_default()
    };
    children("self").iter().flat_map(|program| children(program)).map(|pid| bytes(&pid)).sum()
}

fn children(pid: &str) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let children = tasks.map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default());
    children.flat_map(|all| all.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// Calls for a child that reads nothing, until every pipe and buffer is full, and then more of them.
fn never_reads(arena: &Arena) {
    let client = Client::open(arena.addr, &arena.mallory, arena.era.expect("a program"));
    let text = "x".repeat(30_000);
    let mut held = Vec::new();
    for id in 1.. {
        if arena.is_over() {
            break;
        }
        let Some(mut stream) = arena.connect() else { continue };
        let call = match id {
            1 => client.call(1, "do", &json!({"deed": "deaf"})),
            _ => client.call(id, "echo", &json!({ "message": text })),
        };
        let sent = stream.write_all(call.as_bytes());
        stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        // What is answered is refused; what is not waits.
        if sent.is_ok() && stream.read(&mut [0; 512]).is_err() && held.len() < 500 {
            held.push(stream);
        }
        arena.did(1);
    }
    client.close(arena);
}

/// Calls that nobody answers, each on a connection of its own, and all of them kept.
fn never_answers(arena: &Arena) {
    let client = Client::open(arena.addr, &arena.mallory, arena.era.expect("a program"));
    let mut held = Vec::new();
    for id in 1.. {
        if arena.is_over() {
            break;
        }
        let Some(mut stream) = arena.connect() else { continue };
        let sent = stream.write_all(client.call(id, "do", &json!({"deed": "hang"})).as_bytes());
        stream.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
        if sent.is_ok() && stream.read(&mut [0; 512]).is_err() && held.len() < 500 {
            held.push(stream);
        }
        arena.did(1);
    }
    client.close(arena);
}
