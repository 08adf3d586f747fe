//! The way to a child's standard input, which never makes anyone wait.
//!
//! A line is written at once, by whoever has it. What the pipe does not take waits here, bounded, and is written when
//! there is room.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::io::{Errno, writev};

use crate::limits::{STDIO_INPUT_BYTES_MAX, STDIO_INPUT_TIME_MAX};

/// Why a line was not sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum NotSent {
    /// The child does not read, and as much waits for it as may. Another time perhaps.
    Full,
    /// The child has ended or is ending.
    Gone,
}

#[derive(Debug, Default)]
pub(super) struct Input {
    /// Absent before the process is there, and after its end was begun.
    fd: Option<OwnedFd>,
    waiting: VecDeque<u8>,
    /// Since when nothing of it was taken.
    since: Option<Instant>,
    /// Nothing is taken any more.
    closed: bool,
}

impl Input {
    /// The process is there. Its pipe is non-blocking.
    pub(super) fn open(&mut self, fd: Option<OwnedFd>) {
        self.fd = fd;
    }

    /// What may be watched for room.
    pub(super) fn fd(&self) -> Option<&OwnedFd> {
        self.fd.as_ref()
    }

    /// Takes no more lines.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Lets the child see the end.
    pub(super) fn end(&mut self) {
        *self = Self { closed: true, ..Self::default() };
    }

    /// Writes a line, or keeps it. `true` where from now on something waits for room.
    pub(super) fn push(&mut self, line: &[u8], now: Instant) -> Result<bool, NotSent> {
        if self.closed {
            return Err(NotSent::Gone);
        }
        let mut taken = 0;
        if !self.waiting.is_empty() {
            if self.waiting.len() + line.len() > STDIO_INPUT_BYTES_MAX {
                return Err(NotSent::Full);
            }
        } else if let Some(fd) = &self.fd {
            taken = match writev(fd, &[IoSlice::new(line), IoSlice::new(b"\n")]) {
                Ok(taken) => taken,
                Err(Errno::AGAIN | Errno::INTR) => 0,
                Err(_) => return Err(NotSent::Gone),
            };
            if taken > line.len() {
                return Ok(false);
            }
        }
        let first = self.waiting.is_empty() && self.fd.is_some();
        self.waiting.extend(line.get(taken..).unwrap_or_default());
        self.waiting.push_back(b'\n');
        self.since.get_or_insert(now);
        Ok(first)
    }

    /// Writes what waits. `true` when nothing is left, or nothing can be written any more.
    pub(super) fn flush(&mut self, now: Instant) -> bool {
        let Self { fd: Some(fd), waiting, since, .. } = self else { return true };
        while !waiting.is_empty() {
            let (front, back) = waiting.as_slices();
            match writev(&*fd, &[IoSlice::new(front), IoSlice::new(back)]) {
                Ok(taken) => {
                    waiting.drain(..taken);
                    *since = Some(now);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return false,
                Err(_) => waiting.clear(), // it reads no more; its end is on the way
            }
        }
        *since = None;
        *waiting = VecDeque::new();
        true
    }

    /// Whether the child has taken nothing for too long.
    pub(super) fn is_stuck(&self, now: Instant) -> bool {
        self.fd.is_some() && self.since.is_some_and(|since| now >= since + STDIO_INPUT_TIME_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pipe::{PipeFlags, pipe_with};

    /// Whole lines in order, whatever the pipe takes at a time, and a bound on what waits.
    #[test]
    fn lines_stay_whole_and_bounded() {
        let (reader, writer) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).unwrap();
        let (mut input, now) = (Input::default(), Instant::now());
        assert_eq!(input.push(b"early", now), Ok(false), "before there is a process it waits");
        input.open(Some(writer));
        assert!(input.flush(now));
        let large = vec![b'x'; 3 * STDIO_INPUT_BYTES_MAX];
        assert_eq!(input.push(&large, now), Ok(true), "one of any size");
        assert_eq!(input.push(b"more", now), Err(NotSent::Full));
        assert!(!input.is_stuck(now) && input.is_stuck(now + STDIO_INPUT_TIME_MAX));
        let (mut read, mut piece) = (Vec::new(), vec![0; 100_000]);
        while !input.flush(now) {
            let taken = rustix::io::read(&reader, &mut piece).unwrap();
            read.extend_from_slice(&piece[..taken]);
        }
        assert_eq!(input.push(b"late", now), Ok(false));
        assert!(!input.is_stuck(now + STDIO_INPUT_TIME_MAX));
        input.end();
        assert_eq!(input.push(b"too late", now), Err(NotSent::Gone));
        loop {
            match rustix::io::read(&reader, &mut piece).unwrap() {
                0 => break,
                taken => read.extend_from_slice(&piece[..taken]),
            }
        }
        let lines: Vec<_> = read.split(|byte| *byte == b'\n').collect();
        assert!(lines == [b"early".as_slice(), &large, b"late", b""]);
    }

    #[test]
    fn a_reader_that_is_gone_is_told_of() {
        let (reader, writer) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).unwrap();
        let mut input = Input::default();
        input.open(Some(writer));
        drop(reader);
        assert_eq!(input.push(b"a", Instant::now()), Err(NotSent::Gone));
    }
}
