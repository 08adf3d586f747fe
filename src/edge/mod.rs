//! The HTTP engine.

pub mod chunked;
pub mod http1;
pub mod feed;

use crate::reply::Reply;
use http1::{Fault, Incoming};

/// What the engine asks of the program behind it.
///
/// `admit` is called as soon as the head is whole, before a byte of the body is waited for, so that nobody without a
/// token makes us hold a body. `serve` is called when the body is whole.
pub trait Handler: Send + Sync + 'static {
    /// What `admit` found out, kept until `serve`.
    type Pass: Send + 'static;

    /// Judges a request by its head.
    ///
    /// # Errors
    /// The answer, where the request goes no further. It must not depend on the body.
    fn admit(&self, head: &Incoming) -> Result<Self::Pass, Reply>;

    /// Answers a whole request.
    fn serve(&self, pass: Self::Pass, request: &Incoming) -> Answer;

    /// Answers what could not be read: `head` is there when the fault is in the body.
    fn refuse(&self, head: Option<&Incoming>, fault: Fault) -> Reply;
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Answer {
    /// An answer that is whole already.
    Reply(Reply),
    /// A stream whose head is sent now and whose bytes come from a [`feed::Feed`], until that is dropped.
    Stream(Reply, feed::Source),
}
