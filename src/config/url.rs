//! The URLs that a configuration holds, each parsed once into what it is used as.
//!
//! Issuer identifiers and audiences are compared byte for byte and stay as they were written; they are only looked
//! at here. What is refused: user names and passwords (they would end in logs), queries and fragments, and anything
//! but plain ASCII.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;

use super::{BaseUrl, PublicUrl};

/// `unix:` and the absolute path of a socket, with `:/path` behind it where the server's endpoints are below one, as
/// nginx writes it.
pub(super) fn unix_base(text: &str) -> Option<Result<BaseUrl, &'static str>> {
    let rest = text.strip_prefix("unix:")?;
    let (socket, prefix) = match rest.split_once(":/") {
        Some((socket, path)) => (socket, format!("/{}", path.trim_end_matches('/'))),
        None => (rest, String::new()),
    };
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._~/".contains(&b);
    Some(if !socket.starts_with('/') || socket.ends_with('/') {
        Err("the path of its socket is not absolute")
    } else if socket.len() > UNIX_PATH_BYTES_MAX {
        Err("the path of its socket is longer than the system allows")
    } else if !prefix.bytes().all(fits) {
        Err("its path has characters that do not belong there")
    } else {
        let prefix = if prefix == "/" { String::new() } else { prefix };
        let socket = Some(PathBuf::from(socket));
        Ok(BaseUrl { tls: false, host: "localhost".into(), port: 80, prefix, socket })
    })
}

/// Longest path of a socket: `sun_path` of unix(7) with the NUL at its end.
const UNIX_PATH_BYTES_MAX: usize = 107;

/// The parts of an `http` or `https` URL.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Url {
    pub(super) tls: bool,
    /// In lower case; an IPv6 address without brackets, in its shortest form.
    pub(super) host: String,
    pub(super) port: Option<u16>,
    /// From the first `/` on, or empty.
    pub(super) path: String,
}

/// What is wrong with a URL. Never shows the URL itself, which may hold a password.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum UrlFault {
    Scheme,
    UserInfo,
    Host,
    Port,
    Path,
    Query,
    Fragment,
}

impl fmt::Display for UrlFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => "it does not begin with http:// or https://",
            Self::UserInfo => "it holds a user name or password",
            Self::Host => "its host is missing or no host name",
            Self::Port => "its port is not a number from 1 to 65535",
            Self::Path => "its path has characters that do not belong there",
            Self::Query => "it has a query",
            Self::Fragment => "it has a fragment",
        })
    }
}

impl Url {
    /// Parses an absolute URL (RFC 3986 section 4.3) of scheme http or https, without query and fragment.
    pub(super) fn parse(text: &str) -> Result<Self, UrlFault> {
        let scheme =
            |name: &str| text.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
        let (tls, rest) = if scheme("https://") {
            (true, text.get(8..).unwrap_or_default())
        } else if scheme("http://") {
            (false, text.get(7..).unwrap_or_default())
        } else {
            return Err(UrlFault::Scheme);
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
        if authority.contains('@') {
            return Err(UrlFault::UserInfo);
        }
        if path.contains('#') {
            return Err(UrlFault::Fragment);
        }
        if path.contains('?') {
            return Err(UrlFault::Query);
        }
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/%".contains(&b);
        if !path.bytes().all(fits) {
            return Err(UrlFault::Path);
        }
        let (host, port) = split_authority(authority)?;
        Ok(Self { tls, host, port, path: path.to_owned() })
    }

    /// Whether the host is this machine by name or address.
    pub(super) fn is_loopback(&self) -> bool {
        let name = self.host.strip_suffix('.').unwrap_or(&self.host);
        name == "localhost"
            || name.ends_with(".localhost")
            || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// The port, of the scheme where none is written.
    pub(super) fn port_or_default(&self) -> u16 {
        self.port.unwrap_or(if self.tls { 443 } else { 80 })
    }

    /// `host[:port]` as `Host` and `Origin` spell it: the scheme's own port left out, IPv6 in brackets.
    pub(super) fn authority(&self) -> String {
        let base = self.clone().into_base();
        base.authority()
    }

    /// `scheme://host[:port]` (RFC 6454 section 6.2).
    pub(super) fn origin(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.authority())
    }

    /// As the place of a server.
    pub(super) fn into_base(self) -> BaseUrl {
        let prefix = self.path.trim_end_matches('/').to_owned();
        BaseUrl { tls: self.tls, port: self.port_or_default(), host: self.host, prefix, socket: None }
    }

    /// As the URL by which we are reached.
    pub(super) fn into_public(self) -> PublicUrl {
        let prefix = self.path.trim_end_matches('/').to_owned();
        let scheme = if self.tls { "https" } else { "http" };
        PublicUrl { scheme: scheme.into(), authority: self.authority(), prefix }
    }
}

/// `host` or `host:port`, the host in lower case and without brackets.
pub(super) fn split_authority(authority: &str) -> Result<(String, Option<u16>), UrlFault> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (address, after) = rest.split_once(']').ok_or(UrlFault::Host)?;
        let address: Ipv6Addr = address.parse().map_err(|_| UrlFault::Host)?;
        let port = match after.strip_prefix(':') {
            Some(port) => Some(port),
            None if after.is_empty() => None,
            None => return Err(UrlFault::Host),
        };
        (address.to_string(), port)
    } else {
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        };
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
        if host.is_empty() || host.starts_with('.') || host.contains("..") || !host.bytes().all(fits) {
            return Err(UrlFault::Host);
        }
        (host.to_ascii_lowercase(), port)
    };
    // `http://host:` is allowed by RFC 3986 section 3.2.3 and means the scheme's own port.
    let port = match port {
        None | Some("") => None,
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            Some(digits.parse().ok().filter(|port| *port > 0).ok_or(UrlFault::Port)?)
        }
        Some(_) => return Err(UrlFault::Port),
    };
    Ok((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart_or_refused() {
        for (text, parsed) in [
            ("http://localhost", Ok("http://localhost|")),
            ("HTTPS://Example.COM:443/", Ok("https://example.com|/")),
            ("http://h:80/a/b/", Ok("http://h|/a/b/")),
            ("https://h:8443", Ok("https://h:8443|")),
            ("http://[::1]:8080/x", Ok("http://[::1]:8080|/x")),
            ("http://[0:0:0:0:0:0:0:1]", Ok("http://[::1]|")),
            ("http://h:", Ok("http://h|")),
            ("https://YOUR_DOMAIN/", Ok("https://your_domain|/")),
            ("localhost:8000", Err(UrlFault::Scheme)),
            ("ftp://h", Err(UrlFault::Scheme)),
            ("http:/h", Err(UrlFault::Scheme)),
            ("", Err(UrlFault::Scheme)),
            ("http://", Err(UrlFault::Host)),
            ("http:///x", Err(UrlFault::Host)),
            ("http://a..b", Err(UrlFault::Host)),
            ("http://a b/", Err(UrlFault::Host)),
            ("http://::1/", Err(UrlFault::Host)),
            ("http://[::1", Err(UrlFault::Host)),
            ("http://[::1]x", Err(UrlFault::Host)),
            ("http://ex\u{e4}mple/", Err(UrlFault::Host)),
            ("http://h:0", Err(UrlFault::Port)),
            ("http://h:65536", Err(UrlFault::Port)),
            ("http://h:+1", Err(UrlFault::Port)),
            ("http://u:p@h/", Err(UrlFault::UserInfo)),
            ("http://h/a?b", Err(UrlFault::Query)),
            ("http://h/a#b", Err(UrlFault::Fragment)),
            ("http://h?b#c", Err(UrlFault::Fragment)),
            ("http://h/a b", Err(UrlFault::Path)),
            ("http://h/<org>", Err(UrlFault::Path)),
        ] {
            let got = Url::parse(text).map(|url| format!("{}|{}", url.origin(), url.path));
            assert_eq!(got, parsed.map(str::to_owned), "{text}");
        }
    }

    #[test]
    fn a_socket_may_stand_for_host_and_port() {
        for (text, parsed) in [
            ("http://localhost", None),
            ("unix:/run/server.sock", Some(Ok("/run/server.sock|"))),
            ("unix:/run/server.sock:/", Some(Ok("/run/server.sock|"))),
            ("unix:/run/server.sock:/below/it/", Some(Ok("/run/server.sock|/below/it"))),
            ("unix:server.sock", Some(Err("the path of its socket is not absolute"))),
            ("unix:", Some(Err("the path of its socket is not absolute"))),
            ("unix:///run/", Some(Err("the path of its socket is not absolute"))),
            ("unix:/s:/a b", Some(Err("its path has characters that do not belong there"))),
        ] {
            let got = unix_base(text)
                .map(|base| base.map(|base| format!("{}|{}", base.socket.unwrap().display(), base.prefix)));
            assert_eq!(got, parsed.map(|parsed| parsed.map(str::to_owned)), "{text}");
        }
        assert!(unix_base(&format!("unix:/{}", "x".repeat(107))).unwrap().is_err());
    }

    #[test]
    fn loopback_is_known_by_name_and_number() {
        for (text, loopback) in [
            ("http://localhost", true),
            ("http://LOCALHOST.:1", true),
            ("http://a.localhost", true),
            ("http://127.9.9.9", true),
            ("http://[::1]", true),
            ("http://localhost.example.com", false),
            ("http://127.0.0.1.example.com", false),
            ("http://10.0.0.1", false),
            ("http://0.0.0.0", false),
        ] {
            assert_eq!(Url::parse(text).map(|url| url.is_loopback()), Ok(loopback), "{text}");
        }
    }
}
