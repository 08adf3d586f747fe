//! From the start of the process to its first answer, what it holds when nothing was asked of it, and how large it is.

use std::fs;
use std::thread;
use std::time::Duration;

use super::fleet::{Kind, Yard};
use super::process::{rss_kib, threads};

/// What one start showed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    pub first_answer_ms: f64,
    pub idle_rss_mib: f64,
    pub threads: f64,
    pub binary_mb: f64,
}

/// Starts one, looks at it a moment later, and ends it.
pub fn run(yard: &Yard, kind: Kind) -> Figures {
    let (running, time) = yard.start(kind);
    thread::sleep(Duration::from_millis(300));
    let pid = running.pid().unwrap_or_else(std::process::id);
    let size = yard.program(kind).and_then(|program| fs::metadata(program).ok()).map_or(0, |data| data.len());
    Figures {
        first_answer_ms: time.as_secs_f64() * 1000.0,
        idle_rss_mib: rss_kib(pid) / 1024.0,
        threads: threads(pid),
        binary_mb: size as f64 / 1e6,
    }
}
