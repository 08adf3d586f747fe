//! What a worker does with a connection that is ready: read, judge, serve, answer, park.
//!
//! ```text
//! epoll ─▶ take ─▶ fill ─▶ head whole? ─▶ admit ─▶ body whole? ─▶ serve ─▶ answer ─▶ next request or park
//!                            │ no                    │ no            └─▶ stream thread, if it takes its time
//!                            ▼                       ▼
//!                           park                    park
//! ```
//!
//! Reading and writing never block, and the MCP server is waited for in the same epoll set as the clients, so that a
//! worker goes on to the next request meanwhile. Nearly every answer comes within [`WORKER_PATIENCE`] and needs no
//! second thread. What may wait in a worker is the handler alone, for keys that are on their way; see
//! [`super::while_waiting`].

use std::io;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self};

use super::conn::{Conn, Phase, again};
use super::http1::{Fault, Incoming};
use super::park::{READ, WRITE, overdue};
use super::pump::{Fed, Home, Producer, STEPS_MAX, Step};
use super::{Answer, Handler, Shared, WAKE, standby};
use crate::limits::{
    BODY_BYTES_IN_FLIGHT_MAX, BODY_BYTES_PER_SECOND_MIN, EVENTS_AT_ONCE_MAX, LINGER_BYTES_MAX,
    LINGER_TIME_MAX, SWEEP_INTERVAL, WORKER_PATIENCE,
};
use crate::reply::Reply;

/// Requests of one connection in a row before the others have their turn.
const IN_A_ROW_MAX: usize = 32;
/// A half-read request up to this size waits without spare room; a larger one would be copied too often.
const SMALL_BYTES: usize = 8 * 1024;

/// Reading a request above this size takes so long that what else this worker took is given to others.
const LARGE_BYTES: usize = 64 * 1024;

/// What a worker keeps between requests, so that the usual one allocates nothing.
#[derive(Default)]
struct Desk {
    request: Option<Box<Incoming>>,
    lines: Vec<u8>,
    date: (u64, String),
}

impl Desk {
    /// Sends an answer of ours.
    fn reply<P>(&mut self, conn: &mut Conn<P>, reply: &Reply) -> io::Result<()> {
        let now = crate::clock::system_since_epoch().as_secs();
        if self.date.0 != now {
            self.date = (now, super::conn::http_date(now));
        }
        conn.reply(reply, &mut self.lines, &self.date.1)
    }

    fn keep(&mut self, mut request: Box<Incoming>) {
        request.clear();
        request.shrink();
        self.request.get_or_insert(request);
    }
}

/// What to do with a connection after one turn.
enum Turn<P> {
    /// The request is not whole: wait for the rest.
    Rest(Box<Conn<P>>, Box<Incoming>),
    /// It was answered; the buffer may hold the beginning of the next one.
    Next(Box<Conn<P>>, Box<Incoming>),
    /// Somebody else has it, or nobody.
    Over,
}

impl<H: Handler> Shared<H> {
    /// A worker thread, until the server halts.
    pub(super) fn work(self: &Arc<Self>) {
        let mut desk = Desk::default();
        let mut room = [MaybeUninit::uninit(); EVENTS_AT_ONCE_MAX];
        self.standby.enter();
        while !self.halted.load(Ordering::Relaxed) {
            match epoll::wait(self.park.epoll(), &mut room, None) {
                Ok((events, _)) => standby::keep_events(events),
                Err(_) => continue, // interrupted
            }
            while let Some(event) = standby::next_event() {
                let data = event.data;
                if data.u64() == WAKE {
                    continue;
                }
                if let Some(conn) = self.park.take(event) {
                    let drove = catch_unwind(AssertUnwindSafe(|| self.drive(conn, &mut desk)));
                    if drove.is_err() {
                        desk = Desk::default();
                        self.log.error("a worker panicked; its connection was closed", &[]);
                    }
                }
            }
            self.standby.make_room();
        }
    }

    fn drive(self: &Arc<Self>, mut conn: Box<Conn<H::Pass>>, desk: &mut Desk) {
        match conn.phase {
            Phase::Writing => match conn.flush() {
                Ok(true) => self.answered(conn, desk),
                Ok(false) => self.park_for(conn, Phase::Writing),
                Err(_) => self.park.close(conn),
            },
            Phase::Linger => self.linger(conn),
            Phase::Answering => match conn.answer.take() {
                Some(producer) => self.answer_came(conn, producer, desk),
                None => self.park.close(conn),
            },
            Phase::Idle | Phase::Head | Phase::Body => {
                let request = conn.request.take().or_else(|| desk.request.take()).unwrap_or_default();
                self.read(conn, request, desk);
            }
        }
    }

    /// Reads and serves until the connection has nothing more for now.
    fn read(self: &Arc<Self>, mut conn: Box<Conn<H::Pass>>, mut request: Box<Incoming>, desk: &mut Desk) {
        if conn.phase == Phase::Idle && request.held() == 0 {
            request.start(conn.peer);
        }
        // Bytes of a next request that came with the last one are looked at before the socket is.
        let mut unseen = request.held() > 0 && conn.phase == Phase::Idle;
        for row in 0..IN_A_ROW_MAX {
            if row > 0 {
                standby::give_back(); // whoever sends many at one time makes nobody wait
            }
            if !unseen {
                match request.fill(&conn.stream) {
                    Ok(0) => {
                        desk.keep(request);
                        self.park.close(conn);
                        return;
                    }
                    Ok(_) => conn.drained = request.has_room(),
                    Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
                    Err(err) if again(&err) => {
                        conn.drained = true;
                        self.wait_for_rest(conn, request, desk);
                        return;
                    }
                    Err(_) => {
                        desk.keep(request);
                        self.park.close(conn);
                        return;
                    }
                }
            }
            match self.turn(conn, request, desk) {
                Turn::Next(same, rest) if rest.held() > 0 => {
                    conn = same;
                    request = rest;
                    unseen = true;
                }
                Turn::Next(same, rest) | Turn::Rest(same, rest) => {
                    // Asking the socket again would nearly always be in vain; epoll tells.
                    self.wait_for_rest(same, rest, desk);
                    return;
                }
                Turn::Over => return,
            }
        }
        // Enough of this one; being writable, it comes back behind the others.
        conn.request = Some(request);
        conn.deadline = Some(Instant::now() + self.settings.head_time);
        self.park.park(conn, READ | WRITE);
    }

    /// Parks a connection whose request is not whole.
    fn wait_for_rest(&self, mut conn: Box<Conn<H::Pass>>, mut request: Box<Incoming>, desk: &mut Desk) {
        let now = Instant::now();
        if request.held() == 0 {
            desk.keep(request);
            conn.phase = Phase::Idle;
            conn.since = Some(now);
            conn.deadline = Some(now + self.settings.idle_time);
        } else if request.has_head() {
            let held = request.held();
            let paid = Duration::from_secs((held / BODY_BYTES_PER_SECOND_MIN) as u64);
            conn.phase = Phase::Body;
            let since = *conn.since.get_or_insert(now);
            conn.deadline = Some(since + self.settings.body_time + paid);
            if held <= SMALL_BYTES {
                request.shrink_to_held();
            }
            conn.request = Some(request);
        } else {
            if conn.phase != Phase::Head {
                conn.phase = Phase::Head;
                conn.deadline = Some(now + self.settings.head_time);
            }
            // Whoever sends a byte and waits gets a few bytes of memory, not a buffer.
            request.shrink_to_held();
            conn.request = Some(request);
        }
        self.park.park(conn, READ);
    }

    /// Goes on with what has been read: head, body, answer.
    fn turn(
        self: &Arc<Self>,
        mut conn: Box<Conn<H::Pass>>,
        mut request: Box<Incoming>,
        desk: &mut Desk,
    ) -> Turn<H::Pass> {
        let body_max = self.settings.message_bytes;
        if !request.has_head() {
            match request.read_head(body_max) {
                Ok(true) => {}
                Ok(false) => return Turn::Rest(conn, request),
                Err(fault) => return self.refuse(conn, request, fault, desk),
            }
            conn.minor = request.minor();
            conn.head_only = request.method() == super::http1::Method::Head;
            conn.keep = request.keep_alive() && !self.stopping.load(Ordering::Relaxed);
            conn.since = None;
            match self.guarded(|| self.handler.admit(&request)) {
                Ok(Ok(pass)) => conn.pass = Some(pass),
                Ok(Err(reply)) => {
                    let whole = request.read_body(body_max).unwrap_or(false);
                    return self.answer(conn, request, reply, whole, desk);
                }
                Err(reply) => return self.answer(conn, request, reply, false, desk),
            }
            if request.expects_continue() {
                let parts = [&b"HTTP/1.1 100 Continue\r\n\r\n"[..], b"", b"", b"", b""];
                if conn.send(&parts).is_err() {
                    self.park.close(conn);
                    return Turn::Over;
                }
            }
        }
        match request.read_body(body_max) {
            Ok(true) => {}
            Ok(false) => {
                if conn.grant.cover(request.held(), BODY_BYTES_IN_FLIGHT_MAX) {
                    return Turn::Rest(conn, request);
                }
                return self.refuse(conn, request, Fault::Busy, desk);
            }
            Err(fault) => return self.refuse(conn, request, fault, desk),
        }
        let Some(pass) = conn.pass.take() else {
            self.park.close(conn);
            return Turn::Over;
        };
        if request.held() > LARGE_BYTES {
            standby::give_back();
        }
        match self.guarded(|| self.handler.serve(pass, &request)) {
            Ok(Answer::Reply(reply)) | Err(reply) => self.answer(conn, request, reply, true, desk),
            Ok(Answer::Stream(reply, source)) => {
                self.put_away(&mut conn, request, desk);
                self.pump_for(&conn).attach(conn, Box::new(Fed::new(&reply, source)), false);
                Turn::Over
            }
            Ok(Answer::Relay(producer)) => {
                self.put_away(&mut conn, request, desk);
                self.carry(conn, producer, desk)
            }
        }
    }

    /// Calls into the handler; a panic there is answered 500 and costs nothing but its request.
    fn guarded<T>(&self, call: impl FnOnce() -> T) -> Result<T, Reply> {
        catch_unwind(AssertUnwindSafe(call)).map_err(|_| {
            self.log.error("a request made the program panic and was answered 500", &[]);
            Reply::json(500, r#"{"error":"server_error"}"#)
        })
    }

    /// Keeps what the client sent beyond this request, and gives the rest of the buffer back.
    fn put_away(&self, conn: &mut Conn<H::Pass>, mut request: Box<Incoming>, desk: &mut Desk) {
        conn.grant.release();
        conn.phase = Phase::Idle;
        if request.next() > 0 {
            request.shrink();
            conn.request = Some(request);
        } else {
            desk.keep(request);
        }
    }

    fn refuse(
        self: &Arc<Self>,
        mut conn: Box<Conn<H::Pass>>,
        request: Box<Incoming>,
        fault: Fault,
        desk: &mut Desk,
    ) -> Turn<H::Pass> {
        let head = request.has_head().then_some(&*request);
        let reply = self.guarded(|| self.handler.refuse(head, fault)).unwrap_or_else(|reply| reply);
        if head.is_none() {
            conn.head_only = false;
        }
        self.answer(conn, request, reply, false, desk)
    }

    /// Sends an answer of ours. Where the request was not read to its end, the connection ends with it.
    fn answer(
        self: &Arc<Self>,
        mut conn: Box<Conn<H::Pass>>,
        request: Box<Incoming>,
        reply: Reply,
        whole: bool,
        desk: &mut Desk,
    ) -> Turn<H::Pass> {
        conn.pass = None;
        conn.keep &= whole;
        conn.linger = !whole;
        if whole {
            self.put_away(&mut conn, request, desk);
        } else {
            conn.grant.release();
            desk.keep(request);
        }
        let sent = desk.reply(&mut conn, &reply);
        reply.spare();
        if sent.is_err() {
            self.park.close(conn);
            return Turn::Over;
        }
        if conn.has_unsent() {
            self.park_for(conn, Phase::Writing);
            return Turn::Over;
        }
        self.next_turn(conn, desk)
    }

    /// After an answer went out whole.
    fn next_turn(&self, mut conn: Box<Conn<H::Pass>>, desk: &mut Desk) -> Turn<H::Pass> {
        if conn.keep {
            conn.phase = Phase::Idle;
            let request = conn.request.take().or_else(|| desk.request.take()).unwrap_or_default();
            return Turn::Next(conn, request);
        }
        self.end(conn);
        Turn::Over
    }

    fn answered(self: &Arc<Self>, conn: Box<Conn<H::Pass>>, desk: &mut Desk) {
        let turn = self.next_turn(conn, desk);
        self.go_on(turn, desk);
    }

    /// The MCP server has said something, or can be told more.
    fn answer_came(self: &Arc<Self>, conn: Box<Conn<H::Pass>>, producer: Box<dyn Producer>, desk: &mut Desk) {
        let turn = self.carry(conn, producer, desk);
        self.go_on(turn, desk);
    }

    fn go_on(self: &Arc<Self>, turn: Turn<H::Pass>, desk: &mut Desk) {
        if let Turn::Next(conn, request) = turn {
            if request.held() > 0 {
                self.read(conn, request, desk);
            } else {
                self.wait_for_rest(conn, request, desk);
            }
        }
    }

    /// Ends a connection after its last answer; with the grace that keeps that answer from being lost.
    fn end(&self, mut conn: Box<Conn<H::Pass>>) {
        if !conn.linger {
            self.park.close(conn);
            return;
        }
        let _ = conn.stream.shutdown(std::net::Shutdown::Write);
        conn.deadline = Some(Instant::now() + LINGER_TIME_MAX);
        conn.request = None;
        self.linger(conn);
    }

    /// Reads and forgets, until the client has seen our answer or the bounds are reached.
    fn linger(&self, mut conn: Box<Conn<H::Pass>>) {
        let mut waste = [0_u8; 16 * 1024];
        loop {
            match io::Read::read(&mut &conn.stream, &mut waste) {
                Ok(0) => break,
                Ok(read) => {
                    conn.lingered += read;
                    if conn.lingered > LINGER_BYTES_MAX {
                        break;
                    }
                }
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) if again(&err) => {
                    conn.phase = Phase::Linger;
                    self.park.park(conn, READ);
                    return;
                }
                Err(_) => break,
            }
        }
        self.park.close(conn);
    }

    fn park_for(&self, mut conn: Box<Conn<H::Pass>>, phase: Phase) {
        if conn.phase != phase {
            conn.deadline = Some(Instant::now() + self.settings.write_time);
        }
        conn.phase = phase;
        self.park.park(conn, WRITE);
    }

    /// Carries an answer from the MCP server as long as the worker has patience, then leaves it to a stream thread.
    fn carry(
        self: &Arc<Self>,
        mut conn: Box<Conn<H::Pass>>,
        mut producer: Box<dyn Producer>,
        desk: &mut Desk,
    ) -> Turn<H::Pass> {
        let mut head_sent = false;
        for piece in 0..STEPS_MAX {
            if piece > 1 {
                standby::give_back(); // a long answer makes nobody wait
            }
            match producer.step() {
                Step::Send { head, data, end } => {
                    head_sent |= head.is_some();
                    if conn.deliver(head, data, end).is_err() {
                        drop(producer);
                        self.park.close(conn);
                        return Turn::Over;
                    }
                    if end && !conn.has_unsent() {
                        producer.release();
                        return self.next_turn(conn, desk);
                    }
                    if end {
                        producer.release();
                        self.park_for(conn, Phase::Writing);
                        return Turn::Over;
                    }
                    if conn.has_unsent() {
                        break;
                    }
                }
                // A head without an end is a stream, and streams are not for workers.
                Step::Wait if head_sent => break,
                Step::Wait => match self.wait_for_answer(conn, producer) {
                    Ok(()) => return Turn::Over,
                    Err(back) => {
                        (conn, producer) = back;
                        break;
                    }
                },
                Step::Refuse(reply) if !head_sent => {
                    let sent = desk.reply(&mut conn, &reply);
                    drop(producer);
                    if sent.is_err() {
                        self.park.close(conn);
                        return Turn::Over;
                    }
                    if conn.has_unsent() {
                        self.park_for(conn, Phase::Writing);
                        return Turn::Over;
                    }
                    return self.next_turn(conn, desk);
                }
                Step::Refuse(_) | Step::Cut => {
                    drop(producer);
                    self.park.close(conn);
                    return Turn::Over;
                }
            }
        }
        self.pump_for(&conn).attach(conn, producer, head_sent);
        Turn::Over
    }

    /// Parks a connection until its producer can go on. `Err` gives both back where the producer watches nothing.
    #[expect(clippy::type_complexity, reason = "the two that came in")]
    fn wait_for_answer(
        &self,
        mut conn: Box<Conn<H::Pass>>,
        producer: Box<dyn Producer>,
    ) -> Result<(), (Box<Conn<H::Pass>>, Box<dyn Producer>)> {
        if conn.phase != Phase::Answering {
            conn.phase = Phase::Answering;
            conn.deadline = Some(Instant::now() + WORKER_PATIENCE);
        }
        conn.answer = Some(producer);
        let Err(mut conn) = self.park.park_answer(conn) else { return Ok(()) };
        match conn.answer.take() {
            Some(producer) => Err((conn, producer)),
            None => Ok(()), // it was put in above
        }
    }

    /// The sweeper thread: ends what has waited too long.
    pub(super) fn sweep(self: &Arc<Self>) {
        let mut lines = Vec::new();
        while !self.halted.load(Ordering::Relaxed) {
            if self.counts.all() == 0 {
                std::thread::park_timeout(Duration::from_secs(5));
            } else {
                std::thread::park_timeout(SWEEP_INTERVAL);
            }
            let now = Instant::now();
            let pressed = self.counts.all() > self.settings.connections / 4 * 3;
            let stopping = self.stopping.load(Ordering::Relaxed);
            for mut conn in self.park.sweep(|conn| overdue(conn, now, pressed, stopping)) {
                // A slow answer is a stream thread's, which also notices when the client leaves.
                if let Some(producer) = conn.answer.take() {
                    self.pump_for(&conn).attach(conn, producer, false);
                    continue;
                }
                if matches!(conn.phase, Phase::Head | Phase::Body) {
                    let request = conn.request.take().filter(|request| request.has_head());
                    let refused = self.guarded(|| self.handler.refuse(request.as_deref(), Fault::TooSlow));
                    let reply = refused.unwrap_or_else(|reply| reply);
                    let date = super::conn::http_date(crate::clock::system_since_epoch().as_secs());
                    conn.keep = false;
                    let _ = conn.reply(&reply, &mut lines, &date);
                }
                self.park.close(conn);
            }
        }
    }
}

impl<H: Handler> Home<H::Pass> for Shared<H> {
    fn resume(&self, conn: Box<Conn<H::Pass>>) {
        if !conn.keep {
            self.end(conn);
            return;
        }
        let mut conn = conn;
        let now = Instant::now();
        conn.phase = Phase::Idle;
        conn.since = Some(now);
        conn.deadline = Some(now + self.settings.idle_time);
        // With a next request in the buffer already, being writable brings it to a worker at once.
        let events = if conn.request.is_some() { READ | WRITE } else { READ };
        self.park.park(conn, events);
    }

    fn close(&self, conn: Box<Conn<H::Pass>>) {
        self.park.close(conn);
    }

    fn reply(&self, conn: &mut Conn<H::Pass>, reply: &Reply) -> io::Result<()> {
        let date = super::conn::http_date(crate::clock::system_since_epoch().as_secs());
        conn.reply(reply, &mut Vec::new(), &date)
    }
}
