//! Who keeps failing is slowed down, who holds too many streams gets no more, and a stream ends with its token.

use std::time::{Duration, Instant};

use open_mcp_auth_proxy::config::Config;

use crate::world::issuer::Key;
use crate::world::raw::{Raw, RawAnswer};
use crate::world::{NOW, World, call_of, request, wait_until};

/// A world whose only proxy in front is this machine, and ten failures a minute.
fn world() -> World {
    World::with(|config: &mut Config| {
        config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        config.limits.auth_failures_per_minute = 10;
    })
}

fn ask(world: &World, from: &str, token: &str) -> RawAnswer {
    let bearer = format!("Bearer {token}");
    let mut headers = vec![("X-Forwarded-For", from)];
    if !token.is_empty() {
        headers.push(("Authorization", bearer.as_str()));
    }
    world.ask("POST", "/mcp", &headers, &call_of("echo"))
}

fn forged(world: &World, n: i64) -> String {
    world.token().claim("jti", n).signed_by(Key::Stranger).compact()
}

#[test]
fn an_address_that_keeps_failing_is_told_to_come_back_later() {
    let world = world();
    let (bad, good) = ("203.0.113.7", "203.0.113.8");
    let known = world.token().subject("neighbour").compact();
    assert_eq!(ask(&world, bad, &known).status, 200, "a token that holds, from the same address");
    for n in 0..10 {
        assert_eq!(ask(&world, bad, &forged(&world, n)).status, 401, "failure {n}");
    }
    let refused = ask(&world, bad, &forged(&world, 10));
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("15")));
    assert!(refused.header("www-authenticate").is_none());
    let error: serde_json::Value = serde_json::from_slice(&refused.body).unwrap();
    assert_eq!(error["error"]["code"], -32000);
    world.server.take_calls();
    for (who, from, token, status) in [
        ("a new token that would hold, from there", bad, world.token().subject("new").compact(), 429),
        ("junk, from there", bad, "junk".to_owned(), 429),
        ("the token that is remembered, from there", bad, known.clone(), 200),
        ("nobody, from there", bad, String::new(), 401),
        ("somebody else", good, world.token().subject("other").compact(), 200),
        ("somebody else's failure", good, forged(&world, 99), 401),
        ("who only says to come from there", "203.0.113.7, 203.0.113.9", forged(&world, 98), 401),
    ] {
        assert_eq!(ask(&world, from, &token).status, status, "{who}");
        assert_eq!(world.server.take_calls().len(), usize::from(status == 200), "{who}");
    }
    world.clock.set(NOW.plus(16));
    assert_eq!(ask(&world, bad, &world.token().subject("new").compact()).status, 200, "a while later");
    let log = world.log.text();
    assert!(log.contains("client=203.0.113.7") && log.contains("status=429"), "{log}");
    assert!(log.contains("too many tokens from this address did not hold"), "{log}");
}

/// An expired token is a client that is late: it must be told to refresh, whatever its neighbours do.
#[test]
fn late_tokens_and_missing_ones_are_no_failures() {
    let world = world();
    for n in 0..40 {
        let late = world.token().claim("exp", NOW.0 - 10 - n).compact();
        assert_eq!(ask(&world, "203.0.113.7", &late).status, 401, "{n}");
        assert_eq!(ask(&world, "203.0.113.7", "").status, 401, "{n}");
    }
    let narrow = world.token().compact();
    for _ in 0..40 {
        let headers = [("X-Forwarded-For", "203.0.113.7"), ("Authorization", &format!("Bearer {narrow}"))];
        assert_eq!(world.ask("POST", "/mcp", &headers, &call_of("narrow")).status, 403);
    }
    assert_eq!(ask(&world, "203.0.113.7", &forged(&world, 1)).status, 401);
}

/// Behind a reverse proxy that nobody told us of, every client has its address: one must not lock out the others.
#[test]
fn an_address_that_may_be_many_is_never_slowed_down() {
    for (what, trusted, forwarded) in [
        ("loopback", None, None),
        ("loopback, with a header that is not believed", None, Some("203.0.113.7")),
        ("a trusted proxy that names nobody", Some("127.0.0.0/8"), None),
        ("a trusted proxy that names another", Some("127.0.0.0/8"), Some("127.0.0.2")),
    ] {
        let world = World::with(|config| {
            config.limits.auth_failures_per_minute = 5;
            config.trusted_proxies = trusted.into_iter().map(|text: &str| text.parse().unwrap()).collect();
        });
        for n in 0..20 {
            let bearer = format!("Bearer {}", forged(&world, n));
            let mut headers = vec![("Authorization", bearer.as_str())];
            headers.extend(forwarded.map(|from| ("X-Forwarded-For", from)));
            assert_eq!(world.ask("POST", "/mcp", &headers, &call_of("echo")).status, 401, "{what}, {n}");
        }
        assert_eq!(world.call_tool("echo", Some(&world.token())).status, 200, "{what}");
    }
}

/// The MCP server is told of the client by the same rule.
#[test]
fn the_server_is_told_the_client_that_is_believed() {
    let world = world();
    let token = world.token().compact();
    for (from, told) in [
        ("203.0.113.7", "203.0.113.7"),
        ("198.51.100.1, 203.0.113.7", "203.0.113.7"),
        ("203.0.113.7, 127.0.0.3", "203.0.113.7"),
    ] {
        assert_eq!(ask(&world, from, &token).status, 200);
        assert_eq!(world.server.take_calls()[0].header("x-forwarded-for"), Some(told), "{from}");
    }
}

fn open(world: &World, token: &str) -> (Raw, u16) {
    let mut client = world.raw();
    client.send(request("GET", "/mcp", &[("Authorization", &format!("Bearer {token}"))], ""));
    let status = client.head().unwrap().status;
    (client, status)
}

#[test]
fn one_principal_does_not_take_every_stream() {
    let world = World::with(|config| {
        config.limits.streams = 4;
        config.limits.streams_per_principal = Some(2);
    });
    let (alice, bob) = (world.token().subject("alice"), world.token().subject("bob").compact());
    // Another token of the same person is the same principal.
    let held = [open(&world, &alice.compact()), open(&world, &alice.clone().claim("jti", 2).compact())];
    assert!(held.iter().all(|(_, status)| *status == 200));
    let mut third = world.raw();
    third.send(request("GET", "/mcp", &[("Authorization", &format!("Bearer {}", alice.compact()))], ""));
    let refused = third.answer().unwrap();
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("2")));
    let others = [open(&world, &bob), open(&world, &bob)];
    assert!(others.iter().all(|(_, status)| *status == 200));
    assert_eq!(open(&world, &world.token().subject("carol").compact()).1, 503, "all together");
    drop(held);
    wait_until("places are free again", || open(&world, &alice.compact()).1 == 200);
    assert_eq!(world.call_tool("echo", Some(&world.token())).status, 200, "plain calls go on");
}

/// The stream ends as a whole one, the MCP server's side of it too, and the log says why.
#[test]
fn a_stream_ends_with_its_token() {
    for path in ["/mcp", "/sse"] {
        let world = World::start();
        let (short, long) = (world.token().claim("exp", NOW.0 + 1), world.token());
        let bearer = |token: &crate::world::issuer::Token| format!("Bearer {}", token.compact());
        let began = Instant::now();
        let mut ending = world.raw();
        ending.send(request("GET", path, &[("Authorization", &bearer(&short))], ""));
        let mut staying = world.raw();
        staying.send(request("GET", path, &[("Authorization", &bearer(&long))], ""));
        for client in [&mut ending, &mut staying] {
            assert_eq!(client.head().unwrap().status, 200);
            if path == "/sse" {
                assert!(client.chunk().unwrap().starts_with(b"event: endpoint"));
            }
        }
        assert_eq!(ending.chunk(), None, "{path}: its end is a proper one");
        assert!(began.elapsed() > Duration::from_millis(500), "{:?}", began.elapsed());
        assert!(ending.is_closed_within(Duration::from_secs(5)), "{path}");
        wait_until("the upstream request has ended too", || world.server.connections() == 1);
        let log = world.log.text();
        assert!(log.contains("a stream was ended") && log.contains("has expired"), "{log}");
        assert!(!staying.is_closed_within(Duration::from_millis(300)), "{path}: the other one stays");
    }
}

#[test]
fn a_stream_outlives_its_token_where_the_operator_says_so() {
    let world = World::with(|config| config.streams_outlive_token = true);
    let (mut client, status) = open(&world, &world.token().claim("exp", NOW.0 + 1).compact());
    assert_eq!(status, 200);
    assert!(!client.is_closed_within(Duration::from_millis(1_800)));
    assert!(!world.log.text().contains("a stream was ended"));
}
