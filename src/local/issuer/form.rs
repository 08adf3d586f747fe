//! `application/x-www-form-urlencoded`, in both directions (WHATWG URL standard, section 5; RFC 6749 appendix B).
//!
//! OAuth says that a parameter must not be sent twice (RFC 6749 section 3.1); RFC 8707 makes `resource` the exception.
//! So a form is a list here, and reading one value of a name that stands there twice is an error.

use crate::limits::LOCAL_PARAMETERS_MAX;
use crate::provider::form::encode;

/// Decoded pairs, in the order in which they were sent.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Form(Vec<(String, String)>);

/// A form that cannot be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum FormFault {
    /// A broken escape, bytes that are no UTF-8, or too many parameters.
    Unreadable,
    /// This parameter stands there twice.
    Repeated(&'static str),
}

impl FormFault {
    /// What the client is told.
    pub(super) fn description(self) -> String {
        match self {
            Self::Unreadable => "the parameters cannot be read".to_owned(),
            Self::Repeated(name) => format!("{name} must not be repeated"),
        }
    }
}

impl Form {
    /// Reads a query or a body.
    ///
    /// # Errors
    /// [`FormFault::Unreadable`]
    pub(super) fn read(text: &[u8]) -> Result<Self, FormFault> {
        let mut pairs = Vec::new();
        for pair in text.split(|b| *b == b'&').filter(|pair| !pair.is_empty()) {
            if pairs.len() == LOCAL_PARAMETERS_MAX {
                return Err(FormFault::Unreadable);
            }
            let mut halves = pair.splitn(2, |b| *b == b'=');
            let (name, value) = (halves.next().unwrap_or_default(), halves.next().unwrap_or_default());
            pairs.push((decode(name)?, decode(value)?));
        }
        Ok(Self(pairs))
    }

    /// The value of `name`. An empty one counts as absent (RFC 6749 section 3.1).
    ///
    /// # Errors
    /// [`FormFault::Repeated`]
    pub(super) fn one(&self, name: &'static str) -> Result<Option<&str>, FormFault> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(FormFault::Repeated(name)),
            (value, None) => Ok(value),
        }
    }

    /// Every value of `name` that is not empty.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(n, v)| n == name && !v.is_empty()).map(|(_, v)| v.as_str())
    }
}

fn decode(text: &[u8]) -> Result<String, FormFault> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter().copied();
    while let Some(b) = rest.next() {
        bytes.push(match b {
            b'+' => b' ',
            b'%' => {
                let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16));
                let (high, low) = (digit(), digit());
                let value = high.zip(low).and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
                value.ok_or(FormFault::Unreadable)?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).map_err(|_| FormFault::Unreadable)
}

/// Adds `parameters` to the query of `url`, which has no fragment.
pub(super) fn with_query(url: &str, parameters: &[(&str, &str)]) -> String {
    let mut out = url.to_owned();
    let mut separator = if url.contains('?') { '&' } else { '?' };
    for (name, value) in parameters {
        out.push(separator);
        separator = '&';
        out.push_str(name);
        out.push('=');
        out.push_str(&encode(value));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_read_or_refused() {
        let form = Form::read(b"a=1&b=x+y%2Fz&resource=r&resource=s&empty=&c").unwrap();
        assert_eq!(form.one("a"), Ok(Some("1")));
        assert_eq!(form.one("b"), Ok(Some("x y/z")));
        assert_eq!(form.one("empty"), Ok(None));
        assert_eq!(form.one("c"), Ok(None));
        assert_eq!(form.one("resource"), Err(FormFault::Repeated("resource")));
        assert_eq!(form.all("resource").collect::<Vec<_>>(), ["r", "s"]);
        for broken in [b"a=%".as_slice(), b"a=%4", b"a=%zz", b"a=%FF", b"%C3=1"] {
            assert_eq!(Form::read(broken), Err(FormFault::Unreadable), "{broken:?}");
        }
        let many = "a=1&".repeat(LOCAL_PARAMETERS_MAX + 1);
        assert_eq!(Form::read(many.as_bytes()), Err(FormFault::Unreadable));
    }

    #[test]
    fn what_is_written_reads_back() {
        let odd = "a b&c=d/é%\r\n";
        let url = with_query("http://localhost/cb?x=1", &[("state", odd), ("iss", "http://a:1")]);
        assert!(url.starts_with("http://localhost/cb?x=1&state="), "{url}");
        assert!(url.bytes().all(|b| b.is_ascii_graphic()), "{url}");
        let form = Form::read(url.split_once('?').unwrap().1.as_bytes()).unwrap();
        assert_eq!((form.one("state"), form.one("iss")), (Ok(Some(odd)), Ok(Some("http://a:1"))));
    }
}
