//! The token endpoint: codes against tokens, and refresh tokens against new ones (OAuth 2.1 sections 3.2, 4.1.3, 4.3).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::book::{Grant, Refresh};
use super::form::Form;
use super::mint::{Claims, random_name};
use super::{Issuer, OAuthError, SUBJECT, no_store};
use crate::edge::http1::Incoming;
use crate::header;
use crate::limits::{LOCAL_LOGIN_SECONDS, LOCAL_TOKEN_SECONDS};
use crate::reply::Reply;

impl Issuer {
    pub(super) fn token(&self, request: &Incoming) -> Result<Reply, OAuthError> {
        let invalid = |text: &str| OAuthError::new("invalid_request", text);
        let media_type = request.header_str(header::CONTENT_TYPE).unwrap_or_default().split(';').next();
        let media_type = media_type.unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err(invalid("the body must be a form"));
        }
        let form = Form::read(request.body()).map_err(|fault| invalid(&fault.description()))?;
        let one = |name| form.one(name).map_err(|fault| invalid(&fault.description()));
        if request.header(header::AUTHORIZATION).is_some() || one("client_secret")?.is_some() {
            return Err(OAuthError::new(
                "invalid_client",
                "clients have no secret here: send client_id alone",
            ));
        }
        let client_id = one("client_id")?.ok_or_else(|| invalid("client_id is missing"))?;
        let asked = self.audience(&form)?;
        match one("grant_type")? {
            Some("authorization_code") => {
                let code = one("code")?.ok_or_else(|| invalid("code is missing"))?;
                let verifier = one("code_verifier")?.ok_or_else(|| invalid("code_verifier is missing"))?;
                let (grant, family) = self.redeem(code, verifier, client_id, one("redirect_uri")?, asked)?;
                self.issue(grant, family)
            }
            Some("refresh_token") => {
                let token = one("refresh_token")?.ok_or_else(|| invalid("refresh_token is missing"))?;
                let (mut grant, family) = self.renew(token, client_id, asked)?;
                if let Some(scope) = one("scope")? {
                    // RFC 6749 section 6: less than before, never more.
                    let narrower: Vec<String> = scope.split(' ').map(str::to_owned).collect();
                    if !narrower.iter().all(|scope| grant.scopes.contains(scope)) {
                        return Err(OAuthError::new("invalid_scope", "a refresh cannot widen the scope"));
                    }
                    grant.scopes = narrower;
                }
                self.issue(grant, family)
            }
            Some(_) => {
                Err(OAuthError::new("unsupported_grant_type", "use authorization_code or refresh_token"))
            }
            None => Err(invalid("grant_type is missing")),
        }
    }

    fn redeem(
        &self,
        code: &str,
        verifier: &str,
        client_id: &str,
        redirect_uri: Option<&str>,
        asked: Option<String>,
    ) -> Result<(Grant, String), OAuthError> {
        let refused = |text: &str| OAuthError::new("invalid_grant", text);
        let family = random_name().map_err(|_| refused("the server has no random numbers"))?;
        let now = self.clock.now();
        let mut book = self.book();
        let Some(found) = book.codes.get_mut(code, now) else {
            return Err(refused("the code is unknown or too old"));
        };
        if let Some(family) = found.used.clone() {
            // Someone else had the code: what came of it is worth nothing any more (OAuth 2.1 section 4.1.3).
            book.refreshes.forget(|refresh| refresh.family == family);
            return Err(refused("the code was used before"));
        }
        let pending = &found.pending;
        if pending.grant.client_id != client_id {
            return Err(refused("the code was issued to another client"));
        }
        // OAuth 2.1 leaves this parameter out, OAuth 2.0 wants it: one that is sent must be right.
        if redirect_uri.is_some_and(|uri| uri != pending.redirect_uri) {
            return Err(refused("redirect_uri differs from that of the authorization request"));
        }
        if !(43..=128).contains(&verifier.len())
            || URL_SAFE_NO_PAD.encode(Sha256::digest(verifier)) != pending.challenge
        {
            return Err(refused("code_verifier does not fit"));
        }
        let grant = pending.grant.clone();
        if asked.is_some_and(|asked| asked != grant.audience) {
            return Err(OAuthError::new("invalid_target", "the login was for another resource"));
        }
        found.used = Some(family.clone());
        Ok((grant, family))
    }

    fn renew(
        &self,
        token: &str,
        client_id: &str,
        asked: Option<String>,
    ) -> Result<(Grant, String), OAuthError> {
        let refused = |text: &str| OAuthError::new("invalid_grant", text);
        let now = self.clock.now();
        let mut book = self.book();
        let Some(found) =
            book.refreshes.get_mut(token, now).filter(|found| found.grant.client_id == client_id)
        else {
            return Err(refused("the refresh token is unknown or too old"));
        };
        if asked.is_some_and(|asked| asked != found.grant.audience) {
            return Err(OAuthError::new("invalid_target", "the login was for another resource"));
        }
        let (grant, family) = (found.grant.clone(), found.family.clone());
        if std::mem::replace(&mut found.used, true) {
            // OAuth 2.1 section 4.3.1: one of the two who used it has no right to, so neither goes on.
            book.refreshes.forget(|refresh| refresh.family == family);
            return Err(refused("the refresh token was used before"));
        }
        Ok((grant, family))
    }

    fn issue(&self, grant: Grant, family: String) -> Result<Reply, OAuthError> {
        let broken = |_| OAuthError::new("server_error", "no token could be made");
        let now = self.clock.now();
        let scope = grant.scope();
        let claims = Claims {
            subject: SUBJECT,
            client_id: &grant.client_id,
            audience: &grant.audience,
            scope: &scope,
            seconds: LOCAL_TOKEN_SECONDS,
        };
        let access = self.minter.token(&claims, now).map_err(broken)?;
        let refresh = random_name().map_err(broken)?;
        let entry = Refresh { grant, family, used: false };
        self.book().refreshes.put(refresh.clone(), entry, now.plus(LOCAL_LOGIN_SECONDS));
        Ok(no_store(
            200,
            &json!({
                "access_token": access, "token_type": "Bearer", "expires_in": LOCAL_TOKEN_SECONDS,
                "refresh_token": refresh, "scope": scope,
            }),
        ))
    }
}
