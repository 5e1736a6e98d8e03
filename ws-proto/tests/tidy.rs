//! The workspace's own rules, held over its source files.

use std::{
    collections::{BTreeSet, HashSet},
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use ws_proto::{ClientConfig, Config, HeadLimits, ServerConfig};

#[test]
fn invariant_1_the_protocol_has_no_clock_thread_socket_or_environment() {
    let banned =
        ["Instant::now", "SystemTime::now", "std::thread", "thread::", "std::net", "std::env", "env::var"];
    for file in sources("ws-proto/src") {
        for (number, line) in code_lines(&file) {
            for word in banned {
                assert!(!line.contains(word), "{}:{number}: {word}", file.path.display());
            }
        }
    }
}

#[test]
fn invariant_2_no_crate_has_unsafe_code() {
    let manifest = read(&root().join("Cargo.toml"));
    assert!(manifest.text.contains("unsafe_code = \"forbid\""));
    for member in MEMBERS {
        let manifest = read(&root().join(member).join("Cargo.toml"));
        assert!(manifest.text.contains("[lints]\nworkspace = true"), "{member} does not take the lints");
    }
}

#[test]
fn invariant_8_adapters_decide_nothing_about_the_protocol() {
    // Opcodes and close codes by their number, frames by their bits, header fields by their name.
    let banned = ["opcode", "0x8", "0x9", "0xa", "1000", "1001", "1002", "1006", "1009", "1011"];
    for file in ADAPTERS.into_iter().flat_map(|adapter| sources(&format!("{adapter}/src"))) {
        for (number, line) in code_lines(&file) {
            let lower = line.to_ascii_lowercase();
            assert!(!lower.contains("sec-websocket"), "{}:{number}: a header field", file.path.display());
            for word in words(&lower) {
                assert!(!banned.contains(&word), "{}:{number}: {word}", file.path.display());
            }
        }
    }
}

#[test]
fn every_source_file_says_what_it_is() {
    for file in FOLDERS.into_iter().flat_map(sources) {
        let first = file.text.lines().next().unwrap_or_default();
        assert!(first.starts_with("//!") || first.starts_with("#![doc"), "{}", file.path.display());
    }
}

#[test]
fn no_line_is_longer_than_120_characters() {
    for file in all_sources() {
        for (number, line) in file.lines() {
            let len = line.chars().count();
            assert!(len <= 120, "{}:{number}: {len} characters", file.path.display());
            assert!(!line.contains('\t'), "{}:{number}: a tab", file.path.display());
            assert_eq!(line.trim_end(), line, "{}:{number}: space at the end", file.path.display());
        }
    }
}

#[test]
fn nothing_is_left_for_later() {
    // Spelled so that this file does not break its own rule.
    let banned = ["todo", "unimplemented", "dbg"].map(|name| format!("{name}!("));
    for file in all_sources() {
        for (number, line) in code_lines(&file) {
            for word in &banned {
                assert!(!line.contains(word), "{}:{number}: {word}", file.path.display());
            }
        }
    }
}

#[test]
fn every_exception_from_a_lint_has_its_reason() {
    for file in all_sources() {
        for start in ["#[allow(", "#![allow(", "#[expect(", "#![expect("] {
            for (at, _) in file.text.match_indices(start) {
                let line_start = file.text[..at].rfind('\n').map_or(0, |newline| newline + 1);
                let in_text = !file.text[line_start..at].trim().is_empty();
                let attribute = &file.text[at..];
                let end = attribute.find(")]").expect("the attribute ends");
                let reason = attribute[..end].contains("reason = \"");
                assert!(in_text || reason, "{}: {}", file.path.display(), &attribute[..end]);
            }
        }
    }
}

#[test]
fn every_test_file_tests_something() {
    for file in
        sources("ws-proto/tests").into_iter().filter(|file| file.path.parent().unwrap().ends_with("tests"))
    {
        let asserts =
            code_lines(&file).iter().any(|(_, line)| line.contains("assert") || line.contains("check"));
        let tests = file.text.contains("#[test]");
        assert!(asserts && tests, "{}", file.path.display());
    }
}

#[test]
fn tests_have_no_clock_but_an_instant_to_start_from_and_never_sleep() {
    for file in sources("ws-proto/tests").into_iter().filter(|file| !file.path.ends_with("tidy.rs")) {
        let mut clocks = 0;
        for (number, line) in code_lines(&file) {
            let sleeps = line.contains("thread::sleep") || line.contains("time::sleep");
            assert!(!sleeps, "{}:{number}", file.path.display());
            clocks += line.matches("Instant::now").count();
        }
        assert!(clocks <= 1, "{}: {clocks} clocks", file.path.display());
    }
}

#[test]
fn dependencies_are_versioned_once_for_all() {
    for member in MEMBERS {
        let manifest = read(&root().join(member).join("Cargo.toml"));
        let dependencies = manifest.text.lines().skip_while(|line| !line.ends_with("dependencies]"));
        for line in dependencies.filter(|line| line.contains('=') && !line.contains("[")) {
            let inherited = line.contains("workspace = true") || line.contains("path = ");
            assert!(inherited || !line.contains("version"), "{member}: {line}");
        }
    }
}

#[test]
fn what_notices_a_broken_library_exists() {
    let (tests, rows) = (tests(), rows("docs/trust.md", "## Faults"));
    assert!(!rows.is_empty(), "docs/trust.md has the table");
    for (row, cells) in &rows {
        assert_tests(&tests, row, &cells[1]);
    }
}

#[test]
fn each_dependency_has_its_reason() {
    let mut dependencies = BTreeSet::new();
    for member in PUBLISHED {
        let manifest = read(&root().join(member).join("Cargo.toml"));
        let lines = manifest.text.lines().skip_while(|line| *line != "[dependencies]").skip(1);
        for line in lines.take_while(|line| !line.starts_with('[')).filter(|line| !line.is_empty()) {
            let name = line.split(['.', ' ']).next().expect("a part before the first dot");
            if !PUBLISHED.contains(&name) {
                dependencies.insert((member.to_owned(), name.to_owned(), line.contains("optional = true")));
            }
        }
    }
    let mut found = BTreeSet::new();
    for (row, cells) in rows("SECURITY.md", "## Dependencies") {
        let [name, members, feature, why] = &cells[..] else { panic!("{row}: {} cells", cells.len()) };
        assert!(!why.is_empty(), "{row}: no reason");
        for member in quoted(members) {
            let manifest = read(&root().join(member).join("Cargo.toml"));
            for feature in quoted(feature) {
                assert!(manifest.text.contains(&format!("\n{feature} = [")), "{row}: no feature {feature}");
            }
            for name in quoted(name) {
                found.insert((member.to_owned(), name.to_owned(), feature != "—"));
            }
        }
    }
    assert_eq!(found, dependencies, "the table in SECURITY.md, and the manifests");
}

#[test]
fn what_the_parity_table_names_exists() {
    let parity = read(&root().join("docs/ws-parity.md"));
    let sources = all_sources();
    let known: HashSet<_> = sources.iter().flat_map(code_lines).flat_map(|(_, line)| words(line)).collect();
    let mut count = 0;
    for (number, line) in parity.lines().filter(|(_, line)| line.starts_with("| ")) {
        let ours = line.split(" | ").nth(1).unwrap_or_default();
        // What stands between backticks, each name of it.
        for name in ours.split('`').skip(1).step_by(2).flat_map(words) {
            assert!(known.contains(name), "docs/ws-parity.md:{number}: {name}");
            count += 1;
        }
    }
    assert!(count > 200, "{count} names");
}

#[test]
fn every_requirement_names_what_does_it_and_what_shows_it() {
    let mut numbers: Vec<String> = (1..=70).map(|number| number.to_string()).collect();
    numbers.extend((1..=5).map(|number| format!("A{number}")));
    let tests = tests();
    let mut found = Vec::new();
    let mut without = 0;
    for (row, cells) in rows("docs/rfc6455.md", "# Requirements of the RFCs") {
        let [number, _, _, _, files, shown] = &cells[..] else { panic!("{row}: {} cells", cells.len()) };
        found.push(number.clone());
        if shown.starts_with("— ") {
            without += 1;
            continue;
        }
        assert!(!quoted(files).is_empty(), "{row}: no file");
        for file in quoted(files) {
            let known = [root(), root().join("ws-proto/src")].iter().any(|above| above.join(file).is_file());
            assert!(known, "{row}: no file {file}");
        }
        assert_tests(&tests, &row, shown);
    }
    // In order, each at least once.
    found.dedup();
    assert_eq!(found, numbers);
    assert!(without <= 10, "{without} rows without a test");
}

#[test]
fn limits_and_defaults_are_those_of_the_table() {
    let size = |len: usize| match len {
        len if len >= 1 << 20 => format!("{} MiB", len >> 20),
        len => format!("{} KiB", len >> 10),
    };
    let none = || "none".to_owned();
    let time = |time: Option<Duration>| time.map_or_else(none, |time| format!("{} s", time.as_secs()));
    // Whole, so that no limit can be added without a row.
    let Config {
        max_message,
        max_frame,
        high_water,
        max_pongs_per_read,
        keepalive,
        pong_timeout,
        write_timeout,
        close_timeout,
    } = Config::default();
    let HeadLimits { max_len, max_fields, timeout } = HeadLimits::default();
    let (server, client) = (ServerConfig::default(), ClientConfig::default());
    let defaults = [
        ("Config::max_message", size(max_message)),
        ("Config::max_frame", size(max_frame)),
        ("Config::high_water", size(high_water)),
        ("Config::max_pongs_per_read", max_pongs_per_read.to_string()),
        ("Config::keepalive", time(keepalive)),
        ("Config::pong_timeout", time(pong_timeout)),
        ("Config::write_timeout", time(write_timeout)),
        ("Config::close_timeout", time(close_timeout)),
        ("HeadLimits::max_len", size(max_len)),
        ("HeadLimits::max_fields", max_fields.to_string()),
        ("HeadLimits::timeout", time(timeout)),
        ("ServerConfig::max_connections", server.max_connections.map_or_else(none, |max| max.to_string())),
        ("ServerConfig::backlog", server.backlog.to_string()),
        ("ClientConfig::redirects", client.redirects.to_string()),
        ("ClientConfig::max_body", size(client.max_body)),
    ];
    let (tests, rows) = (tests(), rows("SECURITY.md", "## Limits"));
    for (row, cells) in &rows {
        let [_, limit, default, _, shown] = &cells[..] else { panic!("{row}: {} cells", cells.len()) };
        for (_, expected) in defaults.iter().filter(|(name, _)| quoted(limit).contains(name)) {
            assert!(
                default.split(", ").any(|default| default == expected),
                "{row}: {default}, not {expected}"
            );
        }
        if !shown.starts_with("— ") {
            assert_tests(&tests, row, shown);
        }
    }
    for (name, _) in &defaults {
        assert!(rows.iter().any(|(_, cells)| quoted(&cells[1]).contains(name)), "no row for {name}");
    }
}

#[test]
fn every_link_of_a_document_leads_somewhere() {
    let mut count = 0;
    for file in documents("") {
        for (number, line) in prose(&file) {
            for link in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                if link.contains("://") {
                    continue;
                }
                let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
                let folder = file.path.parent().expect("a file is in a folder");
                let target = if path.is_empty() { file.path.clone() } else { folder.join(path) };
                assert!(target.exists(), "{}:{number}: no {path}", file.path.display());
                let is_there = anchor.is_empty() || anchors(&read(&target)).contains(anchor);
                assert!(is_there, "{}:{number}: {path} has no #{anchor}", file.path.display());
                count += 1;
            }
        }
    }
    assert!(count > 50, "{count} links");
}

#[test]
fn every_guide_is_in_the_index_and_its_code_compiles() {
    let index = read(&root().join("docs/README.md"));
    let compiled = read(&root().join("examples/src/lib.rs"));
    let mut ignored = 0;
    for file in documents("docs") {
        let name = file.path.file_name().and_then(|name| name.to_str()).expect("a name in ASCII");
        assert!(
            name == "README.md" || index.text.contains(&format!("]({name})")),
            "{name} is not in the index"
        );
        let included = compiled.text.contains(&format!("include_str!(\"../../docs/{name}\")"));
        assert!(included || !file.text.contains("```rust"), "{name} is not compiled");
        ignored += file.text.matches("ignore\n").count();
    }
    // A program on another library.
    assert_eq!(ignored, 1);
}

#[test]
fn every_example_says_how_to_run_it_and_has_its_row() {
    let mut listed = BTreeSet::new();
    for (row, cells) in rows("examples/README.md", "# Examples") {
        let [link, _, command] = &cells[..] else { panic!("{row}: {} cells", cells.len()) };
        let name = quoted(link).first().copied().unwrap_or_default();
        assert!(quoted(command).iter().any(|command| runs(command, name)), "{row}: {command}");
        assert!(listed.insert(link.clone()), "{row}: {link} again");
    }
    let mut examples = BTreeSet::new();
    for entry in fs::read_dir(root().join("examples/src/bin")).expect("there are examples") {
        let path = entry.expect("an entry can be read").path();
        let name = path.file_stem().and_then(OsStr::to_str).expect("examples have names").to_owned();
        let file = read(&if path.is_dir() { path.join("main.rs") } else { path });
        let mut comment = file.text.lines().map_while(|line| line.strip_prefix("//!"));
        assert!(comment.any(|line| runs(line.trim(), &name)), "{}: no command", file.path.display());
        let path = file.path.strip_prefix(root().join("examples")).expect("it is below").display();
        examples.insert(format!("[`{name}`]({path})"));
    }
    assert_eq!(listed, examples);
}

#[test]
fn adapters_export_the_same_names() {
    // What only one of them has, and why.
    let own = [
        // The runtime, as a type.
        ("ws-tokio", "Tokio"),
        ("ws-async-std", "AsyncStd"),
        // tokio's own know when they are empty.
        ("ws-async-std", "AsyncSocket"),
        // HTTP servers that run on tokio alone.
        ("ws-tokio", "axum"),
    ];
    let [tokio, async_std] = ADAPTERS.map(|adapter| {
        let mut names = exports(&read(&root().join(adapter).join("src/lib.rs")));
        for (_, name) in own.iter().filter(|(of, _)| *of == adapter) {
            assert!(names.remove(*name), "{adapter} has no {name}");
        }
        names
    });
    assert_eq!(tokio, async_std);
    assert!(tokio.len() > 60, "{} names", tokio.len());
}

// Helpers

/// The crates of the workspace.
const MEMBERS: [&str; 4] = ["ws-proto", "ws-tokio", "ws-async-std", "examples"];

/// Those that others build on.
const PUBLISHED: [&str; 3] = ["ws-proto", "ws-tokio", "ws-async-std"];

/// Those that bring a runtime.
const ADAPTERS: [&str; 2] = ["ws-tokio", "ws-async-std"];

/// All folders with Rust files.
const FOLDERS: [&str; 10] = [
    "ws-proto/src",
    "ws-proto/tests",
    "ws-proto/benches",
    "ws-tokio/src",
    "ws-tokio/tests",
    "ws-async-std/src",
    "ws-async-std/tests",
    "tests",
    "examples/src",
    "examples/tests",
];

struct File {
    path: PathBuf,
    text: String,
}

impl File {
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(i, line)| (i + 1, line))
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is above").to_owned()
}

fn read(path: &Path) -> File {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    File { path: path.to_owned(), text }
}

/// The Rust files of the whole workspace, tests among them.
fn all_sources() -> Vec<File> {
    FOLDERS.into_iter().flat_map(sources).collect()
}

/// The Rust files below a folder of the workspace.
fn sources(folder: &str) -> Vec<File> {
    let mut files = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("an entry can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(read(&path));
            }
        }
    }
    assert!(!files.is_empty(), "{folder} has source files");
    files
}

/// The Markdown files of the repository, or below one of its folders.
fn documents(folder: &str) -> Vec<File> {
    let mut files = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("an entry can be read").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            // What is built, installed, or found by fuzzing is not ours.
            let is_foreign = name.starts_with('.') || ["target", "node_modules", "corpus"].contains(&name);
            if path.is_dir() && !is_foreign {
                folders.push(path);
            } else if name.ends_with(".md") {
                files.push(read(&path));
            }
        }
    }
    assert!(!files.is_empty(), "{folder} has documents");
    files
}

/// The lines of a document that are no code.
fn prose(file: &File) -> Vec<(usize, &str)> {
    let mut in_code = false;
    let mut is_prose = |line: &str| {
        let is_fence = line.trim_start().starts_with("```");
        in_code ^= is_fence;
        !in_code && !is_fence
    };
    file.lines().filter(|(_, line)| is_prose(line)).collect()
}

/// What the headings of a document are called in links.
fn anchors(file: &File) -> HashSet<String> {
    let headings = prose(file).into_iter().filter(|(_, line)| line.starts_with('#'));
    let titles = headings.map(|(_, line)| line.trim_start_matches('#').trim().to_lowercase());
    let is_kept = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
    titles.map(|title| title.chars().filter(is_kept).collect::<String>().replace(' ', "-")).collect()
}

/// The lines of a file that are no comments, without the unit tests at its end, which may start from a clock.
fn code_lines(file: &File) -> Vec<(usize, &str)> {
    let code = file.lines().take_while(|(_, line)| *line != "#[cfg(test)]");
    code.filter(|(_, line)| !line.trim_start().starts_with("//")).collect()
}

/// The names of all test functions.
fn tests() -> HashSet<String> {
    let mut names = HashSet::new();
    for file in all_sources() {
        let mut is_test = false;
        for line in file.text.lines().map(str::trim_start) {
            match line.strip_prefix("async fn ").or_else(|| line.strip_prefix("fn ")) {
                Some(function) if is_test => names.extend(words(function).next().map(str::to_owned)),
                _ if line.starts_with("#[") => is_test |= line.ends_with("test]"),
                _ => is_test = false,
            }
        }
    }
    names
}

/// A cell names tests, and each of them exists.
#[track_caller]
fn assert_tests(tests: &HashSet<String>, row: &str, cell: &str) {
    assert!(!quoted(cell).is_empty(), "{row}: no test");
    for name in quoted(cell) {
        assert!(tests.contains(name), "{row}: no test {name}");
    }
}

/// The cells of the rows of all tables below a heading, without their own headings; and where each row is.
fn rows(path: &str, heading: &str) -> Vec<(String, Vec<String>)> {
    let file = read(&root().join(path));
    let rank = heading.split(' ').next();
    let below = file.lines().skip_while(|(_, line)| *line != heading).skip(1);
    let lines: Vec<_> = below.take_while(|(_, line)| line.split(' ').next() != rank).collect();
    let is_row = |line: &str| line.starts_with("| ") && !line.starts_with("| ---");
    let rows = lines.windows(2).filter(|two| is_row(two[0].1) && !two[1].1.starts_with("| ---"));
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    rows.map(|two| (format!("{path}:{}", two[0].0), cells(two[0].1))).collect()
}

/// Whether a command runs this example.
fn runs(command: &str, example: &str) -> bool {
    let words: Vec<_> = command.split(' ').collect();
    words.starts_with(&["cargo", "run"]) && words.windows(2).any(|two| two == ["--bin", example])
}

/// What stands between backticks.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// The public names of a crate, by its `lib.rs`.
fn exports(file: &File) -> BTreeSet<String> {
    let code: Vec<_> = code_lines(file).into_iter().map(|(_, line)| line).collect();
    let code = code.join(" ");
    let mut names = BTreeSet::new();
    for item in code.split("pub ").skip(1) {
        let item = item.split(';').next().unwrap_or_default();
        let Some(list) = item.strip_prefix("use ") else {
            // `mod name`, `type Name<...> = ...`, `fn name(...)`.
            names.extend(words(item).nth(1).map(str::to_owned));
            continue;
        };
        // The last part of each path; what stands before a brace is a module.
        let paths = list.split(['{', '}', ',']).map(str::trim).filter(|path| !path.ends_with("::"));
        names.extend(paths.filter_map(|path| words(path).last()).map(str::to_owned));
    }
    names
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}
