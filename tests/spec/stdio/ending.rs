//! Nothing is left behind, however it ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::program::Program;
use super::{Client, is_alive, scripted_child, world};
use crate::modern;
use crate::world::wait_until;

/// 200 sessions opened and abandoned: after the idle time no process, thread or descriptor is left of them.
#[test]
fn abandoned_sessions_leave_nothing() {
    let command = format!("{} --era legacy", scripted_child().display());
    let program = Program::with(
        "abandoned",
        &command,
        "session_idle_seconds: 3\n  sessions: 210\n  sessions_per_principal: 200",
    );
    program.open().pid();
    wait_until("the first session is forgotten", || program.children() == 0);
    let before = program.held();
    let pids: Vec<u64> = (0..200)
        .filter_map(|n| {
            let session = program.open();
            (n % 20 == 0).then(|| session.pid())
        })
        .collect();
    assert_eq!(program.held().0, before.0, "no thread for each child");
    wait_until("every session is forgotten", || program.children() == 0);
    assert!(pids.iter().all(|pid| !is_alive(*pid)));
    wait_until("every thread and descriptor is given back", || {
        let (threads, descriptors) = program.held();
        threads <= before.0 && descriptors <= before.1
    });
    assert!(is_alive(program.open().pid()), "it goes on");
}

/// Stopping ends running sessions.
#[test]
fn stopping_leaves_nothing() {
    let world = world("--era legacy", |_| {});
    let client = Client::open(&world);
    let _standing = client.listen(None);
    let pid = client.pid();
    drop(client);
    drop(world);
    assert!(!is_alive(pid));
}

/// `kill -9` of the proxy: no child survives, not even one that ignores the end of its input and SIGTERM.
#[test]
fn no_child_outlives_the_proxy() {
    let command = format!("{} --era legacy --stubborn", scripted_child().display());
    let program = Program::start("killed", &command);
    let pids = [program.open().pid(), program.open().pid()];
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    kill_process(Pid::from_child(&program.process), Signal::KILL).unwrap();
    wait_until("the children are gone", || pids.iter().all(|pid| !is_alive(*pid)));
}

/// SIGTERM: the children end with it, and the exit code is 0.
#[test]
fn the_program_stops_with_its_children() {
    let command = format!("{} --era legacy", scripted_child().display());
    let mut program = Program::start("stopped", &command);
    let pid = program.open().pid();
    kill_process(Pid::from_child(&program.process), Signal::TERM).unwrap();
    assert_eq!(program.process.wait().unwrap().code(), Some(0));
    assert!(!is_alive(pid));
}

/// `kill -9` of a child under load: everyone who waits hears of it, and the next request works.
#[test]
fn a_killed_child_is_heard_of_at_once() {
    let world = world("--era legacy", |_| {});
    let client = Client::open(&world);
    let pid = client.pid();
    let mut waiting: Vec<_> = (1..=100).map(|id| client.begin(&super::deed(id, "late:60000"))).collect();
    wait_until("all are under way", || {
        client.seen().iter().filter(|line| line["params"]["name"] == "do").count() == 100
    });
    let killed = Instant::now();
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL).unwrap();
    for raw in &mut waiting {
        let answer = raw.answer().unwrap();
        assert_eq!(super::messages(&answer).pop().unwrap()["error"]["message"], "the MCP server died");
    }
    let heard = killed.elapsed();
    assert_eq!(Client::open(&world).tool("echo", json!({"message": "next"})), "next");
    println!("legacy: 100 heard of it after {heard:?}, the next was answered after {:?}", killed.elapsed());
    assert!(heard < Duration::from_secs(20), "{heard:?}, and nothing else would end them within a minute");
}

/// The same at the child that all share, while calls of many come and go.
#[test]
fn a_killed_child_is_heard_of_at_once_by_all_who_share_it() {
    let world = modern::world("--era modern", |_| {});
    let client = modern::Client::new(&world);
    let whoami: Value = serde_json::from_str(client.call("whoami", json!({})).text()).unwrap();
    let pid = i32::try_from(whoami["pid"].as_i64().unwrap()).unwrap();
    let hang = json!({"name": "do", "arguments": {"deed": "late:60000"}});
    let callers: Vec<_> =
        (0..4).map(|n| modern::Client::with(&world, &world.token().subject(&format!("s{n}")))).collect();
    let mut waiting: Vec<_> = (0..200).map(|n| callers[n % 4].send("\"w\"", "tools/call", &hang)).collect();
    wait_until("all are under way", || {
        client.seen().iter().filter(|line| line.contains("late:60000")).count() == 200
    });
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for caller in &callers {
            let over = &over;
            // Until the end each call is answered, be it that the child died meanwhile.
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let answer = caller.call("echo", json!({"message": "load"}));
                    let error = &answer.last()["error"]["code"];
                    assert!(error == -32603 || answer.text() == "load", "{answer:?}");
                }
            });
        }
        let killed = Instant::now();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
        for raw in &mut waiting {
            let answer = modern::read(raw);
            assert_eq!((answer.code(), &answer.last()["id"]), (-32603, &json!("w")));
            assert_eq!(answer.last()["error"]["message"], "the MCP server died");
        }
        let heard = killed.elapsed();
        assert_eq!(client.call("echo", json!({"message": "next"})).text(), "next");
        println!(
            "modern: 200 heard of it after {heard:?}, the next was answered after {:?}",
            killed.elapsed()
        );
        over.store(true, Ordering::Relaxed);
        assert!(
            heard < Duration::from_secs(20),
            "{heard:?}, and nothing else would end them within a minute"
        );
    });
}
