//! Parameters in `application/x-www-form-urlencoded`: the query of `/authorize` and the body of `/token`.
//!
//! What we do not change goes on as it was written, so a provider reads what its client sent. What we decide on must
//! stand there once (RFC 6749 section 3.1: parameters must not be repeated); `resource` alone may (RFC 8707 section 2).

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::limits::LOGIN_PARAMETERS_MAX;

/// The parameter that names the protected resource (RFC 8707 section 2).
pub const RESOURCE: &str = "resource";
/// The parameter whose values are a set, so that adding one keeps the others (RFC 6749 section 3.3).
const SCOPE: &str = "scope";

/// Why parameters are not taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FormFault {
    /// They are not encoded as they must be.
    Encoding,
    /// One stands there twice.
    Repeated,
    /// There are more than [`LOGIN_PARAMETERS_MAX`].
    TooMany,
}

impl FormFault {
    /// In words that fit into `error_description`.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Encoding => "the parameters are not application/x-www-form-urlencoded in UTF-8",
            Self::Repeated => "a parameter stands there more than once",
            Self::TooMany => "there are too many parameters",
        }
    }
}

/// Parameters in their order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Form(Vec<Parameter>);

#[derive(Clone, Debug, Eq, PartialEq)]
struct Parameter {
    name: String,
    value: String,
    /// As it was written, or as we write it.
    raw: String,
}

impl Form {
    /// Reads a query or a body.
    ///
    /// # Errors
    /// [`FormFault`]
    pub fn read(text: &str) -> Result<Self, FormFault> {
        let mut form = Self::default();
        for raw in text.split('&').filter(|raw| !raw.is_empty()) {
            let (name, value) = raw.split_once('=').unwrap_or((raw, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            if name != RESOURCE && form.get(&name).is_some() {
                return Err(FormFault::Repeated);
            }
            if form.0.len() == LOGIN_PARAMETERS_MAX {
                return Err(FormFault::TooMany);
            }
            form.0.push(Parameter { name, value, raw: raw.to_owned() });
        }
        Ok(form)
    }

    /// Parameters of ours.
    #[must_use]
    pub fn of(parameters: &[(String, String)]) -> Self {
        let mut form = Self::default();
        for (name, value) in parameters {
            form.add(name, value);
        }
        form
    }

    /// The first value of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|parameter| parameter.name == name).map(|parameter| &*parameter.value)
    }

    /// Every value of this name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |parameter| parameter.name == name).map(|parameter| &*parameter.value)
    }

    /// Takes every value of this name out.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|parameter| parameter.name != name);
    }

    /// Makes `value` the only one of this name; of `scope`, one more of the set.
    pub fn add(&mut self, name: &str, value: &str) {
        let mut value = Cow::Borrowed(value);
        if name == SCOPE
            && let Some(asked) = self.get(SCOPE)
        {
            let missing = value.split(' ').filter(|scope| !asked.split(' ').any(|known| known == *scope));
            let all: Vec<&str> = asked.split(' ').filter(|scope| !scope.is_empty()).chain(missing).collect();
            value = Cow::Owned(all.join(" "));
        }
        self.remove(name);
        let raw = format!("{}={}", encode(name), encode(&value));
        self.0.push(Parameter { name: name.to_owned(), value: value.into_owned(), raw });
    }

    /// As it goes on.
    #[must_use]
    pub fn write(&self) -> String {
        let raw: Vec<&str> = self.0.iter().map(|parameter| &*parameter.raw).collect();
        raw.join("&")
    }
}

/// `url` with these parameters behind its own query.
#[must_use]
pub fn with_query(url: &str, form: &Form) -> String {
    let query = form.write();
    let join = match url.split_once('?') {
        _ if query.is_empty() => "",
        None => "?",
        Some((_, "")) => "",
        Some(_) => "&",
    };
    format!("{url}{join}{query}")
}

fn decode(text: &str) -> Result<String, FormFault> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
    while let Some(b) = rest.next() {
        match b {
            b'%' => match (digit(rest.next()), digit(rest.next())) {
                (Some(high), Some(low)) => bytes.push(high << 4 | low),
                _ => return Err(FormFault::Encoding),
            },
            b'+' => bytes.push(b' '),
            0x21..=0x7e => bytes.push(b),
            _ => return Err(FormFault::Encoding),
        }
    }
    String::from_utf8(bytes).map_err(|_| FormFault::Encoding)
}

/// Percent-encoding that every reader of forms and of URLs understands (RFC 3986 section 2.1).
#[must_use]
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
            out.push(char::from(b));
        } else {
            let _ = write!(out, "%{b:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ASR-08, ASR-13: what is not ours to change goes on as it was written.
    #[test]
    fn untouched_parameters_keep_their_spelling() {
        for text in ["", "a=1&b=%7e+x&c", "resource=https%3a%2F%2fh&resource=y&state=%C3%A9"] {
            assert_eq!(Form::read(text).unwrap().write(), text, "{text}");
        }
        let mut form = Form::read("scope=a+b&audience=theirs&state=x%20y").unwrap();
        form.add("audience", "https://h/mcp?x=1&y");
        form.add("scope", "b c");
        assert_eq!(form.write(), "state=x%20y&audience=https%3A%2F%2Fh%2Fmcp%3Fx%3D1%26y&scope=a%20b%20c");
        assert_eq!(form.get("scope"), Some("a b c"));
        form.remove("state");
        assert_eq!(form.get("state"), None);
    }

    #[test]
    fn parameters_that_two_readers_could_take_differently_are_refused() {
        for (text, fault) in [
            ("a=1&a=2", FormFault::Repeated),
            ("client_id=a&client%5Fid=b", FormFault::Repeated),
            ("a=%", FormFault::Encoding),
            ("a=%g0", FormFault::Encoding),
            ("a=%ff", FormFault::Encoding),
            ("a=\u{e9}", FormFault::Encoding),
            ("a=b c", FormFault::Encoding),
        ] {
            assert_eq!(Form::read(text), Err(fault), "{text}");
        }
        let many: Vec<String> = (0..=LOGIN_PARAMETERS_MAX).map(|n| format!("p{n}=")).collect();
        assert_eq!(Form::read(&many.join("&")), Err(FormFault::TooMany));
    }

    #[test]
    fn a_query_is_joined_to_what_is_there() {
        let form = Form::read("a=1").unwrap();
        for (url, joined) in [
            ("https://h/a", "https://h/a?a=1"),
            ("https://h/a?", "https://h/a?a=1"),
            ("https://h/a?audience=x", "https://h/a?audience=x&a=1"),
        ] {
            assert_eq!(with_query(url, &form), joined);
        }
        assert_eq!(with_query("https://h/a", &Form::default()), "https://h/a");
    }
}
