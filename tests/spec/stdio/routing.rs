//! On which stream a message goes out: the right one, and only there.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Client, Event, call, deed, deed_with_token, messages, read_all, read_until, text, world};
use crate::world::wait_until;

fn methods(events: &[Event]) -> Vec<String> {
    let named = |event: &Event| event.json()["method"].as_str().unwrap_or("(answer)").to_owned();
    events.iter().filter(|event| !event.data.is_empty()).map(named).collect()
}

/// SH-03: the first message decides. SH-05: for 2025-11-25 a stream begins with an empty event that has an id.
#[test]
fn the_first_message_decides_the_form() {
    let world = world("--era legacy", |_| {});
    for (version, resumes) in [("2025-11-25", true), ("2025-06-18", false), ("2025-03-26", false)] {
        let client = Client::open_as(&world, "alice", version);
        assert_eq!(messages(&client.quickly(&deed(1, "")))[0]["id"], 1, "{version}");
        let told = client.post(&deed_with_token(2, "t", "progress:3"));
        assert_eq!(told.header("content-type"), Some("text/event-stream"), "{version}");
        assert_eq!(told.header("cache-control"), Some("no-store"));
        let late = client.post(&deed(3, "late:400"));
        assert_eq!(late.header("content-type"), Some("text/event-stream"), "{version}");
        for (answer, count) in [(told, 4), (late, 1)] {
            let events = super::events(&answer.text());
            let priming = usize::from(resumes);
            assert_eq!(events.len(), count + priming, "{}", answer.text());
            assert_eq!(events.iter().all(|event| event.id.is_some()), resumes, "{}", answer.text());
            assert_eq!(events[0].data.is_empty(), resumes, "old clients read empty data as JSON");
            assert_eq!(answer.text().contains("retry: "), resumes);
            let ids: std::collections::BTreeSet<_> =
                events.iter().filter_map(|event| event.id.clone()).collect();
            assert!(!resumes || ids.len() == events.len(), "ids are unique: {ids:?}");
        }
    }
}

/// A client that takes JSON alone gets JSON alone.
#[test]
fn a_client_without_event_streams_gets_none() {
    let world = world("--era legacy", |_| {});
    let client = Client::open(&world);
    let mut headers = client.headers();
    headers.retain(|(name, _)| *name != "Accept");
    headers.push(("Accept", "application/json"));
    let answer = world.ask("POST", "/mcp", &headers, &deed_with_token(1, "t", "progress:2,late:300"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(messages(&answer)[0]["id"], 1);
}

/// SH-09: progress goes to the request whose token it carries.
#[test]
fn progress_goes_to_its_own_request() {
    let world = world("--era legacy", |_| {});
    let client = Client::open(&world);
    let mut standing = client.listen(None);
    let mut silent = client.begin(&deed(1, "until:told"));
    wait_until("the first call is under way", || client.seen().iter().any(|line| line["id"] == 1));
    let told = client.post(&deed_with_token(2, "tok", "progress:3"));
    let all = messages(&told);
    assert_eq!(all.len(), 4, "{all:?}");
    assert!(all[..3].iter().all(|message| message["params"]["progressToken"] == "tok"));
    client.post(&deed(3, "release:told"));
    assert_eq!(messages(&silent.answer().unwrap()).len(), 1, "its answer and nothing else");
    client.tool("touch", json!({"what": "tools"}));
    let heard = read_until(&mut standing, |events| events.len() >= 2);
    assert_eq!(methods(&heard), ["notifications/tools/list_changed"]);
}

/// Section 3.2: what belongs to no request goes to the standing stream, and waits for one where there is none.
#[test]
fn what_belongs_to_no_request_goes_to_the_standing_stream() {
    let world = world("--era legacy", |_| {});
    let client = Client::open(&world);
    // Nobody listens, but the call that causes it does.
    let touched = client.post(&call(1, "touch", json!({"what": "prompts"})));
    assert_eq!(messages(&touched)[0]["method"], "notifications/prompts/list_changed");
    // Nobody listens at all.
    let _unheard = client.post(r#"{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}"#);
    assert_eq!(client.post(&deed(2, "late:1")).status, 200);
    let mut standing = client.listen(None);
    client.tool("touch", json!({"what": "test://a"}));
    let heard = read_until(&mut standing, |events| methods(events).len() == 1);
    assert_eq!(heard.last().unwrap().json()["params"]["uri"], "test://a");
    // A second one takes over; each message is on one stream alone.
    let mut second = client.listen(None);
    assert_eq!(methods(&read_all(&mut standing)), Vec::<String>::new(), "the first ends");
    client.tool("touch", json!({"what": "tools"}));
    let heard = read_until(&mut second, |events| methods(events).len() == 1);
    assert_eq!(methods(&heard), ["notifications/tools/list_changed"]);
}

/// Requests of the server reach the client on the stream of the call, and its answer reaches the server.
#[test]
fn a_server_may_ask_its_client() {
    let world = world("--era legacy", |_| {});
    let (client, stranger) = (Client::open(&world), Client::open(&world));
    for method in ["sampling/createMessage", "elicitation/create", "roots/list"] {
        let mut asking = client.begin(&call("ask", "ask", json!({"method": method, "params": {"x": 1}})));
        assert_eq!(asking.head().unwrap().header("content-type"), Some("text/event-stream"));
        let asked = read_until(&mut asking, |events| methods(events).len() == 1).pop().unwrap().json();
        assert_eq!((&asked["method"], &asked["params"]), (&json!(method), &json!({"x": 1})));
        let answer = json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"from": "client"}}).to_string();
        // The same id means nothing in another session.
        assert_eq!(stranger.post(&answer.replace("client", "stranger")).status, 202);
        assert_eq!(client.post(&answer).status, 202);
        let concluded = read_all(&mut asking).pop().unwrap().json();
        assert_eq!((text(&concluded), &concluded["id"]), (r#"{"from":"client"}"#.into(), &json!("ask")));
        // A second answer to the same request goes nowhere.
        assert_eq!(client.post(&answer).status, 202);
    }
    let answers = |client: &Client<'_>| {
        client.seen().iter().filter(|line| line["result"]["from"] != Value::Null).count()
    };
    assert_eq!((answers(&client), answers(&stranger)), (3, 0));
}

/// `ping` of a server whose client has no stream open is answered here.
#[test]
fn a_ping_that_nobody_hears_is_answered() {
    let world = world("--era legacy --at notifications/initialized=rogue:ping", |_| {});
    let client = Client::open(&world);
    // While nobody waits for anything.
    wait_until("it is answered", || world.log.text().contains("answered a ping of the MCP server"));
    assert!(client.seen().iter().any(|line| line["id"] == "rogue-1" && line["result"] == json!({})));
}

/// SH-10: a stream that broke is gone on with by its own session, and by nobody else.
#[test]
fn a_broken_stream_is_gone_on_with() {
    let world = world("--era legacy", |_| {});
    let (client, stranger) = (Client::open(&world), Client::open(&world));
    let mut broken = client.begin(&deed_with_token(1, "t", "progress:2,until:back"));
    broken.head().unwrap();
    let had = read_until(&mut broken, |events| events.len() >= 2);
    let last = had[1].id.clone().unwrap();
    drop(broken);
    // Somebody else with that id gets nothing of it.
    let mut other = stranger.listen(Some(&last));
    // SH-07: leaving is not cancelling.
    let mut again = client.listen(Some(&last));
    client.post(&deed(2, "release:back"));
    let rest = read_all(&mut again);
    let whole: Vec<_> =
        had[..2].iter().chain(&rest).filter(|event| !event.data.is_empty()).map(Event::json).collect();
    assert_eq!(whole.len(), 3, "{whole:?}");
    assert_eq!(whole[2]["id"], 1);
    assert!(client.seen().iter().all(|line| line["method"] != "notifications/cancelled"));
    stranger.tool("touch", json!({"what": "tools"}));
    let heard = read_until(&mut other, |events| !methods(events).is_empty());
    assert_eq!(methods(&heard), ["notifications/tools/list_changed"]);
    // After the end too, for what was missed.
    let mut headers = client.headers();
    headers.push(("Last-Event-ID", &last));
    let replayed = messages(&world.ask("GET", "/mcp", &headers, ""));
    assert_eq!(replayed.last().unwrap()["id"], 1);
}

/// The standing stream is gone on with as well: what happened meanwhile is not lost.
#[test]
fn the_standing_stream_is_gone_on_with() {
    let world = world("--era legacy", |_| {});
    let client = Client::open(&world);
    let mut standing = client.listen(None);
    client.tool("touch", json!({"what": "tools"}));
    let had = read_until(&mut standing, |events| methods(events).len() == 1);
    client.tool("touch", json!({"what": "prompts"}));
    read_until(&mut standing, |events| methods(events).len() == 1);
    drop(standing);
    let mut again = client.listen(had.last().unwrap().id.as_deref());
    let heard = read_until(&mut again, |events| methods(events).len() == 1);
    assert_eq!(methods(&heard), ["notifications/prompts/list_changed"]);
}

/// A cancellation is passed on, and the stream ends without an answer.
#[test]
fn a_cancelled_request_ends_without_an_answer() {
    let world = world("--era legacy", |_| {});
    let client = Client::open(&world);
    let mut hanging = client.begin(&deed(1, "hang"));
    wait_until("the call is under way", || client.seen().iter().any(|line| line["id"] == 1));
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
    assert_eq!(client.post(cancel).status, 202);
    let answer = hanging.answer().unwrap();
    assert_eq!(messages(&answer), Vec::<Value>::new());
    assert_eq!(client.seen().iter().filter(|line| line["method"] == "notifications/cancelled").count(), 1);
}

/// A deadline ends what hangs, and cancels it in the child; progress begins it anew.
#[test]
fn no_request_hangs() {
    let world = world("--era legacy", |stdio| stdio.request_time = Duration::from_secs(2));
    let client = Client::open(&world);
    let answer = client.post(&deed(7, "hang"));
    let error = &messages(&answer)[0];
    assert_eq!((error["error"]["code"].as_i64(), &error["id"]), (Some(-32603), &json!(7)));
    let cancels = client.seen().into_iter().filter(|line| line["method"] == "notifications/cancelled");
    let cancelled: Vec<_> = cancels.map(|line| line["params"]["requestId"].clone()).collect();
    assert_eq!(cancelled, [json!(7)]);
    // Three times 0.9 s, with progress between, are more than two seconds together, and each is far from it.
    let slow = client.post(&deed_with_token(8, "t", "sleep:900,progress:1,sleep:900,progress:1,late:900"));
    assert_eq!(text(messages(&slow).last().unwrap()), "done");
}
