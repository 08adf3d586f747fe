//! What is measured: ours, HAProxy, nginx, and the way without anybody between.
//!
//! Each one is a process of its own on loopback, with its configuration from this directory, and ends with the value
//! that holds it, or with this program when that is told to stop.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::tokens::AUDIENCE;

/// Who stands between the client and the server.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    Ours,
    /// Another build of ours, to compare with.
    Beside,
    Haproxy,
    Nginx,
    Direct,
    /// Bridges to programs; see `bridges.rs`.
    Supergateway,
    McpProxy,
}

impl Kind {
    /// Those that relay to a server on the network.
    const RELAYS: [Self; 5] = [Self::Ours, Self::Beside, Self::Haproxy, Self::Nginx, Self::Direct];

    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Beside => "ours, --beside",
            Self::Haproxy => "HAProxy",
            Self::Nginx => "nginx, no auth",
            Self::Direct => "direct",
            Self::Supergateway => "supergateway",
            Self::McpProxy => "mcp-proxy",
        }
    }

    /// Whether it looks at tokens.
    pub fn checks(self) -> bool {
        matches!(self, Self::Ours | Self::Beside | Self::Haproxy)
    }
}

/// Where everything is that a process needs.
pub struct Yard {
    pub dir: PathBuf,
    pub ours: PathBuf,
    pub beside: Option<PathBuf>,
    /// Lines for the end of ours.yaml.
    pub more: String,
    pub upstream: SocketAddr,
    pub issuer: String,
}

/// The processes that run now, for [`end_on_signal`].
static ALIVE: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// Ends what runs, removes `dir` and leaves, when this program is interrupted.
pub fn end_on_signal(dir: PathBuf) {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM]).expect("signals are noticed");
    let waiting = std::thread::Builder::new().name("signals".into()).spawn(move || {
        let _ = signals.forever().next();
        for pid in ALIVE.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            terminate(*pid);
        }
        let _ = fs::remove_dir_all(dir);
        std::process::exit(130);
    });
    let _thread = waiting.expect("a thread");
}

fn terminate(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, Signal::TERM);
    }
}

/// One that runs.
pub struct Running {
    pub kind: Kind,
    pub port: u16,
    child: Option<Child>,
    log: Option<File>,
}

impl Yard {
    /// Those that are measured.
    pub fn kinds(&self) -> Vec<Kind> {
        let built = |kind: &Kind| *kind != Kind::Beside || self.beside.is_some();
        Kind::RELAYS.into_iter().filter(built).collect()
    }

    /// The program of a kind; nothing for the direct way.
    pub fn program(&self, kind: Kind) -> Option<PathBuf> {
        match kind {
            Kind::Ours => Some(self.ours.clone()),
            Kind::Beside => self.beside.clone(),
            Kind::Haproxy => Some("/usr/sbin/haproxy".into()),
            Kind::Nginx => Some("/usr/sbin/nginx".into()),
            Kind::Direct | Kind::Supergateway | Kind::McpProxy => None,
        }
    }

    /// Starts one and waits for its first answer, which took the time that is told with it.
    pub fn start(&self, kind: Kind) -> (Running, Duration) {
        let Some(program) = self.program(kind) else {
            return (Running { kind, port: self.upstream.port(), child: None, log: None }, Duration::ZERO);
        };
        let port = free_port();
        let (name, template) = match kind {
            Kind::Ours => ("ours.yaml", include_str!("../ours.yaml")),
            Kind::Beside => ("beside.yaml", include_str!("../ours.yaml")),
            Kind::Haproxy => ("haproxy.cfg", include_str!("../haproxy.cfg")),
            _ => ("nginx.conf", include_str!("../nginx.conf")),
        };
        let config = self.dir.join(name);
        let mut text = self.filled(template, port);
        if kind == Kind::Ours {
            text.push_str(&self.more);
        }
        fs::write(&config, text).expect("the directory can be written");
        let mut command = Command::new(&program);
        match kind {
            Kind::Ours | Kind::Beside => command.arg("--config").arg(&config),
            Kind::Haproxy => command.arg("-db").arg("-f").arg(&config),
            _ => command.arg("-p").arg(&self.dir).arg("-c").arg(&config),
        };
        self.launch(kind, port, command, &format!("{name}.log"))
    }

    /// Starts `command` and waits for its first answer on `port`. What it says goes to the log of this name.
    pub fn launch(&self, kind: Kind, port: u16, mut command: Command, log_name: &str) -> (Running, Duration) {
        let log_path = self.dir.join(log_name);
        let log = OpenOptions::new().create(true).append(true).open(&log_path).expect("a log file");
        // What a shell happens to export is not what a service has, and a file of roots is half a megabyte.
        command
            .env_remove("SSL_CERT_FILE")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor"));
        command.stderr(log.try_clone().expect("a descriptor"));
        let began = Instant::now();
        let child = command.spawn().unwrap_or_else(|err| panic!("{}: {err}", kind.name()));
        ALIVE.lock().unwrap_or_else(PoisonError::into_inner).push(child.id());
        let mut running = Running { kind, port, child: Some(child), log: Some(log) };
        while !answers(port) {
            let ended = running.child.as_mut().and_then(|child| child.try_wait().ok()).flatten();
            assert!(ended.is_none(), "{} ended:\n{}", kind.name(), tail(&log_path));
            assert!(began.elapsed() < Duration::from_secs(20), "{}: no answer", kind.name());
            std::thread::sleep(Duration::from_micros(200));
        }
        (running, began.elapsed())
    }

    pub fn filled(&self, template: &str, port: u16) -> String {
        template
            .replace("@LISTEN@", &port.to_string())
            .replace("@UPSTREAM@", &self.upstream.port().to_string())
            .replace("@ISSUER@", &self.issuer)
            .replace("@AUDIENCE@", AUDIENCE)
            .replace("@KEY@", &self.dir.join("key.pem").to_string_lossy())
            .replace("@DIR@", &self.dir.to_string_lossy())
    }
}

impl Running {
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Empties its log, so that a long run does not fill the disk.
    pub fn empty_log(&self) {
        if let Some(log) = &self.log {
            let _ = log.set_len(0);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(child) = &mut self.child else { return };
        terminate(child.id());
        ALIVE.lock().unwrap_or_else(PoisonError::into_inner).retain(|pid| *pid != child.id());
        let until = Instant::now() + Duration::from_secs(15);
        while Instant::now() < until {
            if let Ok(Some(_)) = child.try_wait() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// A port that nobody has at this moment.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

/// Whether a request without credentials gets any answer.
fn answers(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let request = format!("DELETE /mcp HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
    let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
    let mut byte = [0_u8; 8];
    stream.write_all(request.as_bytes()).is_ok() && stream.read(&mut byte).is_ok_and(|read| read == 8)
}

fn tail(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.chars().rev().take(2000).collect::<Vec<_>>().into_iter().rev().collect()
}
