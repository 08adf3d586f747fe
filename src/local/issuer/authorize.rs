//! The authorization endpoint and the decision that follows it (OAuth 2.1 section 4.1; RFC 7636; RFC 8707; RFC 9207).

use super::book::{Code, Grant, Pending};
use super::form::{Form, with_query};
use super::mint::random_name;
use super::page::{self, Consent};
use super::register::{form_target, same_redirect};
use super::{Issuer, OAuthError};
use crate::edge::http1::Incoming;
use crate::header;
use crate::limits::{LOCAL_CODE_SECONDS, LOCAL_CONSENT_SECONDS, LOCAL_VALUE_BYTES_MAX};
use crate::reply::{HeaderValue, Reply};

/// Scopes that a client gets only by asking for them.
const ON_REQUEST: &str = "mcp:admin";

impl Issuer {
    /// Shows the consent page.
    pub(super) fn authorize(&self, request: &Incoming) -> Reply {
        let form = match Form::read(request.query().unwrap_or_default().as_bytes()) {
            Ok(form) => form,
            Err(fault) => return page::stop(&fault.description()),
        };
        // Until client and redirect URI are known to belong together nothing may be sent there.
        let now = self.clock.now();
        let (Ok(id), Ok(given)) = (form.one("client_id"), form.one("redirect_uri")) else {
            return page::stop("client_id or redirect_uri was sent twice");
        };
        let id = id.unwrap_or_default();
        let Some(client) = self.book().clients.get(id, now).cloned() else {
            return page::stop("The client is not registered here, or was forgotten when this program ended");
        };
        let redirect_uri = match (given, client.redirect_uris.as_slice()) {
            (Some(given), known) if known.iter().any(|uri| same_redirect(uri, given)) => given,
            (None, [only]) => only.as_str(),
            _ => return page::stop("The address to return to is not one that the client registered"),
        };
        let state = match form.one("state") {
            Ok(state) if state.is_none_or(|state| state.len() <= LOCAL_VALUE_BYTES_MAX) => state,
            _ => return page::stop("state was sent twice or is too long"),
        };
        let (challenge, grant) = match self.judge(&form, id) {
            Ok(judged) => judged,
            Err(error) => {
                return self.redirect(
                    redirect_uri,
                    state,
                    &[("error", error.error), ("error_description", &error.description)],
                );
            }
        };
        let Ok(name) = random_name() else { return Reply::new(500) };
        let meant: Vec<(String, String)> =
            self.scopes.iter().filter(|(scope, _)| grant.scopes.contains(scope)).cloned().collect();
        let reply = page::consent(&Consent {
            client: &client.name,
            redirect_uri,
            audience: &grant.audience,
            scopes: &meant,
            request: &name,
            form_target: &form_target(redirect_uri).unwrap_or_default(),
        });
        let pending = Pending {
            grant,
            redirect_uri: redirect_uri.to_owned(),
            state: state.map(str::to_owned),
            challenge,
        };
        self.book().pending.put(name, pending, now.plus(LOCAL_CONSENT_SECONDS));
        reply
    }

    /// What the client may ask for: the challenge, and what a token would say.
    fn judge(&self, form: &Form, client_id: &str) -> Result<(String, Grant), OAuthError> {
        let invalid = |text: &str| OAuthError::new("invalid_request", text);
        let one = |name| form.one(name).map_err(|fault| invalid(&fault.description()));
        match one("response_type")? {
            Some("code") => {}
            Some(_) => return Err(OAuthError::new("unsupported_response_type", "only code is offered")),
            None => return Err(invalid("response_type is missing")),
        }
        let Some(challenge) = one("code_challenge")? else {
            return Err(invalid("code_challenge is missing: PKCE is required"));
        };
        let verifier_like = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
        if one("code_challenge_method")? != Some("S256") || challenge.len() != 43 {
            return Err(invalid("code_challenge_method must be S256"));
        }
        if !challenge.bytes().all(verifier_like) {
            return Err(invalid("code_challenge is not base64url"));
        }
        let audience =
            self.audience(form)?.unwrap_or_else(|| self.resources.first().cloned().unwrap_or_default());
        let asked: Vec<&str> =
            one("scope")?.unwrap_or_default().split(' ').filter(|s| !s.is_empty()).collect();
        let known = |wanted: &dyn Fn(&str) -> bool| -> Vec<String> {
            self.scopes.iter().map(|(scope, _)| scope).filter(|scope| wanted(scope)).cloned().collect()
        };
        // RFC 6749 section 3.3: a server may grant less than was asked for, and says so in its answer.
        let mut scopes = known(&|scope| asked.contains(&scope));
        if scopes.is_empty()
            && asked.iter().all(|scope| ["openid", "profile", "offline_access"].contains(scope))
        {
            scopes = known(&|scope| scope != ON_REQUEST);
        }
        if scopes.is_empty() {
            return Err(OAuthError::new("invalid_scope", "none of these scopes exists here"));
        }
        Ok((challenge.to_owned(), Grant { client_id: client_id.to_owned(), audience, scopes }))
    }

    /// The resource that a token is asked for, as the proxy names it (RFC 8707 section 2).
    ///
    /// # Errors
    /// `invalid_target` for another one, or for several: a token for two audiences is one that either could replay.
    pub(super) fn audience(&self, form: &Form) -> Result<Option<String>, OAuthError> {
        let mut found: Option<&String> = None;
        for asked in form.all("resource") {
            let asked = asked.strip_suffix('/').unwrap_or(asked);
            let known = self.resources.iter().find(|known| known.as_str() == asked);
            match (known, found) {
                (Some(known), None) => found = Some(known),
                (Some(known), Some(before)) if known == before => {}
                _ => {
                    return Err(OAuthError::new(
                        "invalid_target",
                        "this server issues no token for that resource",
                    ));
                }
            }
        }
        Ok(found.cloned())
    }

    /// Takes the decision from the consent page, and leads the browser back to the client.
    pub(super) fn decide(&self, request: &Incoming) -> Reply {
        // The name of the request is a secret of the page; this is the second fence against a form on another page.
        let own = request.header_str(header::ORIGIN).is_none_or(|origin| {
            origin == self.url
                || request.header_str(header::HOST).is_some_and(|h| origin == format!("http://{h}"))
        });
        if !own {
            return page::stop("The decision came from another page");
        }
        let Ok(form) = Form::read(request.body()) else { return page::stop("the decision cannot be read") };
        let (Ok(Some(name)), Ok(Some(decision))) = (form.one("request"), form.one("decision")) else {
            return page::stop("the decision cannot be read");
        };
        let now = self.clock.now();
        let Some(pending) = self.book().pending.take(name, now) else {
            return page::stop("This request was decided already, or it waited too long");
        };
        let (uri, state) = (pending.redirect_uri.clone(), pending.state.clone());
        if decision != "approve" {
            let denied = [("error", "access_denied"), ("error_description", "the person said no")];
            return self.redirect(&uri, state.as_deref(), &denied);
        }
        let Ok(code) = random_name() else { return Reply::new(500) };
        let scope = pending.grant.scope();
        self.log.info("a login was allowed", &[("scope", &scope), ("audience", &pending.grant.audience)]);
        self.book().codes.put(code.clone(), Code { pending, used: None }, now.plus(LOCAL_CODE_SECONDS));
        self.redirect(&uri, state.as_deref(), &[("code", &code)])
    }

    fn redirect(&self, uri: &str, state: Option<&str>, parameters: &[(&str, &str)]) -> Reply {
        let mut all = parameters.to_vec();
        all.extend(state.map(|state| ("state", state)));
        all.push(("iss", &self.url));
        // 303, so that a browser does not send the form on (OAuth 2.1 section 7.5.4).
        Reply::new(303)
            .header(header::LOCATION, HeaderValue::cleaned(with_query(uri, &all)))
            .header(header::CACHE_CONTROL, HeaderValue::fixed("no-store"))
            .header(header::REFERRER_POLICY, HeaderValue::fixed("no-referrer"))
    }
}
