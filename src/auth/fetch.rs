//! One GET to an issuer: its metadata or its key set.
//!
//! `ureq` with every option spelled out: no proxy from the environment, no redirects (a key set that has moved is the
//! operator's to follow), a bound on time and size. What came back instead of keys is told so that the operator can put
//! it right.

use std::fmt;
use std::path::Path;

use ureq::Agent;
use ureq::config::AutoHeaderValue;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::discovery::{self, MetadataFault, UrlFault};
use super::fault::Shown;
use super::jwks::{KeySet, SetFault};
use super::roots::{RootsFault, extra_roots};
use crate::config::Allowed;
use crate::limits::{JWKS_BYTES_MAX, JWKS_FETCH_TIME_MAX};

/// Why there are no keys.
#[derive(Clone, Debug, PartialEq)]
pub enum FetchFault {
    /// The URL is not one that keys are fetched from.
    Url(Shown, UrlFault),
    /// Nothing that is an HTTP answer came back.
    Unreachable(Shown, String),
    /// An answer with another status than 200.
    Status {
        /// What was asked.
        url: Shown,
        /// What came back.
        status: u16,
        /// Where it points to.
        location: Option<Shown>,
    },
    /// The answer is longer than is read.
    TooLong(Shown),
    /// The answer is no key set.
    NoSet(Shown, SetFault),
    /// The key set holds no key that can be used.
    NoUsableKey(Shown, Vec<String>),
    /// The answer is not the issuer's metadata.
    Metadata(Shown, MetadataFault),
    /// The issuer's metadata could not be found anywhere.
    Undiscovered(Vec<Self>),
    /// The fetch ended in a panic, such as that of a thread which the system refused to start.
    Broken,
}

impl fmt::Display for FetchFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url, why) => write!(f, "{url} is not fetched: {why}"),
            Self::Unreachable(url, why) => {
                write!(f, "{url} cannot be reached: {why}; check the name, the network and, for TLS, ca_file")
            }
            Self::Status { url, status, location } => {
                write!(f, "{url} answered {status}")?;
                match location {
                    Some(to) => {
                        write!(f, ", pointing to {to}; redirects are not followed, write the final URL")
                    }
                    None => f.write_str("; check jwks_uri"),
                }
            }
            Self::TooLong(url) => {
                write!(f, "{url} answered more than {JWKS_BYTES_MAX} bytes; check jwks_uri")
            }
            Self::NoSet(url, why) => {
                write!(f, "{url} answered something that is no key set: {why}; check jwks_uri")
            }
            Self::NoUsableKey(url, skipped) if skipped.is_empty() => {
                write!(f, "{url} answered a key set without keys")
            }
            Self::NoUsableKey(url, skipped) => {
                write!(f, "{url} answered a key set without a usable key: {}", skipped.join("; "))
            }
            Self::Metadata(url, why) => write!(f, "{url} is not the metadata of the issuer: {why}"),
            Self::Undiscovered(tried) if tried.is_empty() => {
                f.write_str("the issuer is no URL, so its keys cannot be found; write jwks_uri")
            }
            Self::Undiscovered(tried) => {
                f.write_str("the issuer's metadata was not found, write jwks_uri or correct issuer")?;
                tried.iter().try_for_each(|fault| write!(f, "; {fault}"))
            }
            Self::Broken => {
                f.write_str("the fetch broke off inside this program; the line of the panic says where")
            }
        }
    }
}

/// Where the keys of one issuer are.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// The issuer.
    pub issuer: String,
    /// The URL of its keys, where the configuration says it.
    pub jwks_uri: Option<String>,
    /// What its keys may be for.
    pub algorithms: Allowed,
}

/// Makes the requests. Clones share it.
#[derive(Clone, Debug)]
pub struct Fetcher {
    /// One for each set of roots, to be tried in this order: ureq takes roots as whole certificates, and Mozilla's are
    /// there in a shortened form only, so the two cannot be put into one.
    agents: Vec<Agent>,
}

impl Fetcher {
    /// A fetcher that trusts Mozilla's roots, those in `ca_file` and those that the environment names.
    ///
    /// # Errors
    /// Where a file of roots cannot be used.
    pub fn new(ca_file: Option<&Path>) -> Result<Self, RootsFault> {
        let extra = extra_roots(ca_file)?;
        let mut agents = Vec::new();
        if !extra.is_empty() {
            let extra = extra.iter().map(|root| Certificate::from_der(root).to_owned());
            agents.push(agent(RootCerts::from(extra)));
        }
        agents.push(agent(RootCerts::WebPki));
        Ok(Self { agents })
    }

    /// Ends the requests under way, and refuses all that follow.
    pub fn shutdown(&self) {
        self.agents.iter().cloned().for_each(Agent::shutdown);
    }

    /// The URL of the keys: the configured one, or that in the issuer's metadata.
    ///
    /// # Errors
    /// Where no metadata leads to one.
    pub fn discover(&self, source: &Source) -> Result<String, FetchFault> {
        if let Some(url) = &source.jwks_uri {
            return Ok(url.clone());
        }
        let mut tried = Vec::new();
        for url in discovery::metadata_urls(&source.issuer) {
            let found = self.get(&url).and_then(|text| {
                discovery::jwks_uri(&text, &source.issuer)
                    .map_err(|why| FetchFault::Metadata(Shown::of(&url), why))
            });
            match found {
                Ok(jwks_uri) => return Ok(jwks_uri),
                Err(fault) => tried.push(fault),
            }
        }
        Err(FetchFault::Undiscovered(tried))
    }

    /// The key set of `source` at `url`, with at least one usable key.
    ///
    /// # Errors
    /// Where there is none.
    pub fn keys(&self, url: &str, source: &Source) -> Result<KeySet, FetchFault> {
        let set = KeySet::parse_for(&self.get(url)?, &source.algorithms, &[])
            .map_err(|why| FetchFault::NoSet(Shown::of(url), why))?;
        if set.is_empty() {
            let why = set.skipped().iter().take(4).map(ToString::to_string).collect();
            return Err(FetchFault::NoUsableKey(Shown::of(url), why));
        }
        Ok(set)
    }

    fn get(&self, url: &str) -> Result<Vec<u8>, FetchFault> {
        let shown = || Shown::of(url);
        discovery::check_url(url).map_err(|why| FetchFault::Url(shown(), why))?;
        let mut agents = self.agents.iter().peekable();
        let mut last = FetchFault::Broken;
        while let Some(agent) = agents.next() {
            match agent.get(url).call() {
                Ok(mut answer) => {
                    let status = answer.status().as_u16();
                    if status != 200 {
                        let location = answer.headers().get("location").and_then(|to| to.to_str().ok());
                        return Err(FetchFault::Status {
                            url: shown(),
                            status,
                            location: location.map(Shown::of),
                        });
                    }
                    let body = answer.body_mut().with_config().limit(JWKS_BYTES_MAX as u64).read_to_vec();
                    return body.map_err(|err| match err {
                        ureq::Error::BodyExceedsLimit(_) => FetchFault::TooLong(shown()),
                        other => FetchFault::Unreachable(shown(), other.to_string()),
                    });
                }
                Err(err) => {
                    let other_roots_may_do = is_about_the_certificate(&err) && agents.peek().is_some();
                    last = FetchFault::Unreachable(shown(), err.to_string());
                    if !other_roots_may_do {
                        break;
                    }
                }
            }
        }
        Err(last)
    }
}

fn agent(roots: RootCerts) -> Agent {
    Agent::config_builder()
        .proxy(None) // never by an environment variable that somebody set for another program
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .timeout_global(Some(JWKS_FETCH_TIME_MAX))
        .max_idle_connections(0) // the next fetch is minutes away
        .user_agent(concat!("openmcpauthproxy/", env!("CARGO_PKG_VERSION")))
        .accept("application/json")
        .accept_encoding(AutoHeaderValue::None) // what is not compressed cannot be a bomb
        .tls_config(TlsConfig::builder().root_certs(roots).build())
        .build()
        .into()
}

fn is_about_the_certificate(err: &ureq::Error) -> bool {
    let tls = match err {
        ureq::Error::Rustls(tls) => Some(tls),
        ureq::Error::Io(io) => io.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()),
        _ => None,
    };
    matches!(tls, Some(rustls::Error::InvalidCertificate(_)))
}
