//! The real program: help, exit codes, bad files, stopping, and a shortage of descriptors.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::world::issuer::Issuer;
use crate::world::program::Program;
use crate::world::raw::Raw;
use crate::world::server::McpServer;
use crate::world::{at_best, request, wait_until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_openmcpauthproxy");

fn run(args: &[&str]) -> Output {
    Command::new(PROGRAM).args(args).stdin(Stdio::null()).output().unwrap()
}

/// A configuration of its own in a file that goes away with the test.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let path =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}.yaml", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A program that is ended with the test.
struct Running(Child);

impl Running {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    fn ended_within(&mut self, time: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            if let Some(status) = self.0.try_wait().unwrap() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts `--local` on a free port.
fn start_local() -> (Running, SocketAddr) {
    let mut command = Command::new(PROGRAM);
    command.args(["--local", "--listen", "127.0.0.1:0"]);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let running = Running(child);
    let line =
        out.lines().map_while(Result::ok).find(|line| line.contains("MCP endpoint")).expect("it starts");
    let addr = line.split("http://").nth(1).unwrap().split('/').next().unwrap().parse().unwrap();
    (running, addr)
}

fn normal_client(addr: SocketAddr) {
    let asked = Instant::now();
    let host = addr.to_string();
    let answer = Raw::connect(addr).send(request("GET", "/mcp", &[("Host", &host)], "")).answer().unwrap();
    assert_eq!(answer.status, 401);
    assert!(asked.elapsed() < Duration::from_secs(5), "a normal client waited {:?}", asked.elapsed());
}

#[test]
fn what_was_asked_for_goes_to_standard_output() {
    for (args, begins) in [
        (["--help"], "Puts OAuth 2.1 authorization in front of an MCP server"),
        (["-h"], "Puts OAuth 2.1"),
        (["--version"], concat!("openmcpauthproxy ", env!("CARGO_PKG_VERSION"), "\n")),
        (["-V"], "openmcpauthproxy "),
    ] {
        let output = run(&args);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.starts_with(begins), "{args:?}: {text}");
        assert!(output.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn what_is_wrong_is_told_on_standard_error() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let good = "base_url: http://127.0.0.1:1\nprotected_resource_metadata:\n  resource_identifier: http://localhost/mcp\n  authorization_servers: [\"https://id.example\"]\n  jwks_uri: https://id.example/jwks\n";
    let busy = File::new("busy", &format!("listen_port: {port}\nproxy_base_url: http://localhost\n{good}"));
    let bad = File::new("bad", "listen_prot: 8080\n");
    let not_yaml = File::new("not-yaml", "a: [\n");
    let stdio = File::new(
        "stdio",
        &format!("transport_mode: stdio\nstdio: {{ enabled: true, user_command: no-such-program }}\n{good}"),
    );
    let address = format!("127.0.0.1:{port}");
    for (args, code, says) in [
        (vec!["--nonsense"], 2, "--nonsense"),
        (vec!["--config"], 2, "--config needs a value"),
        (vec!["--config", "/nowhere/config.yaml"], 2, "/nowhere/config.yaml"),
        (vec!["--config", "/"], 2, "/"),
        (vec!["--config", bad.path()], 2, "listen_port"),
        (vec!["--check", "--config", bad.path()], 2, "listen_port"),
        (vec!["--config", not_yaml.path()], 2, "line "),
        (vec!["--stdio", "--config", stdio.path()], 1, "no-such-program\" in PATH, which is /"),
        (vec!["--config", stdio.path()], 1, "no-such-program\" in PATH, which is /"),
        (vec!["--demo", "--asgardeo"], 2, "--demo and --asgardeo exclude each other"),
        (vec!["--config", busy.path()], 1, "cannot listen"),
        (vec!["--local", "--listen", "0.0.0.0:0"], 2, "does not listen on 0.0.0.0"),
        (vec!["--local", "--listen", &address], 1, "cannot listen"),
    ] {
        let output = run(&args);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        assert!(text.starts_with("error: ") || text.contains("\nerror: "), "{args:?}: {text}");
        assert!(text.contains(says) && !text.contains("panicked"), "{args:?}: {text}");
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}

/// The first command of the README: up within two seconds.
#[test]
fn the_demonstration_is_up_at_once_and_stops_when_told() {
    for signal in [Signal::TERM, Signal::INT] {
        at_best("the start", Duration::from_secs(2), || {
            let began = Instant::now();
            let (mut running, addr) = start_local();
            normal_client(addr);
            let took = began.elapsed();
            running.signal(signal);
            let ended = running.ended_within(Duration::from_secs(5)).expect("it stops");
            assert_eq!(ended.code(), Some(0), "{signal:?}");
            assert!(TcpStream::connect(addr).is_err(), "the port is free again");
            took
        });
    }
}

/// A request that runs when SIGTERM comes is answered before the program ends.
#[test]
fn a_running_request_outlives_the_signal() {
    let (mut running, addr) = start_local();
    let host = addr.to_string();
    let mut raw = Raw::connect(addr);
    // The answer to a request before it says that the beginning of the next one has been read.
    let whole = request("GET", "/nowhere", &[("Host", &host)], "");
    raw.send(format!("{whole}POST /nowhere HTTP/1.1\r\nHost: {host}\r\nContent-Length: 2\r\n"));
    assert_eq!(raw.answer().expect("an answer").status, 404);
    running.signal(Signal::TERM);
    wait_until("it takes no new connections", || TcpStream::connect(addr).is_err());
    raw.send("\r\n{}");
    assert_eq!(raw.answer().expect("an answer").status, 404);
    assert_eq!(running.ended_within(Duration::from_secs(12)).and_then(|status| status.code()), Some(0));
}

/// crates.md A.3: descriptors run out, connections are refused or wait, and the program goes on. By itself it takes no
/// more connections than it has descriptors for; where it is told to take more, they do run out.
#[test]
fn a_shortage_of_descriptors_ends_nothing() {
    for (more, runs_out) in [("", false), ("limits: { connections: 500 }", true)] {
        let (issuer, server) = (Issuer::start(), McpServer::start());
        let mut program = Program::start(&issuer, server.addr, more, Some(100));
        let addr = program.addr();
        wait_until("the keys are there", || program.log().contains("keys loaded"));
        normal_client(addr);
        let before = program.held();
        let shortages = || program.log().matches("out of descriptors").count();
        let ask = request("GET", "/mcp", &[], "");
        for round in 0..3 {
            let earlier = shortages();
            let mut held: Vec<(TcpStream, Vec<u8>)> = (0..120)
                .map(|_| {
                    let stream = TcpStream::connect(addr).unwrap();
                    // Whoever has been turned away already finds nobody to write to.
                    let _ = (&stream).write_all(ask.as_bytes());
                    stream.set_nonblocking(true).unwrap();
                    (stream, Vec::new())
                })
                .collect();
            wait_until("some are served while there are too many", || {
                for (stream, heard) in &mut held {
                    let _ = stream.read_to_end(heard); // what is there; most of them wait for more
                }
                let served = held.iter().filter(|(_, heard)| heard.starts_with(b"HTTP/1.1 401 ")).count();
                served >= 8 && (shortages() > earlier) == runs_out
            });
            for (_, heard) in &held {
                let turned_away = heard.is_empty() || heard.starts_with(b"HTTP/1.1 503 ");
                assert!(
                    turned_away || heard.starts_with(b"HTTP/1.1 401 "),
                    "round {round}: {}",
                    String::from_utf8_lossy(heard)
                );
            }
            drop(held);
            wait_until("a normal client is served again", || {
                Raw::connect(addr).send(&ask).answer().is_some_and(|answer| answer.status == 401)
            });
            let after = program.settles_to(before);
            assert!(
                after.fds <= before.fds && after.threads <= before.threads,
                "round {round}: {before:?} became {after:?}"
            );
        }
        assert_eq!(program.terminate().and_then(|status| status.code()), Some(0));
    }
}
