//! Redirects within the MCP server: frameworks that answer `/mcp` with 307 to `/mcp/`, and the other way round.
//!
//! Method and body are kept (RFC 9110 sections 15.4.8 and 15.4.9), so such an answer is followed, once, on behalf of a
//! client that would otherwise be led past us. Only the path of a `Location` is ever used, and only where its authority
//! is one by which that server may know itself; a request never goes anywhere else. Any other redirect is the client's.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::limits::{REDIRECT_TIME_MAX, REDIRECTS_MAX, TARGET_BYTES_MAX};

/// Where paths have moved to, as far as the MCP server said so a moment ago.
#[derive(Debug, Default)]
pub(super) struct Moved {
    /// Whether there is anything in the list, so that nobody locks it for nothing.
    any: AtomicBool,
    paths: Mutex<Vec<(String, String, Instant)>>,
}

impl Moved {
    /// The target to ask for instead of this one, where its path has moved.
    pub(super) fn follow(&self, target: &str) -> Option<String> {
        if !self.any.load(Ordering::Relaxed) {
            return None;
        }
        let (path, query) = split(target);
        let mut paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        paths.retain(|(_, _, since)| now.duration_since(*since) < REDIRECT_TIME_MAX);
        self.any.store(!paths.is_empty(), Ordering::Relaxed);
        paths.iter().find(|(from, _, _)| from == path).map(|(_, to, _)| format!("{to}{query}"))
    }

    /// Remembers that `from` was redirected to `to`, where that is about the path alone.
    pub(super) fn remember(&self, from: &str, to: &str) {
        let ((from, query), (to, same)) = (split(from), split(to));
        if query != same {
            return;
        }
        let mut paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
        // Where it now points back, what led there is out of date.
        paths.retain(|(old_from, old_to, _)| old_from != from && old_to != from);
        if paths.len() < REDIRECTS_MAX {
            paths.push((from.to_owned(), to.to_owned(), Instant::now()));
        }
        self.any.store(!paths.is_empty(), Ordering::Relaxed);
    }

    /// Forgets everything: what was remembered led nowhere.
    pub(super) fn forget(&self) {
        self.paths.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.any.store(false, Ordering::Relaxed);
    }
}

/// The target that `location` names on the same server, for a request that asked for `from`. `names` are the origins
/// without their scheme by which the server may call itself.
pub(super) fn target(from: &str, location: &[u8], names: &[&str]) -> Option<String> {
    let location = std::str::from_utf8(location).ok()?;
    if !location.bytes().all(|b| b.is_ascii_graphic()) {
        return None;
    }
    let location = location.split('#').next().unwrap_or_default();
    let scheme =
        |name: &str| location.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
    // A server behind us may take its scheme from X-Forwarded-Proto: it is the same server under either.
    let behind = ["http://", "https://", "//"].into_iter().find(|start| scheme(start)).map(str::len);
    let target = match behind {
        Some(length) => {
            let rest = location.get(length..).unwrap_or_default();
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            let (authority, target) = rest.split_at_checked(end)?;
            if !names.iter().any(|name| name.eq_ignore_ascii_case(authority)) {
                return None;
            }
            if target.starts_with('/') { target.to_owned() } else { format!("/{target}") }
        }
        None if location.starts_with('/') => location.to_owned(),
        None => return None,
    };
    let fits = target.len() <= TARGET_BYTES_MAX && !target.starts_with("//");
    (fits && target != from).then_some(target)
}

/// The target in a request's head, and its place.
pub(super) fn target_in(request: &[u8]) -> Option<(std::ops::Range<usize>, &str)> {
    let start = memchr::memchr(b' ', request)? + 1;
    let length = memchr::memchr(b' ', request.get(start..)?)?;
    let place = start..start + length;
    Some((place.clone(), std::str::from_utf8(request.get(place)?).ok()?))
}

fn split(target: &str) -> (&str, &str) {
    target.split_at_checked(target.find('?').unwrap_or(target.len())).unwrap_or((target, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_place_on_the_same_server_is_followed() {
        let names = ["server:8000", "proxy.example"];
        for (location, to) in [
            ("/mcp/", Some("/mcp/")),
            ("/mcp/?a=b#c", Some("/mcp/?a=b")),
            ("http://server:8000/mcp/", Some("/mcp/")),
            ("https://SERVER:8000/mcp/?x", Some("/mcp/?x")),
            ("//server:8000/mcp/", Some("/mcp/")),
            ("http://server:8000", Some("/")),
            ("http://server:8000?x", Some("/?x")),
            ("https://proxy.example/mcp/", Some("/mcp/")),
            ("http://server:8001/mcp/", None),
            ("http://server/mcp/", None),
            ("http://evil.example/mcp/", None),
            ("http://server:8000@evil.example/mcp/", None),
            ("http://server:8000.evil.example/mcp/", None),
            ("http://server:8000\\@evil.example/", None),
            ("//evil.example/mcp", None),
            ("ftp://server:8000/mcp/", None),
            ("mcp/", None),
            ("", None),
            ("/mcp", None),
            ("/a b", None),
            ("/a\r\nX: y", None),
            ("http://server:8000//evil.example", None),
        ] {
            assert_eq!(target("/mcp", location.as_bytes(), &names).as_deref(), to, "{location:?}");
        }
        assert_eq!(target("/mcp", &[b'/', 0xff], &names), None);
    }

    #[test]
    fn a_move_is_remembered_by_its_path_and_forgotten_when_it_turns_round() {
        let moved = Moved::default();
        assert_eq!(moved.follow("/mcp"), None);
        moved.remember("/mcp?a", "/mcp/?a");
        assert_eq!(moved.follow("/mcp?b").as_deref(), Some("/mcp/?b"));
        assert_eq!(moved.follow("/mcp/"), None);
        moved.remember("/mcp?a", "/other?token=x");
        assert_eq!(moved.follow("/mcp").as_deref(), Some("/mcp/"), "a query is not remembered");
        moved.remember("/mcp/", "/mcp");
        assert_eq!(moved.follow("/mcp"), None);
        assert_eq!(moved.follow("/mcp/").as_deref(), Some("/mcp"));
        moved.forget();
        assert_eq!(moved.follow("/mcp/"), None);
        for n in 0..100 {
            moved.remember(&format!("/{n}"), "/x");
        }
        assert!(moved.paths.lock().unwrap().len() <= REDIRECTS_MAX);
    }
}
