//! Event streams are counted, whichever request they answer (section 3.5): those of all callers, and of each.

use serde_json::json;

use super::{Client, call, deed, messages, read_until, text, world_with};
use crate::modern;
use crate::world::raw::{Raw, RawAnswer};
use crate::world::{World, wait_until};

fn narrow(arguments: &str) -> World {
    let world = world_with(
        arguments,
        |_| {},
        |config| {
            config.limits.streams = 3;
            config.limits.streams_per_principal = Some(2);
        },
    );
    wait_until("the keys are there", || world.log.text().contains("keys loaded"));
    world
}

fn is_stream(raw: &mut Raw) -> bool {
    let head = raw.head().unwrap();
    head.status == 200 && head.header("content-type") == Some("text/event-stream")
}

fn refused(answer: &RawAnswer) -> (u16, Option<&str>) {
    (answer.status, answer.header("retry-after"))
}

/// Legacy: a POST whose answer takes its time is a stream like that of GET.
#[test]
fn a_post_that_is_answered_by_events_takes_a_place() {
    let world = narrow("--era legacy");
    let (alice, bob) = (Client::open(&world), Client::open_as(&world, "bob", "2025-11-25"));
    let standing = alice.listen(None);
    let mut post = alice.begin(&deed(1, "hang"));
    assert!(is_stream(&mut post));
    assert_eq!(refused(&alice.post(&deed(2, "hang"))), (429, Some("2")), "her third");
    let mut bobs = bob.begin(&deed(1, "until:free"));
    assert!(is_stream(&mut bobs));
    assert_eq!(refused(&bob.post(&deed(2, "hang"))), (503, Some("2")), "the fourth of all");
    assert_eq!(text(&messages(&alice.quickly(&call(3, "echo", json!({"message": "on"}))))[0]), "on");
    drop(standing);
    let mut id = 10;
    // Its place is free once its end was noticed; and what bob waits for comes on the stream that he has.
    wait_until("there is a place again", || {
        id += 1;
        is_stream(&mut alice.begin(&deed(id, "hang")))
    });
    bob.post(&deed(3, "release:free")); // whose own answer has no place, where it is not there at once
    let answer = read_until(&mut bobs, |events| events.iter().any(|event| !event.data.is_empty()));
    assert_eq!(text(&answer.last().unwrap().json()), "done");
}

/// Modern: so is a call that is told of its progress; one that has no place is cancelled at the server.
#[test]
fn a_call_that_is_told_of_its_progress_takes_a_place() {
    let world = narrow("--era modern");
    let token = world.token().subject("alice");
    let alice = modern::Client::with(&world, &token).meta("progressToken", json!("p"));
    let listen = json!({"notifications": {"toolsListChanged": true}});
    let mut listening = modern::Events::begin(alice.send("1", "subscriptions/listen", &listen));
    assert!(listening.next().is_some());
    let told = json!({"name": "do", "arguments": {"deed": "progress:1,hang"}});
    let mut first = modern::Events::begin(alice.send("1", "tools/call", &told));
    assert_eq!(first.next().unwrap()["method"], "notifications/progress");
    let second = alice.send("2", "tools/call", &told).answer().unwrap();
    assert_eq!(refused(&second), (429, Some("2")), "{second:?}");
    wait_until("it was cancelled", || {
        alice.seen().iter().any(|line| line.contains("notifications/cancelled"))
    });
    drop(first);
    wait_until("there is a place again", || {
        let mut raw = alice.send("3", "tools/call", &told);
        is_stream(&mut raw)
    });
    drop(listening);
}
