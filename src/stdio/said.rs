//! What a server says where nobody is to act on it: standard error, and lines that are no messages.
//!
//! It is shown in the log, so many lines in a while and no more, the rest counted; the last line is remembered, since
//! it often says why a server died. It never goes to a client.

use std::time::Instant;

use crate::limits::{SHOWN_CHARS_MAX, STDIO_LOG_LINES_MAX, STDIO_LOG_TIME};
use crate::log::Log;

/// Bytes of a line that are looked at.
const LINE_BYTES_MAX: usize = 4 * SHOWN_CHARS_MAX;

/// One stream of such lines.
#[derive(Debug)]
pub(super) struct Said {
    /// What the log calls it.
    what: &'static str,
    pid: i32,
    /// The beginning of the line that is being read.
    line: Vec<u8>,
    last: String,
    since: Option<Instant>,
    shown: usize,
    dropped: u64,
}

impl Said {
    pub(super) fn new(what: &'static str, pid: i32) -> Self {
        Self { what, pid, line: Vec::new(), last: String::new(), since: None, shown: 0, dropped: 0 }
    }

    /// Takes what was read.
    pub(super) fn push(&mut self, read: &[u8], log: &Log, now: Instant) {
        let mut pieces = read.split(|byte| *byte == b'\n').peekable();
        while let Some(piece) = pieces.next() {
            let room = LINE_BYTES_MAX.saturating_sub(self.line.len());
            self.line.extend_from_slice(piece.get(..room.min(piece.len())).unwrap_or_default());
            if pieces.peek().is_some() {
                self.end_line(log, now);
            }
        }
    }

    fn end_line(&mut self, log: &Log, now: Instant) {
        if !self.line.iter().all(u8::is_ascii_whitespace) {
            self.settle(log, now, false);
            if self.shown < STDIO_LOG_LINES_MAX {
                self.shown += 1;
                self.last = clean(&self.line);
                log.info(self.what, &[("pid", &self.pid), ("line", &self.last)]);
            } else {
                self.dropped += 1;
                self.last = clean(&self.line);
            }
        }
        self.line.clear();
    }

    /// Begins a new while, and says what was left out of the last one.
    pub(super) fn settle(&mut self, log: &Log, now: Instant, ended: bool) {
        let since = *self.since.get_or_insert(now);
        if !ended && now.duration_since(since) < STDIO_LOG_TIME {
            return;
        }
        if self.dropped > 0 {
            log.warn(self.what, &[("pid", &self.pid), ("lines_not_shown", &self.dropped)]);
        }
        (self.since, self.shown, self.dropped) = (Some(now), 0, 0);
    }

    /// The last line, also one that was not ended.
    pub(super) fn last(&self) -> String {
        let open = clean(&self.line);
        if open.is_empty() { self.last.clone() } else { open }
    }
}

/// Text for the log: nothing that moves a cursor, and not too long.
fn clean(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let shown = text.trim().chars().take(SHOWN_CHARS_MAX);
    shown.map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Level;

    #[test]
    fn a_flood_is_counted_and_the_last_line_known() {
        let (log, now) = (Log::to_memory(Level::Debug), Instant::now());
        let mut said = Said::new("standard error", 7);
        for n in 0..1000 {
            said.push(format!("line {n}\nhal").as_bytes(), &log, now);
            said.push(b"f\n", &log, now);
        }
        assert_eq!(log.text().lines().count(), STDIO_LOG_LINES_MAX);
        said.push(b"the end, without a line feed", &log, now);
        assert_eq!(said.last(), "the end, without a line feed");
        said.settle(&log, now + STDIO_LOG_TIME, false);
        assert!(log.text().contains("lines_not_shown=1980"), "{}", log.text());
        said.push(&[b'x'; 1_000_000], &log, now);
        assert!(said.line.capacity() < 4096);
        assert_eq!(said.last().len(), SHOWN_CHARS_MAX);
    }
}
