//! The fuzz corpora, replayed on a stable toolchain: what once was found stays found.

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use open_mcp_auth_proxy::auth::jwks::KeySet;
use open_mcp_auth_proxy::auth::key::Unusable;
use open_mcp_auth_proxy::fuzz::TARGETS;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|err| panic!("{}: {err}", folder.display()));
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Every seed holds its target's property, and is accepted or refused as its name says.
#[test]
fn every_seed_holds_and_is_what_it_is_called() {
    for (target, property) in TARGETS {
        let folder = fuzz().join("corpus").join(target);
        let seeds = names(&folder);
        for kind in ["good-", "bad-"] {
            let count = seeds.iter().filter(|seed| seed.starts_with(kind)).count();
            assert!(
                count >= 3,
                "{target} has {count} seeds called {kind}…: one side of it is hardly looked at"
            );
        }
        for seed in seeds {
            let input = fs::read(folder.join(&seed)).unwrap();
            assert!(input.len() <= 10_000, "{target}/{seed} is too large to be read by anybody");
            let accepted = catch_unwind(|| property(&input));
            let Ok(accepted) = accepted else { panic!("{target}/{seed}: the message stands above") };
            let wanted = match seed.split_once('-') {
                Some(("good", _)) => true,
                Some(("bad", _)) => false,
                _ => panic!("{target}/{seed} is called neither good-… nor bad-…"),
            };
            assert_eq!(accepted, wanted, "{target}/{seed} is not what it is called");
        }
    }
}

/// Targets, seeds and manifest know the same names.
#[test]
fn every_target_has_its_binary_and_its_seeds() {
    let mut targets: BTreeSet<String> = TARGETS.iter().map(|(target, _)| (*target).to_owned()).collect();
    targets.insert("differential".to_owned()); // its second parser is no dependency of ours
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    let built = manifest.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
    let built: BTreeSet<String> =
        built.filter(|name| *name != "open-mcp-auth-proxy-fuzz").map(str::to_owned).collect();
    let sources = names(&fuzz().join("fuzz_targets"));
    let sources: BTreeSet<String> =
        sources.iter().map(|name| name.strip_suffix(".rs").unwrap().to_owned()).collect();
    let seeded: BTreeSet<String> = names(&fuzz().join("corpus")).into_iter().collect();
    assert_eq!(built, targets);
    assert_eq!(sources, targets);
    assert_eq!(seeded, targets);
    // The second parser is shown whatever the first one is.
    let (head, both) = (fuzz().join("corpus/head"), fuzz().join("corpus/differential"));
    let missing: Vec<String> = names(&head).into_iter().filter(|seed| !both.join(seed).exists()).collect();
    assert!(missing.is_empty(), "not in corpus/differential: {missing:?}");
}

/// RFC 8032 section 5.1.7 leaves it open whether a key may be of small order; under one, signatures of anybody hold.
#[test]
fn a_point_of_small_order_is_no_key() {
    let set = fs::read(fuzz().join("corpus/jwks/good-points-of-small-order.json")).unwrap();
    let set = KeySet::parse(&set).unwrap();
    assert_eq!((set.len(), set.skipped().len()), (0, 14), "{:?}", set.skipped());
    assert!(set.skipped().iter().all(|skipped| skipped.why == Unusable::SmallOrder), "{:?}", set.skipped());
}
