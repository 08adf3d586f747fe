//! The repository keeps its own rules.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display()))
}

/// Every Rust file below `dir`.
fn sources(dir: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root().join(dir)];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "{dir} holds no source");
    found
}

fn name(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned()
}

/// The part of a source that is compiled into the program.
fn without_tests(text: &str) -> &str {
    text.split("\n#[cfg(test)]\nmod tests {").next().unwrap()
}

#[test]
fn every_file_says_what_it_is_for() {
    for dir in ["src", "tests", "benches", "fuzz/fuzz_targets"] {
        for path in sources(dir) {
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.starts_with("//! "), "{} does not begin with its purpose", name(&path));
            assert!(text.lines().count() <= 650, "{} is too long to be about one thing", name(&path));
        }
    }
}

/// A word may stand in the files it belongs to and in no other.
#[test]
fn each_thing_has_its_place() {
    for (word, homes) in [
        ("SystemTime", &["src/clock.rs"][..]),
        ("serde_yaml", &["src/config/tree.rs"]),
        ("TcpListener::bind", &["src/proxy.rs", "src/local/mod.rs"]),
        ("unbounded(", &[]),
        ("unsafe {", &[]),
        ("println!", &["src/cli.rs"]),
        ("todo!(", &[]),
        ("unimplemented!(", &[]),
        ("danger", &[]),
        ("Command::new", &["src/stdio/launch.rs"]),
    ] {
        for path in sources("src") {
            let text = fs::read_to_string(&path).unwrap();
            let code: Vec<&str> = without_tests(&text)
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"))
                .filter(|line| line.contains(word))
                .collect();
            let path = name(&path);
            let allowed = homes.contains(&path.as_str()) || path.contains("/tests");
            assert!(code.is_empty() || allowed, "{word} stands in {path}: {code:?}");
        }
    }
}

/// Headers are named once, in `header.rs`.
#[test]
fn header_names_are_constants() {
    let known: Vec<String> = read("src/header.rs")
        .lines()
        .filter(|line| line.starts_with("pub const") && line.contains("&str = \""))
        .map(|line| line.split('"').nth(1).unwrap().to_owned())
        .filter(|name| name.contains('-'))
        .collect();
    assert!(known.len() > 20, "{known:?}");
    for path in sources("src") {
        let path_name = name(&path);
        if path_name == "src/header.rs"
            || path_name.contains("/tests")
            || path_name.starts_with("src/config/")
        {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for line in without_tests(&text).lines() {
            for header in &known {
                let quoted = format!("\"{header}\"");
                assert!(!line.contains(&quoted), "{path_name} spells {quoted} itself: {}", line.trim());
            }
        }
    }
}

/// The crates that this program stands on; docs/decisions/0002-crates.md. A new one is a decision.
#[test]
fn dependencies_are_the_ones_that_were_decided() {
    let manifest = read("Cargo.toml");
    let section = manifest.split("\n[dependencies]\n").nth(1).unwrap().split("\n[").next().unwrap();
    let mut found = BTreeSet::new();
    let mut reason = false;
    for line in section.lines() {
        if line.starts_with('#') {
            reason = true;
        } else if let Some((krate, _)) = line.split_once(" = ") {
            assert!(reason, "{krate} stands in Cargo.toml without a reason");
            found.insert(krate);
            reason = false;
        }
    }
    let decided = BTreeSet::from([
        "base64",
        "crossbeam-channel",
        "crypto-bigint",
        "httparse",
        "itoa",
        "memchr",
        "pico-args",
        "ring",
        "rsa",
        "rustix",
        "rustls",
        "serde",
        "serde_json",
        "serde_yaml",
        "sha2",
        "signal-hook",
        "smol_str",
        "ureq",
        "webpki-roots",
    ]);
    assert_eq!(found, decided);

    let lock = read("Cargo.lock");
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in lock.split("[[package]]").skip(1) {
        let field = |key: &str| {
            let line = package.lines().find(|line| line.starts_with(&format!("{key} = ")));
            line.map(|line| line.split('"').nth(1).unwrap())
        };
        let krate = field("name").unwrap();
        versions.entry(krate).or_default().push(field("version").unwrap());
        if krate != "open-mcp-auth-proxy" {
            let source = field("source").expect("every crate comes from a registry");
            assert_eq!(source, "registry+https://github.com/rust-lang/crates.io-index", "{krate}");
            assert!(field("checksum").is_some(), "{krate} has no checksum");
        }
    }
    for banned in ["tiny_http", "tokio", "async-std", "openssl-sys", "native-tls", "aws-lc-sys", "libc-print"]
    {
        assert!(!versions.contains_key(banned), "{banned} is in the tree");
    }
    let twice: Vec<&str> = versions.iter().filter(|(_, v)| v.len() > 1).map(|(krate, _)| *krate).collect();
    // getrandom: ring and rsa ask for different ones. windows-sys: never built on what we support.
    assert_eq!(twice, ["getrandom", "windows-sys"]);
}

/// The changelog and the documents know the version and each other.
#[test]
fn documents_are_in_step() {
    assert!(read("CHANGELOG.md").contains("\n## Unreleased\n"));
    for document in ["README.md", "ARCHITECTURE.md", "SECURITY.md", "CONTRIBUTING.md"] {
        let text = read(document);
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            let local = !link.starts_with("http") && !link.starts_with('#');
            let target = link.split('#').next().unwrap();
            assert!(!local || root().join(target).exists(), "{document} links to {link}, which is not there");
        }
        for path in text.split('`').skip(1).step_by(2).filter(|word| {
            let file = word.ends_with(".rs") || word.ends_with(".md") || word.ends_with(".toml");
            file && word.contains('/') && !word.contains(['*', ' ', '{'])
        }) {
            let there = root().join(path).exists() || root().join("src").join(path).exists();
            assert!(there, "{document} names {path}, which is not there");
        }
    }
    let makefile = read("Makefile");
    for (_, target) in read("README.md").match_indices("make ").map(|(at, _)| {
        let text = read("README.md");
        let word: String =
            text[at + 5..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        (at, word)
    }) {
        assert!(makefile.contains(&format!("\n{target}: ")), "README names make {target}");
    }
    assert!(read("README.md").contains("cargo test"), "the test command is in the README");
    assert!(read(".ci/run").contains("cargo test"), "and it is what CI runs");
}

/// ARCHITECTURE.md lists the threads that there are.
#[test]
fn the_thread_table_is_whole() {
    let table = read("ARCHITECTURE.md");
    for path in sources("src").into_iter().filter(|path| !name(path).contains("/tests/")) {
        let text = fs::read_to_string(&path).unwrap();
        for line in without_tests(&text).lines() {
            let named = line.contains("thread::Builder") || line.trim_start().starts_with(".name(\"");
            let Some(rest) = line.split(".name(").nth(1).filter(|_| named) else { continue };
            let Some(thread) = rest.split('"').nth(1) else { continue };
            let thread = thread.split(['{', '-']).next().unwrap().trim_end_matches('-');
            assert!(table.contains(&format!("`{thread}")), "{}: the thread {thread:?}", name(&path));
        }
    }
}

/// Names of requirements that code and tests cite, such as RS-04 or D8, are explained in docs/requirements.md, and the
/// tests that it names are there.
#[test]
fn requirements_are_explained() {
    let explained = read("docs/requirements.md");
    let mut cited = 0;
    let mut tests = String::new();
    for path in ["src", "tests"].iter().flat_map(|dir| sources(dir)) {
        let text = fs::read_to_string(&path).unwrap();
        for word in text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-') {
            let digits = word.trim_start_matches(|c: char| c.is_ascii_uppercase());
            let family = &word[..word.len() - digits.len()];
            let number = digits.strip_prefix('-').unwrap_or(if family == "D" { digits } else { "" });
            let known = ["RS", "PRM", "ASR", "T", "SSE", "SH", "M", "D"].contains(&family);
            if known && !number.is_empty() && number.len() <= 2 && number.bytes().all(|b| b.is_ascii_digit())
            {
                cited += 1;
                assert!(explained.contains(&format!("| {word} |")), "{}: {word}", name(&path));
            }
        }
        tests.push_str(&text);
    }
    assert!(cited > 100, "{cited}");
    let held = explained.split("## What the original did").nth(1).unwrap();
    let named: Vec<&str> =
        held.lines().filter_map(|line| line.strip_suffix("` |")?.rsplit('`').next()).collect();
    assert!(named.len() > 10, "{named:?}");
    for test in named {
        assert!(tests.contains(&format!("fn {test}()")), "docs/requirements.md names {test}");
    }
}
