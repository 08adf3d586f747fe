//! The policy as tables: what is refused, in which order, and with which answer.

use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::auth::jwks::KeySet;
use crate::auth::keys::KeyStore;
use crate::auth::scope::Scope;
use crate::auth::tests::issuer::{TestKey, key_set, token};
use crate::clock::Clock;
use crate::config::{BaseUrl, Limits, Paths, PublicUrl, Resource, ScopeRule, ScopeRules, Upstream};
use crate::limits::LOG_VALUE_CHARS_MAX;
use crate::{config, log};

/// A configuration that everything in this crate's tests of pure functions can start from.
pub(crate) fn config() -> Config {
    let rule = |subject, needed| ScopeRule { subject, needed: ScopeSet::parse(needed) };
    let item = |method: &str, item: &str| RuleSubject::Item { method: method.into(), item: item.into() };
    Config {
        listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
        public: PublicUrl { scheme: "https".into(), authority: "h.example".into(), prefix: String::new() },
        paths: Paths { streamable_http: "/mcp".into(), sse: "/sse".into(), messages: "/messages/".into() },
        upstream: Upstream::Http {
            base: BaseUrl {
                tls: false,
                host: "localhost".into(),
                port: 3000,
                prefix: String::new(),
                socket: None,
            },
            first_byte_timeout: std::time::Duration::from_secs(30),
            authorization: None,
        },
        resource: Resource {
            identifier: "https://h.example/mcp".into(),
            authorization_servers: vec!["https://idp.example/".into()],
            scopes_supported: ScopeSet::parse("basic"),
            bearer_methods_supported: vec!["header".into()],
            jwks_uri: None,
            extra: Vec::new(),
        },
        issuers: vec![config::Issuer {
            issuer: "https://idp.example/".into(),
            jwks_uri: None,
            audiences: vec!["https://h.example/mcp".into()],
            ..config::Issuer::default()
        }],
        login: None,
        scopes: ScopeRules {
            always: ScopeSet::default(),
            rules: vec![
                rule(item("tools/call", "write"), "write"),
                rule(item("resources/read", "file:///secret"), "secret"),
                rule(RuleSubject::Method("tools/list".into()), "list"),
                rule(RuleSubject::Path("/sse".into()), "stream"),
            ],
            implies: Vec::<(Scope, Scope)>::new(),
        },
        cors: config::Cors { allowed_origins: vec!["https://app.example".into()], ..Default::default() },
        allowed_hosts: Vec::new(),
        trusted_proxies: Vec::new(),
        streams_outlive_token: false,
        leeway_seconds: 60,
        token_type: config::TokenTypePolicy::default(),
        required_claims: Vec::new(),
        mcp_2025_03_26: config::Mcp20250326::default(),
        identity_headers: false,
        session_key: None,
        ca_file: None,
        limits: Limits::default(),
        log_level: log::Level::Info,
        log_format: log::Format::Text,
    }
}

/// A whole request out of its text.
pub(crate) fn request(text: &str) -> Incoming {
    let read = Incoming::parse(text.as_bytes(), IpAddr::V4(Ipv4Addr::LOCALHOST), 1 << 20);
    read.unwrap_or_else(|fault| panic!("{fault}: {text}")).expect("a whole request").0
}

const NOW: Timestamp = Timestamp(1_800_000_000);
/// An issuer that is trusted and whose keys nobody has.
const SILENT: &str = "https://silent.example/";

fn gate() -> Gate {
    gate_of(config())
}

fn gate_of(mut config: Config) -> Gate {
    let silent = config::Issuer { issuer: SILENT.into(), ..config.issuers[0].clone() };
    let issuer = config.issuers[0].issuer.clone();
    config.issuers.push(silent);
    let set = KeySet::parse(key_set(&[(TestKey::One, "one")]).as_bytes()).unwrap();
    let (log, clock) = (log::Log::to_memory(log::Level::Debug), Clock::fixed(NOW));
    let keys = Arc::new(KeyStore::of_sets(vec![(issuer, set)], &clock, &log));
    let auth = Authenticator::new(&config, keys, log);
    Gate::new(&config, auth, SocketAddr::from(([127, 0, 0, 1], 8080)))
}

fn bearer_of(issuer: &str, scopes: &str) -> String {
    let claims = serde_json::json!({
        "iss": issuer, "aud": "https://h.example/mcp", "sub": "alice\u{202e}", "client_id": "app",
        "iat": NOW.0, "exp": NOW.0 + 60, "scope": scopes.replace(',', " "),
    });
    format!("Authorization: Bearer {}\r\n", token(&claims))
}

fn bearer(scopes: &str) -> String {
    bearer_of("https://idp.example/", scopes)
}

fn send(method: &str, path: &str, headers: &str, body: &str) -> (Result<Relay, Reply>, Audit) {
    send_to(&gate(), method, path, headers, body)
}

fn send_to(
    gate: &Gate,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> (Result<Relay, Reply>, Audit) {
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let host = if headers.contains("Host:") { "" } else { "Host: h.example\r\n" };
    let request = request(&format!("{method} {path} HTTP/1.1\r\n{host}{headers}{length}\r\n{body}"));
    let mut audit = Audit::default();
    let relay = gate
        .admit(&request, NOW, &mut audit)
        .and_then(|admitted| gate.decide(&admitted, &request, &mut audit));
    (relay, audit)
}

fn status(method: &str, path: &str, headers: &str, body: &str) -> u16 {
    send(method, path, headers, body).0.map_or_else(|reply| reply.status, |_| 200)
}

fn value<'a>(reply: &'a Reply, name: &str) -> Option<&'a str> {
    let mut found = reply.headers.iter().filter(|(known, _)| *known == name);
    let first = found.next().map(|(_, value)| value.as_str());
    assert!(name == header::VARY || found.next().is_none(), "{name} twice");
    first
}

const PING: &str = r#"{"jsonrpc":"2.0","id":7,"method":"ping"}"#;

/// RS-01 to RS-04, RS-14, D8: every method and path, and nothing of the body is looked at before.
#[test]
fn nothing_passes_without_a_token_that_holds() {
    for (method, path) in
        [("POST", "/mcp"), ("GET", "/mcp"), ("DELETE", "/mcp"), ("GET", "/sse"), ("POST", "/messages/?s=1")]
    {
        for (given, headers, expected) in [
            ("none", String::new(), 401),
            ("junk", "Authorization: Bearer junk\r\n".to_owned(), 401),
            ("in the query", String::new(), 401),
            ("keys missing", bearer_of(SILENT, "stream"), 503),
            ("two", format!("{0}{0}", bearer("stream")), 400),
            ("good", bearer("stream"), 200),
        ] {
            let path =
                if given == "in the query" { format!("{path}?access_token=x.y.z") } else { path.to_owned() };
            let body = if method == "POST" { PING } else { "" };
            assert_eq!(status(method, &path, &headers, body), expected, "{method} {path} {given}");
            if method == "POST" && expected != 200 {
                assert_eq!(status(method, &path, &headers, "not json"), expected, "{path} {given}");
            }
        }
    }
    let (relay, audit) = send("POST", "/mcp", "", PING);
    let challenge = relay.unwrap_err();
    let challenge = value(&challenge, header::WWW_AUTHENTICATE).unwrap();
    assert!(challenge.contains("https://h.example/.well-known/oauth-protected-resource/mcp"), "{challenge}");
    assert!(challenge.contains("scope=\"basic\"") && !challenge.contains("error"), "{challenge}");
    assert_eq!((audit.decision, audit.rpc_method, audit.principal), (Decision::Refused, None, None));
}

/// RS-07, RS-14: a challenge without a token is for this request, as far as its head tells, and not the whole catalogue.
#[test]
fn a_first_challenge_names_what_the_request_needs() {
    let modern = |method: &str, name: &str| format!("Mcp-Method: {method}\r\nMcp-Name: {name}\r\n");
    for (method, path, headers, scope) in [
        ("POST", "/mcp", modern("tools/call", "write"), "write"),
        ("POST", "/mcp", modern("tools/call", "read"), "basic"),
        ("POST", "/mcp", modern("tools/list", "x"), "list"),
        ("POST", "/mcp", String::new(), "start"),
        ("POST", "/mcp", "Mcp-Session-Id: s\r\n".to_owned(), "basic"),
        ("GET", "/mcp", String::new(), "basic"),
        ("GET", "/sse", String::new(), "start stream"),
        ("POST", "/messages/?s=1", String::new(), "basic"),
    ] {
        let mut config = config();
        let start =
            ScopeRule { subject: RuleSubject::Method("initialize".into()), needed: ScopeSet::parse("start") };
        config.scopes.rules.push(start);
        let gate = gate_of(config);
        // What the body says is not read.
        let body = if method == "POST" { r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"# } else { "" };
        for headers in [headers.clone(), format!("{headers}Authorization: Bearer junk\r\n")] {
            let reply = send_to(&gate, method, path, &headers, body).0.unwrap_err();
            let challenge = value(&reply, header::WWW_AUTHENTICATE).unwrap();
            assert!(
                challenge.contains(&format!("scope=\"{scope}\"")),
                "{method} {path} {headers}: {challenge}"
            );
        }
    }
}

/// T-02, T-04: host and origin come before the token and before the path, and grant nothing.
#[test]
fn foreign_hosts_and_pages_are_refused_first() {
    for method in ["POST", "GET", "DELETE", "OPTIONS", "PUT"] {
        for path in ["/mcp", "/sse", "/nowhere"] {
            for headers in ["Host: evil\r\n", "Origin: https://evil\r\n", "Origin: null\r\n"] {
                let headers = format!("{headers}{}", bearer("stream"));
                let reply = send(method, path, &headers, "").0.unwrap_err();
                assert_eq!(reply.status, 403, "{method} {path} {headers}");
                assert_eq!(value(&reply, header::ACCESS_CONTROL_ALLOW_ORIGIN), None);
                assert!(String::from_utf8_lossy(&reply.body).starts_with(r#"{"jsonrpc":"2.0","error""#));
            }
        }
    }
}

/// PRM-01, PRM-08: documents need no token and are for every page, but not under every name.
#[test]
fn metadata_is_public() {
    let path = "/.well-known/oauth-protected-resource/mcp";
    for (method, headers, expected) in [
        ("GET", "", 200),
        ("HEAD", "Origin: https://evil\r\n", 200),
        ("GET", "Origin: null\r\nAuthorization: Bearer junk\r\n", 200),
        ("OPTIONS", "Origin: https://evil\r\nAccess-Control-Request-Method: GET\r\n", 204),
        ("POST", "", 405),
        ("GET", "Host: evil\r\n", 403),
    ] {
        let (relay, audit) = send(method, path, headers, "");
        let reply = relay.unwrap_err();
        assert_eq!(reply.status, expected, "{method} {headers}");
        let granted = value(&reply, header::ACCESS_CONTROL_ALLOW_ORIGIN) == Some("*");
        assert_eq!(granted, reply.status < 400, "{method} {headers}");
        assert_eq!(audit.decision == Decision::Answered, reply.status < 400);
    }
}

/// PRM-08: errors too, so that a page can read its challenge.
#[test]
fn every_answer_to_an_allowed_page_says_so() {
    let origin = "Origin: https://app.example\r\n";
    let with = |more: &str| format!("{origin}{more}");
    for (method, path, headers, body, expected) in [
        ("POST", "/mcp", with(""), PING, 401),
        ("POST", "/mcp", with(&bearer("")), "{", 400),
        ("POST", "/mcp", with(&bearer("")), r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#, 403),
        ("POST", "/nowhere", with(""), "", 404),
        ("PUT", "/mcp", with(""), "", 405),
        ("OPTIONS", "/mcp", with("Access-Control-Request-Method: POST\r\n"), "", 204),
    ] {
        let reply = send(method, path, &headers, body).0.unwrap_err();
        assert_eq!(reply.status, expected, "{method} {path}");
        assert_eq!(value(&reply, header::ACCESS_CONTROL_ALLOW_ORIGIN), Some("https://app.example"));
        assert!(value(&reply, header::ACCESS_CONTROL_EXPOSE_HEADERS).unwrap().contains("WWW-Authenticate"));
    }
    let head = request("POST /mcp HTTP/1.1\r\nHost: h.example\r\nOrigin: https://app.example\r\n\r\n");
    let dressed = gate().dress(Some(&head), Reply::new(413));
    assert_eq!(value(&dressed, header::ACCESS_CONTROL_ALLOW_ORIGIN), Some("https://app.example"));
    assert_eq!(gate().dress(None, Reply::new(400)).headers, []);
}

/// T-10, and the representation of the body.
#[test]
fn ambiguous_and_encoded_requests_are_refused() {
    for (headers, expected) in [
        ("Content-Type: application/json\r\n", 200),
        ("Content-Type: Application/JSON ; Charset=\"UTF-8\"; x=y\r\n", 200),
        ("Content-Type: application/json; charset=utf-16\r\n", 415),
        ("Content-Type: application/json; charset=iso-8859-1\r\n", 415),
        ("Content-Type: text/plain\r\n", 415),
        ("Content-Type: application/jsonx\r\n", 415),
        ("Content-Type:\r\n", 415),
        ("Content-Type: application/json\r\nContent-Type: text/plain\r\n", 400),
        ("Content-Encoding: gzip\r\n", 415),
        ("Mcp-Method: ping\r\nmcp-method: ping\r\n", 400),
        ("Mcp-Name: a\r\nMcp-Name: b\r\n", 400),
        ("MCP-Protocol-Version: 2025-06-18\r\nmcp-protocol-version: 2025-03-26\r\n", 400),
        ("Mcp-Session-Id: a\r\nMcp-Session-Id: a\r\n", 400),
        ("Mcp-Param-City: a\r\nMcp-Param-City: b\r\n", 400),
        ("Mcp_Method: tools/call\r\n", 400),
        ("Accept: a/b\r\nAccept: c/d\r\n", 200),
    ] {
        assert_eq!(status("POST", "/mcp", &format!("{headers}{}", bearer("")), PING), expected, "{headers}");
    }
    for method in ["GET", "DELETE"] {
        assert_eq!(status(method, "/mcp", &bearer(""), PING), 400, "{method} with a body");
    }
}

/// RS-08, RS-09: scopes by method, item and path; a batch needs those of all its messages.
#[test]
fn scopes_are_those_of_all_messages_together() {
    let call = |name: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":{name}}}}}"#)
    };
    let read = |uri: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{{"uri":"{uri}"}}}}"#)
    };
    let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#.to_owned();
    for (path, scopes, body, expected) in [
        ("/mcp", "", call("\"echo\""), 200),
        ("/mcp", "", call("\"write\""), 403),
        ("/mcp", "", call("\"wr\\u0069te\""), 403),
        ("/mcp", "write", call("\"write\""), 200),
        ("/mcp", "write", call("5"), 400),
        ("/mcp", "write", r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#.to_owned(), 400),
        ("/mcp", "", read("file:///secret"), 403),
        ("/mcp", "secret", read("file:///secret"), 200),
        ("/mcp", "", read("file:///Secret"), 200),
        ("/mcp", "write", format!("[{},{list}]", call("\"write\"")), 403),
        ("/mcp", "write,list", format!("[{},{list}]", call("\"write\"")), 200),
        ("/messages/", "", call("\"write\""), 403),
        ("/mcp", "", r#"{"jsonrpc":"2.0","id":1,"result":{}}"#.to_owned(), 200),
    ] {
        assert_eq!(status("POST", path, &bearer(scopes), &body), expected, "{scopes} {body}");
    }
    assert_eq!(status("GET", "/sse", &bearer(""), ""), 403);
    let batch = format!("[{},{list}]", call("\"write\""));
    let reply = send("POST", "/mcp", &bearer("write"), &batch).0.unwrap_err();
    let challenge = value(&reply, header::WWW_AUTHENTICATE).unwrap();
    assert!(
        challenge.contains("insufficient_scope") && challenge.contains("scope=\"list write\""),
        "{challenge}"
    );
}

/// Section 2.7, M-03, M-07, M-08, D7: the error carries the id, and HTTP+SSE is not of this era.
#[test]
fn eras_and_mirrored_headers_are_cross_checked() {
    let modern = r#"{"jsonrpc":"2.0","id":"q","method":"tools/call","params":{"name":"echo","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
    let version = "MCP-Protocol-Version: 2026-07-28\r\n";
    for (path, headers, body, code) in [
        ("/mcp", format!("{version}Mcp-Method: tools/call\r\nMcp-Name: echo\r\n"), modern, None),
        ("/mcp", format!("{version}Mcp-Method: tools/call\r\nMcp-Name: write\r\n"), modern, Some(-32020)),
        ("/mcp", format!("{version}Mcp-Method: ping\r\nMcp-Name: echo\r\n"), modern, Some(-32020)),
        ("/mcp", format!("{version}Mcp-Method: tools/call\r\n"), modern, Some(-32020)),
        ("/mcp", version.to_owned(), modern, Some(-32020)),
        ("/mcp", String::new(), modern, Some(-32020)),
        ("/mcp", version.to_owned(), r#"{"jsonrpc":"2.0","id":"q","method":"ping"}"#, Some(-32602)),
        ("/mcp", "Mcp-Method: tools/list\r\n".to_owned(), PING, Some(-32020)),
        ("/messages/", String::new(), modern, None),
        ("/messages/", "Mcp-Method: ping\r\n".to_owned(), modern, Some(-32020)),
    ] {
        let relay = send("POST", path, &format!("{headers}{}", bearer("")), body).0;
        let found = relay.err().map(|reply| {
            let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
            assert!(reply.status == 400 && body["id"] != serde_json::Value::Null, "{body}");
            body["error"]["code"].clone()
        });
        assert_eq!(found, code.map(serde_json::Value::from), "{path} {headers} {body}");
    }
}

/// RS-16: what the line shows, and that a peer cannot draw in it.
#[test]
fn the_audit_says_what_happened() {
    let body = r#"{"jsonrpc":"2.0","id":[],"method":"tools/call"}"#;
    let (_, refused) = send("POST", "/mcp", &bearer(""), body);
    assert_eq!(refused.reason.as_deref(), Some("id must be a string or a number"));
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a\u001b[31m\u202eb"}}"#;
    let (relay, audit) = send("POST", "/mcp", &bearer(""), body);
    let relay = relay.unwrap();
    assert_eq!((relay.id.as_deref(), relay.era, relay.expects_answer), (Some("1"), Era::Legacy, true));
    assert_eq!(relay.permit.principal().issuer.as_ref(), "https://idp.example/");
    assert_eq!(audit.decision, Decision::Relayed);
    assert_eq!(audit.rpc_method.as_deref(), Some("tools/call"));
    assert_eq!(audit.item.as_deref(), Some("a\u{fffd}[31m\u{fffd}b"));
    let (_, batch) = send("POST", "/mcp", &bearer(""), &format!("[{PING},{PING},{PING}]"));
    assert_eq!(batch.rpc_method.as_deref(), Some("ping+2"));
    assert_eq!(clean(&"x".repeat(5000)).len(), LOG_VALUE_CHARS_MAX);
}
