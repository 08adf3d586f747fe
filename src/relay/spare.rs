//! Memory of each thread that exchanges hand on to one another: one buffer for answers, some for heads.
//!
//! An exchange needs a buffer only while bytes are on their way through it, and the lines of a head only until they are
//! sent. With memory of its own for each, it would be made, cleared and thrown away for every request; a C library with
//! a simple allocator would ask the kernel for it each time.

use std::cell::{Cell, RefCell};

use crate::limits::{HEAD_BYTES_MAX, RELAY_CHUNK_BYTES, SPARE_HEAD_BYTES_MAX, SPARES_MAX};

/// Bytes of most heads.
const HEAD_USUAL: usize = 1024;

thread_local! {
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static HEADS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
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

/// An empty vector with room for the lines of a usual head.
pub(crate) fn head() -> Vec<u8> {
    let spare = HEADS.with_borrow_mut(Vec::pop);
    spare.unwrap_or_else(|| Vec::with_capacity(HEAD_USUAL))
}

/// Keeps the vector of a head for the next one, unless it is an unusual one or there are enough.
pub(crate) fn put_head(mut head: Vec<u8>) {
    if !(HEAD_USUAL..=SPARE_HEAD_BYTES_MAX).contains(&head.capacity()) {
        return;
    }
    head.clear();
    HEADS.with_borrow_mut(|heads| {
        if heads.len() < SPARES_MAX {
            heads.push(head);
        }
    });
}
