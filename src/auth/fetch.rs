//! One request to an issuer: for its metadata, its key set, or its word on a token.
//!
//! `ureq` with every option spelled out: no proxy from the environment, no redirects (a key set that has moved is the
//! operator's to follow), a bound on time and size. What came back instead of keys is told so that the operator can put
//! it right.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use ureq::config::{AutoHeaderValue, Config};
use ureq::http::Response;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::agents::Agents;
use super::discovery::{self, Metadata, MetadataFault, Place, UrlFault};
use super::fault::Shown;
use super::jwks::{KeySet, SetFault};
use super::roots::RootsFault;
use crate::config::{Algorithm, Allowed, Issuer};
use crate::limits::{
    INTROSPECTION_IDLE_MAX, INTROSPECTION_TIME_MAX, JWKS_BYTES_MAX, JWKS_FETCH_TIME_MAX,
    UPSTREAM_IDLE_TIME_MAX,
};

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
            Self::Metadata(url, why @ (MetadataFault::Lacks(_) | MetadataFault::Endpoint(..))) => {
                write!(f, "the metadata at {url} does not lead on: {why}")
            }
            Self::Metadata(url, why) => write!(f, "{url} is not the metadata of the issuer: {why}"),
            Self::Undiscovered(tried) if tried.is_empty() => {
                f.write_str("the issuer is no URL, so its keys cannot be found; write jwks_uri")
            }
            Self::Undiscovered(tried) => {
                f.write_str(
                    "the issuer's metadata was not found; correct issuer, or write metadata_url or jwks_uri",
                )?;
                tried.iter().try_for_each(|fault| write!(f, "; {fault}"))
            }
            Self::Broken => {
                f.write_str("the fetch broke off inside this program; the line of the panic says where")
            }
        }
    }
}

/// What the configuration says about where things of one issuer are.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// The issuer.
    pub issuer: String,
    /// The URL of its metadata, where that is not one of the places that the RFCs know.
    pub metadata_url: Option<String>,
    /// The URL of its keys.
    pub jwks_uri: Option<String>,
    /// What its keys may be for.
    pub algorithms: Allowed,
    /// Whether it is asked about opaque tokens; then it need not have keys.
    pub introspects: bool,
    /// The URL where it is asked.
    pub introspection_endpoint: Option<String>,
}

impl Source {
    /// What it says about `issuer`.
    #[must_use]
    pub fn of(issuer: &Issuer) -> Self {
        let introspection = issuer.introspection.as_ref();
        Self {
            issuer: issuer.issuer.clone(),
            metadata_url: issuer.metadata_url.clone(),
            jwks_uri: issuer.jwks_uri.clone(),
            algorithms: issuer.algorithms.clone(),
            introspects: introspection.is_some(),
            introspection_endpoint: introspection.and_then(|one| one.endpoint.clone()),
        }
    }
}

/// Where things of one issuer are.
#[derive(Clone, Debug)]
pub struct Found {
    /// Where its metadata was, where it was needed.
    pub metadata_url: Option<String>,
    /// Its keys. `None` for an issuer that is asked about tokens and has no keys.
    pub jwks_uri: Option<Place>,
    /// Where it is asked about opaque tokens, or why nobody knows; `None` for an issuer that is not asked.
    pub introspection_endpoint: Option<Result<Place, FetchFault>>,
    /// With what it says it signs.
    pub algorithms: Vec<Algorithm>,
}

/// Makes the requests. Clones share it.
#[derive(Clone, Debug)]
pub struct Fetcher {
    agents: Agents,
}

impl Fetcher {
    /// A fetcher that trusts Mozilla's roots, those in `ca_file` and those that the environment names.
    ///
    /// # Errors
    /// Where a file of roots cannot be used.
    pub fn new(ca_file: Option<&Path>) -> Result<Self, RootsFault> {
        // The next fetch is minutes away, so no connection is kept.
        Self::with(ca_file, JWKS_FETCH_TIME_MAX, 0)
    }

    /// As [`Fetcher::new`], for requests that come often: for less time each, on connections that are kept.
    ///
    /// # Errors
    /// Where a file of roots cannot be used.
    pub fn for_introspection(ca_file: Option<&Path>) -> Result<Self, RootsFault> {
        Self::with(ca_file, INTROSPECTION_TIME_MAX, INTROSPECTION_IDLE_MAX)
    }

    fn with(ca_file: Option<&Path>, time: Duration, idle: usize) -> Result<Self, RootsFault> {
        Ok(Self { agents: Agents::new(ca_file, |roots| config(roots, time, idle))? })
    }

    /// Ends the requests under way, and refuses all that follow.
    pub fn shutdown(&self) {
        self.agents.shutdown();
    }

    /// Where things of `source` are: as the configuration says, and for the rest as the issuer's metadata says.
    ///
    /// # Errors
    /// Where no metadata leads to its keys. That it does not lead to introspection is told in the answer, so that tokens
    /// which need none are not the worse for it.
    pub fn discover(&self, source: &Source) -> Result<Found, FetchFault> {
        let written = source.introspection_endpoint.as_deref().map(|url| Ok(Place::named(url)));
        let mut found = Found {
            metadata_url: None,
            jwks_uri: source.jwks_uri.as_deref().map(Place::named),
            introspection_endpoint: written,
            algorithms: Vec::new(),
        };
        let needs_keys = found.jwks_uri.is_none();
        let needs_endpoint = found.introspection_endpoint.is_none() && source.introspects;
        if !needs_keys && !needs_endpoint {
            return Ok(found);
        }
        let (url, metadata) = match self.metadata(source) {
            Ok(read) => read,
            Err(fault) if needs_keys => return Err(fault),
            Err(fault) => return Ok(Found { introspection_endpoint: Some(Err(fault)), ..found }),
        };
        let fault = |why| FetchFault::Metadata(Shown::of(&url), why);
        if needs_endpoint {
            found.introspection_endpoint = Some(metadata.introspection_endpoint.map_err(fault));
        }
        if needs_keys {
            found.jwks_uri = match metadata.jwks_uri {
                Ok(place) => Some(place),
                // An issuer whose tokens are all opaque has nothing to publish.
                Err(MetadataFault::Lacks(_)) if source.introspects => None,
                Err(why) => return Err(fault(why)),
            };
        }
        Ok(Found { metadata_url: Some(url), algorithms: metadata.algorithms, ..found })
    }

    /// The issuer's own metadata, and where it was.
    fn metadata(&self, source: &Source) -> Result<(String, Metadata), FetchFault> {
        let urls = match &source.metadata_url {
            Some(url) => vec![url.clone()],
            None => discovery::metadata_urls(&source.issuer),
        };
        let mut tried = Vec::new();
        for url in urls {
            let found = self.get(&Place::named(&url)).and_then(|text| {
                Metadata::read(&text, &source.issuer, &url)
                    .map_err(|why| FetchFault::Metadata(Shown::of(&url), why))
            });
            match found {
                Ok(metadata) => return Ok((url, metadata)),
                // The other places are on the same host.
                Err(fault @ FetchFault::Unreachable(..)) => {
                    tried.push(fault);
                    break;
                }
                Err(fault) => tried.push(fault),
            }
        }
        Err(FetchFault::Undiscovered(tried))
    }

    /// The key set of `source` where it was found, with at least one usable key; none at all where the issuer has none.
    ///
    /// # Errors
    /// Where there is none and should be.
    pub fn keys(&self, found: &Found, source: &Source) -> Result<KeySet, FetchFault> {
        let Some(place) = &found.jwks_uri else { return Ok(KeySet::default()) };
        let shown = || Shown::of(&place.url);
        let set = KeySet::parse_for(&self.get(place)?, &source.algorithms, &found.algorithms)
            .map_err(|why| FetchFault::NoSet(shown(), why))?;
        if set.is_empty() && !source.introspects {
            let why = set.skipped().iter().take(4).map(ToString::to_string).collect();
            return Err(FetchFault::NoUsableKey(shown(), why));
        }
        Ok(set)
    }

    fn get(&self, place: &Place) -> Result<Vec<u8>, FetchFault> {
        let shown = || Shown::of(&place.url);
        let mut answer = self.ask(place, |agent, url| agent.get(url).call())?;
        let status = answer.status().as_u16();
        if status != 200 {
            let location = answer.headers().get("location").and_then(|to| to.to_str().ok());
            return Err(FetchFault::Status { url: shown(), status, location: location.map(Shown::of) });
        }
        let body = answer.body_mut().with_config().limit(JWKS_BYTES_MAX as u64).read_to_vec();
        body.map_err(|err| match err {
            ureq::Error::BodyExceedsLimit(_) => FetchFault::TooLong(shown()),
            other => FetchFault::Unreachable(shown(), other.to_string()),
        })
    }

    /// Makes one request, with the next set of roots where the certificate does not fit the first.
    pub(super) fn ask(
        &self,
        place: &Place,
        request: impl Fn(&Agent, &str) -> Result<Response<Body>, ureq::Error>,
    ) -> Result<Response<Body>, FetchFault> {
        discovery::check_url(&place.url).map_err(|why| FetchFault::Url(Shown::of(&place.url), why))?;
        self.agents.ask(place.reach, |agent| request(agent, &place.url)).map_err(|err| match err {
            Some(err) => FetchFault::Unreachable(Shown::of(&place.url), err.to_string()),
            None => FetchFault::Broken,
        })
    }
}

fn config(roots: RootCerts, time: Duration, idle: usize) -> Config {
    Agent::config_builder()
        .proxy(None) // never by an environment variable that somebody set for another program
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .timeout_global(Some(time))
        .max_idle_connections(idle)
        .max_idle_connections_per_host(idle)
        .max_idle_age(UPSTREAM_IDLE_TIME_MAX)
        .user_agent(concat!("openmcpauthproxy/", env!("CARGO_PKG_VERSION")))
        .accept("application/json")
        .accept_encoding(AutoHeaderValue::None) // what is not compressed cannot be a bomb
        .tls_config(TlsConfig::builder().root_certs(roots).build())
        .build()
}
