//! Scopes (RFC 6749 section 3.3), sets of them, and which a call needs.
//!
//! The rules of the configuration are put into tables once, at start; the closure of what implies what (RS-10) is
//! computed there too. A call is then judged by a few look-ups. All rules that match it count together.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;

use crate::config::{RuleSubject, ScopeRules};

/// One scope: a non-empty run of the characters that RFC 6749 section 3.3 allows, `%x21 / %x23-5B / %x5D-7E`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Scope(Box<str>);

impl Scope {
    /// `None` where `text` is empty or holds another character.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let fits = |b: u8| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
        (!text.is_empty() && text.bytes().all(fits)).then(|| Self(text.into()))
    }

    /// The scope as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A set of scopes; shown space-separated, as `scope` in a token or challenge is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ScopeSet(pub BTreeSet<Scope>);

impl ScopeSet {
    /// The scopes of a space-separated list; whatever is no scope is left out.
    #[must_use]
    pub fn parse(list: &str) -> Self {
        Self(list.split(' ').filter_map(Scope::new).collect())
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, scope) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str(" ")?;
            }
            f.write_str(scope.as_str())?;
        }
        Ok(())
    }
}

/// What a rule can be about, of one call.
#[derive(Clone, Copy, Debug, Default)]
pub struct CallSubject<'a> {
    /// The JSON-RPC method; empty where the request carries no message, as a GET.
    pub method: &'a str,
    /// `params.name` of a tool or prompt, or `params.uri` of a resource.
    pub item: Option<&'a str>,
    /// The HTTP path that was called.
    pub path: &'a str,
}

/// The scope rules, ready to be asked.
#[derive(Clone, Debug, Default)]
pub struct ScopeTable {
    always: ScopeSet,
    methods: HashMap<String, ScopeSet>,
    families: HashMap<String, ScopeSet>,
    items: HashMap<String, HashMap<String, ScopeSet>>,
    paths: HashMap<String, ScopeSet>,
    /// From a scope to all others that imply it.
    broader: HashMap<Scope, Vec<Scope>>,
}

impl ScopeTable {
    /// Puts the rules of the configuration into tables.
    #[must_use]
    pub fn new(rules: &ScopeRules) -> Self {
        let mut table = Self { always: rules.always.clone(), ..Self::default() };
        for rule in &rules.rules {
            let needed = match &rule.subject {
                RuleSubject::Method(method) => table.methods.entry(method.clone()).or_default(),
                RuleSubject::Family(family) => table.families.entry(family.clone()).or_default(),
                RuleSubject::Item { method, item } => {
                    table.items.entry(method.clone()).or_default().entry(item.clone()).or_default()
                }
                RuleSubject::Path(path) => table.paths.entry(path.clone()).or_default(),
            };
            needed.0.extend(rule.needed.0.iter().cloned());
        }
        table.broader = closure(&rules.implies);
        table
    }

    /// Whether single items of `method` have rules, so that a call of it without a readable item cannot be judged.
    #[must_use]
    pub fn has_items(&self, method: &str) -> bool {
        self.items.contains_key(method)
    }

    /// Every scope that the calls need together (RS-09).
    #[must_use]
    pub fn needed_for(&self, calls: &[CallSubject<'_>]) -> ScopeSet {
        ScopeSet(self.matching(calls).flat_map(|set| set.0.iter().cloned()).collect())
    }

    /// Whether `granted` is enough for all of the calls.
    ///
    /// # Errors
    /// Every scope that they need together, also those that are granted (RS-09).
    pub fn allow(&self, granted: &ScopeSet, calls: &[CallSubject<'_>]) -> Result<(), ScopeSet> {
        if self.matching(calls).flat_map(|set| &set.0).all(|scope| self.holds(granted, scope)) {
            return Ok(());
        }
        Err(self.needed_for(calls))
    }

    /// Whether `granted` holds `scope` or one that implies it.
    fn holds(&self, granted: &ScopeSet, scope: &Scope) -> bool {
        granted.0.contains(scope)
            || self.broader.get(scope).is_some_and(|all| all.iter().any(|one| granted.0.contains(one)))
    }

    /// The needs of every rule that matches. Nothing is copied: most requests are granted, and most calls match none.
    fn matching<'a>(&'a self, calls: &'a [CallSubject<'a>]) -> impl Iterator<Item = &'a ScopeSet> {
        let of_call = |call: &'a CallSubject<'a>| {
            let prefixes = call.method.match_indices('/').filter_map(|(at, _)| call.method.get(..at));
            let item = call.item.and_then(|item| self.items.get(call.method)?.get(item));
            (self.methods.get(call.method).into_iter())
                .chain(self.paths.get(call.path))
                .chain(prefixes.filter_map(|family| self.families.get(family)))
                .chain(item)
        };
        std::iter::once(&self.always).chain(calls.iter().flat_map(of_call))
    }
}

/// From each scope to all that imply it, directly or through others. A circle makes its members equal.
fn closure(implies: &[(Scope, Scope)]) -> HashMap<Scope, Vec<Scope>> {
    let narrower: HashSet<&Scope> = implies.iter().map(|(_, narrower)| narrower).collect();
    let all_above = |scope: &Scope| {
        let mut above: BTreeSet<&Scope> = BTreeSet::new();
        let mut open = vec![scope];
        while let Some(next) = open.pop() {
            let parents = implies.iter().filter(|(_, below)| below == next).map(|(broad, _)| broad);
            open.extend(parents.filter(|broad| above.insert(broad)));
        }
        above.into_iter().cloned().collect()
    };
    narrower.into_iter().map(|scope| (scope.clone(), all_above(scope))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ScopeRule;

    fn table() -> ScopeTable {
        let rule = |subject, needed| ScopeRule { subject, needed: ScopeSet::parse(needed) };
        let item = |method: &str, item: &str| RuleSubject::Item { method: method.into(), item: item.into() };
        let scope = |name| Scope::new(name).unwrap();
        ScopeTable::new(&ScopeRules {
            always: ScopeSet::parse("mcp"),
            rules: vec![
                rule(RuleSubject::Method("tools/call".into()), "call"),
                rule(RuleSubject::Family("tools".into()), "tools"),
                rule(item("tools/call", "delete"), "delete"),
                rule(item("tools/call", "delete"), "audit"),
                rule(item("resources/read", "file:///etc"), "read"),
                rule(RuleSubject::Path("/message".into()), "legacy"),
            ],
            implies: [("root", "admin"), ("admin", "delete"), ("admin", "audit"), ("x", "y"), ("y", "x")]
                .map(|(broad, narrow)| (scope(broad), scope(narrow)))
                .to_vec(),
        })
    }

    /// RS-08, RS-09; RFC 6750 section 3.1.
    #[test]
    fn all_matching_rules_count_together() {
        for (method, item, path, needed) in [
            ("ping", None, "/mcp", "mcp"),
            ("", None, "/mcp", "mcp"),
            ("tools/list", None, "/mcp", "mcp tools"),
            ("tools", None, "/mcp", "mcp"),
            ("toolsx/list", None, "/mcp", "mcp"),
            ("TOOLS/call", None, "/mcp", "mcp"),
            ("tools/call", Some("echo"), "/mcp", "call mcp tools"),
            ("tools/call", Some("delete"), "/mcp", "audit call delete mcp tools"),
            ("tools/call", Some("Delete"), "/mcp", "call mcp tools"),
            ("resources/read", Some("file:///etc"), "/mcp", "mcp read"),
            ("resources/read", Some("file:///etc/passwd"), "/mcp", "mcp"),
            ("prompts/get", Some("delete"), "/mcp", "mcp"),
            ("ping", None, "/message", "legacy mcp"),
        ] {
            let call = CallSubject { method, item, path };
            assert_eq!(table().needed_for(&[call]).to_string(), needed, "{call:?}");
        }
        assert!(table().has_items("tools/call") && !table().has_items("prompts/get"));
    }

    /// A batch is judged as the union of its elements.
    #[test]
    fn one_denied_call_of_a_batch_denies_it_and_names_all_scopes() {
        let calls = || {
            ["tools/list", "ping", "tools/call"].map(|method| CallSubject {
                method,
                item: None,
                path: "/mcp",
            })
        };
        let table = table();
        let allow = |granted| table.allow(&ScopeSet::parse(granted), &calls());
        assert_eq!(allow("call mcp tools other"), Ok(()));
        assert_eq!(allow("mcp tools"), Err(ScopeSet::parse("call mcp tools")));
        assert_eq!(allow(""), Err(ScopeSet::parse("call mcp tools")));
        let none = ScopeTable::default();
        assert_eq!(none.allow(&ScopeSet::default(), &calls()), Ok(()));
    }

    /// RS-10.
    #[test]
    fn a_broader_scope_stands_for_all_below_it() {
        let table = table();
        let call = [CallSubject { method: "tools/call", item: Some("delete"), path: "/mcp" }];
        for (granted, enough) in [
            ("mcp call tools delete audit", true),
            ("mcp call tools admin", true),
            ("mcp call tools root", true),
            ("mcp call tools delete", false),
            ("call tools root", false),
        ] {
            assert_eq!(table.allow(&ScopeSet::parse(granted), &call).is_ok(), enough, "{granted}");
        }
        let (x, y) = (Scope::new("x").unwrap(), Scope::new("y").unwrap());
        assert!(table.holds(&ScopeSet::parse("x"), &y) && table.holds(&ScopeSet::parse("y"), &x));
    }
}
