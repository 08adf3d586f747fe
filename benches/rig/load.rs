//! Requests in a loop, by wrk: how many, how dear, how late.

use std::path::Path;
use std::process::Command;

use super::fleet::Running;
use super::process::cpu_ms;

/// One kind of request.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub what: &'static str,
    pub connections: u32,
    pub tokens: &'static str,
    /// `rotate` or `forge`, and the tool; see `load.lua`.
    pub mode: &'static str,
    /// Whether the gates refuse it.
    pub refused: bool,
}

impl Scenario {
    pub fn title(&self) -> String {
        let tokens = match self.tokens {
            "1" => ", 1 token",
            "1000" => ", 1,000 tokens",
            _ => "",
        };
        format!("{}{tokens}, {} connections", self.what, self.connections)
    }
}

/// What one run showed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    pub requests: f64,
    pub per_second: f64,
    pub cpu_per_thousand: f64,
    pub p50_us: f64,
    pub p99_us: f64,
}

/// Runs wrk with one thread against one target.
///
/// # Panics
/// Where an answer is not what the scenario says: a measurement of errors is none.
pub fn run(
    target: &Running,
    scenario: &Scenario,
    tokens: &Path,
    dir: &Path,
    seconds: u32,
    seed: u64,
) -> Figures {
    let before = target.pid().map_or(0.0, cpu_ms);
    let output = Command::new("wrk")
        .arg("-t1")
        .arg(format!("-c{}", scenario.connections))
        .arg(format!("-d{seconds}s"))
        .arg("-s")
        .arg(dir.join("load.lua"))
        .arg(format!("http://127.0.0.1:{}/mcp", target.port))
        .arg("--")
        .arg(tokens)
        .arg(scenario.mode)
        .arg(seed.to_string())
        .output()
        .expect("wrk runs");
    let cpu = target.pid().map_or(0.0, cpu_ms) - before;
    let text = String::from_utf8_lossy(&output.stdout);
    let result = text.lines().find_map(|line| line.strip_prefix("RESULT "));
    let result = result.unwrap_or_else(|| panic!("wrk: {text}{}", String::from_utf8_lossy(&output.stderr)));
    let numbers: Vec<f64> = result.split(' ').filter_map(|n| n.parse().ok()).collect();
    let [requests, duration_us, refused, broken, p50_us, p99_us] = numbers[..] else {
        panic!("wrk: {result}")
    };
    let name = target.kind.name();
    assert!(requests > 0.0, "{name}, {scenario:?}: nothing was answered");
    let expected = if scenario.refused && target.kind.checks() { requests } else { 0.0 };
    assert!((refused - expected).abs() < 0.5, "{name}, {scenario:?}: {refused} of {requests} were refused");
    assert!(broken <= requests / 1000.0, "{name}, {scenario:?}: {broken} connections broke");
    Figures {
        requests,
        per_second: requests * 1e6 / duration_us,
        cpu_per_thousand: cpu * 1000.0 / requests,
        p50_us,
        p99_us,
    }
}
