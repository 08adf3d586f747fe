//! Addresses that keep sending tokens which do not hold, in a table with an end.
//!
//! Each failure fills an address's bucket and time empties it. A full one is spent until a quarter of it has run out;
//! meanwhile tokens that would have to be looked at are not, and the client is told when to come back. What is
//! remembered to hold is served all the same, and a request without a token gets its challenge: whoever shares an
//! address with an attacker goes on with the token it has. Only addresses that are one client's for certain are counted;
//! see [`crate::client::Client::is_one`].

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::client::{Client, household};
use crate::clock::Timestamp;
use crate::limits::FAILING_ADDRESSES_MAX;

/// Failures of each address, as far as they count.
#[derive(Debug)]
pub(super) struct Failures {
    per_minute: u64,
    /// How many addresses were spent when they were last looked at; 0 saves everybody else the lock.
    spent: AtomicUsize,
    buckets: Mutex<HashMap<IpAddr, Bucket>>,
}

/// A level in sixtieths of a failure, so that a second empties a whole number of them.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    level: u64,
    at: Timestamp,
    spent: bool,
}

const FAILURE: u64 = 60;

impl Bucket {
    /// Lets run out what has run out until `now`.
    fn settle(&mut self, per_minute: u64, now: Timestamp) {
        let elapsed = u64::try_from(now.0.saturating_sub(self.at.0)).unwrap_or(0);
        self.level = self.level.saturating_sub(elapsed.saturating_mul(per_minute));
        self.at = now.max(self.at);
        if self.spent && self.level <= reopens_at(per_minute) {
            self.spent = false;
        }
    }
}

/// The level at which a spent address is looked at again: three quarters of all.
fn reopens_at(per_minute: u64) -> u64 {
    per_minute * FAILURE / 4 * 3
}

impl Failures {
    /// So many failures a minute may come from one address; 0 counts nothing.
    pub(super) fn new(per_minute: u32) -> Self {
        Self { per_minute: per_minute.into(), spent: AtomicUsize::new(0), buckets: Mutex::default() }
    }

    /// The seconds after which this client is looked at again, where it is spent.
    pub(super) fn spent(&self, client: Client, now: Timestamp) -> Option<u32> {
        if self.spent.load(Ordering::Relaxed) == 0 || !client.is_one {
            return None;
        }
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets.get_mut(&household(client.address)).filter(|bucket| bucket.spent)?;
        bucket.settle(self.per_minute, now);
        if !bucket.spent {
            self.spent.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let left = bucket.level.saturating_sub(reopens_at(self.per_minute)).div_ceil(self.per_minute.max(1));
        Some(u32::try_from(left).unwrap_or(u32::MAX).max(1))
    }

    /// Counts a failure.
    pub(super) fn count(&self, client: Client, now: Timestamp) {
        if self.per_minute == 0 || !client.is_one {
            return;
        }
        let address = household(client.address);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= FAILING_ADDRESSES_MAX && !buckets.contains_key(&address) {
            self.make_room(&mut buckets, now);
        }
        let bucket = buckets.entry(address).or_insert(Bucket { level: 0, at: now, spent: false });
        let was_spent = bucket.spent;
        bucket.settle(self.per_minute, now);
        // A full bucket gets no fuller: the wait is the same however many requests were under way when it filled.
        bucket.level = (bucket.level + FAILURE).min(self.per_minute * FAILURE);
        bucket.spent |= bucket.level >= self.per_minute * FAILURE;
        match (was_spent, bucket.spent) {
            (false, true) => _ = self.spent.fetch_add(1, Ordering::Relaxed),
            (true, false) => _ = self.spent.fetch_sub(1, Ordering::Relaxed),
            _ => {}
        }
    }

    /// Takes out what has run out, and where that is not enough the eighth that has failed least.
    fn make_room(&self, buckets: &mut HashMap<IpAddr, Bucket>, now: Timestamp) {
        for bucket in buckets.values_mut() {
            bucket.settle(self.per_minute, now);
        }
        buckets.retain(|_, bucket| bucket.level > 0);
        if buckets.len() >= FAILING_ADDRESSES_MAX {
            let mut levels: Vec<(u64, IpAddr)> =
                buckets.iter().map(|(address, bucket)| (bucket.level, *address)).collect();
            levels.sort_unstable();
            for (_, address) in levels.iter().take(FAILING_ADDRESSES_MAX.div_ceil(8)) {
                buckets.remove(address);
            }
        }
        let spent = buckets.values().filter(|bucket| bucket.spent).count();
        self.spent.store(spent, Ordering::Relaxed);
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.buckets.lock().unwrap().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000);

    fn client(address: &str) -> Client {
        Client { address: address.parse().unwrap(), is_one: true }
    }

    #[test]
    fn an_address_is_spent_by_its_own_failures_and_for_a_while() {
        let failures = Failures::new(20);
        let (bad, other) = (client("198.51.100.1"), client("198.51.100.2"));
        for n in 0..20 {
            assert_eq!(failures.spent(bad, NOW), None, "after {n} failures");
            failures.count(bad, NOW);
        }
        assert_eq!(failures.spent(bad, NOW), Some(15));
        for _ in 0..100 {
            failures.count(bad, NOW); // requests that were under way
        }
        assert_eq!(failures.spent(bad, NOW.plus(14)), Some(1));
        assert_eq!(failures.spent(other, NOW), None);
        assert_eq!(failures.spent(bad, NOW.plus(15)), None);
        for n in 0..5 {
            assert_eq!(failures.spent(bad, NOW.plus(15)), None, "a quarter is there again, {n}");
            failures.count(bad, NOW.plus(15));
        }
        assert!(failures.spent(bad, NOW.plus(15)).is_some());
        assert_eq!(failures.spent(bad, NOW.plus(10_000)), None);
        assert_eq!(failures.spent.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_slow_trickle_is_never_stopped_and_time_may_go_back() {
        let failures = Failures::new(60);
        let slow = client("198.51.100.1");
        for n in 0..1_000 {
            failures.count(slow, NOW.plus(n * 2));
            assert_eq!(failures.spent(slow, NOW.plus(n * 2)), None, "{n}");
        }
        failures.count(slow, Timestamp(0));
        assert_eq!(failures.spent(slow, Timestamp(0)), None);
    }

    #[test]
    fn who_may_be_many_is_not_counted_and_neither_is_anybody_when_it_is_off() {
        let many = Client { is_one: false, ..client("127.0.0.1") };
        let (failures, off) = (Failures::new(1), Failures::new(0));
        for _ in 0..10 {
            failures.count(many, NOW);
            off.count(client("198.51.100.1"), NOW);
        }
        assert_eq!((failures.spent(many, NOW), failures.len()), (None, 0));
        assert_eq!((off.spent(client("198.51.100.1"), NOW), off.len()), (None, 0));
    }

    /// Whoever has many addresses cannot push out the memory of what another one of them did.
    #[test]
    fn the_table_has_an_end_and_keeps_the_worst() {
        let failures = Failures::new(4);
        let worst = client("198.51.100.1");
        for _ in 0..4 {
            failures.count(worst, NOW);
        }
        for n in 0..(FAILING_ADDRESSES_MAX as u128 * 3) {
            let address = IpAddr::V6((0x2001_0db8_u128 << 96 | n << 64).into());
            failures.count(Client { address, is_one: true }, NOW);
        }
        assert!(failures.len() <= FAILING_ADDRESSES_MAX, "{}", failures.len());
        assert!(failures.spent(worst, NOW).is_some());
        // Within one household the address makes no difference.
        let failures = Failures::new(4);
        for n in 1..=4 {
            failures.count(client(&format!("2001:db8::{n}")), NOW);
        }
        assert!(failures.spent(client("2001:db8::ffff"), NOW).is_some());
    }
}
