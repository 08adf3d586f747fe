//! The MCP server of the measurements, and the issuer's key set: one thread, epoll, and no work that can be avoided.
//!
//! A POST is answered at once: with JSON, or with an event stream of one event where the tool is called `stream`. A GET
//! opens an event stream that is held, and a second thread sends events to random ones among those.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use open_mcp_auth_proxy::clock::system_since_epoch;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

/// A running server; it ends with the program.
pub struct Upstream {
    pub addr: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    posts: AtomicU64,
    streams: Mutex<Vec<Arc<TcpStream>>>,
    jwks: Mutex<String>,
    answers: Answers,
}

struct Conn {
    stream: Arc<TcpStream>,
    buf: Vec<u8>,
    filled: usize,
}

impl Upstream {
    pub fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let addr = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        thread::Builder::new().name("upstream".into()).spawn(move || serve(&listener, &serving))?;
        Ok(Self { addr, shared })
    }

    pub fn set_jwks(&self, jwks: String) {
        *self.shared.jwks.lock().expect("no holder panics") = jwks;
    }

    /// POSTs answered so far, once none has come for a moment: what an ended run left under way is over then.
    pub fn settled(&self) -> u64 {
        loop {
            let before = self.shared.posts.load(Ordering::Relaxed);
            thread::sleep(Duration::from_millis(100));
            if self.shared.posts.load(Ordering::Relaxed) == before {
                return before;
            }
        }
    }

    /// Event streams held.
    pub fn streams(&self) -> usize {
        self.shared.streams.lock().expect("no holder panics").len()
    }

    pub fn forget_streams(&self) {
        self.shared.streams.lock().expect("no holder panics").clear();
    }

    /// Sends `per_second` events for so long, each to a random stream, and says how many it sent.
    pub fn send_events(&self, per_second: u32, time: Duration) -> u64 {
        let streams = self.shared.streams.lock().expect("no holder panics").clone();
        let (began, pause) = (Instant::now(), Duration::from_secs(1) / per_second);
        let (mut random, mut sent) = (0x9e37_79b9_7f4a_7c15_u64, 0_u64);
        while began.elapsed() < time && !streams.is_empty() {
            let due = began + pause * u32::try_from(sent).unwrap_or(u32::MAX);
            if let Some(left) = due.checked_duration_since(Instant::now()) {
                thread::sleep(left);
            }
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let at = usize::try_from(random % streams.len() as u64).unwrap_or(0);
            let event = format!(
                "id: {sent}\ndata: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":\
                 {{\"level\":\"info\",\"data\":\"something happened\",\"at\":{}}}}}\n\n",
                system_since_epoch().as_nanos()
            );
            let chunk = format!("{:x}\r\n{event}\r\n", event.len());
            if (&*streams[at]).write_all(chunk.as_bytes()).is_ok() {
                sent += 1;
            }
        }
        sent
    }
}

const LISTENER: u64 = u64::MAX;

fn serve(listener: &TcpListener, shared: &Shared) {
    let epoll = epoll::create(CreateFlags::CLOEXEC).expect("a descriptor for epoll");
    epoll::add(&epoll, listener, EventData::new_u64(LISTENER), EventFlags::IN).expect("a listener to watch");
    let mut conns: HashMap<u64, Conn> = HashMap::new();
    let mut events = Vec::with_capacity(256);
    loop {
        events.clear();
        if epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), None).is_err() {
            continue;
        }
        for event in &events {
            let key = event.data.u64();
            if key == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    let _ = stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true));
                    let key = u64::try_from(stream.as_raw_fd()).unwrap_or(0);
                    let _ = epoll::add(&epoll, &stream, EventData::new_u64(key), EventFlags::IN);
                    let buf = vec![0; 16 * 1024];
                    conns.insert(key, Conn { stream: Arc::new(stream), buf, filled: 0 });
                }
                continue;
            }
            let open = conns.get_mut(&key).is_some_and(|conn| answer(conn, shared));
            if !open && let Some(conn) = conns.remove(&key) {
                let _ = epoll::delete(&epoll, &*conn.stream);
                let _ = conn.stream.shutdown(std::net::Shutdown::Both);
            }
        }
    }
}

/// The answers to a call, as JSON and as an event stream of one event.
struct Answers {
    json: Vec<u8>,
    events: Vec<u8>,
}

impl Default for Answers {
    fn default() -> Self {
        let result = "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"content\":[{\"type\":\"text\",\"text\":\"hello, \
                      and this is what an echo of an ordinary length looks like, more or less, in one line\"}],\
                      \"isError\":false}}";
        let event = format!("event: message\ndata: {result}\n\n");
        let json = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{result}",
            result.len()
        );
        let events = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n\
             {:x}\r\n{event}\r\n0\r\n\r\n",
            event.len()
        );
        Self { json: json.into(), events: events.into() }
    }
}

const STREAM: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n\
    Transfer-Encoding: chunked\r\n\r\n5\r\n: hi\n\r\n";

/// Reads what there is and answers what is whole; `false` at the end of the connection.
fn answer(conn: &mut Conn, shared: &Shared) -> bool {
    if conn.filled == conn.buf.len() {
        return false; // nobody here sends that much
    }
    match (&*conn.stream).read(&mut conn.buf[conn.filled..]) {
        Ok(0) => return false,
        Ok(read) => conn.filled += read,
        Err(err) => return err.kind() == io::ErrorKind::WouldBlock,
    }
    loop {
        let held = &conn.buf[..conn.filled];
        let Some(head) = memchr::memmem::find(held, b"\r\n\r\n").map(|at| at + 4) else { return true };
        let whole = head + content_length(&held[..head]);
        if held.len() < whole {
            return true;
        }
        let sent = if held.starts_with(b"POST ") {
            shared.posts.fetch_add(1, Ordering::Relaxed);
            let stream = memchr::memmem::find(&held[head..whole], b"\"stream\"").is_some();
            let answers = &shared.answers;
            (&*conn.stream).write_all(if stream { &answers.events } else { &answers.json })
        } else if held.starts_with(b"GET /jwks ") {
            let jwks = shared.jwks.lock().expect("no holder panics");
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{jwks}",
                jwks.len()
            );
            (&*conn.stream).write_all(answer.as_bytes())
        } else {
            let sent = (&*conn.stream).write_all(STREAM);
            shared.streams.lock().expect("no holder panics").push(Arc::clone(&conn.stream));
            sent
        };
        if sent.is_err() {
            return false;
        }
        conn.buf.copy_within(whole..conn.filled, 0);
        conn.filled -= whole;
    }
}

fn content_length(head: &[u8]) -> usize {
    let line = head.split(|byte| *byte == b'\n').find_map(|line| {
        let (name, value) = line.split_at_checked(15)?;
        name.eq_ignore_ascii_case(b"content-length:").then_some(value)
    });
    line.and_then(|value| std::str::from_utf8(value).ok()?.trim().parse().ok()).unwrap_or(0)
}
