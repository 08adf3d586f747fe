//! Clients with sessions in front of a server that knows none (section 3.4, last point; M-21).

use serde_json::{Value, json};

use super::Client as Modern;
use crate::stdio::{Client, call, initialize, messages, read_until, text, world};
use crate::world::{World, wait_until};

fn modern() -> World {
    world("--era modern", |_| {})
}

/// A client with a session, whose token also lets it see resources.
fn open(world: &World) -> Client<'_> {
    let mut client = Client::open(world);
    let token = world.token().subject("alice").scope("mcp_resources");
    client.bearer = format!("Bearer {}", token.compact());
    client
}

/// The answer to `initialize` comes from `server/discover`; what sessions have besides is answered in their stead.
#[test]
fn a_session_is_served_by_a_server_that_knows_none() {
    let world = modern();
    let token = world.token();
    let answer = world.post(Some(&token), &initialize("2025-06-18"));
    let result = &messages(&answer)[0]["result"];
    assert_eq!(
        (&result["protocolVersion"], &result["serverInfo"]["name"]),
        (&json!("2025-06-18"), &json!("scripted-child"))
    );
    assert_eq!(
        (&result["instructions"], &result["capabilities"]["tools"]),
        (&json!("be told"), &json!({"listChanged": true}))
    );

    let client = open(&world);
    for (body, id) in [
        (json!({"jsonrpc": "2.0", "id": "p", "method": "ping"}), "p"),
        (
            json!({"jsonrpc": "2.0", "id": "l", "method": "logging/setLevel", "params": {"level": "error"}}),
            "l",
        ),
        (
            json!({"jsonrpc": "2.0", "id": "s", "method": "resources/subscribe", "params": {"uri": "test://a"}}),
            "s",
        ),
        (
            json!({"jsonrpc": "2.0", "id": "u", "method": "resources/unsubscribe", "params": {"uri": "test://a"}}),
            "u",
        ),
    ] {
        let answer = messages(&client.post(&body.to_string()));
        assert_eq!(answer, [json!({"jsonrpc": "2.0", "id": id, "result": {}})]);
    }
    for (method, member) in
        [("tools/list", "tools"), ("resources/list", "resources"), ("prompts/list", "prompts")]
    {
        let body = json!({"jsonrpc": "2.0", "id": 1.5, "method": method});
        let answer = client.post(&body.to_string());
        assert!(messages(&answer)[0]["result"][member].is_array(), "{method}");
        assert!(answer.text().contains("\"id\":1.5"), "{}", answer.text());
    }
    assert_eq!(client.tool("echo", json!({"message": "hi"})), "hi");
    let unknown = messages(&client.post(r#"{"jsonrpc":"2.0","id":1,"method":"no/such","params":{}}"#));
    assert_eq!(unknown[0]["error"]["code"], -32601);
    let seen = client.seen();
    for line in seen.iter().skip(1).filter(|line| line.get("id").is_some()) {
        let meta = &line["params"]["_meta"];
        assert_eq!(meta["io.modelcontextprotocol/protocolVersion"], "2026-07-28", "{line}");
    }
    let echo = seen.iter().find(|line| line["params"]["name"] == "echo").unwrap();
    assert_eq!(
        echo["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"],
        json!({"sampling": {}, "elicitation": {}, "roots": {}})
    );
    assert_eq!(echo["params"]["_meta"]["io.modelcontextprotocol/clientInfo"]["name"], "test");
    assert_eq!(echo["params"]["_meta"]["io.modelcontextprotocol/logLevel"], "error", "as the session said");
    assert_eq!(client.delete().status, 204);
}

/// Section 1.3 number 9, from the other side: results that ask for input become requests, as often as it takes.
#[test]
fn what_a_modern_server_asks_becomes_a_request() {
    let world = modern();
    let client = open(&world);
    let arguments = json!({"method": "elicitation/create", "rounds": 3, "params": {"message": "who?"}});
    let mut raw = client.begin(&call("c", "ask", arguments));
    raw.head().unwrap();
    for round in 1..=3 {
        let asked = read_until(&mut raw, |events| {
            events.iter().any(|event| event.data.contains("elicitation/create"))
        });
        let ask = asked.iter().find(|event| event.data.contains("elicitation/create")).unwrap().json();
        assert_eq!(ask["params"], json!({"message": "who?"}));
        let answer = json!({"jsonrpc": "2.0", "id": ask["id"], "result": {"action": "accept", "content": {"n": round}}});
        assert_eq!(client.post(&answer.to_string()).status, 202);
    }
    let done = read_until(&mut raw, |events| events.iter().any(|event| event.data.contains("\"id\":\"c\"")));
    assert_eq!(text(&done.last().unwrap().json()), r#"{"round-3":{"action":"accept","content":{"n":3}}}"#);
}

/// Where a feature cannot cross, the error says so: a client that answers a question with an error.
#[test]
fn a_question_that_is_refused_ends_the_call() {
    let world = modern();
    let client = open(&world);
    let mut raw = client.begin(&call("c", "ask", json!({"method": "roots/list"})));
    raw.head().unwrap();
    let asked = read_until(&mut raw, |events| events.iter().any(|event| event.data.contains("roots/list")));
    let ask = asked.iter().find(|event| event.data.contains("roots/list")).unwrap().json();
    let answer = json!({"jsonrpc": "2.0", "id": ask["id"], "error": {"code": -1, "message": "no"}});
    client.post(&answer.to_string());
    let done = read_until(&mut raw, |events| events.iter().any(|event| event.data.contains("\"id\":\"c\"")));
    assert_eq!(done.last().unwrap().json()["error"], json!({"code": -1, "message": "no"}));
    assert_eq!(client.tool("echo", json!({"message": "on"})), "on");
}

/// Progress, log messages, cancellation, and changes on the standing stream, which a subscription of ours feeds.
#[test]
fn a_translated_session_is_told_everything() {
    let world = modern();
    let client = open(&world);
    let answer = client.post(&crate::stdio::deed_with_token(7, "t", "progress:2,log:1"));
    let told = messages(&answer);
    assert_eq!(told.len(), 4, "{told:?}");
    assert_eq!((&told[0]["params"]["progressToken"], &told[3]["id"]), (&json!("t"), &json!(7)));

    let mut standing = client.listen(None);
    client.tool("touch", json!({"what": "tools"}));
    let heard =
        read_until(&mut standing, |events| events.iter().any(|event| event.data.contains("list_changed")));
    let event = heard.iter().find(|event| event.data.contains("list_changed")).unwrap().json();
    assert_eq!(event["method"], "notifications/tools/list_changed");
    assert!(event["params"].get("_meta").is_none(), "{event}");
    let subscribe =
        json!({"jsonrpc": "2.0", "id": 8, "method": "resources/subscribe", "params": {"uri": "test://a"}});
    client.post(&subscribe.to_string());
    client.tool("touch", json!({"what": "test://b"}));
    client.tool("touch", json!({"what": "test://a"}));
    let heard = read_until(&mut standing, |events| events.iter().any(|event| event.data.contains("updated")));
    let event = heard.iter().find(|event| event.data.contains("updated")).unwrap().json();
    assert_eq!(
        (&event["method"], &event["params"]["uri"]),
        (&json!("notifications/resources/updated"), &json!("test://a"))
    );

    let _hangs = client.begin(&crate::stdio::deed(9, "hang"));
    wait_until("it is there", || {
        client.seen().iter().any(|line| line["params"]["arguments"]["deed"] == "hang")
    });
    client.post(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":9}}"#);
    wait_until("it was cancelled under its own number", || {
        let seen = client.seen();
        let hang = seen.iter().find(|line| line["params"]["arguments"]["deed"] == "hang").unwrap();
        seen.iter().any(|line| {
            line["method"] == "notifications/cancelled" && line["params"]["requestId"] == hang["id"]
        })
    });
}

/// D1: both kinds of client at once, at a server of one era.
#[test]
fn a_modern_server_serves_both_kinds_of_client() {
    let world = modern();
    let (old, new) = (open(&world), Modern::new(&world));
    assert_eq!(old.tool("echo", json!({"message": "old"})), "old");
    assert_eq!(new.call("echo", json!({"message": "new"})).text(), "new");
    assert_ne!(old.pid().to_string(), {
        let whoami: Value = serde_json::from_str(new.call("whoami", json!({})).text()).unwrap();
        whoami["pid"].to_string()
    });
}
