//! Answers that are longer than a line may be (section 3.1).

use std::time::Duration;

use serde_json::json;

use super::{Client, read, timed, world};
use crate::world::wait_until;

/// Section 3.1: whoever waits for an answer that is lost hears of it at once, and nobody else, whichever era the server
/// is of and wherever the id stands in its answer.
#[test]
fn an_answer_that_is_too_large_is_told_to_its_asker_alone() {
    let deeds = "--at prompts/list=large:200000 --at resources/list=large:200000,id-last \
        --at completion/complete=until:heard";
    for era in ["modern", "legacy"] {
        let world = world(&format!("--era {era} {deeds}"), |stdio| stdio.line_bytes = 100_000);
        let client = Client::new(&world);
        let other = Client::with(&world, &world.token().subject("other"));
        let mut waiting =
            [&client, &other].map(|one| one.send("\"w\"", "completion/complete", &json!({"argument": {}})));
        wait_until("both wait", || {
            [&client, &other].iter().all(|one| one.seen().iter().any(|line| line.contains("completion/")))
        });
        for method in ["prompts/list", "resources/list"] {
            let (answer, took) = timed(|| client.ask("\"big\"", method, &json!({})));
            assert_eq!((answer.status, answer.code()), (200, -32603), "{era} {method}: {answer:?}");
            assert_eq!(answer.last()["id"], "big");
            assert_eq!(answer.last()["error"]["message"], "the MCP server's answer is too large");
            assert!(took < Duration::from_secs(60), "{took:?}, and its deadline is five minutes");
        }
        for (raw, one) in waiting.iter_mut().zip([&client, &other]) {
            one.call("do", json!({"deed": "release:heard"}));
            let answer = read(raw);
            assert_eq!(answer.last()["result"]["completion"]["values"], json!(["one"]), "{era}: {answer:?}");
        }
        // What is no answer is nobody's, and what nobody asked with is not taken for the one who waits.
        let lost = client.call("do", json!({"deed": "long:200000,late:100"}));
        assert_eq!(lost.text(), "done");
        assert_eq!(client.call("echo", json!({"message": "on"})).text(), "on");
    }
}

/// The schemas of the tools are asked for by us; calls do not wait for those that are too large to be read.
#[test]
fn schemas_that_are_too_large_hold_nothing_up() {
    let world = world("--era modern --at tools/list=large:200000", |stdio| stdio.line_bytes = 100_000);
    let client = Client::new(&world);
    assert_eq!(client.call("echo", json!({"message": "on"})).text(), "on");
}
