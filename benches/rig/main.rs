//! Ours beside HAProxy with `jwt_verify` and nginx without authorization, and beside two bridges for stdio, on this
//! machine, in one run.
//!
//! ```text
//! wrk ──▶ ours │ HAProxy │ nginx │ nobody ──▶ one fast MCP server (a thread of this program)
//! 16 clients ──▶ ours │ supergateway │ mcp-proxy ──▶ an MCP server that is a program (this one again)
//! ```
//!
//! `make bench` runs all of it, `make bench-smoke` a part that takes less than a minute. The targets take turns within
//! every round, so that what else the machine does meets all of them; figures are medians over the rounds and ratios are
//! medians of the ratios within each round. CPU is what /proc says of the target's processes, so the load generator and
//! the server behind do not count. docs/performance.md says how to read what this prints.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a program for developers"
)]
#![allow(missing_docs, unreachable_pub, reason = "a program has no outside")]

mod bridges;
mod calls;
mod echo;
mod fleet;
mod load;
mod plan;
mod process;
mod startup;
mod streams;
mod syscalls;
mod table;
mod tokens;
mod upstream;

use std::cell::LazyCell;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use fleet::{Kind, Yard};
use plan::Plan;

const HELP: &str = "\
usage: make bench [ARGS='…']

  --smoke        one short round of a part of it
  --only PART    start, load, syscalls, streams or stdio; may be given again
  --rounds N     rounds of each measurement; 3
  --seconds N    length of one run of wrk; 3
  --match TEXT   only requests whose title has this text, such as '16 connections', and bridges whose name has it
  --ours PATH    the program to measure; by default what `make release` built
  --beside PATH  another build of it, to compare with
  --yaml TEXT    more lines for the configuration of ours, such as 'log_level: warn'
";

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|first| first == echo::AS_SERVER) {
        echo::serve();
        return ExitCode::SUCCESS;
    }
    let mut args = pico_args::Arguments::from_env();
    if args.contains("--help") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let _ = args.contains("--bench"); // cargo says so
    let plan = Plan::from(&mut args);
    let ours = args.opt_value_from_os_str("--ours", |path| Ok::<_, String>(PathBuf::from(path)));
    let beside = args.opt_value_from_os_str("--beside", |path| Ok::<_, String>(PathBuf::from(path)));
    let more = args.opt_value_from_str::<_, String>("--yaml");
    let (Ok(plan), Ok(ours), Ok(beside), Ok(more), true) =
        (plan, ours, beside, more, args.finish().is_empty())
    else {
        print!("{HELP}");
        return ExitCode::from(2);
    };
    let builds = Builds { ours: ours.unwrap_or_else(released), beside, more: more.unwrap_or_default() };
    if let Err(missing) = tools(&plan) {
        println!("{missing}");
        return ExitCode::FAILURE;
    }
    measure(&plan, builds);
    ExitCode::SUCCESS
}

/// What of ours is measured, and how.
struct Builds {
    ours: PathBuf,
    beside: Option<PathBuf>,
    more: String,
}

fn measure(plan: &Plan, builds: Builds) {
    let began = Instant::now();
    raise_descriptors();
    let dir = Scratch::new();
    fleet::end_on_signal(dir.0.clone());
    let upstream = upstream::Upstream::start().expect("a server on loopback");
    let issuer = format!("http://{}", upstream.addr);
    let minter = tokens::Minter::new(issuer.clone());
    upstream.set_jwks(minter.jwks());
    let write = |name: &str, text: &str| std::fs::write(dir.0.join(name), text).expect("a file");
    write("key.pem", &minter.public_pem());
    write("load.lua", include_str!("../load.lua"));
    let files = LazyCell::new(|| minter.write(&dir.0)); // thousands of signatures
    let Builds { ours, beside, more } = builds;
    let yard = Yard { dir: dir.0.clone(), ours, beside, more, upstream: upstream.addr, issuer };
    let (all, real) =
        (yard.kinds(), yard.kinds().into_iter().filter(|kind| *kind != Kind::Direct).collect::<Vec<_>>());
    let token = minter.good("alice");

    table::machine(&yard);
    let mut verdicts = Vec::new();
    if plan.does("start") {
        let runs = plan::interleaved(plan.starts, &real, |kind, _| startup::run(&yard, kind));
        table::startup(&runs, &mut verdicts);
    }
    if plan.does("load") {
        let fleet: Vec<_> = all.iter().map(|kind| yard.start(*kind).0).collect();
        for scenario in plan.scenarios() {
            let kinds: Vec<Kind> =
                all.iter().copied().filter(|kind| plan::applies(*kind, &scenario)).collect();
            let runs = plan::interleaved(plan.rounds, &kinds, |kind, round| {
                let target = fleet.iter().find(|target| target.kind == kind).expect("all were started");
                let seed = (u64::from(round) * 5 + kind as u64 + 1) * 0x0800_0000;
                let posts = upstream.settled();
                let tokens = files.named(scenario.tokens);
                let figures = load::run(target, &scenario, tokens, &dir.0, plan.seconds, seed);
                let reached = upstream.settled() > posts;
                assert!(reached != (scenario.refused && kind.checks()), "{kind:?}, {scenario:?}");
                target.empty_log();
                figures
            });
            table::load(&scenario, &runs, &mut verdicts);
        }
    }
    if plan.does("syscalls") {
        for kind in real {
            let (target, _) = yard.start(kind);
            for connections in plan.syscall_connections() {
                let scenario = plan::json(*connections, "1");
                let counts = syscalls::run(&target, &scenario, files.named(scenario.tokens), &dir.0);
                table::syscalls(kind, *connections, counts);
            }
        }
    }
    if plan.does("streams") {
        for count in plan.streams() {
            let runs = plan::interleaved(plan.rounds, &all, |kind, _| {
                let (target, _) = yard.start(kind);
                streams::run(&target, &upstream, &token, *count, plan.event_seconds)
            });
            table::streams(*count, &runs, &mut verdicts);
        }
    }
    if plan.does("stdio") {
        let packages = if plan.is_short() { bridges::Packages::none() } else { bridges::Packages::get() };
        if let Some(why) = packages.missing() {
            println!("\nsupergateway and mcp-proxy are left out: {why}");
        }
        let targets = packages.targets(yard.beside.is_some(), plan.matching());
        let runs = plan::interleaved(plan.rounds, &targets, |target, _| {
            bridges::run(&yard, &packages, target, &token, plan.seconds)
        });
        table::bridges(&runs, &mut verdicts);
    }
    table::verdicts(&verdicts);
    println!("\n{} s", began.elapsed().as_secs());
}

/// A directory for the run; removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("mcp-bench-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory for temporary files");
        Self(dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What `make release` leaves, or `make release-glibc` where that was not made: below target/, by the name of the target.
fn released() -> PathBuf {
    let dirs = std::fs::read_dir(target()).into_iter().flatten().flatten();
    let built = dirs.map(|dir| dir.path().join("dist/openmcpauthproxy")).filter(|path| path.exists());
    let best = built.max_by_key(|path| path.to_string_lossy().contains("musl"));
    best.unwrap_or_else(|| target().join("release/openmcpauthproxy"))
}

fn target() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target")
}

/// 5,000 streams are 10,000 descriptors of this program.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// Sees to it that the programs are there; root gets the missing ones from Debian.
fn tools(plan: &Plan) -> Result<(), String> {
    let mut missing = Vec::new();
    for (path, package) in [
        ("/usr/bin/wrk", "wrk"),
        ("/usr/sbin/haproxy", "haproxy"),
        ("/usr/sbin/nginx", "nginx-light"),
        ("/usr/bin/strace", "strace"),
    ] {
        if plan.relays()
            && !std::path::Path::new(path).exists()
            && (package != "strace" || plan.does("syscalls"))
        {
            missing.push(package);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let install = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(args).env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    // Services of these packages are not wanted; on a machine of a developer or of CI nothing starts them.
    let done = rustix::process::geteuid().is_root()
        && install(&["update", "-qq"])
        && install(&[&["install", "-y", "-qq", "--no-install-recommends"], &missing[..]].concat());
    if done { Ok(()) } else { Err(format!("needed, as root: apt-get install {}", missing.join(" "))) }
}
