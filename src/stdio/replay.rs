//! The last events of a session, kept so that a client whose connection broke can have them again (SH-10).
//!
//! One ring for all streams of a session, bounded in events and bytes; the oldest go first. An event id names its
//! stream, so nobody gets another stream's events.

use std::collections::VecDeque;

use crate::limits::{STDIO_REPLAY_BYTES_MAX, STDIO_REPLAY_EVENTS_MAX};

/// `<stream>-<number>`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct EventId {
    pub(super) stream: u32,
    pub(super) number: u32,
}

impl EventId {
    /// Reads what [`std::fmt::Display`] wrote, and nothing else.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (stream, number) = text.split_once('-')?;
        let plain =
            |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        Some(Self { stream: plain(stream)?, number: plain(number)? })
    }
}

impl std::fmt::Display for EventId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.stream, self.number)
    }
}

#[derive(Debug, Default)]
pub(super) struct Ring {
    events: VecDeque<(EventId, Vec<u8>)>,
    bytes: usize,
}

impl Ring {
    /// Keeps an event, as it goes out. The newest is kept whatever its size.
    pub(super) fn keep(&mut self, id: EventId, event: Vec<u8>) {
        self.bytes += event.len();
        self.events.push_back((id, event));
        while self.events.len() > 1
            && (self.events.len() > STDIO_REPLAY_EVENTS_MAX || self.bytes > STDIO_REPLAY_BYTES_MAX)
        {
            let Some((_, event)) = self.events.pop_front() else { break };
            self.bytes -= event.len();
        }
    }

    /// What followed `last` on its stream.
    pub(super) fn after(&self, last: EventId) -> impl Iterator<Item = &[u8]> {
        let later = move |id: &EventId| id.stream == last.stream && id.number > last.number;
        self.events.iter().filter(move |(id, _)| later(id)).map(|(_, event)| event.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(stream: u32, number: u32) -> EventId {
        EventId { stream, number }
    }

    #[test]
    fn an_id_has_one_spelling() {
        assert_eq!(EventId::read("12-3"), Some(id(12, 3)));
        for text in ["", "-", "1", "1-", "-1", "+1-2", "1-+2", "1-2-3", " 1-2", "1-99999999999", "a-b"] {
            assert_eq!(EventId::read(text), None, "{text}");
        }
        assert_eq!(id(4, 5).to_string(), "4-5");
    }

    /// SH-10: only that stream's later events.
    #[test]
    fn a_stream_gets_its_own_later_events() {
        let mut ring = Ring::default();
        for number in 0..4 {
            for stream in 0..3 {
                ring.keep(id(stream, number), format!("{stream}:{number}").into_bytes());
            }
        }
        let after = |last| ring.after(last).map(String::from_utf8_lossy).collect::<Vec<_>>().join(" ");
        assert_eq!(after(id(1, 1)), "1:2 1:3");
        assert_eq!(after(id(1, 3)), "");
        assert_eq!(after(id(9, 0)), "");
    }

    #[test]
    fn it_is_bounded_in_events_and_bytes() {
        let mut ring = Ring::default();
        for number in 0..10_000 {
            ring.keep(id(0, number), vec![b'x'; 10]);
        }
        assert_eq!(ring.events.len(), STDIO_REPLAY_EVENTS_MAX);
        ring.keep(id(0, 10_000), vec![b'x'; 8 * STDIO_REPLAY_BYTES_MAX]);
        assert_eq!(ring.events.len(), 1, "one of any size, alone");
        ring.keep(id(0, 10_001), vec![b'x'; 10]);
        assert_eq!((ring.events.len(), ring.bytes), (1, 10));
    }
}
