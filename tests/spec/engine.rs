//! The HTTP engine by itself, behind a handler that tells what reached it.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use open_mcp_auth_proxy::config::Limits;
use open_mcp_auth_proxy::edge::http1::{Fault, Incoming};
use open_mcp_auth_proxy::edge::{Answer, Handler, Server, Settings, feed};
use open_mcp_auth_proxy::log::{Level, Log};
use open_mcp_auth_proxy::reply::Reply;

use crate::world::raw::Raw;

/// Answers a request with what it was; `/no` before its body, `/stream` with a stream.
#[derive(Default)]
pub struct Tell {
    pub served: AtomicUsize,
    pub admitted: AtomicUsize,
}

impl Handler for Tell {
    type Pass = ();

    fn admit(&self, head: &Incoming) -> Result<(), Reply> {
        self.admitted.fetch_add(1, Ordering::Relaxed);
        match head.path() {
            "/no" => Err(Reply::new(401).body("no")),
            "/panic" => panic!("asked for"),
            _ => Ok(()),
        }
    }

    fn serve(&self, (): (), request: &Incoming) -> Answer {
        self.served.fetch_add(1, Ordering::Relaxed);
        if request.path() == "/stream" {
            let (feed, source) = feed::feed();
            std::thread::Builder::new()
                .spawn(move || {
                    for n in 0..3 {
                        std::thread::sleep(Duration::from_millis(30));
                        if feed.send(format!("event {n}")).is_err() {
                            return;
                        }
                    }
                })
                .unwrap();
            return Answer::Stream(Reply::new(200), source);
        }
        let told = format!("{} {} {}", request.method().as_str(), request.target(), request.body().len());
        Answer::Reply(Reply::new(200).body(told))
    }

    fn refuse(&self, _head: Option<&Incoming>, fault: Fault) -> Reply {
        Reply::new(fault.status()).body(fault.to_string())
    }
}

/// A running engine; stopped when dropped.
pub struct Engine {
    server: Option<Server<Tell>>,
    pub tell: Arc<Tell>,
    addr: SocketAddr,
}

impl Engine {
    pub fn start(change: impl FnOnce(&mut Settings)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let tell = Arc::new(Tell::default());
        let mut settings = Settings::new(&Limits::default());
        settings.drain_time = Duration::from_secs(2);
        change(&mut settings);
        let server =
            Server::start(listener, Arc::clone(&tell), settings, Log::to_memory(Level::Debug)).unwrap();
        let addr = server.addr();
        Self { server: Some(server), tell, addr }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn raw(&self) -> Raw {
        Raw::connect(self.addr)
    }

    pub fn connections(&self) -> usize {
        self.server.as_ref().unwrap().connections()
    }

    pub fn stop(mut self) {
        self.server.take().unwrap().stop();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop();
        }
    }
}

#[test]
fn a_request_is_answered_and_the_connection_used_again() {
    let engine = Engine::start(|_| {});
    let mut raw = engine.raw();
    for n in 0..3 {
        let answer = raw.send(format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n")).answer().unwrap();
        assert_eq!((answer.status, answer.text()), (200, format!("GET /{n} 0")));
        assert!(answer.header("date").is_some());
    }
}

#[test]
fn a_body_arrives_whole_however_it_is_sent() {
    let engine = Engine::start(|_| {});
    let chunked =
        "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    let sized = "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcde";
    for whole in [chunked, sized] {
        let mut raw = engine.raw();
        for byte in whole.bytes() {
            raw.send([byte]);
            std::thread::sleep(Duration::from_micros(200));
        }
        assert_eq!(raw.answer().unwrap().text(), "POST /a 5");
        assert_eq!(raw.send(whole).answer().unwrap().text(), "POST /a 5", "and again on the same connection");
    }
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let engine = Engine::start(|_| {});
    let mut raw = engine.raw();
    let many: String = (0..200).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    raw.send(many);
    for n in 0..200 {
        assert_eq!(raw.answer().unwrap().text(), format!("GET /{n} 0"));
    }
}

#[test]
fn a_stream_is_sent_as_it_comes_and_ends_properly() {
    let engine = Engine::start(|_| {});
    let mut raw = engine.raw();
    raw.send("GET /stream HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(raw.head().unwrap().header("transfer-encoding"), Some("chunked"));
    for n in 0..3 {
        assert_eq!(raw.chunk(), Some(format!("event {n}").into_bytes()));
    }
    assert_eq!(raw.chunk(), None);
    assert_eq!(raw.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\n").answer().unwrap().status, 200);
}

#[test]
fn an_early_answer_does_not_wait_for_the_body() {
    let engine = Engine::start(|_| {});
    let answer = engine
        .raw()
        .send("POST /no HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nabc")
        .answer()
        .unwrap();
    assert_eq!((answer.status, answer.header("connection")), (401, Some("close")));
    let mut raw = engine.raw();
    for _ in 0..2 {
        let whole =
            raw.send("POST /no HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc").answer().unwrap();
        assert_eq!(
            (whole.status, whole.header("connection")),
            (401, None),
            "with its body it need not close"
        );
    }
    assert_eq!(engine.tell.served.load(Ordering::Relaxed), 0);
}

#[test]
fn a_panic_costs_one_request() {
    let engine = Engine::start(|settings| settings.workers = 1);
    assert_eq!(engine.raw().send("GET /panic HTTP/1.1\r\nHost: a\r\n\r\n").answer().unwrap().status, 500);
    assert_eq!(engine.raw().send("GET /ok HTTP/1.1\r\nHost: a\r\n\r\n").answer().unwrap().status, 200);
}
