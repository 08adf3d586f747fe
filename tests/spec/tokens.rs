//! Who gets through, and what everybody else is told.

use serde_json::{Value, json};

use crate::world::issuer::{Key, Token};
use crate::world::{NOW, RESOURCE, World, call_of};

fn challenge(answer: &crate::world::raw::RawAnswer) -> String {
    answer.header("www-authenticate").unwrap_or_default().to_owned()
}

fn body(answer: &crate::world::raw::RawAnswer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_default()
}

/// RS-03, RS-04, RS-08, RS-12, RS-14; RFC 6750 section 3.1. Every revision asks the same.
#[test]
fn a_call_reaches_the_server_only_with_a_token_that_holds() {
    let world = World::start();
    let good = || world.token();
    for (given, token, status, error) in [
        ("no token", None, 401, None),
        ("a good token", Some(good()), 200, None),
        ("one second past expiry", Some(good().claim("exp", NOW.0 - 1)), 401, Some("invalid_token")),
        ("no expiry", Some(good().without("exp")), 401, Some("invalid_token")),
        ("not yet valid", Some(good().claim("nbf", NOW.0 + 100)), 401, Some("invalid_token")),
        ("another audience", Some(good().audience("https://elsewhere.example")), 401, Some("invalid_token")),
        (
            "a longer audience",
            Some(good().audience("https://proxy.example/mcp/x")),
            401,
            Some("invalid_token"),
        ),
        ("no audience", Some(good().without("aud")), 401, Some("invalid_token")),
        ("us among audiences", Some(good().claim("aud", json!(["x", RESOURCE]))), 200, None),
        ("another issuer", Some(good().claim("iss", "https://other.example")), 401, Some("invalid_token")),
        ("no issuer", Some(good().without("iss")), 401, Some("invalid_token")),
        ("signed by a stranger", Some(good().signed_by(Key::Stranger)), 401, Some("invalid_token")),
        ("algorithm none", Some(good().head("alg", "none")), 401, Some("invalid_token")),
        ("HS256", Some(good().head("alg", "HS256")), 401, Some("invalid_token")),
        ("critical header", Some(good().head("crit", json!(["exp"]))), 401, Some("invalid_token")),
        ("an ID-JAG", Some(good().head("typ", "oauth-id-jag+jwt")), 401, Some("invalid_token")),
        ("bound to a key", Some(good().claim("cnf", json!({"jkt": "x"}))), 401, Some("invalid_token")),
    ] {
        let answer = world.call_tool("echo", token.as_ref());
        let said = challenge(&answer);
        assert_eq!(answer.status, status, "given {given}: {}", answer.text());
        assert_eq!(said.contains("error="), error.is_some(), "given {given}: {said}");
        if let Some(error) = error {
            assert!(said.contains(&format!("error=\"{error}\"")), "given {given}: {said}");
            assert_eq!(body(&answer)["error"], error, "given {given}");
        }
        if status == 401 {
            let metadata =
                "resource_metadata=\"https://proxy.example/.well-known/oauth-protected-resource/mcp\"";
            assert!(said.starts_with("Bearer ") && said.contains(metadata), "given {given}: {said}");
            assert!(said.contains("scope=\"mcp_basic\""), "given {given}: {said}");
        }
        assert_eq!(world.server.take_calls().len(), usize::from(status == 200), "given {given}");
    }
}

/// RS-01: a token is asked for on every path and method. The original took any text on its SSE path, and panicked on
/// GET and DELETE.
#[test]
fn junk_opens_nothing_on_any_path_or_method() {
    let world = World::start();
    let wrong = format!("Bearer {}", world.token().audience("x").compact());
    for (method, path) in [
        ("GET", "/sse"),
        ("POST", "/messages/?session_id=1"),
        ("POST", "/messages"),
        ("GET", "/mcp"),
        ("POST", "/mcp"),
        ("DELETE", "/mcp"),
    ] {
        for credentials in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer junk",
            "Bearer a.b.c",
            "bearer  x",
            "Basic eDp5",
            wrong.as_str(),
        ] {
            let headers: &[_] = if credentials.is_empty() { &[] } else { &[("Authorization", credentials)] };
            let answer = world.ask(method, path, headers, &call_of("echo"));
            assert_eq!(answer.status, 401, "{method} {path} with {credentials:?}");
            assert!(challenge(&answer).contains("resource_metadata="), "{method} {path}");
        }
        let query = format!(
            "{path}{}access_token={}",
            if path.contains('?') { '&' } else { '?' },
            world.token().compact()
        );
        assert_eq!(
            world.ask(method, &query, &[], "").status,
            401,
            "RS-02: {method} {path} with a token in the query"
        );
    }
    assert!(world.server.take_calls().is_empty());
    assert_eq!(world.server.accepted(), 0, "not even a connection was opened");
}

/// D4: the version header does not choose the checks, as it did in the original.
#[test]
fn the_version_header_weakens_nothing() {
    let world = World::start();
    for version in ["2025-03-26", "2024-11-05", "2025-06-18", "1.0", ""] {
        for token in [
            world.token().audience("x"),
            world.token().without("exp"),
            world.token().signed_by(Key::Stranger),
        ] {
            let bearer = format!("Bearer {}", token.compact());
            let headers = [("Authorization", bearer.as_str()), ("MCP-Protocol-Version", version)];
            assert_eq!(world.ask("POST", "/mcp", &headers, &call_of("echo")).status, 401, "{version}");
        }
        let narrow = format!("Bearer {}", world.token().compact());
        let headers = [("Authorization", narrow.as_str()), ("MCP-Protocol-Version", version)];
        assert_eq!(world.ask("POST", "/mcp", &headers, &call_of("narrow")).status, 403, "{version}");
    }
    assert!(world.server.take_calls().is_empty());
}

/// RS-08, RS-09, RS-10; RFC 6750 section 3.1.
#[test]
fn a_token_that_is_too_narrow_is_told_every_scope_it_needs() {
    let world = World::start();
    for (scope, tool, status) in [
        ("", "echo", 200),
        ("", "narrow", 403),
        ("mcp_narrow", "narrow", 403),
        ("mcp_narrow mcp_extra", "narrow", 200),
        ("mcp_admin", "narrow", 200),
        ("MCP_NARROW mcp_extra", "narrow", 403),
    ] {
        let answer = world.call_tool(tool, Some(&world.token().scope(scope)));
        assert_eq!(answer.status, status, "{scope:?} for {tool}");
        if status == 403 {
            let said = challenge(&answer);
            assert!(said.contains("error=\"insufficient_scope\""), "{said}");
            assert!(said.contains("scope=\"mcp_extra mcp_narrow\""), "{said}");
            assert_eq!(body(&answer)["error"], "insufficient_scope");
        }
        assert_eq!(world.server.take_calls().len(), usize::from(status == 200));
    }
    let listed = world.token().without("scope").claim("scp", json!(["mcp_narrow", "mcp_extra"]));
    assert_eq!(world.call_tool("narrow", Some(&listed)).status, 200, "scp, as an array");
    let batch = format!("[{},{}]", call_of("echo"), call_of("narrow"));
    assert_eq!(
        world.post(Some(&world.token()), &batch).status,
        403,
        "a batch needs what its messages need together"
    );
}

/// D8, D9: no keys yet is our fault, not the client's; they are used as soon as they are there.
#[test]
fn keys_may_come_late() {
    let issuer = crate::world::issuer::Issuer::start();
    issuer.set_down(true);
    let world = World::built(issuer, crate::world::server::McpServer::start(), |_| {});
    let answer = world.call_tool("echo", Some(&world.token()));
    assert_eq!(answer.status, 503);
    assert!(answer.header("retry-after").is_some() && answer.header("www-authenticate").is_none());
    world.issuer.set_down(false);
    world.clock.set(NOW.plus(30));
    assert_eq!(world.call_tool("echo", Some(&world.token())).status, 200);
    assert_eq!(world.server.take_calls().len(), 1);
}

/// Keys rotate without a restart, and without a wait.
#[test]
fn keys_rotate_without_a_restart() {
    let world = World::start();
    assert_eq!(world.call_tool("echo", Some(&world.token())).status, 200);
    world.issuer.set_keys(&[Key::Two]);
    let newer = Token::new(&world.issuer.url, RESOURCE, NOW.0).kid("two").signed_by(Key::Two);
    assert_eq!(world.call_tool("echo", Some(&newer)).status, 200);
    let older = Token::new(&world.issuer.url, RESOURCE, NOW.0);
    assert_eq!(world.call_tool("echo", Some(&older)).status, 401, "the old key is gone");
}

/// A new key under an old `kid`, as of an issuer that keeps its keys in memory and is started
/// anew: found at once and each time, though a forgery had the issuer asked in vain just before.
#[test]
fn a_new_key_under_an_old_name_is_found_each_time() {
    let world = World::start();
    let signed = |key: Key, subject: &str| world.token().kid("one").signed_by(key).subject(subject);
    let call = |token: Token| world.call_tool("echo", Some(&token)).status;
    for (round, key) in [Key::One, Key::Two, Key::One, Key::Two].into_iter().enumerate() {
        world.issuer.set_key_as(key, "one");
        assert_eq!(call(signed(key, "alice")), 200, "round {round}");
        assert_eq!(call(signed(Key::Stranger, "mallory")), 401, "round {round}");
        assert_eq!(world.server.take_calls().len(), 1, "round {round}");
    }
    assert_eq!(call(signed(Key::One, "alice")), 401, "the key before");
}

#[test]
fn a_thousand_unknown_keys_are_not_a_thousand_fetches() {
    let world = World::start();
    assert_eq!(world.call_tool("echo", Some(&world.token())).status, 200);
    let before = world.issuer.fetches();
    for n in 0..1000 {
        let token = world.token().kid(&format!("unknown-{n}"));
        assert_eq!(world.call_tool("echo", Some(&token)).status, 401);
    }
    let fetched = world.issuer.fetches() - before;
    assert!(fetched <= 3, "{fetched} fetches");
    assert_eq!(world.call_tool("echo", Some(&world.token())).status, 200);
}

/// RS-16: neither a token nor a body ever reaches the log, at any level.
#[test]
fn the_log_holds_no_secret() {
    let world = World::start();
    let good = world.token().subject("mallory\u{2028}forged line").compact();
    let bad = world.token().signed_by(Key::Stranger).compact();
    for token in [&good, &bad] {
        let bearer = format!("Bearer {token}");
        world.ask("POST", "/mcp", &[("Authorization", &bearer)], &call_of("secret-argument"));
        world.ask("GET", &format!("/mcp?access_token={token}"), &[], "");
    }
    let log = world.log.text();
    for token in [&good, &bad] {
        for part in token.split('.') {
            assert!(!log.contains(part), "{part}");
        }
    }
    assert!(log.lines().all(|line| !line.starts_with("forged")), "{log}");
    assert!(log.contains("item=secret-argument"), "the tool's name is what an audit needs: {log}");
}
