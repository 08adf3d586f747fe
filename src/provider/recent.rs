//! Requests that come twice within a few seconds: the second gets the first one's answer.
//!
//! A client whose connection broke sends its refresh again, and a provider that rotates refresh tokens would take that
//! for theft and end the login (RFC 9700 section 4.14.2). A registration sent again would leave a second client behind.
//! A request counts as the same only where every byte that identifies its sender is the same, so the answer goes to
//! whoever could have got it anyway. Good answers are kept for a moment; others only for those who already wait.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use sha2::{Digest as _, Sha256};

use super::wait::{Outcome, Slot};
use crate::limits::{LOGIN_REPEAT_TIME, LOGIN_REPEATS_MAX, LOGIN_WAITERS_MAX};

/// The SHA-256 of everything that makes two requests the same.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Key([u8; 32]);

impl Key {
    /// Of these parts, none of which can run into the next.
    #[must_use]
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut digest = Sha256::new();
        for part in parts {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        Self(digest.finalize().into())
    }
}

/// What is to be done with a request.
#[derive(Debug)]
pub enum Seen {
    /// It is the first: ask the provider, then call [`Recent::done`].
    First,
    /// One like it is under way; its slot is filled with the same outcome.
    UnderWay,
    /// This was the answer.
    Answered(Outcome),
    /// Too many wait already, or are remembered: it is on its own.
    Alone,
}

#[derive(Debug)]
enum Entry {
    UnderWay(Vec<Arc<Slot>>),
    Answered(Outcome, Instant),
}

/// Requests under way, and answers of a moment ago.
#[derive(Debug, Default)]
pub struct Recent(Mutex<HashMap<Key, Entry>>);

impl Recent {
    /// Looks whether there was one like it.
    pub fn look(&self, key: Key, slot: &Arc<Slot>, now: Instant) -> Seen {
        let mut entries = self.entries();
        forget(&mut entries, now);
        let full = entries.len() >= LOGIN_REPEATS_MAX;
        match entries.get_mut(&key) {
            Some(Entry::Answered(outcome, _)) => Seen::Answered(outcome.clone()),
            Some(Entry::UnderWay(waiting)) if waiting.len() < LOGIN_WAITERS_MAX => {
                waiting.push(Arc::clone(slot));
                Seen::UnderWay
            }
            Some(Entry::UnderWay(_)) => Seen::Alone,
            None if full => Seen::Alone,
            None => {
                entries.insert(key, Entry::UnderWay(Vec::new()));
                Seen::First
            }
        }
    }

    /// The first of its kind has ended in `outcome`: those who wait get it, and it is kept for a moment if it is good.
    pub fn done(&self, key: Key, outcome: &Outcome, now: Instant) {
        let good = (200..300).contains(&outcome.reply.status);
        let mut entries = self.entries();
        let before = if good {
            entries.insert(key, Entry::Answered(outcome.clone(), now + LOGIN_REPEAT_TIME))
        } else {
            entries.remove(&key)
        };
        drop(entries);
        if let Some(Entry::UnderWay(waiting)) = before {
            waiting.iter().for_each(|slot| slot.fill(outcome.clone()));
        }
    }

    /// Forgets what is too old; says whether anything is left that will be.
    pub fn sweep(&self, now: Instant) -> bool {
        let mut entries = self.entries();
        forget(&mut entries, now);
        entries.values().any(|entry| matches!(entry, Entry::Answered(..)))
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<Key, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn forget(entries: &mut HashMap<Key, Entry>, now: Instant) {
    entries.retain(|_, entry| !matches!(entry, Entry::Answered(_, until) if *until <= now));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reply::{LoginFault, Reply};

    #[test]
    fn a_duplicate_gets_the_first_answer_for_a_few_seconds() {
        let recent = Recent::default();
        let (one, other) = (Key::of(&[b"a", b"bc"]), Key::of(&[b"ab", b"c"]));
        assert_ne!(one, other);
        let start = Instant::now();
        let slot = || Arc::new(Slot::default());
        assert!(matches!(recent.look(one, &slot(), start), Seen::First));
        assert!(matches!(recent.look(other, &slot(), start), Seen::First));
        for _ in 0..LOGIN_WAITERS_MAX {
            assert!(matches!(recent.look(one, &slot(), start), Seen::UnderWay));
        }
        assert!(matches!(recent.look(one, &slot(), start), Seen::Alone));
        recent.done(one, &Reply::json(200, "{}").into(), start);
        recent.done(other, &LoginFault::Provider.into(), start);
        assert!(matches!(recent.look(one, &slot(), start + LOGIN_REPEAT_TIME / 2), Seen::Answered(_)));
        // What failed is asked anew.
        assert!(matches!(recent.look(other, &slot(), start), Seen::First));
        assert!(recent.sweep(start));
        assert!(!recent.sweep(start + LOGIN_REPEAT_TIME));
        assert!(matches!(recent.look(one, &slot(), start + LOGIN_REPEAT_TIME), Seen::First));
    }

    #[test]
    fn no_more_than_so_many_are_remembered() {
        let recent = Recent::default();
        let now = Instant::now();
        let slot = Arc::new(Slot::default());
        for n in 0..LOGIN_REPEATS_MAX {
            assert!(matches!(recent.look(Key::of(&[&n.to_be_bytes()]), &slot, now), Seen::First));
        }
        assert!(matches!(recent.look(Key::of(&[b"one more"]), &slot, now), Seen::Alone));
    }
}
