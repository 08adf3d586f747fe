//! Requests, read by our parser and by one that others wrote (`http-net`, which does not stand on httparse).
//!
//! Where two readers of one connection disagree about where a request ends or what it says, one of them can be made to
//! let through what the other would have stopped. So what ours accepts the other must accept too, with the same method,
//! target, fields and body, and with the same bytes behind it; and what ours waits for the end of must not be whole to
//! the other. The reverse is free: ours refuses more, on purpose.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};

use http_net::{HttpError, Limits, ServerConn, ServerEvent};
use open_mcp_auth_proxy::edge::http1::Incoming;

const BODY_BYTES_MAX: usize = 64 * 1024;

/// A request as a reader sees it.
#[derive(Debug, Eq, PartialEq)]
struct Request {
    method: String,
    target: String,
    fields: Vec<(String, Vec<u8>)>,
    keep_alive: bool,
    body: Vec<u8>,
    /// How many bytes stand behind it.
    behind: usize,
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let ours = Incoming::parse(input, IpAddr::V4(Ipv4Addr::LOCALHOST), BODY_BYTES_MAX);
    match ours {
        Ok(Some((request, used))) => {
            let ours = Request {
                method: request.method().as_str().to_owned(),
                target: request.target().to_owned(),
                fields: fields(request.headers()),
                keep_alive: request.keep_alive(),
                body: request.body().to_vec(),
                behind: input.len() - used,
            };
            match theirs(input) {
                Err(why) if is_argued(why, &ours) => {}
                theirs => assert_eq!(theirs, Ok(Some(ours))),
            }
        }
        Ok(None) => assert!(!matches!(theirs(input), Ok(Some(_))), "we wait for what is whole to the other"),
        Err(_) => {}
    }
});

/// What we accept although the other does not, each with the reason for which no harm comes of it.
fn is_argued(why: HttpError, ours: &Request) -> bool {
    match why {
        // A bracket, or a % without two digits. Browsers leave both in a query as they stand (WHATWG URL section 4.4).
        // In a path they reach nobody: it is compared byte for byte with the few that are served. Nothing is decoded
        // here, and the same bytes go on.
        HttpError::InvalidTarget => ours.target.contains(['[', ']', '%']),
        // The text of a chunk extension, and white space behind a chunk size, which some senders pad with. Neither holds a
        // CR or LF, so both readers find the same size and the same end of its line; neither reader looks at the text; and
        // none of it goes on, since the body is sent anew with a Content-Length.
        HttpError::InvalidChunkExtension => true,
        _ => false,
    }
}

/// What the other reader says: a whole request, none yet, or its refusal.
fn theirs(input: &[u8]) -> Result<Option<Request>, HttpError> {
    // No limit of theirs may answer before one of ours.
    let limits = Limits::new()
        .with_max_start_line(64 * 1024)
        .with_max_header_bytes(64 * 1024)
        .with_max_field_line(64 * 1024)
        .with_max_headers(1000)
        .with_max_body(1024 * 1024);
    let mut conn = ServerConn::with_limits(limits);
    let (mut rest, mut found) = (input, None::<Request>);
    loop {
        match conn.poll()? {
            ServerEvent::Request(head) => {
                found = Some(Request {
                    method: head.method_str().to_owned(),
                    target: head.target().to_owned(),
                    fields: fields(head.headers()),
                    keep_alive: head.keep_alive(),
                    body: Vec::new(),
                    behind: 0,
                });
            }
            ServerEvent::Body(piece) => {
                if let Some(request) = &mut found {
                    request.body.extend_from_slice(piece);
                }
            }
            ServerEvent::RequestEnd => {
                let behind = conn.remaining_input().len() + rest.len();
                return Ok(found.map(|request| Request { behind, ..request }));
            }
            ServerEvent::NeedInput => {
                let fed = conn.feed(rest);
                if fed == 0 {
                    return Ok(None);
                }
                rest = &rest[fed..];
            }
            event => panic!("{event:?} before the end of a request"),
        }
    }
}

fn fields<'f>(all: impl Iterator<Item = (&'f str, &'f [u8])>) -> Vec<(String, Vec<u8>)> {
    all.map(|(name, value)| (name.to_owned(), value.to_vec())).collect()
}
