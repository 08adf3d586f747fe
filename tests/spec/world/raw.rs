//! A client that writes bytes, for what no HTTP library would send.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// One connection. Reads end with an error after ten seconds.
pub struct Raw {
    pub stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer, taken apart as far as the tests look.
#[derive(Debug, Clone)]
pub struct RawAnswer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl RawAnswer {
    /// The only value of a header; panics when it is there twice.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        let value = found.next().map(|(_, v)| v.as_str());
        assert!(found.next().is_none(), "{name} is there twice");
        value
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Raw {
    pub fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).expect("connects");
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        // A peer that has refused already may have closed: what it answered is what counts.
        let _ = self.stream.write_all(bytes.as_ref());
        self
    }

    fn fill(&mut self) -> usize {
        let mut piece = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut piece) {
                Ok(read) => {
                    self.buffer.extend_from_slice(&piece[..read]);
                    return read;
                }
                Err(err) if err.kind() == ErrorKind::Interrupted => {}
                Err(err) if err.kind() == ErrorKind::ConnectionReset => return 0,
                Err(err) => panic!("nothing came in time: {err}"),
            }
        }
    }

    /// Reads the head of an answer; the body is left.
    pub fn head(&mut self) -> Option<RawAnswer> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if self.fill() == 0 {
                assert!(self.buffer.is_empty(), "half a head: {:?}", String::from_utf8_lossy(&self.buffer));
                return None;
            }
        };
        let head = String::from_utf8(self.buffer.drain(..end).collect()).expect("a head in UTF-8");
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).expect("a status").parse().expect("a status");
        let headers = lines
            .map(|line| {
                let (name, value) = line.split_once(':').expect("a header");
                (name.to_owned(), value.trim().to_owned())
            })
            .collect();
        Some(RawAnswer { status, headers, body: Vec::new() })
    }

    /// Reads one whole answer; `None` where the connection ended first.
    pub fn answer(&mut self) -> Option<RawAnswer> {
        let mut answer = self.head()?;
        if (100..200).contains(&answer.status) || matches!(answer.status, 204 | 304) {
            return Some(answer);
        }
        if let Some(length) = answer.header("content-length") {
            let length: usize = length.parse().unwrap();
            while self.buffer.len() < length {
                assert!(self.fill() > 0, "the body is cut short");
            }
            answer.body = self.buffer.drain(..length).collect();
        } else if answer.header("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk() {
                answer.body.extend_from_slice(&chunk);
            }
        } else {
            while self.fill() > 0 {}
            answer.body = std::mem::take(&mut self.buffer);
        }
        Some(answer)
    }

    /// Whatever comes until the connection ends or an answer with a length is whole.
    pub fn everything(&mut self) -> String {
        while !self.is_whole() && self.fill() > 0 {}
        String::from_utf8_lossy(&self.buffer).into_owned()
    }

    /// Whether the buffer holds an answer with a length, and all of it.
    fn is_whole(&self) -> bool {
        let text = String::from_utf8_lossy(&self.buffer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        length.is_some_and(|length| body.len() >= length.parse().unwrap())
    }

    /// Reads one chunk of a body; `None` is its proper end.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let line_end = self.until(b"\r\n");
        let line: Vec<u8> = self.buffer.drain(..line_end).collect();
        let size =
            usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim(), 16).expect("a chunk size");
        while self.buffer.len() < size + 2 {
            assert!(self.fill() > 0, "a chunk is cut short");
        }
        let chunk: Vec<u8> = self.buffer.drain(..size).collect();
        assert_eq!(self.buffer.drain(..2).collect::<Vec<_>>(), b"\r\n");
        (size > 0).then_some(chunk)
    }

    fn until(&mut self, mark: &[u8]) -> usize {
        loop {
            if let Some(at) = self.buffer.windows(mark.len()).position(|part| part == mark) {
                return at + mark.len();
            }
            assert!(self.fill() > 0, "the connection ended");
        }
    }

    /// Whether the other end closes within `time`, whatever else it sends.
    pub fn is_closed_within(&mut self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut piece = [0; 4096];
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            self.stream.set_read_timeout(Some(left)).unwrap();
            match self.stream.read(&mut piece) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(err) if matches!(err.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return false;
                }
                Err(_) => return true,
            }
        }
        false
    }
}
