//! The one place that asks the system what time it is.
//!
//! Everything that judges a token or ages an entry is given a [`Timestamp`], so that a test lets an hour pass by
//! setting a number. Deadlines of sockets are another matter: they use [`std::time::Instant`], which no one may set.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::UNIX_EPOCH;

/// Whole seconds since 1970-01-01T00:00:00Z, as `NumericDate` of RFC 7519 section 2 counts them.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// This moment moved by `seconds`, staying within the range of the type.
    #[must_use]
    pub fn plus(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds))
    }
}

/// Where the time comes from: the system, or a number that a test sets.
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<Arc<AtomicI64>>);

impl Clock {
    /// The system's clock.
    #[must_use]
    pub fn system() -> Self {
        Self(None)
    }

    /// A clock that stands still at `start` until [`Clock::set`] moves it. Clones share it.
    #[must_use]
    pub fn fixed(start: Timestamp) -> Self {
        Self(Some(Arc::new(AtomicI64::new(start.0))))
    }

    /// Moves a fixed clock, and does nothing to the system's.
    pub fn set(&self, to: Timestamp) {
        if let Some(fixed) = &self.0 {
            fixed.store(to.0, Ordering::Relaxed);
        }
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Some(fixed) => Timestamp(fixed.load(Ordering::Relaxed)),
            None => Timestamp(i64::try_from(system_since_epoch().as_secs()).unwrap_or(i64::MAX)),
        }
    }
}

/// Time since the epoch by the system's clock, for log lines. A clock set before 1970 reads as 1970.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn system_since_epoch() -> std::time::Duration {
    std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
