//! Clients of an MCP server over Streamable HTTP, each with a session and a connection of its own, that call a tool as
//! fast as it answers: how many, how late, and every answer is looked at.
//!
//! One thread and epoll, as wrk has it, which knows no sessions.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use serde_json::json;

/// Longest wait for one answer; where it is over, the bridge does not serve.
const PATIENCE: Duration = Duration::from_secs(20);
const VERSION: &str = "io.modelcontextprotocol/protocolVersion";

/// What a client speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Era {
    /// 2025-11-25: `initialize`, and a session.
    Legacy,
    /// 2026-07-28: each request stands for itself.
    Modern,
}

impl Era {
    fn version(self) -> &'static str {
        match self {
            Self::Legacy => "2025-11-25",
            Self::Modern => "2026-07-28",
        }
    }
}

/// What a run showed.
#[derive(Clone, Debug, Default)]
pub struct Calls {
    pub count: usize,
    pub seconds: f64,
    micros: Vec<u32>,
}

impl Calls {
    pub fn quantile_us(&self, part: f64) -> f64 {
        let last = self.micros.len().saturating_sub(1);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let at = (last as f64 * part) as usize;
        self.micros.get(at).copied().map_or(f64::NAN, f64::from)
    }
}

/// One client.
pub struct Client {
    era: Era,
    number: usize,
    stream: TcpStream,
    head: String,
    /// What has been read of an answer.
    answer: Vec<u8>,
    calls: usize,
    asked: Instant,
}

impl Client {
    /// Connects, and opens a session where the era has such.
    pub fn open(port: u16, token: &str, era: Era, number: usize) -> Result<Self, String> {
        let stream = TcpStream::connect(("127.0.0.1", port)).map_err(|err| err.to_string())?;
        let patient =
            stream.set_read_timeout(Some(PATIENCE)).and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
        patient.and_then(|()| stream.set_nodelay(true)).map_err(|err| err.to_string())?;
        let head = format!(
            "POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n\
             Accept: application/json, text/event-stream\r\nContent-Type: application/json\r\n"
        );
        let now = Instant::now();
        let mut client = Self { era, number, stream, head, answer: Vec::new(), calls: 0, asked: now };
        if era == Era::Legacy {
            let initialize = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
                "protocolVersion": era.version(), "capabilities": {},
                "clientInfo": {"name": "rig", "version": "1"}}});
            client.send(&initialize.to_string())?;
            let answer = client.whole()?;
            let session = header(&answer, "mcp-session-id").ok_or_else(|| format!("no session: {answer}"))?;
            client.head.push_str(&format!("Mcp-Session-Id: {session}\r\n"));
            client.head.push_str(&format!("MCP-Protocol-Version: {}\r\n", era.version()));
            client.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)?;
            let answer = client.whole()?;
            if !answer.starts_with("HTTP/1.1 202") {
                return Err(format!("notifications/initialized: {answer}"));
            }
        } else {
            client.head.push_str(&format!("MCP-Protocol-Version: {}\r\n", era.version()));
            client.head.push_str("Mcp-Method: tools/call\r\nMcp-Name: echo\r\n");
        }
        Ok(client)
    }

    /// One call whose answer is waited for.
    pub fn call(&mut self) -> Result<(), String> {
        self.ask()?;
        let answer = self.whole()?;
        self.judge(answer.as_bytes())
    }

    fn text(&self) -> String {
        format!("hello {} from {}", self.calls, self.number)
    }

    fn ask(&mut self) -> Result<(), String> {
        self.calls += 1;
        let mut params = json!({"name": "echo", "arguments": {"text": self.text()}});
        if self.era == Era::Modern {
            params["_meta"] = json!({VERSION: self.era.version(),
                "io.modelcontextprotocol/clientInfo": {"name": "rig", "version": "1"},
                "io.modelcontextprotocol/clientCapabilities": {}});
        }
        let call = json!({"jsonrpc": "2.0", "id": self.calls, "method": "tools/call", "params": params});
        self.asked = Instant::now();
        self.send(&call.to_string())
    }

    fn send(&mut self, body: &str) -> Result<(), String> {
        let message = format!("{}Content-Length: {}\r\n\r\n{body}", self.head, body.len());
        self.stream.write_all(message.as_bytes()).map_err(|err| format!("a request is not taken: {err}"))
    }

    /// Reads to the end of an answer.
    fn whole(&mut self) -> Result<String, String> {
        self.answer.clear();
        while !is_whole(&self.answer) {
            if !self.read()? {
                return Err("no answer in time".into());
            }
        }
        Ok(String::from_utf8_lossy(&self.answer).into_owned())
    }

    /// Reads what there is; `false` where that is nothing.
    fn read(&mut self) -> Result<bool, String> {
        let mut piece = [0; 16 * 1024];
        match self.stream.read(&mut piece) {
            Ok(0) => Err(format!("closed after {:?}", String::from_utf8_lossy(&self.answer))),
            Ok(read) => {
                self.answer.extend_from_slice(&piece[..read]);
                Ok(true)
            }
            Err(err) if err.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(err) => Err(err.to_string()),
        }
    }

    /// Whether it is the answer to this client's last call and no other.
    fn judge(&self, answer: &[u8]) -> Result<(), String> {
        let text = format!("\"{}\"", self.text());
        let good =
            answer.starts_with(b"HTTP/1.1 200") && memchr::memmem::find(answer, text.as_bytes()).is_some();
        if good { Ok(()) } else { Err(format!("not {text}: {}", String::from_utf8_lossy(answer))) }
    }

    fn has(&self, epoll: &OwnedFd, index: usize) -> Result<(), String> {
        let added = epoll::add(epoll, &self.stream, EventData::new_u64(index as u64), EventFlags::IN);
        added.map_err(|err| err.to_string())
    }
}

/// Lets all call for so long.
pub fn run(clients: &mut [Client], time: Duration) -> Result<Calls, String> {
    let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(|err| err.to_string())?;
    for (index, client) in clients.iter_mut().enumerate() {
        client.stream.set_nonblocking(true).map_err(|err| err.to_string())?;
        client.has(&epoll, index)?;
    }
    let began = Instant::now();
    for client in clients.iter_mut() {
        client.answer.clear();
        client.ask()?;
    }
    let (mut calls, mut open, mut heard) = (Calls::default(), clients.len(), began);
    let mut events = Vec::with_capacity(64);
    while open > 0 {
        events.clear();
        let timeout = Timespec { tv_sec: 1, tv_nsec: 0 };
        if epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), Some(&timeout)).is_err() {
            continue;
        }
        let now = Instant::now();
        if !events.is_empty() {
            heard = now;
        } else if now > heard + PATIENCE {
            return Err(format!("{open} of {} clients wait in vain", clients.len()));
        }
        for event in &events {
            let index = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
            let Some(client) = clients.get_mut(index) else { continue };
            client.read()?;
            if !is_whole(&client.answer) {
                continue;
            }
            client.judge(&client.answer)?;
            calls.count += 1;
            calls.micros.push(u32::try_from(client.asked.elapsed().as_micros()).unwrap_or(u32::MAX));
            client.answer.clear();
            if now < began + time {
                client.ask()?;
            } else {
                open -= 1;
            }
        }
    }
    calls.seconds = began.elapsed().as_secs_f64();
    calls.micros.sort_unstable();
    for client in clients {
        let _ = client.stream.set_nonblocking(false);
    }
    Ok(calls)
}

/// Whether an answer is there to its last byte: by its length, or by its last chunk.
fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = memchr::memmem::find(answer, b"\r\n\r\n") else { return false };
    let (head, body) = answer.split_at(end + 4);
    let head = String::from_utf8_lossy(head);
    if let Some(length) = header(&head, "content-length").and_then(|length| length.parse::<usize>().ok()) {
        return body.len() >= length;
    }
    let chunked = header(&head, "transfer-encoding").is_some_and(|coding| coding == "chunked");
    !chunked || body.ends_with(b"0\r\n\r\n") && (body.len() == 5 || body.ends_with(b"\r\n0\r\n\r\n"))
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().take_while(|line| !line.is_empty()).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}
