//! The shape of `issuers`, word for word, and of what may also stand at the top for all of them.
//!
//! As [`super::file`], of which it is a part: what the values mean together is decided in `trust.rs`.

use super::file::{Text, Texts};
use super::problem::Findings;
use super::section::{Placed, Section, quote, show};
use super::tree::Node;
use super::{Algorithm, Allowed};

/// One entry of `issuers`.
#[derive(Debug)]
pub struct Issuer {
    pub issuer: Placed<String>,
    pub metadata_url: Text,
    pub jwks_uri: Text,
    pub audience: Texts,
    pub algorithms: Option<Allowed>,
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
        let issuer = entry.text("issuer");
        let metadata_url = entry.text("metadata_url");
        let (jwks_uri, audience) = (entry.text("jwks_uri"), entry.list("audience"));
        let algorithms = algorithms(&mut entry, findings);
        entry.done();
        match issuer {
            Some(issuer) => issuers.push(Issuer { issuer, metadata_url, jwks_uri, audience, algorithms }),
            None => findings.problem(&place, "issuer is missing", "write the exact `iss` of its tokens"),
        }
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
                findings.problem(&name.path, format!("found {}", quote(&name.value)), fix);
            }
        }
    }
    (!algorithms.is_empty()).then_some(Allowed::Listed(algorithms))
}
