//! Signature algorithms, and which of them an issuer may use.
//!
//! The list is the operator's (RFC 8725 section 3.1): a token never chooses. Every algorithm here is asymmetric; there
//! is no name for `none` or an HMAC, so that no configuration can allow one.

use std::fmt;

/// A signature algorithm of RFC 7518 section 3.1 or RFC 8037 section 3.1.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256, and a salt of the same length.
    Ps256,
    /// RSASSA-PSS with SHA-384, and a salt of the same length.
    Ps384,
    /// RSASSA-PSS with SHA-512, and a salt of the same length.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
    ];
    /// Their names, for a person.
    pub const NAMES: &str = "RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 or EdDSA";

    /// Its name in a token's header.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The algorithm of this name, if it can be verified. Names are case-sensitive (RFC 7515 section 4.1.1). `Ed25519`
    /// is the name that RFC 9864 section 2.2 gives to what everybody meant by `EdDSA`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        if name == "Ed25519" {
            return Some(Self::EdDsa);
        }
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// Whether its keys are RSA keys, which do not say by themselves which algorithm they are for.
    #[must_use]
    pub fn is_rsa(self) -> bool {
        !matches!(self, Self::Es256 | Self::Es384 | Self::EdDsa)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The algorithms that tokens of one issuer may use.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Allowed {
    /// These. At least one.
    Listed(Vec<Algorithm>),
    /// Whichever the issuer's own keys are for (`algorithms: auto`).
    Auto,
}

impl Default for Allowed {
    fn default() -> Self {
        Self::Listed(vec![Algorithm::Rs256])
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listed(list) => {
                let names: Vec<&str> = list.iter().map(|algorithm| algorithm.name()).collect();
                f.write_str(&names.join(", "))
            }
            Self::Auto => f.write_str("whatever its keys are for"),
        }
    }
}

impl Allowed {
    /// Whether a token of the issuer may use it.
    #[must_use]
    pub fn permits(&self, algorithm: Algorithm) -> bool {
        match self {
            Self::Listed(list) => list.contains(&algorithm),
            Self::Auto => true,
        }
    }

    /// The one algorithm of an RSA key that does not say its own (RFC 8725 section 3.1: one key, one algorithm): the
    /// first of the list, or of what the issuer's metadata `says`, where RS256 goes first because every server has it.
    #[must_use]
    pub fn of_unmarked_rsa_key(&self, says: &[Algorithm]) -> Option<Algorithm> {
        let rsa = |list: &[Algorithm]| list.iter().copied().find(|algorithm| algorithm.is_rsa());
        match self {
            Self::Listed(list) => rsa(list),
            Self::Auto if says.contains(&Algorithm::Rs256) => Some(Algorithm::Rs256),
            Self::Auto => Some(rsa(says).unwrap_or(Algorithm::Rs256)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_exact_and_none_is_symmetric() {
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::named(algorithm.name()), Some(algorithm));
            assert_eq!(Algorithm::named(&algorithm.name().to_lowercase()), None);
            assert!(Algorithm::NAMES.contains(algorithm.name()));
        }
        assert_eq!(Algorithm::named("Ed25519"), Some(Algorithm::EdDsa));
        for name in ["none", "HS256", "HS384", "HS512", "ES256K", "ES512", "Ed448", "RS1", "", "RS256 "] {
            assert_eq!(Algorithm::named(name), None, "{name}");
        }
    }

    #[test]
    fn a_key_that_says_nothing_has_one_algorithm() {
        use Algorithm::{Es256, Ps256, Ps384, Rs256, Rs512};
        for (allowed, says, expected) in [
            (Allowed::default(), &[Ps256][..], Some(Rs256)),
            (Allowed::Listed(vec![Es256, Ps256, Rs256]), &[], Some(Ps256)),
            (Allowed::Listed(vec![Es256]), &[Rs256], None),
            (Allowed::Auto, &[], Some(Rs256)),
            (Allowed::Auto, &[Es256], Some(Rs256)),
            (Allowed::Auto, &[Ps384, Rs512, Rs256], Some(Rs256)),
            (Allowed::Auto, &[Es256, Ps384, Rs512], Some(Ps384)),
        ] {
            assert_eq!(allowed.of_unmarked_rsa_key(says), expected, "{allowed:?} {says:?}");
        }
    }
}
