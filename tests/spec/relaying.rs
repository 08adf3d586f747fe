//! What reaches the MCP server, and what comes back.

use std::io::Write;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use open_mcp_auth_proxy::config::{BaseUrl, Upstream};

use crate::world::raw::Raw;
use crate::world::server::usual;
use crate::world::{World, at_best, call_of, request, wait_until};

fn bearer(world: &World, subject: &str) -> String {
    format!("Bearer {}", world.token().subject(subject).compact())
}

/// RS-13, T-07, T-08: the same bytes, without the token, with who it is.
#[test]
fn what_is_authorized_is_what_is_forwarded() {
    let world = World::start();
    let odd = "{ \"jsonrpc\":\"2.0\",\"id\" : 1.0e2 , \"method\":\"x/y\",\"params\":{\"big\":123456789012345678901234567890,\"s\":\"\\u00e9\\ud83d\\ude00\"}}\n ";
    let token = bearer(&world, "alice");
    let headers = [
        ("Authorization", token.as_str()),
        ("Cookie", "a=b"),
        ("X-MCP-Auth-Subject", "mallory"),
        ("Mcp-Param-Region", "eu"),
        ("traceparent", "00-1-2-03"),
    ];
    let answer = world.ask("POST", "/mcp?x=%2e", &headers, odd);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let calls = world.server.take_calls();
    let [call] = calls.as_slice() else { panic!("{calls:?}") };
    assert_eq!((call.line(), call.text().as_str()), ("POST /mcp?x=%2e HTTP/1.1", odd));
    for (name, value) in [
        ("authorization", None),
        ("cookie", None),
        ("x-mcp-auth-subject", Some("alice")),
        ("mcp-param-region", Some("eu")),
        ("traceparent", Some("00-1-2-03")),
        ("host", Some(&*world.server.addr.to_string())),
        ("x-forwarded-host", Some("proxy.example")),
    ] {
        assert_eq!(call.header(name), value, "{name}");
    }
}

/// Bodies that two parsers could read differently reach nobody.
#[test]
fn ambiguous_messages_are_refused() {
    let world = World::start();
    let token = bearer(&world, "alice");
    for body in [
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","METHOD":"ping","params":{"name":"narrow"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call","params":{"name":"narrow"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","m\u0065thod":"tools/call"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","name":"narrow"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","Name":"narrow"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":["narrow"]}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":7}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping"}{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#,
        "\u{feff}{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}",
        r#"{"jsonrpc":"2.0","id":1,"method":"ping",}"#,
        r#"{"jsonrpc":"2.0","id":NaN,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#,
        r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#,
        "[]",
        "",
        "null",
    ] {
        let answer = world.ask("POST", "/mcp", &[("Authorization", &token)], body);
        assert_eq!(answer.status, 400, "{body}: {}", answer.text());
        assert!(answer.text().contains("\"jsonrpc\":\"2.0\""), "D7: {}", answer.text());
    }
    for (header, value) in [
        ("Content-Encoding", "gzip"),
        ("Content-Type", "application/json; charset=utf-16"),
        ("Content-Type", "text/plain"),
    ] {
        let answer =
            world.ask("POST", "/mcp", &[("Authorization", &token), (header, value)], &call_of("echo"));
        assert_eq!(answer.status, 415, "{header}: {value}");
    }
    assert!(world.server.take_calls().is_empty());
}

/// Only what is configured is served, compared literally.
#[test]
fn only_the_configured_paths_are_served() {
    let world = World::start();
    let token = bearer(&world, "alice");
    for path in [
        "/",
        "/mcp/",
        "//mcp",
        "/MCP",
        "/mcp;x",
        "/%6dcp",
        "/x/../mcp",
        "/mcp/..",
        "/sse/",
        "/messages/x",
        "/authorize",
    ] {
        for method in ["GET", "POST", "DELETE"] {
            let status = world.ask(method, path, &[("Authorization", &token)], &call_of("echo")).status;
            assert!(matches!(status, 404 | 405), "{method} {path}: {status}");
        }
    }
    assert!(world.server.take_calls().is_empty());
}

/// T-01, T-02, T-04: a page that may not call us gets nothing through, whatever it sends.
#[test]
fn foreign_origins_and_hosts_are_refused_first() {
    let world = World::start();
    let token = bearer(&world, "alice");
    let own = world.addr().to_string();
    for (header, value, status) in [
        ("Origin", "https://evil.example", 403),
        ("Origin", "null", 403),
        ("Origin", "https://page.example.evil.example", 403),
        ("Origin", "https://page.example", 200),
        ("Origin", "https://proxy.example", 200),
        ("Host", "evil.example", 403),
        ("Host", "proxy.example", 200),
        ("Host", own.as_str(), 200),
    ] {
        let answer =
            world.ask("POST", "/mcp", &[("Authorization", &token), (header, value)], &call_of("echo"));
        assert_eq!(answer.status, status, "{header}: {value}");
        let granted = answer.header("access-control-allow-origin");
        let expected = (header == "Origin" && status == 200).then_some(value);
        assert_eq!(granted, expected, "{header}: {value}");
        assert_eq!(world.server.take_calls().len(), usize::from(status == 200), "{header}: {value}");
    }
    let refused = world.ask("POST", "/mcp", &[("Origin", "https://page.example")], &call_of("echo"));
    assert_eq!(
        (refused.status, refused.header("access-control-allow-origin")),
        (401, Some("https://page.example"))
    );
    assert!(
        refused.header("access-control-expose-headers").unwrap().to_lowercase().contains("www-authenticate")
    );
}

/// PRM-01 to PRM-05: a document for each endpoint, whatever Host asks.
#[test]
fn metadata_is_served_for_each_endpoint() {
    let world = World::start();
    for (path, resource) in [
        ("/.well-known/oauth-protected-resource/mcp", "https://proxy.example/mcp"),
        ("/.well-known/oauth-protected-resource/sse", "https://proxy.example/sse"),
        ("/.well-known/oauth-protected-resource", "https://proxy.example"),
    ] {
        let answer = world.ask("GET", path, &[("Origin", "https://anyone.example")], "");
        let document: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")), "{path}");
        assert_eq!(document["resource"], resource, "{path}");
        assert_eq!(document["authorization_servers"], serde_json::json!([world.issuer.url]), "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "{path}");
    }
}

/// D6, SSE-05: a session serves the one who opened it.
#[test]
fn sessions_belong_to_their_principal() {
    let world = World::start();
    world.server.script(|call, stream| {
        let session = if call.text().contains("initialize") { "Mcp-Session-Id: s-1\r\n" } else { "" };
        let text = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{session}Content-Length: 2\r\n\r\n{{}}"
        );
        stream.write_all(text.as_bytes()).is_ok()
    });
    let (alice, bob) = (bearer(&world, "alice"), bearer(&world, "bob"));
    let init = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}"#;
    let answer = world.ask("POST", "/mcp", &[("Authorization", &alice)], init);
    let session = answer.header("mcp-session-id").expect("a session").to_owned();
    assert!(session.starts_with("s-1.") && session.len() > 40, "{session}");
    world.server.take_calls();
    for (who, token, id, status) in [
        ("its owner", &alice, session.as_str(), 200),
        ("somebody else", &bob, session.as_str(), 404),
        ("its owner, without the MAC", &alice, "s-1", 404),
        ("its owner, with another id", &alice, &session.replace("s-1", "s-2"), 404),
    ] {
        for method in ["POST", "GET", "DELETE"] {
            let answer = world.ask(
                method,
                "/mcp",
                &[("Authorization", token), ("Mcp-Session-Id", id)],
                &call_of("echo"),
            );
            assert_eq!(answer.status, status, "{who}: {method}");
            let calls = world.server.take_calls();
            assert_eq!(calls.len(), usize::from(status == 200), "{who}: {method}");
            assert!(calls.iter().all(|call| call.header("mcp-session-id") == Some("s-1")));
        }
    }
}

/// SSE-01 to SSE-05: the stream, its endpoint, and the messages that go there.
#[test]
fn http_sse_leads_back_to_us_and_only_for_its_owner() {
    let world = World::start();
    let (alice, bob) = (bearer(&world, "alice"), bearer(&world, "bob"));
    let mut stream = world.raw();
    stream.send(request("GET", "/sse", &[("Authorization", &alice)], ""));
    let head = stream.head().unwrap();
    assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
    assert_eq!(head.header("x-accel-buffering"), Some("no"));
    let event = String::from_utf8(stream.chunk().unwrap()).unwrap();
    let target = event
        .strip_prefix("event: endpoint\r\ndata: ")
        .and_then(|rest| rest.strip_suffix("\r\n\r\n"))
        .expect(&event);
    assert!(target.starts_with("/messages/?session_id=s1&"), "{target}");
    world.server.take_calls();
    for (token, target, status) in [
        (&alice, target, 202),
        (&bob, target, 404),
        (&alice, "/messages/?session_id=s1", 404),
        (&alice, &target.replace("s1", "s2"), 404),
        (&alice, &format!("{target}&session_id=s2"), 404),
    ] {
        let answer = world.ask("POST", target, &[("Authorization", token)], &call_of("echo"));
        assert_eq!(answer.status, status, "{target}");
        let calls = world.server.take_calls();
        assert_eq!(calls.len(), usize::from(status == 202));
        assert!(calls.iter().all(|call| call.target() == "/messages/?session_id=s1"));
    }
}

#[test]
fn an_endpoint_on_another_host_never_reaches_the_client() {
    let world = World::start();
    world.server.script(|_, stream| {
        let event = "event: endpoint\ndata: http://evil.example/messages/?session_id=1\n\n";
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(format!("{head}{:x}\r\n{event}\r\n", event.len()).as_bytes()).is_ok()
    });
    let mut stream = world.raw();
    stream.send(request("GET", "/sse", &[("Authorization", &bearer(&world, "alice"))], ""));
    let answer = stream.answer().expect("an answer");
    assert_eq!(answer.status, 502);
    assert!(!answer.text().contains("evil.example"));
    wait_until("the operator is told", || world.log.text().contains("evil.example"));
    wait_until("the upstream request ends", || world.server.connections() == 0);
}

/// T-09: events pass as they come, whatever their size, past `timeout_seconds`.
#[test]
fn events_pass_at_once_and_whole() {
    let world = World::with(|config| {
        if let Upstream::Http { first_byte_timeout, .. } = &mut config.upstream {
            *first_byte_timeout = Duration::from_millis(1500);
        }
    });
    let (go, gone) = mpsc::channel::<()>();
    let gone = std::sync::Mutex::new(gone);
    world.server.script(move |_, stream| {
        let _ = stream.write_all(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
        );
        let _ = stream.write_all(b"9\r\ndata: 1\n\n\r\n");
        let _ = gone.lock().unwrap().recv_timeout(Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(1800)); // longer than any answer may take
        for byte in b"data: 2\n\n" {
            let _ = stream.write_all(&[b"1\r\n", &[*byte][..], b"\r\n"].concat());
        }
        let large = vec![b'x'; 5 * 1024 * 1024];
        let _ = stream.write_all(format!("{:x}\r\ndata: ", large.len() + 8).as_bytes());
        let _ = stream.write_all(&large);
        stream.write_all(b"\n\n\r\n0\r\n\r\n").is_ok()
    });
    let open = |path: &'static str| {
        let mut client = world.raw();
        client.send(request("GET", path, &[("Authorization", &bearer(&world, "alice"))], ""));
        assert_eq!(client.head().unwrap().status, 200);
        assert_eq!(
            client.chunk().unwrap(),
            b"data: 1\n\n",
            "the first event is here before the second is sent"
        );
        (path, client)
    };
    let both = ["/mcp", "/sse"].map(open);
    drop(go);
    for (path, mut client) in both {
        let mut rest = Vec::new();
        while let Some(chunk) = client.chunk() {
            rest.extend_from_slice(&chunk);
        }
        assert!(rest.starts_with(b"data: 2\n\ndata: xxx") && rest.ends_with(b"x\n\n"), "{path}");
        assert_eq!(rest.len(), 9 + 6 + 5 * 1024 * 1024 + 2, "{path}");
    }
}

/// M-14: a client that leaves ends what it asked for.
#[test]
fn a_client_that_leaves_ends_the_upstream_request() {
    let world = World::start();
    for path in ["/sse", "/mcp"] {
        at_best("the end of the upstream connection", Duration::from_secs(2), || {
            let mut client = world.raw();
            client.send(request("GET", path, &[("Authorization", &bearer(&world, "alice"))], ""));
            assert_eq!(client.head().unwrap().status, 200);
            assert_eq!(world.server.connections(), 1);
            let left = Instant::now();
            drop(client);
            wait_until("the upstream connection ends", || world.server.connections() == 0);
            left.elapsed()
        });
    }
    world.server.script(|_, _| {
        std::thread::sleep(Duration::from_secs(1));
        true
    });
    let mut waiting = world.raw();
    waiting.send(request("POST", "/mcp", &[("Authorization", &bearer(&world, "alice"))], &call_of("slow")));
    wait_until("it was asked", || world.server.connections() == 1);
    drop(waiting);
    wait_until("a call that is waited for ends too", || world.server.connections() == 0);
}

/// 502 and 504 with the id of the request; the proxy lives on.
#[test]
fn a_server_that_fails_is_reported_with_the_id() {
    let world = World::start();
    let ask = || world.call_tool("echo", Some(&world.token()));
    for (what, answer, status) in [
        ("closes at once", "", 502),
        ("says nonsense", "nonsense\r\n\r\n", 502),
        ("frames twice", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}", 502),
        (
            "ends too soon",
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{}",
            502,
        ),
        ("switches protocols", "HTTP/1.1 101 Switching Protocols\r\n\r\n", 502),
    ] {
        world.server.script(move |_, stream| {
            let _ = stream.write_all(answer.as_bytes());
            false
        });
        let got = ask();
        assert_eq!(got.status, status, "a server that {what}");
        let error: serde_json::Value = serde_json::from_slice(&got.body).unwrap();
        assert_eq!((&error["id"], error["error"].is_object()), (&7.into(), true), "a server that {what}");
    }
    world.server.script(usual);
    assert_eq!(ask().status, 200);
    let silent = World::with(|config| {
        if let Upstream::Http { first_byte_timeout, .. } = &mut config.upstream {
            *first_byte_timeout = Duration::from_secs(1);
        }
    });
    let (release, held) = mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    silent.server.script(move |_, _| {
        let _ = held.lock().unwrap().recv_timeout(Duration::from_secs(20));
        false
    });
    let late = silent.call_tool("echo", Some(&silent.token()));
    assert_eq!(late.status, 504, "while the server says nothing");
    drop(release);
    let nowhere = World::with(|config| {
        if let Upstream::Http { base, .. } = &mut config.upstream {
            *base = BaseUrl {
                tls: false,
                host: "127.0.0.1".into(),
                port: 1,
                prefix: String::new(),
                socket: None,
            };
        }
    });
    assert_eq!(nowhere.call_tool("echo", Some(&nowhere.token())).status, 502);
}

/// Statuses and bodies of the MCP server pass unchanged (D7, SH-17).
#[test]
fn statuses_and_bodies_pass_unchanged() {
    let world = World::start();
    for status in [200, 202, 400, 404, 405, 406, 409, 500] {
        let body = format!("{{\"status\": {status}}}");
        world.server.answer_with(format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        let answer = world.call_tool("echo", Some(&world.token()));
        assert_eq!((answer.status, answer.text()), (status, body));
    }
    world.server.answer_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n");
    assert_eq!(world.call_tool("echo", Some(&world.token())).text(), "{}");
    world.server.script(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nuntil the end");
        false
    });
    assert_eq!(world.call_tool("echo", Some(&world.token())).text(), "until the end");
}

#[test]
fn connections_to_the_server_are_used_again() {
    let world = World::start();
    let mut client = world.raw();
    let token = bearer(&world, "alice");
    for n in 0..50 {
        let answer = client
            .send(request("POST", "/mcp", &[("Authorization", &token)], &call_of("echo")))
            .answer()
            .unwrap();
        assert_eq!(answer.status, 200, "request {n}");
    }
    assert_eq!(world.server.accepted(), 1);
    // One that was closed while it was idle is not used for a call that must not be made twice.
    world.server.script(|call, stream| {
        usual(call, stream);
        false
    });
    client.send(request("POST", "/mcp", &[("Authorization", &token)], &call_of("echo"))).answer().unwrap();
    wait_until("it is closed", || world.server.connections() == 0);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(
        client
            .send(request("POST", "/mcp", &[("Authorization", &token)], &call_of("echo")))
            .answer()
            .unwrap()
            .status,
        200
    );
}

#[test]
fn streams_are_capped() {
    let world = World::with(|config| config.limits.streams = 2);
    let token = bearer(&world, "alice");
    let open = || {
        let mut client = world.raw();
        client.send(request("GET", "/mcp", &[("Authorization", &token)], ""));
        let head = client.head().unwrap();
        (client, head)
    };
    let held: Vec<(Raw, _)> = (0..2).map(|_| open()).collect();
    assert!(held.iter().all(|(_, head)| head.status == 200));
    let (_, third) = open();
    assert_eq!(third.status, 503);
    assert!(third.header("retry-after").is_some());
    assert_eq!(world.call_tool("echo", Some(&world.token())).status, 200, "plain calls go on");
    drop(held);
    wait_until("places are free again", || open().1.status == 200);
}
