//! Era translation (section 3.4, last point): clients of one era in front of servers of the other.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Client, Events, read, world};
use crate::world::{World, wait_until};

fn legacy() -> World {
    world("--era legacy", |_| {})
}

/// Section 1.3 numbers 7, 10, 11: a modern client sees a modern server.
#[test]
fn a_modern_client_is_served_by_a_server_that_knows_sessions_only() {
    let world = legacy();
    let client = Client::new(&world);
    let found = client.ask("\"d\"", "server/discover", &json!({}));
    let result = &found.last()["result"];
    assert_eq!((found.status, &found.last()["id"]), (200, &json!("d")));
    assert_eq!(result["supportedVersions"], json!(["2026-07-28"]));
    assert_eq!(result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "scripted-child");
    assert_eq!((&result["instructions"], &result["cacheScope"]), (&json!("be told"), &json!("private")));
    for (method, params) in [
        ("tools/list", json!({})),
        ("resources/list", json!({})),
        ("resources/read", json!({"uri": "test://a"})),
        ("prompts/list", json!({})),
    ] {
        let answer = client.ask("1", method, &params);
        let result = &answer.last()["result"];
        assert_eq!(
            (&result["resultType"], &result["cacheScope"], &result["ttlMs"]),
            (&json!("complete"), &json!("private"), &json!(0)),
            "{method}: {answer:?}"
        );
    }
    let answer = client.call("echo", json!({"message": "hi"}));
    assert_eq!((answer.text(), &answer.last()["result"]["resultType"]), ("hi", &json!("complete")));
    // What describes a modern request is not for a server that was opened otherwise, and may be refused by one.
    let marked = Client::new(&world).meta("com.example/mark", json!({"kept": 1.5}));
    assert_eq!(marked.call("echo", json!({"message": "marked"})).text(), "marked");
    let seen = client.seen();
    let line = seen.iter().find(|line| line.contains("\"marked\"")).unwrap();
    assert!(line.contains(r#""_meta":{"com.example/mark":{"kept":1.5}}"#), "{line}");
    let unknown = client.ask("1", "no/such", &json!({}));
    assert_eq!((unknown.status, unknown.code()), (404, -32601));
    let seen = client.seen();
    assert_eq!(
        seen.iter().filter(|line| line.contains("\"initialize\"")).count(),
        1,
        "one session: {seen:?}"
    );
    assert!(seen.iter().any(|line| line.contains("notifications/initialized")));
}

/// M-20: what the server asks becomes a result; the answer comes back under a state that is bound to its asker.
#[test]
fn what_a_legacy_server_asks_crosses_as_a_result_and_back() {
    let world = legacy();
    let client = Client::new(&world).can(json!({"elicitation": {}}));
    let ask = json!({"name": "ask", "arguments": {"params": {"message": "who?", "n": 1.5}}});
    let answer = client.ask("\"a\"", "tools/call", &ask);
    let result = answer.last()["result"].clone();
    assert_eq!((&answer.last()["id"], &result["resultType"]), (&json!("a"), &json!("input_required")));
    let (key, request) = result["inputRequests"].as_object().unwrap().iter().next().unwrap();
    assert_eq!(
        (&request["method"], &request["params"]),
        (&json!("elicitation/create"), &json!({"message": "who?", "n": 1.5}))
    );
    let retry = |state: &Value, tool: &str| {
        let mut params = ask.clone();
        params["name"] = tool.into();
        params["requestState"] = state.clone();
        params["inputResponses"] = json!({key: {"action": "accept", "content": {"name": "x"}}});
        params
    };
    let state = &result["requestState"];
    // A stranger, another tool, and a state with one letter changed: nobody learns anything.
    let stranger = Client::with(&world, &world.token().subject("stranger")).can(json!({"elicitation": {}}));
    let changed = json!(state.as_str().unwrap().replacen(|_: char| true, "g", 1));
    for (what, answer) in [
        ("a stranger", stranger.ask("1", "tools/call", &retry(state, "ask"))),
        ("another tool", client.ask("1", "tools/call", &retry(state, "echo"))),
        ("a changed state", client.ask("1", "tools/call", &retry(&changed, "ask"))),
        ("no state of ours", client.ask("1", "tools/call", &retry(&json!("1"), "ask"))),
    ] {
        assert_eq!((answer.status, answer.code()), (200, -32602), "{what}");
    }
    // A retry that answers nothing is asked again.
    let mut silent = retry(state, "ask");
    silent["inputResponses"] = json!({});
    let again = client.ask("\"b\"", "tools/call", &silent);
    assert_eq!(again.last()["result"]["inputRequests"], result["inputRequests"]);
    let state = &again.last()["result"]["requestState"];
    // Other calls are served meanwhile, by a session of their own where need be.
    assert_eq!(client.call("echo", json!({"message": "meanwhile"})).text(), "meanwhile");
    let done = client.ask("\"c\"", "tools/call", &retry(state, "ask"));
    assert_eq!(
        (&done.last()["id"], done.text()),
        (&json!("c"), r#"{"action":"accept","content":{"name":"x"}}"#)
    );
    let twice = client.ask("\"c\"", "tools/call", &retry(state, "ask"));
    assert_eq!(twice.code(), -32602, "a state is good once");
}

/// Section 1.3 number 6: a capability that the client has not is an error, and the server is told so.
#[test]
fn what_a_client_cannot_do_is_an_error_that_says_so() {
    let world = legacy();
    let client = Client::new(&world);
    let answer = client.call("ask", json!({"method": "sampling/createMessage"}));
    assert_eq!((answer.status, answer.code()), (400, -32021));
    assert_eq!(answer.last()["error"]["data"]["requiredCapabilities"], json!({"sampling": {}}));
    assert_eq!(client.call("echo", json!({"message": "on"})).text(), "on");
}

/// Two who are asked at the same time are asked in sessions of their own, and principals never share one.
#[test]
fn questions_are_never_mixed_up() {
    let world = legacy();
    let client =
        |subject: &str| Client::with(&world, &world.token().subject(subject)).can(json!({"elicitation": {}}));
    let (anna, berta) = (client("anna"), client("berta"));
    let ask = |n: u64| json!({"name": "ask", "arguments": {"params": {"n": n}}});
    let open: Vec<_> = [(&anna, 1), (&anna, 2), (&berta, 3), (&anna, 4)]
        .into_iter()
        .map(|(client, n)| (client, n, client.ask("1", "tools/call", &ask(n)).last()["result"].clone()))
        .collect();
    for (client, n, result) in open.iter().rev() {
        let (key, request) = result["inputRequests"].as_object().unwrap().iter().next().unwrap();
        assert_eq!(request["params"]["n"], *n);
        let mut params = ask(*n);
        params["requestState"] = result["requestState"].clone();
        params["inputResponses"] = json!({key: {"n": n}});
        assert_eq!(client.ask("1", "tools/call", &params).text(), format!("{{\"n\":{n}}}"));
    }
    let pid = |client: &Client<'_>| client.call("whoami", json!({})).text().to_owned();
    assert_ne!(pid(&anna), pid(&berta));
}

/// Section 1.3 number 8: changes that a session is told of reach the subscription.
#[test]
fn a_subscription_is_served_from_a_session() {
    let world = legacy();
    let client = Client::new(&world);
    let filter = json!({"notifications": {"toolsListChanged": true, "resourceSubscriptions": ["test://a"]}});
    let mut events = Events::begin(client.send("\"s\"", "subscriptions/listen", &filter));
    let first = events.next().unwrap();
    assert_eq!(
        (&first["method"], &first["params"]["notifications"]),
        (&json!("notifications/subscriptions/acknowledged"), &filter["notifications"])
    );
    assert!(
        client
            .seen()
            .iter()
            .any(|line| line.contains("\"resources/subscribe\"") && line.contains("test://a"))
    );
    for what in ["prompts", "test://b", "test://a", "tools"] {
        client.call("touch", json!({"what": what}));
    }
    for method in ["notifications/resources/updated", "notifications/tools/list_changed"] {
        let told = events.next().unwrap();
        assert_eq!(
            (&told["method"], &told["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"]),
            (&json!(method), &json!("s"))
        );
    }
    drop(events);
    wait_until("it was given up", || client.seen().iter().any(|line| line.contains("resources/unsubscribe")));
}

/// Section 3.1, bounds: questions that nobody answers make room for those who call.
#[test]
fn questions_that_stay_open_do_not_shut_others_out() {
    let world = legacy();
    let client = Client::new(&world).can(json!({"elicitation": {}}));
    let ask = |n: u64| json!({"name": "ask", "arguments": {"params": {"n": n}}});
    let open: Vec<Value> =
        (0..12).map(|n| client.ask("1", "tools/call", &ask(n)).last()["result"].clone()).collect();
    assert!(open.iter().all(|result| result["resultType"] == "input_required"), "{open:?}");
    assert_eq!(client.call("echo", json!({"message": "room"})).text(), "room");
    let retry = |n: usize| {
        let mut params = ask(n as u64);
        params["requestState"] = open[n]["requestState"].clone();
        params["inputResponses"] = json!({"request-1": {"n": n}});
        client.ask("1", "tools/call", &params)
    };
    assert_eq!(retry(0).code(), -32602, "the oldest had to go");
    assert_eq!(retry(11).text(), "{\"n\":11}");
    let starts = world.log.text().matches("started the MCP server").count();
    assert!(starts <= 10, "{starts}");
}

/// Progress and log messages of a session's call; M-14; a death; M-09.
#[test]
fn a_translated_call_has_everything_that_a_call_has() {
    let world = legacy();
    let client = Client::new(&world)
        .meta("progressToken", json!("p"))
        .meta("io.modelcontextprotocol/logLevel", json!("debug"));
    let answer = client.call("do", json!({"deed": "progress:2,log:1"}));
    assert_eq!((answer.messages.len(), answer.text()), (4, "done"), "{answer:?}");
    assert_eq!(answer.messages[0]["params"]["progressToken"], "p");
    assert!(client.seen().iter().any(|line| line.contains("logging/setLevel") && line.contains("debug")));

    let call = json!({"name": "deploy", "arguments": {"region": "eu"}});
    let refused = client.ask("1", "tools/call", &call);
    assert_eq!((refused.status, refused.code()), (400, -32020));
    assert_eq!(client.ask_with("1", "tools/call", &call, &[("Mcp-Param-Region", "eu")]).status, 200);

    let raw = client.send("1", "tools/call", &json!({"name": "do", "arguments": {"deed": "hang"}}));
    let reader = Client::new(&world);
    wait_until("the call is there", || {
        let list = reader.ask("1", "tools/list", &json!({}));
        list.status == 200 && world.log.text().contains("do")
    });
    std::thread::sleep(Duration::from_millis(100));
    drop(raw);
    let answer = client.call("do", json!({"deed": "crash:4"}));
    assert_eq!((answer.status, answer.code()), (200, -32603));
    assert_eq!(client.call("echo", json!({"message": "again"})).text(), "again");
}

/// A legacy server that never asked for anything keeps one session for many callers' requests at once.
#[test]
fn many_translated_calls_at_once_are_told_apart() {
    let world = legacy();
    let client = Client::new(&world);
    let call = |n: usize| json!({"name": "echo", "arguments": {"message": n.to_string()}});
    let mut all: Vec<_> = (0..40).map(|n| client.send("1", "tools/call", &call(n))).collect();
    for (n, raw) in all.iter_mut().enumerate() {
        assert_eq!(read(raw).text(), n.to_string());
    }
}
