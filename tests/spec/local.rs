//! `--local`: the whole of it in one process, asked as its printed lines ask it.

use std::net::{Ipv4Addr, SocketAddr};

use open_mcp_auth_proxy::local::Local;
use open_mcp_auth_proxy::log::{Level, Log};
use open_mcp_auth_proxy::proxy::StartError;
use serde_json::{Value, json};

use crate::world::raw::{Raw, RawAnswer};
use crate::world::{request, wait_until};

struct Demo {
    local: Local,
    log: Log,
}

impl Demo {
    fn start() -> Self {
        let log = Log::to_memory(Level::Info);
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self { local: Local::start(Some(any), &log).unwrap(), log }
    }

    fn token(&self, scopes: &str) -> String {
        self.local.token(None, scopes).unwrap()
    }

    /// Addressed to the demonstration by its own name.
    fn request(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> String {
        request(method, target, headers, body).replacen("proxy.example", &self.local.addr().to_string(), 1)
    }

    fn ask(&self, method: &str, target: &str, token: &str, headers: &[(&str, &str)], body: &str) -> Raw {
        let bearer = format!("Bearer {token}");
        let mut all = vec![("Accept", "application/json, text/event-stream"), ("Authorization", &bearer)];
        all.extend(headers);
        let mut raw = Raw::connect(self.local.addr());
        raw.send(self.request(method, target, &all, body));
        raw
    }

    /// `tools/call` of 2026-07-28.
    fn call(&self, token: &str, tool: &str, arguments: &Value) -> RawAnswer {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
            "name": tool, "arguments": arguments, "_meta": {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientCapabilities": {}, "progressToken": "p",
        } } });
        let headers =
            [("MCP-Protocol-Version", "2026-07-28"), ("Mcp-Method", "tools/call"), ("Mcp-Name", tool)];
        self.ask("POST", "/mcp", token, &headers, &body.to_string()).answer().unwrap()
    }
}

fn text(answer: &RawAnswer) -> String {
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    body["result"]["content"][0]["text"].as_str().unwrap().to_owned()
}

/// A good token, none, one for another audience, one with a scope too few.
#[test]
fn the_printed_lines_do_what_they_say() {
    let demo = Demo::start();
    let welcome = demo.local.welcome().unwrap();
    let lines: Vec<&str> = welcome.lines().filter(|line| line.starts_with("curl ")).collect();
    assert_eq!(lines.len(), 4);
    for (line, status) in lines.into_iter().zip([200, 401, 401, 403]) {
        let quoted: Vec<&str> = line.split('\'').skip(1).step_by(2).collect();
        let headers: Vec<(&str, &str)> = quoted.iter().filter_map(|text| text.split_once(": ")).collect();
        let answer = Raw::connect(demo.local.addr())
            .send(demo.request("POST", "/mcp", &headers, quoted.last().unwrap()))
            .answer()
            .unwrap();
        assert_eq!(answer.status, status, "{line}");
    }
    demo.log.flush();
    assert!(!demo.log.text().contains("eyJ"), "a token is in the log");
}

#[test]
fn the_server_sees_who_calls_and_never_the_token() {
    let demo = Demo::start();
    let seen: Value =
        serde_json::from_str(&text(&demo.call(&demo.token("mcp:echo"), "whoami", &json!({})))).unwrap();
    assert_eq!((&seen["subject"], &seen["token_seen"]), (&json!("local-user"), &json!(false)));
}

/// RS-10: `mcp:admin` implies the two others.
#[test]
fn a_broader_scope_stands_for_the_narrower_ones() {
    let demo = Demo::start();
    for (scopes, tool, status) in [
        ("mcp:admin", "shout", 200),
        ("mcp:admin", "echo", 200),
        ("mcp:read", "echo", 403),
        ("mcp:echo", "shout", 403),
    ] {
        let answer = demo.call(&demo.token(scopes), tool, &json!({ "message": "hello" }));
        assert_eq!(answer.status, status, "{scopes} {tool}");
    }
}

#[test]
fn a_tool_that_takes_its_time_streams() {
    let demo = Demo::start();
    let answer = demo.call(&demo.token("mcp:echo"), "count", &json!({ "to": 3 }));
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    let events = answer.text();
    assert_eq!(events.matches("notifications/progress").count(), 3, "{events}");
    assert!(events.trim_end().ends_with('}') && events.contains("counted to 3"), "{events}");
}

/// SH-11 to SH-14 and D6, through the proxy.
#[test]
fn the_legacy_era_has_sessions() {
    let demo = Demo::start();
    let token = demo.token("mcp:echo mcp:read");
    let initialize = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "t", "version": "1" },
    } });
    let answer = demo.ask("POST", "/mcp", &token, &[], &initialize.to_string()).answer().unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let session = answer.header("mcp-session-id").unwrap().to_owned();
    let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    for (method, session, body, status) in [
        ("POST", Some(session.as_str()), list, 200),
        ("POST", Some(session.as_str()), r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#, 202),
        ("POST", None, list, 400),
        ("POST", Some("made-up"), list, 404),
        ("GET", Some(session.as_str()), "", 405),
        ("DELETE", Some(session.as_str()), "", 204),
        ("POST", Some(session.as_str()), list, 404),
    ] {
        let headers: Vec<(&str, &str)> =
            session.map(|session| ("Mcp-Session-Id", session)).into_iter().collect();
        let answer = demo.ask(method, "/mcp", &token, &headers, body).answer().unwrap();
        assert_eq!(answer.status, status, "{method} {session:?} {body}: {}", answer.text());
    }
}

/// SSE-01 to SSE-05, through the proxy.
#[test]
fn http_sse_works_too() {
    let demo = Demo::start();
    let token = demo.token("mcp:echo mcp:read");
    let mut stream = demo.ask("GET", "/sse", &token, &[], "");
    assert_eq!(stream.head().unwrap().status, 200);
    let first = String::from_utf8(stream.chunk().unwrap()).unwrap();
    let endpoint = first.split("data: ").nth(1).unwrap().trim();
    let (_, target) = endpoint.split_at(endpoint.find("/messages/").unwrap());
    let list = r#"{"jsonrpc":"2.0","id":"x","method":"tools/list"}"#;
    assert_eq!(demo.ask("POST", target, &token, &[], list).answer().unwrap().status, 202);
    let told = String::from_utf8(stream.chunk().unwrap()).unwrap();
    assert!(told.contains("\"id\":\"x\"") && told.contains("whoami"), "{told}");
    drop(stream);
    wait_until("the stream has ended for the server too", || {
        demo.ask("POST", target, &token, &[], list).answer().unwrap().status == 404
    });
}

/// Whoever reaches it is let in, so nobody else may reach it.
#[test]
fn it_does_not_leave_loopback() {
    let log = Log::to_memory(Level::Info);
    for addr in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let started = Local::start(Some(addr.parse().unwrap()), &log);
        assert!(matches!(started.err(), Some(StartError::NotLoopback(_))), "{addr}");
    }
}
