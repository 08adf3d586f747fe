//! What a process costs, as /proc tells it: CPU, resident memory, threads.

use std::fs;

/// Milliseconds in one of the ticks in which /proc counts CPU; the same on every Linux that has a /proc.
const TICK_MS: f64 = 10.0;

/// A process and the children it has now.
pub fn family(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let tasks = fs::read_dir(format!("/proc/{pid}/task"));
    for task in tasks.into_iter().flatten().flatten() {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for child in children.split_ascii_whitespace().filter_map(|child| child.parse().ok()) {
            all.extend(family(child));
        }
    }
    all
}

/// User and system time of a process, all its threads and its children, in milliseconds.
pub fn cpu_ms(pid: u32) -> f64 {
    family(pid).into_iter().map(own_cpu_ms).sum()
}

/// The same of a process without its children.
pub fn own_cpu_ms(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The second field is the name in brackets, which may hold anything; utime and stime are fields 14 and 15.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    rest.split_ascii_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>()
        * TICK_MS
}

/// Resident memory of a process and its children, in KiB.
pub fn rss_kib(pid: u32) -> f64 {
    family(pid).into_iter().map(|pid| status(pid, "VmRSS:")).sum()
}

/// The same of a process without its children.
pub fn own_rss_kib(pid: u32) -> f64 {
    status(pid, "VmRSS:")
}

/// Threads of a process and its children.
pub fn threads(pid: u32) -> f64 {
    family(pid).into_iter().map(|pid| status(pid, "Threads:")).sum()
}

fn status(pid: u32, field: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|line| line.split_ascii_whitespace().next()).and_then(|n| n.parse().ok()).unwrap_or(0.0)
}
