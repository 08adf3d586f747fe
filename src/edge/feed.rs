//! The sending end of an answer that another thread writes piece by piece, such as an event stream.

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

/// Pieces that may wait for a slow client; beyond it the stream is ended.
const PIECES_MAX: usize = 64;

/// Writes into the body of an answer. Dropping it ends the answer.
#[derive(Clone, Debug)]
pub struct Feed {
    pieces: Sender<Vec<u8>>,
}

/// The engine's end of a [`Feed`].
#[derive(Debug)]
pub struct Source {
    #[expect(dead_code, reason = "read by the engine")]
    pub(crate) pieces: Receiver<Vec<u8>>,
}

/// The client has gone, or does not take what it is sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Gone;

/// A feed and the source that goes into [`super::Answer::Stream`].
#[must_use]
pub fn feed() -> (Feed, Source) {
    let (sender, receiver) = bounded(PIECES_MAX);
    (Feed { pieces: sender }, Source { pieces: receiver })
}

impl Feed {
    /// Sends bytes of the body; never blocks.
    ///
    /// # Errors
    /// [`Gone`], after which every further call fails too.
    pub fn send(&self, piece: impl Into<Vec<u8>>) -> Result<(), Gone> {
        self.pieces.try_send(piece.into()).map_err(|refused| match refused {
            TrySendError::Full(_) | TrySendError::Disconnected(_) => Gone,
        })
    }
}
