//! Sessions: how one begins, to whom it belongs, what fits it, and how it ends.

use std::time::Duration;

use serde_json::json;

use super::{Client, call, deed, initialize, is_alive, messages, no_process_is_left, text, world};
use crate::world::wait_until;

/// Section 3.2; SH-02, SH-03, SH-11, SH-13, SH-14.
#[test]
fn a_session_begins_goes_on_and_ends() {
    let world = world("--era legacy", |_| {});
    assert_eq!(world.bridge().processes(), 0, "nothing is started before somebody needs it");
    let client = Client::open(&world);
    assert!(client.session.bytes().all(|b| (0x21..0x7f).contains(&b)));
    for n in 0..5 {
        let answer = client.quickly(&call(n, "echo", json!({"message": format!("hé {n}")})));
        assert_eq!(text(&messages(&answer)[0]), format!("hé {n}"));
        assert_eq!(messages(&answer)[0]["id"], n);
    }
    let pid = client.pid();
    assert!(is_alive(pid));
    assert_eq!((world.bridge().processes(), world.bridge().sessions()), (1, 1));
    assert_eq!(client.delete().status, 204);
    for (what, answer) in [("POST", client.post(&call(9, "echo", json!({})))), ("DELETE", client.delete())] {
        assert_eq!(answer.status, 404, "{what}");
    }
    no_process_is_left(&world);
    assert!(!is_alive(pid));
}

/// D6, SH-12, SH-13, SH-16, SH-18: what does not fit is refused, and the child hears nothing of it.
#[test]
fn what_does_not_fit_a_session_goes_nowhere() {
    let world = world("--era legacy", |_| {});
    let alice = Client::open(&world);
    let bob = Client::open_as(&world, "bob", "2025-06-18");
    let ping = r#"{"jsonrpc":"2.0","id":"marked","method":"ping"}"#;
    let batch = format!("[{ping}]");
    let forged = format!("x{}", alice.session);
    let (theirs, ours) = (bob.session.clone(), alice.session.clone());
    let version = ("MCP-Protocol-Version", "2025-11-25");
    for (given, headers, body, status, code) in [
        ("no session", vec![], ping, 400, -32000),
        ("an unknown one", vec![("Mcp-Session-Id", "unknown")], ping, 404, -32001),
        ("a forged one", vec![("Mcp-Session-Id", forged.as_str())], ping, 404, -32001),
        ("somebody else's", vec![("Mcp-Session-Id", theirs.as_str())], ping, 404, -32001),
        (
            "another version",
            vec![("Mcp-Session-Id", ours.as_str()), ("MCP-Protocol-Version", "2025-06-18")],
            ping,
            400,
            -32000,
        ),
        (
            "no version at all, which is fine, but a batch",
            vec![("Mcp-Session-Id", ours.as_str())],
            batch.as_str(),
            400,
            -32600,
        ),
        (
            "initialize again",
            vec![("Mcp-Session-Id", ours.as_str()), version],
            &initialize("2025-11-25"),
            400,
            -32600,
        ),
    ] {
        let mut headers = headers.clone();
        headers.push(("Authorization", alice.bearer.as_str()));
        let answer = world.ask("POST", "/mcp", &headers, body);
        let error: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((answer.status, error["error"]["code"].as_i64()), (status, Some(code)), "given {given}");
    }
    for method in ["GET", "DELETE"] {
        let headers = [("Authorization", alice.bearer.as_str()), ("Mcp-Session-Id", theirs.as_str())];
        assert_eq!(world.ask(method, "/mcp", &headers, "").status, 404, "{method}");
        assert_eq!(world.ask(method, "/mcp", &headers[..1], "").status, 400, "{method}");
    }
    // Without a token there is no session either, and nothing was started for all that.
    assert_eq!(world.post(None, &initialize("2025-11-25")).status, 401);
    assert_eq!(world.bridge().processes(), 2);
    for client in [&alice, &bob] {
        assert!(
            client.seen().iter().all(|line| line["id"] != "marked" && line["id"] != 1),
            "nothing got through"
        );
    }
}

/// SH-01, SH-18: batches of 2025-03-26 are split, since official servers ignore them, and answered together.
#[test]
fn a_batch_is_split_and_answered_together() {
    let world = world("--era legacy", |_| {});
    let client = Client::open_as(&world, "alice", "2025-03-26");
    let note = r#"{"jsonrpc":"2.0","method":"notifications/marked"}"#;
    let batch = format!(
        "[{},\n {note},\n {}]",
        call(1, "echo", json!({"message": "a"})),
        call("1", "echo", json!({"message": "b"}))
    );
    let answer = client.quickly(&batch);
    let all: Vec<serde_json::Value> = serde_json::from_slice(&answer.body).unwrap();
    let found: Vec<_> = all.iter().map(|one| (one["id"].clone(), text(one))).collect();
    assert_eq!(found, [(json!(1), "a".into()), (json!("1"), "b".into())]);
    assert_eq!(client.post(&format!("[{note},{note}]")).status, 202);
    assert_eq!(client.post(&format!("[{}]", initialize("2025-03-26"))).status, 400);
    // With progress it is a stream of single messages.
    let batch = format!(
        "[{},{}]",
        super::deed_with_token(5, "t", "progress:2"),
        call(6, "echo", json!({"message": "c"}))
    );
    let answer = client.post(&batch);
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    let ids: Vec<_> = messages(&answer).iter().map(|message| message["id"].clone()).collect();
    assert_eq!(ids, [json!(null), json!(null), json!(5), json!(6)]);
    let lines = client.seen();
    assert!(lines.iter().all(serde_json::Value::is_object), "never an array: {lines:?}");
    assert!(lines.iter().filter(|line| line["method"] == "notifications/marked").count() >= 3);
}

/// An id that still waits cannot be used again; `1` and `"1"` are two.
#[test]
fn an_id_is_in_use_until_it_is_answered() {
    let world = world("--era legacy", |_| {});
    let client = Client::open(&world);
    let mut first = client.begin(&deed(1, "until:free"));
    wait_until("the call is under way", || client.seen().iter().any(|line| line["id"] == 1));
    let again = client.post(&call(1, "echo", json!({"message": "x"})));
    assert_eq!(again.status, 400, "{}", again.text());
    assert_eq!(client.post(&call(1.0, "echo", json!({"message": "x"}))).status, 400, "1.0 is 1");
    assert_eq!(text(&messages(&client.post(&call("1", "echo", json!({"message": "y"}))))[0]), "y");
    client.post(&deed(2, "release:free"));
    assert_eq!(messages(&first.answer().unwrap()).last().unwrap()["id"], 1);
    assert_eq!(text(&messages(&client.post(&call(1, "echo", json!({"message": "z"}))))[0]), "z");
}

/// Section 3.5: caps in all and per principal; a principal with too many gives up the one that it uses least.
#[test]
fn sessions_are_capped() {
    let world = world("--era legacy", |stdio| {
        stdio.sessions = 4;
        stdio.sessions_per_principal = 2;
    });
    let first = Client::open(&world);
    let second = Client::open(&world);
    let _held = second.listen(None);
    let third = Client::open(&world);
    assert_eq!(first.post(&call(1, "echo", json!({}))).status, 404, "the idle one made room");
    assert_eq!(second.tool("echo", json!({"message": "a"})), "a");
    let _also_held = third.listen(None);
    let refused = |subject: &str| {
        let token = world.token().subject(subject);
        world.post(Some(&token), &initialize("2025-11-25"))
    };
    let answer = refused("alice");
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("2")), "both are in use");
    let _bob = [Client::open_as(&world, "bob", "2025-11-25"), Client::open_as(&world, "bob", "2025-11-25")];
    assert_eq!(refused("carol").status, 503, "four in all");
    wait_until("the fifth process has ended", || world.bridge().processes() == 4);
}

/// A session that nobody uses ends, and with it its process; one that is listened to does not.
#[test]
fn an_idle_session_ends() {
    let world = world("--era legacy", |stdio| stdio.session_idle_time = Duration::from_secs(2));
    let used = Client::open(&world);
    let _listening = used.listen(None);
    let idle = Client::open(&world);
    let (gone, stays) = (idle.pid(), used.pid());
    wait_until("the idle one ends", || !is_alive(gone));
    assert_eq!(idle.post(&call(1, "echo", json!({}))).status, 404);
    assert!(is_alive(stays));
    assert_eq!(used.tool("echo", json!({"message": "still here"})), "still here");
}

/// An `initialize` that fails leaves neither session nor process.
#[test]
fn a_session_that_cannot_begin_is_none() {
    for (deed, code) in [("crash:3", -32603), ("error:-32602", -32602), ("hang", -32603)] {
        let world = world(&format!("--era legacy --at initialize={deed}"), |stdio| {
            if deed == "hang" {
                stdio.request_time = Duration::from_secs(1);
            }
        });
        let answer = world.post(Some(&world.token()), &initialize("2025-11-25"));
        let error = &messages(&answer)[0];
        assert_eq!(
            (error["error"]["code"].as_i64(), &error["id"]),
            (Some(code), &json!(0)),
            "{deed}: {error}"
        );
        assert_eq!(answer.header("mcp-session-id"), None, "{deed}");
        no_process_is_left(&world);
        wait_until("the session is forgotten", || world.bridge().sessions() == 0);
    }
}
