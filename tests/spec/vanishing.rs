//! Clients that vanish at every byte, and thousands of streams at once; what is left is counted from /proc.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::world::issuer::Issuer;
use crate::world::program::{Held, Program, raise_descriptors};
use crate::world::raw::Raw;
use crate::world::server::{McpServer, usual};
use crate::world::{call_of, request, wait_until};

/// Memory that the allocator may keep from one round to the next.
const SLACK_KIB: usize = 3 * 1024;

struct Place {
    issuer: Issuer,
    server: McpServer,
    program: Program,
}

impl Place {
    fn start(more: &str) -> Self {
        let (issuer, server) = (Issuer::start(), McpServer::start());
        let program = Program::start(&issuer, server.addr, more, None);
        Self { issuer, server, program }
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", Program::token(&self.issuer).compact())
    }

    fn addr(&self) -> SocketAddr {
        self.program.addr()
    }

    fn call(&self, bearer: &str) -> u16 {
        let message = request("POST", "/mcp", &[("Authorization", bearer)], &call_of("echo"));
        Raw::connect(self.addr()).send(message).answer().expect("an answer").status
    }

    /// Runs `round`, which is told what the program holds at rest, until it adds nothing to that. Descriptors and threads
    /// are as before after each. How many of its connections are there at one time is the scheduler's business, and with
    /// it how much memory the allocator takes and keeps: some round may take more than those before, but what leaks does
    /// so in every round.
    fn leaves_nothing(&self, what: &str, bearer: &str, round: impl Fn(Held)) {
        const ROUNDS: usize = 8;
        assert_eq!(self.call(bearer), 200);
        let before = self.program.held();
        // Not one for certain: a call that comes just behind the answer to another may not find its link free yet.
        let links = self.server.connections();
        let mut rss = Vec::with_capacity(ROUNDS);
        while rss.len() < ROUNDS {
            round(before);
            wait_until("the upstream is quiet again", || self.server.connections() <= links);
            let after = self.program.settles_to(before);
            assert!(after.fds <= before.fds, "{what}: {before:?} became {after:?}");
            assert!(after.threads <= before.threads, "{what}: {before:?} became {after:?}");
            rss.push(after.rss);
            // The first two make the memory what it will be.
            if let [.., _, earlier, last] = rss[..]
                && last <= earlier + SLACK_KIB
            {
                assert_eq!(self.call(bearer), 200, "after {what}");
                return;
            }
        }
        panic!("{what}: each round takes more memory, in KiB: {rss:?}");
    }
}

/// Closes with an end, or with a reset.
fn vanish(stream: TcpStream, reset: bool) {
    if reset {
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    }
    drop(stream);
}

#[test]
fn a_client_may_vanish_at_every_byte_of_a_request() {
    let place = Place::start("");
    let bearer = place.bearer();
    let body = call_of("echo");
    let sized = request("POST", "/mcp", &[("Authorization", &bearer)], &body);
    let chunked = format!(
        "POST /mcp HTTP/1.1\r\nHost: proxy.example\r\nContent-Type: application/json\r\nAuthorization: {bearer}\r\n\
         Transfer-Encoding: chunked\r\n\r\n{:x};x=y\r\n{body}\r\n0\r\nX: y\r\n\r\n",
        body.len()
    );
    // Whoever vanished is accepted before a client that comes later.
    let caught_up = |rest: Held| {
        let later = Raw::connect(place.addr()).send("GET / HTTP/1.1\r\n\r\n").answer();
        assert_eq!(later.expect("an answer").status, 400);
        wait_until("none of them is left", || place.program.held().fds <= rest.fds);
    };
    for (what, whole) in [("a request with a length", &sized), ("a request in chunks", &chunked)] {
        place.leaves_nothing(what, &bearer, |rest| {
            place.server.take_calls();
            for at in 0..whole.len() {
                let stream = TcpStream::connect(place.addr()).unwrap();
                (&stream).write_all(&whole.as_bytes()[..at]).unwrap();
                vanish(stream, at % 2 == 0);
                // So that the kernel's queue never fills, and a slow machine does not make more of them wait at once.
                if at % 32 == 31 {
                    caught_up(rest);
                }
            }
            caught_up(rest);
            assert!(place.server.take_calls().is_empty(), "half of {what} reached the MCP server");
        });
    }
}

#[test]
fn a_client_may_vanish_at_every_byte_of_a_stream() {
    let place = Place::start("");
    let bearer = place.bearer();
    place.server.script(|call, stream| {
        if call.method() != "GET" {
            return usual(call, stream);
        }
        let head =
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        let _ = stream.write_all(head);
        let event = "data: abcdefgh\n\n";
        for _ in 0..4 {
            let _ = stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes());
        }
        true
    });
    let get = request("GET", "/mcp", &[("Authorization", &bearer)], "");
    // Opens a stream and reads so many bytes of it, or up to the last event where there are fewer.
    let read = |most: usize| {
        let mut stream = TcpStream::connect(place.addr()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(get.as_bytes()).unwrap();
        let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
        while bytes.len() < most && bytes.windows(8).filter(|part| part == b"abcdefgh").count() < 4 {
            let wanted = piece.len().min(most - bytes.len());
            let read = stream.read(&mut piece[..wanted]).expect("something came in time");
            assert!(read > 0, "the stream ended after {}", String::from_utf8_lossy(&bytes));
            bytes.extend_from_slice(&piece[..read]);
        }
        (stream, bytes.len())
    };
    // The chunks of an answer are cut as they come, so its length is known to a few bytes; what counts is every byte of
    // the head and of the first events.
    let (_, length) = read(usize::MAX);
    assert!(length > 150, "{length} bytes of head and events");
    place.leaves_nothing("a stream", &bearer, |_| {
        for at in 0..length {
            let (stream, _) = read(at);
            vanish(stream, at % 2 == 0);
        }
    });
}

/// Two thousand streams are held at once; an event reaches the one it is for, at once, and nobody else.
#[test]
fn two_thousand_streams_are_held_and_each_gets_its_own_events() {
    const STREAMS: usize = 2_000;
    raise_descriptors();
    let place = Place::start("limits: { streams: 3000, streams_per_principal: 2500 }");
    let bearer = place.bearer();
    let senders: Arc<Mutex<Vec<Option<TcpStream>>>> =
        Arc::new(Mutex::new((0..STREAMS).map(|_| None).collect()));
    let keep = Arc::clone(&senders);
    place.server.script(move |call, stream| {
        let Some(number) = call.target().strip_prefix("/mcp?n=") else { return usual(call, stream) };
        let head =
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        let _ = stream.write_all(head);
        keep.lock().unwrap()[number.parse::<usize>().unwrap()] = Some(stream.try_clone().unwrap());
        true
    });
    assert_eq!(place.call(&bearer), 200);
    let before = place.program.held();
    let mut kept = None;
    for round in 0..3 {
        let mut clients: Vec<Raw> = Vec::with_capacity(STREAMS);
        for n in 0..STREAMS {
            let mut client = Raw::connect(place.addr());
            client.send(request("GET", &format!("/mcp?n={n}"), &[("Authorization", &bearer)], ""));
            clients.push(client);
        }
        for client in &mut clients {
            assert_eq!(client.head().unwrap().status, 200);
        }
        wait_until("all are open", || senders.lock().unwrap().iter().all(Option::is_some));
        let held = place.program.held();
        assert!(held.threads <= before.threads, "a stream costs no thread: {held:?}");
        assert!(held.fds <= before.fds + 2 * STREAMS + 8, "and two sockets: {held:?}");
        let each = held.rss.saturating_sub(before.rss) * 1024 / STREAMS;
        assert!(each < 4 * 1024, "{each} bytes for each stream");
        let mut dice = 0x2545_f491_4f6c_dd1d_u64;
        let mut sent = vec![0_usize; STREAMS];
        for event in 0..3_000 {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            let n = usize::try_from(dice % STREAMS as u64).unwrap();
            let text = format!("data: {event} for {n}\n\n");
            let frame = format!("{:x}\r\n{text}\r\n", text.len());
            senders.lock().unwrap()[n].as_mut().unwrap().write_all(frame.as_bytes()).unwrap();
            assert_eq!(clients[n].chunk().unwrap(), text.as_bytes());
            sent[n] += 1;
        }
        assert!(sent.iter().filter(|n| **n > 0).count() > STREAMS / 2);
        for (n, client) in clients.iter().enumerate() {
            client.stream.set_nonblocking(true).unwrap();
            let got = (&client.stream).read(&mut [0; 1]);
            assert!(
                got.is_err_and(|err| err.kind() == ErrorKind::WouldBlock),
                "stream {n} got more than its own"
            );
        }
        assert_eq!(place.call(&bearer), 200, "a plain call beside {STREAMS} streams");
        drop(clients);
        senders.lock().unwrap().iter_mut().for_each(|sender| *sender = None);
        wait_until("the MCP server is rid of them", || place.server.connections() <= 1);
        let after = place.program.settles_to(before);
        assert!(after.fds <= before.fds && after.threads <= before.threads, "{before:?} became {after:?}");
        // The allocator may keep what the first round took; the others must not add to it.
        let most = kept.unwrap_or(held.rss) + SLACK_KIB;
        assert!(after.rss <= most, "round {round}: {before:?}, {held:?} became {after:?}");
        kept.get_or_insert(after.rss);
    }
}
