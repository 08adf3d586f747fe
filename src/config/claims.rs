//! In which claims an issuer writes what we need to know, and what each known identity provider does differently.
//!
//! A provider is a row of data: `provider:` in an entry of `issuers`, or at the top for all of them, picks it, and every
//! other key goes before it. What is special about logging in there stands in `provider/preset.rs`. Names are taken as they stand: a dot or a colon in one means nothing.

use super::Algorithm;

/// Where things stand in the tokens of one issuer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClaimNames {
    /// Whom a token is for: the first of these that is there; `aud` alone unless the issuer has another place for it.
    pub audience: Vec<String>,
    /// Whose it is; `sub` unless the operator wants to know people by something else.
    pub subject: String,
    /// The client that got it: the first of these that is there.
    pub client_id: Vec<String>,
    /// What it allows: all of these together.
    pub scopes: Vec<String>,
}

impl Default for ClaimNames {
    fn default() -> Self {
        Shape::default().names()
    }
}

/// What is special about the tokens of one identity provider.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// How it is written in the configuration.
    pub provider: &'static str,
    audience: &'static [&'static str],
    client_id: &'static [&'static str],
    scopes: &'static [&'static str],
    /// Claims that tell an access token from the provider's other tokens.
    required: &'static [(&'static str, &'static str)],
    /// The algorithm of its keys, where that is another than RS256.
    pub algorithm: Algorithm,
}

impl Default for Shape {
    fn default() -> Self {
        GENERIC
    }
}

/// RFC 9068 section 2.2, with `azp` (OpenID Connect Core section 2) and `scp`, which many write instead.
const GENERIC: Shape = Shape {
    provider: "generic",
    audience: &["aud"],
    client_id: &["client_id", "azp"],
    scopes: &["scope", "scp"],
    required: &[],
    algorithm: Algorithm::Rs256,
};

/// Every row, the one for everybody else first.
pub const SHAPES: &[Shape] = &[
    GENERIC,
    Shape { provider: "asgardeo", ..GENERIC },
    Shape { provider: "auth0", ..GENERIC },
    Shape { provider: "authentik", ..GENERIC },
    // Its access tokens have `aud` where a resource was asked for, and else the client alone; its ID tokens have the
    // client in `aud`, and only `token_use` tells which is which.
    Shape {
        provider: "cognito",
        audience: &["aud", "client_id"],
        client_id: &["client_id"],
        scopes: &["scope"],
        required: &[("token_use", "access")],
        ..GENERIC
    },
    // Version 1 tokens call the client `appid`. What a client got for itself has `roles` instead of scopes.
    Shape { provider: "entra", client_id: &["azp", "appid"], scopes: &["scp", "roles"], ..GENERIC },
    Shape { provider: "google", ..GENERIC },
    Shape { provider: "keycloak", client_id: &["azp", "client_id"], scopes: &["scope"], ..GENERIC },
    Shape { provider: "logto", algorithm: Algorithm::Es384, ..GENERIC },
    Shape { provider: "okta", client_id: &["cid"], scopes: &["scp"], ..GENERIC },
    Shape { provider: "zitadel", ..GENERIC },
];

impl Shape {
    /// The row of this provider.
    #[must_use]
    pub fn of(provider: &str) -> Option<Self> {
        SHAPES.iter().find(|shape| shape.provider == provider).copied()
    }

    /// What its tokens must say besides.
    #[must_use]
    pub fn required_claims(self) -> Vec<(String, Vec<String>)> {
        self.required.iter().map(|(name, value)| ((*name).to_owned(), vec![(*value).to_owned()])).collect()
    }

    /// Its names.
    #[must_use]
    pub fn names(self) -> ClaimNames {
        let all = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        ClaimNames {
            audience: all(self.audience),
            subject: "sub".to_owned(),
            client_id: all(self.client_id),
            scopes: all(self.scopes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::preset::PRESETS;

    #[test]
    fn each_provider_has_one_row() {
        for (n, shape) in SHAPES.iter().enumerate() {
            assert!(SHAPES.iter().skip(n + 1).all(|other| other.provider != shape.provider));
            assert_eq!(Shape::of(shape.provider).map(Shape::names), Some(shape.names()));
        }
        let mut logins: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
        logins.sort_unstable();
        let mut tokens: Vec<&str> = SHAPES.iter().map(|shape| shape.provider).collect();
        tokens.sort_unstable();
        assert_eq!(logins, tokens, "a provider is known for its logins and for its tokens, or not at all");
        assert!(Shape::of("Okta").is_none());
        assert_eq!(ClaimNames::default().audience, ["aud"]);
    }
}
