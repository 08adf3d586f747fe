//! From which address a request comes, where proxies that we trust may stand in between.
//!
//! The other end of the connection is what counts, and nothing that a client writes. Only where that end is one of
//! `trusted_proxies` is `X-Forwarded-For` looked at, from the right: each proxy adds the address that it saw, so the
//! right-most one that is no trusted proxy is the client, and whatever stands left of it is hearsay.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use crate::edge::http1::Incoming;
use crate::header;

/// An address, or the first bits of many.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Network {
    address: IpAddr,
    bits: u32,
}

/// The text is no address, or has bits set behind its prefix, or a prefix that is too long.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NoNetwork;

impl FromStr for Network {
    type Err = NoNetwork;

    /// `192.0.2.0/24`, `2001:db8::/32`, or an address alone.
    fn from_str(text: &str) -> Result<Self, NoNetwork> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NoNetwork)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(digits) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().ok().filter(|bits| *bits <= most).ok_or(NoNetwork)?
            }
            Some(_) => return Err(NoNetwork),
        };
        (masked(address, bits) == address).then_some(Self { address, bits }).ok_or(NoNetwork)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl Network {
    /// Whether `address` belongs to it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4() && masked(address, self.bits) == self.address
    }
}

/// `address` with all but its first `bits` cleared.
fn masked(address: IpAddr, bits: u32) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(bits)).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(bits)).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

/// Whom one customer of a network operator can be: an IPv4 address, or the 64 bits that an IPv6 host chooses within.
#[must_use]
pub fn household(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or_else(|| masked(address, 64), IpAddr::V4),
    }
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Client {
    /// The address.
    pub address: IpAddr,
    /// Whether it is one client's for certain, so that it may be held to what comes from it.
    ///
    /// Loopback never is: behind a reverse proxy on this machine every client has it. Neither is a private address as
    /// long as nobody has said which proxies there are: behind an ingress every client has that. Nor is a trusted proxy
    /// that names no client.
    pub is_one: bool,
}

/// The proxies whose word is taken.
#[derive(Clone, Debug, Default)]
pub struct Proxies(Vec<Network>);

impl Proxies {
    /// These networks.
    #[must_use]
    pub fn new(trusted: Vec<Network>) -> Self {
        Self(trusted)
    }

    /// Whether `address` is one of them.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }

    /// Who sent this.
    #[must_use]
    pub fn client_of(&self, request: &Incoming) -> Client {
        let peer = request.peer();
        if !self.contains(peer) {
            let maybe_many = peer.is_loopback() || self.0.is_empty() && is_private(peer);
            return Client { address: peer, is_one: !maybe_many };
        }
        let mut last = peer;
        let fields: Vec<&[u8]> = request.headers_of(header::X_FORWARDED_FOR).collect();
        for hop in fields.iter().rev().flat_map(|field| field.rsplit(|b| *b == b',')) {
            let Some(address) = address_of(hop) else { break };
            if !self.contains(address) {
                return Client { address, is_one: !address.is_loopback() };
            }
            last = address;
        }
        Client { address: last, is_one: false }
    }
}

/// One entry of `X-Forwarded-For`: an address, with or without a port.
fn address_of(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?.trim();
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|both| both.ip()))?;
    Some(IpAddr::to_canonical(&address))
}

/// Addresses that are not of the internet (RFC 1918, RFC 6598, RFC 3927, RFC 4193, RFC 4291 section 2.5.6).
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let shared = v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64;
            v4.is_private() || v4.is_link_local() || shared
        }
        IpAddr::V6(v6) => is_local(v6),
    }
}

fn is_local(address: Ipv6Addr) -> bool {
    let first = address.segments()[0];
    first & 0xfe00 == 0xfc00 || first & 0xffc0 == 0xfe80
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(list: &[&str]) -> Proxies {
        Proxies::new(list.iter().map(|text| text.parse().unwrap()).collect())
    }

    #[test]
    fn networks_are_read_exactly() {
        for (text, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("0.0.0.0/0", "203.0.113.1", "::1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
            ("::/0", "::1", "127.0.0.1"),
        ] {
            let network: Network = text.parse().unwrap();
            assert!(network.contains(inside.parse().unwrap()), "{text} {inside}");
            assert!(!network.contains(outside.parse().unwrap()), "{text} {outside}");
        }
        for text in ["10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "10.0.0", "::/129", "host", ""]
        {
            assert_eq!(text.parse::<Network>(), Err(NoNetwork), "{text}");
        }
    }

    /// The right-most hop that is no trusted proxy; what stands left of it was written by anybody.
    #[test]
    fn the_client_is_the_last_hop_that_nobody_vouches_for() {
        let local = &["127.0.0.0/8", "10.0.0.0/8"][..];
        for (trusted, peer, forwarded, address, is_one) in [
            (&[][..], "203.0.113.9", &["198.51.100.1"][..], "203.0.113.9", true),
            (&[], "127.0.0.1", &["198.51.100.1"], "127.0.0.1", false),
            (&[], "::1", &[], "::1", false),
            (&[], "10.0.0.5", &["198.51.100.1"], "10.0.0.5", false),
            (&[], "fd00::5", &[], "fd00::5", false),
            (&[], "100.64.0.1", &[], "100.64.0.1", false),
            (local, "192.168.0.5", &[], "192.168.0.5", true),
            (local, "127.0.0.1", &["198.51.100.1"], "198.51.100.1", true),
            (local, "127.0.0.1", &["1.2.3.4, 198.51.100.1"], "198.51.100.1", true),
            (local, "127.0.0.1", &["198.51.100.1, 10.1.1.1"], "198.51.100.1", true),
            (local, "127.0.0.1", &["1.2.3.4", "198.51.100.1 ,10.1.1.1"], "198.51.100.1", true),
            (local, "127.0.0.1", &["198.51.100.1:4711"], "198.51.100.1", true),
            (local, "127.0.0.1", &["[2001:db8::1]:4711"], "2001:db8::1", true),
            (local, "127.0.0.1", &["2001:db8::1"], "2001:db8::1", true),
            (local, "127.0.0.1", &["::ffff:198.51.100.1"], "198.51.100.1", true),
            (local, "127.0.0.1", &["198.51.100.1, unknown"], "127.0.0.1", false),
            (local, "127.0.0.1", &["10.1.1.1"], "10.1.1.1", false),
            (local, "127.0.0.1", &[], "127.0.0.1", false),
            (local, "203.0.113.9", &["198.51.100.1"], "203.0.113.9", true),
            (&["10.0.0.0/8"], "10.0.0.5", &["127.0.0.1"], "127.0.0.1", false),
        ] {
            let lines: String =
                forwarded.iter().map(|value| format!("X-Forwarded-For: {value}\r\n")).collect();
            let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
            let (request, _) = Incoming::parse(text.as_bytes(), peer.parse().unwrap(), 0).unwrap().unwrap();
            let client = proxies(trusted).client_of(&request);
            let expected = Client { address: address.parse().unwrap(), is_one };
            assert_eq!(client, expected, "{trusted:?} {peer} {forwarded:?}");
        }
    }

    #[test]
    fn one_customer_has_one_household() {
        for (address, household_) in [
            ("198.51.100.1", "198.51.100.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("::ffff:198.51.100.1", "198.51.100.1"),
        ] {
            assert_eq!(household(address.parse().unwrap()), household_.parse::<IpAddr>().unwrap());
        }
    }
}
