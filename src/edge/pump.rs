//! Answers that take their time: a thread or two watch both sockets of all of them.
//!
//! ```text
//! worker ── attach(conn, producer) ──▶ inbox ─▶ ┌───────────────────────────┐ ─▶ client sockets
//! feed ──── wake(token) ─────────────▶ inbox ─▶ │ stream thread: epoll over │
//!                                               │ every producer and client │ ◀─ MCP server sockets
//! park ◀── resume(conn), when the answer ended  └───────────────────────────┘
//! ```
//!
//! The thread owns what it carries, so nothing here is locked but the inbox. A piece goes out as it comes in. While a
//! client does not take what it was sent, nothing more is read for it; a client that leaves is seen at once, and the
//! producer is dropped, which ends the request at the MCP server.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};

use super::conn::{Conn, Head};
use super::feed::Source;
use super::wake::Wake;
use crate::reply::Reply;

/// Somebody who makes an answer piece by piece, without ever blocking.
pub trait Producer: Send {
    /// Moves on as far as it goes without waiting.
    fn step(&mut self) -> Step<'_>;

    /// What to wait for after [`Step::Wait`].
    fn watch(&self) -> Watch<'_>;

    /// When waiting is over; then [`Producer::expire`] is called.
    fn deadline(&self) -> Option<Instant>;

    /// The deadline has passed.
    fn expire(&mut self) -> Step<'_>;

    /// Whether this is an answer without an end in sight, which a stopping server need not wait for.
    fn is_endless(&self) -> bool;

    /// Nothing watches its descriptor any longer and the answer went out whole: what can be used again may be.
    fn release(self: Box<Self>) {}

    /// A stream thread took it over; the waker is for producers without a descriptor.
    fn attached(&mut self, _waker: Waker) {}
}

/// What a producer waits for.
#[derive(Clone, Copy, Debug)]
pub enum Watch<'a> {
    /// A [`Waker`].
    Nothing,
    /// Its descriptor, until there is something to read. The number changes with the descriptor.
    Read(BorrowedFd<'a>, u32),
    /// Its descriptor, until there is room to write or something to read.
    Write(BorrowedFd<'a>, u32),
}

/// How far a producer came.
#[derive(Debug)]
pub enum Step<'a> {
    /// Nothing to send before what it watches is ready.
    Wait,
    /// A piece of the answer.
    Send {
        /// The head, with the first piece.
        head: Option<Head<'a>>,
        /// Bytes of the body.
        data: &'a [u8],
        /// Whether these are the last.
        end: bool,
    },
    /// An answer of ours instead, as long as no head was sent.
    Refuse(Box<Reply>),
    /// The answer broke off: the client must see that it is not whole.
    Cut,
}

/// Wakes the stream thread for one of its producers.
#[derive(Clone)]
pub struct Waker {
    inbox: Weak<dyn Wakes>,
    token: u64,
}

impl std::fmt::Debug for Waker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Waker({})", self.token)
    }
}

impl Waker {
    pub(crate) fn wake(&self) {
        if let Some(inbox) = self.inbox.upgrade() {
            inbox.wake_up(self.token);
        }
    }
}

trait Wakes: Send + Sync {
    fn wake_up(&self, token: u64);
}

/// The way into a stream thread.
pub(crate) struct Inbox<P> {
    wake: Wake,
    commands: Mutex<Vec<Command<P>>>,
}

enum Command<P> {
    Attach(Box<Conn<P>>, Box<dyn Producer>, bool),
    Wake(u64),
    /// End what has no end of its own.
    Drain,
    /// End everything, and the thread.
    Halt,
}

impl<P: Send> Wakes for Inbox<P> {
    fn wake_up(&self, token: u64) {
        self.put(Command::Wake(token));
    }
}

impl<P: Send> Inbox<P> {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { wake: Wake::new()?, commands: Mutex::new(Vec::new()) })
    }

    /// Hands an answer over. `head_sent` says whether its head is already on its way.
    pub(crate) fn attach(&self, conn: Box<Conn<P>>, producer: Box<dyn Producer>, head_sent: bool) {
        self.put(Command::Attach(conn, producer, head_sent));
    }

    pub(crate) fn drain(&self) {
        self.put(Command::Drain);
    }

    pub(crate) fn halt(&self) {
        self.put(Command::Halt);
    }

    fn put(&self, command: Command<P>) {
        // Bounded without a number of its own: a connection is attached once, and a wake is only put where there is
        // none for the same token.
        let mut commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        if let Command::Wake(token) = command
            && commands.iter().rev().take(8).any(|c| matches!(c, Command::Wake(t) if *t == token))
        {
            return;
        }
        let first = commands.is_empty();
        commands.push(command);
        drop(commands);
        if first {
            self.wake.wake();
        }
    }
}

struct Entry<P> {
    conn: Box<Conn<P>>,
    producer: Box<dyn Producer>,
    generation: u32,
    head_sent: bool,
    ended: bool,
    /// What the client's socket is registered for.
    client: EventFlags,
    /// The producer's descriptor, its number and what it is registered for.
    source: Option<(RawFd, u32, EventFlags)>,
    stalled: Option<Instant>,
}

/// Where connections go when their answer has ended.
pub(crate) trait Home<P>: Send + Sync {
    /// The answer went out whole.
    fn resume(&self, conn: Box<Conn<P>>);
    /// The connection is of no more use.
    fn close(&self, conn: Box<Conn<P>>);
    /// Sends an answer of ours on it; what the socket does not take is kept.
    fn reply(&self, conn: &mut Conn<P>, reply: &Reply) -> io::Result<()>;
}

/// A stream thread's state.
pub(crate) struct Pump<P, H: Home<P>> {
    epoll: OwnedFd,
    inbox: Arc<Inbox<P>>,
    home: Arc<H>,
    entries: Vec<Option<Entry<P>>>,
    free: Vec<usize>,
    generation: u32,
    again: Vec<u64>,
    write_time: Duration,
    draining: bool,
}

const WAKE_TOKEN: u64 = u64::MAX;
/// Pieces for one client before the others have their turn.
pub(super) const STEPS_MAX: usize = 16;
const TICK: Duration = Duration::from_millis(100);

impl<P: Send + 'static, H: Home<P>> Pump<P, H> {
    pub(crate) fn new(inbox: Arc<Inbox<P>>, home: Arc<H>, write_time: Duration) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &inbox.wake, EventData::new_u64(WAKE_TOKEN), EventFlags::IN)?;
        Ok(Self {
            epoll,
            inbox,
            home,
            entries: Vec::new(),
            free: Vec::new(),
            generation: 0,
            again: Vec::new(),
            write_time,
            draining: false,
        })
    }

    /// Runs until [`Inbox::halt`].
    pub(crate) fn run(&mut self) {
        let mut events = Vec::with_capacity(256);
        let mut swept = Instant::now();
        loop {
            let busy = self.entries.len() > self.free.len();
            let wait = if self.again.is_empty() { TICK } else { Duration::ZERO };
            let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(wait.subsec_nanos()) };
            events.clear();
            let waited = epoll::wait(
                &self.epoll,
                rustix::buffer::spare_capacity(&mut events),
                busy.then_some(&timeout),
            );
            if waited.is_err() {
                events.clear(); // interrupted
            }
            for token in std::mem::take(&mut self.again) {
                self.move_on(token);
            }
            for event in &events {
                let (data, flags) = (event.data.u64(), event.flags);
                if data == WAKE_TOKEN {
                    self.inbox.wake.clear();
                } else {
                    self.ready(data, flags);
                }
            }
            let commands = {
                let mut commands = self.inbox.commands.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::take(&mut *commands)
            };
            for command in commands {
                match command {
                    Command::Attach(conn, producer, head_sent) => self.attach(conn, producer, head_sent),
                    Command::Wake(token) => self.move_on(token),
                    Command::Drain => self.drain(),
                    Command::Halt => {
                        for index in 0..self.entries.len() {
                            self.drop_entry(index);
                        }
                        return;
                    }
                }
            }
            let now = Instant::now();
            if now.duration_since(swept) >= TICK {
                swept = now;
                self.sweep(now);
            }
        }
    }

    fn attach(&mut self, conn: Box<Conn<P>>, producer: Box<dyn Producer>, head_sent: bool) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            self.entries.len() - 1
        });
        self.generation = self.generation.wrapping_add(1) & 0x7fff_ffff;
        let token = token(index, self.generation);
        let client = EventFlags::RDHUP;
        let registered = epoll::add(&self.epoll, &conn.stream, EventData::new_u64(token | CLIENT), client);
        let mut entry = Entry {
            conn,
            producer,
            generation: self.generation,
            head_sent,
            ended: false,
            client,
            source: None,
            stalled: None,
        };
        if registered.is_err() || self.draining && entry.producer.is_endless() {
            self.free.push(index);
            self.home.close(entry.conn);
            return;
        }
        let inbox: Weak<Inbox<P>> = Arc::downgrade(&self.inbox);
        entry.producer.attached(Waker { inbox, token });
        if let Some(place) = self.entries.get_mut(index) {
            *place = Some(entry);
        }
        self.move_on(token);
    }

    fn entry(&mut self, token: u64) -> Option<(usize, &mut Entry<P>)> {
        let (index, generation) = untoken(token);
        let entry = self.entries.get_mut(index)?.as_mut()?;
        (entry.generation == generation).then_some((index, entry))
    }

    fn ready(&mut self, data: u64, flags: EventFlags) {
        let client = data & CLIENT != 0;
        let Some((index, _)) = self.entry(data & !CLIENT) else { return };
        if client && flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR) {
            self.drop_entry(index); // gone: what it asked for is of no use to anyone
            return;
        }
        self.move_on(data & !CLIENT);
    }

    /// Carries one answer as far as it goes.
    fn move_on(&mut self, token: u64) {
        let Some((index, entry)) = self.entry(token) else { return };
        match carry(entry, STEPS_MAX) {
            Carried::Waits => self.rearm(index, token),
            Carried::HasMore => {
                self.again.push(token);
                self.rearm(index, token);
            }
            Carried::Whole => self.finish(index, true),
            Carried::Refused(reply) => self.refuse(index, token, &reply),
            Carried::Broken => self.drop_entry(index),
        }
    }

    fn refuse(&mut self, index: usize, token: u64, reply: &Reply) {
        let home = Arc::clone(&self.home);
        let Some((_, entry)) = self.entry(token) else { return };
        entry.ended = true;
        entry.head_sent = true;
        let sent = home.reply(&mut entry.conn, reply);
        match (sent, entry.conn.has_unsent()) {
            (Err(_), _) => self.drop_entry(index),
            (Ok(()), true) => self.rearm(index, token),
            (Ok(()), false) => self.finish(index, false),
        }
    }

    /// Registers what the entry waits for now.
    fn rearm(&mut self, index: usize, token: u64) {
        let epoll = &self.epoll;
        let Some(Some(entry)) = self.entries.get_mut(index) else { return };
        let unsent = entry.conn.has_unsent();
        let client = if unsent { EventFlags::RDHUP | EventFlags::OUT } else { EventFlags::RDHUP };
        let mut failed = false;
        if client != entry.client {
            let data = EventData::new_u64(token | CLIENT);
            failed |= epoll::modify(epoll, &entry.conn.stream, data, client).is_err();
            entry.client = client;
        }
        let watch = if entry.ended { Watch::Nothing } else { entry.producer.watch() };
        let wanted = match watch {
            // Taken out, not only masked: a hang-up is reported whatever the mask says, again and again.
            Watch::Nothing => None,
            Watch::Read(fd, number) => (!unsent).then_some((fd, number, EventFlags::IN | EventFlags::RDHUP)),
            // Who answers before it has read all is heard too.
            Watch::Write(fd, number) => Some((fd, number, EventFlags::OUT | EventFlags::IN)),
        };
        let before = entry.source.take();
        if let Some((fd, number, flags)) = wanted {
            let data = EventData::new_u64(token);
            match before {
                Some((_, same, had)) if same == number && had == flags => {}
                Some((_, same, _)) if same == number => {
                    failed |= epoll::modify(epoll, fd, data, flags).is_err()
                }
                _ => failed |= epoll::add(epoll, fd, data, flags).is_err(),
            }
            entry.source = Some((fd.as_raw_fd(), number, flags));
        } else if let (Some((_, had, _)), Watch::Read(fd, number) | Watch::Write(fd, number)) =
            (before, watch)
            && had == number
        {
            let _ = epoll::delete(epoll, fd);
        }
        if unsent && entry.stalled.is_none() {
            entry.stalled = Some(Instant::now() + self.write_time);
        }
        if failed {
            self.drop_entry(index);
        }
    }

    fn sweep(&mut self, now: Instant) {
        for index in 0..self.entries.len() {
            let Some(Some(entry)) = self.entries.get_mut(index) else { continue };
            if entry.stalled.is_some_and(|deadline| deadline <= now) {
                self.drop_entry(index);
                continue;
            }
            if entry.ended || entry.producer.deadline().is_none_or(|deadline| deadline > now) {
                continue;
            }
            let token = token(index, entry.generation);
            match entry.producer.expire() {
                Step::Refuse(reply) if !entry.head_sent => {
                    let reply = *reply;
                    self.refuse(index, token, &reply);
                }
                Step::Send { end: true, .. } if entry.head_sent && !entry.conn.has_unsent() => {
                    // A stream that is over by rule, not by fault, ends as a whole one.
                    let ended = entry.conn.deliver(None, &[], true).is_ok();
                    entry.conn.keep = false;
                    if ended { self.finish(index, false) } else { self.drop_entry(index) }
                }
                Step::Wait => {}
                _ => self.drop_entry(index),
            }
        }
    }

    /// The server stops: streams without an end are ended as whole ones, everything else may finish.
    fn drain(&mut self) {
        self.draining = true;
        for index in 0..self.entries.len() {
            let Some(Some(entry)) = self.entries.get_mut(index) else { continue };
            entry.conn.keep = false;
            if !entry.ended && entry.producer.is_endless() {
                if entry.head_sent && !entry.conn.has_unsent() {
                    let _ = entry.conn.deliver(None, &[], true);
                }
                self.drop_entry(index);
            }
        }
    }

    fn finish(&mut self, index: usize, whole: bool) {
        let Some(entry) = self.remove(index) else { return };
        if whole {
            entry.producer.release();
        } else {
            drop(entry.producer);
        }
        self.home.resume(entry.conn);
    }

    fn drop_entry(&mut self, index: usize) {
        if let Some(entry) = self.remove(index) {
            drop(entry.producer);
            self.home.close(entry.conn);
        }
    }

    fn remove(&mut self, index: usize) -> Option<Entry<P>> {
        let entry = self.entries.get_mut(index)?.take()?;
        self.free.push(index);
        let _ = epoll::delete(&self.epoll, &entry.conn.stream);
        if entry.source.is_some()
            && let Watch::Read(fd, _) | Watch::Write(fd, _) = entry.producer.watch()
        {
            let _ = epoll::delete(&self.epoll, fd);
        }
        Some(entry)
    }
}

enum Carried {
    Waits,
    HasMore,
    Whole,
    Refused(Box<Reply>),
    Broken,
}

fn carry<P>(entry: &mut Entry<P>, most: usize) -> Carried {
    for _ in 0..most {
        if entry.conn.has_unsent() {
            match entry.conn.flush() {
                Ok(true) => entry.stalled = None,
                Ok(false) => return Carried::Waits,
                Err(_) => return Carried::Broken,
            }
        }
        if entry.ended {
            return Carried::Whole;
        }
        match entry.producer.step() {
            Step::Wait => return Carried::Waits,
            Step::Send { head, data, end } => {
                entry.head_sent |= head.is_some();
                if entry.conn.deliver(head, data, end).is_err() {
                    return Carried::Broken;
                }
                entry.ended = end;
                if end && !entry.conn.has_unsent() {
                    return Carried::Whole;
                }
            }
            Step::Refuse(reply) if !entry.head_sent => return Carried::Refused(reply),
            Step::Refuse(_) | Step::Cut => return Carried::Broken,
        }
    }
    Carried::HasMore
}

/// Marks the event of a client's socket, against that of the producer's.
const CLIENT: u64 = 1 << 63;

fn token(index: usize, generation: u32) -> u64 {
    u64::from(generation) << 32 | index as u64
}

fn untoken(token: u64) -> (usize, u32) {
    let generation = u32::try_from(token >> 32).unwrap_or(u32::MAX);
    (usize::try_from(token & 0xffff_ffff).unwrap_or(usize::MAX), generation)
}

/// The producer of an answer that comes through a [`super::feed::Feed`].
pub(crate) struct Fed {
    lines: Option<Vec<u8>>,
    source: Source,
    piece: Vec<u8>,
}

impl Fed {
    pub(crate) fn new(reply: &Reply, source: Source) -> Self {
        let mut lines = Vec::with_capacity(256);
        super::conn::status_line(&mut lines, reply.status);
        super::conn::header_lines(&mut lines, reply);
        Self { lines: Some(lines), source, piece: reply.body.clone() }
    }
}

impl Producer for Fed {
    fn step(&mut self) -> Step<'_> {
        if let Some(lines) = self.lines.take() {
            let body = std::mem::replace(&mut self.piece, lines);
            if body.is_empty() {
                let head = Head { lines: &self.piece, length: None, bodyless: false };
                return Step::Send { head: Some(head), data: &[], end: false };
            }
            let at = self.piece.len();
            self.piece.extend_from_slice(&body);
            let (lines, data) = self.piece.split_at(at);
            return Step::Send {
                head: Some(Head { lines, length: None, bodyless: false }),
                data,
                end: false,
            };
        }
        match self.source.take() {
            Ok(Some(piece)) => {
                self.piece = piece;
                Step::Send { head: None, data: &self.piece, end: false }
            }
            Ok(None) => Step::Wait,
            Err(_) => Step::Send { head: None, data: &[], end: true },
        }
    }

    fn watch(&self) -> Watch<'_> {
        Watch::Nothing
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }

    fn expire(&mut self) -> Step<'_> {
        Step::Wait
    }

    fn is_endless(&self) -> bool {
        true
    }

    fn attached(&mut self, waker: Waker) {
        self.source.set_waker(waker);
    }
}
