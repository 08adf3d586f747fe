//! Configuration files as operators write them, through the real program's `--check`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use open_mcp_auth_proxy::provider::preset::PRESETS;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs `--check` in the file's own folder, so that the messages hold its name and no path.
fn check(file: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_openmcpauthproxy"))
        .current_dir(file.parent().unwrap())
        .args(["--check", "--config", file.file_name().unwrap().to_str().unwrap()])
        .env("ASGARDEO_CLIENT_SECRET", "an-organisation-secret")
        .env("SESSION_KEY", "0123456789abcdef0123456789abcdef")
        .env_remove("NO_SUCH_VARIABLE_HERE")
        .output()
        .unwrap()
}

fn files(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join("tests/config").join(folder)).unwrap();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    files
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Files in the shapes that the original and its guides have, and ours.
#[test]
fn good_files_have_no_problems() {
    let files = files("valid");
    assert!(files.len() >= 12, "{files:?}");
    for file in files {
        let output = check(&file);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{}: {err}", file.display());
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(out.starts_with(&format!("{name} has no problems\n")), "{out}");
        assert!(err.is_empty(), "{err}");
        for secret in ["-secret\"", "0123456789abcdef", "a-token-of-the-servers", "development"] {
            assert!(!out.contains(secret), "{name} shows {secret}: {out}");
        }
    }
}

/// Each provider has a page, an example that loads, and a row in the table of what was run.
#[test]
fn each_provider_has_a_page_and_an_example() {
    let folder = root().join("docs/integrations");
    let table = fs::read_to_string(folder.join("README.md")).unwrap();
    for preset in PRESETS.iter().map(|preset| preset.name).filter(|name| *name != "generic") {
        let page = fs::read_to_string(folder.join(format!("{preset}.md"))).unwrap();
        assert!(page.contains(&format!("](examples/{preset}.yaml)")), "{preset}");
        assert!(table.contains(&format!("]({preset}.md)")), "{preset}");
        let example = folder.join(format!("examples/{preset}.yaml"));
        let output = check(&example);
        assert_eq!(output.status.code(), Some(0), "{preset}: {}", text(&output.stderr));
        let named = fs::read_to_string(example).unwrap();
        assert!(named.contains(&format!("provider: {preset}\n")) || preset == "asgardeo", "{preset}");
    }
    // Those that need no preset have a page and an example all the same.
    for file in fs::read_dir(folder.join("examples")).unwrap() {
        let file = file.unwrap().path();
        let name = file.file_stem().unwrap().to_str().unwrap();
        assert_eq!(check(&file).status.code(), Some(0), "{name}");
        let page = fs::read_to_string(folder.join(format!("{name}.md"))).unwrap();
        assert!(page.contains(&format!("](examples/{name}.yaml)")), "{name}");
        assert!(table.contains(&format!("]({name}.md)")), "{name}");
    }
}

/// Each bad file stands beside the message that it must produce.
#[test]
fn bad_files_are_told_what_to_write() {
    let files = files("invalid");
    assert!(files.len() >= 30, "{files:?}");
    for file in files {
        let output = check(&file);
        let wanted = fs::read_to_string(file.with_extension("txt")).unwrap();
        assert_eq!(text(&output.stderr), wanted, "{}", file.display());
        assert_eq!(output.status.code(), Some(2), "{}", file.display());
        assert!(output.stdout.is_empty() && !wanted.contains("hunter2"), "{}", file.display());
        let problems =
            wanted.lines().filter(|line| line.starts_with("  ") && !line.starts_with("    ")).count();
        assert_eq!(wanted.matches("\n    hint: ").count(), problems, "each problem has its hint: {wanted}");
    }
}

/// Nobody should need five runs to mend five lines.
#[test]
fn five_mistakes_are_told_at_once() {
    let output = check(&root().join("tests/config/invalid/five-mistakes.yaml"));
    let told = text(&output.stderr);
    assert!(told.starts_with("error: five-mistakes.yaml has 5 problems\n"), "{told}");
    for line in [
        "line 1: listen_prot",
        "line 2: base_url",
        "line 3: timeout_seconds",
        "line 4: transport_mode",
        "line 6: cors",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
}

/// `config.yaml` as a line-by-line list of what it holds once the comments before keys are taken away.
fn uncommented() -> String {
    let text = fs::read_to_string(root().join("config.yaml")).unwrap();
    let is_key = |line: &str| {
        let word = line.trim_start().trim_start_matches("- ");
        word.split_once(':').is_some_and(|(key, rest)| {
            let named = key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_/.-\"".contains(&b));
            named && (rest.is_empty() || rest.starts_with(' '))
        })
    };
    let mut out = String::new();
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        match line.trim_start().strip_prefix("# ") {
            // Prose between the keys, and lines that exclude others.
            Some(rest)
                if !is_key(rest)
                    || line.trim_end().ends_with(':') && rest.contains(' ') && !rest.starts_with(' ') => {}
            Some(rest) if rest.starts_with("issuer:") || rest.starts_with("ca_file:") => {}
            Some(rest) => out.push_str(&format!("{}{rest}\n", &line[..indent])),
            None if line.starts_with('#') => {}
            None => out.push_str(&format!("{line}\n")),
        }
    }
    out
}

/// `--demo` with the example: it has the organisation, and says that tokens of another issuer are accepted.
#[test]
fn the_example_has_what_the_demonstration_needs() {
    let example = root().join("config.yaml");
    let output = Command::new(env!("CARGO_BIN_EXE_openmcpauthproxy"))
        .args(["--demo", "--check", "--config"])
        .arg(&example)
        .output()
        .unwrap();
    let told = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{told}{}", text(&output.stderr));
    let line = "logins go to https://api.asgardeo.io/t/openmcpauthdemo, while tokens are accepted from";
    assert!(told.contains(line) && told.contains("hint: take authorization_servers, jwks_uri"), "{told}");
}

#[test]
fn the_example_holds_every_key_and_loads() {
    let output = check(&root().join("config.yaml"));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(!text(&output.stdout).contains("guessed"), "{}", text(&output.stdout));

    let all = uncommented();
    for line in [
        "leeway_seconds: 60",
        "limits:",
        "  workers: 16",
        "issuers:",
        "  - issuer: https://other",
        "default:",
    ] {
        assert!(all.lines().any(|found| found.starts_with(line)), "{line} was not uncommented:\n{all}");
    }
    let file =
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("every-key-{}.yaml", std::process::id()));
    fs::write(&file, &all).unwrap();
    let output = check(&file);
    fs::remove_file(&file).unwrap();
    assert_eq!(output.status.code(), Some(0), "{}\n{all}", text(&output.stderr));

    // Every key that the reader asks for stands in the example.
    let source = ["src/config/file.rs", "src/config/issuers.rs"]
        .map(|path| fs::read_to_string(root().join(path)).unwrap())
        .concat();
    let mut keys = BTreeSet::new();
    for call in [
        ".text(\"",
        ".number(\"",
        ".list(\"",
        ".words(\"",
        ".flag(\"",
        ".secret(\"",
        ".section(\"",
        ".node(\"",
    ] {
        keys.extend(source.split(call).skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()));
    }
    keys.extend(source.split(".choice(").skip(1).map(|rest| rest.split('"').nth(1).unwrap().to_owned()));
    assert!(keys.len() > 55, "{keys:?}");
    let example = fs::read_to_string(root().join("config.yaml")).unwrap();
    for key in keys {
        // The members of a described provider are its metadata; RFC 8414 lists them.
        let elsewhere = ["authorization_endpoint"].contains(&key.as_str());
        assert!(elsewhere || example.contains(&format!("{key}:")), "{key} is not in config.yaml");
    }
}

/// A file may come from anywhere; it must not hang the check or fill the memory.
#[test]
fn hostile_files_end_soon() {
    let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for n in 1..30 {
        let before = vec![format!("*a{}", n - 1); 10].join(", ");
        laughs.push_str(&format!("a{n}: &a{n} [{before}]\n"));
    }
    for (name, content) in [
        ("laughs", laughs.into_bytes()),
        ("deep", "[".repeat(200_000).into_bytes()),
        ("deep-maps", (0..5_000).map(|n| format!("{}a:\n", " ".repeat(n))).collect::<String>().into_bytes()),
        ("large", vec![b'#'; 20 * 1024 * 1024]),
        ("not-utf8", b"base_url: \"\xff\xfe\"\n".to_vec()),
        ("zeros", vec![0; 1000]),
        ("bom", b"\xef\xbb\xbflisten_prot: 1\n".to_vec()),
        ("wide", (0..50_000).map(|n| format!("key{n}: 1\n")).collect::<String>().into_bytes()),
    ] {
        let file =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}.yaml", std::process::id()));
        fs::write(&file, content).unwrap();
        let began = std::time::Instant::now();
        let output = check(&file);
        fs::remove_file(&file).unwrap();
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{name}: {told}");
        assert!(told.starts_with("error: ") && !told.contains("panicked"), "{name}: {told}");
        assert!(told.len() < 64 * 1024, "{name} is told in {} bytes", told.len());
        assert!(began.elapsed() < std::time::Duration::from_secs(30), "{name} took {:?}", began.elapsed());
    }
}
