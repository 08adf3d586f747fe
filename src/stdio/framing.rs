//! Lines out of a stream of bytes, each of bounded length.
//!
//! A server that never ends its line costs no more than the bound: the rest of such a line is skipped but for
//! its ends, and told once.

use memchr::memchr;

use super::cut::Cut;

/// A buffer as large as one line once was is not kept for all those to come, beyond this.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// Cuts what is read into lines.
#[derive(Debug)]
pub struct Lines {
    /// The beginning of a line whose end has not been read.
    held: Vec<u8>,
    /// Longest line, in bytes.
    most: usize,
    /// The ends of the line that is being read, where it is too long already.
    cut: Option<Cut>,
}

/// What was found.
#[derive(Debug, Eq, PartialEq)]
pub enum Found<'a> {
    /// A line without its ending, never blank.
    Line(&'a [u8]),
    /// The end of a line that is longer than it may be.
    TooLong(&'a Cut),
}

impl Lines {
    /// Lines of at most `most` bytes.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { held: Vec::new(), most, cut: None }
    }

    /// Takes what was read, and hands on every line that ends in it. A carriage return before the line end belongs to
    /// it; blank lines are nothing.
    pub fn push(&mut self, mut read: &[u8], mut found: impl FnMut(Found<'_>)) {
        while let Some(at) = memchr(b'\n', read) {
            let (line, rest) = read.split_at(at);
            read = rest.get(1..).unwrap_or_default();
            if self.cut.is_some() || self.held.len() + line.len() > self.most {
                self.skip(line);
                found(Found::TooLong(&self.cut.take().unwrap_or_default()));
            } else if self.held.is_empty() {
                hand_on(line, &mut found);
            } else {
                self.held.extend_from_slice(line);
                hand_on(&self.held, &mut found);
                self.held.clear();
                self.held.shrink_to(KEPT_BYTES_MAX);
            }
        }
        if self.cut.is_some() || self.held.len() + read.len() > self.most {
            self.skip(read);
        } else {
            self.held.extend_from_slice(read);
        }
    }

    /// Keeps of a line that is too long no more than its ends.
    fn skip(&mut self, piece: &[u8]) {
        let held = std::mem::take(&mut self.held);
        let cut = self.cut.get_or_insert_default();
        cut.push(&held);
        cut.push(piece);
    }
}

fn hand_on(line: &[u8], found: &mut impl FnMut(Found<'_>)) {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if !line.iter().all(u8::is_ascii_whitespace) {
        found(Found::Line(line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, piece: usize, most: usize) -> Vec<String> {
        let (mut lines, mut all) = (Lines::new(most), Vec::new());
        for piece in text.as_bytes().chunks(piece) {
            lines.push(piece, |found| {
                all.push(match found {
                    Found::Line(line) => String::from_utf8_lossy(line).into_owned(),
                    Found::TooLong(_) => "(too long)".into(),
                });
            });
        }
        all
    }

    /// Section 3.1: however the pieces fall, the lines are the same.
    #[test]
    fn pieces_become_lines() {
        for (text, lines) in [
            ("a\nb\n", &["a", "b"][..]),
            ("a\r\nb\r\n", &["a", "b"]),
            ("\n\n \t\n\r\na\n", &["a"]),
            ("{\"a\":\"\u{e9}\"}\nrest", &["{\"a\":\"\u{e9}\"}"]),
            ("1234567890\n12345678901\nx\n", &["1234567890", "(too long)", "x"]),
            ("123456789012345678901234567890\nx\n", &["(too long)", "x"]),
        ] {
            for piece in 1..=text.len() {
                assert_eq!(read(text, piece, 10), lines, "{text:?} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn a_line_without_an_end_costs_no_more_than_the_bound() {
        let mut lines = Lines::new(10_000);
        for _ in 0..1000 {
            lines.push(&[b'x'; 999], |_| panic!("no line has ended"));
            assert!(lines.held.capacity() <= 20_000);
        }
    }
}
