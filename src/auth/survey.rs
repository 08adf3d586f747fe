//! Looks at the issuers of a configuration as they are now, for `--check --online`, and says what one token is worth, for
//! `--check --explain`: what the log of a running proxy would tell bit by bit, at once and before anybody waits for it.
//!
//! It asks each issuer what a running proxy asks, through the same code, and keeps nothing.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::fault::Shown;
use super::fetch::{Fetcher, Found, Source};
use super::introspection::Introspector;
use super::jwks::KeySet;
use super::keys::{KeyStore, StartFault};
use super::{AuthError, Authenticator, Denied};
use crate::clock::Clock;
use crate::config::{Config, Issuer};
use crate::log::{Level, Log};

/// What was found at one issuer.
#[derive(Debug)]
pub struct Finding {
    /// The issuer.
    pub issuer: String,
    /// What was looked for, and what was found or why not.
    pub lines: Vec<(&'static str, String)>,
    /// Whether tokens of this issuer can be judged.
    pub sound: bool,
}

/// Asks every issuer of `config` for what its tokens are judged by. Waits for each, within the bounds of a running proxy.
///
/// # Errors
/// Where a file of trust roots cannot be used, or no thread can be started.
pub fn look(config: &Config, clock: &Clock) -> Result<Vec<Finding>, StartFault> {
    let ca_file = config.ca_file.as_deref();
    let fetcher = Fetcher::new(ca_file).map_err(StartFault::Roots)?;
    config.issuers.iter().map(|issuer| look_at(issuer, &fetcher, ca_file, clock)).collect()
}

fn look_at(
    issuer: &Issuer,
    fetcher: &Fetcher,
    ca_file: Option<&Path>,
    clock: &Clock,
) -> Result<Finding, StartFault> {
    let source = Source::of(issuer);
    let mut finding = Finding { issuer: issuer.issuer.clone(), lines: Vec::new(), sound: true };
    match fetcher.discover(&source) {
        Ok(found) => {
            if let Some(url) = &found.metadata_url {
                finding.lines.push(("metadata", url.clone()));
            }
            look_at_keys(&mut finding, &found, fetcher, &source);
        }
        Err(fault) => finding.fail("metadata", &fault),
    }
    if let Some(settings) = &issuer.introspection {
        // Everything is told by the finding itself.
        let log = Log::to_memory(Level::Error);
        let keys = KeyStore::start(std::slice::from_ref(issuer), ca_file, clock, &log)?;
        let keys = Arc::new(keys);
        let introspector = Introspector::new(&issuer.issuer, settings.clone(), Arc::clone(&keys), 1, log);
        match introspector.as_ref().map(Introspector::probe) {
            Some(Err(fault)) => finding.fail("introspection", &fault),
            Some(Ok(true)) => finding.fail(
                "introspection",
                &"it calls a token active that nobody issued; every opaque token would be let in",
            ),
            Some(Ok(false)) | None => {
                finding.lines.push(("introspection", format!("answers {}", settings.client_id)));
            }
        }
        keys.shutdown();
    }
    Ok(finding)
}

fn look_at_keys(finding: &mut Finding, found: &Found, fetcher: &Fetcher, source: &Source) {
    let Some(place) = &found.jwks_uri else {
        finding.lines.push(("keys", "none: its tokens are all opaque".into()));
        return;
    };
    match fetcher.keys(found, source) {
        Ok(set) => {
            finding.lines.push(("keys", format!("{}: {}", place.url, shown(&set))));
            for skipped in set.skipped() {
                finding.lines.push(("left out", skipped.to_string()));
            }
        }
        Err(fault) => finding.fail("keys", &fault),
    }
}

/// The usable keys of a set, a few of them.
fn shown(set: &KeySet) -> String {
    const FEW: usize = 8;
    let name = |key: &super::key::Key| match key.kid() {
        Some(kid) => format!("{} {}", key.algorithm(), Shown::of(kid)),
        None => format!("{} without kid", key.algorithm()),
    };
    let mut keys: Vec<String> = set.keys().iter().take(FEW).map(name).collect();
    if set.len() > FEW {
        keys.push(format!("and {} more", set.len() - FEW));
    }
    if keys.is_empty() { "no usable key".into() } else { keys.join(", ") }
}

impl Finding {
    fn fail(&mut self, what: &'static str, why: &dyn fmt::Display) {
        self.sound = false;
        self.lines.push((what, why.to_string()));
    }
}

/// What a token is worth now: whose it is and what it allows, or why it is refused and which line would change that.
///
/// # Errors
/// As [`look`].
pub fn explain(config: &Config, token: &str, clock: &Clock) -> Result<(bool, String), StartFault> {
    // What goes wrong at an issuer is told by the log, as it would be by that of a running proxy.
    let log = Log::to_memory(Level::Warn);
    let keys = Arc::new(KeyStore::start(&config.issuers, config.ca_file.as_deref(), clock, &log)?);
    let auth = Authenticator::new(config, Arc::clone(&keys), log.clone());
    let verdict = match auth.judge(token, clock.now()) {
        Ok(principal) => {
            let client =
                principal.client_id.as_deref().map_or_else(String::new, |id| format!(", client {id}"));
            let scopes = match principal.scopes.to_string() {
                none if none.is_empty() => "no scopes".to_owned(),
                some => format!("scopes {some}"),
            };
            let seconds = principal.expires.0.saturating_sub(clock.now().0);
            (
                true,
                format!(
                    "good: issuer {}, subject {}{client}, {scopes}, for {seconds} more seconds",
                    principal.issuer, principal.subject
                ),
            )
        }
        Err(AuthError::Denied(Denied::BadToken(fault))) => (false, format!("refused: {fault}")),
        Err(other) => (false, format!("no verdict: {other}\n{}", log.text().trim_end())),
    };
    keys.shutdown();
    Ok(verdict)
}
