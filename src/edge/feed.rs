//! The sending end of an answer that another thread writes piece by piece, such as an event stream.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::pump::Waker;

/// Bytes that may wait for a slow client; beyond it the stream is ended.
const BYTES_MAX: usize = 1024 * 1024;

/// Writes into the body of an answer. Dropping the last clone ends the answer.
#[derive(Clone, Debug)]
pub struct Feed(Arc<Ending>);

/// The engine's end of a [`Feed`].
#[derive(Debug)]
pub struct Source(Arc<Shared>);

/// The client has gone, or does not take what it is sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Gone;

/// Notices when the last clone of a feed is dropped.
#[derive(Debug)]
struct Ending(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    pieces: VecDeque<Vec<u8>>,
    bytes: usize,
    ended: bool,
    gone: bool,
    waker: Option<Waker>,
}

/// A feed and the source that goes into [`super::Answer::Stream`].
#[must_use]
pub fn feed() -> (Feed, Source) {
    let shared = Arc::new(Shared::default());
    (Feed(Arc::new(Ending(Arc::clone(&shared)))), Source(shared))
}

impl Feed {
    /// Sends bytes of the body; never blocks.
    ///
    /// # Errors
    /// [`Gone`], after which every further call fails too.
    pub fn send(&self, piece: impl Into<Vec<u8>>) -> Result<(), Gone> {
        let piece = piece.into();
        let mut state = self.0.0.lock();
        if state.gone {
            return Err(Gone);
        }
        if state.bytes + piece.len() > BYTES_MAX {
            state.gone = true;
            state.ended = true;
            state.pieces.clear();
        } else {
            state.bytes += piece.len();
            state.pieces.push_back(piece);
        }
        let gone = state.gone;
        let waker = state.waker.clone();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        if gone { Err(Gone) } else { Ok(()) }
    }

    /// Whether the client has gone.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.0.0.lock().gone
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.ended = true;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Source {
    /// The next piece; `Err` when there will be no more.
    pub(crate) fn take(&self) -> Result<Option<Vec<u8>>, Gone> {
        let mut state = self.0.lock();
        match state.pieces.pop_front() {
            Some(piece) => {
                state.bytes -= piece.len();
                Ok(Some(piece))
            }
            None if state.ended => Err(Gone),
            None => Ok(None),
        }
    }

    /// Whom to wake when there is something to take.
    pub(crate) fn set_waker(&self, waker: Waker) {
        self.0.lock().waker = Some(waker);
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.gone = true;
        state.pieces.clear();
        state.bytes = 0;
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_takes_nothing_ends_the_feed_at_its_bound() {
        let (feed, source) = feed();
        assert_eq!(feed.send(vec![0; BYTES_MAX]), Ok(()));
        assert_eq!(feed.send(vec![0; 1]), Err(Gone));
        assert!(feed.is_gone());
        assert!(source.take().is_err());
    }

    #[test]
    fn dropping_either_end_is_seen_by_the_other() {
        let (sender, source) = feed();
        assert_eq!(sender.send("a"), Ok(()));
        drop(sender);
        assert_eq!(source.take(), Ok(Some(b"a".to_vec())));
        assert_eq!(source.take(), Err(Gone));
        let (sender, source) = feed();
        drop(source);
        assert_eq!(sender.send("a"), Err(Gone));
    }
}
