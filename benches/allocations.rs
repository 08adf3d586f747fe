//! Heap allocations per request, counted: the proxy in this process, one connection to it, one server behind it.
//!
//! ```text
//! main ── request ──▶ proxy (workers) ── request ──▶ upstream thread
//! ```
//!
//! Client and server allocate nothing once they run, so what is counted is the proxy's. `cargo bench --bench
//! allocations` prints one line for each kind of request.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a program for developers"
)]
#![allow(
    missing_docs,
    dead_code,
    unreachable_pub,
    reason = "a program has no outside, and the rig has more uses"
)]

#[path = "rig/tokens.rs"]
mod tokens;
#[path = "rig/upstream.rs"]
mod upstream;

use std::alloc::System;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use open_mcp_auth_proxy::clock::Clock;
use open_mcp_auth_proxy::config::{Config, Outside, Overrides};
use open_mcp_auth_proxy::log::{Format, Level, Log};
use open_mcp_auth_proxy::proxy::Proxy;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static COUNTING: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const REQUESTS: usize = 5000;

fn main() {
    let upstream = upstream::Upstream::start().unwrap();
    let issuer = format!("http://{}", upstream.addr);
    let minter = tokens::Minter::new(issuer.clone());
    upstream.set_jwks(minter.jwks());
    let yaml = include_str!("ours.yaml")
        .replace("@LISTEN@", &free_port().to_string())
        .replace("@UPSTREAM@", &upstream.addr.port().to_string())
        .replace("@ISSUER@", &issuer)
        .replace("@AUDIENCE@", tokens::AUDIENCE);
    let (config, _) = Config::from_yaml(&yaml, &Overrides::default(), &Outside::nothing()).unwrap();
    // The lines are written, as an operator would have them; 2>/dev/null leaves the figures alone.
    let log = Log::to_stderr(Level::Info, Format::Text);
    let proxy = Proxy::start(config, Clock::system(), log).unwrap();
    let token = format!("Authorization: Bearer {}\r\n", minter.good("alice"));
    let bad = format!("{}AAAA\r\n", token.trim_end().split_at(token.len() - 6).0);
    let mut client = TcpStream::connect(proxy.addr()).unwrap();
    for (what, credentials, tool) in [
        ("POST, JSON", token.as_str(), "echo"),
        ("POST, event stream", token.as_str(), "stream"),
        ("refused: no token", "", "echo"),
        ("refused: one bad signature, repeated", bad.as_str(), "echo"),
        ("refused: bad signatures, all different", "@", "echo"),
    ] {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}","arguments":{{"text":"hello"}}}}}}"#
        );
        let request = |credentials: &str| {
            format!(
                "POST /mcp HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
                 Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2025-11-25\r\n\
                 {credentials}Content-Length: {}\r\n\r\n{body}",
                proxy.addr(),
                body.len()
            )
        };
        let requests: Vec<String> = (0..REQUESTS + REQUESTS / 10)
            .map(|number| match credentials {
                "@" => request(&forged(&bad, number)),
                same => request(same),
            })
            .collect();
        let (first, counted) = requests.split_at(REQUESTS / 10);
        ask(&mut client, first);
        let region = Region::new(COUNTING);
        ask(&mut client, counted);
        let change = region.change();
        let each = |count: usize| count as f64 / REQUESTS as f64;
        println!(
            "{what:<40} {:>6.1} allocations, {:>5.1} reallocations, {:>7.0} bytes",
            each(change.allocations),
            each(change.reallocations),
            each(change.bytes_allocated)
        );
    }
    drop(client);
    proxy.stop();
}

/// A port that nobody listens on; the configuration names it twice.
fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// The same header with digits in the middle of its signature.
fn forged(bad: &str, number: usize) -> String {
    let middle = bad.len() - 200;
    format!("{}{number:06}{}", &bad[..middle], &bad[middle + 6..])
}

/// Asks one after the other. An answer is over at the end of its JSON, of its event or of its chunks.
fn ask(client: &mut TcpStream, requests: &[String]) {
    let mut buf = [0_u8; 4096];
    for request in requests {
        client.write_all(request.as_bytes()).unwrap();
        let mut filled = 0;
        loop {
            let read = client.read(&mut buf[filled..]).unwrap();
            assert!(read > 0, "the connection was closed");
            filled += read;
            // The proxy gives a stream that came whole a length, and chunks otherwise.
            let ends: [&[u8]; 3] = [b"}", b"\n\n", b"\r\n0\r\n\r\n"];
            if ends.iter().any(|end| buf[..filled].ends_with(end)) {
                break;
            }
        }
    }
}
