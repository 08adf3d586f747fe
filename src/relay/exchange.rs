//! One request to the MCP server and its answer, as a state machine that never blocks.
//!
//! ```text
//! Connecting ──▶ Waiting (sends what is left, reads the head) ──▶ Body ──▶ Done
//!     ▲              │ stale link, nothing heard, safe to repeat; or a redirect within the server
//!     └──── once ────┘
//! ```
//!
//! A worker steps it, and when the answer takes its time a stream thread does. An event stream goes out piece by piece,
//! as it comes in, and has no deadline but the one for silence. Any other answer is gathered until it is whole or fills
//! the buffer, so that the usual one leaves in one write, and it has to be whole within the time for an answer.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::answer::{AnswerHead, Framing};
use super::redirect;
use super::socket::Address;
use super::sse::EndpointRewriter;
use super::upstream::{Link, Pool};
use crate::edge::chunked::Chunked;
use crate::edge::{Head, Step, Watch};
use crate::header;
use crate::limits::{HEAD_BYTES_MAX, INTERIM_ANSWERS_MAX, RELAY_CHUNK_BYTES, REPLAY_BYTES_MAX};
use crate::reply::{Reply, UpstreamFault};
use crate::spare;

/// What an exchange asks of whoever began it.
pub(crate) trait Context: Send {
    /// The answer begins: writes the lines that the client gets, without framing and the empty line.
    ///
    /// # Errors
    /// An answer of ours instead.
    fn begin(&mut self, answer: &AnswerHead<'_>, lines: &mut Vec<u8>) -> Result<(), Box<Reply>>;

    /// There is no answer that could be relayed.
    fn fail(&mut self, fault: UpstreamFault, why: &dyn std::fmt::Display) -> Box<Reply>;

    /// The answer broke off after its head was relayed.
    fn broke_off(&mut self, why: &dyn std::fmt::Display);

    /// A stream was ended by rule, not by fault.
    fn ended(&mut self, why: &dyn std::fmt::Display);
}

/// What is sent, and how long it may take.
pub(crate) struct Order<'a> {
    /// The head, whole.
    pub(crate) head: Vec<u8>,
    /// The body.
    pub(crate) body: &'a [u8],
    /// Whether its target is one that the MCP server redirected to earlier.
    pub(crate) followed: bool,
    /// Whether the same request may be sent twice (RFC 9110 section 9.2.2).
    pub(crate) idempotent: bool,
    /// Whether the method is HEAD, whose answers have no body.
    pub(crate) head_only: bool,
    /// Whether this asks for a stream that has no end of its own.
    pub(crate) endless: bool,
    /// Connecting, sending and waiting for the first byte together.
    pub(crate) first_byte_timeout: Duration,
    /// Longest silence on an event stream.
    pub(crate) stream_idle_time: Option<Duration>,
    /// When an event stream ends, whatever comes on it: with the token that opened it.
    pub(crate) stream_ends: Option<Instant>,
    /// Rewrites `endpoint` events, for the stream of HTTP+SSE.
    pub(crate) rewriter: Option<Box<EndpointRewriter>>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Connecting,
    Waiting,
    Body,
    Done,
}

/// How the end of the answer's body is found.
enum Rest {
    Length(u64),
    Chunked(Chunked),
    UntilClose,
}

/// A request under way.
pub(crate) struct Exchange<C> {
    pool: Arc<Pool>,
    context: C,
    state: State,
    link: Option<Link>,
    address: Option<Address>,
    others: Vec<Address>,
    /// Head and body again, as long as they may have to be sent (again).
    request: Vec<u8>,
    followed: bool,
    redirected: bool,
    interim: usize,
    idempotent: bool,
    head_only: bool,
    endless: bool,
    deadline: Option<Instant>,
    first_byte_timeout: Duration,
    stream_idle_time: Option<Duration>,
    stream_ends: Option<Instant>,
    rewriter: Option<Box<EndpointRewriter>>,
    /// `buf[..data]` goes out next, `buf[raw..filled]` was read and not looked at.
    buf: Vec<u8>,
    data: usize,
    raw: usize,
    filled: usize,
    rewritten: Vec<u8>,
    /// Whether that data was given out to be sent. What is only gathered stays.
    given: bool,
    rest: Rest,
    ended: bool,
    stream: bool,
    length: Option<u64>,
    bodyless: bool,
    lines: Vec<u8>,
    head_sent: bool,
    reusable: bool,
    /// The socket gave less than was asked for, so there is nothing more before it is ready again.
    drained: bool,
}

/// Why the exchange goes no further.
enum Stop {
    Wait,
    Fault(UpstreamFault, String),
    Refused(Box<Reply>),
}

impl<C: Context> Exchange<C> {
    /// Sends the request on an idle link, or begins to connect one.
    pub(crate) fn begin(pool: &Arc<Pool>, order: Order<'_>, context: C) -> Self {
        let mut exchange = Self {
            pool: Arc::clone(pool),
            context,
            state: State::Connecting,
            link: None,
            address: None,
            others: Vec::new(),
            request: Vec::new(),
            followed: order.followed,
            redirected: false,
            interim: 0,
            idempotent: order.idempotent,
            head_only: order.head_only,
            endless: order.endless,
            deadline: Some(Instant::now() + order.first_byte_timeout),
            first_byte_timeout: order.first_byte_timeout,
            stream_idle_time: order.stream_idle_time,
            stream_ends: order.stream_ends,
            rewriter: order.rewriter,
            buf: Vec::new(),
            data: 0,
            raw: 0,
            filled: 0,
            rewritten: Vec::new(),
            given: false,
            rest: Rest::Length(0),
            ended: false,
            stream: false,
            length: None,
            bodyless: false,
            lines: Vec::new(),
            head_sent: false,
            reusable: false,
            drained: false,
        };
        let (mut head, mut body) = (order.head, order.body);
        let small = head.len() + body.len() <= REPLAY_BYTES_MAX;
        if small || order.idempotent {
            // It is kept, so it may as well be sent in one piece.
            head.extend_from_slice(body);
            body = &[];
        }
        exchange.send_on_idle_link(&head, body);
        // No answer is there before the request is, so the socket is not asked for one.
        exchange.drained =
            exchange.link.as_ref().is_some_and(|link| !link.has_unsent() && !link.reads_ahead());
        if exchange.link.is_none() || small || order.idempotent {
            head.extend_from_slice(body);
            exchange.request = head;
        } else {
            spare::put_bytes(head);
        }
        if exchange.link.is_none() {
            exchange.others = pool.addresses();
        }
        exchange
    }

    fn send_on_idle_link(&mut self, head: &[u8], body: &[u8]) {
        while let Some(mut link) = self.pool.take() {
            if link.send(head, body).is_ok() {
                self.link = Some(link);
                self.state = State::Waiting;
                return;
            }
            // Nothing of it left: a failed write on a link that was closed meanwhile sends no byte.
        }
    }

    /// Moves on until there is something to send, something to wait for, or a fault.
    fn advance(&mut self) -> Result<(), Stop> {
        if std::mem::take(&mut self.given) {
            self.forget_sent();
        }
        if std::mem::take(&mut self.drained) {
            return Err(Stop::Wait);
        }
        loop {
            match self.state {
                State::Connecting => self.connect()?,
                State::Waiting => self.wait_for_head()?,
                State::Body => {
                    self.decode()?;
                    let full = self.data + 1024 > RELAY_CHUNK_BYTES;
                    if self.ended || full || self.stream && (self.data > 0 || !self.head_sent) {
                        return Ok(());
                    }
                    if std::mem::take(&mut self.drained) {
                        return Err(Stop::Wait);
                    }
                    self.read_body()?;
                }
                State::Done => return Ok(()),
            }
        }
    }

    /// Takes the data that went out off the buffer.
    fn forget_sent(&mut self) {
        if self.data > 0 {
            self.buf.copy_within(self.raw..self.filled, 0);
            self.filled -= self.raw;
            self.raw = 0;
            self.data = 0;
        }
        self.rewritten.clear();
    }

    fn connect(&mut self) -> Result<(), Stop> {
        loop {
            let failed = match (&self.link, &self.address) {
                (Some(link), Some(address)) => match link.is_connected() {
                    Ok(false) => return Err(Stop::Wait),
                    Ok(true) => {
                        self.pool.worked(address);
                        break;
                    }
                    Err(err) => format!("{address}: {err}"),
                },
                _ => "its name is not resolved".to_owned(),
            };
            self.link = None;
            if self.others.is_empty() {
                return Err(Stop::Fault(UpstreamFault::Unreachable, failed));
            }
            let next = self.others.remove(0);
            match self.pool.connect(&next) {
                Ok(link) => self.link = Some(link),
                Err(err) if self.others.is_empty() => {
                    return Err(Stop::Fault(UpstreamFault::Unreachable, format!("{next}: {err}")));
                }
                Err(_) => {}
            }
            self.address = Some(next);
        }
        if let Some(link) = &mut self.link {
            link.send(&self.request, &[])
                .map_err(|err| Stop::Fault(UpstreamFault::Unreachable, err.to_string()))?;
        }
        if self.request.len() > REPLAY_BYTES_MAX {
            self.request = Vec::new();
        }
        self.state = State::Waiting;
        Ok(())
    }

    fn wait_for_head(&mut self) -> Result<(), Stop> {
        // Who refuses a large body may answer before it has read it, and then closes: the answer counts.
        let sent = self.link.as_mut().is_none_or(|link| !link.has_unsent() || link.flush().unwrap_or(true));
        let space = HEAD_BYTES_MAX + RELAY_CHUNK_BYTES;
        match self.receive(space) {
            Ok(0) => return self.start_again("it closed the connection without an answer"),
            Ok(_) => {}
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => return Err(Stop::Wait),
            Err(err) => return self.start_again(&err.to_string()),
        }
        // A head stays where it was read, so the buffer is held beside us while it is looked at.
        let buf = std::mem::take(&mut self.buf);
        let taken = self.take_heads(&buf, sent);
        self.buf = buf;
        if self.state == State::Body {
            // Its bytes are of no more use: what was read behind it moves to the front.
            self.buf.copy_within(self.raw..self.filled, 0);
            self.filled -= self.raw;
            self.raw = 0;
        }
        taken
    }

    /// Takes the heads that have arrived whole: any number of interim ones, and the one of the answer.
    fn take_heads(&mut self, buf: &[u8], sent: bool) -> Result<(), Stop> {
        loop {
            let unread = buf.get(self.raw..self.filled).unwrap_or_default();
            let bad = |bad: super::answer::BadAnswer| Stop::Fault(UpstreamFault::BadAnswer, bad.to_string());
            let Some((head, used)) = AnswerHead::read(unread, self.head_only).map_err(bad)? else {
                return Ok(());
            };
            self.raw += used;
            if !head.is_interim() {
                if self.redirect(&head, sent) {
                    return Ok(());
                }
                return self.take_head(&head, sent);
            }
            self.interim += 1;
            if self.interim > INTERIM_ANSWERS_MAX {
                return Err(self.broken("it sent one interim answer after the other"));
            }
        }
    }

    /// Sends the request to another path of the same server, where the answer asks for that and it has not happened
    /// before. The link is given up with the rest of the answer on it: the next request knows the way.
    fn redirect(&mut self, head: &AnswerHead<'_>, sent: bool) -> bool {
        if self.followed && matches!(head.status(), 404 | 405) {
            self.pool.lost();
        }
        if !matches!(head.status(), 307 | 308) || self.redirected || !sent {
            return false;
        }
        let (Some((place, from)), Some(location)) =
            (redirect::target_in(&self.request), head.header(header::LOCATION))
        else {
            return false;
        };
        let Some(to) = self.pool.redirected(from, location) else { return false };
        self.request.splice(place, to.into_bytes());
        self.redirected = true;
        (self.raw, self.filled, self.interim) = (0, 0, 0);
        let request = std::mem::take(&mut self.request);
        self.link = None;
        self.send_on_idle_link(&request, &[]);
        self.request = request;
        if self.link.is_none() {
            self.connect_anew();
        }
        true
    }

    fn connect_anew(&mut self) {
        self.link = None;
        self.address = None;
        self.others = self.pool.addresses();
        self.state = State::Connecting;
    }

    fn take_head(&mut self, head: &AnswerHead<'_>, sent: bool) -> Result<(), Stop> {
        self.lines = spare::bytes();
        self.context.begin(head, &mut self.lines).map_err(Stop::Refused)?;
        self.state = State::Body;
        spare::put_bytes(std::mem::take(&mut self.request));
        self.stream = head.is_event_stream();
        self.bodyless = matches!(head.status(), 204 | 304);
        self.reusable = head.keep_alive() && sent;
        self.data = 0;
        if !self.stream {
            self.rewriter = None;
        }
        match head.framing() {
            Framing::None => {
                self.ended = true;
                self.length = head.content_length();
            }
            Framing::Length(length) => {
                self.rest = Rest::Length(length);
                self.length = self.rewriter.is_none().then_some(length);
                self.ended = length == 0;
            }
            Framing::Chunked => self.rest = Rest::Chunked(Chunked::default()),
            Framing::UntilClose => {
                self.rest = Rest::UntilClose;
                self.reusable = false;
            }
        }
        self.deadline =
            if self.stream { self.stream_idle_time.map(|time| Instant::now() + time) } else { self.deadline };
        Ok(())
    }

    /// The link failed before a byte of the answer came. A link that was idle may have been closed by its other end at
    /// the moment we used it; what may be repeated is then sent once more on a new one.
    fn start_again(&mut self, why: &str) -> Result<(), Stop> {
        let reused = self.link.as_ref().is_some_and(|link| link.reused);
        if !reused || !self.idempotent || self.filled > 0 || self.interim > 0 {
            return Err(Stop::Fault(UpstreamFault::BadAnswer, why.to_owned()));
        }
        self.connect_anew();
        Ok(())
    }

    fn read_body(&mut self) -> Result<(), Stop> {
        match self.receive(RELAY_CHUNK_BYTES) {
            Ok(0) if matches!(self.rest, Rest::UntilClose) => self.ended = true,
            Ok(0) => return Err(self.broken("it closed the connection in the middle of its answer")),
            Ok(_) => {
                if self.stream {
                    self.deadline = self.stream_idle_time.map(|time| Instant::now() + time);
                }
            }
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => return Err(Stop::Wait),
            Err(err) => return Err(self.broken(&err.to_string())),
        }
        Ok(())
    }

    fn broken(&self, why: &str) -> Stop {
        Stop::Fault(UpstreamFault::BadAnswer, why.to_owned())
    }

    fn receive(&mut self, space: usize) -> io::Result<usize> {
        if self.buf.is_empty() {
            self.buf = spare::chunk();
        }
        if self.buf.len() < self.filled + space / 4 {
            self.buf.resize(self.filled + space / 2, 0);
        }
        let into = self.buf.get_mut(self.filled..).unwrap_or_default();
        let link = self.link.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        let room = into.len();
        let read = link.receive(into)?;
        self.filled += read;
        self.drained = read > 0 && read < room && !link.reads_ahead() && self.state == State::Body;
        Ok(read)
    }

    /// Finds the data in what was read: `buf[..data]`.
    fn decode(&mut self) -> Result<(), Stop> {
        while self.raw < self.filled && !self.ended {
            let unread = self.buf.get(self.raw..self.filled).unwrap_or_default();
            let (used, data) = match &mut self.rest {
                Rest::UntilClose => (unread.len(), 0..unread.len()),
                Rest::Length(left) => {
                    let take = usize::try_from(*left).map_or(unread.len(), |left| left.min(unread.len()));
                    *left -= take as u64;
                    self.ended = *left == 0;
                    (take, 0..take)
                }
                Rest::Chunked(chunked) => match chunked.step(unread) {
                    Ok(step) => {
                        self.ended = step.done;
                        (step.used, step.data)
                    }
                    Err(bad) => return Err(self.broken(bad.0)),
                },
            };
            let (from, to) = (self.raw + data.start, self.raw + data.end);
            if let Some(rewriter) = &mut self.rewriter {
                let data = self.buf.get(from..to).unwrap_or_default();
                if let Err(fault) = rewriter.push(data, &mut self.rewritten) {
                    return Err(self.broken(&fault.to_string()));
                }
                self.data = self.raw + used;
            } else {
                self.buf.copy_within(from..to, self.data);
                self.data += data.len();
            }
            self.raw += used;
        }
        Ok(())
    }

    fn fault(&mut self, fault: UpstreamFault, why: &str) -> Step<'_> {
        self.state = State::Done;
        self.reusable = false;
        if self.head_sent {
            self.context.broke_off(&why);
            return Step::Cut;
        }
        Step::Refuse(self.context.fail(fault, &why))
    }
}

impl<C> Drop for Exchange<C> {
    fn drop(&mut self) {
        spare::put_chunk(std::mem::take(&mut self.buf));
        spare::put_bytes(std::mem::take(&mut self.request));
        spare::put_bytes(std::mem::take(&mut self.lines));
    }
}

/// What a [`Producer`] is asked.
impl<C: Context> Exchange<C> {
    pub(crate) fn step(&mut self) -> Step<'_> {
        match self.advance() {
            Ok(()) => {}
            Err(Stop::Wait) => {
                if self.filled == 0 {
                    spare::put_chunk(std::mem::take(&mut self.buf)); // who waits holds two sockets and little more
                    if self.stream {
                        spare::put_bytes(std::mem::take(&mut self.lines));
                    }
                }
                return Step::Wait;
            }
            Err(Stop::Refused(reply)) => {
                self.state = State::Done;
                return Step::Refuse(reply);
            }
            Err(Stop::Fault(fault, why)) => return self.fault(fault, &why),
        }
        self.given = true;
        let first = !std::mem::replace(&mut self.head_sent, true);
        if self.ended {
            self.state = State::Done;
        }
        let head = Head { lines: &self.lines, length: self.length, bodyless: self.bodyless };
        let data = match &self.rewriter {
            Some(_) => &self.rewritten,
            None => self.buf.get(..self.data).unwrap_or_default(),
        };
        Step::Send { head: first.then_some(head), data, end: self.ended }
    }

    pub(crate) fn watch(&self) -> Watch<'_> {
        match &self.link {
            None => Watch::Nothing,
            Some(link) if self.state == State::Connecting || link.has_unsent() => {
                Watch::Write(link.fd(), link.number)
            }
            Some(link) => Watch::Read(link.fd(), link.number),
        }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        match (self.deadline, self.stream_ends.filter(|_| self.stream)) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    pub(crate) fn expire(&mut self) -> Step<'_> {
        if self.stream && self.head_sent && self.stream_ends.is_some_and(|end| end <= Instant::now()) {
            self.state = State::Done;
            self.reusable = false;
            self.context.ended(&"the token that opened it has expired");
            return Step::Send { head: None, data: &[], end: true };
        }
        let why = if self.stream {
            "nothing came on the stream for too long".to_owned()
        } else {
            format!("no answer within {} s", self.first_byte_timeout.as_secs())
        };
        let connecting = self.state == State::Connecting;
        self.fault(if connecting { UpstreamFault::Unreachable } else { UpstreamFault::TimedOut }, &why)
    }

    pub(crate) fn is_endless(&self) -> bool {
        self.endless
    }

    /// Gives the link back, where it can be used again.
    pub(crate) fn release(&mut self) {
        if self.reusable
            && self.ended
            && self.raw == self.filled
            && let Some(link) = self.link.take()
        {
            self.pool.put_back(link);
        }
    }
}
