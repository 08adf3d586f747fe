//! The chunked transfer coding (RFC 9112 section 7.1), in the direction that reads it.
//!
//! A pure state machine: it is shown bytes and says which of them are data. Both the request body of a client and the
//! answer of an MCP server go through it, and so does the fuzzer.

use std::ops::Range;

/// Most bytes of chunk extensions and of trailer fields, each; nobody needs either.
const SIDE_BYTES_MAX: usize = 4096;

/// What is wrong with a chunked body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BadChunk(pub &'static str);

/// What a look at some bytes came to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Step {
    /// How many bytes were understood; the rest is shown again with more behind it.
    pub used: usize,
    /// Which of them are data.
    pub data: Range<usize>,
    /// Whether the body ended with them.
    pub done: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Size,
    /// White space behind a size, which some senders pad with.
    Padding,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    LineStart,
    TrailerName,
    Trailer,
    TrailerLf,
    EndLf,
    Done,
}

/// Where in a chunked body we are.
#[derive(Clone, Debug)]
pub struct Chunked {
    state: State,
    size: u64,
    digits: u8,
    side: usize,
}

impl Default for Chunked {
    fn default() -> Self {
        Self { state: State::Size, size: 0, digits: 0, side: 0 }
    }
}

impl Chunked {
    /// Bytes of data that the chunk at hand still announces; none before its size line is whole, so that a body is
    /// judged the same wherever a read happened to end.
    #[must_use]
    pub fn announced(&self) -> u64 {
        if self.state == State::Data { self.size } else { 0 }
    }

    /// Reads on, up to the end of the next piece of data, of the body, or of `input`.
    ///
    /// # Errors
    /// Anything but CRLF line ends, a size that is not 1 to 16 hexadecimal digits, data that does not end where its
    /// size says, a trailer that is no field line, or too long an extension or trailer.
    pub fn step(&mut self, input: &[u8]) -> Result<Step, BadChunk> {
        let mut at = 0;
        while let Some(&byte) = input.get(at) {
            match self.state {
                State::Size => match (byte as char).to_digit(16) {
                    Some(_) if self.digits == 16 => return Err(BadChunk("chunk size over 64 bits")),
                    Some(digit) => {
                        self.size = self.size << 4 | u64::from(digit);
                        self.digits += 1;
                    }
                    None if self.digits == 0 => return Err(BadChunk("chunk size is not hexadecimal")),
                    None => {
                        self.state = match byte {
                            b'\r' => State::SizeLf,
                            b';' => State::Extension,
                            b' ' | b'\t' => State::Padding,
                            _ => return Err(BadChunk("chunk size is not hexadecimal")),
                        }
                    }
                },
                State::Padding => {
                    self.side += 1;
                    self.state = match byte {
                        b'\r' => State::SizeLf,
                        b';' => State::Extension,
                        _ if self.side > SIDE_BYTES_MAX => return Err(BadChunk("chunk extension too long")),
                        b' ' | b'\t' => State::Padding,
                        _ => return Err(BadChunk("chunk size is not hexadecimal")),
                    }
                }
                State::Extension => {
                    self.side += 1;
                    self.state = match byte {
                        b'\r' => State::SizeLf,
                        _ if self.side > SIDE_BYTES_MAX => return Err(BadChunk("chunk extension too long")),
                        b'\t' | b' '..=b'~' | 0x80.. => State::Extension,
                        _ => return Err(BadChunk("control character in a chunk extension")),
                    }
                }
                State::SizeLf => {
                    expect(byte, b'\n')?;
                    self.digits = 0;
                    self.state = if self.size == 0 { State::LineStart } else { State::Data };
                }
                State::Data => {
                    let here = input.len() - at;
                    let take = usize::try_from(self.size).map_or(here, |size| size.min(here));
                    self.size -= take as u64;
                    if self.size == 0 {
                        self.state = State::DataCr;
                    }
                    return Ok(Step { used: at + take, data: at..at + take, done: false });
                }
                State::DataCr => {
                    expect(byte, b'\r')?;
                    self.state = State::DataLf;
                }
                State::DataLf => {
                    expect(byte, b'\n')?;
                    self.state = State::Size;
                }
                State::LineStart if byte == b'\r' => self.state = State::EndLf,
                State::LineStart | State::TrailerName => {
                    self.side += 1;
                    self.state = match byte {
                        _ if self.side > SIDE_BYTES_MAX => return Err(BadChunk("trailer too long")),
                        b':' if self.state == State::TrailerName => State::Trailer,
                        _ if is_token(byte) => State::TrailerName,
                        _ => return Err(BadChunk("a trailer is no header field")),
                    }
                }
                State::Trailer => {
                    self.side += 1;
                    self.state = match byte {
                        b'\r' => State::TrailerLf,
                        _ if self.side > SIDE_BYTES_MAX => return Err(BadChunk("trailer too long")),
                        b'\t' | b' '..=b'~' | 0x80.. => State::Trailer,
                        _ => return Err(BadChunk("control character in a trailer")),
                    }
                }
                State::TrailerLf => {
                    expect(byte, b'\n')?;
                    self.state = State::LineStart;
                }
                State::EndLf => {
                    expect(byte, b'\n')?;
                    self.state = State::Done;
                    return Ok(Step { used: at + 1, data: 0..0, done: true });
                }
                State::Done => return Ok(Step { used: at, data: 0..0, done: true }),
            }
            at += 1;
        }
        Ok(Step { used: at, data: 0..0, done: self.state == State::Done })
    }
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn expect(byte: u8, wanted: u8) -> Result<(), BadChunk> {
    if byte == wanted { Ok(()) } else { Err(BadChunk("a line does not end with CRLF")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes `raw`, shown `piece` bytes at a time; the data and what is left behind the end.
    fn decode(raw: &[u8], piece: usize) -> Result<Option<(Vec<u8>, usize)>, BadChunk> {
        let (mut chunked, mut data, mut at) = (Chunked::default(), Vec::new(), 0);
        let mut shown = 0;
        while shown < raw.len() {
            shown = (shown + piece).min(raw.len());
            while at < shown {
                let step = chunked.step(&raw[at..shown])?;
                data.extend_from_slice(&raw[at..shown][step.data.clone()]);
                at += step.used;
                if step.done {
                    return Ok(Some((data, raw.len() - at)));
                }
            }
        }
        Ok(None)
    }

    #[test]
    fn data_is_the_same_however_it_arrives() {
        let raw = b"5\r\nhello\r\n1;a=\"b\"\r\n \r\n00005\r\nworld\r\n0\r\nTrailer: x\r\n\r\nGET /";
        for piece in 1..raw.len() {
            assert_eq!(decode(raw, piece), Ok(Some((b"hello world".to_vec(), 5))), "{piece} bytes at a time");
        }
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        for raw in [
            &b"+4\r\nabcd\r\n0\r\n\r\n"[..],
            b"\r\n",
            b"0x4\r\nabcd\r\n",
            b"4\nabcd\r\n",
            b"4\r\nabcdef",
            b"4\r\nabcd\n0\r\n\r\n",
            b"11112222333344445\r\n",
            b"4;a\nb\r\nabcd\r\n0\r\n\r\n",
            b"0\r\nA: b\n\r\n",
            b"0\r\n\rX",
            b"-1\r\n",
            b"4 4\r\nabcd\r\n0\r\n\r\n",
            b"0\r\n folded\r\n\r\n",
            b"0\r\n: nameless\r\n\r\n",
            b"0\r\nGET / HTTP/1.1\r\n\r\n",
            b"0\r\nName : b\r\n\r\n",
            b"4\r\rabcd",
        ] {
            assert!(decode(raw, raw.len()).is_err(), "{:?}", String::from_utf8_lossy(raw));
        }
    }

    #[test]
    fn a_body_that_stops_early_is_not_done() {
        for raw in [&b"4\r\nabc"[..], b"4\r\nabcd\r\n", b"4\r\nabcd\r\n0\r\n", b"0\r\n\r"] {
            assert_eq!(decode(raw, raw.len()), Ok(None), "{:?}", String::from_utf8_lossy(raw));
        }
    }
}
