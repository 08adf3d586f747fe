//! What a server says where nobody is to act on it: standard error, and lines that are no messages.
//!
//! It is shown in the log, so many lines in a while and no more, the rest counted; the last line is remembered, since
//! it often says why a server died. It never goes to a client.

use std::time::Instant;

use memchr::{memchr, memchr_iter, memrchr};

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
    /// The beginning of the last line that was not blank.
    last: Vec<u8>,
    since: Option<Instant>,
    shown: usize,
    dropped: u64,
}

impl Said {
    pub(super) fn new(what: &'static str, pid: i32) -> Self {
        Self { what, pid, line: Vec::new(), last: Vec::new(), since: None, shown: 0, dropped: 0 }
    }

    /// Takes what was read.
    pub(super) fn push(&mut self, mut read: &[u8], log: &Log, now: Instant) {
        self.settle(log, now, false);
        while let Some(at) = memchr(b'\n', read) {
            if self.shown < STDIO_LOG_LINES_MAX {
                self.begin(read.get(..at).unwrap_or_default());
                self.end_line(log);
                read = read.get(at + 1..).unwrap_or_default();
            } else {
                // A flood: nobody waits for it to be looked at line by line.
                let end = memrchr(b'\n', read).unwrap_or(at);
                self.skip(read.get(..end).unwrap_or_default());
                read = read.get(end + 1..).unwrap_or_default();
            }
        }
        self.begin(read);
    }

    /// Takes one line.
    pub(super) fn line(&mut self, line: &[u8], log: &Log, now: Instant) {
        self.settle(log, now, false);
        self.begin(line);
        self.end_line(log);
    }

    fn begin(&mut self, piece: &[u8]) {
        let room = LINE_BYTES_MAX.saturating_sub(self.line.len());
        self.line.extend_from_slice(piece.get(..room.min(piece.len())).unwrap_or_default());
    }

    fn end_line(&mut self, log: &Log) {
        if self.remember() {
            if self.shown < STDIO_LOG_LINES_MAX {
                self.shown += 1;
                log.info(self.what, &[("pid", &self.pid), ("line", &clean(&self.last))]);
            } else {
                self.dropped += 1;
            }
        }
    }

    /// Counts lines, the first of which may have been begun, and keeps the last that is not blank.
    fn skip(&mut self, lines: &[u8]) {
        self.dropped += 1 + memchr_iter(b'\n', lines).count() as u64;
        let lines = lines.trim_ascii_end();
        if let Some(at) = memrchr(b'\n', lines) {
            self.line.clear();
            self.begin(lines.get(at + 1..).unwrap_or_default());
        } else {
            self.begin(lines);
        }
        self.remember();
    }

    /// The line that was being read is over; `true` where it is not blank, and now the last.
    fn remember(&mut self) -> bool {
        let blank = self.line.trim_ascii_start().is_empty();
        if !blank {
            std::mem::swap(&mut self.last, &mut self.line);
        }
        self.line.clear();
        !blank
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
        if open.is_empty() { clean(&self.last) } else { open }
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

    /// However a flood falls into pieces, its last words are known, also where blank lines follow them.
    #[test]
    fn the_last_line_of_a_flood_is_known() {
        let (log, now) = (Log::to_memory(Level::Debug), Instant::now());
        let text = format!("{}thread panicked: why\n \r\n\n", "line\n".repeat(100));
        for piece in 1..text.len() {
            let mut said = Said::new("standard error", 7);
            text.as_bytes().chunks(piece).for_each(|piece| said.push(piece, &log, now));
            assert_eq!(said.last(), "thread panicked: why", "in pieces of {piece}");
            assert!((81..=83).contains(&said.dropped), "{} in pieces of {piece}", said.dropped);
            said.line(b"no message", &log, now);
            assert_eq!(said.last(), "no message");
        }
    }

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
