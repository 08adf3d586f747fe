//! Which log messages a caller wants is its own business, in either era and across both (sections 1.3 and 3.4).

use serde_json::{Value, json};

use super::{Client, world};
use crate::stdio;
use crate::world::{World, wait_until};

const LEVEL: &str = "io.modelcontextprotocol/logLevel";

/// What every `tools/call` of `deed` at the child said of levels, in order.
fn levels(seen: &[String], deed: &str) -> Vec<Value> {
    let calls = seen.iter().filter(|line| line.contains(deed));
    calls.map(|line| serde_json::from_str::<Value>(line).unwrap()["params"]["_meta"][LEVEL].clone()).collect()
}

fn caller<'w>(world: &'w World, subject: &str, level: Option<&str>) -> Client<'w> {
    let client = Client::with(world, &world.token().subject(subject));
    match level {
        Some(level) => client.meta(LEVEL, json!(level)),
        None => client,
    }
}

/// At one shared child each call carries its own level and no other, and whoever asked for none hears nothing.
#[test]
fn the_level_of_one_caller_is_not_anothers() {
    let world = world("--era modern", |_| {});
    let callers = [("anna", Some("debug")), ("berta", Some("error")), ("cora", None), ("anna", None)];
    let talk = json!({"deed": "log:2"});
    for round in 0..2 {
        for (subject, level) in callers {
            let answer = caller(&world, subject, level).call("do", talk.clone());
            assert_eq!(
                answer.messages.len(),
                if level.is_some() { 3 } else { 1 },
                "{subject}, round {round}"
            );
        }
    }
    let seen = caller(&world, "anna", None).seen();
    let told = levels(&seen, "log:2");
    let round = [json!("debug"), json!("error"), Value::Null, Value::Null];
    assert_eq!(told, [round.clone(), round].concat());
    // While one caller's call is under way that wants everything, another's says nothing to anybody but its own.
    let anna = caller(&world, "anna", Some("debug"));
    let waiting = anna.send("1", "tools/call", &json!({"name": "do", "arguments": {"deed": "hang"}}));
    let cora = caller(&world, "cora", None);
    wait_until("it is there", || cora.seen().iter().any(|line| line.contains("\"hang\"")));
    assert_eq!(cora.call("echo", json!({"message": "quiet"})).messages.len(), 1);
    let berta = caller(&world, "berta", Some("error")).call("do", talk);
    assert_eq!(berta.messages.len(), 1, "it could be anna's");
    drop(waiting);
    // What would set it for everybody does not reach the child.
    let set = cora.ask("1", "logging/setLevel", &json!({"level": "debug"}));
    assert_eq!((set.status, set.code()), (404, -32601));
    assert!(!cora.seen().iter().any(|line| line.contains("logging/setLevel")));
}

/// A session sets the level of its own child, whether that is of its era or not.
#[test]
fn the_level_of_one_session_is_not_anothers() {
    for era in ["legacy", "modern"] {
        let world = world(&format!("--era {era}"), |_| {});
        let alice = stdio::Client::open(&world);
        let twin = stdio::Client::open(&world);
        let bob = stdio::Client::open_as(&world, "bob", "2025-11-25");
        let set = r#"{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"error"}}"#;
        assert_eq!(stdio::messages(&alice.post(set))[0]["result"], json!({}), "{era}");
        let told = |client: &stdio::Client<'_>| -> Vec<Value> {
            let seen = client.seen();
            let level = |line: &Value| match line["method"].as_str() {
                Some("logging/setLevel") => line["params"]["level"].clone(),
                _ => line["params"]["_meta"][LEVEL].clone(),
            };
            seen.iter().map(level).filter(|level| level == "error").collect()
        };
        assert!(!told(&alice).is_empty(), "{era}");
        for other in [&twin, &bob] {
            assert_eq!(told(other), Vec::<Value>::new(), "{era}");
        }
    }
}

/// Modern callers at a server that knows sessions only: the level is set where the caller's own calls are, and for the
/// calls that hear of it.
#[test]
fn the_level_of_one_caller_is_set_at_its_own_session() {
    let world = world("--era legacy", |_| {});
    let anna = caller(&world, "anna", Some("debug"));
    let berta = caller(&world, "berta", None);
    assert_eq!(anna.call("do", json!({"deed": "log:1"})).messages.len(), 2);
    assert_eq!(berta.call("do", json!({"deed": "log:1"})).messages.len(), 1);
    let loud = caller(&world, "anna", Some("error"));
    // This one hears nothing, and changes nothing for those that do.
    assert_eq!(loud.ask("1", "tools/list", &json!({})).status, 200);
    let set = |client: &Client<'_>| -> Vec<String> {
        client.seen().into_iter().filter(|line| line.contains("logging/setLevel")).collect()
    };
    let told = set(&caller(&world, "anna", None));
    assert!(told.len() == 1 && told[0].contains("\"debug\""), "{told:?}");
    assert_eq!(set(&berta), Vec::<String>::new());
}
