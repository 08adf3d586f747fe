//! How much one client may have under way at one time.
//!
//! A provider takes its time, and a stranger needs no credential to have it asked. Without this a single one could hold
//! every thread and every place of the queue, within what [`super::rate`] allows.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::client::household;

/// What is under way, by client. No more of them are remembered than there are places.
#[derive(Debug)]
pub struct Shares {
    most: usize,
    held: Mutex<HashMap<IpAddr, usize>>,
}

/// One of them, given back when it is dropped.
#[derive(Debug)]
pub struct Share {
    shares: Arc<Shares>,
    client: IpAddr,
}

impl Shares {
    /// Each may have `most`.
    #[must_use]
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, held: Mutex::default() })
    }

    /// One more for this client; `None` where it has all it may have.
    #[must_use]
    pub fn take(self: &Arc<Self>, client: IpAddr) -> Option<Share> {
        let client = household(client);
        let mut held = self.held();
        let count = held.entry(client).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        drop(held);
        Some(Share { shares: Arc::clone(self), client })
    }

    fn held(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.shares.held();
        if let Some(count) = held.get_mut(&self.client) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                held.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_of_one_client_and_comes_back() {
        let shares = Shares::new(2);
        let (one, other) = (IpAddr::from([203, 0, 113, 1]), IpAddr::from([203, 0, 113, 2]));
        let mut held: Vec<_> = (0..2).filter_map(|_| shares.take(one)).collect();
        assert!(held.len() == 2 && shares.take(one).is_none());
        assert!(shares.take(other).is_some(), "another client has a share of its own");
        held.pop();
        assert!(shares.take(one).is_some());
        held.clear();
        assert!(shares.held().is_empty(), "nothing is remembered of who has nothing under way");
        let near = ["2001:db8::1", "2001:db8::2"].map(|text| text.parse::<IpAddr>().unwrap());
        let held: Vec<_> = near.iter().filter_map(|address| shares.take(*address)).collect();
        assert!(held.len() == 2 && shares.take(near[0]).is_none(), "one household");
    }
}
