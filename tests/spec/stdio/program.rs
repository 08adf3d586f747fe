//! The real program in front of the scripted child, with a configuration in a file; and how much memory it takes.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio as Pipe};
use std::time::{Duration, Instant};

use open_mcp_auth_proxy::clock::Clock;
use serde_json::{Value, json};

use super::{call, deed, initialize, messages, scripted_child, text};
use crate::world::issuer::{Issuer, Token};
use crate::world::raw::{Raw, RawAnswer};
use crate::world::request;

/// A running program; ended with the test.
pub struct Program {
    pub process: Child,
    addr: SocketAddr,
    file: PathBuf,
    issuer: Issuer,
}

/// A session at it.
pub struct Session<'p> {
    program: &'p Program,
    bearer: String,
    name: String,
}

impl Program {
    pub fn start(name: &str, command: &str) -> Self {
        Self::with(name, command, "shell: false")
    }

    /// With further keys of the section `stdio`.
    pub fn with(name: &str, command: &str, more: &str) -> Self {
        let issuer = Issuer::start();
        let file =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}.yaml", std::process::id()));
        let text = format!(
            "listen_port: 0\nproxy_base_url: http://127.0.0.1:1\nallowed_hosts: [proxy.example]\n\
             stdio:\n  user_command: '{command}'\n  env: [\"SECRET_VALUE=not to be shown\"]\n  {more}\n\
             protected_resource_metadata:\n  resource_identifier: http://127.0.0.1:1/mcp\n  audience: us\n  \
             authorization_servers: [\"{}\"]\n  jwks_uri: {}\n",
            issuer.url,
            issuer.jwks_uri()
        );
        std::fs::write(&file, text).unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_openmcpauthproxy"))
            .args(["--stdio", "--config", file.to_str().unwrap()])
            .stdin(Pipe::null())
            .stdout(Pipe::null())
            .stderr(Pipe::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut log = String::new();
        let addr = loop {
            let line = lines.next().unwrap_or_else(|| panic!("it ended: {log}")).unwrap();
            log.push_str(&line);
            if let Some(rest) = line.split("listening address=").nth(1) {
                break rest.split(' ').next().unwrap().parse().unwrap();
            }
        };
        assert!(!log.contains("not to be shown"));
        // Its log goes on, and must be read.
        std::thread::Builder::new().spawn(move || lines.for_each(drop)).unwrap();
        Self { process, addr, file, issuer }
    }

    pub fn open(&self) -> Session<'_> {
        let token = Token::new(&self.issuer.url, "us", Clock::system().now().0).compact();
        let mut session = Session { program: self, bearer: format!("Bearer {token}"), name: String::new() };
        let begun = session.post(&initialize("2025-11-25"));
        let name = begun.header("mcp-session-id").unwrap_or_else(|| panic!("{}", begun.text()));
        session.name = name.to_owned();
        session
    }

    /// Its threads and its open descriptors. Connections that clients have just left are closed in a moment.
    pub fn held(&self) -> (usize, usize) {
        let count = |what| std::fs::read_dir(format!("/proc/{}/{what}", self.process.id())).unwrap().count();
        (count("task"), count("fd"))
    }

    /// How many processes it has started that are still there.
    pub fn children(&self) -> usize {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.process.id())).unwrap();
        let of = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("children")).ok();
        tasks.filter_map(|task| of(task.ok()?)).map(|pids| pids.split_whitespace().count()).sum()
    }

    /// Memory that it takes now, in KiB.
    fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_file(&self.file);
    }
}

impl Session<'_> {
    /// A POST whose answer is not waited for.
    fn begin(&self, body: &str) -> Raw {
        let mut headers = vec![("Authorization", self.bearer.as_str())];
        if !self.name.is_empty() {
            headers.push(("Mcp-Session-Id", &self.name));
        }
        let mut raw = Raw::connect(self.program.addr);
        raw.send(request("POST", "/mcp", &headers, body));
        raw
    }

    fn post(&self, body: &str) -> RawAnswer {
        self.begin(body).answer().unwrap()
    }

    /// The number of the process that serves it.
    pub fn pid(&self) -> u64 {
        let answer = self.post(&call(1, "whoami", json!({})));
        let who: Value = serde_json::from_str(&text(messages(&answer).last().unwrap())).unwrap();
        who["pid"].as_u64().unwrap()
    }
}

/// Children that flood, write garbage, read nothing, or answer nothing: the proxy's memory stays within 10 MiB of what
/// it takes otherwise, and other sessions are served all along.
#[test]
fn misdeeds_cost_no_memory() {
    let program = Program::start("bounds", &format!("{} --era legacy", scripted_child().display()));
    let well = program.open();
    for n in 0..50 {
        well.post(&call(n, "echo", json!({"message": "warm"})));
    }
    let before = program.memory();
    let mut held = Vec::new();
    let misdeeds = [
        "stderr:0",
        "stdout:0",
        "garbage:100000000",
        "stderr-line:100000000000",
        "deaf",
        "hang",
        "long:3000000",
    ];
    let bad: Vec<_> = misdeeds.iter().map(|_| program.open()).collect();
    for (session, misdeed) in bad.iter().zip(misdeeds) {
        held.push(session.begin(&deed(1, misdeed)));
        if misdeed == "deaf" {
            // More than what a pipe and the bound hold; nobody reads it.
            let large = call(2, "echo", json!({"message": "x".repeat(400_000)}));
            held.extend((0..5).map(|_| session.begin(&large)));
        }
    }
    let (mut most, mut rounds) = (0, 0);
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until || rounds < 20 {
        let answer = well.post(&call(rounds, "echo", json!({"message": rounds.to_string()})));
        assert_eq!(text(messages(&answer).last().unwrap()), rounds.to_string());
        most = most.max(program.memory());
        rounds += 1;
    }
    assert!(most < before + 10 * 1024, "{before} KiB before, {most} KiB meanwhile");
    println!("{before} KiB before, at most {most} KiB meanwhile, {rounds} calls of another session");
}
