//! An answer of our own, and the one place where a [`Refusal`] becomes status, headers and body.

use std::borrow::Cow;

/// The value of a header that we write. It cannot hold CR, LF, NUL or any other control character, so no value that
/// came from a peer can end a header line early (RFC 9110 section 5.5).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HeaderValue(Cow<'static, str>);

impl HeaderValue {
    /// A value known when the program is compiled.
    #[must_use]
    pub const fn fixed(value: &'static str) -> Self {
        Self(Cow::Borrowed(value))
    }

    /// `value` with every byte that may not stand in a header replaced by a space.
    #[must_use]
    pub fn cleaned(value: impl Into<String>) -> Self {
        let value: String = value.into();
        if value.bytes().all(|b| (0x20..0x7f).contains(&b)) {
            return Self(Cow::Owned(value));
        }
        Self(Cow::Owned(value.chars().map(|c| if (' '..='~').contains(&c) { c } else { ' ' }).collect()))
    }

    /// The text as it is sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A whole answer: status, headers and a body that is already in memory.
///
/// `Content-Length`, `Connection` and `Date` are the engine's to write; they are not put in here.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status code, 200 to 599.
    pub status: u16,
    /// Header names in lower case, in the order they are sent.
    pub headers: Vec<(&'static str, HeaderValue)>,
    /// The body; empty for none.
    pub body: Vec<u8>,
}

impl Reply {
    /// An answer without a body.
    #[must_use]
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    /// An answer with a JSON body.
    #[must_use]
    pub fn json(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::new(status)
            .header(crate::header::CONTENT_TYPE, HeaderValue::fixed("application/json"))
            .body(body)
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }
}
