//! The modern era at one shared child (sections 2.7 and 3.4).

use std::collections::HashSet;
use std::time::Duration;

use open_mcp_auth_proxy::config::Share;
use serde_json::{Value, json};

use super::{Client, Events, is_alive, read, timed, world};
use crate::world::wait_until;

fn modern() -> crate::world::World {
    world("--era modern", |_| {})
}

/// M-13, T-07: an answer under the id as it was written; section 3.4: the child sees ids of ours, on one line.
#[test]
fn a_call_is_answered_under_its_own_id() {
    let world = modern();
    let client = Client::new(&world);
    for id in ["1", "\"1\"", "\"a\\u0062\"", "12345678901234567890", "1.0"] {
        let mut raw = world.raw();
        let text =
            client.text(id, "tools/call", &json!({"name": "echo", "arguments": {"message": "hi"}}), &[]);
        raw.send(text);
        let answer = raw.answer().unwrap();
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (200, Some("application/json")),
            "{answer:?}"
        );
        assert!(answer.text().contains(&format!("\"id\":{id},")), "{id}: {}", answer.text());
        assert!(answer.text().contains("\"text\":\"hi\""), "{}", answer.text());
    }
    let seen = client.seen();
    let calls: Vec<&String> = seen.iter().filter(|line| line.contains("\"echo\"")).collect();
    assert_eq!(calls.len(), 5, "{seen:?}");
    let ids: HashSet<u64> = calls
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].as_u64().expect("a number of ours"))
        .collect();
    assert_eq!(ids.len(), 5);
    assert!(!seen.iter().any(|line| line.contains("Bearer")), "no token reaches a child");
}

/// M-03 to M-08: the ladder, at the bridge. What is refused never reaches the child.
#[test]
fn what_is_wrong_is_told_with_its_status_and_code() {
    let world = modern();
    let client = Client::new(&world);
    let call = json!({"name": "echo", "arguments": {"message": "forbidden"}});
    let good = client.text("\"i\"", "tools/call", &call, &[]);
    let body_of = |text: &str| text.split_once("\r\n\r\n").unwrap().1.len();
    for (what, change, status, code) in [
        ("no version header", ("MCP-Protocol-Version: 2026-07-28\r\n", ""), 400, -32020),
        ("another version in the header", ("Version: 2026-07-28", "Version: 2025-11-25"), 400, -32020),
        ("an unknown version", ("2026-07-28", "2099-01-01"), 400, -32022),
        ("a legacy version in _meta", ("2026-07-28", "2025-11-25"), 400, -32022),
        ("no version at all", ("2026-07-28", "gibberish!"), 400, -32022),
        ("no capabilities", ("clientCapabilities", "noCapabilities"), 400, -32602),
        ("no Mcp-Method", ("Mcp-Method: tools/call\r\n", ""), 400, -32020),
        ("another Mcp-Method", ("Mcp-Method: tools/call", "Mcp-Method: tools/list"), 400, -32020),
        ("no Mcp-Name", ("Mcp-Name: echo\r\n", ""), 400, -32020),
        ("another Mcp-Name", ("Mcp-Name: echo", "Mcp-Name: Echo"), 400, -32020),
        ("an unknown method", ("tools/call", "tools/dall"), 404, -32601),
        ("a removed method", ("tools/call", "logging/setLevel"), 404, -32601),
        ("initialize", ("tools/call", "initialize"), 404, -32601),
    ] {
        let mut text = good.replace(change.0, change.1);
        if what == "initialize" || what == "a removed method" {
            text = text.replace("Mcp-Name: echo\r\n", "");
        }
        let length = body_of(&text);
        let text = text
            .replace(&format!("Content-Length: {}", body_of(&good)), &format!("Content-Length: {length}"));
        let answer = read(world.raw().send(text));
        assert_eq!(
            (answer.status, answer.code(), &answer.last()["id"]),
            (status, code, &json!("i")),
            "{what}"
        );
    }
    assert!(!client.seen().iter().any(|line| line.contains("forbidden") && !line.contains("tools/dall")));
}

/// M-02: a notification is accepted, and means nothing here.
#[test]
fn a_notification_is_accepted_and_goes_no_further() {
    let world = modern();
    let client = Client::new(&world);
    client.call("echo", json!({}));
    let text = client.text("7", "notifications/cancelled", &json!({"requestId": 2}), &[]);
    let length = text.split_once("\r\n\r\n").unwrap().1.len();
    let text = text.replace("\"id\":7,", "").replace(
        &format!("Content-Length: {length}"),
        &format!("Content-Length: {}", length - "\"id\":7,".len()),
    );
    let answer = world.raw().send(text).answer().unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (202, ""));
    assert!(!client.seen().iter().any(|line| line.contains("cancelled")));
}

/// M-17, M-05, M-18: what the server says, and the status that its errors have.
#[test]
fn errors_of_the_server_have_their_status() {
    let world = modern();
    let client = Client::new(&world);
    let found = client.ask("\"d\"", "server/discover", &json!({}));
    assert_eq!((found.status, &found.last()["id"]), (200, &json!("d")));
    assert_eq!(found.last()["result"]["supportedVersions"], json!(["2026-07-28"]));
    for (deed, status, code) in [
        ("error:-32601", 404, -32601),
        ("error:-32021", 400, -32021),
        ("error:-32022", 400, -32022),
        ("error:-32602", 200, -32602),
        ("error:-32603", 200, -32603),
        ("error:1", 200, 1),
        ("progress:1,error:1", 200, 1),
    ] {
        let answer = client.call("do", json!({"deed": deed}));
        assert_eq!((answer.status, answer.code()), (status, code), "{deed}");
    }
    let answer = client.call("ask", json!({"method": "sampling/createMessage"}));
    assert_eq!((answer.status, answer.code()), (400, -32021));
    assert_eq!(answer.last()["error"]["data"]["requiredCapabilities"], json!({"sampling": {}}));
}

/// M-09: the schemas come from the child's own list, and are asked for once.
#[test]
fn arguments_that_headers_repeat_are_held_against_them() {
    let world = modern();
    let client = Client::new(&world);
    let call = json!({"name": "deploy", "arguments": {"region": "eu", "replicas": 3, "to": {"zone": "é"}}});
    let zone = ("Mcp-Param-Zone", "=?base64?w6k=?=");
    for (what, headers, status) in [
        ("none", vec![], 400),
        ("all", vec![("Mcp-Param-Region", "eu"), ("Mcp-Param-Replicas", "3"), zone], 200),
        (
            "a number written otherwise",
            vec![("Mcp-Param-Region", "eu"), ("mcp-param-replicas", "3.0"), zone],
            200,
        ),
        ("one too few", vec![("Mcp-Param-Region", "eu"), zone], 400),
        ("one that differs", vec![("Mcp-Param-Region", "us"), ("Mcp-Param-Replicas", "3"), zone], 400),
        (
            "one that cannot be decoded",
            vec![
                ("Mcp-Param-Region", "eu"),
                ("Mcp-Param-Replicas", "3"),
                ("Mcp-Param-Zone", "=?base64?w6k?="),
            ],
            400,
        ),
        (
            "more than there are",
            vec![("Mcp-Param-Region", "eu"), ("Mcp-Param-Replicas", "3"), zone, ("Mcp-Param-Other", "x")],
            200,
        ),
    ] {
        let answer = client.ask_with("9", "tools/call", &call, &headers);
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        if status == 400 {
            assert_eq!((answer.code(), &answer.last()["id"]), (-32020, &json!(9)), "{what}");
        }
    }
    let seen = client.seen();
    assert_eq!(seen.iter().filter(|line| line.contains("\"tools/list\"")).count(), 1);
    assert_eq!(
        seen.iter().filter(|line| line.contains("\"deploy\"")).count(),
        3,
        "the refused ones stay here"
    );
}

/// Section 3.4: progress by its token, to its own asker alone, under the token as it was written.
#[test]
fn progress_goes_to_its_own_request() {
    let world = modern();
    let anna = Client::new(&world).meta("progressToken", json!("p"));
    let berta = Client::new(&world).meta("progressToken", json!("p"));
    let cora = Client::new(&world);
    let call = |deed: &str| json!({"name": "do", "arguments": {"deed": deed}});
    let mut first = anna.send("1", "tools/call", &call("late:300,progress:2"));
    let mut second = berta.send("1", "tools/call", &call("progress:3"));
    let mut third = cora.send("1", "tools/call", &call("progress:4"));
    let (first, second, third) = (read(&mut first), read(&mut second), read(&mut third));
    for (answer, told) in [(&first, 2), (&second, 3)] {
        assert_eq!((answer.stream, answer.messages.len()), (true, told + 1), "{answer:?}");
        for (step, message) in answer.messages[..told].iter().enumerate() {
            assert_eq!(message["params"]["progressToken"], "p");
            assert_eq!(
                (&message["params"]["progress"], &message["params"]["total"]),
                (&json!(step + 1), &json!(told))
            );
        }
        assert_eq!(answer.text(), "done");
    }
    assert_eq!((third.stream, third.messages.len()), (false, 1), "who asked for none gets none");
}

/// Section 3.4: a log message goes to the one request that asked for some, and otherwise to nobody.
#[test]
fn log_messages_never_go_to_a_stranger() {
    let world = modern();
    let wants = Client::new(&world).meta("io.modelcontextprotocol/logLevel", json!("info"));
    let plain = Client::new(&world);
    assert_eq!(wants.call("do", json!({"deed": "log:2"})).messages.len(), 3);
    assert_eq!(plain.call("do", json!({"deed": "log:2"})).messages.len(), 1);
    // Two that want some are under way: nobody knows whose it is.
    let mut waiting =
        wants.send("1", "tools/call", &json!({"name": "do", "arguments": {"deed": "until:free"}}));
    wait_until("the first is there", || plain.seen().iter().any(|line| line.contains("until:free")));
    assert_eq!(wants.call("do", json!({"deed": "log:2"})).messages.len(), 1);
    plain.call("do", json!({"deed": "release:free"}));
    assert_eq!(read(&mut waiting).messages.len(), 1);
}

/// M-14, section 3.4: closing the POST cancels at the child, and its late answer is nobody's.
#[test]
fn a_client_that_leaves_cancels_its_request() {
    let world = modern();
    let client = Client::new(&world);
    let raw = client.send("\"x\"", "tools/call", &json!({"name": "do", "arguments": {"deed": "until:gone"}}));
    let number = std::cell::Cell::new(0);
    wait_until("the call is there", || {
        let seen = client.seen();
        let call = seen.iter().find(|line| line.contains("until:gone"));
        number
            .set(call.map_or(0, |line| serde_json::from_str::<Value>(line).unwrap()["id"].as_u64().unwrap()));
        number.get() != 0
    });
    drop(raw);
    wait_until("it was cancelled", || {
        client.seen().iter().any(|line| {
            let message: Value = serde_json::from_str(line).unwrap();
            message["method"] == "notifications/cancelled" && message["params"]["requestId"] == number.get()
        })
    });
    assert_eq!(
        client.call("do", json!({"deed": "release:gone"})).text(),
        "done",
        "the late answer is before this"
    );
    assert_eq!(client.call("echo", json!({"message": "on"})).text(), "on");
}

/// Section 1.3 number 8, section 3.4: the subscription's id is the asker's, in everything that it is told.
#[test]
fn a_subscription_is_told_of_changes_under_its_own_id() {
    let world = modern();
    let client = Client::new(&world);
    let listen = |id: &str, filter: Value| {
        Events::begin(client.send(id, "subscriptions/listen", &json!({"notifications": filter})))
    };
    let mut tools = listen("\"s\"", json!({"toolsListChanged": true}));
    let mut uris = listen("\"s\"", json!({"resourceSubscriptions": ["test://a"]}));
    for events in [&mut tools, &mut uris] {
        let first = events.next().unwrap();
        assert_eq!(first["method"], "notifications/subscriptions/acknowledged");
        assert_eq!(first["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], "s");
    }
    client.call("touch", json!({"what": "prompts"}));
    client.call("touch", json!({"what": "test://a"}));
    client.call("touch", json!({"what": "tools"}));
    for (events, method) in
        [(&mut tools, "notifications/tools/list_changed"), (&mut uris, "notifications/resources/updated")]
    {
        let told = events.next().unwrap();
        assert_eq!(
            (&told["method"], &told["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"]),
            (&json!(method), &json!("s"))
        );
    }
    client.call("touch", json!({"what": "end"}));
    for events in [&mut tools, &mut uris] {
        let last = events.next().unwrap();
        assert_eq!(
            (&last["id"], &last["result"]["_meta"]["io.modelcontextprotocol/subscriptionId"]),
            (&json!("s"), &json!("s"))
        );
        assert_eq!(events.next(), None);
    }
}

/// Section 1.3 number 9: what a server asks rides in results, and nothing of it is changed.
#[test]
fn multi_round_trip_requests_pass_through() {
    let world = modern();
    let client = Client::new(&world).can(json!({"elicitation": {}}));
    let mut params = json!({"name": "ask", "arguments": {"rounds": 2, "params": {"message": "who?"}}});
    for round in 1..=2 {
        let answer = client.ask("1", "tools/call", &params);
        let result = &answer.last()["result"];
        assert_eq!((answer.status, &result["resultType"]), (200, &json!("input_required")));
        let key = format!("round-{round}");
        assert_eq!(result["inputRequests"][&key]["params"], json!({"message": "who?"}));
        params["requestState"] = result["requestState"].clone();
        params["inputResponses"] = json!({key: {"action": "accept", "content": {"n": round}}});
    }
    let answer = client.ask("1", "tools/call", &params);
    assert_eq!(answer.text(), r#"{"round-2":{"action":"accept","content":{"n":2}}}"#);
}

/// Section 3.4: a request of a modern server is a protocol error; it reaches nobody and is not answered.
#[test]
fn a_request_of_a_modern_server_leads_nowhere() {
    let world = modern();
    let client = Client::new(&world).can(json!({"roots": {}}));
    let answer =
        client.call("do", json!({"deed": "rogue:roots/list,unknown,garbage:3,twice,notify:notifications/x"}));
    assert_eq!((answer.messages.len(), answer.text()), (1, "done"));
    assert!(!client.seen().iter().any(|line| line.contains("rogue-1")), "nothing was answered");
    assert!(
        world.log.text().contains("sent a request, which its protocol version has not"),
        "{}",
        world.log.text()
    );
}

/// Section 3.1: lines as they come.
#[test]
fn odd_lines_are_still_lines() {
    let world = modern();
    let client = Client::new(&world);
    for deed in ["partial:50", "crlf", "garbage:200", "stderr:200000", "stdout:200000", "long:100000"] {
        assert_eq!(client.call("do", json!({"deed": deed})).text(), "done", "{deed}");
    }
}

/// Section 3.1, M-13: who waits on a dead child has an error with its own id at once; the next request works.
#[test]
fn a_death_is_told_to_all_who_wait_and_to_nobody_else() {
    let world = modern();
    let client = Client::new(&world);
    let pid = |client: &Client<'_>| {
        let whoami: Value = serde_json::from_str(client.call("whoami", json!({})).text()).unwrap();
        whoami["pid"].as_u64().unwrap()
    };
    let first = pid(&client);
    let mut listening = Events::begin(client.send(
        "5",
        "subscriptions/listen",
        &json!({"notifications": {"toolsListChanged": true}}),
    ));
    assert!(listening.next().is_some());
    let call = json!({"name": "do", "arguments": {"deed": "hang"}});
    let mut waiting: Vec<_> =
        (0..20).map(|n| client.send(&format!("\"w{n}\""), "tools/call", &call)).collect();
    wait_until("all are there", || {
        client.seen().iter().filter(|line| line.contains("\"hang\"")).count() == 20
    });
    let (dying, took) = timed(|| {
        client.ask("\"k\"", "tools/call", &json!({"name": "do", "arguments": {"deed": "stderr:10,crash:3"}}))
    });
    assert_eq!((dying.code(), &dying.last()["id"]), (-32603, &json!("k")));
    assert!(took < Duration::from_secs(20), "{took:?}, and its deadline is five minutes");
    for (n, raw) in waiting.iter_mut().enumerate() {
        let answer = read(raw);
        assert_eq!((answer.code(), &answer.last()["id"]), (-32603, &json!(format!("w{n}"))));
        assert!(!answer.last()["error"]["message"].as_str().unwrap().contains('3'), "no status for clients");
    }
    assert_eq!(listening.next(), None, "a subscription ends without a result");
    let second = pid(&client);
    assert!(second != first && !is_alive(first));
    let log = world.log.text();
    assert!(log.contains("exit code 3") && log.contains("ending with 3 as told"), "{log}");
    // kill -9, from outside.
    let mut waiting = client.send("1", "tools/call", &call);
    wait_until("it is there", || client.seen().iter().any(|line| line.contains("\"hang\"")));
    let status = std::process::Command::new("kill").args(["-9", &second.to_string()]).status();
    assert!(status.unwrap().success());
    assert_eq!(read(&mut waiting).code(), -32603);
    assert_ne!(pid(&client), second);
}

/// A child that dies again and again is started ever more rarely, and says so.
#[test]
fn a_child_that_keeps_dying_is_left_alone_for_longer_and_longer() {
    let world = world("--era modern --at start=crash:7", |_| {});
    let client = Client::new(&world);
    let answer = client.call("echo", json!({}));
    assert_eq!((answer.status, answer.code()), (200, -32603));
    wait_until("it was started five times", || world.log.text().contains("deaths=5"));
    let log = world.log.text();
    for (deaths, pause) in [(1, 0), (2, 250), (3, 500), (4, 1000), (5, 2000)] {
        assert!(log.contains(&format!("in_ms={pause} deaths={deaths}")), "{log}");
    }
}

/// A request has a deadline, which what the server says on the way extends; its end cancels at the child.
#[test]
fn no_request_waits_for_ever() {
    let world = world("--era modern", |stdio| stdio.request_time = Duration::from_millis(400));
    let client = Client::new(&world);
    // The deadline is short, and on a machine with much else to do a call may miss it: again, then.
    wait_until("it has started", || client.call("echo", json!({})).last().get("result").is_some());
    let answer = client.call("do", json!({"deed": "hang"}));
    assert_eq!((answer.status, answer.code()), (200, -32603));
    wait_until("it was cancelled", || {
        let seen = client.call("seen", json!({}));
        let lines = seen.last()["result"]["content"][0]["text"].as_str().unwrap_or("[]");
        let lines: Vec<String> = serde_json::from_str(lines).unwrap();
        let lines: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        let hang = lines.iter().find(|line| line["params"]["arguments"]["deed"] == "hang");
        hang.is_some_and(|hang| {
            lines.iter().any(|line| {
                line["method"] == "notifications/cancelled" && line["params"]["requestId"] == hang["id"]
            })
        })
    });
}

/// Section 3.4: what is asked before anybody knows what the child speaks waits for that, in order.
#[test]
fn requests_wait_while_the_child_is_found_out_about() {
    let world = world("--era modern --slow 700", |_| {});
    let client = Client::new(&world);
    let call = |n: usize| json!({"name": "echo", "arguments": {"message": n.to_string()}});
    let mut all: Vec<_> = (0..10).map(|n| client.send("1", "tools/call", &call(n))).collect();
    for (n, raw) in all.iter_mut().enumerate() {
        assert_eq!(read(raw).text(), n.to_string());
    }
    assert_eq!(client.seen().iter().filter(|line| line.contains("server/discover")).count(), 1);
}

/// Section 3.5: all share one process, or each principal has one.
#[test]
fn a_process_is_shared_as_configured() {
    for (share, same) in [(Share::All, true), (Share::Principal, false)] {
        let world = world("--era modern", |stdio| stdio.share = share);
        let pid = |subject: &str| {
            let client = Client::with(&world, &world.token().subject(subject));
            client.call("whoami", json!({})).text().to_owned()
        };
        let (anna, berta) = (pid("anna"), pid("berta"));
        assert_eq!(anna == berta, same, "{share:?}");
        assert_eq!(pid("anna"), anna);
    }
}

/// D1, section 3.4: both eras at one URL, each with children of its own.
#[test]
fn a_child_never_serves_both_eras() {
    let world = world("--era dual", |_| {});
    let client = Client::new(&world);
    assert!(client.call("whoami", json!({})).text().contains("\"Modern\""));
    let token = world.token();
    let hello = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#;
    let answer = world.post(Some(&token), hello);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.header("mcp-session-id").is_some());
    assert!(client.call("whoami", json!({})).text().contains("\"Modern\""));
    assert!(!client.seen().iter().any(|line| line.contains("\"initialize\"")));
}

/// Two thousand requests with the same id from many clients at once: every answer to its own asker.
#[test]
fn a_thousand_requests_with_one_id_are_told_apart() {
    let world = modern();
    Client::new(&world).call("echo", json!({})); // the keys are there from now on
    std::thread::scope(|scope| {
        for thread in 0..20 {
            let world = &world;
            scope.spawn(move || {
                let token = world.token().subject(&format!("s{thread}"));
                let client = Client::with(world, &token);
                let mut raw = world.raw();
                for n in 0..50 {
                    let message = format!("{thread}/{n}");
                    let params = json!({"name": "echo", "arguments": {"message": message}});
                    let answer = read(raw.send(client.text("1", "tools/call", &params, &[])));
                    assert_eq!((answer.text(), &answer.last()["id"]), (message.as_str(), &json!(1)));
                }
            });
        }
    });
}

/// Bounds: one caller cannot take the shared process from all others, and a process of one caller ends with its use.
#[test]
fn nobody_takes_more_than_a_share() {
    let world = world("--era modern", |_| {});
    let greedy = Client::with(&world, &world.token().subject("greedy"));
    let call = json!({"name": "do", "arguments": {"deed": "hang"}});
    let mut all: Vec<_> = (0..256).map(|_| greedy.send("1", "tools/call", &call)).collect();
    let other = Client::new(&world);
    wait_until("they are there", || {
        other.seen().iter().filter(|line| line.contains("\"hang\"")).count() == 256
    });
    let refused = greedy.call("echo", json!({}));
    assert_eq!((refused.status, refused.code()), (503, -32603));
    assert_eq!(other.call("echo", json!({"message": "room"})).text(), "room");
    all.truncate(200);
    wait_until("there is room again", || greedy.call("echo", json!({})).status == 200);

    let brief = super::world("--era modern", |stdio| {
        stdio.share = Share::Principal;
        stdio.session_idle_time = Duration::from_millis(200);
    });
    assert_eq!(Client::new(&brief).call("echo", json!({"message": "hi"})).text(), "hi");
    crate::stdio::no_process_is_left(&brief);
}

/// Section 3.4, section 7 number 1: a subscription ends in good order when the proxy stops, with its result.
#[test]
fn subscriptions_get_their_result_when_the_proxy_stops() {
    for (era, share) in [("modern", Share::All), ("modern", Share::Principal), ("legacy", Share::All)] {
        let world = world(&format!("--era {era}"), |stdio| stdio.share = share);
        let listen = |subject: &str| {
            let client = Client::with(&world, &world.token().subject(subject));
            let params = json!({"notifications": {"toolsListChanged": true}});
            Events::begin(client.send("\"s\"", "subscriptions/listen", &params))
        };
        let mut all = [listen("anna"), listen("anna"), listen("berta")];
        for events in &mut all {
            assert_eq!(events.next().unwrap()["method"], "notifications/subscriptions/acknowledged");
        }
        let (_, took) = timed(|| drop(world));
        for events in &mut all {
            let last = events.next().unwrap_or_else(|| panic!("{era} {share:?}: no result"));
            assert_eq!((&last["id"], &last["result"]["resultType"]), (&json!("s"), &json!("complete")));
            assert_eq!(last["result"]["_meta"]["io.modelcontextprotocol/subscriptionId"], "s");
            assert_eq!(events.next(), None);
        }
        assert!(took < Duration::from_secs(20), "{took:?}");
    }
}
