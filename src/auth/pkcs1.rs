//! RSASSA-PKCS1-v1_5 verification (RFC 8017 section 8.2.2), with the numbers of the `rsa` crate and the exponent's own
//! length.
//!
//! ```text
//! signature ──▶ s < n ──▶ s^e mod n (RSAVP1) ──▶ compare whole with 00 01 FF… 00 DigestInfo hash (EMSA, section 9.2)
//! ```
//!
//! The crate raises by windows of four bits, as it must where an exponent is secret: a table of 15 powers for an
//! exponent of 17 bits. A public exponent needs one squaring for each of its bits and one multiplication for each bit
//! that is set, which for 65537 is less than half of the work; and a forged token costs this work and nothing else.
//! The encoded message is built and compared, never taken apart, so there is no padding to be lax about. `tests` here
//! hold every verdict against that of the crate.

use rsa::pkcs1v15::Pkcs1v15Sign;
use rsa::traits::PublicKeyParts as _;
use rsa::{BoxedUint, PublicKey};

use crypto_bigint::modular::BoxedMontyForm;
use crypto_bigint::{MontyForm, MontyMultiplier as _, Resize as _};

/// Whether `signature` is that of `key` over a message with this `hash`, under the DigestInfo of `scheme`.
pub(super) fn verifies(key: &PublicKey, scheme: &Pkcs1v15Sign, hash: &[u8], signature: &[u8]) -> bool {
    let size = key.size();
    if signature.len() != size || scheme.hash_len != Some(hash.len()) {
        return false;
    }
    let precision = key.n_bits_precision();
    let Ok(representative) = BoxedUint::from_be_slice(signature, precision) else { return false };
    if representative >= *key.n().as_ref() {
        return false;
    }
    let raised = raise(key, representative).to_be_bytes();
    // As many octets as the modulus has, whatever it is stored in.
    let Some(encoded) = raised.len().checked_sub(size).and_then(|leading| raised.get(leading..)) else {
        return false;
    };
    let Some(padding) = size.checked_sub(3 + scheme.prefix.len() + hash.len()).filter(|length| *length >= 8)
    else {
        return false;
    };
    let expected = [0, 1]
        .into_iter()
        .chain(std::iter::repeat_n(0xff, padding))
        .chain([0])
        .chain(scheme.prefix.iter().copied())
        .chain(hash.iter().copied());
    encoded.iter().copied().eq(expected)
}

/// RSAVP1 (RFC 8017 section 5.2.2): from the highest bit of the exponent to its lowest, with one memory for all products.
///
/// The numbers are in Montgomery form, x·R, and a product is a·b/R. The last bit of an exponent is set, since one that
/// is even has no inverse; a last product with the plain base so gives the plain result.
fn raise(key: &PublicKey, base: BoxedUint) -> BoxedUint {
    let (exponent, params) = (key.e(), key.n_params());
    let base = base.resize_unchecked(key.n_bits_precision());
    let plain = BoxedMontyForm::from_montgomery(base.clone(), params);
    let base = BoxedMontyForm::new(base, params);
    let mut product = <BoxedMontyForm as MontyForm>::Multiplier::from(params);
    let mut power = base.clone();
    for bit in (1..exponent.bit_width_vartime().saturating_sub(1)).rev() {
        product.square_assign(&mut power);
        if exponent.bit_vartime(bit) {
            product.mul_assign(&mut power, &base);
        }
    }
    product.square_assign(&mut power);
    product.mul_assign(&mut power, &plain);
    power.to_montgomery()
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::Value;
    use sha2::{Digest as _, Sha256, Sha384, Sha512};

    use super::*;

    struct Known {
        key: PublicKey,
        scheme: fn() -> Pkcs1v15Sign,
        hash: Vec<u8>,
        signature: Vec<u8>,
    }

    impl Known {
        /// The verdict, which is also that of the crate.
        fn verdict(&self, hash: &[u8], signature: &[u8]) -> bool {
            let ours = verifies(&self.key, &(self.scheme)(), hash, signature);
            let theirs = self.key.verify((self.scheme)(), hash, signature).is_ok();
            assert_eq!(ours, theirs, "{} bits, {signature:?}", self.key.n().bit_width());
            ours
        }
    }

    /// Signatures that OpenSSL made, with odd sizes and exponents among them.
    fn known() -> Vec<Known> {
        let text = include_str!("../../tests/spec/world/keys/openssl-rsa.json");
        let rows: Vec<Value> = serde_json::from_str(text).unwrap();
        let bytes = |value: &Value| URL_SAFE_NO_PAD.decode(value.as_str().unwrap()).unwrap();
        let number = |value: &Value| BoxedUint::from_be_slice_vartime(&bytes(value));
        let message = b"one message";
        rows.iter()
            .map(|row| {
                let (scheme, hash): (fn() -> Pkcs1v15Sign, Vec<u8>) = match row["alg"].as_str().unwrap() {
                    "RS256" => (Pkcs1v15Sign::new::<Sha256>, Sha256::digest(message).to_vec()),
                    "RS384" => (Pkcs1v15Sign::new::<Sha384>, Sha384::digest(message).to_vec()),
                    _ => (Pkcs1v15Sign::new::<Sha512>, Sha512::digest(message).to_vec()),
                };
                let key = PublicKey::new(number(&row["jwk"]["n"]), number(&row["jwk"]["e"])).unwrap();
                assert_eq!(u64::from(key.n().bit_width()), row["bits"].as_u64().unwrap());
                Known { key, scheme, hash, signature: bytes(&row["signature"]) }
            })
            .collect()
    }

    #[test]
    fn openssl_signed_it() {
        let all = known();
        assert_eq!(all.len(), 6);
        for known in all {
            assert!(known.verdict(&known.hash, &known.signature), "{} bits", known.key.n().bit_width());
        }
    }

    #[test]
    fn what_was_changed_is_refused_as_the_crate_refuses_it() {
        for known in known() {
            for at in (0..known.signature.len()).step_by(37).chain([known.signature.len() - 1]) {
                let mut changed = known.signature.clone();
                changed[at] ^= 1;
                assert!(!known.verdict(&known.hash, &changed), "octet {at}");
            }
            let mut other = known.hash.clone();
            other[0] ^= 0x80;
            assert!(!known.verdict(&other, &known.signature));
            assert!(!known.verdict(&known.hash[1..], &known.signature));
            assert!(!known.verdict(&[], &known.signature));
        }
    }

    #[test]
    fn a_signature_is_as_long_as_the_modulus_and_less_than_it() {
        for known in known() {
            let size = known.key.size();
            let modulus = known.key.n().to_be_bytes();
            let modulus = &modulus[modulus.len() - size..];
            let number = BoxedUint::from_be_slice_vartime(&known.signature);
            let above = number.concatenating_add(known.key.n().as_ref()).to_be_bytes();
            let zeros = vec![0; size];
            let ones = vec![0xff; size];
            for wrong in
                [&[][..], &known.signature[1..], modulus, &zeros, &ones, &above[above.len() - size..]]
            {
                assert!(!known.verdict(&known.hash, wrong), "{wrong:?}");
            }
            let longer = [&[0], &known.signature[..]].concat();
            assert!(!known.verdict(&known.hash, &longer));
        }
    }

    #[test]
    fn the_digest_info_is_part_of_it() {
        let all = known();
        let short = all.iter().find(|known| known.hash.len() == 32).unwrap();
        // The same octets of hash under another name of the algorithm, and under none.
        let other = Pkcs1v15Sign { hash_len: Some(32), prefix: Pkcs1v15Sign::new::<Sha512>().prefix };
        assert!(!verifies(&short.key, &other, &short.hash, &short.signature));
        assert!(!verifies(&short.key, &Pkcs1v15Sign::new_unprefixed(), &short.hash, &short.signature));
    }
}
