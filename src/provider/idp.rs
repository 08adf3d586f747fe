//! One request to the identity provider, for the login relay.
//!
//! `ureq` with every option spelled out, as for keys: TLS verified always, no proxy from the environment, no redirect
//! followed, time and size bounded, and no address in here for what metadata alone names. The request is made anew from
//! a short list of what crosses (ASR-13), and of the answer only status, body and three headers come back.

use std::fmt;
use std::path::Path;

use ureq::config::AutoHeaderValue;
use ureq::config::Config;
use ureq::http::{Request, Response};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body};

use crate::auth::agents::Agents;
use crate::auth::discovery::{self, UrlFault};
use crate::auth::fault::Shown;
use crate::auth::reach::Reach;
use crate::auth::roots::RootsFault;
use crate::header;
use crate::limits::{LOGIN_ANSWER_BYTES_MAX, LOGIN_FETCH_TIME_MAX};
use crate::secret::Secret;

/// A form, as RFC 6749 section 4.1.3 has it.
pub const FORM: &str = "application/x-www-form-urlencoded";
/// JSON.
pub const JSON: &str = "application/json";

/// Why there is no good answer. Never shows a body.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum IdpFault {
    /// The URL is not one that is asked.
    Url(Shown, UrlFault),
    /// Nothing that is an HTTP answer came back.
    Unreachable(Shown, String),
    /// It is longer than is read.
    TooLong(Shown),
    /// It points elsewhere.
    Redirect(Shown, u16, Option<Shown>),
    /// Its body is no JSON.
    NotJson(Shown, u16),
    /// It is not what was asked for.
    Status(Shown, u16),
    /// It refused what we asked in the operator's name.
    Refused {
        /// What was asked.
        url: Shown,
        /// What came back.
        status: u16,
        /// Its own code for the reason, where it has one.
        code: Option<Shown>,
        /// What to look at.
        hint: &'static str,
    },
    /// Its metadata is that of another issuer.
    Issuer {
        /// What was asked.
        url: Shown,
        /// What `issuer` says.
        found: Shown,
        /// What it should say.
        wanted: Shown,
    },
    /// It lacks a member that is needed, or has one that cannot be used.
    Member(Shown, &'static str),
    /// No metadata was found at any of its places.
    Undiscovered(Vec<Self>),
}

impl fmt::Display for IdpFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url, why) => write!(f, "{url} is not asked: {why}"),
            Self::Unreachable(url, why) => {
                write!(f, "{url} cannot be reached: {why}; check the name, the network and, for TLS, ca_file")
            }
            Self::TooLong(url) => write!(f, "{url} answered more than {LOGIN_ANSWER_BYTES_MAX} bytes"),
            Self::Redirect(url, status, location) => {
                write!(f, "{url} answered {status}")?;
                match location {
                    Some(to) => {
                        write!(f, ", pointing to {to}; redirects are not followed, write the final URL")
                    }
                    None => f.write_str("; write the final URL"),
                }
            }
            Self::NotJson(url, status) => {
                write!(f, "{url} answered {status} with something that is no JSON; check that URL")
            }
            Self::Status(url, status) => write!(f, "{url} answered {status}"),
            Self::Refused { url, status, code, hint } => {
                write!(f, "{url} answered {status}")?;
                if let Some(code) = code {
                    write!(f, " {code}")?;
                }
                write!(f, "; {hint}")
            }
            Self::Issuer { url, found, wanted } => {
                write!(f, "{url} is the metadata of {found}, not of {wanted}; write issuer as it is there")
            }
            Self::Member(url, member) => write!(f, "{url} has no {member} that can be used"),
            Self::Undiscovered(tried) => {
                f.write_str("the metadata of the issuer was not found; describe it in default.path")?;
                tried.iter().try_for_each(|fault| write!(f, "; {fault}"))
            }
        }
    }
}

/// What is asked.
#[derive(Debug)]
pub struct Ask<'a> {
    /// The URL.
    pub url: &'a str,
    /// How far it may reach.
    pub reach: Reach,
    /// The body of a POST with its content type; `None` is a GET.
    pub body: Option<(&'static str, &'a [u8])>,
    /// The `Authorization` that goes with it.
    pub authorization: Option<&'a Secret>,
}

impl Told {
    /// The provider's own word for what went wrong: `error` of OAuth or `code` of a management interface. Only what
    /// looks like a code is taken, never a text that might repeat what was sent.
    #[must_use]
    pub fn code(&self) -> Option<Shown> {
        let body: serde_json::Value = serde_json::from_slice(&self.body).ok()?;
        let code = body.get("error").or_else(|| body.get("code"))?.as_str()?;
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        (code.len() <= 40 && code.bytes().all(fits)).then(|| Shown::of(code))
    }
}

/// What came back: JSON, whatever the status.
#[derive(Clone)]
pub struct Told {
    /// 200 to 599, no redirect.
    pub status: u16,
    /// JSON, byte for byte; empty only where the answer had no body.
    pub body: Vec<u8>,
    /// `Retry-After`, where it is a number of seconds.
    pub retry_after: Option<u32>,
    /// `WWW-Authenticate` of a client that failed to authenticate (RFC 6749 section 5.2).
    pub challenge: Option<String>,
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Told({}, {} bytes)", self.status, self.body.len())
    }
}

/// Makes the requests.
#[derive(Debug)]
pub struct Idp {
    agents: Agents,
}

impl Idp {
    /// One that trusts Mozilla's roots, those in `ca_file` and those that the environment names.
    ///
    /// # Errors
    /// Where a file of roots cannot be used.
    pub fn new(ca_file: Option<&Path>) -> Result<Self, RootsFault> {
        Ok(Self { agents: Agents::new(ca_file, config)? })
    }

    /// Ends the requests under way, and refuses all that follow.
    pub fn shutdown(&self) {
        self.agents.shutdown();
    }

    /// Asks, and reads the answer whole.
    ///
    /// # Errors
    /// [`IdpFault`]; a status of 400 or more with JSON is none.
    pub fn ask(&self, ask: &Ask<'_>) -> Result<Told, IdpFault> {
        let shown = || Shown::of(without_query(ask.url));
        discovery::check_url(ask.url).map_err(|why| IdpFault::Url(shown(), why))?;
        let answer = self.agents.ask(ask.reach, |agent| send(agent, ask)).map_err(|err| {
            let why = err.map_or_else(|| "nothing was sent".to_owned(), |err| err.to_string());
            IdpFault::Unreachable(shown(), why)
        })?;
        read(answer, &shown)
    }
}

/// A query may hold what an operator adds, so it stays out of the log.
fn without_query(url: &str) -> &str {
    url.split('?').next().unwrap_or_default()
}

fn send(agent: &Agent, ask: &Ask<'_>) -> Result<Response<Body>, ureq::Error> {
    let mut request = Request::builder().uri(ask.url).header(header::ACCEPT, JSON);
    if let Some(authorization) = ask.authorization {
        request = request.header(header::AUTHORIZATION, authorization.expose());
    }
    match ask.body {
        Some((kind, body)) => {
            agent.run(request.method("POST").header(header::CONTENT_TYPE, kind).body(body)?)
        }
        None => agent.run(request.method("GET").body(())?),
    }
}

fn read(mut answer: Response<Body>, shown: &dyn Fn() -> Shown) -> Result<Told, IdpFault> {
    let status = answer.status().as_u16();
    let text = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
    if (300..400).contains(&status) {
        return Err(IdpFault::Redirect(
            shown(),
            status,
            text(header::LOCATION).map(without_query).map(Shown::of),
        ));
    }
    let retry_after = text(header::RETRY_AFTER).and_then(|value| value.parse().ok());
    let challenge = text(header::WWW_AUTHENTICATE).filter(|_| status == 401).map(str::to_owned);
    let body = answer.body_mut().with_config().limit(LOGIN_ANSWER_BYTES_MAX as u64).read_to_vec();
    let body = body.map_err(|err| match err {
        ureq::Error::BodyExceedsLimit(_) => IdpFault::TooLong(shown()),
        other => IdpFault::Unreachable(shown(), other.to_string()),
    })?;
    // What is no JSON, such as a page of a load balancer, must not be served from our origin.
    if !body.is_empty() && serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_err() {
        return Err(IdpFault::NotJson(shown(), status));
    }
    Ok(Told { status, body, retry_after, challenge })
}

fn config(roots: RootCerts) -> Config {
    Agent::config_builder()
        .proxy(None) // never by an environment variable that somebody set for another program
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .timeout_global(Some(LOGIN_FETCH_TIME_MAX))
        .max_idle_connections(0) // a connection that died while it was kept would cost a login
        .user_agent(concat!("openmcpauthproxy/", env!("CARGO_PKG_VERSION")))
        .accept(AutoHeaderValue::None) // written above
        .accept_encoding(AutoHeaderValue::None) // what is not compressed cannot be a bomb
        .tls_config(TlsConfig::builder().root_certs(roots).build())
        .build()
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::thread;

    use super::*;
    use crate::auth::reach::NOT_PUBLIC;

    fn asked(url: &str, reach: Reach) -> Result<Told, IdpFault> {
        let idp = Idp::new(None).unwrap();
        idp.ask(&Ask { url, reach, body: None, authorization: None })
    }

    /// Requirements 4.3: an endpoint that metadata alone names is not connected to where it is in here.
    #[test]
    fn what_metadata_names_is_not_connected_to_in_here() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in ["localhost", "127.0.0.1", "[::ffff:127.0.0.1]"] {
            let found = asked(&format!("https://{host}:{port}/token"), Reach::Public);
            assert!(
                matches!(&found, Err(IdpFault::Unreachable(_, why)) if why.contains(NOT_PUBLIC)),
                "{host}: {found:?}"
            );
        }
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err(), "somebody connected");
    }

    /// The operator may name whatever there is; `localhost` is this machine without asking anybody.
    #[test]
    fn what_the_operator_names_is_asked() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://localhost:{}/token", listener.local_addr().unwrap().port());
        let serve = move || {
            let mut stream = listener.accept().unwrap().0;
            let _ = stream.read(&mut [0; 1024]).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}").unwrap();
        };
        let provider = thread::Builder::new().name("provider".into()).spawn(serve).unwrap();
        let told = asked(&url, Reach::Named).unwrap();
        assert_eq!((told.status, told.body.as_slice()), (200, b"{}".as_slice()));
        provider.join().unwrap();
    }
}
