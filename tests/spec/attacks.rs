//! Attacks that end or stall other servers, each against the engine: it lives, a normal client is served throughout,
//! and nothing is left behind.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use open_mcp_auth_proxy::client::Proxies;

use crate::engine::Engine;
use crate::world::raw::Raw;
use crate::world::{at_best, wait_until};

/// Asks as a normal client does, and fails where that takes long.
fn normal_client(engine: &Engine) {
    let asked = Instant::now();
    let answer = engine.raw().send("GET /normal HTTP/1.1\r\nHost: a\r\n\r\n").answer().expect("an answer");
    assert_eq!((answer.status, answer.text().as_str()), (200, "GET /normal 0"));
    assert!(asked.elapsed() < Duration::from_secs(5), "a normal client waited {:?}", asked.elapsed());
}

/// After the attackers have left, no connection of theirs is held.
fn nothing_left(engine: &Engine) {
    normal_client(engine);
    wait_until("every connection is gone", || engine.connections() == 0);
}

/// Every way to write a head or a body that two readers could read differently (RFC 9112 sections 2.2, 3.2, 5, 6).
#[test]
fn what_is_ambiguous_is_refused_and_never_served() {
    let engine = Engine::start(|_| {});
    for (what, request, status) in [
        ("LF alone ends a line", "GET /a HTTP/1.1\nHost: a\n\n", 400),
        (
            "LF alone hides a header",
            "GET /a HTTP/1.1\r\nHost: a\r\nX: a\nTransfer-Encoding: chunked\r\n\r\n",
            400,
        ),
        ("CR in a value", "GET /a HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", 400),
        ("NUL in a value", "GET /a HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 400),
        ("a folded header", "GET /a HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", 400),
        ("space before the colon", "GET /a HTTP/1.1\r\nHost: a\r\nContent-Length : 3\r\n\r\nabc", 400),
        ("a header without a name", "GET /a HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", 400),
        ("odd characters in a name", "GET /a HTTP/1.1\r\nHost: a\r\nX(y)\"@: b\r\n\r\n", 400),
        ("no Host", "GET /a HTTP/1.1\r\n\r\n", 400),
        ("two Hosts", "GET /a HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        ("an empty Host", "GET /a HTTP/1.1\r\nHost:\r\n\r\n", 400),
        ("a Host that is no authority", "GET /a HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        ("a Host with two ports", "GET /a HTTP/1.1\r\nHost: a:80:81\r\n\r\n", 400),
        ("a Host with a port that is no number", "GET /a HTTP/1.1\r\nHost: a:b\r\n\r\n", 400),
        ("a Host with a port alone", "GET /a HTTP/1.1\r\nHost: :80\r\n\r\n", 400),
        ("a Host with a bracket too few", "GET /a HTTP/1.1\r\nHost: [::1\r\n\r\n", 400),
        ("a Host with something behind its bracket", "GET /a HTTP/1.1\r\nHost: [::1]a\r\n\r\n", 400),
        (
            "both framings",
            "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "two equal lengths",
            "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
            400,
        ),
        ("a list of lengths", "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc", 400),
        ("a signed length", "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc", 400),
        ("a hexadecimal length", "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n\r\nabc", 400),
        ("an empty length", "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", 400),
        (
            "a length past 64 bits",
            "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
            413,
        ),
        ("another transfer coding", "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (
            "a list of codings",
            "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            501,
        ),
        (
            "a coding that only looks like one",
            "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
            501,
        ),
        (
            "two codings",
            "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
        ),
        (
            "chunks in HTTP/1.0",
            "POST /a HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "a signed chunk size",
            "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n+4\r\nabcd\r\n0\r\n\r\n",
            400,
        ),
        (
            "a chunk that lies",
            "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabcd\r\n0\r\n\r\n",
            400,
        ),
        (
            "LF in a chunk line",
            "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\nab\r\n0\r\n\r\n",
            400,
        ),
        ("an absolute target", "GET http://a/a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("an authority as target", "GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("a fragment", "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("a backslash", "GET /a\\b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("an asterisk with GET", "GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("two spaces", "GET  /a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("text behind the version", "GET /a HTTP/1.1 x\r\nHost: a\r\n\r\n", 400),
        ("another version", "GET /a HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        ("an unknown method", "BREW /a HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        ("a method in lower case", "get /a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("CONNECT", "CONNECT /a HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        (
            "another expectation",
            "POST /a HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\nContent-Length: 1\r\n\r\na",
            417,
        ),
        ("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        ("the beginning of TLS", "\u{16}\u{3}\u{1}\u{2}", 400),
    ] {
        let answer = engine.raw().send(request).answer().unwrap_or_else(|| panic!("no answer to {what}"));
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
        assert_eq!(answer.header("connection"), Some("close"), "{what}");
    }
    assert_eq!(engine.tell.served.load(Ordering::Relaxed), 0);
    nothing_left(&engine);
}

#[test]
fn what_is_long_is_refused() {
    let engine = Engine::start(|_| {});
    let many = "X: y\r\n".repeat(200);
    for (what, request, status) in [
        ("a target", format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(9_000)), 414),
        ("a target without an end", format!("GET /{}", "a".repeat(20_000)), 414),
        ("a header", format!("GET /a HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(17_000)), 431),
        ("many headers", format!("GET /a HTTP/1.1\r\nHost: a\r\n{many}\r\n"), 431),
        ("a body", "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5000000\r\n\r\n".to_owned(), 413),
    ] {
        let answer = engine.raw().send(request).answer().unwrap_or_else(|| panic!("no answer to {what}"));
        assert_eq!(answer.status, status, "{what}");
    }
    nothing_left(&engine);
}

#[test]
fn a_huge_length_answered_early_costs_nothing() {
    let engine = Engine::start(|_| {});
    for length in ["100000000000000000", "9223372036854775808", "5000"] {
        for path in ["/no", "/a"] {
            let mut raw = engine.raw();
            raw.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\nabc"));
            if path == "/no" || length != "5000" {
                assert!(matches!(raw.answer().unwrap().status, 401 | 413), "{path} {length}");
            }
        }
    }
    nothing_left(&engine);
}

#[test]
fn a_burst_of_forty_is_answered_forty_times() {
    let engine = Engine::start(|settings| settings.workers = 2);
    let mut burst: Vec<Raw> = (0..40).map(|_| engine.raw()).collect();
    for round in 0..3 {
        for raw in &mut burst {
            raw.send("GET /burst HTTP/1.1\r\nHost: a\r\n\r\n");
        }
        for (n, raw) in burst.iter_mut().enumerate() {
            assert_eq!(raw.answer().unwrap().status, 200, "connection {n} in round {round}");
        }
    }
    drop(burst);
    nothing_left(&engine);
}

#[test]
fn resets_leave_nothing() {
    let engine = Engine::start(|_| {});
    for _ in 0..200 {
        let raw = engine.raw();
        let _ = (&raw.stream).write_all(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HT");
        // Closing with a linger time of zero sends a reset instead of an end.
        rustix::net::sockopt::set_socket_linger(&raw.stream, Some(Duration::ZERO)).unwrap();
    }
    nothing_left(&engine);
}

#[test]
fn odd_versions_leave_nothing() {
    let engine = Engine::start(|_| {});
    for _ in 0..200 {
        engine.raw().send("GET / HTTP/2.0\r\n\r\n");
    }
    nothing_left(&engine);
}

#[test]
fn an_absurd_te_header_is_only_a_header() {
    let engine = Engine::start(|_| {});
    let items = (0..60).map(|n| format!("a{n};q=NaN")).collect::<Vec<_>>().join(", ");
    let answer =
        engine.raw().send(format!("GET /a HTTP/1.1\r\nHost: a\r\nTE: {items}\r\n\r\n")).answer().unwrap();
    assert_eq!(answer.status, 200);
    nothing_left(&engine);
}

#[test]
fn a_flood_of_pipelined_requests_that_reads_nothing_is_held_back() {
    let engine = Engine::start(|settings| settings.write_time = Duration::from_secs(1));
    let raw = engine.raw();
    raw.stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let many = "GET /flood HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1000);
    // It writes until it is dropped. What the buffers of two sockets hold goes out before that, and no more: whoever is
    // late, on a machine with much else to do, is written to again.
    let mut sent = 0;
    loop {
        match (&raw.stream).write(&many.as_bytes()[sent % many.len()..]) {
            Ok(written) => sent += written,
            Err(err) if matches!(err.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
        assert!(sent < 64 * 1024 * 1024, "{sent} bytes were read from a client that reads no answers");
        normal_client(&engine);
    }
    wait_until("the flood is dropped", || engine.connections() == 0);
    nothing_left(&engine);
}

#[test]
fn an_endless_header_ends_at_its_bound() {
    let engine = Engine::start(|_| {});
    let mut raw = engine.raw();
    raw.send("GET /a HTTP/1.1\r\nX: ");
    let mut sent = 0;
    while sent < 64 * 1024 * 1024 && (&raw.stream).write_all(&[b'a'; 65536]).is_ok() {
        sent += 65536;
    }
    assert!(sent < 16 * 1024 * 1024, "{sent} bytes of one header were taken");
    nothing_left(&engine);
}

#[test]
fn one_byte_at_a_time_does_not_move_a_deadline() {
    let engine = Engine::start(|settings| {
        settings.head_time = Duration::from_millis(600);
        settings.body_time = Duration::from_millis(600);
    });
    let head = "GET /slow HTTP/1.1\r\nHost: a\r\nX: ";
    let body = "POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n";
    for start in [head, body] {
        at_best("the cut", Duration::from_secs(3), || {
            let mut raw = engine.raw();
            raw.send(start);
            let began = Instant::now();
            let (answer, took) = std::thread::scope(|scope| {
                let mut writer = raw.stream.try_clone().unwrap();
                scope.spawn(move || {
                    while began.elapsed() < Duration::from_secs(8) && writer.write_all(b"a").is_ok() {
                        std::thread::sleep(Duration::from_millis(50));
                    }
                });
                let answer = raw.answer();
                let took = began.elapsed();
                raw.stream.shutdown(std::net::Shutdown::Both).ok();
                (answer, took)
            });
            assert_eq!(answer.unwrap().status, 408);
            took
        });
    }
    at_best("the end of a connection that never says anything", Duration::from_secs(3), || {
        let began = Instant::now();
        assert!(engine.raw().is_closed_within(Duration::from_secs(9)));
        began.elapsed()
    });
    nothing_left(&engine);
}

#[test]
fn an_unread_chunked_body_is_not_the_next_request() {
    let engine = Engine::start(|_| {});
    let mut raw = engine.raw();
    let hidden = "GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n";
    let chunk = format!("{:x}\r\n{hidden}\r\n0\r\n\r\n", hidden.len());
    raw.send(format!("POST /no HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}"));
    assert_eq!(raw.answer().unwrap().status, 401);
    raw.send("GET /next HTTP/1.1\r\nHost: a\r\n\r\n");
    if let Some(next) = raw.answer() {
        assert_eq!(next.text(), "GET /next 0");
    }
    let mut halves = engine.raw();
    halves.send(format!("POST /no HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{}", &chunk[..5]));
    assert_eq!(halves.answer().unwrap().header("connection"), Some("close"));
    drop((raw, halves));
    nothing_left(&engine);
}

#[test]
fn connections_over_the_cap_are_told_so() {
    let engine = Engine::start(|settings| settings.connections = 10);
    let held: Vec<Raw> = (0..10).map(|_| engine.raw()).collect();
    wait_until("all are counted", || engine.connections() == 10);
    let answer = engine.raw().answer().unwrap();
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")));
    drop(held);
    // Their places are free once the engine has seen them go.
    wait_until("there is room", || engine.connections() == 0);
    nothing_left(&engine);
    let engine = Engine::start(|settings| settings.connections_per_address = Some(3));
    let held: Vec<Raw> = (0..3).map(|_| engine.raw()).collect();
    wait_until("all are counted", || engine.connections() == 3);
    assert_eq!(engine.raw().answer().unwrap().status, 503);
    drop(held);
    // Their places are free once the engine has seen them go.
    wait_until("there is room", || engine.connections() == 0);
    nothing_left(&engine);
}

/// A reverse proxy's connections are those of many clients.
#[test]
fn a_trusted_proxy_is_not_counted_by_address() {
    let engine = Engine::start(|settings| {
        settings.connections_per_address = Some(3);
        settings.trusted = Proxies::new(vec!["127.0.0.1".parse().unwrap()]);
    });
    let mut held: Vec<Raw> = (0..10).map(|_| engine.raw()).collect();
    for raw in &mut held {
        assert_eq!(raw.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n").answer().unwrap().status, 200);
    }
    drop(held);
    nothing_left(&engine);
}

#[test]
fn a_stopping_server_lets_a_running_answer_end() {
    let engine = Engine::start(|settings| settings.drain_time = Duration::from_secs(20));
    let _idle = engine.raw();
    let mut half = engine.raw();
    half.send("POST /half HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na");
    wait_until("both are there, and one head is read", || {
        engine.connections() == 2 && engine.tell.admitted.load(Ordering::Relaxed) == 1
    });
    let (began, addr) = (Instant::now(), engine.addr());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            wait_until("it takes no new connections", || TcpStream::connect(addr).is_err());
            half.send("bc");
            assert_eq!(half.answer().unwrap().text(), "POST /half 3");
        });
        engine.stop();
    });
    let took = began.elapsed();
    assert!(took < Duration::from_secs(10), "half the time that it may take, for nobody was left: {took:?}");
}
