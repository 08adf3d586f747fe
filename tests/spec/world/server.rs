//! An MCP server that keeps every request it gets, byte for byte, and answers as the test wants.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Call {
    pub head: String,
    pub body: Vec<u8>,
}

impl Call {
    pub fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    pub fn method(&self) -> &str {
        self.line().split(' ').next().unwrap_or_default()
    }

    pub fn target(&self) -> &str {
        self.line().split(' ').nth(1).unwrap_or_default()
    }

    /// The only value of a header; panics when it is there twice.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        let mut values = found.by_ref().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim());
        let value = values.next();
        assert!(values.next().is_none(), "{name} is there twice in {}", self.head);
        value
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Answers one request on its connection; `false` ends the connection.
pub type Script = Arc<dyn Fn(&Call, &mut TcpStream) -> bool + Send + Sync>;

/// A running MCP server.
pub struct McpServer {
    pub addr: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    calls: Mutex<Vec<Call>>,
    script: Mutex<Script>,
    connections: AtomicUsize,
    accepted: AtomicUsize,
    stopped: AtomicBool,
}

impl McpServer {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            calls: Mutex::default(),
            script: Mutex::new(Arc::new(usual)),
            connections: AtomicUsize::new(0),
            accepted: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
        });
        let serving = Arc::clone(&shared);
        thread::Builder::new()
            .spawn(move || {
                for stream in listener.incoming() {
                    if serving.stopped.load(Ordering::SeqCst) {
                        return;
                    }
                    let (serving, stream) = (Arc::clone(&serving), stream.unwrap());
                    serving.connections.fetch_add(1, Ordering::SeqCst);
                    serving.accepted.fetch_add(1, Ordering::SeqCst);
                    thread::Builder::new()
                        .stack_size(256 * 1024)
                        .spawn(move || {
                            serving.serve(stream);
                            serving.connections.fetch_sub(1, Ordering::SeqCst);
                        })
                        .unwrap();
                }
            })
            .unwrap();
        Self { addr, shared }
    }

    /// What it does with requests from now on.
    pub fn script(&self, script: impl Fn(&Call, &mut TcpStream) -> bool + Send + Sync + 'static) {
        *self.shared.script.lock().unwrap() = Arc::new(script);
    }

    /// Answers every request with these bytes.
    pub fn answer_with(&self, bytes: impl Into<Vec<u8>>) {
        let bytes = bytes.into();
        self.script(move |_, stream| stream.write_all(&bytes).is_ok());
    }

    /// The requests since the last time this was asked.
    pub fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.shared.calls.lock().unwrap())
    }

    /// Connections open now.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Connections ever.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for McpServer {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.addr);
    }
}

impl Shared {
    fn serve(&self, mut stream: TcpStream) {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        let mut buffer = Vec::new();
        while let Some(call) = read_call(&mut stream, &mut buffer) {
            let script = Arc::clone(&self.script.lock().unwrap());
            self.calls.lock().unwrap().push(call.clone());
            if !script(&call, &mut stream) {
                let _ = stream.shutdown(Shutdown::Both);
                return;
            }
        }
    }
}

fn read_call(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Call> {
    let mut piece = [0; 64 * 1024];
    let mut more = |buffer: &mut Vec<u8>| match stream.read(&mut piece) {
        Ok(0) | Err(_) => None,
        Ok(read) => {
            buffer.extend_from_slice(&piece[..read]);
            Some(())
        }
    };
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        more(buffer)?;
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    let call = Call { head, body: Vec::new() };
    assert!(call.header("transfer-encoding").is_none(), "the proxy knows the length of what it sends");
    let length: usize = call.header("content-length").map_or(0, |length| length.parse().unwrap());
    while buffer.len() < end + length {
        more(buffer)?;
    }
    let body = buffer[end..end + length].to_vec();
    buffer.drain(..end + length);
    Some(Call { body, ..call })
}

/// A small MCP server: an answer to every request, 202 to the rest, and the event stream of HTTP+SSE.
pub fn usual(call: &Call, stream: &mut TcpStream) -> bool {
    let json = |body: &str| {
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let message: serde_json::Value = serde_json::from_slice(&call.body).unwrap_or_default();
    let answer = match (call.method(), call.target().split('?').next().unwrap_or_default()) {
        ("GET", "/sse") => {
            let head =
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
            let event = "event: endpoint\r\ndata: /messages/?session_id=s1\r\n\r\n";
            return stream.write_all(format!("{head}{:x}\r\n{event}\r\n", event.len()).as_bytes()).is_ok();
        }
        ("GET", _) => {
            let head =
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
            return stream.write_all(head.as_bytes()).is_ok();
        }
        ("DELETE", _) => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
        (_, "/messages/" | "/messages") => {
            "HTTP/1.1 202 Accepted\r\nContent-Length: 8\r\n\r\nAccepted".to_owned()
        }
        _ => match message.get("id") {
            Some(id) => json(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"ok":true}}}}"#)),
            None if message.is_array() => json("[]"),
            None => "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n".to_owned(),
        },
    };
    stream.write_all(answer.as_bytes()).is_ok()
}
