//! Every rule of RFC 9112 about where a message begins and ends, as bytes on a socket.
//!
//! `attacks.rs` has the table of what is refused as ambiguous. Here each row also says what becomes of the bytes behind
//! the message: a request that was understood is followed by another on the same connection, which must be taken for
//! what it is, and one that was refused ends the connection, so that nothing behind it is taken for anything.

use std::sync::atomic::Ordering;

use crate::engine::Engine;

const NEXT: &str = "GET /next HTTP/1.1\r\nHost: a\r\n\r\n";

/// What is understood, in every spelling that the RFC allows, and what stands behind it.
#[test]
fn what_is_allowed_is_understood_and_ends_where_it_should() {
    let engine = Engine::start(|_| {});
    let chunked = "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (section, what, request, told) in [
        ("2.2", "one empty line before the request line", format!("\r\n{NEXT}"), "GET /next 0"),
        (
            "2.3",
            "HTTP/1.0 that keeps the connection",
            "GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".into(),
            "GET /a 0",
        ),
        ("3.2", "a Host with a port", "GET /a HTTP/1.1\r\nHost: a:80\r\n\r\n".into(), "GET /a 0"),
        (
            "3.2",
            "a Host with an address in brackets",
            "GET /a HTTP/1.1\r\nHost: [::1]:80\r\n\r\n".into(),
            "GET /a 0",
        ),
        ("3.2.1", "a query", "GET /a?b=c/d?e HTTP/1.1\r\nHost: a\r\n\r\n".into(), "GET /a?b=c/d?e 0"),
        ("3.2.4", "an asterisk", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n".into(), "OPTIONS * 0"),
        ("5.1", "no space behind the colon", "GET /a HTTP/1.1\r\nHost:a\r\nX:y\r\n\r\n".into(), "GET /a 0"),
        (
            "5.1",
            "much space around a value",
            "GET /a HTTP/1.1\r\nHost: \t a \t\r\nX:   \r\n\r\n".into(),
            "GET /a 0",
        ),
        (
            "5.5",
            "bytes above ASCII in a value",
            "GET /a HTTP/1.1\r\nHost: a\r\nX: \u{e9}\r\n\r\n".into(),
            "GET /a 0",
        ),
        (
            "6.1",
            "a coding in capitals",
            chunked.replace("chunked", "CHUNKED") + "1\r\na\r\n0\r\n\r\n",
            "POST /a 1",
        ),
        (
            "6.2",
            "a length of nothing",
            "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".into(),
            "POST /a 0",
        ),
        (
            "6.2",
            "a length with zeros before it",
            "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0003\r\n\r\nabc".into(),
            "POST /a 3",
        ),
        ("6.3", "no length is no body", "POST /a HTTP/1.1\r\nHost: a\r\n\r\n".into(), "POST /a 0"),
        (
            "6.3",
            "a body with GET",
            "GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc".into(),
            "GET /a 3",
        ),
        (
            "6.3",
            "a body that looks like a request",
            format!("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{NEXT}", NEXT.len()),
            "POST /a 31",
        ),
        ("7.1", "no chunk but the last", format!("{chunked}0\r\n\r\n"), "POST /a 0"),
        (
            "7.1",
            "sizes in both cases, with zeros before them",
            format!("{chunked}00A\r\n0123456789\r\nb\r\n0123456789a\r\n000\r\n\r\n"),
            "POST /a 21",
        ),
        (
            "7.1",
            "data that looks like a chunk",
            format!("{chunked}7\r\n0\r\n\r\nab\r\n0\r\n\r\n"),
            "POST /a 7",
        ),
        ("7.1.1", "extensions", format!("{chunked}1;a;b=c;d=\"e f\"\r\na\r\n0;z\r\n\r\n"), "POST /a 1"),
        ("7.1.2", "trailers", format!("{chunked}1\r\na\r\n0\r\nExpires: never\r\nX: y\r\n\r\n"), "POST /a 1"),
        (
            "7.1.2",
            "a trailer that would frame",
            format!("{chunked}1\r\na\r\n0\r\nContent-Length: 50\r\nTransfer-Encoding: x\r\n\r\n"),
            "POST /a 1",
        ),
        (
            "9.3",
            "options of the connection in a list",
            "GET /a HTTP/1.1\r\nHost: a\r\nConnection: x, Keep-Alive ,y\r\n\r\n".into(),
            "GET /a 0",
        ),
    ] {
        let mut raw = engine.raw();
        raw.send(&request).send(NEXT);
        let answer = raw.answer().unwrap_or_else(|| panic!("{section}: no answer to {what}"));
        assert_eq!((answer.status, answer.text().as_str()), (200, told), "{section}: {what}");
        assert_ne!(answer.header("connection"), Some("close"), "{section}: {what}");
        let next = raw.answer().unwrap_or_else(|| panic!("{section}: nothing behind {what}"));
        assert_eq!((next.status, next.text().as_str()), (200, "GET /next 0"), "{section}: behind {what}");
    }
}

/// What is refused ends the connection, and what stands behind it is nobody's request.
#[test]
fn nothing_behind_a_refused_message_is_served() {
    let engine = Engine::start(|_| {});
    let post = |fields: &str, body: &str| format!("POST /a HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}");
    let mut wrong = Vec::new();
    let chunked = |body: &str| post("Transfer-Encoding: chunked\r\n", body);
    for (section, what, request, status) in [
        ("2.2", "space before the first header", "GET /a HTTP/1.1\r\n Host: a\r\n\r\n".to_owned(), 400),
        ("2.2", "two empty lines first", format!("\r\n\r\n{NEXT}"), 400),
        ("2.2", "CR alone ends a line", "GET /a HTTP/1.1\rHost: a\r\r".to_owned() + "\n", 400),
        ("2.3", "a version of two digits", "GET /a HTTP/1.10\r\nHost: a\r\n\r\n".into(), 400),
        ("2.3", "a version in lower case", "GET /a http/1.1\r\nHost: a\r\n\r\n".into(), 505),
        ("2.3", "no version, as in HTTP/0.9", "GET /a\r\n\r\n".into(), 400),
        ("3", "a tab in the request line", "GET\t/a HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400),
        ("3", "space behind the version", "GET /a HTTP/1.1 \r\nHost: a\r\n\r\n".into(), 400),
        ("3.2", "a space in the target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n".into(), 505),
        ("3.2", "a Host that is a list", "GET /a HTTP/1.1\r\nHost: a, b\r\n\r\n".into(), 400),
        ("3.2", "a Host with a user", "GET /a HTTP/1.1\r\nHost: u@a\r\n\r\n".into(), 400),
        ("3.2", "two Hosts in HTTP/1.0", "GET /a HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n".into(), 400),
        ("5", "a header line without a colon", "GET /a HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n".into(), 400),
        ("5.2", "a folded line with a tab", "GET /a HTTP/1.1\r\nHost: a\r\nX: a\r\n\tb\r\n\r\n".into(), 400),
        ("5.5", "DEL in a value", "GET /a HTTP/1.1\r\nHost: a\r\nX: \u{7f}\r\n\r\n".into(), 400),
        (
            "6.1",
            "chunked twice in one list",
            post("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"),
            501,
        ),
        ("6.1", "chunked with a parameter", post("Transfer-Encoding: chunked;a=b\r\n", "0\r\n\r\n"), 501),
        ("6.1", "chunked before another", post("Transfer-Encoding: chunked, gzip\r\n", "0\r\n\r\n"), 501),
        ("6.1", "identity", post("Transfer-Encoding: identity\r\n", ""), 501),
        ("6.1", "an empty coding", post("Transfer-Encoding:\r\n", "0\r\n\r\n"), 501),
        (
            "6.1",
            "a vertical tab before the coding",
            post("Transfer-Encoding: \u{b}chunked\r\n", "0\r\n\r\n"),
            400,
        ),
        ("6.1", "the coding's name with a space", post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"), 400),
        ("9.6", "a quote in a Connection option", post("Connection: \"x, close\r\n", ""), 400),
        ("6.2", "a negative length", post("Content-Length: -1\r\n", ""), 400),
        ("6.2", "a length with a space in it", post("Content-Length: 1 2\r\n", "a"), 400),
        ("6.2", "a length with a fraction", post("Content-Length: 3.0\r\n", "abc"), 400),
        ("6.2", "a length in other digits", post("Content-Length: \u{663}\r\n", "abc"), 400),
        ("6.2", "two lengths that differ", post("Content-Length: 3\r\nContent-Length: 4\r\n", "abcd"), 400),
        (
            "6.3",
            "both, the coding first",
            post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"),
            400,
        ),
        (
            "6.3",
            "both, with another coding",
            post("Transfer-Encoding: gzip\r\nContent-Length: 5\r\n", "abcde"),
            400,
        ),
        ("7.1", "no size", chunked("\r\n0\r\n\r\n"), 400),
        ("7.1", "a size with 0x", chunked("0x1\r\na\r\n0\r\n\r\n"), 400),
        ("7.1", "a size of seventeen digits", chunked("00000000000000001\r\na\r\n0\r\n\r\n"), 400),
        ("7.1", "a size that is a number too large", chunked("fffffffffffffff0\r\n"), 413),
        ("7.1", "less data than the size", chunked("3\r\nab\r\n0\r\n\r\n"), 400),
        ("7.1", "more data than the size", chunked("1\r\nab\r\n0\r\n\r\n"), 400),
        ("7.1", "data that ends in LF alone", chunked("1\r\na\n0\r\n\r\n"), 400),
        ("7.1", "space before a size", chunked(" 1\r\na\r\n0\r\n\r\n"), 400),
        ("7.1.1", "LF in an extension", chunked("1;a\nb\r\na\r\n0\r\n\r\n"), 400),
        ("7.1.1", "CR in an extension", chunked("1;a\rb\r\na\r\n0\r\n\r\n"), 400),
        ("7.1.1", "an extension without an end", chunked(&format!("1;{}", "a".repeat(9_000))), 400),
        ("7.1.2", "LF alone in the trailers", chunked("0\r\nA: b\n\r\n"), 400),
        ("7.1.2", "trailers without an end", chunked(&format!("0\r\nA: {}", "a".repeat(9_000))), 400),
        (
            "9.2",
            "a body in a request that expects what nobody knows",
            post("Expect: x\r\nContent-Length: 1\r\n", "a"),
            417,
        ),
    ] {
        let mut raw = engine.raw();
        raw.send(&request).send(NEXT);
        let answer = raw.answer().unwrap_or_else(|| panic!("{section}: no answer to {what}"));
        if answer.status != status {
            wrong.push(format!("{section}: {what}: {} {}", answer.status, answer.text()));
        }
        assert_eq!(answer.header("connection"), Some("close"), "{section}: {what}");
        assert!(raw.answer().is_none(), "{section}: something was served behind {what}");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(engine.tell.served.load(Ordering::Relaxed), 0, "no refused message reached anybody");
}

/// RFC 9112 sections 6.3 and 9.3 for our own answers.
#[test]
fn our_answers_end_where_they_say() {
    let engine = Engine::start(|_| {});
    for (what, request, status, closes) in [
        ("HTTP/1.0", "GET /a HTTP/1.0\r\n\r\n", 200, true),
        ("Connection: close", "GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 200, true),
        ("close in a list", "GET /a HTTP/1.1\r\nHost: a\r\nConnection: x,CLOSE\r\n\r\n", 200, true),
        ("close beside keep-alive", "GET /a HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", 200, true),
        ("a stream to HTTP/1.0", "GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200, true),
    ] {
        let mut raw = engine.raw();
        raw.send(request).send(NEXT);
        let answer = raw.answer().unwrap();
        assert_eq!(answer.status, status, "{what}");
        assert!(answer.header("transfer-encoding").is_none(), "{what}");
        assert_eq!(answer.header("connection") == Some("close"), closes, "{what}");
        assert!(raw.answer().is_none(), "{what}: the connection ends");
    }
    // RFC 9110 section 9.3.2: HEAD has the length of what it does not send.
    let mut raw = engine.raw();
    raw.send("HEAD /a HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(raw.head().unwrap().header("content-length"), Some("9"));
    assert_eq!(raw.send(NEXT).answer().unwrap().text(), "GET /next 0");
    // RFC 9110 section 10.1.1: asked for, and only then; not where the body is here already.
    let asks = "POST /a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    let mut raw = engine.raw();
    assert_eq!(raw.send(asks).answer().unwrap().status, 100);
    assert_eq!(raw.send("abc").answer().unwrap().text(), "POST /a 3");
    assert_eq!(raw.send(format!("{asks}abc")).answer().unwrap().status, 200);
    let refused = asks.replace("/a", "/no");
    assert_eq!(raw.send(refused).answer().unwrap().status, 401, "no body is asked for that nobody wants");
}
