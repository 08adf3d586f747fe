//! Memory that each thread hands on from one request to the next.
//!
//! A request needs a buffer only while bytes are on their way through it, and the lines of a head or the text of a refusal
//! only until they are sent. With memory of its own for each, it would be made, cleared and thrown away every time; a C
//! library with a simple allocator would ask the kernel for it.

use std::cell::{Cell, RefCell};

use crate::limits::{HEAD_BYTES_MAX, RELAY_CHUNK_BYTES, SPARE_TEXT_BYTES_MAX, SPARES_MAX};

/// Bytes of most heads and texts.
const TEXT_USUAL: usize = 1024;

thread_local! {
    static CHUNK: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static TEXTS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// The thread's buffer for answers; an empty one where somebody has it already. What stands in it is of no meaning.
pub(crate) fn chunk() -> Vec<u8> {
    CHUNK.take()
}

/// Keeps a buffer for the next answer, unless it has grown beyond what the usual one needs.
pub(crate) fn put_chunk(buf: Vec<u8>) {
    if !buf.is_empty() && buf.len() <= HEAD_BYTES_MAX + RELAY_CHUNK_BYTES {
        CHUNK.set(buf);
    }
}

/// An empty vector with room for a usual head.
pub(crate) fn bytes() -> Vec<u8> {
    let spare = TEXTS.with_borrow_mut(Vec::pop);
    spare.unwrap_or_else(|| Vec::with_capacity(TEXT_USUAL))
}

/// Keeps a vector for the next [`bytes`] or [`text`], unless it is an unusual one or there are enough.
pub(crate) fn put_bytes(mut bytes: Vec<u8>) {
    if !(TEXT_USUAL..=SPARE_TEXT_BYTES_MAX).contains(&bytes.capacity()) {
        return;
    }
    bytes.clear();
    TEXTS.with_borrow_mut(|texts| {
        if texts.len() < SPARES_MAX {
            texts.push(bytes);
        }
    });
}

/// An empty string with room for a usual text.
pub(crate) fn text() -> String {
    String::from_utf8(bytes()).unwrap_or_default()
}
