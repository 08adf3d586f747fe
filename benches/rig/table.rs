//! What is printed: one line per target and measurement, medians, and ratios to HAProxy.

use std::process::Command;

use super::bridges::{self, Target};
use super::calls::Era;
use super::fleet::{Kind, Yard};
use super::{load, startup, streams, syscalls};

/// A promise of ours: what, the bound, and what was measured.
pub struct Verdict {
    what: String,
    most: bool,
    bound: f64,
    found: f64,
}

impl Verdict {
    fn most(what: impl Into<String>, bound: f64, found: f64) -> Self {
        Self { what: what.into(), most: true, bound, found }
    }

    fn least(what: impl Into<String>, bound: f64, found: f64) -> Self {
        Self { what: what.into(), most: false, bound, found }
    }
}

type Runs<T> = [(Kind, Vec<T>)];

/// The middle one.
fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}

fn of<T>(runs: &Runs<T>, kind: Kind, figure: impl Fn(&T) -> f64) -> f64 {
    let found = runs.iter().find(|(found, _)| *found == kind);
    found.map_or(f64::NAN, |(_, all)| median(all.iter().map(figure).collect()))
}

/// The median of the ratios to HAProxy within each round.
fn ratio<T>(runs: &Runs<T>, kind: Kind, figure: impl Fn(&T) -> f64) -> f64 {
    let all = |kind| runs.iter().find(|(found, _)| *found == kind).map(|(_, all)| all);
    let (Some(ours), Some(theirs)) = (all(kind), all(Kind::Haproxy)) else { return f64::NAN };
    median(ours.iter().zip(theirs).map(|(a, b)| figure(a) / figure(b)).collect())
}

fn shown(value: f64, digits: usize) -> String {
    if value.is_finite() { format!("{value:.digits$}") } else { "-".into() }
}

/// What the figures were measured on.
pub fn machine(yard: &Yard) {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or("")
        .trim_matches([' ', '\t', ':']);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    println!(
        "{} processors ({model}), Linux {}, load {} at the start",
        std::thread::available_parallelism().map_or(0, usize::from),
        kernel.trim(),
        load.split(' ').next().unwrap_or("?")
    );
    for (program, flag) in [(yard.ours.as_path(), "--version"), ("/usr/sbin/haproxy".as_ref(), "-v")] {
        if let Ok(output) = Command::new(program).arg(flag).output() {
            println!("{}", String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or(""));
        }
    }
}

pub fn startup(runs: &Runs<startup::Figures>, verdicts: &mut Vec<Verdict>) {
    println!("\n{:<40} {:>14} {:>12} {:>8} {:>10}", "start", "first answer", "idle RSS", "threads", "binary");
    for (kind, _) in runs {
        println!(
            "{:<40} {:>11} ms {:>8} MiB {:>8} {:>7} MB",
            kind.name(),
            shown(of(runs, *kind, |f| f.first_answer_ms), 1),
            shown(of(runs, *kind, |f| f.idle_rss_mib), 1),
            shown(of(runs, *kind, |f| f.threads), 0),
            shown(of(runs, *kind, |f| f.binary_mb), 2),
        );
    }
    let ours = |figure: fn(&startup::Figures) -> f64| of(runs, Kind::Ours, figure);
    verdicts.push(Verdict::most("idle RSS, MiB", 4.0, ours(|f| f.idle_rss_mib)));
    verdicts.push(Verdict::most("start to first answer, ms", 10.0, ours(|f| f.first_answer_ms)));
    verdicts.push(Verdict::most("binary, MB", 4.0, ours(|f| f.binary_mb)));
}

pub fn load(scenario: &load::Scenario, runs: &Runs<load::Figures>, verdicts: &mut Vec<Verdict>) {
    let title = scenario.title();
    println!(
        "\n{title:<58} {:>8} {:>8} {:>7} {:>8} {:>7} {:>6}",
        "req/s", "CPU ms/k", "p50 us", "p99 us", "x req/s", "x CPU"
    );
    for (kind, _) in runs {
        println!(
            "{:<58} {:>8} {:>8} {:>7} {:>8} {:>7} {:>6}",
            kind.name(),
            shown(of(runs, *kind, |f| f.per_second), 0),
            if *kind == Kind::Direct {
                "-".into()
            } else {
                shown(of(runs, *kind, |f| f.cpu_per_thousand), 1)
            },
            shown(of(runs, *kind, |f| f.p50_us), 0),
            shown(of(runs, *kind, |f| f.p99_us), 0),
            shown(ratio(runs, *kind, |f| f.per_second), 2),
            if *kind == Kind::Direct {
                "-".into()
            } else {
                shown(ratio(runs, *kind, |f| f.cpu_per_thousand), 2)
            },
        );
    }
    let cpu = ratio(runs, Kind::Ours, |f| f.cpu_per_thousand);
    let speed = ratio(runs, Kind::Ours, |f| f.per_second);
    if scenario.what == "POST, JSON" && scenario.connections > 1 {
        verdicts.push(Verdict::most(format!("{title}: CPU, x HAProxy"), 0.5, cpu));
        verdicts.push(Verdict::least(format!("{title}: req/s, x HAProxy"), 1.3, speed));
    } else if scenario.what.ends_with("no token") {
        verdicts.push(Verdict::most(format!("{title}: CPU, x HAProxy"), 1.0, cpu));
    } else if scenario.what.contains("bad signature") {
        verdicts.push(Verdict::most(format!("{title}: CPU, x HAProxy"), 1.5, cpu));
    }
}

pub fn syscalls(kind: Kind, connections: u32, counts: Option<syscalls::Counts>) {
    let Some(counts) = counts else {
        println!("\nsystem calls per request, {}: strace may not trace here", kind.name());
        return;
    };
    let all: f64 = counts.iter().map(|(_, calls)| calls).sum();
    println!("\nsystem calls per request, {}, {connections} connections: {all:.2}", kind.name());
    let each: Vec<String> = counts.iter().map(|(name, calls)| format!("{name} {calls:.2}")).collect();
    println!("  {}", each.join(", "));
}

pub fn streams(count: usize, runs: &Runs<streams::Figures>, verdicts: &mut Vec<Verdict>) {
    println!(
        "\n{:<24} {:>9} {:>13} {:>8} {:>8} {:>15} {:>8} {:>8}",
        format!("{count} streams held"),
        "KiB each",
        "after events",
        "RSS MiB",
        "threads",
        "CPU ms/k events",
        "p50 us",
        "p99 us"
    );
    for (kind, _) in runs {
        let figure = |digits, figure: fn(&streams::Figures) -> f64| shown(of(runs, *kind, figure), digits);
        let own = |text: String| if *kind == Kind::Direct { "-".into() } else { text };
        println!(
            "{:<24} {:>9} {:>13} {:>8} {:>8} {:>15} {:>8} {:>8}",
            kind.name(),
            own(figure(2, |f| f.kib_each)),
            own(figure(2, |f| f.kib_each_after_events)),
            own(figure(1, |f| f.rss_mib)),
            own(figure(0, |f| f.threads)),
            own(figure(1, |f| f.cpu_ms_per_second)),
            figure(0, |f| f.p50_us),
            figure(0, |f| f.p99_us),
        );
    }
    if count == 5000 {
        let ours = |figure: fn(&streams::Figures) -> f64| of(runs, Kind::Ours, figure);
        verdicts.push(Verdict::most("5,000 streams: KiB of RSS each", 2.0, ours(|f| f.kib_each)));
        verdicts.push(Verdict::most(
            "5,000 streams: KiB each after events",
            2.0,
            ours(|f| f.kib_each_after_events),
        ));
        verdicts.push(Verdict::most("5,000 streams: threads", 20.0, ours(|f| f.threads)));
        let late = ratio(runs, Kind::Ours, |f| f.p50_us);
        verdicts.push(Verdict::most("5,000 streams: delivery p50, x HAProxy", 1.2, late));
    }
}

/// Bridges, by era; ratios are theirs to ours, the medians of those within each round.
pub fn bridges(runs: &[(Target, Vec<Result<bridges::Figures, String>>)], verdicts: &mut Vec<Verdict>) {
    for era in [Era::Legacy, Era::Modern] {
        let revision = if era == Era::Legacy { "2025-11-25" } else { "2026-07-28" };
        println!(
            "\n{:<32} {:>8} {:>12} {:>8} {:>8} {:>11} {:>12} {:>9} {:>9} {:>6}",
            format!("stdio, {revision}, {} clients", bridges::CLIENTS),
            "calls/s",
            "CPU us/call",
            "p50 us",
            "p99 us",
            "MiB, one",
            "MiB, all",
            "children",
            "x calls/s",
            "x CPU"
        );
        let here = runs.iter().filter(|(target, _)| target.era == era);
        let ours = here.clone().find(|(target, _)| target.kind == Kind::Ours).map(|(_, all)| all);
        for (target, all) in here {
            let name = target.kind.name();
            let good: Vec<&bridges::Figures> = all.iter().flatten().collect();
            if let Some(why) = all.iter().find_map(|run| run.as_ref().err()) {
                println!("{name}: {} of {} runs failed: {why}", all.len() - good.len(), all.len());
                assert!(target.kind != Kind::Ours, "a measurement of errors is none");
            }
            let of =
                |figure: fn(&bridges::Figures) -> f64| median(good.iter().map(|run| figure(run)).collect());
            let ratio = |figure: fn(&bridges::Figures) -> f64| {
                let pairs = all.iter().zip(ours.into_iter().flatten());
                let both =
                    pairs.filter_map(|(a, b)| Some(figure(a.as_ref().ok()?) / figure(b.as_ref().ok()?)));
                median(both.collect())
            };
            println!(
                "{name:<32} {:>8} {:>12} {:>8} {:>8} {:>11} {:>12} {:>9} {:>9} {:>6}",
                shown(of(|f| f.per_second), 0),
                shown(of(|f| f.cpu_us), 1),
                shown(of(|f| f.p50_us), 0),
                shown(of(|f| f.p99_us), 0),
                shown(of(|f| f.one_mib), 2),
                shown(of(|f| f.all_mib), 2),
                shown(of(|f| f.children), 0),
                shown(ratio(|f| f.per_second), 2),
                shown(ratio(|f| f.cpu_us), 2),
            );
            if target.kind == Kind::Ours {
                let what = format!("stdio, {revision}");
                verdicts.push(Verdict::most(format!("{what}: CPU per call, us"), 80.0, of(|f| f.cpu_us)));
                verdicts.push(Verdict::most(
                    format!("{what}: RSS with one child, MiB"),
                    6.0,
                    of(|f| f.one_mib),
                ));
            }
        }
    }
}

/// The promises of docs/performance.md, held against this run.
pub fn verdicts(verdicts: &[Verdict]) {
    if verdicts.is_empty() {
        return;
    }
    println!("\n{:<78} {:>9} {:>7}", "promise", "found", "holds");
    for verdict in verdicts {
        let (sign, holds) = if verdict.most {
            ("<=", verdict.found <= verdict.bound)
        } else {
            (">=", verdict.found >= verdict.bound)
        };
        let what = format!("{} {sign} {}", verdict.what, verdict.bound);
        println!("{what:<78} {:>9.2} {:>7}", verdict.found, if holds { "yes" } else { "NO" });
    }
}
