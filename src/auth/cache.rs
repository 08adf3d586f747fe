//! What is remembered about tokens (decision D10): those that hold, and those that a look at their signature refused.
//!
//! A token is known by the SHA-256 of its bytes; a shorter or faster hash would let a collision decide who is let in.
//! The two memories are two types over one table, so that neither can be asked in the other's place:
//!
//! * [`Tokens`] holds what a verified token says until the token ends or its issuer's keys change.
//! * [`Refusals`] holds forged and expired tokens for a short while, so that a repeated one costs a hash instead of an
//!   RSA operation. It is bounded on its own, and cannot push a verified token out.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use sha2::{Digest as _, Sha256};

use super::claims::Verified;
use super::fault::TokenFault;
use crate::clock::Timestamp;
use crate::limits::{CACHE_SHARDS, REFUSED_CACHE_MAX, TOKEN_CACHE_MAX};

/// SHA-256 of a token's bytes.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// Hashes a token.
    #[must_use]
    pub fn of(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// The first eight hexadecimal digits: enough to follow a token through a log, and of no use for anything else
    /// (RS-16).
    #[must_use]
    pub fn short(&self) -> String {
        self.0.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
    }

    fn shard(&self) -> usize {
        self.0.first().map_or(0, |byte| usize::from(*byte)) % CACHE_SHARDS
    }
}

/// Which key set a verdict rests on: whose, and which state of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Basis {
    /// Which of the configured issuers.
    pub issuer: usize,
    /// The generation of its keys.
    pub generation: u64,
}

/// Tokens that hold.
#[derive(Debug)]
pub struct Tokens(Table<Verified>);

/// Tokens that were refused, at the cost of an RSA operation.
#[derive(Debug)]
pub struct Refusals(Table<TokenFault>);

impl Default for Tokens {
    fn default() -> Self {
        Self(Table::new(TOKEN_CACHE_MAX))
    }
}

impl Default for Refusals {
    fn default() -> Self {
        Self(Table::new(REFUSED_CACHE_MAX))
    }
}

impl Tokens {
    /// What a token says that was verified before, where `current` says that its issuer's keys are still those.
    pub fn get(
        &self,
        token: &TokenHash,
        now: Timestamp,
        current: impl Fn(Basis) -> bool,
    ) -> Option<Verified> {
        self.0.get(token, now, current)
    }

    /// Remembers a verified token.
    pub fn put(&self, token: TokenHash, verified: Verified, basis: Basis, now: Timestamp) {
        let until = verified.until;
        self.0.put(token, Entry { value: verified, until, basis }, now);
    }
}

impl Refusals {
    /// Why a token was refused a moment ago, where `current` says that its issuer's keys are still those.
    pub fn get(
        &self,
        token: &TokenHash,
        now: Timestamp,
        current: impl Fn(Basis) -> bool,
    ) -> Option<TokenFault> {
        self.0.get(token, now, current)
    }

    /// Remembers a refused token until then.
    pub fn put(&self, token: TokenHash, fault: TokenFault, until: Timestamp, basis: Basis, now: Timestamp) {
        self.0.put(token, Entry { value: fault, until, basis }, now);
    }
}

#[derive(Debug)]
struct Entry<T> {
    value: T,
    until: Timestamp,
    basis: Basis,
}

/// A bounded map in shards, each with a lock that is held for a look-up and no longer.
#[derive(Debug)]
struct Table<T> {
    shards: Vec<Mutex<HashMap<TokenHash, Entry<T>>>>,
    shard_max: usize,
}

impl<T: Clone> Table<T> {
    fn new(max: usize) -> Self {
        let shards = (0..CACHE_SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, shard_max: max / CACHE_SHARDS }
    }

    fn get(&self, token: &TokenHash, now: Timestamp, current: impl Fn(Basis) -> bool) -> Option<T> {
        let mut shard = self.shards.get(token.shard())?.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = shard.get(token)?;
        if now < entry.until && current(entry.basis) {
            return Some(entry.value.clone());
        }
        shard.remove(token);
        None
    }

    fn put(&self, token: TokenHash, entry: Entry<T>, now: Timestamp) {
        let Some(shard) = self.shards.get(token.shard()) else { return };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if shard.len() >= self.shard_max && !shard.contains_key(&token) {
            shard.retain(|_, entry| now < entry.until);
            // Still full of living entries: an eighth goes, whichever the map happens to hold first, so that the next
            // sweep is an eighth of the table away and no order has to be kept.
            if shard.len() >= self.shard_max {
                let some: Vec<TokenHash> = shard.keys().take(self.shard_max.div_ceil(8)).copied().collect();
                for token in some {
                    shard.remove(&token);
                }
            }
        }
        shard.insert(token, entry);
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap().len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1000);
    const BASIS: Basis = Basis { issuer: 0, generation: 1 };

    fn refusal() -> TokenFault {
        TokenFault::NotAToken
    }

    /// D10: until the earliest of `exp`, key-set change and capacity.
    #[test]
    fn an_entry_ends_with_its_time_and_with_its_keys() {
        let current = |generation| move |basis: Basis| basis.generation == generation;
        for (what, now, generation, there) in [
            ("at once", 1000, 1, true),
            ("in its last second", 1009, 1, true),
            ("at its end", 1010, 1, false),
            ("after a change of keys", 1000, 2, false),
        ] {
            let table = Refusals::default();
            let token = TokenHash::of(b"a.b.c");
            table.put(token, refusal(), Timestamp(1010), BASIS, NOW);
            assert_eq!(table.get(&token, Timestamp(now), current(generation)).is_some(), there, "{what}");
            // What is dead is gone for good, even if the clock is put back.
            assert_eq!(table.get(&token, NOW, current(1)).is_some(), there, "{what}, asked again");
            assert!(table.get(&TokenHash::of(b"a.b.d"), NOW, current(1)).is_none(), "another token");
        }
    }

    #[test]
    fn capacity_is_never_exceeded_and_the_newest_is_there() {
        let table: Table<u32> = Table::new(64 * CACHE_SHARDS);
        for n in 0..10_000 {
            let token = TokenHash::of(n.to_string().as_bytes());
            table.put(token, Entry { value: n, until: Timestamp(2000), basis: BASIS }, NOW);
            assert_eq!(table.get(&token, NOW, |_| true), Some(n));
        }
        assert!(table.len() <= 64 * CACHE_SHARDS && table.len() > 48 * CACHE_SHARDS, "{}", table.len());
        // What has ended makes room before anything that has not.
        let alive = TokenHash::of(b"alive");
        table.put(alive, Entry { value: 1, until: Timestamp(9000), basis: BASIS }, Timestamp(3000));
        for n in 0..50 {
            let token = TokenHash::of(format!("more {n}").as_bytes());
            table.put(token, Entry { value: n, until: Timestamp(9000), basis: BASIS }, Timestamp(3000));
        }
        assert_eq!(table.get(&alive, Timestamp(3000), |_| true), Some(1));
    }

    /// RS-16.
    #[test]
    fn a_hash_is_shown_in_eight_digits() {
        assert_eq!(TokenHash::of(b"abc").short(), "ba7816bf");
    }
}
