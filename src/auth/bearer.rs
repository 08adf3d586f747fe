//! The bearer token of a request (RFC 6750 section 2.1): out of the `Authorization` header and from nowhere else.
//!
//! What the token says is [`super::token`]'s business; here it is a run of characters.

use std::fmt;

use super::Denied;
use super::fault::TokenFault;
use crate::edge::http1::Incoming;
use crate::header;
use crate::limits::TOKEN_BYTES_MAX;

/// Why a request is answered 400 and `invalid_request` (RFC 6750 section 3.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Malformed {
    /// More than one `Authorization` field.
    TwoCredentials,
    /// A token in the header and one in the query (RFC 6750 section 2: not more than one method).
    TwoMethods,
}

impl Malformed {
    /// The `error_description` for the client.
    #[must_use]
    pub fn client_text(self) -> &'static str {
        match self {
            Self::TwoCredentials => "More than one Authorization header field",
            Self::TwoMethods => "More than one method of sending the access token",
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TwoCredentials => "the request has more than one Authorization field",
            Self::TwoMethods => "the request has a token in its Authorization field and one in its query",
        })
    }
}

/// The token that a request carries.
///
/// A token in the query alone is no token: OAuth 2.1 section 5.1 took that method away, and MCP forbids it (RS-02).
/// Credentials of another scheme are none either.
///
/// # Errors
/// [`Denied::NoToken`] without credentials, [`Denied::Malformed`] where there are two, and [`Denied::BadToken`] where
/// `Bearer` is not followed by a token.
pub fn token_of(request: &Incoming) -> Result<&str, Denied> {
    presented(request)?.checked().map_err(Denied::BadToken)
}

/// What stands where a token has to be. Whether it has the characters of one is looked at by [`Presented::checked`]: one
/// that is remembered need not be looked at again.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a>(&'a [u8]);

impl<'a> Presented<'a> {
    /// A token from elsewhere.
    #[must_use]
    pub fn of(token: &'a str) -> Self {
        Self(token.as_bytes())
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// The token.
    ///
    /// # Errors
    /// [`TokenFault::NotAToken`]
    pub fn checked(self) -> Result<&'a str, TokenFault> {
        let token = std::str::from_utf8(self.0).ok().filter(|token| is_b64token(token));
        token.ok_or(TokenFault::NotAToken)
    }
}

/// As [`token_of`], without a look at the characters.
///
/// # Errors
/// As [`token_of`].
pub fn presented(request: &Incoming) -> Result<Presented<'_>, Denied> {
    let mut fields = request.headers_of(header::AUTHORIZATION);
    let Some(field) = fields.next() else { return Err(Denied::NoToken) };
    if fields.next().is_some() {
        return Err(Denied::Malformed(Malformed::TwoCredentials));
    }
    let Some(token) = bearer(field) else { return Err(Denied::NoToken) };
    if request.query().is_some_and(names_access_token) {
        return Err(Denied::Malformed(Malformed::TwoMethods));
    }
    token.map_err(Denied::BadToken)
}

/// The token of one `Authorization` field: `None` for another scheme. The scheme is compared without case (RFC 9110
/// section 11.1) and may be followed by more than one space (section 11.4).
fn bearer(field: &[u8]) -> Option<Result<Presented<'_>, TokenFault>> {
    let end = field.iter().position(|b| matches!(b, b' ' | b'\t')).unwrap_or(field.len());
    let (scheme, rest) = field.split_at_checked(end)?;
    if !scheme.eq_ignore_ascii_case(b"Bearer") {
        return None;
    }
    let spaces = rest.iter().take_while(|b| **b == b' ').count();
    let token = rest.get(spaces..).unwrap_or_default();
    if token.len() > TOKEN_BYTES_MAX {
        return Some(Err(TokenFault::TooLong { bytes: token.len() }));
    }
    Some(Ok(Presented(token)))
}

/// `1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="` (RFC 6750 section 2.1).
fn is_b64token(text: &str) -> bool {
    let text = text.as_bytes();
    let padding = text.iter().rev().take_while(|b| **b == b'=').count();
    let body = text.get(..text.len() - padding).unwrap_or_default();
    let fits = |b: u8| {
        b.is_ascii_alphanumeric()
            | (b == b'-')
            | (b == b'.')
            | (b == b'_')
            | (b == b'~')
            | (b == b'+')
            | (b == b'/')
    };
    // All of it is looked at, so that many bytes are looked at at once.
    !body.is_empty() && body.iter().fold(true, |all, b| all & fits(*b))
}

/// Whether a query has a parameter `access_token`, however its name is spelled (RFC 6750 section 2.3).
fn names_access_token(query: &str) -> bool {
    query.split(['&', ';']).any(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        percent_decoded(name).eq(b"access_token".iter().copied())
    })
}

fn percent_decoded(text: &str) -> impl Iterator<Item = u8> {
    let mut rest = text.as_bytes();
    std::iter::from_fn(move || {
        if let [b'%', high, low, after @ ..] = rest
            && let (Some(high), Some(low)) = (char::from(*high).to_digit(16), char::from(*low).to_digit(16))
        {
            rest = after;
            return u8::try_from(high * 16 + low).ok();
        }
        let (first, after) = rest.split_first()?;
        rest = after;
        Some(*first)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(target: &str, fields: &str) -> Incoming {
        let head = format!("GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        Incoming::parse(head.as_bytes(), [127, 0, 0, 1].into(), 0).unwrap().unwrap().0
    }

    /// RS-02, RS-03; RFC 6750 sections 2, 2.1 and 3.1.
    #[test]
    fn the_token_comes_from_one_authorization_field() {
        let bad = || Err(Denied::BadToken(TokenFault::NotAToken));
        let long = format!("Authorization: Bearer {}\r\n", "a".repeat(TOKEN_BYTES_MAX + 1));
        let longest = "a".repeat(TOKEN_BYTES_MAX);
        let full = format!("Authorization: Bearer {longest}\r\n");
        for (target, fields, expected) in [
            ("/", "", Err(Denied::NoToken)),
            ("/", "Authorization: Bearer abc.def-_~+/==\r\n", Ok("abc.def-_~+/==")),
            ("/", "authorization: bEARER   abc\r\n", Ok("abc")),
            ("/", full.as_str(), Ok(longest.as_str())),
            ("/", long.as_str(), Err(Denied::BadToken(TokenFault::TooLong { bytes: TOKEN_BYTES_MAX + 1 }))),
            ("/", "Authorization:\r\n", Err(Denied::NoToken)),
            ("/", "Authorization: Basic YTpi\r\n", Err(Denied::NoToken)),
            ("/", "Authorization: DPoP abc\r\n", Err(Denied::NoToken)),
            ("/", "Authorization: Bearerabc\r\n", Err(Denied::NoToken)),
            ("/", "Authorization: abc\r\n", Err(Denied::NoToken)),
            ("/", "Authorization: Bearer\r\n", bad()),
            ("/", "Authorization: Bearer\tabc\r\n", bad()),
            ("/", "Authorization: Bearer ===\r\n", bad()),
            ("/", "Authorization: Bearer a=b\r\n", bad()),
            ("/", "Authorization: Bearer a b\r\n", bad()),
            ("/", "Authorization: Bearer a, Bearer b\r\n", bad()),
            ("/", "Authorization: Bearer \"abc\"\r\n", bad()),
            ("/", "Authorization: Bearer token=\"abc\"\r\n", bad()),
            ("/?access_token=abc", "", Err(Denied::NoToken)),
            ("/?access_token=abc", "Authorization: Basic YTpi\r\n", Err(Denied::NoToken)),
            ("/?no_access_token=abc&x", "Authorization: Bearer abc\r\n", Ok("abc")),
        ] {
            assert_eq!(token_of(&parsed(target, fields)), expected, "{target} {:.60}", fields);
        }
        for fields in [
            "Authorization: Bearer a\r\nAuthorization: Bearer a\r\n",
            "Authorization: Basic YTpi\r\nAUTHORIZATION: Bearer a\r\n",
            "Authorization:\r\nAuthorization: Bearer a\r\n",
        ] {
            let two = Err(Denied::Malformed(Malformed::TwoCredentials));
            assert_eq!(token_of(&parsed("/", fields)), two, "{fields}");
        }
        for target in [
            "/?access_token=x",
            "/?a=b&access_token",
            "/?a;access_token=x",
            "/?%61ccess%5Ftoken=x&%",
            "/?&access_token=",
        ] {
            let two = Err(Denied::Malformed(Malformed::TwoMethods));
            assert_eq!(token_of(&parsed(target, "Authorization: Bearer abc\r\n")), two, "{target}");
        }
    }
}
