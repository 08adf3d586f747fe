//! How many event streams are open: in all, and of one principal, so that no single one can take every place.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use crate::auth::Principal;

/// The places for event streams.
#[derive(Debug)]
pub(crate) struct Streams {
    most: usize,
    most_each: usize,
    open: Mutex<Open>,
    hasher: RandomState,
}

/// A principal is known by a keyed hash: two that share one would share a number, and nothing else.
#[derive(Debug, Default)]
struct Open {
    all: usize,
    by_principal: HashMap<u64, u32>,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Full {
    /// All are taken.
    All,
    /// This principal has as many as one may have.
    Each,
}

/// A place among the open streams; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<Streams>, u64);

impl Streams {
    /// So many in all, and so many of one principal.
    pub(crate) fn new(most: usize, most_each: usize) -> Arc<Self> {
        Arc::new(Self { most, most_each, open: Mutex::default(), hasher: RandomState::new() })
    }

    /// Takes a place for a stream of `principal`.
    ///
    /// # Errors
    /// [`Full`]
    pub(crate) fn take(self: &Arc<Self>, principal: &Principal) -> Result<Place, Full> {
        let who = self.hasher.hash_one((&principal.issuer, &principal.subject));
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.all >= self.most {
            return Err(Full::All);
        }
        let count = open.by_principal.entry(who).or_insert(0);
        if *count as usize >= self.most_each {
            return Err(Full::Each);
        }
        *count += 1;
        open.all += 1;
        Ok(Place(Arc::clone(self), who))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.all -= 1;
        if let Some(count) = open.by_principal.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                open.by_principal.remove(&self.1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::scope::ScopeSet;
    use crate::clock::Timestamp;

    #[test]
    fn no_principal_takes_every_place() {
        let who = |issuer: &str, subject: &str| Principal {
            issuer: issuer.into(),
            subject: subject.into(),
            client_id: None,
            scopes: ScopeSet::default(),
            expires: Timestamp(0),
        };
        let streams = Streams::new(5, 3);
        let (alice, bob, other) = (who("i", "alice"), who("i", "bob"), who("j", "alice"));
        let mut held: Vec<Place> = (0..3).map(|_| streams.take(&alice).unwrap()).collect();
        assert_eq!(streams.take(&alice).unwrap_err(), Full::Each);
        held.push(streams.take(&bob).unwrap());
        held.push(streams.take(&other).unwrap());
        assert_eq!(streams.take(&bob).unwrap_err(), Full::All);
        held.clear();
        let open = streams.open.lock().unwrap();
        assert_eq!((open.all, open.by_principal.len()), (0, 0), "nothing is left");
    }
}
