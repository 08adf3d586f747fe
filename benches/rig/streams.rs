//! Event streams that are held: what each costs while nothing happens on it, and how late an event arrives.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use open_mcp_auth_proxy::clock::system_since_epoch;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use super::fleet::Running;
use super::process::{cpu_ms, rss_kib, threads};
use super::upstream::Upstream;

/// Events in a second while delivery is measured.
pub const EVENTS_PER_SECOND: u32 = 1000;

/// What one run showed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    pub kib_each: f64,
    pub kib_each_after_events: f64,
    pub threads: f64,
    pub rss_mib: f64,
    /// CPU while events flow, in milliseconds per second, which is per 1,000 events.
    pub cpu_ms_per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
}

/// The clients' ends.
struct Holder {
    epoll: OwnedFd,
    streams: Vec<TcpStream>,
    open: usize,
    late_ns: Vec<u64>,
}

/// Holds `count` streams through a target that was just started.
pub fn run(target: &Running, upstream: &Upstream, token: &str, count: usize, seconds: u64) -> Figures {
    let pid = target.pid().unwrap_or_else(std::process::id);
    thread::sleep(Duration::from_millis(200));
    let before = rss_kib(pid);
    let mut holder = Holder::open(target.port, token, count);
    let until = Instant::now() + Duration::from_secs(60);
    while holder.open < count || upstream.streams() < count {
        let (open, behind) = (holder.open, upstream.streams());
        let name = target.kind.name();
        assert!(Instant::now() < until, "{name}: {open} of {count} streams are open, {behind} at the server");
        holder.turn(100);
    }
    // Quiet, so that what is given back while nothing happens has been given back.
    thread::sleep(Duration::from_millis(1500));
    let idle = rss_kib(pid);
    let each = |rss: f64| (rss - before) / count as f64;
    let cpu = cpu_ms(pid);
    let sent = thread::scope(|scope| {
        let time = Duration::from_secs(seconds);
        let sender = scope.spawn(move || upstream.send_events(EVENTS_PER_SECOND, time));
        while !sender.is_finished() {
            holder.turn(20);
        }
        sender.join().expect("the sender ends")
    });
    let cpu = cpu_ms(pid) - cpu;
    let until = Instant::now() + Duration::from_secs(5);
    while (holder.late_ns.len() as u64) < sent {
        assert!(Instant::now() < until, "{} of {sent} events arrived", holder.late_ns.len());
        holder.turn(100);
    }
    thread::sleep(Duration::from_millis(300));
    let after = rss_kib(pid);
    holder.late_ns.sort_unstable();
    let figures = Figures {
        kib_each: each(idle),
        kib_each_after_events: each(after),
        threads: threads(pid),
        rss_mib: after / 1024.0,
        cpu_ms_per_second: cpu / seconds as f64,
        p50_us: holder.late_us(0.5),
        p99_us: holder.late_us(0.99),
    };
    drop(holder);
    upstream.forget_streams();
    figures
}

impl Holder {
    fn open(port: u16, token: &str, count: usize) -> Self {
        let epoll = epoll::create(CreateFlags::CLOEXEC).expect("a descriptor for epoll");
        let request = format!(
            "GET /mcp HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n\
             Accept: text/event-stream\r\nMCP-Protocol-Version: 2025-11-25\r\n\r\n"
        );
        let mut holder = Self { epoll, streams: Vec::with_capacity(count), open: 0, late_ns: Vec::new() };
        for index in 0..count {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
            stream.write_all(request.as_bytes()).expect("a request is taken");
            stream.set_nonblocking(true).expect("a socket");
            epoll::add(&holder.epoll, &stream, EventData::new_u64(index as u64), EventFlags::IN)
                .expect("a stream to watch");
            holder.streams.push(stream);
            if index % 32 == 31 {
                holder.turn(0); // nobody's queue of unaccepted connections is to be measured
            }
        }
        holder
    }

    /// Reads what has come, waiting for it up to so many milliseconds.
    fn turn(&mut self, wait_ms: i64) {
        let mut events = Vec::with_capacity(512);
        let timeout = Timespec { tv_sec: 0, tv_nsec: wait_ms * 1_000_000 };
        if epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&timeout)).is_err() {
            return;
        }
        let mut buf = [0_u8; 16 * 1024];
        for event in events {
            let index = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
            let Some(mut stream) = self.streams.get(index) else { continue };
            let Ok(read) = stream.read(&mut buf) else { continue };
            assert!(read > 0, "a stream was ended");
            let now = system_since_epoch().as_nanos();
            let bytes = &buf[..read];
            if bytes.starts_with(b"HTTP/1.1 ") {
                assert!(bytes.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(bytes));
                self.open += 1;
            }
            for at in memchr::memmem::find_iter(bytes, b"\"at\":") {
                let digits = bytes[at + 5..].iter().take_while(|byte| byte.is_ascii_digit());
                let sent = digits.fold(0_u128, |sum, byte| sum * 10 + u128::from(byte - b'0'));
                self.late_ns.push(u64::try_from(now.saturating_sub(sent)).unwrap_or(u64::MAX));
            }
        }
    }

    fn late_us(&self, part: f64) -> f64 {
        let last = self.late_ns.len().saturating_sub(1);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let at = (last as f64 * part) as usize;
        self.late_ns.get(at).copied().unwrap_or(0) as f64 / 1000.0
    }
}
