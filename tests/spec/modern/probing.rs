//! How it is found out what a server speaks (section 3.4): only an answer decides.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Client, Events, read, world};
use crate::world::{World, wait_until};

fn patient(arguments: &str, millis: u64) -> World {
    world(arguments, |stdio| stdio.probe_time = Duration::from_millis(millis))
}

fn era(client: &Client<'_>) -> String {
    let whoami: Value = serde_json::from_str(client.call("whoami", json!({})).text()).unwrap();
    whoami["era"].as_str().unwrap().to_owned()
}

/// A server that takes long to start is what it says when it has: nothing of the time before stays.
#[test]
fn a_modern_server_that_is_slow_to_start_is_modern() {
    for what in ["modern", "dual"] {
        let world = patient(&format!("--era {what} --slow 1500"), 300);
        let client = Client::new(&world);
        let call = |n: usize| json!({"name": "echo", "arguments": {"message": n.to_string()}});
        let mut waiting: Vec<_> = (0..5).map(|n| client.send("\"w\"", "tools/call", &call(n))).collect();
        wait_until("it is silent", || world.log.text().contains("has not answered server/discover yet"));
        // Whoever comes now waits too, and whoever leaves is forgotten.
        drop(client.send("\"gone\"", "tools/call", &call(99)));
        waiting.push(client.send("\"w\"", "tools/call", &call(5)));
        for (n, raw) in waiting.iter_mut().enumerate() {
            assert_eq!(read(raw).text(), n.to_string(), "{what}");
        }
        wait_until("it is known", || era(&client) == "Modern");
        wait_until("sessions that were tried have ended", || world.bridge().processes() == 1);
        assert!(!client.seen().iter().any(|line| line.contains("\"initialize\"")), "{what}");
        let log = world.log.text();
        assert!(!log.contains("speaks sessions only"), "{log}");
    }
}

/// One that never answers is served by sessions, without anybody waiting again, and without a verdict.
#[test]
fn a_server_that_ignores_the_question_is_served_by_sessions() {
    let world = patient("--era legacy --at server/discover=hang", 500);
    let client = Client::new(&world);
    assert_eq!(client.call("echo", json!({"message": "hi"})).text(), "hi");
    assert_eq!(era(&client), "Legacy");
    for n in 0..20 {
        let other = Client::with(&world, &world.token().subject(&format!("other-{n}")));
        assert_eq!(other.call("echo", json!({"message": "on"})).text(), "on");
    }
    assert!(!world.log.text().contains("speaks sessions only"), "{}", world.log.text());
    assert!(world.log.text().contains("has not answered server/discover yet"));
}

/// One that ends when it is asked anything before `initialize` is served by sessions, and found out in the end.
#[test]
fn a_server_that_dies_of_the_question_is_served_by_sessions() {
    let world = world("--era legacy --at server/discover=crash:1", |_| {});
    let client = Client::new(&world);
    assert_eq!(client.call("echo", json!({"message": "hi"})).text(), "hi");
    assert_eq!(era(&client), "Legacy");
    wait_until("it is asked no more", || {
        world.log.text().contains("speaks sessions only") && world.bridge().processes() == 1
    });
    assert_eq!(client.call("echo", json!({"message": "on"})).text(), "on");
}

/// What is known of a server stays known when it starts again, however long that takes.
#[test]
fn a_modern_server_that_is_slow_to_start_again_stays_modern() {
    let world = patient("--era modern --slow 1200", 2000);
    let client = Client::new(&world);
    assert_eq!(era(&client), "Modern");
    let died = client.call("do", json!({"deed": "crash:1"}));
    assert_eq!(died.code(), -32603);
    assert_eq!(era(&client), "Modern");
    drop(world);
    let world = patient("--era modern --slow 1200", 300);
    let client = Client::new(&world);
    assert_eq!(era(&client), "Modern");
    assert_eq!(client.call("do", json!({"deed": "crash:1"})).code(), -32603);
    assert_eq!(era(&client), "Modern");
    assert!(!world.log.text().contains("speaks sessions only"));
}

/// A subscription at a session that was tried ends when the server turns out to be modern: its client subscribes again,
/// where the changes are.
#[test]
fn subscriptions_move_to_where_the_changes_are() {
    // The question is answered only after it was asked for a while.
    let world = patient("--era dual --at server/discover=late:3000", 300);
    let client = Client::new(&world);
    let listen = json!({"notifications": {"toolsListChanged": true}});
    let mut events = Events::begin(client.send("\"s\"", "subscriptions/listen", &listen));
    assert!(events.next().is_some());
    assert_eq!(era(&client), "Legacy");
    assert_eq!(events.next(), None, "without a result");
    let mut events = Events::begin(client.send("\"s\"", "subscriptions/listen", &listen));
    assert!(events.next().is_some());
    client.call("touch", json!({"what": "tools"}));
    assert_eq!(events.next().unwrap()["method"], "notifications/tools/list_changed");
    assert_eq!(era(&client), "Modern");
}
