//! Scopes (RFC 6749 section 3.3) and sets of them.

use std::collections::BTreeSet;
use std::fmt;

/// One scope: a non-empty run of the characters that RFC 6749 section 3.3 allows, `%x21 / %x23-5B / %x5D-7E`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Scope(Box<str>);

impl Scope {
    /// `None` where `text` is empty or holds another character.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let fits = |b: u8| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
        (!text.is_empty() && text.bytes().all(fits)).then(|| Self(text.into()))
    }

    /// The scope as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A set of scopes; shown space-separated, as `scope` in a token or challenge is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ScopeSet(pub BTreeSet<Scope>);

impl ScopeSet {
    /// The scopes of a space-separated list; whatever is no scope is left out.
    #[must_use]
    pub fn parse(list: &str) -> Self {
        Self(list.split(' ').filter_map(Scope::new).collect())
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, scope) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str(" ")?;
            }
            f.write_str(scope.as_str())?;
        }
        Ok(())
    }
}

/// What a call is about, as far as rules look at it.
#[derive(Clone, Copy, Debug)]
pub struct CallSubject<'a> {
    /// The JSON-RPC method; empty where there is none.
    pub method: &'a str,
    /// The tool, prompt or resource.
    pub item: Option<&'a str>,
    /// The HTTP path.
    pub path: &'a str,
}
