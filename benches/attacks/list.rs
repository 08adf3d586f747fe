//! The attacks, each as short as it can be written.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::Arena;
use super::programs::Era;
use super::world::server::{Call, usual};
use super::world::{call_of, request};

/// One attack.
pub struct Attack {
    pub name: &'static str,
    /// Threads that run it at the same time.
    pub attackers: usize,
    /// What is below `limits:` for it.
    pub limits: &'static str,
    /// The program's limit of descriptors, where it is a small one.
    pub descriptors: Option<u32>,
    /// Where the MCP server is a program, and whose child is whose.
    pub program: Option<Era>,
    /// What deeds are counted in, where that is not just their number.
    pub unit: &'static str,
    pub run: fn(&Arena),
}

pub const fn attack(name: &'static str, attackers: usize, run: fn(&Arena)) -> Attack {
    Attack { name, attackers, limits: "", descriptors: None, program: None, unit: "", run }
}

pub const ATTACKS: &[Attack] = &[
    attack("nothing at all", 1, nothing),
    attack("a huge Content-Length, answered early", 1, huge_length),
    attack("bursts of 400 connections", 1, bursts),
    Attack { descriptors: Some(64), ..attack("120 connections for 64 descriptors", 1, short_of_descriptors) },
    attack("resets in the middle of a request", 1, |arena| again_and_again(arena, HALF, true)),
    attack("the preface of HTTP/2", 1, |arena| again_and_again(arena, "GET / HTTP/2.0\r\n\r\n", false)),
    attack("TE with sixty q=NaN", 1, nan),
    attack("pipelining without reading", 4, pipelining),
    attack("an endless header", 1, |arena| {
        endless(arena, "GET /mcp HTTP/1.1\r\nHost: proxy.example\r\nX: ", b"a")
    }),
    attack("1,000 slow heads, a byte a second", 1, |arena| slow(arena, "GET /mcp HTTP/1.1\r\nX: ")),
    attack("1,000 slow bodies, a byte a second", 1, slow_bodies),
    attack("an endless chunked body that nobody wants", 1, |arena| endless(arena, CHUNKED, b"1000\r\n")),
    attack("smuggling by a bare LF", 1, |arena| again_and_again(arena, SMUGGLED, false)),
    attack("bad signatures, all different, from one address", 2, |arena| {
        forged(arena, "X-Forwarded-For: 203.0.113.7\r\n", usize::MAX)
    }),
    attack("the same from where nobody is counted", 2, |arena| forged(arena, "", usize::MAX)),
    attack("one bad signature again and again", 2, |arena| forged(arena, "", 1)),
    attack("20 clients that never read an endless stream", 1, never_reads),
    attack("streams that are opened and left", 2, left_streams),
    Attack { limits: "streams: 3000", ..attack("2,000 streams that are held", 1, held_streams) },
];

const HALF: &str = "POST /mcp HTTP/1.1\r\nHost: proxy.example\r\nContent-Length: 100\r\n\r\n{\"json";
const CHUNKED: &str = "POST /mcp HTTP/1.1\r\nHost: proxy.example\r\nTransfer-Encoding: chunked\r\n\r\n";
const SMUGGLED: &str =
    "GET /mcp HTTP/1.1\r\nHost: proxy.example\r\nX: a\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /mcp";

/// The MCP server: as usual, and a stream that never pauses.
pub fn server(call: &Call, stream: &mut TcpStream) -> bool {
    if call.target() != "/mcp?flood" {
        return usual(call, stream);
    }
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let event = format!("data: {}\n\n", "x".repeat(4_000));
    let chunk = format!("{:x}\r\n{event}\r\n", event.len());
    let mut alive = stream.write_all(head.as_bytes()).is_ok();
    stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    while alive {
        alive = stream.write_all(chunk.as_bytes()).is_ok();
    }
    false
}

pub fn nothing(arena: &Arena) {
    arena.did(1);
    pause_until_over(arena);
}

pub fn pause_until_over(arena: &Arena) {
    while !arena.is_over() {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Reads what there is of an answer.
fn hear(mut stream: &TcpStream) -> bool {
    stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0)
}

fn again_and_again(arena: &Arena, text: &str, reset: bool) {
    while !arena.is_over() {
        let Some(stream) = arena.connect() else { continue };
        let _ = (&stream).write_all(text.as_bytes());
        if reset {
            rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        } else {
            hear(&stream);
        }
        arena.did(1);
    }
}

fn huge_length(arena: &Arena) {
    let bearer = format!("Authorization: {}\r\n", arena.bearer);
    while !arena.is_over() {
        for (length, token) in [("100000000000000000", ""), ("9223372036854775808", &bearer), ("5000", "")] {
            let Some(stream) = arena.connect() else { continue };
            let head = format!(
                "POST /mcp HTTP/1.1\r\nHost: proxy.example\r\n{token}Content-Length: {length}\r\n\r\nabc"
            );
            let _ = (&stream).write_all(head.as_bytes());
            hear(&stream);
            arena.did(1);
        }
    }
}

fn bursts(arena: &Arena) {
    let ask = request("GET", "/mcp", &[], "");
    while !arena.is_over() {
        let burst: Vec<TcpStream> = (0..400).filter_map(|_| arena.connect()).collect();
        for stream in &burst {
            let mut stream = stream;
            let _ = stream.write_all(ask.as_bytes());
        }
        arena.did(burst.iter().filter(|stream| hear(stream)).count());
    }
}

fn short_of_descriptors(arena: &Arena) {
    while !arena.is_over() {
        let held: Vec<TcpStream> = (0..120).filter_map(|_| arena.connect()).collect();
        arena.did(held.len());
        std::thread::sleep(Duration::from_millis(300));
    }
}

fn nan(arena: &Arena) {
    let items = (0..60).map(|n| format!("a{n};q=NaN")).collect::<Vec<_>>().join(", ");
    again_and_again(arena, &request("GET", "/mcp", &[("TE", &items)], ""), false);
}

fn pipelining(arena: &Arena) {
    let one = request("POST", "/mcp", &[("Authorization", &arena.bearer)], &call_of("echo"));
    let many = one.repeat(200);
    while !arena.is_over() {
        let Some(stream) = arena.connect() else { continue };
        while !arena.is_over() && (&stream).write_all(many.as_bytes()).is_ok() {
            arena.did(200);
        }
        pause_until_over(arena); // blocked, and still there
    }
}

fn endless(arena: &Arena, start: &str, piece: &[u8]) {
    let chunk = [piece, &b"x".repeat(4096)[..], b"\r\n"].concat();
    let more = if piece.len() > 1 { chunk.repeat(16) } else { piece.repeat(64 * 1024) };
    while !arena.is_over() {
        let Some(stream) = arena.connect() else { continue };
        let mut alive = (&stream).write_all(start.as_bytes()).is_ok();
        while alive && !arena.is_over() {
            alive = (&stream).write_all(&more).is_ok();
            arena.did(1);
        }
    }
}

fn slow(arena: &Arena, start: &str) {
    let mut held: Vec<Option<TcpStream>> = (0..1_000).map(|_| None).collect();
    while !arena.is_over() {
        for place in &mut held {
            let alive = place.as_ref().is_some_and(|mut stream| stream.write_all(b"a").is_ok());
            if !alive {
                *place = arena.connect();
                if let Some(mut stream) = place.as_ref() {
                    let _ = stream.write_all(start.as_bytes());
                }
            }
            arena.did(1);
        }
        for _ in 0..50 {
            if !arena.is_over() {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

fn slow_bodies(arena: &Arena) {
    let head = format!(
        "POST /mcp HTTP/1.1\r\nHost: proxy.example\r\nAuthorization: {}\r\nContent-Length: 1000000\r\n\r\n",
        arena.bearer
    );
    slow(arena, &head);
}

fn forged(arena: &Arena, from: &str, different: usize) {
    let body = call_of("echo");
    let mut n = 0;
    while !arena.is_over() {
        let Some(stream) = arena.connect() else { continue };
        loop {
            n += 1;
            let text = format!(
                "POST /mcp HTTP/1.1\r\nHost: proxy.example\r\n{from}Authorization: Bearer {}\r\nContent-Length: {}\r\n\r\n{body}",
                arena.forged(n % different),
                body.len()
            );
            if arena.is_over() || (&stream).write_all(text.as_bytes()).is_err() || !hear(&stream) {
                break;
            }
            arena.did(1);
        }
    }
}

fn never_reads(arena: &Arena) {
    let ask = request("GET", "/mcp?flood", &[("Authorization", &arena.bearer)], "");
    let held: Vec<TcpStream> = (0..20).filter_map(|_| arena.connect()).collect();
    for mut stream in &held {
        let _ = stream.write_all(ask.as_bytes());
    }
    arena.did(held.len());
    pause_until_over(arena);
}

fn left_streams(arena: &Arena) {
    let ask = request("GET", "/mcp", &[("Authorization", &arena.bearer)], "");
    again_and_again(arena, &ask, false);
}

fn held_streams(arena: &Arena) {
    let ask = request("GET", "/mcp", &[("Authorization", &arena.bearer)], "");
    let held: Vec<TcpStream> = (0..2_000).filter_map(|_| arena.connect()).collect();
    for mut stream in &held {
        let _ = stream.write_all(ask.as_bytes());
    }
    arena.did(held.iter().filter(|stream| hear(stream)).count());
    pause_until_over(arena);
}
