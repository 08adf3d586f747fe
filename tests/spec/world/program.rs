//! The real program as a process of its own, and what it holds according to /proc.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use open_mcp_auth_proxy::clock::Clock;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

use super::RESOURCE;
use super::issuer::{Issuer, Token};

/// A running program between an issuer and an MCP server. It is ended when dropped.
pub struct Program {
    child: Child,
    addr: SocketAddr,
    files: [PathBuf; 2],
}

/// What a process holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Held {
    /// Resident memory, in KiB.
    pub rss: usize,
    /// Descriptors.
    pub fds: usize,
    pub threads: usize,
}

impl Program {
    /// Starts it with `more` lines of configuration, and with `descriptors` at most where that is given.
    pub fn start(issuer: &Issuer, server: SocketAddr, more: &str, descriptors: Option<u32>) -> Self {
        static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let file = |end: &str| {
            let name = format!("program-{}-{number}.{end}", std::process::id());
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
        };
        let files = [file("yaml"), file("log")];
        let text = format!(
            "listen_port: 0\nproxy_base_url: https://proxy.example\nbase_url: http://{server}\n\
             protected_resource_metadata:\n  resource_identifier: {RESOURCE}\n  audience: {RESOURCE}\n  \
             authorization_servers: [\"{}\"]\n  jwks_uri: {}\n{more}\n",
            issuer.url,
            issuer.jwks_uri()
        );
        fs::File::create(&files[0]).unwrap().write_all(text.as_bytes()).unwrap();
        let mut command = Command::new("sh");
        let limit = descriptors.map_or(String::new(), |most| format!("ulimit -n {most} && "));
        command.args(["-c", &format!("{limit}exec \"$0\" --config \"$1\"")]);
        command.args([env!("CARGO_BIN_EXE_openmcpauthproxy").as_ref(), files[0].as_os_str()]);
        let log = fs::File::create(&files[1]).unwrap();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let mut program = Self { child, addr: ([127, 0, 0, 1], 0).into(), files };
        let until = Instant::now() + Duration::from_secs(20);
        program.addr = loop {
            let log = program.log();
            let line = log.lines().find(|line| line.contains("listening"));
            if let Some(place) = line.and_then(|line| line.split("127.0.0.1:").nth(1)) {
                let port: String = place.chars().take_while(char::is_ascii_digit).collect();
                break ([127, 0, 0, 1], port.parse::<u16>().unwrap()).into();
            }
            assert!(Instant::now() < until, "it does not start: {log}");
            std::thread::sleep(Duration::from_millis(5));
        };
        program
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.files[1]).unwrap_or_default()
    }

    /// A good token for it, of this moment.
    pub fn token(issuer: &Issuer) -> Token {
        Token::new(&issuer.url, RESOURCE, Clock::system().now().0)
    }

    /// What it holds now.
    pub fn held(&self) -> Held {
        let proc = PathBuf::from(format!("/proc/{}", self.child.id()));
        let status = fs::read_to_string(proc.join("status")).expect("it lives");
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
        };
        Held {
            rss: field("VmRSS:"),
            fds: fs::read_dir(proc.join("fd")).unwrap().count(),
            threads: field("Threads:"),
        }
    }

    /// Waits until it holds no more descriptors and threads than `before`, for twenty seconds at most.
    pub fn settles_to(&self, before: Held) -> Held {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let now = self.held();
            if now.fds <= before.fds && now.threads <= before.threads || Instant::now() > until {
                return now;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends SIGTERM and waits for the end, for twenty seconds at most.
    pub fn terminate(&mut self) -> Option<ExitStatus> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let until = Instant::now() + Duration::from_secs(20);
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
        for file in &self.files {
            let _ = fs::remove_file(file);
        }
    }
}

/// Lets this process open as many descriptors as it may.
pub fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
}
