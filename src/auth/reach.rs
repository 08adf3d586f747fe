//! Which hosts a URL that we did not get from the operator may lead to.
//!
//! An issuer's metadata names its other endpoints. Where such a URL stays on the issuer's own host nothing is gained by
//! it. Where it leads elsewhere it must be public: metadata that somebody got to write must not make this program ask
//! a neighbour of its own, the cloud's metadata service or a printer. What the operator wrote down is never questioned.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use super::discovery::is_loopback;

/// How far a request may reach.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reach {
    /// Anywhere: the operator named the URL, or it is on a host that the operator named.
    Named,
    /// Public addresses alone.
    Public,
}

impl Reach {
    /// How far `url` may reach, which stands in metadata that was found by URLs of the operator's.
    #[must_use]
    pub fn of(url: &str, named: &[&str]) -> Self {
        let host = |url: &str| Some(url.parse::<Uri>().ok()?.host()?.to_ascii_lowercase());
        let Some(own) = host(url) else { return Self::Public };
        let mut named = named.iter().filter_map(|url| host(url));
        // On a developer's machine an issuer calls itself localhost here and 127.0.0.1 there.
        if named.any(|host| host == own || is_loopback(&host) && is_loopback(&own)) {
            Self::Named
        } else {
            Self::Public
        }
    }
}

/// Resolves names that the operator wrote. `localhost` is this machine (RFC 6761 section 6.3) and is not asked about: a
/// container without /etc/hosts would ask the network for it.
#[derive(Debug, Default)]
pub struct ByName(DefaultResolver);

impl Resolver for ByName {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        if !uri.host().is_some_and(|host| host.eq_ignore_ascii_case("localhost")) {
            return self.0.resolve(uri, config, timeout);
        }
        let secure = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let mut found = self.empty();
        found.push((Ipv4Addr::LOCALHOST, port).into());
        found.push((Ipv6Addr::LOCALHOST, port).into());
        Ok(found)
    }
}

/// Resolves names, and refuses those that lead to an address which is not public. It is asked right before connecting,
/// so that a name cannot mean something else the second time.
#[derive(Debug, Default)]
pub struct PublicOnly(DefaultResolver);

/// What [`PublicOnly`] says when it refuses.
pub const NOT_PUBLIC: &str = "its host has an address that is not public, and only the metadata names it";

impl Resolver for PublicOnly {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let found = self.0.resolve(uri, config, timeout)?;
        if found.iter().all(|address| is_public(address.ip())) {
            Ok(found)
        } else {
            Err(Error::Io(std::io::Error::new(std::io::ErrorKind::PermissionDenied, NOT_PUBLIC)))
        }
    }
}

/// Whether an address belongs to the internet at large (IANA's special-purpose registries, RFC 6890).
#[must_use]
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    !matches!(
        (a, b, c),
        (0 | 10 | 127 | 224..=255, _, _)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 0, 0 | 2)
            | (192, 168, _)
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113)
    )
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    if let Some(inner) = ip.to_ipv4_mapped() {
        return is_public_v4(inner);
    }
    let [a, b, c, d, e, f, g, h] = ip.segments();
    // NAT64 and 6to4 carry an IPv4 address inside.
    let inner = |high: u16, low: u16| {
        let ([w, x], [y, z]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(w, x, y, z))
    };
    match (a, b) {
        (0x64, 0xff9b) if [c, d, e, f] == [0; 4] => inner(g, h),
        (0x2002, _) => inner(b, c),
        (0x2001, 0xdb8 | 0..=0x1ff) => false,
        (0x2000..=0x3fff, _) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_public_or_not() {
        for (ip, public) in [
            ("8.8.8.8", true),
            ("100.63.255.255", true),
            ("172.32.0.1", true),
            ("192.0.1.1", true),
            ("127.0.0.1", false),
            ("0.0.0.0", false),
            ("10.1.2.3", false),
            ("100.64.0.1", false),
            ("169.254.169.254", false),
            ("172.16.0.1", false),
            ("172.31.255.255", false),
            ("192.168.1.1", false),
            ("192.0.0.192", false),
            ("198.18.0.1", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("2606:4700::1", true),
            ("::1", false),
            ("::", false),
            ("fe80::1", false),
            ("fd00::1", false),
            ("ff02::1", false),
            ("2001:db8::1", false),
            ("::ffff:10.0.0.1", false),
            ("::ffff:8.8.8.8", true),
            ("64:ff9b::7f00:1", false),
            ("64:ff9b::808:808", true),
            ("2002:7f00:1::", false),
            ("2002:808:808::", true),
        ] {
            assert_eq!(is_public(ip.parse().unwrap()), public, "{ip}");
        }
    }

    #[test]
    fn metadata_leads_to_its_own_host_or_into_public() {
        for (url, issuer, reach) in [
            ("https://idp.example/keys", "https://idp.example/realms/a", Reach::Named),
            ("https://IDP.example:8443/keys", "https://idp.example", Reach::Named),
            ("https://www.googleapis.com/oauth2/v3/certs", "https://accounts.google.com", Reach::Public),
            ("https://idp.example.evil/keys", "https://idp.example", Reach::Public),
            ("https://keys.idp.example/", "https://idp.example", Reach::Public),
            ("http://127.0.0.1:1/keys", "https://idp.example", Reach::Public),
            ("http://localhost:1/keys", "http://127.0.0.1:1", Reach::Named),
            ("https://10.0.0.1/keys", "http://127.0.0.1:1", Reach::Public),
            ("nonsense", "https://idp.example", Reach::Public),
        ] {
            assert_eq!(Reach::of(url, &[issuer]), reach, "{url} by {issuer}");
        }
        let two = ["https://idp.example", "https://inside.example/metadata"];
        assert_eq!(Reach::of("https://inside.example/keys", &two), Reach::Named);
    }
}
