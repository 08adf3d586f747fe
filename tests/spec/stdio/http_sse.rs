//! HTTP+SSE in front of a program: the same sessions, each with its event stream.

use serde_json::json;

use super::{Client, Event, call, deed_with_token, initialize, no_process_is_left, read_until, world};
use crate::world::issuer::Token;
use crate::world::raw::Raw;
use crate::world::{World, request, wait_until};

/// Opens a stream, and gives it with the address for messages.
fn open(world: &World, subject: &str) -> (Raw, String, String) {
    open_with(world, &world.token().subject(subject))
}

pub fn open_with(world: &World, token: &Token) -> (Raw, String, String) {
    let bearer = format!("Bearer {}", token.compact());
    let mut raw = world.raw();
    raw.send(request("GET", "/sse", &[("Authorization", &bearer)], ""));
    let head = raw.head().unwrap();
    assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
    let first = read_until(&mut raw, |events| !events.is_empty()).remove(0).data;
    assert!(first.starts_with("/messages/?session_id="), "{first}");
    (raw, first, bearer)
}

fn post(world: &World, target: &str, bearer: &str, body: &str) -> (u16, String) {
    let answer = world.ask("POST", target, &[("Authorization", bearer)], body);
    (answer.status, answer.text())
}

/// SSE-01 to SSE-05.
#[test]
fn a_stream_is_a_session() {
    let world = world("--era legacy", |_| {});
    let (mut stream, target, bearer) = open(&world, "alice");
    assert_eq!(post(&world, &target, &bearer, &initialize("2024-11-05")), (202, "Accepted".into()));
    let begun = read_until(&mut stream, |events| !events.is_empty()).remove(0).json();
    assert_eq!(begun["result"]["protocolVersion"], "2024-11-05");
    assert_eq!(
        post(&world, &target, &bearer, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).0,
        202
    );
    assert_eq!(post(&world, &target, &bearer, &initialize("2024-11-05")).0, 400, "once is enough");
    // Progress, a request of the server, and answers: all on the one stream, in order, without ids.
    post(&world, &target, &bearer, &deed_with_token(1, "t", "progress:2"));
    let told = read_until(&mut stream, |events| events.len() == 3);
    assert!(told.iter().all(|event| event.id.is_none()));
    assert_eq!(told[2].json()["id"], 1);
    post(&world, &target, &bearer, &call(2, "ask", json!({"method": "roots/list"})));
    let asked = read_until(&mut stream, |events| events.len() == 1).remove(0).json();
    let answer = json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"roots": []}}).to_string();
    assert_eq!(post(&world, &target, &bearer, &answer).0, 202);
    let concluded = read_until(&mut stream, |events| events.len() == 1).remove(0);
    assert_eq!(super::text(&concluded.json()), r#"{"roots":[]}"#);
    // Its address is worth nothing to anybody else, and nothing once it is changed.
    let (_bobs, bobs_target, bob) = open(&world, "bob");
    let ping = r#"{"jsonrpc":"2.0","id":9,"method":"ping"}"#;
    for (whose, target, bearer) in [
        ("bob at alice's", &target, &bob),
        ("alice at bob's", &bobs_target, &bearer),
        ("without a MAC", &target.split('&').next().unwrap().to_owned(), &bearer),
        ("nothing", &"/messages/".to_owned(), &bearer),
    ] {
        assert_eq!(post(&world, target, bearer, ping).0, 404, "{whose}");
    }
    assert_eq!(world.ask("POST", &target, &[], ping).status, 401);
    // A session of one transport is none of the other.
    let client = Client::open(&world);
    let name = target.split("session_id=").nth(1).unwrap().split('&').next().unwrap().to_owned();
    let headers = [("Authorization", bearer.as_str()), ("Mcp-Session-Id", name.as_str())];
    assert_eq!(world.ask("POST", "/mcp", &headers, ping).status, 404);
    drop(client);
    // The end of the stream is the end of the session.
    assert_eq!(world.bridge().processes(), 3);
    drop(stream);
    wait_until("its process has ended", || world.bridge().processes() == 2);
    assert_eq!(post(&world, &target, &bearer, ping).0, 404);
}

/// A crash ends the stream, after everyone who waits was told.
#[test]
fn a_crash_ends_the_stream() {
    let world = world("--era legacy", |_| {});
    let (mut stream, target, bearer) = open(&world, "alice");
    post(&world, &target, &bearer, &initialize("2024-11-05"));
    read_until(&mut stream, |events| !events.is_empty());
    for (id, what) in [(1, "hang"), (2, "crash:1")] {
        post(&world, &target, &bearer, &super::deed(id, what));
    }
    let rest = super::read_all(&mut stream);
    let mut ids: Vec<_> = rest.iter().map(|event: &Event| event.json()["id"].as_i64().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, [1, 2]);
    assert!(rest.iter().all(|event| event.json()["error"]["code"] == -32603));
    no_process_is_left(&world);
    assert_eq!(post(&world, &target, &bearer, r#"{"jsonrpc":"2.0","id":9,"method":"ping"}"#).0, 404);
}
