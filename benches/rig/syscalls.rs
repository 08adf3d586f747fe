//! System calls per request, counted by strace while wrk asks.

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use super::fleet::Running;
use super::load::{self, Scenario};

/// Calls per request by name, the most frequent first.
pub type Counts = Vec<(String, f64)>;

/// Counts during one run of `scenario`; nothing where strace may not trace.
pub fn run(target: &Running, scenario: &Scenario, tokens: &Path, dir: &Path) -> Option<Counts> {
    let pid = target.pid()?;
    let out = dir.join("strace");
    let mut strace = Command::new("strace")
        .args(["-c", "-f", "-q", "-U", "name,calls", "-o"])
        .arg(&out)
        .args(super::process::family(pid).iter().flat_map(|pid| ["-p".to_owned(), pid.to_string()]))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    thread::sleep(Duration::from_millis(500)); // until it is attached to every thread
    let figures = load::run(target, scenario, tokens, dir, 2, 1);
    if let Some(pid) = i32::try_from(strace.id()).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
    }
    let _ = strace.wait();
    let text = std::fs::read_to_string(&out).ok()?;
    let mut counts: Counts = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let (name, calls) = (words.next()?, words.next()?.parse::<f64>().ok()?);
            (name != "total").then(|| (name.to_owned(), calls / figures.requests))
        })
        .filter(|(_, calls)| *calls >= 0.005)
        .collect();
    counts.sort_by(|a, b| b.1.total_cmp(&a.1));
    (!counts.is_empty()).then_some(counts)
}
