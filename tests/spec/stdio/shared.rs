//! `stdio.share: principal` before 2026-07-28: the sessions of one principal share a process (section 3.3).

use std::time::Duration;

use open_mcp_auth_proxy::config::Share;
use serde_json::{Value, json};

use super::{
    Client, Event, call, deed, deed_with_token, is_alive, messages, no_process_is_left, read_all, read_until,
    text, world,
};
use crate::world::{World, wait_until};

fn shared(arguments: &str) -> World {
    let world = world(arguments, |stdio| {
        stdio.share = Share::Principal;
        stdio.request_time = Duration::from_secs(60);
    });
    wait_until("the keys are there", || world.log.text().contains("keys loaded"));
    world
}

fn bob(world: &World) -> Client<'_> {
    Client::open_as(world, "bob", "2025-11-25")
}

fn ask(client: &Client<'_>, method: &str, params: &Value) -> Value {
    let body = json!({"jsonrpc": "2.0", "id": 70, "method": method, "params": params}).to_string();
    messages(&client.post(&body)).pop().unwrap()
}

/// Numbers 1 to 3: one handshake, which is ours, and ids and tokens that are never mixed up.
#[test]
fn the_same_ids_in_sessions_of_one_process_never_meet() {
    let world = shared("--era legacy");
    let all = [Client::open(&world), Client::open(&world), bob(&world)];
    let pids: Vec<u64> = all.iter().map(Client::pid).collect();
    assert_eq!(pids[0], pids[1], "one principal, one process");
    assert_ne!(pids[0], pids[2], "another principal, another process");
    assert_eq!(world.bridge().processes(), 2);
    let seen = all[0].seen();
    let hello: Vec<_> = seen.iter().filter(|line| line["method"] == "initialize").collect();
    assert_eq!((hello.len(), &hello[0]["params"]["capabilities"]), (1, &json!({})));
    // Both ask with the same ids and tokens at once.
    let ids = [json!(1), json!("1"), json!(1.5), json!("ä\"")];
    let mut waiting: Vec<_> = (0..40)
        .map(|n| {
            let (client, id) = (n % 2, ids[n / 2 % 4].clone());
            let id = if n >= 8 { json!(format!("{id}-{}", n / 8)) } else { id };
            let raw =
                all[client].begin(&call(id.clone(), "echo", json!({"message": format!("{client}: {id}")})));
            (raw, client, id)
        })
        .collect();
    for (raw, client, id) in &mut waiting {
        let answer = messages(&raw.answer().unwrap()).pop().unwrap();
        assert_eq!((text(&answer), &answer["id"]), (format!("{client}: {id}"), &*id));
    }
    let mut told: Vec<_> = [2, 3]
        .iter()
        .zip(&all)
        .map(|(n, one)| one.begin(&deed_with_token(9, "t", &format!("progress:{n}"))))
        .collect();
    for (raw, expected) in told.iter_mut().zip([2, 3]) {
        let all = messages(&raw.answer().unwrap());
        assert_eq!(all.len(), expected + 1, "{all:?}");
        assert!(all[..expected].iter().all(|one| one["params"]["progressToken"] == "t"));
        assert_eq!((&all[0]["params"]["total"], &all[expected]["id"]), (&json!(expected), &json!(9)));
    }
    // One cancels its own request, and the other's with the same id goes on.
    let (_hers, mut others) = (all[0].begin(&deed(5, "until:free")), all[1].begin(&deed(5, "until:free")));
    wait_until("both are there", || {
        all[0].seen().iter().filter(|line| line["params"]["arguments"]["deed"] == "until:free").count() == 2
    });
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":5}}"#;
    assert_eq!(all[0].post(cancel).status, 202);
    all[0].post(&deed(6, "release:free"));
    assert_eq!(text(messages(&others.answer().unwrap()).last().unwrap()), "done");
    let seen = all[0].seen();
    let number = |line: &Value| line["params"]["requestId"].as_u64();
    let cancelled: Vec<_> = seen.iter().filter(|line| line["method"] == "notifications/cancelled").collect();
    assert_eq!(cancelled.len(), 1, "{cancelled:?}");
    assert!(number(cancelled[0]).is_some_and(|number| number > 5), "under its number at the server");
}

/// Numbers 4 and 5: who is told of what.
#[test]
fn changes_reach_whom_they_concern() {
    let world = shared("--era legacy");
    let (mut first, mut second, other) = (Client::open(&world), Client::open(&world), bob(&world));
    let token = world.token().subject("alice").scope("mcp_resources");
    for client in [&mut first, &mut second] {
        client.bearer = format!("Bearer {}", token.compact());
    }
    let mut streams = [first.listen(None), second.listen(None), other.listen(None)];
    for client in [&first, &second] {
        assert_eq!(ask(client, "resources/subscribe", &json!({"uri": "test://both"}))["result"], json!({}));
    }
    assert_eq!(ask(&first, "resources/subscribe", &json!({"uri": "test://a"}))["result"], json!({}));
    first.tool("touch", json!({"what": "test://a"}));
    second.tool("touch", json!({"what": "test://both"}));
    // The second gives up, which the server need not know while the first goes on.
    assert_eq!(ask(&second, "resources/unsubscribe", &json!({"uri": "test://both"}))["result"], json!({}));
    second.tool("touch", json!({"what": "test://both"}));
    first.tool("touch", json!({"what": "tools"}));
    let told = |raw: &mut _| -> Vec<String> {
        let all =
            read_until(raw, |events| events.iter().any(|event| event.data.contains("tools/list_changed")));
        let told = all.iter().filter(|event| !event.data.is_empty()).map(Event::json);
        told.map(|message| message["params"]["uri"].as_str().unwrap_or("tools").to_owned()).collect()
    };
    assert_eq!(told(&mut streams[0]), ["test://a", "test://both", "test://both", "tools"]);
    assert_eq!(told(&mut streams[1]), ["test://both", "tools"]);
    other.tool("touch", json!({"what": "tools"}));
    assert_eq!(told(&mut streams[2]), ["tools"], "and nothing of another principal");
    assert!(!first.seen().iter().any(|line| line["method"] == "resources/unsubscribe"));
    assert_eq!(first.delete().status, 204);
    let gave_up = |line: &Value| line["method"] == "resources/unsubscribe";
    assert_eq!(second.seen().iter().filter(|line| gave_up(line)).count(), 2, "with the last who wanted them");
}

/// Numbers 5 to 7: what belongs to the process is not there.
#[test]
fn what_would_change_it_for_all_is_refused() {
    let world = shared("--era legacy");
    let client = Client::open(&world);
    let mut fresh = Client { session: String::new(), ..Client::open(&world) };
    let hello = fresh.post(&super::initialize("2025-06-18"));
    let result = &messages(&hello)[0]["result"];
    assert_eq!(result["protocolVersion"], "2025-11-25", "that of the process");
    assert!(result["capabilities"].get("tools").is_some() && result["capabilities"].get("logging").is_none());
    fresh.session = hello.header("mcp-session-id").unwrap().to_owned();
    assert_eq!(ask(&client, "logging/setLevel", &json!({"level": "debug"}))["error"]["code"], -32601);
    assert_eq!(ask(&client, "ping", &json!({}))["result"], json!({}));
    let answer = client.tool("ask", json!({"method": "sampling/createMessage"}));
    assert!(answer.contains("-32601"), "the server is told that nobody can be asked: {answer}");
    // A log message is for the only one who waits.
    assert_eq!(messages(&client.post(&deed(1, "log:2"))).len(), 3);
    let mut waiting = fresh.begin(&deed(2, "until:free"));
    wait_until("it waits", || {
        client.seen().iter().any(|line| line["params"]["arguments"]["deed"] == "until:free")
    });
    assert_eq!(messages(&client.post(&deed(3, "log:2"))).len(), 1, "it could be the other's");
    client.post(&deed(4, "release:free"));
    assert_eq!(messages(&waiting.answer().unwrap()).len(), 1);
    let seen = client.seen();
    assert!(!seen.iter().any(|line| line["method"] == "logging/setLevel" || line["method"] == "ping"));
}

/// A session that ends takes nothing from the others; the last one ends the process, and its death ends all.
#[test]
fn the_process_lives_as_long_as_somebody_uses_it() {
    let world = shared("--era legacy");
    let (first, second) = (Client::open(&world), Client::open(&world));
    let pid = first.pid();
    let _left = first.begin(&deed(5, "hang"));
    wait_until("it is there", || {
        second.seen().iter().any(|line| line["params"]["arguments"]["deed"] == "hang")
    });
    assert_eq!(first.delete().status, 204);
    wait_until("it is cancelled", || {
        second.seen().iter().any(|line| line["method"] == "notifications/cancelled")
    });
    assert_eq!(second.pid(), pid);
    assert_eq!(second.delete().status, 204);
    no_process_is_left(&world);
    assert!(!is_alive(pid));

    let (first, second, other) = (Client::open(&world), Client::open(&world), bob(&world));
    let mut standing = second.listen(None);
    let mut waiting: Vec<_> = [&first, &second].iter().map(|one| one.begin(&deed(1, "hang"))).collect();
    wait_until("both are there", || {
        first.seen().iter().filter(|line| line["params"]["arguments"]["deed"] == "hang").count() == 2
    });
    waiting.push(first.begin(&deed(2, "crash:3")));
    for raw in &mut waiting {
        let error = messages(&raw.answer().unwrap()).pop().unwrap();
        assert_eq!(error["error"]["message"], "the MCP server died");
    }
    assert!(read_all(&mut standing).iter().all(|event| event.data.is_empty()));
    for one in [&first, &second] {
        assert_eq!(one.post(&call(9, "echo", json!({}))).status, 404);
    }
    assert_eq!(other.tool("echo", json!({"message": "unhurt"})), "unhurt");
    let again = [Client::open(&world), Client::open(&world)];
    assert_eq!(again[0].pid(), again[1].pid());
}

/// A server that has no sessions is not shared; whoever came first does not notice.
#[test]
fn a_server_that_refuses_to_be_shared_is_not() {
    let world = shared("--era modern");
    let all = [Client::open(&world), Client::open(&world)];
    assert_ne!(all[0].pid(), all[1].pid());
    assert_eq!(all[0].tool("echo", json!({"message": "hi"})), "hi");
    assert!(world.log.text().contains("refuses to be shared"), "{}", world.log.text());
    wait_until("nothing is left of the attempt", || world.bridge().processes() == 2);
}

/// Many sessions that begin at once wait for one handshake.
#[test]
fn sessions_that_begin_together_wait_for_one_handshake() {
    let world = shared("--era legacy --slow 500");
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..10).map(|_| scope.spawn(|| Client::open(&world).pid())).collect();
        let pids: Vec<u64> = all.into_iter().map(|one| one.join().unwrap()).collect();
        assert!(pids.iter().all(|pid| *pid == pids[0]), "{pids:?}");
    });
    assert_eq!(world.bridge().processes(), 1);
}
