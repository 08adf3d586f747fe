//! What a server must not do, and what becomes of it: its own callers hear of it, and nobody else.

use std::time::Duration;

use open_mcp_auth_proxy::secret::Secret;
use serde_json::{Value, json};

use super::{Client, call, deed, is_alive, messages, no_process_is_left, text, world};
use crate::world::wait_until;

/// Lines of every odd kind: the answer still finds its asker, and what leads nowhere is lost quietly.
#[test]
fn odd_lines_harm_nobody() {
    let world = world("--era legacy", |_| {});
    let client = Client::open(&world);
    for odd in [
        "garbage:50",
        "crlf",
        "batch",
        "partial:200",
        "twice",
        "unknown",
        "stderr:20000",
        "stderr-line:200000",
    ] {
        let answer = client.post(&deed(odd, odd));
        let last = messages(&answer).pop().unwrap();
        assert_eq!((text(&last), &last["id"]), ("done".into(), &json!(odd)));
    }
    assert_eq!(client.tool("echo", json!({"message": "well"})), "well");
    assert!(world.log.text().contains("wrote what is no message"));
    assert_eq!(client.delete().status, 204);
    no_process_is_left(&world);
    assert!(world.log.text().contains("lines_not_shown"), "fifty lines are too many for the log");
}

/// An answer to an id that nobody used goes nowhere, whoever waits for others.
#[test]
fn an_answer_finds_its_asker_or_nobody() {
    let world = world("--era legacy", |stdio| stdio.request_time = Duration::from_secs(3));
    let (client, other) = (Client::open(&world), Client::open(&world));
    let mut waiting = other.begin(&deed(42, "hang"));
    wait_until("the other waits", || other.seen().iter().any(|line| line["id"] == 42));
    // The child of one session answers with the id that waits in the other.
    let mut lost = client.begin(&deed(1, "with-id:42"));
    for raw in [&mut lost, &mut waiting] {
        let answer = raw.answer().unwrap();
        let error = messages(&answer).pop().unwrap();
        assert_eq!(error["error"]["code"], -32603, "{error}");
    }
    // The type of an id counts.
    let answer = client.post(&deed(5, "with-id:\"5\""));
    assert_eq!(messages(&answer).pop().unwrap()["error"]["code"], -32603);
}

/// Everyone who waits hears of a crash at once, the reason is for the log, and the session is over.
#[test]
fn a_crash_is_told_to_everyone_who_waits() {
    for (how, status) in [("crash:3", "exit code 3"), ("signal:9", "signal 9"), ("half:4", "exit code 4")] {
        let world = world("--era legacy", |_| {});
        let (client, other) = (Client::open(&world), Client::open(&world));
        let mut standing = client.listen(None);
        let mut waiting: Vec<_> = (1..=5).map(|id| client.begin(&deed(id, "hang"))).collect();
        wait_until("all are under way", || {
            client
                .seen()
                .iter()
                .filter(|line| {
                    line["method"] == "tools/call" && line["params"]["arguments"]["deed"] == "hang"
                })
                .count()
                == 5
        });
        waiting.push(client.begin(&deed(6, how)));
        for (n, raw) in waiting.iter_mut().enumerate() {
            let answer = raw.answer().unwrap();
            let error = messages(&answer).pop().unwrap();
            let (code, id) = (&error["error"]["code"], &error["id"]);
            assert_eq!((code, id), (&json!(-32603), &json!(n + 1)), "{how}: {error}");
            let told = answer.text();
            assert!(
                !told.contains(status) && !told.contains("as told"),
                "no detail goes to a client: {told}"
            );
        }
        assert!(
            super::read_all(&mut standing).len() <= 1,
            "the stream ends, with nothing but its first event"
        );
        let log = world.log.text();
        assert!(log.contains(&format!("status=\"{status}\"")), "{log}");
        assert!(
            how != "crash:3" || log.contains("last_line=\"scripted-child: ending with 3 as told\""),
            "{log}"
        );
        assert_eq!(client.post(&call(9, "echo", json!({}))).status, 404, "{how}");
        assert_eq!(other.tool("echo", json!({"message": "unhurt"})), "unhurt");
        assert_eq!(Client::open(&world).tool("echo", json!({"message": "again"})), "again");
    }
}

/// A child that reads nothing, floods, or writes a line without measure: others go on, and it is ended in the end.
#[test]
fn a_stuck_child_hurts_only_itself() {
    let world = world("--era legacy", |stdio| {
        stdio.request_time = Duration::from_secs(3);
        stdio.line_bytes = 100_000;
    });
    let well = Client::open(&world);
    let deaf = Client::open(&world);
    let _first = deaf.begin(&deed(1, "deaf"));
    wait_until("it is deaf", || world.log.text().contains("item=do") || deaf.world.bridge().sessions() == 2);
    let large = "x".repeat(300_000);
    let mut answers: Vec<_> =
        (2..12).map(|id| deaf.begin(&call(id, "echo", json!({"message": large})))).collect();
    assert_eq!(well.tool("echo", json!({"message": "well"})), "well");
    for raw in &mut answers {
        let answer = raw.answer().unwrap();
        let error = messages(&answer).pop().unwrap();
        assert_eq!(error["error"]["code"], -32603, "too much waits, or it took too long: {error}");
    }
    let flooding = Client::open(&world);
    let _flood = flooding.begin(&deed(1, "stderr:0"));
    let noisy = Client::open(&world);
    let _noise = noisy.begin(&deed(1, "stdout:0"));
    for n in 0..50 {
        assert_eq!(well.tool("echo", json!({"message": n.to_string()})), n.to_string());
    }
    let long = Client::open(&world);
    let answer = long.post(&deed(1, "large:200000"));
    assert_eq!(messages(&answer).pop().unwrap()["error"]["message"], "the MCP server's answer is too large");
    assert_eq!(long.tool("echo", json!({"message": "on"})), "on");
    for client in [&deaf, &flooding, &noisy] {
        assert_eq!(client.delete().status, 204);
    }
    wait_until("the three have ended", || world.bridge().processes() == 2);
}

/// D12: arguments without a shell, an environment without our secrets, a folder of its own.
#[test]
fn the_child_gets_what_was_configured_and_no_more() {
    let folder = std::fs::canonicalize(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let world = world("'two words' $HOME *; \"a\\\"b\"", |stdio| {
        stdio.work_dir = Some(folder.clone());
        stdio.env = vec![("FOR_THE_CHILD".into(), Secret::new("hidden value".into()))];
    });
    let who = Client::open(&world).whoami();
    let arguments: Vec<_> =
        who["arguments"].as_array().unwrap()[1..].iter().map(|word| word.as_str().unwrap()).collect();
    assert_eq!(arguments, ["two words", "$HOME", "*;", "a\"b"]);
    assert_eq!(who["directory"], folder.to_str().unwrap());
    let names: Vec<_> =
        who["environment"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert!(names.contains(&"FOR_THE_CHILD") && names.contains(&"PATH"), "{names:?}");
    // What cargo sets for this very test is part of our environment, and none of the child's.
    assert!(std::env::vars().any(|(name, _)| name.starts_with("CARGO")));
    assert!(!names.iter().any(|name| name.starts_with("CARGO")), "{names:?}");
    let log = world.log.text();
    assert!(log.contains("'two words' '$HOME' '*;'") && !log.contains("hidden value"), "{log}");
}

/// A grandchild that holds standard output, and a child that ignores everything, are ended with their group.
#[test]
fn a_stubborn_family_is_ended() {
    let world = world("--era legacy --stubborn", |_| {});
    let client = Client::open(&world);
    client.post(&deed(1, "grandchild:600"));
    let pid = client.pid();
    let group = || -> Vec<u64> {
        let names = std::fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.filter_map(|name| name.parse().ok()).filter(|other| in_group(*other, pid)).collect()
    };
    assert_eq!(group().len(), 2, "the child and its child");
    assert_eq!(client.delete().status, 204);
    no_process_is_left(&world);
    wait_until("the whole group has ended", || group().is_empty());
    assert!(!is_alive(pid));
}

/// Whether a process that is alive belongs to this group.
fn in_group(pid: u64, group: u64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    fields.get(2).and_then(|field| field.parse().ok()) == Some(group) && fields.first() != Some(&"Z")
}

/// Fifty sessions with the same ids at once: every answer to its own asker.
#[test]
fn the_same_ids_in_many_sessions_never_meet() {
    let world = world("--era legacy", |_| {});
    // The issuer's keys are there when all come at once.
    assert_eq!(Client::open(&world).delete().status, 204);
    no_process_is_left(&world);
    std::thread::scope(|scope| {
        for session in 0..50 {
            let world = &world;
            scope.spawn(move || {
                let client = Client::open_as(world, &format!("user-{session}"), "2025-11-25");
                let mut asked: Vec<_> = (0..20)
                    .map(|id| {
                        (id, client.begin(&call(id, "echo", json!({"message": format!("{session}/{id}")}))))
                    })
                    .collect();
                for (id, raw) in &mut asked {
                    let answer = raw.answer().unwrap();
                    let message = messages(&answer).pop().unwrap();
                    assert_eq!(
                        (text(&message), &message["id"]),
                        (format!("{session}/{id}"), &Value::from(*id))
                    );
                }
            });
        }
    });
    assert_eq!(world.bridge().processes(), 50);
}
