//! MCP servers that are programs: ours beside npm's supergateway and mcp-proxy, which check no token, in both eras.
//!
//! The server is [`super::echo`], 16 clients call it, and CPU is that of the bridge's own process alone. The packages are
//! pinned by `benches/bridges/package-lock.json` and fetched into `target/bridges`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::calls::{self, Client, Era};
use super::fleet::{Kind, Running, Yard, free_port};
use super::process::{family, own_cpu_ms, own_rss_kib};

/// Clients, and so sessions in the era that has such.
pub const CLIENTS: usize = 16;
/// Longest time that npm may take.
const FETCH_TIME_MAX: Duration = Duration::from_secs(180);

/// Who is measured, as what.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Target {
    pub kind: Kind,
    pub era: Era,
}

/// What one run showed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    pub per_second: f64,
    /// Of the bridge alone, in microseconds per call, which is milliseconds per 1,000.
    pub cpu_us: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    /// Resident memory of the bridge alone, in MiB: with one client, and with all of them after their calls.
    pub one_mib: f64,
    pub all_mib: f64,
    /// Processes below it, at the end.
    pub children: f64,
}

/// The packages, or why there are none.
pub struct Packages(Result<PathBuf, String>);

impl Packages {
    /// None of them, for a short run.
    pub fn none() -> Self {
        Self(Err("a run without --smoke measures them too".into()))
    }

    /// Finds what was fetched from this very lock file, or fetches it.
    pub fn get() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let (from, to) = (root.join("benches/bridges"), root.join("target/bridges"));
        let wanted = fs::read_to_string(from.join("package-lock.json")).expect("the lock file is there");
        let stamp = to.join("stamp");
        if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
            return Self(Ok(to));
        }
        let fetched = fs::create_dir_all(&to)
            .and_then(|()| {
                let files = ["package.json", "package-lock.json", ".npmrc", "loopback.cjs"];
                files.iter().try_for_each(|name| fs::copy(from.join(name), to.join(name)).map(drop))
            })
            .and_then(|()| File::create(to.join("npm.log")))
            .map_err(|err| format!("{}: {err}", to.display()))
            .and_then(|log| npm(&to, log));
        let stamped = fetched.and_then(|()| fs::write(stamp, wanted).map_err(|err| err.to_string()));
        Self(stamped.map(|()| to))
    }

    /// Why there are none.
    pub fn missing(&self) -> Option<&str> {
        self.0.as_ref().err().map(String::as_str)
    }

    /// Who can be measured and whose name has this text.
    pub fn targets(&self, beside: bool, matching: &str) -> Vec<Target> {
        let mut kinds = vec![Kind::Ours];
        kinds.extend(beside.then_some(Kind::Beside));
        if self.0.is_ok() {
            kinds.extend([Kind::Supergateway, Kind::McpProxy]);
        }
        kinds.retain(|kind| kind.name().contains(matching));
        let eras = [Era::Legacy, Era::Modern];
        eras.into_iter().flat_map(|era| kinds.iter().map(move |kind| Target { kind: *kind, era })).collect()
    }
}

fn npm(folder: &Path, log: File) -> Result<(), String> {
    println!("fetching supergateway and mcp-proxy into {}", folder.display());
    let mut command = Command::new("npm");
    command.args(["ci", "--no-progress", "--ignore-scripts", "--loglevel=error"]).current_dir(folder);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let mut child = command.spawn().map_err(|err| format!("npm: {err}"))?;
    let until = Instant::now() + FETCH_TIME_MAX;
    while Instant::now() < until {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => {
                return Err(format!("npm ends with {status}; see {}/npm.log", folder.display()));
            }
            Ok(None) => thread::sleep(Duration::from_millis(50)),
            Err(err) => return Err(format!("npm: {err}")),
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    Err(format!("npm took longer than {} s", FETCH_TIME_MAX.as_secs()))
}

/// Starts a bridge, lets the clients call for so many seconds, and ends it.
///
/// # Errors
/// What went wrong with it.
pub fn run(
    yard: &Yard,
    packages: &Packages,
    target: Target,
    token: &str,
    seconds: u32,
) -> Result<Figures, String> {
    let running = start(yard, packages, target)?;
    let pid = running.pid().unwrap_or_else(std::process::id);
    let mut clients = vec![first(&running, token, target.era)?];
    for client in &mut clients {
        client.call()?;
    }
    thread::sleep(Duration::from_millis(300));
    let one_mib = own_rss_kib(pid) / 1024.0;
    for number in 1..CLIENTS {
        clients.push(Client::open(running.port, token, target.era, number)?);
    }
    let cpu = own_cpu_ms(pid);
    let calls = calls::run(&mut clients, Duration::from_secs(u64::from(seconds)))?;
    let cpu = own_cpu_ms(pid) - cpu;
    let count = calls.count as f64;
    let figures = Figures {
        per_second: count / calls.seconds,
        cpu_us: cpu * 1000.0 / count,
        p50_us: calls.quantile_us(0.5),
        p99_us: calls.quantile_us(0.99),
        one_mib,
        all_mib: own_rss_kib(pid) / 1024.0,
        children: family(pid).len() as f64 - 1.0,
    };
    drop(clients);
    running.empty_log();
    Ok(figures)
}

/// The first client. A bridge may listen before its server is ready.
fn first(running: &Running, token: &str, era: Era) -> Result<Client, String> {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let opened = Client::open(running.port, token, era, 0);
        if opened.is_ok() || Instant::now() > until {
            return opened;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn start(yard: &Yard, packages: &Packages, target: Target) -> Result<Running, String> {
    let server = std::env::current_exe().map_err(|err| err.to_string())?;
    let server = format!("{} {}", server.display(), super::echo::AS_SERVER);
    let port = free_port();
    let mut command;
    if let Some(program) = yard.program(target.kind) {
        let text = yard.filled(include_str!("../stdio.yaml"), port).replace("@SERVER@", &server);
        let config = yard.dir.join("stdio.yaml");
        fs::write(&config, text + &yard.more).map_err(|err| err.to_string())?;
        command = Command::new(program);
        command.arg("--stdio").arg("--config").arg(config);
    } else {
        let folder = packages.0.as_ref().map_err(Clone::clone)?;
        let modules = folder.join("node_modules");
        command = Command::new("node");
        command.arg("--require").arg(folder.join("loopback.cjs"));
        if target.kind == Kind::Supergateway {
            command.arg(modules.join("supergateway/dist/index.js"));
            command.args(["--outputTransport", "streamableHttp", "--stateful", "--logLevel", "none"]);
            command.args(["--port", &port.to_string(), "--stdio", &server]);
        } else {
            command.arg(modules.join("mcp-proxy/dist/bin/mcp-proxy.mjs"));
            command.args(["--host", "127.0.0.1", "--server", "stream", "--port", &port.to_string()]);
            command.args(["--upstreamProtocol", if target.era == Era::Modern { "modern" } else { "legacy" }]);
            command.arg("--").args(server.split(' '));
        }
        command.env("NODE_ENV", "production");
    }
    Ok(yard.launch(target.kind, port, command, "stdio.log").0)
}
