//! The streams of one legacy session, and on which of them a message goes out: exactly one (SH-09).
//!
//! Each POST with a request has one. Its first message decides its form: an answer makes it JSON, anything else, or
//! [`STDIO_JSON_TIME_MAX`] without a word, makes it an event stream. The standing stream is that of GET, or the only one
//! of HTTP+SSE; what has no place else waits there, bounded, until a client listens. Where the revision allows it, events
//! have ids, the first is empty and comes at once (SH-05), and a ring keeps the last ones for a client that comes back.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use super::outlet::{Outlet, event_stream};
use super::replay::{EventId, Ring};
use crate::header;
use crate::limits::{
    STDIO_JSON_TIME_MAX, STDIO_KEEP_ALIVE, STDIO_PARKED_BYTES_MAX, STDIO_PARKED_MAX, STDIO_RETRY_MILLIS,
};
use crate::reply::{HeaderValue, Reply};

/// The number of the standing stream.
pub(super) const STANDING: u32 = 0;

/// The streams of one session.
pub(super) struct Streams {
    /// Whether a stream that broke can be gone on with.
    resumes: bool,
    next: u32,
    posts: BTreeMap<u32, Post>,
    standing: Standing,
    ring: Ring,
}

struct Standing {
    outlet: Option<Outlet>,
    parked: VecDeque<String>,
    parked_bytes: usize,
    number: u32,
    spoke: Instant,
}

/// The stream of one POST.
struct Post {
    outlet: Option<Outlet>,
    /// Whether it has become an event stream.
    events: bool,
    /// Whether its client takes one.
    takes_events: bool,
    /// Requests whose answer it waits for.
    waits: usize,
    /// Whether its body was an array, so that answers in JSON are one too.
    batch: bool,
    /// Answers of a batch, before its form is decided.
    held: Vec<String>,
    number: u32,
    since: Instant,
    spoke: Instant,
}

impl Streams {
    pub(super) fn new(now: Instant) -> Self {
        let standing =
            Standing { outlet: None, parked: VecDeque::new(), parked_bytes: 0, number: 0, spoke: now };
        Self { resumes: false, next: 1, posts: BTreeMap::new(), standing, ring: Ring::default() }
    }

    /// The revision is known.
    pub(super) fn resumable(&mut self, resumes: bool) {
        self.resumes = resumes;
    }

    /// Opens the stream of a POST that waits for so many answers.
    pub(super) fn open(
        &mut self,
        outlet: Outlet,
        waits: usize,
        batch: bool,
        takes_events: bool,
        now: Instant,
    ) -> u32 {
        let number = self.next;
        self.next = self.next.wrapping_add(1).max(1);
        let post = Post {
            outlet: Some(outlet),
            events: false,
            takes_events,
            waits,
            batch,
            held: Vec::new(),
            number: 0,
            since: now,
            spoke: now,
        };
        self.posts.insert(number, post);
        number
    }

    /// A client listens to the standing stream, from now on or from where it was; whoever did before does no more.
    pub(super) fn listen(&mut self, outlet: Outlet, last: Option<EventId>, now: Instant) {
        if let Some(before) = self.standing.outlet.replace(outlet.clone()) {
            before.end();
        }
        self.standing.spoke = now;
        outlet.begin(event_stream());
        match last {
            Some(last) => self.replay(&outlet, last),
            None if self.resumes => {
                let id = EventId { stream: STANDING, number: self.standing.number };
                let _ = outlet.send(priming(id).into_bytes());
            }
            None => {}
        }
        let parked = std::mem::take(&mut self.standing.parked);
        self.standing.parked_bytes = 0;
        for message in parked {
            self.emit(STANDING, &message, false, now);
        }
    }

    /// A client comes back to the stream of `last` (SH-10). `false` where that is no stream that it could go on with.
    pub(super) fn resume(&mut self, outlet: &Outlet, last: EventId, now: Instant) -> bool {
        if !self.resumes || last.stream == STANDING {
            return false;
        }
        if let Some(post) = self.posts.get_mut(&last.stream) {
            if !post.events {
                return false;
            }
            if let Some(before) = post.outlet.replace(outlet.clone()) {
                before.end();
            }
            post.spoke = now;
            outlet.begin(event_stream());
            self.replay(outlet, last);
            return true;
        }
        if self.ring.after(last).next().is_none() {
            return false;
        }
        outlet.begin(event_stream());
        self.replay(outlet, last);
        outlet.end();
        true
    }

    fn replay(&self, outlet: &Outlet, last: EventId) {
        for event in self.ring.after(last) {
            if outlet.send(event.to_vec()).is_err() {
                return;
            }
        }
    }

    /// The POST that waits, where there is exactly one and its client can be told something.
    pub(super) fn only_waiting(&self) -> Option<u32> {
        let mut open = self.posts.iter();
        match (open.next(), open.next()) {
            (Some((number, post)), None) if post.can_tell(self.resumes) => Some(*number),
            _ => None,
        }
    }

    /// The POST that has waited longest of those whose client can be told something.
    pub(super) fn oldest_waiting(&self) -> Option<u32> {
        self.posts.iter().find(|(_, post)| post.can_tell(self.resumes)).map(|(number, _)| *number)
    }

    /// Whether a client listens to the standing stream.
    pub(super) fn is_listened_to(&self) -> bool {
        self.standing.outlet.is_some()
    }

    /// Whether a message on this stream would find its client, now or when it comes back.
    pub(super) fn can_tell(&self, stream: u32) -> bool {
        self.posts.get(&stream).is_some_and(|post| post.can_tell(self.resumes))
    }

    /// Whether nobody is connected and nothing is waited for.
    pub(super) fn are_quiet(&self) -> bool {
        self.standing.outlet.is_none() && self.posts.is_empty()
    }

    /// Sends a message on one stream. `answers` says that it is one of the answers that a POST waits for.
    pub(super) fn emit(&mut self, stream: u32, message: &str, answers: bool, now: Instant) {
        if stream == STANDING {
            self.emit_standing(message, now);
            return;
        }
        let Some(post) = self.posts.get_mut(&stream) else { return };
        post.spoke = now;
        if answers {
            post.waits = post.waits.saturating_sub(1);
            if !post.events {
                post.held.push(message.to_owned());
                if post.waits == 0 {
                    post.answer_in_json();
                    self.posts.remove(&stream);
                }
                return;
            }
        }
        if !post.events {
            post.become_events(stream, self.resumes, &mut self.ring);
        }
        post.send(stream, message, self.resumes, &mut self.ring);
        if post.waits == 0 {
            self.close(stream);
        }
    }

    /// One of the answers that a POST waits for will not come.
    pub(super) fn give_up(&mut self, stream: u32) {
        let Some(post) = self.posts.get_mut(&stream) else { return };
        post.waits = post.waits.saturating_sub(1);
        if post.waits == 0 {
            if !post.events && post.held.is_empty() {
                post.become_events(stream, false, &mut self.ring);
            } else if !post.events {
                post.answer_in_json();
            }
            self.close(stream);
        }
    }

    /// Answers a POST with something else than messages of the server. Used for `initialize` alone.
    pub(super) fn answer(&mut self, stream: u32, reply: Reply) {
        if let Some(outlet) = self.posts.remove(&stream).and_then(|post| post.outlet) {
            outlet.answer(reply);
        }
    }

    fn close(&mut self, stream: u32) {
        if let Some(outlet) = self.posts.remove(&stream).and_then(|post| post.outlet) {
            outlet.end();
        }
    }

    fn emit_standing(&mut self, message: &str, now: Instant) {
        let standing = &mut self.standing;
        if let Some(outlet) = &standing.outlet {
            let mut event = String::with_capacity(message.len() + 48);
            if self.resumes {
                standing.number += 1;
                let id = EventId { stream: STANDING, number: standing.number };
                render(&mut event, Some(id), message);
                self.ring.keep(id, event.clone().into_bytes());
            } else {
                render(&mut event, None, message);
            }
            standing.spoke = now;
            if outlet.send(event.into_bytes()).is_err() {
                standing.outlet = None;
            }
            return;
        }
        standing.parked_bytes += message.len();
        standing.parked.push_back(message.to_owned());
        while standing.parked.len() > STDIO_PARKED_MAX || standing.parked_bytes > STDIO_PARKED_BYTES_MAX {
            let Some(oldest) = standing.parked.pop_front() else { break };
            standing.parked_bytes -= oldest.len();
        }
    }

    /// Begins the standing stream of HTTP+SSE with `event`.
    pub(super) fn open_standing(&mut self, outlet: Outlet, event: String) {
        outlet.begin(event_stream());
        let _ = outlet.send(event.into_bytes());
        self.standing.outlet = Some(outlet);
    }

    /// Lets go of clients that have left.
    pub(super) fn forget_gone(&mut self) {
        if self.standing.outlet.as_ref().is_some_and(Outlet::is_gone) {
            self.standing.outlet = None;
        }
        for post in self.posts.values_mut() {
            if post.outlet.as_ref().is_some_and(Outlet::is_gone) {
                post.outlet = None;
            }
        }
    }

    /// Turns what has waited long enough into event streams, and says something on silent ones.
    pub(super) fn tick(&mut self, now: Instant) {
        for (number, post) in &mut self.posts {
            if post.events {
                if let (true, Some(outlet)) = (now >= post.spoke + STDIO_KEEP_ALIVE, &post.outlet) {
                    post.spoke = now;
                    let _ = outlet.send(COMMENT.to_vec());
                }
            } else if post.takes_events && now >= post.since + STDIO_JSON_TIME_MAX {
                post.become_events(*number, self.resumes, &mut self.ring);
            }
        }
        let standing = &mut self.standing;
        if let (true, Some(outlet)) = (now >= standing.spoke + STDIO_KEEP_ALIVE, &standing.outlet) {
            standing.spoke = now;
            let _ = outlet.send(COMMENT.to_vec());
        }
    }

    /// Ends everything.
    pub(super) fn end(&mut self) {
        for number in self.posts.keys().copied().collect::<Vec<_>>() {
            self.close(number);
        }
        if let Some(outlet) = self.standing.outlet.take() {
            outlet.end();
        }
    }
}

impl Post {
    /// Whether a message that is no answer can reach the client here.
    fn can_tell(&self, resumes: bool) -> bool {
        self.waits > 0 && self.takes_events && (self.outlet.is_some() || resumes && self.events)
    }

    fn answer_in_json(&mut self) {
        let body = match self.held.as_mut_slice() {
            [one] if !self.batch => std::mem::take(one),
            all => format!("[{}]", all.join(",")),
        };
        self.held.clear();
        if let Some(outlet) = self.outlet.take() {
            outlet.answer(Reply::json(200, body));
        }
    }

    fn become_events(&mut self, stream: u32, resumes: bool, ring: &mut Ring) {
        self.events = true;
        if let Some(outlet) = &self.outlet {
            outlet.begin(event_stream());
            if resumes {
                let _ = outlet.send(priming(EventId { stream, number: 0 }).into_bytes());
            }
        }
        for message in std::mem::take(&mut self.held) {
            self.send(stream, &message, resumes, ring);
        }
    }

    fn send(&mut self, stream: u32, message: &str, resumes: bool, ring: &mut Ring) {
        let mut event = String::with_capacity(message.len() + 48);
        if resumes {
            self.number += 1;
            let id = EventId { stream, number: self.number };
            render(&mut event, Some(id), message);
            ring.keep(id, event.clone().into_bytes());
        } else {
            render(&mut event, None, message);
        }
        if let Some(outlet) = &self.outlet
            && outlet.send(event.into_bytes()).is_err()
        {
            self.outlet = None;
        }
    }
}

/// What a client and the proxies between ignore.
const COMMENT: &[u8] = b":\n\n";

/// SH-05, SH-06: an id to come back to, and how long to wait before.
fn priming(id: EventId) -> String {
    format!("id: {id}\nretry: {STDIO_RETRY_MILLIS}\ndata: \n\n")
}

/// One message as an event. It holds no line end (section 3.1).
fn render(out: &mut String, id: Option<EventId>, message: &str) {
    use std::fmt::Write as _;
    if let Some(id) = id {
        let _ = writeln!(out, "id: {id}");
    }
    out.push_str("event: message\ndata: ");
    out.push_str(message);
    out.push_str("\n\n");
}

/// The answer to `initialize`, with the session that it begins (SH-11).
pub(super) fn initialized(message: &str, session: HeaderValue) -> Reply {
    Reply::json(200, message).header(header::MCP_SESSION_ID, session)
}
