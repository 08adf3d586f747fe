//! How often one address may ask: a bucket that fills slowly.
//!
//! A registration costs the provider an entry for ever, and a token request a look at its database; neither needs a
//! credential. The bound is per address, so that a stranger's flood is not everybody's, and generous, because many users
//! may come from one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::client::household;
use crate::limits::LOGIN_ADDRESSES_MAX;

/// Buckets by address.
#[derive(Debug)]
pub struct Rate {
    burst: u32,
    every: Duration,
    /// When the bucket of an address will be full again.
    full_at: Mutex<HashMap<IpAddr, Instant>>,
}

impl Rate {
    /// `burst` at once, and then one more in each `every`.
    #[must_use]
    pub fn new(burst: u32, every: Duration) -> Self {
        Self { burst, every, full_at: Mutex::default() }
    }

    /// Takes one out of the bucket of this address.
    ///
    /// # Errors
    /// How long it will be until there is one.
    pub fn take(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let address = household(address);
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if full_at.len() >= LOGIN_ADDRESSES_MAX && !full_at.contains_key(&address) {
            full_at.retain(|_, at| *at > now);
            if full_at.len() >= LOGIN_ADDRESSES_MAX {
                return Err(self.every);
            }
        }
        let at = full_at.entry(address).or_insert(now);
        let next = (*at).max(now) + self.every;
        let most = now + self.every * self.burst;
        if next > most {
            return Err(next - most);
        }
        *at = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_empties_and_fills_again() {
        let rate = Rate::new(3, Duration::from_secs(10));
        let (one, two) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for (address, seconds, allowed) in [
            (one, 0, true),
            (one, 0, true),
            (one, 0, true),
            (one, 0, false),
            (two, 0, true),
            (one, 9, false),
            (one, 10, true),
            (one, 10, false),
            (one, 100, true),
            (one, 100, true),
            (one, 100, true),
            (one, 100, false),
        ] {
            assert_eq!(rate.take(address, at(seconds)).is_ok(), allowed, "{address} after {seconds} s");
        }
        assert_eq!(rate.take(one, at(103)), Err(Duration::from_secs(7)));
        let neighbours = ["2001:db8::1", "2001:db8::2", "2001:db8:0:0:ffff::", "2001:db8::3"];
        let taken = neighbours.map(|address| rate.take(address.parse().unwrap(), start).is_ok());
        assert_eq!(taken, [true, true, true, false]);
    }

    /// More addresses than are remembered are not let through unseen.
    #[test]
    fn a_full_table_lets_nobody_new_in() {
        let rate = Rate::new(1, Duration::from_secs(10));
        let now = Instant::now();
        for n in 0..LOGIN_ADDRESSES_MAX {
            let n = u32::try_from(n).unwrap();
            assert_eq!(rate.take(IpAddr::from(n.to_be_bytes()), now), Ok(()));
        }
        let late = IpAddr::from([203, 0, 113, 1]);
        assert!(rate.take(late, now).is_err());
        assert_eq!(rate.take(late, now + Duration::from_secs(11)), Ok(()));
    }
}
