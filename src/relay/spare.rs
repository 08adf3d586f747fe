//! One buffer of each thread for answers, handed from one exchange to the next.
//!
//! An exchange needs a buffer only while bytes are on their way through it. With one of its own each would be made,
//! cleared and thrown away for every answer and every event of a stream.

use std::cell::Cell;

use crate::limits::{HEAD_BYTES_MAX, RELAY_CHUNK_BYTES};

thread_local! {
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The thread's buffer; an empty one where an exchange has it already. What stands in it is of no meaning.
pub(super) fn take() -> Vec<u8> {
    SPARE.take()
}

/// Keeps a buffer for the next exchange, unless it has grown beyond what the usual answer needs.
pub(super) fn put(buf: Vec<u8>) {
    if !buf.is_empty() && buf.len() <= HEAD_BYTES_MAX + RELAY_CHUNK_BYTES {
        SPARE.set(buf);
    }
}
