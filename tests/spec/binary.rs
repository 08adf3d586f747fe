//! The real program: help, exit codes, bad files, stopping, and a shortage of descriptors.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::world::raw::Raw;
use crate::world::request;
use crate::world::wait_until;

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

/// Starts `--local` on a free port, by way of a shell that limits the descriptors where that is wanted.
fn start_local(descriptors: Option<u32>) -> (Running, SocketAddr) {
    let mut command = Command::new("sh");
    let limit = descriptors.map_or(String::new(), |most| format!("ulimit -n {most} && "));
    command.args(["-c", &format!("{limit}exec \"$0\" --local --listen 127.0.0.1:0"), PROGRAM]);
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
        let began = Instant::now();
        let (mut running, addr) = start_local(None);
        normal_client(addr);
        assert!(began.elapsed() < Duration::from_secs(2), "it took {:?}", began.elapsed());
        running.signal(signal);
        let ended = running.ended_within(Duration::from_secs(5)).expect("it stops");
        assert_eq!(ended.code(), Some(0), "{signal:?}");
        assert!(TcpStream::connect(addr).is_err(), "the port is free again");
    }
}

/// A request that runs when SIGTERM comes is answered before the program ends.
#[test]
fn a_running_request_outlives_the_signal() {
    let (mut running, addr) = start_local(None);
    let host = addr.to_string();
    let mut raw = Raw::connect(addr);
    let head = format!("POST /nowhere HTTP/1.1\r\nHost: {host}\r\nContent-Length: 2\r\n");
    raw.send(&head);
    std::thread::sleep(Duration::from_millis(50));
    running.signal(Signal::TERM);
    std::thread::sleep(Duration::from_millis(100));
    raw.send("\r\n{}");
    assert_eq!(raw.answer().expect("an answer").status, 404);
    assert_eq!(running.ended_within(Duration::from_secs(12)).and_then(|status| status.code()), Some(0));
}

/// crates.md A.3: descriptors run out, connections are refused or wait, and the program goes on.
#[test]
fn a_shortage_of_descriptors_ends_nothing() {
    let (mut running, addr) = start_local(Some(64));
    for _ in 0..3 {
        let mut held = Vec::new();
        for _ in 0..120 {
            // Some of them never get further than the kernel's queue.
            let Ok(stream) = TcpStream::connect_timeout(&addr, Duration::from_millis(200)) else { break };
            stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            held.push(stream);
        }
        let served = held.iter().filter(|stream| {
            let mut stream: &TcpStream = stream;
            let asked = write!(stream, "GET /mcp HTTP/1.1\r\nHost: {addr}\r\n\r\n").is_ok();
            let mut byte = [0; 1];
            asked && matches!(stream.read(&mut byte), Ok(1))
        });
        assert!(served.count() >= 8, "nobody was served while descriptors were short");
        assert!(running.0.try_wait().unwrap().is_none(), "the program ended");
        drop(held);
        wait_until("a normal client is served again", || {
            let answer =
                Raw::connect(addr).send(request("GET", "/mcp", &[("Host", &addr.to_string())], "")).answer();
            answer.is_some_and(|answer| answer.status == 401)
        });
    }
    let open = std::fs::read_dir(format!("/proc/{}/fd", running.0.id())).unwrap().count();
    assert!(open < 50, "{open} descriptors are left");
    normal_client(addr);
    running.signal(Signal::TERM);
    assert_eq!(running.ended_within(Duration::from_secs(12)).and_then(|status| status.code()), Some(0));
}
