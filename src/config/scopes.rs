//! `scopes_supported` in every form that the original documents, turned into rules.
//!
//! | written | means |
//! |---|---|
//! | `- read:tools` | published in the metadata, needed by nothing |
//! | `"tools/call": s` | every call of that method needs `s` |
//! | `"tools": s` | so does every method that begins with `tools/` |
//! | `"/message": s` | every request on that HTTP path needs `s` |
//! | `"tools/call": [s, t]` | the method needs both |
//! | `"tools/call": [{echo: s}]` | calling the tool `echo` needs `s` |
//!
//! The last four may stand in one map or in a list of maps. A value may also be several scopes with spaces between.
//! A rule that no call could ever match is a hole that looks like a fence, so such rules are told to the operator.

use super::problem::Findings;
use super::section::{Placed, nearest, quote, show, split};
use super::tree::{Node, Path};
use super::{Paths, RuleSubject, ScopeRule};
use crate::auth::scope::{Scope, ScopeSet};

/// Methods that a client sends, in any revision that is served.
const METHODS: &[&str] = &[
    "completion/complete",
    "initialize",
    "logging/setLevel",
    "notifications/cancelled",
    "notifications/initialized",
    "notifications/progress",
    "notifications/roots/list_changed",
    "ping",
    "prompts/get",
    "prompts/list",
    "resources/list",
    "resources/read",
    "resources/subscribe",
    "resources/templates/list",
    "resources/unsubscribe",
    "server/discover",
    "subscriptions/listen",
    "tasks/cancel",
    "tasks/get",
    "tasks/list",
    "tasks/result",
    "tasks/update",
    "tools/call",
    "tools/list",
];

/// What `scopes_supported` says.
#[derive(Debug, Default)]
pub(super) struct Scopes {
    /// Every scope that is mentioned.
    pub(super) mentioned: ScopeSet,
    /// What needs which.
    pub(super) rules: Vec<ScopeRule>,
}

/// Reads the node at `path`.
pub(super) fn read(node: &Node, path: &Path, served: &Paths, findings: &Findings) -> Scopes {
    let mut reader = Reader { scopes: Scopes::default(), served, findings };
    match node {
        Node::List(nodes) => {
            for (n, node) in nodes.iter().enumerate() {
                let place = path.index(n);
                match node {
                    Node::Map(entries) => reader.map(entries, &place),
                    other => drop(reader.words(other, &place)),
                }
            }
        }
        Node::Map(entries) => reader.map(entries, path),
        other => drop(reader.words(other, path)),
    }
    reader.scopes
}

/// One scope, or a problem.
pub(super) fn scope(word: &Placed<String>, findings: &Findings) -> Option<Scope> {
    let scope = Scope::new(word);
    if scope.is_none() {
        let fix = "use printable ASCII without quotes and backslashes (RFC 6749 section 3.3)";
        findings.problem(&word.path, format!("{} is no scope", word.shown()), fix);
    } else if word.contains(',') {
        findings.warn(
            &word.path,
            format!("{} is taken as one scope, the comma is part of its name", word.shown()),
            "put spaces between scopes, or write a list",
        );
    }
    scope
}

struct Reader<'a> {
    scopes: Scopes,
    served: &'a Paths,
    findings: &'a Findings,
}

impl Reader<'_> {
    /// `subject: needed`, many times.
    fn map(&mut self, entries: &[(String, Node)], path: &Path) {
        for (key, node) in entries.iter().filter(|(_, node)| *node != Node::Null) {
            let place = path.key(key);
            let mut needed = ScopeSet::default();
            match node {
                Node::List(nodes) => {
                    for (n, node) in nodes.iter().enumerate() {
                        match node {
                            Node::Map(items) => self.items(key, items, &place.index(n)),
                            other => needed.0.extend(self.words(other, &place.index(n)).0),
                        }
                    }
                }
                Node::Map(items) => self.items(key, items, &place),
                other => needed = self.words(other, &place),
            }
            if !needed.is_empty() {
                for subject in self.subjects(key, &place) {
                    self.scopes.rules.push(ScopeRule { subject, needed: needed.clone() });
                }
            }
        }
    }

    /// `tool: needed` below a method.
    fn items(&mut self, key: &str, items: &[(String, Node)], path: &Path) {
        let methods: &[&str] = match key.trim_matches('/') {
            "tools/call" | "tools" => &["tools/call"],
            "prompts/get" | "prompts" => &["prompts/get"],
            "resources" => &["resources/read", "resources/subscribe", "resources/unsubscribe"],
            "resources/read" => &["resources/read"],
            "resources/subscribe" => &["resources/subscribe"],
            "resources/unsubscribe" => &["resources/unsubscribe"],
            _ => {
                let fix = "write a scope or a list of scopes; only tools/call, prompts/get and resources/read, \
                           subscribe and unsubscribe are told apart by name";
                self.findings.problem(path, format!("{} has no tools or the like below it", quote(key)), fix);
                return;
            }
        };
        for (item, node) in items {
            let place = path.key(item);
            let mut needed = ScopeSet::default();
            match node {
                Node::List(nodes) => {
                    for (n, node) in nodes.iter().enumerate() {
                        needed.0.extend(self.words(node, &place.index(n)).0);
                    }
                }
                other => needed = self.words(other, &place),
            }
            if needed.is_empty() {
                continue;
            }
            for method in methods {
                let subject = RuleSubject::Item { method: (*method).into(), item: item.clone() };
                self.scopes.rules.push(ScopeRule { subject, needed: needed.clone() });
            }
        }
    }

    /// The scopes of one text.
    fn words(&mut self, node: &Node, path: &Path) -> ScopeSet {
        let mut set = ScopeSet::default();
        match node {
            Node::Text(text) if text.value.trim().is_empty() => {
                self.findings.problem(path, "no scope here", "write a scope, or take the line out");
            }
            Node::Text(text) => {
                let words = split(&Placed::of(text.value.clone(), node, path.clone()));
                set.0.extend(words.iter().filter_map(|word| scope(word, self.findings)));
            }
            Node::Int(value) => {
                set.0.extend(scope(&Placed::new(value.to_string(), path.clone()), self.findings))
            }
            // An empty entry of a list or an item without a value: somebody meant to require something.
            other => {
                let fix = "write a scope, in quotes if in doubt";
                self.findings.problem(path, format!("found {}", show(other)), fix);
            }
        }
        self.scopes.mentioned.0.extend(set.0.iter().cloned());
        set
    }

    /// What a key is about.
    fn subjects(&self, key: &str, path: &Path) -> Vec<RuleSubject> {
        if let Some(method) = key.strip_prefix('/') {
            return self.path_subjects(key, method, path);
        }
        if METHODS.contains(&key) {
            return vec![RuleSubject::Method(key.to_owned())];
        }
        if METHODS.iter().any(|method| method.strip_prefix(key).is_some_and(|rest| rest.starts_with('/'))) {
            return vec![RuleSubject::Family(key.to_owned())];
        }
        // A server may have methods of its own; a slip of the pen is likelier.
        let hint = nearest(key, METHODS.iter().copied().chain(["tools", "resources", "prompts"]))
            .map_or_else(
                || "check it against the methods of the MCP server".to_owned(),
                |known| {
                    format!("did you mean {known}? Otherwise check it against the methods of the MCP server")
                },
            );
        self.findings.warn(
            path,
            format!("MCP has no method {}; the rule holds for it alone", quote(key)),
            hint,
        );
        vec![RuleSubject::Method(key.to_owned())]
    }

    /// A key that begins with a slash: a served path in the spelling of `paths`, or a method with a slash too many.
    fn path_subjects(&self, key: &str, method: &str, path: &Path) -> Vec<RuleSubject> {
        let bare = key.trim_end_matches('/');
        let same = |served: &&String| served.trim_end_matches('/') == bare;
        let Paths { streamable_http, sse, messages } = self.served;
        let mut subjects = vec![RuleSubject::Path(key.to_owned())];
        if let Some(served) = [streamable_http, sse, messages].into_iter().find(same) {
            return vec![RuleSubject::Path(served.clone())];
        }
        if METHODS.contains(&method) {
            subjects.push(RuleSubject::Method(method.to_owned()));
            let text = format!("no such path is served; the rule is applied to the method {method}");
            self.findings.guess(path, text, format!("write \"{method}\" without the slash in front"));
        } else if bare == "/message" || bare == "/messages" {
            subjects.push(RuleSubject::Path(messages.clone()));
            let text = format!("no such path is served; the rule is applied to {messages}");
            self.findings.guess(path, text, format!("write \"{messages}\""));
        } else {
            let text = "no such path is served, so this rule never applies";
            let hint = format!("write a method, or one of: {streamable_http}, {sse}, {messages}");
            self.findings.warn(path, text, hint);
        }
        subjects
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tree;

    fn rules(text: &str) -> (String, Vec<String>, usize, usize) {
        let findings = Findings::of(text);
        let served =
            Paths { streamable_http: "/mcp".into(), sse: "/sse".into(), messages: "/messages/".into() };
        let scopes = read(&tree::parse(text).expect("YAML"), &Path::default(), &served, &findings);
        let shown = scopes.rules.iter().map(|rule| {
            let subject = match &rule.subject {
                RuleSubject::Method(method) => method.clone(),
                RuleSubject::Family(family) => format!("{family}/*"),
                RuleSubject::Item { method, item } => format!("{method}({item})"),
                RuleSubject::Path(path) => format!("path {path}"),
            };
            format!("{subject}: {}", rule.needed)
        });
        let (shown, mentioned) = (shown.collect(), scopes.mentioned.to_string());
        let (problems, notes) = findings.into_parts();
        (mentioned, shown, problems.len(), notes.len())
    }

    /// The forms of the table above; RS-07 for what they are used for.
    #[test]
    fn every_documented_form_is_read() {
        let cases: &[(&str, &str, &[&str], usize, usize)] = &[
            ("[read:tools, read:resources]", "read:resources read:tools", &[], 0, 0),
            ("a b", "a b", &[], 0, 0),
            ("{tools/call: s, ping: t}", "s t", &["tools/call: s", "ping: t"], 0, 0),
            (
                "{tools: a, resources: b, prompts: c}",
                "a b c",
                &["tools/*: a", "resources/*: b", "prompts/*: c"],
                0,
                0,
            ),
            ("{\"/messages\": m, \"/sse/\": s}", "m s", &["path /messages/: m", "path /sse: s"], 0, 0),
            ("{\"/message\": m}", "m", &["path /message: m", "path /messages/: m"], 0, 1),
            ("{\"/resources/list\": r}", "r", &["path /resources/list: r", "resources/list: r"], 0, 1),
            ("{\"/else\": r}", "r", &["path /else: r"], 0, 1),
            ("[initialize: i, tools/call: [x, y]]", "i x y", &["initialize: i", "tools/call: x y"], 0, 0),
            (
                "[tools/call: [{echo: e}, {add: [f, g]}, always]]",
                "always e f g",
                &["tools/call(echo): e", "tools/call(add): f g", "tools/call: always"],
                0,
                0,
            ),
            ("{tools: [{echo: e}]}", "e", &["tools/call(echo): e"], 0, 0),
            ("{prompts/get: {p: q r}}", "q r", &["prompts/get(p): q r"], 0, 0),
            ("{resources/read: {\"file:///a b\": q}}", "q", &["resources/read(file:///a b): q"], 0, 0),
            ("{tool/call: s}", "s", &["tool/call: s"], 0, 1),
            ("{vendor/thing: s}", "s", &["vendor/thing: s"], 0, 1),
            ("{tools/list: [{echo: e}]}", "", &[], 1, 0),
            ("{tools/call: [{echo: }]}", "", &[], 1, 0),
            ("{tools/call: [[a]]}", "", &[], 1, 0),
            ("['a\"b', \"\"]", "", &[], 2, 0),
            ("[\"a,b\"]", "a,b", &[], 0, 1),
        ];
        for (text, mentioned, expected, problems, notes) in cases {
            let expected: Vec<_> = expected.iter().map(|rule| (*rule).to_owned()).collect();
            assert_eq!(rules(text), ((*mentioned).to_owned(), expected, *problems, *notes), "{text}");
        }
    }
}
