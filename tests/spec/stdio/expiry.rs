//! An event stream ends with the token that opened it (section 3.5), as a whole one and with the reason in the log.

use serde_json::json;

use super::http_sse;
use super::{
    Client, Event, deed, messages, no_process_is_left, read_all, read_until, text, world, world_with,
};
use crate::modern;
use crate::world::issuer::Token;
use crate::world::{NOW, World, wait_until};

/// A token that opens streams which end in so many seconds.
fn short(world: &World, seconds: i64) -> Token {
    world.token().subject("alice").claim("exp", NOW.0 + seconds)
}

fn ended(world: &World) -> usize {
    let log = world.log.text();
    let is_told = |line: &&str| {
        line.contains("a stream was ended")
            && line.contains("the token that opened it has expired")
            && line.contains("subject=alice")
    };
    log.lines().filter(is_told).count()
}

/// Legacy: the stream of GET and that of a POST end; the session goes on, and a fresh token resumes (SH-10).
#[test]
fn the_streams_of_a_session_end_and_are_resumed_with_a_fresh_token() {
    let world = world("--era legacy", |_| {});
    let mut client = Client::open(&world);
    let fresh = client.bearer.clone();
    client.bearer = format!("Bearer {}", short(&world, 2).compact());
    let mut standing = client.listen(None);
    let mut post = client.begin(&deed(1, "until:resumed"));
    assert_eq!(post.head().unwrap().header("content-type"), Some("text/event-stream"));
    let told = read_all(&mut post);
    assert!(told.iter().all(|event| event.data.is_empty()), "its answer is not there yet: {told:?}");
    assert!(read_all(&mut standing).iter().all(|event| event.data.is_empty()));
    assert_eq!(ended(&world), 2, "{}", world.log.text());
    client.bearer = fresh;
    let mut resumed = client.listen(told[0].id.as_deref());
    client.post(&deed(3, "release:resumed"));
    let answer = read_until(&mut resumed, |events| events.iter().any(|event| !event.data.is_empty()));
    assert_eq!(text(&answer.last().map(Event::json).unwrap()), "done");
    assert!(
        !client.seen().iter().any(|line| line["method"] == "notifications/cancelled"),
        "an end is not a cancellation"
    );
    // An answer that comes as JSON has the time that it needs.
    client.bearer = format!("Bearer {}", short(&world, 1).compact());
    let whole = world.ask(
        "POST",
        "/mcp",
        &client
            .headers()
            .into_iter()
            .filter(|(name, _)| *name != "Accept")
            .chain([("Accept", "application/json")])
            .collect::<Vec<_>>(),
        &deed(2, "late:2500"),
    );
    assert_eq!(text(&messages(&whole)[0]), "done");
}

/// HTTP+SSE: the stream is the session.
#[test]
fn a_session_over_sse_ends_with_its_token() {
    let world = world("--era legacy", |_| {});
    let (mut stream, ..) = http_sse::open_with(&world, &short(&world, 2));
    assert_eq!(world.bridge().sessions(), 1);
    assert_eq!(read_all(&mut stream), []);
    no_process_is_left(&world);
    wait_until("the session is forgotten", || world.bridge().sessions() == 0);
    assert_eq!(ended(&world), 1, "{}", world.log.text());
}

/// Modern: a subscription ends without a result, so that its client subscribes again, and the server is told.
#[test]
fn a_subscription_ends_with_its_token() {
    for era in ["modern", "legacy"] {
        let world = modern::world(&format!("--era {era}"), |_| {});
        let other = modern::Client::with(&world, &world.token().subject("alice"));
        let listen = json!({"notifications": {"toolsListChanged": true}});
        let mut staying = modern::Events::begin(other.send("1", "subscriptions/listen", &listen));
        assert!(staying.next().is_some());
        let client = modern::Client::with(&world, &short(&world, 2));
        let mut events = modern::Events::begin(client.send("\"s\"", "subscriptions/listen", &listen));
        assert_eq!(events.next().unwrap()["method"], "notifications/subscriptions/acknowledged");
        assert_eq!(events.next(), None, "{era}");
        assert_eq!(ended(&world), 1, "{}", world.log.text());
        if era == "modern" {
            wait_until("it was cancelled", || {
                other.seen().iter().any(|line| line.contains("notifications/cancelled"))
            });
        }
        other.call("touch", json!({"what": "tools"}));
        assert_eq!(
            staying.next().unwrap()["method"],
            "notifications/tools/list_changed",
            "the other one stays"
        );
    }
}

/// `streams_outlive_token`
#[test]
fn streams_outlive_their_token_where_the_operator_says_so() {
    let world = world_with("--era dual", |_| {}, |config| config.streams_outlive_token = true);
    let mut client = Client::open(&world);
    client.bearer = format!("Bearer {}", short(&world, 1).compact());
    let mut standing = client.listen(None);
    let listen = json!({"notifications": {"toolsListChanged": true}});
    let subscriber = modern::Client::with(&world, &short(&world, 1));
    let mut events = modern::Events::begin(subscriber.send("1", "subscriptions/listen", &listen));
    assert!(events.next().is_some());
    let mut post = client.begin(&deed(1, "late:2500"));
    assert_eq!(text(&messages(&post.answer().unwrap())[0]), "done");
    client.post(&super::call(2, "touch", json!({"what": "tools"})));
    subscriber.call("touch", json!({"what": "tools"}));
    let told = read_until(&mut standing, |events| events.iter().any(|event| !event.data.is_empty()));
    assert!(told.last().unwrap().data.contains("list_changed"));
    assert_eq!(events.next().unwrap()["method"], "notifications/tools/list_changed");
    assert_eq!(ended(&world), 0);
}
