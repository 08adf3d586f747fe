//! What is special about logging in at an identity provider, as data: `provider:` in the configuration picks a row. What
//! is special about its tokens stands in `config/claims.rs`, by the same names.
//!
//! docs/integrations/ has a page for each. A provider without a row, or without anything special, is `generic`.

use super::form::{Form, RESOURCE};

/// The parameter by which some providers are asked for an audience instead of RFC 8707's `resource`.
const AUDIENCE: &str = "audience";

/// One row.
#[derive(Debug, Eq, PartialEq)]
pub struct Preset {
    /// How it is written in the configuration.
    pub name: &'static str,
    /// What its authorization server makes of `resource`.
    pub resource: Resource,
    /// Whether clients can register with it without a credential of the operator's (RFC 7591).
    pub registration: bool,
    /// It takes PKCE with S256, though its metadata may not say so (ASR-06).
    pub s256: bool,
}

/// What becomes of `resource` (ASR-08). Where it does not go on, it must name us, so that nobody gets a token for
/// something else than was asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Resource {
    /// It goes on unchanged.
    Passed,
    /// `audience` with the first audience of the configuration stands for it.
    Audience,
    /// The provider refuses it, or takes the audience from the scopes.
    Dropped,
}

/// Every row, the one for everybody else first.
pub const PRESETS: &[Preset] = &[
    Preset { name: "generic", resource: Resource::Passed, registration: true, s256: false },
    Preset { name: "asgardeo", resource: Resource::Passed, registration: true, s256: true },
    Preset { name: "auth0", resource: Resource::Audience, registration: true, s256: true },
    Preset { name: "keycloak", resource: Resource::Passed, registration: true, s256: true },
    Preset { name: "okta", resource: Resource::Dropped, registration: false, s256: true },
    Preset { name: "entra", resource: Resource::Dropped, registration: false, s256: true },
    Preset { name: "google", resource: Resource::Dropped, registration: false, s256: true },
    Preset { name: "cognito", resource: Resource::Passed, registration: false, s256: true },
    Preset { name: "authentik", resource: Resource::Passed, registration: false, s256: true },
    Preset { name: "zitadel", resource: Resource::Passed, registration: false, s256: true },
    Preset { name: "logto", resource: Resource::Passed, registration: false, s256: true },
];

/// A request of the login that carries `resource`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// To the authorization endpoint.
    Authorize,
    /// To the token endpoint.
    Token,
}

/// `resource` names something else than what this proxy protects (RFC 8707 section 2: `invalid_target`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ForeignTarget;

impl Preset {
    /// The row of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        PRESETS.iter().find(|preset| preset.name == name)
    }

    /// The row for everybody else.
    #[must_use]
    pub fn generic() -> &'static Self {
        static GENERIC: &Preset = match PRESETS {
            [generic, ..] => generic,
            [] => panic!("the table has rows"),
        };
        GENERIC
    }

    /// Whether requests to the endpoints go on changed.
    #[must_use]
    pub fn adapts(&self) -> bool {
        self.resource != Resource::Passed
    }

    /// Does with `resource` what this provider needs. `audiences` are the values that mean us, the first one first.
    ///
    /// # Errors
    /// [`ForeignTarget`], where it would be lost although it does not mean us.
    pub fn adapt(&self, step: Step, form: &mut Form, audiences: &[String]) -> Result<(), ForeignTarget> {
        if self.resource == Resource::Passed {
            return Ok(());
        }
        if !form.all(RESOURCE).all(|asked| audiences.iter().any(|own| is_same(own, asked))) {
            return Err(ForeignTarget);
        }
        form.remove(RESOURCE);
        if let (Resource::Audience, Step::Authorize, Some(first)) = (self.resource, step, audiences.first()) {
            form.add(AUDIENCE, first);
        }
        Ok(())
    }
}

/// Clients write an origin with and without the slash that is its path.
fn is_same(own: &str, asked: &str) -> bool {
    own == asked || own.strip_suffix('/').unwrap_or(own) == asked.strip_suffix('/').unwrap_or(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ASR-08: passed on, translated or dropped, and never lost in silence.
    #[test]
    fn resource_reaches_each_provider_as_it_understands_it() {
        let audiences = ["api://mcp", "https://h.example/mcp", "https://h.example"].map(str::to_owned);
        let ours = "resource=https%3A%2F%2Fh.example%2Fmcp&state=1";
        let foreign = "resource=https%3A%2F%2Felsewhere.example&state=1";
        for (name, step, text, expected) in [
            ("generic", Step::Authorize, foreign, Ok(foreign)),
            ("keycloak", Step::Token, ours, Ok(ours)),
            ("auth0", Step::Authorize, ours, Ok("state=1&audience=api%3A%2F%2Fmcp")),
            ("auth0", Step::Authorize, "audience=x", Ok("audience=api%3A%2F%2Fmcp")),
            ("auth0", Step::Token, ours, Ok("state=1")),
            ("auth0", Step::Authorize, foreign, Err(ForeignTarget)),
            ("entra", Step::Authorize, ours, Ok("state=1")),
            ("entra", Step::Token, "resource=https://h.example/&state=1", Ok("state=1")),
            ("entra", Step::Token, foreign, Err(ForeignTarget)),
            ("google", Step::Authorize, "state=1", Ok("state=1")),
        ] {
            let mut form = Form::read(text).unwrap();
            let adapted =
                Preset::named(name).unwrap().adapt(step, &mut form, &audiences).map(|()| form.write());
            assert_eq!(adapted, expected.map(str::to_owned), "{name} {text}");
        }
    }

    #[test]
    fn each_preset_has_a_name_of_its_own() {
        for (n, preset) in PRESETS.iter().enumerate() {
            assert_eq!(Preset::named(preset.name), PRESETS.get(n));
        }
        assert_eq!(Preset::generic().name, "generic");
        assert_eq!(Preset::named("Auth0"), None);
    }
}
