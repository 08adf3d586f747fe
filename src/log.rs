//! Lines to standard error, as text or JSON, written by a thread of their own.
//!
//! ```text
//! any thread ──▶ buffer (bounded) ──▶ writer thread ──▶ standard error
//! ```
//!
//! A reader of our standard error that stalls must not stall a request: a line is put into the buffer or, when that is
//! full, dropped and counted. The writer is woken once and then collects for a moment, so that many lines cost one
//! system call. No value of a header, no body and no token is ever given to this module.

use std::cell::{Cell, RefCell};
use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::limits::{LOG_BYTES_MAX, LOG_LINE_KEPT_BYTES};

thread_local! {
    /// Room for a line while it is made.
    static LINE: Cell<String> = const { Cell::new(String::new()) };
    /// The second of the last line, and how it is shown.
    static SECOND: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
}

/// How much is said.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Level {
    /// Something an operator must look at.
    Error,
    /// Something an operator should know.
    Warn,
    /// One line per request, and the milestones of the program.
    Info,
    /// What one needs to find a fault.
    Debug,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Format {
    /// `2026-07-28T09:00:00.000Z info message key=value`
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// A handle to the log. Clones write to the same place.
#[derive(Clone)]
pub struct Log {
    shared: Arc<Shared>,
}

struct Shared {
    level: Level,
    format: Format,
    state: Mutex<State>,
    wake: Condvar,
    to_memory: bool,
}

#[derive(Default)]
struct State {
    buffer: Vec<u8>,
    dropped: u64,
    writing: bool,
    closed: bool,
}

/// One `key=value` of a line.
pub type Field<'a> = (&'static str, &'a dyn fmt::Display);

/// One `key=value` of the line that every request has. What it usually shows is written without the machinery of
/// formatting, which costs more than the rest of the line.
pub type Fact<'a> = (&'static str, Value<'a>);

/// What a [`Fact`] shows.
#[derive(Clone, Copy)]
pub enum Value<'a> {
    /// A word of ours.
    Word(&'static str),
    /// Text of anybody.
    Text(&'a str),
    /// A number.
    Number(u64),
    /// An address.
    Address(IpAddr),
    /// Whatever else can be shown.
    Any(&'a dyn fmt::Display),
}

impl Value<'_> {
    /// Appends it, and says whether it may hold what has to be quoted.
    fn put(self, out: &mut String) -> bool {
        match self {
            Self::Word(word) => out.push_str(word),
            Self::Number(number) => out.push_str(itoa::Buffer::new().format(number)),
            Self::Address(IpAddr::V4(address)) => {
                for (at, octet) in address.octets().into_iter().enumerate() {
                    if at > 0 {
                        out.push('.');
                    }
                    out.push_str(itoa::Buffer::new().format(octet));
                }
            }
            Self::Address(IpAddr::V6(address)) => drop(write!(out, "{address}")),
            Self::Text(text) => {
                out.push_str(text);
                return true;
            }
            Self::Any(shown) => {
                let _ = write!(out, "{shown}");
                return true;
            }
        }
        false
    }
}

impl Log {
    /// A log to standard error.
    #[must_use]
    pub fn to_stderr(level: Level, format: Format) -> Self {
        let log = Self::new(level, format, false);
        let shared = Arc::clone(&log.shared);
        // Without the thread nothing would ever be written; a system that cannot start one at all cannot serve either,
        // and the caller finds that out with the first worker.
        let _ = std::thread::Builder::new()
            .name("log".into())
            .stack_size(crate::limits::STACK_BYTES)
            .spawn(move || shared.write_all());
        log
    }

    /// A log that keeps its text, for tests.
    #[must_use]
    pub fn to_memory(level: Level) -> Self {
        Self::new(level, Format::Text, true)
    }

    fn new(level: Level, format: Format, to_memory: bool) -> Self {
        let state = Mutex::new(State::default());
        Self { shared: Arc::new(Shared { level, format, state, wake: Condvar::new(), to_memory }) }
    }

    /// Whether a line of this level would be written.
    #[must_use]
    pub fn wants(&self, level: Level) -> bool {
        level <= self.shared.level
    }

    /// Writes one line. `message` is a sentence without a full stop; what varies goes into `fields`.
    pub fn line(&self, level: Level, message: &str, fields: &[Field<'_>]) {
        self.write(level, message, &mut fields.iter().map(|(key, shown)| (*key, Value::Any(*shown))));
    }

    /// Writes one line of facts.
    pub fn facts(&self, level: Level, message: &str, facts: &[Fact<'_>]) {
        self.write(level, message, &mut facts.iter().copied());
    }

    fn write(&self, level: Level, message: &str, facts: &mut dyn Iterator<Item = Fact<'_>>) {
        if !self.wants(level) {
            return;
        }
        // The thread's own, again and again; a value that logs while it is shown finds none and makes one.
        let mut text = LINE.take();
        text.clear();
        match self.shared.format {
            Format::Text => text_line(&mut text, level, message, facts),
            Format::Json => json_line(&mut text, level, message, facts),
        }
        self.append(&text);
        if text.capacity() <= LOG_LINE_KEPT_BYTES {
            LINE.set(text);
        }
    }

    /// Leaves a line for the writer.
    fn append(&self, text: &str) {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.buffer.len() + text.len() > LOG_BYTES_MAX {
            state.dropped += 1;
            return;
        }
        let was_empty = state.buffer.is_empty();
        state.buffer.extend_from_slice(text.as_bytes());
        drop(state);
        if was_empty && !self.shared.to_memory {
            self.shared.wake.notify_one();
        }
    }

    /// [`Level::Error`]
    pub fn error(&self, message: &str, fields: &[Field<'_>]) {
        self.line(Level::Error, message, fields);
    }

    /// [`Level::Warn`]
    pub fn warn(&self, message: &str, fields: &[Field<'_>]) {
        self.line(Level::Warn, message, fields);
    }

    /// [`Level::Info`]
    pub fn info(&self, message: &str, fields: &[Field<'_>]) {
        self.line(Level::Info, message, fields);
    }

    /// [`Level::Debug`]
    pub fn debug(&self, message: &str, fields: &[Field<'_>]) {
        self.line(Level::Debug, message, fields);
    }

    /// What has been written so far to a log in memory; empty for standard error.
    #[must_use]
    pub fn text(&self) -> String {
        if !self.shared.to_memory {
            return String::new();
        }
        let state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&state.buffer).into_owned()
    }

    /// Waits, at most a second, until all lines are out. Called once, before the program ends.
    pub fn flush(&self) {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.closed = true;
        self.shared.wake.notify_all();
        for _ in 0..100 {
            if state.buffer.is_empty() && !state.writing || self.shared.to_memory {
                return;
            }
            let waited = self.shared.wake.wait_timeout(state, Duration::from_millis(10));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Shared {
    /// The writer thread: until the log is closed and empty.
    fn write_all(&self) {
        let mut chunk = Vec::new();
        loop {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            while state.buffer.is_empty() && !state.closed {
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.buffer.is_empty() {
                return;
            }
            if !state.closed {
                drop(state);
                // Lines that come close together leave in one write.
                std::thread::sleep(Duration::from_millis(5));
                state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            }
            std::mem::swap(&mut chunk, &mut state.buffer);
            let dropped = std::mem::take(&mut state.dropped);
            state.writing = true;
            drop(state);
            let mut stderr = std::io::stderr().lock();
            // Nobody is left to tell when standard error itself fails.
            let _ = stderr.write_all(&chunk);
            if dropped > 0 {
                let _ =
                    writeln!(stderr, "warn: {dropped} log lines were dropped, standard error is too slow");
            }
            drop(stderr);
            chunk.clear();
            self.state.lock().unwrap_or_else(PoisonError::into_inner).writing = false;
            self.wake.notify_all();
        }
    }
}

fn text_line(out: &mut String, level: Level, message: &str, facts: &mut dyn Iterator<Item = Fact<'_>>) {
    timestamp(out);
    out.push(' ');
    out.push_str(level.name());
    out.push(' ');
    out.push_str(message);
    for (key, value) in facts {
        // One character is pushed without a call.
        out.push(' ');
        out.push_str(key);
        out.push('=');
        let start = out.len();
        if !value.put(out) {
            continue;
        }
        let value = out.get(start..).unwrap_or_default();
        let plain = value.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'=');
        if !value.is_empty() && plain {
            continue;
        }
        // Most of what is quoted are words of ours with spaces between them, which need nothing else.
        if value.bytes().all(|b| matches!(b, b' '..=b'~') && !matches!(b, b'"' | b'\\')) {
            out.insert(start, '"');
            out.push('"');
        } else {
            let value = value.to_owned();
            out.truncate(start);
            let _ = write!(out, "{value:?}");
        }
    }
    out.push('\n');
}

fn json_line(out: &mut String, level: Level, message: &str, facts: &mut dyn Iterator<Item = Fact<'_>>) {
    out.push_str("{\"time\":\"");
    timestamp(out);
    let _ = write!(out, "\",\"level\":\"{}\",\"message\":{}", level.name(), serde_json::Value::from(message));
    for (key, value) in facts {
        let mut shown = String::new();
        value.put(&mut shown);
        let _ = write!(out, ",\"{key}\":{}", serde_json::Value::from(shown));
    }
    out.push_str("}\n");
}

/// RFC 3339, in UTC, to the millisecond.
fn timestamp(out: &mut String) {
    let since = crate::clock::system_since_epoch();
    SECOND.with_borrow_mut(|(second, shown)| {
        if *second != since.as_secs() || shown.is_empty() {
            *second = since.as_secs();
            shown.clear();
            to_the_second(shown, *second);
        }
        out.push_str(shown);
    });
    out.push('.');
    padded(out, since.subsec_millis().into(), 3);
    out.push('Z');
}

fn to_the_second(out: &mut String, since: u64) {
    let (days, second) = (since / 86_400, since % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    for (before, number, digits) in
        [("", year, 4), ("-", month, 2), ("-", day, 2), ("T", hour, 2), (":", minute, 2), (":", second, 2)]
    {
        out.push_str(before);
        padded(out, number, digits);
    }
}

/// The last `digits` decimal digits of a number, without the machinery of formatting, which costs more than the rest of
/// a line.
fn padded(out: &mut String, number: u64, digits: u32) {
    for place in (0..digits).rev() {
        let digit = u32::try_from(number / 10_u64.pow(place) % 10).unwrap_or(0);
        out.push(char::from_digit(digit, 10).unwrap_or('0'));
    }
}

/// Year, month and day of a number of days since 1970-01-01, in the proleptic Gregorian calendar.
///
/// The year is counted from March, so that the leap day is its last day and a month's first day follows from a line
/// through 30.6 days a month.
#[must_use]
pub fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468; // days since 0000-03-01
    let era = shifted / 146_097; // 400 years each
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        for (days, date) in
            [(0, (1970, 1, 1)), (59, (1970, 3, 1)), (11_016, (2000, 2, 29)), (20_662, (2026, 7, 28))]
        {
            assert_eq!(civil(days), date, "day {days}");
        }
    }

    #[test]
    fn a_moment_is_shown_to_the_second() {
        let mut shown = String::new();
        to_the_second(&mut shown, 20_662 * 86_400 + 9 * 3600 + 5 * 60 + 1);
        assert_eq!(shown, "2026-07-28T09:05:01");
    }

    #[test]
    fn a_value_cannot_forge_a_line_or_a_field() {
        let log = Log::to_memory(Level::Info);
        log.info("request", &[("path", &"/a\n2026 info forged x=y")]);
        assert_eq!(log.text().lines().count(), 1);
        assert!(log.text().contains(r#"path="/a\n2026 info forged x=y""#));
    }

    /// The line of a request is written by other means than the others, and looks the same.
    #[test]
    fn facts_are_shown_as_fields_are() {
        for format in [Format::Text, Format::Json] {
            let log = Log::new(Level::Info, format, true);
            let addresses: [IpAddr; 3] =
                ["192.0.2.10", "255.0.0.1", "2001:db8::1"].map(|text| text.parse().unwrap());
            let texts = ["plain", "two words", "a\"b", "x=y", "", "line\nend", "\u{202e}"];
            let numbers = [0, 7, 401, u64::MAX];
            let after =
                |log: &Log| log.text().lines().last().unwrap().split_once("info").unwrap().1.to_owned();
            let same = |value: Value<'_>, shown: &dyn fmt::Display| {
                log.facts(Level::Info, "request", &[("key", value), ("next", Value::Word("ours"))]);
                let fact = after(&log);
                log.info("request", &[("key", shown), ("next", &"ours")]);
                assert_eq!(fact, after(&log), "{shown}");
            };
            addresses.iter().for_each(|address| same(Value::Address(*address), address));
            texts.iter().for_each(|text| same(Value::Text(text), text));
            texts.iter().for_each(|text| same(Value::Any(text), text));
            numbers.iter().for_each(|number| same(Value::Number(*number), number));
        }
    }
}
