//! An answer whose form is not known when its request is taken: one JSON object, or an event stream, or an error.
//!
//! ```text
//! Outlet (clones; any thread) ── answer │ begin, send…, end ──▶ state ──▶ Tap ──▶ worker or stream thread ──▶ client
//!                                                                 └── wakes whoever carries the Tap
//! ```
//!
//! No byte goes out before somebody decides, so that the first message of a server can choose the status (SH-03, M-05,
//! M-18). A client that leaves drops the [`Tap`], which calls back; one that does not take what it is sent is dropped
//! when [`STDIO_OUTPUT_BYTES_MAX`] wait for it. Neither is waited for by anyone.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::edge::{Head, Producer, Step, Waker, Watch, header_name, status_line};
use crate::header;
use crate::limits::{RELAY_CHUNK_BYTES, STDIO_OUTPUT_BYTES_MAX};
use crate::reply::{HeaderValue, Refusal, Reply};

/// The request that an answer is for, as far as whoever makes the answer must know it.
pub(crate) trait Caller: Send {
    /// The answer begins: adds what its request's page may do with it, and writes the line of the log.
    fn begin(&mut self, reply: Reply) -> Reply;

    /// The answer is a refusal; makes it, as [`Caller::begin`] does.
    fn refuse(&mut self, refusal: &Refusal<'_>) -> Reply;

    /// Counts one more event stream, where this request has none yet.
    ///
    /// # Errors
    /// The answer, where there are as many as there may be.
    fn take_place(&mut self) -> Result<(), Reply>;

    /// When a stream is ended, whatever comes on it: with the token that opened it.
    fn stream_ends(&self) -> Option<Instant>;

    /// A stream was ended for this reason.
    fn ended(&mut self, why: &dyn std::fmt::Display);

    /// The client left before its answer began.
    fn left(&mut self);
}

/// The client has gone, or the answer is over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Gone;

/// Makes the answer.
#[derive(Clone)]
pub(crate) struct Outlet(Arc<Shared>);

/// Carries it to the client.
pub(crate) struct Tap {
    shared: Arc<Shared>,
    caller: Box<dyn Caller>,
    on_gone: Option<Box<dyn FnOnce() + Send>>,
    begun: bool,
    endless: bool,
    lines: Vec<u8>,
    piece: Vec<u8>,
}

#[derive(Default)]
struct Shared(Mutex<State>);

#[derive(Default)]
struct State {
    whole: Option<Reply>,
    head: Option<Reply>,
    begun: bool,
    pieces: VecDeque<Vec<u8>>,
    bytes: usize,
    ended: bool,
    gone: bool,
    waker: Option<Waker>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An outlet and its tap, for [`crate::edge::Answer::Relay`]. `on_gone` is called, on another thread, when the client
/// leaves before the end. `endless` says that the answer has no end of its own, so that a stopping server ends it.
pub(crate) fn outlet(
    caller: Box<dyn Caller>,
    endless: bool,
    on_gone: impl FnOnce() + Send + 'static,
) -> (Outlet, Tap) {
    let shared = Arc::new(Shared::default());
    let tap = Tap {
        shared: Arc::clone(&shared),
        caller,
        on_gone: Some(Box::new(on_gone)),
        begun: false,
        endless,
        lines: Vec::new(),
        piece: Vec::new(),
    };
    (Outlet(shared), tap)
}

/// The head of an event stream (SH-03, M-16).
pub(crate) fn event_stream() -> Reply {
    Reply::new(200)
        .header(header::CONTENT_TYPE, HeaderValue::fixed("text/event-stream"))
        .header(header::CACHE_CONTROL, HeaderValue::fixed("no-store"))
        .header(header::X_ACCEL_BUFFERING, HeaderValue::fixed("no"))
}

impl Outlet {
    /// Answers with `reply` and nothing else. Does nothing where the answer has begun.
    pub(crate) fn answer(&self, reply: Reply) {
        self.change(|state| {
            if !state.begun && !state.gone {
                state.begun = true;
                state.ended = true;
                state.whole = Some(reply);
            }
        });
    }

    /// Begins an event stream with `head`, unless there are as many as there may be. Does nothing where the answer has begun.
    pub(crate) fn begin(&self, head: Reply) {
        self.change(|state| {
            if !state.begun && !state.gone {
                state.begun = true;
                state.head = Some(head);
            }
        });
    }

    /// Sends a piece of a stream that has begun.
    ///
    /// # Errors
    /// The client has gone or is too slow, or the stream has ended.
    pub(crate) fn send(&self, piece: Vec<u8>) -> Result<(), Gone> {
        self.change(|state| {
            if state.gone || state.ended || !state.begun {
                return Err(Gone);
            }
            if state.bytes > 0 && state.bytes + piece.len() > STDIO_OUTPUT_BYTES_MAX {
                // Cut, so that the client sees that it has not got everything.
                state.gone = true;
                state.pieces.clear();
                state.bytes = 0;
                return Err(Gone);
            }
            state.bytes += piece.len();
            state.pieces.push_back(piece);
            Ok(())
        })
    }

    /// Ends a stream that has begun.
    pub(crate) fn end(&self) {
        self.change(|state| state.ended = true);
    }

    /// Whether something of the answer has been given.
    pub(crate) fn has_begun(&self) -> bool {
        self.0.lock().begun
    }

    /// Whether nobody takes the answer any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.0.lock().gone
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.0.lock();
        let changed = change(&mut state);
        let waker = state.waker.clone();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        changed
    }
}

impl Producer for Tap {
    fn step(&mut self) -> Step<'_> {
        let mut state = self.shared.lock();
        if state.gone {
            return Step::Cut;
        }
        if let Some(reply) = state.whole.take() {
            drop(state);
            self.begun = true;
            return Step::Refuse(Box::new(self.caller.begin(reply)));
        }
        let head = state.head.take();
        self.piece.clear();
        while let Some(piece) = state.pieces.front() {
            if !self.piece.is_empty() && self.piece.len() + piece.len() > RELAY_CHUNK_BYTES {
                break;
            }
            match state.pieces.pop_front() {
                Some(piece) if self.piece.is_empty() => self.piece = piece,
                Some(piece) => self.piece.extend_from_slice(&piece),
                None => break,
            }
        }
        state.bytes -= self.piece.len();
        let end = state.ended && state.begun && state.pieces.is_empty();
        drop(state);
        let Some(head) = head else {
            if self.piece.is_empty() && !end {
                return Step::Wait;
            }
            return Step::Send { head: None, data: &self.piece, end };
        };
        self.begun = true;
        // What begins here is an event stream, whichever request it answers; it may be one too many.
        if let Err(refusal) = self.caller.take_place() {
            self.shared.lock().gone = true;
            return Step::Refuse(Box::new(refusal));
        }
        let head = self.caller.begin(head);
        self.lines.clear();
        status_line(&mut self.lines, head.status);
        for (name, value) in &head.headers {
            header_name(&mut self.lines, name);
            self.lines.extend_from_slice(b": ");
            self.lines.extend_from_slice(value.as_str().as_bytes());
            self.lines.extend_from_slice(b"\r\n");
        }
        let head = Head { lines: &self.lines, length: None, bodyless: false };
        Step::Send { head: Some(head), data: &self.piece, end }
    }

    fn watch(&self) -> Watch<'_> {
        Watch::Nothing
    }

    fn deadline(&self) -> Option<Instant> {
        // An answer that is still to come is bounded elsewhere.
        self.caller.stream_ends().filter(|_| self.begun)
    }

    fn expire(&mut self) -> Step<'_> {
        self.caller.ended(&"the token that opened it has expired");
        Step::Send { head: None, data: &[], end: true }
    }

    fn is_endless(&self) -> bool {
        self.endless && !self.shared.lock().ended
    }

    fn attached(&mut self, waker: Waker) {
        self.shared.lock().waker = Some(waker);
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        let over = state.ended;
        state.gone = true;
        state.pieces = VecDeque::new();
        state.bytes = 0;
        state.waker = None;
        drop(state);
        if !self.begun {
            self.caller.left();
        }
        if let (false, Some(on_gone)) = (over, self.on_gone.take()) {
            on_gone();
        }
    }
}

/// Stands where there is no caller any more.
pub(crate) struct Nobody;

impl Caller for Nobody {
    fn begin(&mut self, reply: Reply) -> Reply {
        reply
    }

    fn refuse(&mut self, refusal: &Refusal<'_>) -> Reply {
        refusal.reply()
    }

    fn take_place(&mut self) -> Result<(), Reply> {
        Ok(())
    }

    fn stream_ends(&self) -> Option<Instant> {
        None
    }

    fn ended(&mut self, _why: &dyn std::fmt::Display) {}

    fn left(&mut self) {}
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Everything that a tap gives now: the status, the bytes, and whether it is over.
    pub(crate) fn drain(tap: &mut Tap) -> (u16, String, bool) {
        let (mut status, mut text) = (0, Vec::new());
        loop {
            match tap.step() {
                Step::Wait => return (status, String::from_utf8(text).unwrap(), false),
                Step::Send { head, data, end } => {
                    if let Some(head) = head {
                        status = std::str::from_utf8(&head.lines[9..12]).unwrap().parse().unwrap();
                    }
                    text.extend_from_slice(data);
                    if end {
                        return (status, String::from_utf8(text).unwrap(), true);
                    }
                }
                Step::Refuse(reply) => {
                    return (reply.status, String::from_utf8(reply.body).unwrap(), true);
                }
                Step::Cut => return (0, "(cut)".into(), true),
            }
        }
    }

    #[test]
    fn nothing_goes_out_before_the_form_is_decided() {
        let (outlet, mut tap) = outlet(Box::new(Nobody), false, || panic!("it was not left"));
        assert_eq!(drain(&mut tap), (0, String::new(), false));
        assert_eq!(outlet.send(b"too early".to_vec()), Err(Gone));
        outlet.answer(Reply::json(404, "{}"));
        outlet.begin(event_stream());
        assert_eq!(drain(&mut tap), (404, "{}".into(), true));
        assert_eq!(outlet.send(b"too late".to_vec()), Err(Gone));
    }

    #[test]
    fn a_stream_is_whole_and_in_order() {
        let (outlet, mut tap) = outlet(Box::new(Nobody), false, || panic!("it was not left"));
        outlet.begin(event_stream());
        let large = "x".repeat(RELAY_CHUNK_BYTES);
        for piece in ["a", "b", &large, "c"] {
            assert_eq!(outlet.send(piece.as_bytes().to_vec()), Ok(()));
        }
        assert_eq!(drain(&mut tap), (200, format!("ab{large}c"), false));
        outlet.end();
        assert_eq!(drain(&mut tap), (0, String::new(), true));
        drop(tap);
        assert!(outlet.is_gone());
    }

    #[test]
    fn a_client_that_leaves_or_takes_nothing_is_told_of() {
        let left = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&left);
        let (leaver, tap) = outlet(Box::new(Nobody), false, move || {
            count.fetch_add(1, Ordering::SeqCst);
        });
        drop(tap);
        assert_eq!((left.load(Ordering::SeqCst), leaver.is_gone()), (1, true));

        let (slow, mut tap) = outlet(Box::new(Nobody), false, || {});
        slow.begin(event_stream());
        assert_eq!(slow.send(vec![b'x'; 4 * STDIO_OUTPUT_BYTES_MAX]), Ok(()), "one of any size");
        assert_eq!(slow.send(b"y".to_vec()), Err(Gone));
        assert_eq!(drain(&mut tap).1, "(cut)");
    }
}
