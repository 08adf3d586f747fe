//! The shape of `issuers`, word for word, and of what may also stand at the top for all of them.
//!
//! As [`super::file`], of which it is a part: what the values mean together is decided in `trust.rs`.

use super::file::{Number, Text, Texts, required_claims};
use super::problem::Findings;
use super::section::{Placed, Section, show};
use super::tree::Node;
use super::{Algorithm, Allowed, ClaimNames, ClientAuth, SHAPES, Shape};
use crate::limits::INTROSPECTION_SECONDS_MAX;
use crate::secret::Secret;

/// One entry of `issuers`.
#[derive(Debug)]
pub struct Issuer {
    pub issuer: Placed<String>,
    pub metadata_url: Text,
    pub jwks_uri: Text,
    pub audience: Texts,
    pub algorithms: Option<Allowed>,
    pub provider: Option<Shape>,
    pub audience_claim: Texts,
    pub subject_claim: Text,
    pub client_id_claim: Texts,
    pub scope_claim: Texts,
    pub required_claims: Vec<(String, Vec<String>)>,
    pub introspection: Option<Placed<Introspection>>,
}

/// `introspection`
#[derive(Debug)]
pub struct Introspection {
    pub endpoint: Text,
    pub client_id: Text,
    pub client_secret: Option<Placed<Secret>>,
    pub auth_method: ClientAuth,
    pub cache_seconds: Number,
}

impl Introspection {
    fn read(mut section: Section<'_>) -> Placed<Self> {
        let longest = u64::try_from(INTROSPECTION_SECONDS_MAX).unwrap_or(0);
        let introspection = Self {
            endpoint: section.text("endpoint"),
            client_id: section.text("client_id"),
            client_secret: section.secret("client_secret"),
            auth_method: section
                .choice(
                    "auth_method",
                    &[("client_secret_basic", ClientAuth::Basic), ("client_secret_post", ClientAuth::Post)],
                )
                .map(|choice| choice.value)
                .unwrap_or_default(),
            cache_seconds: section.number("cache_seconds", 0..=longest),
        };
        let place = section.path.clone();
        section.done();
        Placed::new(introspection, place)
    }
}

impl Issuer {
    fn read(section: &mut Section<'_>, issuer: Placed<String>, findings: &Findings) -> Self {
        let providers: Vec<_> = SHAPES.iter().map(|shape| (shape.provider, *shape)).collect();
        Self {
            issuer,
            metadata_url: section.text("metadata_url"),
            jwks_uri: section.text("jwks_uri"),
            audience: section.list("audience"),
            algorithms: algorithms(section, findings),
            provider: section.choice("provider", &providers).map(|choice| choice.value),
            audience_claim: section.words("audience_claim"),
            subject_claim: section.text("subject_claim"),
            client_id_claim: section.words("client_id_claim"),
            scope_claim: section.words("scope_claim"),
            required_claims: section.section("required_claims").map(required_claims).unwrap_or_default(),
            introspection: section.section("introspection").map(Introspection::read),
        }
    }

    /// Where things stand in its tokens, which have this shape but for what is written.
    pub(super) fn claims(&self, shape: Shape, findings: &Findings) -> ClaimNames {
        let mut names = shape.names();
        let taken = ["iss", "exp", "nbf", "iat", "jti", "typ", "cnf"];
        let fits = |name: &Placed<String>| {
            let fits = !taken.contains(&name.as_str());
            if !fits {
                let found = format!("{} has a meaning of its own", name.shown());
                findings.problem(&name.path, found, "name the claim that your identity provider uses");
            }
            fits
        };
        if let Some(name) = self.subject_claim.as_ref().filter(|name| fits(name)) {
            names.subject.clone_from(&name.value);
        }
        for (list, names) in [
            (&self.audience_claim, &mut names.audience),
            (&self.client_id_claim, &mut names.client_id),
            (&self.scope_claim, &mut names.scopes),
        ] {
            if let Some(list) = list.as_ref().filter(|list| !list.value.is_empty()) {
                *names = list.value.iter().filter(|name| fits(name)).map(|name| name.value.clone()).collect();
            }
        }
        names
    }

    /// What its tokens must say besides.
    pub(super) fn required(&self, shape: Shape) -> Vec<(String, Vec<String>)> {
        let own = &self.required_claims;
        let preset = shape.required_claims().into_iter();
        let preset = preset.filter(|(name, _)| own.iter().all(|(own, _)| own != name));
        own.iter().cloned().chain(preset).collect()
    }
}

/// `issuers`
pub(super) fn read(top: &mut Section<'_>, findings: &Findings) -> Option<Placed<Vec<Issuer>>> {
    let (node, path) = top.node("issuers")?;
    let Node::List(nodes) = node else {
        let fix = "write a list; each entry has issuer, and jwks_uri, audience and algorithms where needed";
        findings.problem(&path, format!("found {}", show(node)), fix);
        return None;
    };
    let mut issuers = Vec::new();
    for (n, node) in nodes.iter().enumerate() {
        let place = path.index(n);
        let mut entry = top.below(node, place.clone());
        match entry.text("issuer") {
            Some(issuer) => issuers.push(Issuer::read(&mut entry, issuer, findings)),
            None => {
                findings.problem(&place, "issuer is missing", "write the exact `iss` of its tokens");
                continue;
            }
        }
        entry.done();
    }
    Some(Placed::new(issuers, path))
}

/// `algorithms`: a list, or the word `auto`.
pub(super) fn algorithms(section: &mut Section<'_>, findings: &Findings) -> Option<Allowed> {
    let list = section.list("algorithms")?;
    if let [only] = list.value.as_slice()
        && only.value == "auto"
    {
        return Some(Allowed::Auto);
    }
    let mut algorithms = Vec::new();
    for name in list.value {
        match Algorithm::named(&name) {
            Some(algorithm) if algorithms.contains(&algorithm) => {}
            Some(algorithm) => algorithms.push(algorithm),
            None => {
                let fix = match name.as_str() {
                    "auto" => "write auto alone, or a list without it".to_owned(),
                    _ => format!("write {}; no other algorithm is verified", Algorithm::NAMES),
                };
                findings.problem(&name.path, format!("found {}", name.shown()), fix);
            }
        }
    }
    (!algorithms.is_empty()).then_some(Allowed::Listed(algorithms))
}
