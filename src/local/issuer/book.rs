//! What the authorization server remembers: clients, requests that wait for a decision, codes and refresh tokens.
//!
//! Everything is in memory, bounded, and forgotten at the end. A full table forgets its oldest entry: whoever loses it
//! logs in again, which is fair for a demonstration and keeps a flood of registrations from growing it.

use std::collections::{HashMap, VecDeque};

use crate::clock::Timestamp;
use crate::limits::LOCAL_ENTRIES_MAX;

/// A table that holds at most [`LOCAL_ENTRIES_MAX`] entries, each for a time.
#[derive(Debug)]
pub(super) struct Table<T> {
    entries: HashMap<String, (T, Timestamp)>,
    order: VecDeque<String>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new() }
    }
}

impl<T> Table<T> {
    /// Remembers `value` under `name`, a new one, until `end`.
    pub(super) fn put(&mut self, name: String, value: T, end: Timestamp) {
        while self.order.len() >= LOCAL_ENTRIES_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.entries.remove(&oldest);
            }
        }
        self.order.push_back(name.clone());
        self.entries.insert(name, (value, end));
    }

    /// The entry, if its time is not over.
    pub(super) fn get(&self, name: &str, now: Timestamp) -> Option<&T> {
        self.entries.get(name).filter(|(_, end)| now < *end).map(|(value, _)| value)
    }

    /// The entry, to be changed.
    pub(super) fn get_mut(&mut self, name: &str, now: Timestamp) -> Option<&mut T> {
        self.entries.get_mut(name).filter(|(_, end)| now < *end).map(|(value, _)| value)
    }

    /// Takes the entry out.
    pub(super) fn take(&mut self, name: &str, now: Timestamp) -> Option<T> {
        let (value, end) = self.entries.remove(name)?;
        self.order.retain(|other| other != name);
        (now < end).then_some(value)
    }

    /// Forgets every entry that `goes`.
    pub(super) fn forget(&mut self, goes: impl Fn(&T) -> bool) {
        self.entries.retain(|_, (value, _)| !goes(value));
        let entries = &self.entries;
        self.order.retain(|name| entries.contains_key(name));
    }
}

/// A registered client (RFC 7591). All of them are public: none has a secret.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) name: String,
    pub(super) redirect_uris: Vec<String>,
}

/// What a client asked for and what a code or a refresh token stands for.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    pub(super) client_id: String,
    pub(super) audience: String,
    pub(super) scopes: Vec<String>,
}

impl Grant {
    /// As it stands in `scope`.
    pub(super) fn scope(&self) -> String {
        self.scopes.join(" ")
    }
}

/// An authorization request whose consent page is on somebody's screen.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) grant: Grant,
    pub(super) redirect_uri: String,
    pub(super) state: Option<String>,
    /// `S256` of RFC 7636 section 4.2.
    pub(super) challenge: String,
}

/// An authorization code. It stays in the table after its use, so that a second use is noticed.
#[derive(Clone, Debug)]
pub(super) struct Code {
    pub(super) pending: Pending,
    /// The family of refresh tokens that came of it, once it was used.
    pub(super) used: Option<String>,
}

/// A refresh token. It stays in the table after its use, so that a second use is noticed.
#[derive(Clone, Debug)]
pub(super) struct Refresh {
    pub(super) grant: Grant,
    /// Shared by all that came of one login.
    pub(super) family: String,
    pub(super) used: bool,
}

/// All tables.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) clients: Table<Client>,
    pub(super) pending: Table<Pending>,
    pub(super) codes: Table<Code>,
    pub(super) refreshes: Table<Refresh>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_bounded_and_entries_end() {
        let mut table = Table::default();
        for n in 0..=LOCAL_ENTRIES_MAX {
            table.put(n.to_string(), n, Timestamp(100));
        }
        assert_eq!(table.get("0", Timestamp(0)), None);
        assert_eq!(table.get("1", Timestamp(99)), Some(&1));
        assert_eq!(table.get("1", Timestamp(100)), None);
        assert_eq!(table.take("2", Timestamp(0)), Some(2));
        assert_eq!(table.take("2", Timestamp(0)), None);
        table.forget(|n| n % 2 == 1);
        assert_eq!((table.get("3", Timestamp(0)), table.get("4", Timestamp(0))), (None, Some(&4)));
        assert_eq!(table.order.len(), table.entries.len());
    }
}
