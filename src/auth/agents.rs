//! The clients of issuers and identity providers: one for each set of trust roots and for each reach.
//!
//! Whoever asks says how far the request may reach ([`super::reach`]), and brings the options of its own; nothing in here
//! knows what is asked.

use std::path::Path;

use ureq::config::Config;
use ureq::http::Response;
use ureq::tls::{Certificate, RootCerts};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Body};

use super::reach::{ByName, PublicOnly, Reach};
use super::roots::{RootsFault, extra_roots};

/// All of them. Clones share connections.
#[derive(Clone, Debug)]
pub(crate) struct Agents {
    /// One for each set of roots, to be tried in this order: ureq takes roots as whole certificates, and Mozilla's are
    /// there in a shortened form only, so the two cannot be put into one.
    named: Vec<Agent>,
    /// The same, for hosts that metadata alone names.
    public: Vec<Agent>,
}

impl Agents {
    /// Those that trust Mozilla's roots, those in `ca_file` and those that the environment names.
    ///
    /// # Errors
    /// Where a file of roots cannot be used.
    pub(crate) fn new(
        ca_file: Option<&Path>,
        config: impl Fn(RootCerts) -> Config,
    ) -> Result<Self, RootsFault> {
        let extra = extra_roots(ca_file)?;
        let mut roots = Vec::new();
        if !extra.is_empty() {
            let extra = extra.iter().map(|root| Certificate::from_der(root).to_owned());
            roots.push(RootCerts::from(extra));
        }
        roots.push(RootCerts::WebPki);
        let connector = DefaultConnector::default;
        let configs = || roots.iter().cloned().map(&config);
        Ok(Self {
            named: configs().map(|with| Agent::with_parts(with, connector(), ByName::default())).collect(),
            public: configs()
                .map(|with| Agent::with_parts(with, connector(), PublicOnly::default()))
                .collect(),
        })
    }

    /// Ends the requests under way, and refuses all that follow.
    pub(crate) fn shutdown(&self) {
        self.named.iter().chain(&self.public).cloned().for_each(Agent::shutdown);
    }

    /// Makes one request that may reach so far.
    ///
    /// # Errors
    /// That of the last agent that was tried; `None` where there is none.
    pub(crate) fn ask(
        &self,
        reach: Reach,
        request: impl Fn(&Agent) -> Result<Response<Body>, ureq::Error>,
    ) -> Result<Response<Body>, Option<ureq::Error>> {
        let agents = match reach {
            Reach::Named => &self.named,
            Reach::Public => &self.public,
        };
        by_roots(agents, request)
    }
}

/// Makes one request with the first of `agents`, and with the next one where the certificate does not fit the roots. A
/// handshake that failed has sent nothing, so asking again is no repetition.
///
/// # Errors
/// That of the last agent that was tried; `None` where there is none.
fn by_roots(
    agents: &[Agent],
    request: impl Fn(&Agent) -> Result<Response<Body>, ureq::Error>,
) -> Result<Response<Body>, Option<ureq::Error>> {
    let mut last = None;
    for agent in agents {
        match request(agent) {
            Ok(answer) => return Ok(answer),
            Err(err) => {
                let other_roots_may_do = is_about_the_certificate(&err);
                last = Some(err);
                if !other_roots_may_do {
                    break;
                }
            }
        }
    }
    Err(last)
}

fn is_about_the_certificate(err: &ureq::Error) -> bool {
    let tls = match err {
        ureq::Error::Rustls(tls) => Some(tls),
        ureq::Error::Io(io) => io.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()),
        _ => None,
    };
    matches!(tls, Some(rustls::Error::InvalidCertificate(_)))
}
