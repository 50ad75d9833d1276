//! What a compiler does not check: who may name what, and that what is written about this program is still true.
//!
//! The rings of `src/lib.rs` hold because each outside crate is named in one place, because the inner ring names nothing
//! that acts, and because connectors and the sandbox do not know each other. Sources are read as text: comments and
//! literals are taken out, then every path is collected, `use` trees unfolded.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is how they fail")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use contact_replicator::metrics::{self, Metrics, Registry};

static ROOT: LazyLock<&Path> = LazyLock::new(|| Path::new(env!("CARGO_MANIFEST_DIR")));

/// A source file of ours and the paths it names.
struct Source {
    /// Below `src`, with `/`: `log/kafka/mod.rs`.
    name: String,
    /// Without those that only its tests name.
    paths: BTreeSet<String>,
    with_tests: BTreeSet<String>,
}

static SOURCES: LazyLock<Vec<Source>> = LazyLock::new(|| {
    let folder = ROOT.join("src");
    let mut files = Vec::new();
    collect(&folder, &mut files);
    let texts: Vec<(String, String)> = files
        .into_iter()
        .filter(|file| file.extension().is_some_and(|extension| extension == "rs"))
        .map(|file| {
            let name = file.strip_prefix(&folder).unwrap().to_string_lossy().into_owned();
            (name, fs::read_to_string(&file).unwrap())
        })
        .collect();
    assert!(texts.len() > 30, "the walk found only {} sources", texts.len());
    let tests: BTreeSet<_> = texts.iter().flat_map(|(name, text)| test_modules(name, text)).collect();
    let source = |(name, text): (String, String)| {
        let module = module(&name);
        let is_test = tests.iter().any(|test| module.starts_with(test));
        let own = if is_test { "" } else { text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default() };
        Source { paths: paths(own, &module), with_tests: paths(&text, &module), name }
    };
    texts.into_iter().map(source).collect()
});

/// The modules in files of their own that a file declares for tests only.
fn test_modules(name: &str, text: &str) -> Vec<Vec<String>> {
    let declared = text.split("#[cfg(test)]\n").skip(1).filter_map(|rest| {
        let line = rest.lines().find(|line| !line.starts_with("#["))?;
        line.rsplit_once("mod ")?.1.strip_suffix(';')
    });
    declared.map(|test| module(name).into_iter().chain([test.to_owned()]).collect()).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.push(path);
        }
    }
}

/// The module of a file, from the crate down.
fn module(name: &str) -> Vec<String> {
    let stem = name.trim_end_matches(".rs").trim_end_matches("/mod");
    let own =
        if ["lib", "main"].contains(&stem) { Vec::new() } else { stem.split('/').map(ToOwned::to_owned).collect() };
    std::iter::once("crate".to_owned()).chain(own).collect()
}

/// Every path with `::` in it, and every one of a `use`, in full.
fn paths(source: &str, module: &[String]) -> BTreeSet<String> {
    let tokens = tokens(&without_comments_and_literals(source));
    let mut found = BTreeSet::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at] == "use" {
            at = tree(&tokens, at + 1, "", &mut found);
        } else if tokens.get(at + 1).is_some_and(|next| next == "::") && is_name(&tokens[at]) {
            let mut path = tokens[at].clone();
            while tokens.get(at + 1).is_some_and(|next| next == "::")
                && tokens.get(at + 2).is_some_and(|next| is_name(next))
            {
                path.push_str("::");
                path.push_str(&tokens[at + 2]);
                at += 2;
            }
            found.insert(path);
        }
        at += 1;
    }
    found.iter().map(|path| absolute(path, module)).collect()
}

/// `super` and `self` spelled out.
fn absolute(path: &str, module: &[String]) -> String {
    let mut base = module.to_vec();
    let mut rest = path;
    let mut relative = false;
    while let Some((first, after)) = rest.split_once("::") {
        match first {
            "self" => {}
            "super" => {
                base.pop();
            }
            _ => break,
        }
        (relative, rest) = (true, after);
    }
    if relative { format!("{}::{rest}", base.join("::")) } else { path.to_owned() }
}

/// Unfolds one `use` tree from `at` on; returns where it ended.
fn tree(tokens: &[String], mut at: usize, prefix: &str, found: &mut BTreeSet<String>) -> usize {
    let mut path = prefix.to_owned();
    while let Some(token) = tokens.get(at) {
        match token.as_str() {
            "::" => {}
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token != "}" && token != ";") {
                    at = tree(tokens, at, &path, found);
                    if tokens.get(at).is_some_and(|token| token == ",") {
                        at += 1;
                    }
                }
                return at + 1;
            }
            "," | "}" | ";" => break,
            "as" => at += 1,
            name => {
                if !path.is_empty() {
                    path.push_str("::");
                }
                path.push_str(name);
            }
        }
        at += 1;
    }
    found.insert(path);
    at
}

fn is_name(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter.is_alphanumeric() || letter == '_' {
            let mut name = letter.to_string();
            while let Some(next) = letters.next_if(|next| next.is_alphanumeric() || *next == '_') {
                name.push(next);
            }
            tokens.push(name);
        } else if letter == ':' && letters.next_if_eq(&':').is_some() {
            tokens.push("::".into());
        } else if !letter.is_whitespace() {
            tokens.push(letter.into());
        }
    }
    tokens
}

fn without_comments_and_literals(source: &str) -> String {
    let letters: Vec<char> = source.chars().collect();
    let next_is = |at: usize, text: &str| {
        text.chars().enumerate().all(|(index, letter)| letters.get(at + index) == Some(&letter))
    };
    let mut kept = String::with_capacity(source.len());
    let mut at = 0;
    while at < letters.len() {
        if next_is(at, "//") {
            while at < letters.len() && letters[at] != '\n' {
                at += 1;
            }
        } else if let Some(hashes) = raw_start(&letters, at) {
            let end: String = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
            at += hashes + 2;
            while at < letters.len() && !next_is(at, &end) {
                at += 1;
            }
            at += end.len();
        } else if letters[at] == '"' {
            at += 1;
            while at < letters.len() && letters[at] != '"' {
                at += if letters[at] == '\\' { 2 } else { 1 };
            }
            at += 1;
        } else if letters[at] == '\'' && (letters.get(at + 1) == Some(&'\\') || letters.get(at + 2) == Some(&'\'')) {
            at += if letters.get(at + 1) == Some(&'\\') { 3 } else { 2 };
            while at < letters.len() && letters[at] != '\'' {
                at += 1;
            }
            at += 1;
        } else {
            kept.push(letters[at]);
            at += 1;
        }
    }
    kept
}

/// How many `#` a raw string that begins here has.
fn raw_start(letters: &[char], at: usize) -> Option<usize> {
    let after_name = at > 0 && (letters[at - 1].is_alphanumeric() || letters[at - 1] == '_') && letters[at - 1] != 'b';
    if letters[at] != 'r' || after_name {
        return None;
    }
    let hashes = letters[at + 1..].iter().take_while(|letter| **letter == '#').count();
    (letters.get(at + 1 + hashes) == Some(&'"')).then_some(hashes)
}

fn begins(path: &str, with: &str) -> bool {
    path.strip_prefix(with).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn is_in(name: &str, places: &[&str]) -> bool {
    places.iter().any(|place| name == *place || (!place.ends_with(".rs") && name.starts_with(&format!("{place}/"))))
}

/// Panics with each place in which a file that is `concerned` names a path that is `forbidden`, tests apart.
#[track_caller]
fn nowhere(rule: &str, concerned: impl Fn(&str) -> bool, forbidden: impl Fn(&str) -> bool) {
    let found: Vec<_> = SOURCES
        .iter()
        .filter(|source| concerned(&source.name))
        .flat_map(|source| {
            source.paths.iter().filter(|path| forbidden(path)).map(|path| format!("{}: {path}", source.name))
        })
        .collect();
    assert!(found.is_empty(), "{rule}:\n{}", found.join("\n"));
}

#[test]
fn the_reader_of_sources_finds_what_it_looks_for() {
    let source = r##"
        // use rdkafka::Hidden;
        use std::{fmt, collections::{BTreeMap, BTreeSet as Set}};
        use super::{other, self::Thing};
        fn f<'a>(x: &'a str) { let y = '"'; sled::open("use backoff::X;"); let z = r#"reqwest::get"#; tokio::time::sleep(1) }
    "##;
    let found = paths(source, &module("view/store.rs"));
    for path in [
        "std::fmt",
        "std::collections::BTreeMap",
        "std::collections::BTreeSet",
        "crate::view::other",
        "sled::open",
        "tokio::time::sleep",
    ] {
        assert!(found.contains(path), "{path}: {found:?}");
    }
    assert!(
        !found.iter().any(|path| path.contains("rdkafka") || path.contains("backoff") || path.contains("reqwest")),
        "{found:?}"
    );
}

#[test]
fn each_outside_thing_is_named_in_one_place() {
    for (name, places) in [
        ("rdkafka", &["log/kafka"][..]),
        ("sled", &["view", "log/local"]),
        ("reqwest", &["crm/transport.rs", "cli/client.rs"]),
        ("backoff", &["replicator/retry.rs"]),
        ("prometheus", &["metrics.rs"]),
        ("gethostname", &["config"]),
        ("clap", &["cli"]),
        ("clap_complete", &["cli"]),
        ("clap_mangen", &["cli"]),
        ("crossterm", &["cli/status"]),
        ("schemars", &["contact", "event", "status"]),
        ("axum", &["admin", "ingest", "sockets.rs"]),
        ("tracing_subscriber", &["telemetry.rs", "telemetry/handled.rs"]),
        ("opentelemetry_proto", &["telemetry/traces", "telemetry/traces.rs"]),
        ("prost", &["telemetry/traces"]),
    ] {
        // Tests, too: or a library could not be replaced without them.
        let found: Vec<_> = SOURCES
            .iter()
            .filter(|source| !is_in(&source.name, places) && source.with_tests.iter().any(|path| begins(path, name)))
            .map(|source| source.name.as_str())
            .collect();
        assert!(found.is_empty(), "{name} belongs into {}, and is named in {}", places.join(", "), found.join(", "));
    }
}

#[test]
fn the_inner_ring_touches_nothing() {
    let inner = |file: &str| is_in(file, &["contact", "event", "identity"]);
    let outside = [
        "tokio",
        "futures",
        "http",
        "hyper",
        "reqwest",
        "axum",
        "std::fs",
        "std::net",
        "std::thread",
        "std::env",
        "std::process",
        "crate::admin",
        "crate::cli",
        "crate::clock",
        "crate::crm",
        "crate::metrics",
        "crate::replicator",
        "crate::resolver",
        "crate::sandbox",
        "crate::telemetry",
        "crate::view",
        "crate::worker",
    ];
    nowhere("contact, event and identity only decide", inner, |path| outside.iter().any(|name| begins(path, name)));
    let plain = ["Header", "NewRecord", "Offset", "Partition", "Record", "TopicPartition", "partition_of"];
    nowhere("contact, event and identity know plain data of the log", inner, |path| {
        path.strip_prefix("crate::log::")
            .is_some_and(|item| !plain.contains(&item.split("::").next().unwrap_or_default()))
    });
}

#[test]
fn a_connectors_own_parts_only_decide() {
    let acting = [
        "tokio",
        "futures",
        "hyper",
        "reqwest",
        "std::fs",
        "std::net",
        "std::env",
        "crate::crm::transport",
        "crate::log",
        "crate::view",
    ];
    nowhere(
        "a connector makes requests and reads answers",
        |file| connector(file).is_some(),
        |path| acting.iter().any(|name| begins(path, name)),
    );
}

/// The folder of the connector that a file is part of.
fn connector(file: &str) -> Option<&str> {
    let (folder, _) = file.strip_prefix("crm/")?.split_once('/')?;
    let of_all = ["overrides", "remote", "session"];
    (!of_all.contains(&folder)).then_some(folder)
}

#[test]
fn connectors_do_not_know_each_other() {
    let folders: BTreeSet<_> = SOURCES.iter().filter_map(|source| connector(&source.name)).map(str::to_owned).collect();
    assert!(folders.contains("priava") && folders.contains("previsto"), "the walk found no connector: {folders:?}");
    for own in &folders {
        let others: Vec<_> =
            folders.iter().filter(|other| *other != own).map(|other| format!("crate::crm::{other}")).collect();
        nowhere(
            "connectors do not know each other",
            |file| file.starts_with(&format!("crm/{own}/")),
            |path| others.iter().any(|other| begins(path, other)),
        );
    }
}

#[test]
fn the_sandbox_shares_no_type_with_the_connectors() {
    // Or both would be wrong together. Its transport is where a simulated run hands over requests instead of sending them.
    nowhere(
        "the sandbox does not know the connectors",
        |file| is_in(file, &["sandbox"]) && file != "sandbox/in_process.rs",
        |path| begins(path, "crate::crm"),
    );
    let seam = [
        "crate::crm::Answer",
        "crate::crm::Request",
        "crate::crm::Response",
        "crate::crm::TransportError",
        "crate::crm::transport",
    ];
    nowhere(
        "the sandbox's transport knows requests and answers",
        |file| file == "sandbox/in_process.rs",
        |path| begins(path, "crate::crm") && !seam.iter().any(|known| begins(path, known)),
    );
}

#[test]
fn seams_do_not_know_who_uses_them() {
    nowhere(
        "the log knows no contact",
        |file| is_in(file, &["log"]),
        |path| {
            ["contact", "identity", "crm", "replicator", "resolver", "view"]
                .iter()
                .any(|name| begins(path, &format!("crate::{name}")))
        },
    );
    nowhere(
        "only the outer ring wires",
        |file| !is_in(file, &["cli", "worker", "main.rs", "lib.rs"]),
        |path| ["crate::cli", "crate::worker", "contact_replicator::cli"].iter().any(|name| begins(path, name)),
    );
}

#[test]
fn nothing_is_left_for_later() {
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
        concat!("dbg", "!("),
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
    ];
    let mut files =
        vec![ROOT.join("README.md"), ROOT.join("Cargo.toml"), ROOT.join(".deny.toml"), ROOT.join(".ci/run")];
    for folder in ["src", "tests", "config"] {
        collect(&ROOT.join(folder), &mut files);
    }
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        for (number, line) in text.lines().enumerate() {
            let mark = marks.iter().find(|mark| line.contains(**mark));
            assert!(mark.is_none(), "{}:{} has {}", file.display(), number + 1, mark.unwrap());
        }
    }
}

fn readme() -> String {
    fs::read_to_string(ROOT.join("README.md")).unwrap()
}

#[test]
fn every_metric_is_documented_and_every_documented_metric_exists() {
    let registry = Registry::new();
    let metrics = Metrics::new(&registry, &["priava".into()]).unwrap();
    // Series by field or topic appear with the first one.
    metrics.field_lost("priava", "/notes");
    metrics.input_lost("contact-changes", 1);
    let text = metrics::render(&registry).unwrap();
    let made: BTreeSet<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()?.strip_prefix("contact_replicator_"))
        .collect();
    assert!(made.len() > 15, "{made:?}");
    let table = fs::read_to_string(ROOT.join("deploy/METRICS.md")).unwrap();
    let told: BTreeSet<_> = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert_eq!(made, told, "left: made by src/metrics.rs; right: told by deploy/METRICS.md");
}

#[test]
fn the_readme_names_what_exists() {
    let readme = readme();
    for command in ["cargo run --release -- demo", "cargo test\n"] {
        assert!(readme.contains(command), "README.md does not say {command:?}");
    }
    for link in readme.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        let file = link.split('#').next().unwrap_or_default();
        if !file.is_empty() && !file.contains("://") {
            assert!(ROOT.join(file).exists(), "README.md links to {file}, which is not there");
        }
    }
}

#[test]
fn the_map_names_every_module() {
    let map = fs::read_to_string(ROOT.join("src/lib.rs")).unwrap();
    let modules: Vec<_> = map.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert!(modules.len() > 10, "{modules:?}");
    for module in modules {
        assert!(map.contains(&format!("[`{module}`]")), "src/lib.rs does not say what {module} is for");
    }
}

/// The texts of a list in `.deny.toml`, where each entry is either a text or a table with a name.
fn denied(table: &str, key: &str) -> Vec<toml::Value> {
    let deny: toml::Table = fs::read_to_string(ROOT.join(".deny.toml")).unwrap().parse().unwrap();
    deny[table][key].as_array().unwrap().clone()
}

#[test]
fn every_dependency_comes_from_the_one_registry_and_none_is_banned() {
    let lock: toml::Table = fs::read_to_string(ROOT.join("Cargo.lock")).unwrap().parse().unwrap();
    let packages = lock["package"].as_array().unwrap();
    assert!(packages.len() > 100);
    for package in packages {
        let name = package["name"].as_str().unwrap();
        let source = package.get("source").and_then(toml::Value::as_str);
        if name == env!("CARGO_PKG_NAME") {
            continue;
        }
        assert_eq!(source, Some("registry+https://github.com/rust-lang/crates.io-index"), "{name}");
        for ban in denied("bans", "deny").iter().filter(|ban| ban["name"].as_str() == Some(name)) {
            let wrappers: Vec<_> = ban
                .get("wrappers")
                .and_then(toml::Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(toml::Value::as_str)
                .collect();
            for user in packages.iter().filter(|user| depends(user, name)) {
                let user = user["name"].as_str().unwrap();
                assert!(wrappers.contains(&user), "{user} depends on {name}: {}", ban["reason"]);
            }
        }
    }
}

fn depends(package: &toml::Value, on: &str) -> bool {
    let dependencies = package.get("dependencies").and_then(toml::Value::as_array);
    dependencies.into_iter().flatten().filter_map(toml::Value::as_str).any(|name| name.split(' ').next() == Some(on))
}

#[test]
fn every_dependency_has_a_licence_that_is_allowed() {
    let allowed = denied("licenses", "allow");
    let allowed: Vec<_> = allowed.iter().filter_map(toml::Value::as_str).collect();
    let tree = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--locked",
            "--offline",
            "--edges",
            "normal,build,dev",
            "--prefix",
            "none",
            "--format",
            "{p}|{l}",
        ])
        .current_dir(*ROOT)
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).unwrap();
    assert!(tree.lines().count() > 100);
    for line in tree.lines() {
        let (package, licence) = line.trim_end_matches(" (*)").split_once('|').unwrap();
        // `A OR B` within `… AND …`: each part needs one that is allowed. The older form for OR is a slash.
        let holds = licence
            .replace('/', " OR ")
            .split(" AND ")
            .all(|part| part.trim_matches(['(', ')']).split(" OR ").any(|one| allowed.contains(&one.trim())));
        assert!(holds, "{package} has the licence {licence:?}, which .deny.toml does not allow");
    }
}
