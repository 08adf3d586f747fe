//! An MCP server that moves, resets, closes in silence, frames badly, speaks HTTP/1.0 or listens on a file.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Duration;

use open_mcp_auth_proxy::config::Upstream;

use crate::world::server::{Call, usual};
use crate::world::{World, call_of, request, wait_until};

fn bearer(world: &World) -> String {
    format!("Bearer {}", world.token().subject("alice").compact())
}

fn targets(world: &World) -> Vec<String> {
    world.server.take_calls().iter().map(|call| format!("{} {}", call.method(), call.target())).collect()
}

/// Redirects `/mcp` to `location` and serves everything else.
fn redirecting(
    status: u16,
    location: &str,
) -> impl Fn(&Call, &mut TcpStream) -> bool + Send + Sync + 'static {
    let redirect = format!(
        "HTTP/1.1 {status} Temporary Redirect\r\nLocation: {location}\r\nContent-Length: 4\r\n\r\ngone"
    );
    move |call, stream| {
        if call.target().split('?').next() == Some("/mcp") {
            return stream.write_all(redirect.as_bytes()).is_ok();
        }
        usual(call, stream)
    }
}

/// Frameworks that know `/mcp/` alone redirect to it; the same method and body arrive there, and once is enough.
#[test]
fn a_redirect_within_the_server_is_followed_and_remembered() {
    for (status, location) in [
        (307, "/mcp/"),
        (308, "/mcp/"),
        (307, "http://SERVER/mcp/"),
        // uvicorn takes the scheme from X-Forwarded-Proto, others the host from X-Forwarded-Host.
        (307, "https://SERVER/mcp/"),
        (307, "https://proxy.example/mcp/"),
    ] {
        let world = World::start();
        let location = location.replace("SERVER", &world.server.addr.to_string());
        world.server.script(redirecting(status, &location));
        let (token, body) = (bearer(&world), call_of("echo"));
        for round in 0..3 {
            let answer = world.ask("POST", "/mcp", &[("Authorization", &token)], &body);
            assert_eq!((answer.status, answer.header("location")), (200, None), "{location}");
            assert!(answer.text().contains("\"ok\":true"), "{location}: {}", answer.text());
            let calls = world.server.take_calls();
            assert!(calls.iter().all(|call| call.text() == body), "{location}");
            let last = calls.last().unwrap();
            assert_eq!((last.target(), last.header("authorization")), ("/mcp/", None));
            assert_eq!(calls.len(), if round == 0 { 2 } else { 1 }, "{location}, round {round}");
        }
        let deleted = world.ask("DELETE", "/mcp", &[("Authorization", &token)], "");
        assert_eq!((deleted.status, targets(&world)), (204, vec!["DELETE /mcp/".to_owned()]));
        let mut stream = world.raw();
        stream.send(request("GET", "/mcp?x=1", &[("Authorization", &token)], ""));
        assert_eq!(stream.head().unwrap().header("content-type"), Some("text/event-stream"));
        assert_eq!(targets(&world), ["GET /mcp/?x=1"]);
    }
}

/// RFC 9110 section 15.4: where it leads elsewhere, or round in a circle, it is the client's.
#[test]
fn a_redirect_that_leads_elsewhere_passes_unchanged() {
    let world = World::start();
    let token = bearer(&world);
    for (status, location) in [
        (307, "http://evil.example/mcp/"),
        (307, "http://127.0.0.1:1/mcp/"),
        (308, "//evil.example/mcp/"),
        (307, "mcp/"),
        (302, "/mcp/"),
        (301, "/mcp/"),
        (303, "/mcp/"),
    ] {
        world.server.script(redirecting(status, location));
        let answer = world.ask("POST", "/mcp", &[("Authorization", &token)], &call_of("echo"));
        assert_eq!((answer.status, answer.header("location")), (status, Some(location)));
        assert_eq!(answer.text(), "gone");
        assert_eq!(targets(&world), ["POST /mcp"], "{location}");
    }
    world.server.script(|call, stream| {
        let to = if call.target() == "/mcp" { "/mcp/" } else { "/mcp" };
        let text = format!("HTTP/1.1 307 X\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(text.as_bytes()).is_ok()
    });
    let answer = world.ask("POST", "/mcp", &[("Authorization", &token)], &call_of("echo"));
    assert_eq!((answer.status, answer.header("location")), (307, Some("/mcp")));
    assert_eq!(targets(&world), ["POST /mcp", "POST /mcp/"], "it is followed once");
}

/// A server that is replaced may serve the old path again: what is remembered does not outlive a 404.
#[test]
fn a_redirect_that_was_taken_back_is_forgotten() {
    let world = World::start();
    let token = bearer(&world);
    let ask = || world.ask("POST", "/mcp", &[("Authorization", &token)], &call_of("echo")).status;
    world.server.script(redirecting(307, "/mcp/"));
    assert_eq!((ask(), ask()), (200, 200));
    world.server.script(|call, stream| {
        if call.target() == "/mcp/" {
            return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").is_ok();
        }
        usual(call, stream)
    });
    assert_eq!((ask(), ask()), (404, 200));
}

/// 1xx: skipped, within a bound; 101 is nobody's wish (RFC 9110 section 15.2).
#[test]
fn interim_answers_are_skipped_within_a_bound() {
    let world = World::start();
    let ask = || world.call_tool("echo", Some(&world.token()));
    let last = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
    world.server.answer_with(format!("HTTP/1.1 100 Continue\r\n\r\n{hints}{hints}{last}"));
    assert_eq!((ask().status, ask().text().as_str()), (200, "{}"));
    world.server.script(move |_, stream| {
        for byte in format!("{hints}{last}").bytes() {
            let _ = stream.write_all(&[byte]);
        }
        true
    });
    assert_eq!((ask().status, ask().header("link")), (200, None));
    world.server.script(move |_, stream| {
        while stream.write_all(hints.as_bytes()).is_ok() {}
        false
    });
    assert_eq!(ask().status, 502, "one after the other, without an end");
    world.server.answer_with("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n");
    assert_eq!(ask().status, 502);
    world.server.script(usual);
    assert_eq!(ask().status, 200);
}

/// RFC 9112 section 6.3 from the other side: an answer that could be read in two ways is not relayed, and neither it
/// nor what stands behind it is ever taken for the answer to somebody else.
#[test]
fn broken_framing_never_reaches_the_next_client() {
    let world = World::start();
    let smuggled = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled";
    for (what, answer, status) in [
        ("a signed length", format!("HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\n{{}}{smuggled}"), 502),
        (
            "two lengths",
            format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 0\r\n\r\n{smuggled}"),
            502,
        ),
        ("a list of lengths", format!("HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\n{{}}{smuggled}"), 502),
        (
            "both framings",
            format!(
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"
            ),
            502,
        ),
        ("another coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n".to_owned(), 502),
        (
            "chunks in HTTP/1.0",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
            502,
        ),
        ("LF alone", format!("HTTP/1.1 200 OK\nContent-Length: 0\n\n{smuggled}"), 502),
        ("a folded header", "HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 0\r\n\r\n".to_owned(), 502),
        ("an endless head", format!("HTTP/1.1 200 OK\r\nA: {}", "a".repeat(40_000)), 502),
        ("many headers", format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(200)), 502),
        ("a bad first chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n".to_owned(), 502),
        ("more than its length", format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{{}}{smuggled}"), 200),
        (
            "more than its chunks",
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n{smuggled}"),
            200,
        ),
        ("a body behind 204", format!("HTTP/1.1 204 No Content\r\n\r\n{smuggled}"), 204),
    ] {
        world.server.answer_with(answer);
        let got = world.call_tool("echo", Some(&world.token()));
        assert_eq!(got.status, status, "{what}: {}", got.text());
        assert!(!got.text().contains("smuggled"), "{what}");
        world.server.script(usual);
        let next = world.call_tool("echo", Some(&world.token()));
        assert_eq!(next.status, 200, "after {what}");
        assert!(next.text().contains("\"ok\":true"), "after {what}: {}", next.text());
    }
}

/// The server resets its connection at each byte of its answer: before the head is whole the client is told 502, after
/// that it sees that the answer is not whole, and it never takes a part for all of it.
#[test]
fn a_reset_at_any_byte_of_an_answer_is_told() {
    let world = World::start();
    let token = bearer(&world);
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    for whole in [
        format!("{head}Content-Length: 10\r\n\r\n[1,2,3,44]"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\n6\r\n[1,2,3\r\n4\r\n,44]\r\n0\r\n\r\n"),
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\nb\r\ndata: abc\n\n\r\n0\r\n\r\n".to_owned(),
    ] {
        for at in 0..whole.len() {
            let part = whole.as_bytes()[..at].to_vec();
            world.server.script(move |_, stream| {
                let _ = stream.write_all(&part);
                rustix::net::sockopt::set_socket_linger(&*stream, Some(Duration::ZERO)).unwrap();
                // The socket is closed once, by the one who owns it; until then the bytes are on their way.
                std::thread::sleep(Duration::from_micros(300));
                let _ = stream.shutdown(Shutdown::Read);
                false
            });
            let mut client = world.raw();
            client.send(request("POST", "/mcp", &[("Authorization", &token)], &call_of("echo")));
            let text = client.everything();
            let stream = whole.contains("event-stream");
            let complete = text.starts_with("HTTP/1.1 200") && text.ends_with("[1,2,3,44]")
                || stream && text.ends_with("0\r\n\r\n");
            assert!(!complete, "cut at {at}, told as whole: {text}");
            assert!(stream || text.starts_with("HTTP/1.1 502"), "cut at {at}: {text}");
        }
    }
    world.server.script(usual);
    assert_eq!(world.call_tool("echo", Some(&world.token())).status, 200);
    wait_until("no upstream connection but an idle one is left", || world.server.connections() <= 1);
}

/// A head that comes alone waits for its body and is sent with it, whatever the framing.
#[test]
fn a_head_that_comes_alone_is_kept() {
    let world = World::start();
    let token = bearer(&world);
    for (head, body, stream) in [
        ("Content-Type: application/json\r\nContent-Length: 7\r\n", "{\"a\":1}", false),
        (
            "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n",
            "7\r\n{\"a\":1}\r\n0\r\n\r\n",
            false,
        ),
        ("Content-Type: application/json\r\nConnection: close\r\n", "{\"a\":1}", false),
        (
            "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n",
            "9\r\ndata: 1\n\n\r\n0\r\n\r\n",
            true,
        ),
    ] {
        for pause in [1, 40] {
            world.server.script(move |_, stream| {
                let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\nX-Kept: yes\r\n{head}\r\n").as_bytes());
                std::thread::sleep(Duration::from_millis(pause));
                stream.write_all(body.as_bytes()).is_ok() && !head.contains("close")
            });
            let message = request("POST", "/mcp", &[("Authorization", &token)], &call_of("echo"));
            let got = world.raw().send(message).answer().unwrap();
            let text = if stream { "data: 1\n\n" } else { "{\"a\":1}" };
            assert_eq!((got.status, got.text().as_str()), (200, text), "{head}");
            assert_eq!(got.header("x-kept"), Some("yes"), "{head}");
        }
    }
}

/// A plain answer is gathered until it is whole: each byte of it, however it comes.
#[test]
fn an_answer_in_pieces_arrives_whole() {
    let world = World::start();
    let token = bearer(&world);
    let large: String = (0..30_000).map(|n| format!("{n},")).collect();
    let chunks: String = large
        .as_bytes()
        .chunks(999)
        .map(|part| format!("{:x}\r\n{}\r\n", part.len(), std::str::from_utf8(part).unwrap()))
        .collect();
    for (what, answer, text) in [
        ("a length", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n[1,2,3,44]".to_owned(), "[1,2,3,44]"),
        (
            "chunks",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n[1,2,3\r\n4\r\n,44]\r\n0\r\n\r\n"
                .to_owned(),
            "[1,2,3,44]",
        ),
        ("an end", "HTTP/1.0 200 OK\r\n\r\n[1,2,3,44]".to_owned(), "[1,2,3,44]"),
        (
            "a large length",
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{large}", large.len()),
            &large,
        ),
        (
            "many chunks",
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"),
            &large,
        ),
    ] {
        for piece in [3, 17, 41, 20_000].into_iter().filter(|piece| answer.len() / piece < 60) {
            let sent = answer.clone();
            world.server.script(move |_, stream| {
                for part in sent.as_bytes().chunks(piece) {
                    let _ = stream.write_all(part);
                    std::thread::sleep(Duration::from_millis(3)); // sometimes the worker waits, sometimes a stream thread
                }
                !sent.starts_with("HTTP/1.0")
            });
            let message = request("POST", "/mcp", &[("Authorization", &token)], &call_of("echo"));
            let got = world.raw().send(message).answer().unwrap();
            assert!(
                (got.status, got.text().as_str()) == (200, text),
                "{what}, {piece} bytes at a time: {}",
                got.text().len()
            );
        }
    }
}

/// HTTP/1.0 and servers that end an answer by closing (RFC 9112 section 6.3, item 8).
#[test]
fn old_servers_are_understood() {
    let world = World::start();
    let token = bearer(&world);
    for (answer, keeps, text) in [
        ("HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{\"a\":1}", false, "{\"a\":1}"),
        ("HTTP/1.0 200 OK\r\nContent-Length: 7\r\n\r\n{\"a\":1}", false, "{\"a\":1}"),
        (
            "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 7\r\n\r\n{\"a\":1}",
            true,
            "{\"a\":1}",
        ),
        ("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", false, ""),
    ] {
        world.server.script(move |_, stream| stream.write_all(answer.as_bytes()).is_ok() && keeps);
        let before = world.server.accepted();
        let mut client = world.raw();
        for _ in 0..3 {
            let message = request("POST", "/mcp", &[("Authorization", &token)], &call_of("echo"));
            let got = client.send(message).answer().unwrap();
            assert_eq!((got.status, got.text().as_str()), (200, text), "{answer}");
        }
        let opened = world.server.accepted() - before;
        assert_eq!(opened <= 1, keeps, "{answer}: {opened} connections");
    }
}

/// A server may close a connection that it did not say it would close. No call is lost to that, and none is made twice.
#[test]
fn a_server_that_closes_in_silence_costs_no_call() {
    let world = World::start();
    let token = bearer(&world);
    world.server.script(|call, stream| {
        usual(call, stream);
        false
    });
    let mut client = world.raw();
    for n in 0..300 {
        let message = request("POST", "/mcp", &[("Authorization", &token)], &call_of("echo"));
        let got = client.send(message).answer().unwrap();
        // It closes within the time that its answer takes to the client and the next call back.
        wait_until("it has closed", || world.server.connections() == 0);
        assert_eq!(got.status, 200, "call {n}");
    }
    assert_eq!(world.server.take_calls().len(), 300);
}

/// RFC 9110 section 9.2.2: a link that dies under a request it has carried: GET is asked again, a call is not.
#[test]
fn only_what_may_be_repeated_is_repeated() {
    for (method, status, times) in [("POST", 502, 1), ("DELETE", 502, 1), ("GET", 200, 2)] {
        let world = World::start();
        let token = bearer(&world);
        // On one connection, so that the link of the first call is idle before the second is read.
        let mut client = world.raw();
        client.send(request("POST", "/mcp", &[("Authorization", &token)], &call_of("echo")));
        assert_eq!(client.answer().unwrap().status, 200, "there is a link now");
        world.server.take_calls();
        let first = std::sync::atomic::AtomicBool::new(true);
        world.server.script(move |call, stream| {
            if first.swap(false, std::sync::atomic::Ordering::SeqCst) {
                return false; // the request has arrived, and nobody knows what became of it
            }
            usual(call, stream)
        });
        let body = if method == "POST" { call_of("echo") } else { String::new() };
        client.send(request(method, "/mcp", &[("Authorization", &token)], &body));
        assert_eq!(client.head().unwrap().status, status, "{method}");
        assert_eq!(world.server.take_calls().len(), times, "{method}");
    }
}

/// `base_url: unix:/run/server.sock:/below`
#[test]
fn a_server_may_listen_on_a_file() {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("mcp-{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    let server = std::thread::Builder::new()
        .spawn(move || {
            let mut heads = Vec::new();
            let (mut stream, _) = listener.accept().unwrap();
            let mut text = Vec::new();
            let mut piece = [0; 4096];
            while heads.len() < 3 {
                let read = stream.read(&mut piece).unwrap();
                if read == 0 {
                    break;
                }
                text.extend_from_slice(&piece[..read]);
                if text.ends_with(b"}}}") {
                    heads.push(String::from_utf8(std::mem::take(&mut text)).unwrap());
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").unwrap();
                }
            }
            heads
        })
        .unwrap();
    let world = World::with(|config| {
        if let Upstream::Http { base, .. } = &mut config.upstream {
            base.host = "localhost".into();
            base.port = 80;
            base.prefix = "/below".into();
            base.socket = Some(path.clone());
        }
    });
    for _ in 0..3 {
        let answer = world.call_tool("echo", Some(&world.token()));
        assert_eq!((answer.status, answer.text().as_str()), (200, "{}"));
    }
    let heads = server.join().unwrap();
    assert_eq!(heads.len(), 3, "on one connection");
    assert!(heads[0].starts_with("POST /below/mcp HTTP/1.1\r\nHost: localhost\r\n"), "{}", heads[0]);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(world.call_tool("echo", Some(&world.token())).status, 502, "nobody is there");
    assert!(world.log.text().contains(&format!("unix:{}", path.display())), "{}", world.log.text());
}
