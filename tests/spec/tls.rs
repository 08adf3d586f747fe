//! An MCP server behind https.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use open_mcp_auth_proxy::config::{BaseUrl, Config, Upstream};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::world::World;
use crate::world::raw::Raw;
use crate::world::request;

/// Answers each request on a connection with how many there were on it, and `/sse` with two events.
fn https_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let chain = CertificateDer::pem_slice_iter(include_bytes!("world/keys/localhost.pem"))
        .map(Result::unwrap)
        .collect();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("world/keys/localhost.key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let config = Arc::new(config);
    thread::Builder::new()
        .spawn(move || {
            for stream in listener.incoming().take(8) {
                let stream = stream.unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                let session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
                thread::Builder::new()
                    .spawn(move || serve(rustls::StreamOwned::new(session, stream)))
                    .unwrap();
            }
        })
        .unwrap();
    addr
}

fn serve(stream: impl Read + Write) {
    let mut reader = BufReader::new(stream);
    for count in 1.. {
        let (mut head, mut line, mut length) = (String::new(), String::new(), 0);
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            head.push_str(&line);
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let out = reader.get_mut();
        if head.starts_with("GET") {
            out.write_all(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
            )
            .and_then(|()| out.flush())
            .unwrap();
            for n in 0..2 {
                thread::sleep(Duration::from_millis(50));
                out.write_all(format!("9\r\ndata: {n}\n\n\r\n").as_bytes())
                    .and_then(|()| out.flush())
                    .unwrap();
            }
            out.write_all(b"0\r\n\r\n").and_then(|()| out.flush()).unwrap();
            continue;
        }
        let text = format!("{count} {}", body.len());
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len());
        out.write_all(answer.as_bytes()).and_then(|()| out.flush()).unwrap();
    }
}

fn https(addr: SocketAddr, trusted: bool) -> impl FnOnce(&mut Config) {
    move |config| {
        if let Upstream::Http { base, .. } = &mut config.upstream {
            *base = BaseUrl {
                tls: true,
                host: "localhost".into(),
                port: addr.port(),
                prefix: String::new(),
                socket: None,
            };
        }
        let ca = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/spec/world/keys/ca.pem");
        config.ca_file = trusted.then(|| ca.into());
    }
}

#[test]
fn requests_bodies_and_streams_pass_over_tls() {
    let world = World::with(https(https_server(), true));
    let bearer = format!("Bearer {}", world.token().compact());
    let mut client: Raw = world.raw();
    let large =
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"x","params":{{"a":"{}"}}}}"#, "x".repeat(2_000_000));
    for (count, body) in [(1, r#"{"jsonrpc":"2.0","id":1,"method":"x"}"#), (2, large.as_str())] {
        let answer =
            client.send(request("POST", "/mcp", &[("Authorization", &bearer)], body)).answer().unwrap();
        assert_eq!((answer.status, answer.text()), (200, format!("{count} {}", body.len())));
    }
    client.send(request("GET", "/mcp", &[("Authorization", &bearer)], ""));
    assert_eq!(client.answer().unwrap().text(), "data: 0\n\ndata: 1\n\n");
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_not_talked_to() {
    let world = World::with(https(https_server(), false));
    let answer = world.call_tool("echo", Some(&world.token()));
    assert_eq!(answer.status, 502);
    assert!(world.log.text().contains("certificate"), "{}", world.log.text());
}
