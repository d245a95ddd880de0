//! The house rules that a program can check (docs/STYLE.md, and the rooms of
//! docs/ARCHITECTURE.md). Each rule has a test below that sees it fail.

#[path = "tidy/scan.rs"]
mod scan;

use scan::{Source, functions, is_word, mentions};
use std::fs;
use std::path::Path;

const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;

/// Functions longer than that: file, name, reason.
const LONG_FUNCTIONS: &[(&str, &str, &str)] = &[];

/// The only files of tests that may sleep: each wait there has a deadline.
const MAY_SLEEP: &[&str] = &["tests/common/wait.rs"];

/// Words that a room does not say in its code: the room's path, which of its files may, the
/// words, and why.
struct Silence {
    room: &'static str,
    except: &'static [&'static str],
    words: &'static [&'static str],
    why: &'static str,
}

const SILENCES: &[Silence] = &[
    Silence {
        room: "mount/src/",
        except: &[],
        words: &["covefs_remote", "std::net", "tokio::fs", "tokio::net", "sled"],
        why: "mount knows no share, touches no network",
    },
    Silence {
        room: "mount/src/",
        // Begin and end of a session: they look at the mountpoint and at /dev/fuse.
        except: &["mount/src/detach", "mount/src/error", "mount/src/session", "mount/src/mounts"],
        words: &["std::fs"],
        why: "mount touches no disk",
    },
    Silence {
        room: "cache/src/",
        except: &[],
        words: &["fuser", "winfsp", "NTSTATUS", "covefs_mount", "std::net", "tokio::net"],
        why: "cache knows no platform and no network",
    },
    Silence {
        room: "cache/src/",
        except: &["cache/src/disk"],
        words: &["std::fs", "tokio::fs", "rustix", "target_os", "libc", "errno", "Errno"],
        why: "in cache only disk* touches the disk and knows the system",
    },
    Silence {
        room: "remote/src/",
        except: &[],
        words: &["covefs_cache", "covefs_mount", "Ino", "Fh", "FileHandle", "fuser", "winfsp"],
        why: "remote knows neither cache nor inode nor handle",
    },
];

/// What only `src/` reads, and what is no part of the product: build scripts and examples.
const OUTSIDE: &[&str] =
    &["env::args", "env::args_os", "env::var", "env::var_os", "env::vars", "env::vars_os"];

type Rule = fn(&Source) -> Vec<String>;
const RULES: &[Rule] = &[
    begins_with_its_subject,
    is_short,
    functions_fit_a_screen,
    is_ascii,
    keeps_to_its_room,
    leaves_the_environment_to_src,
    unwraps_only_in_tests,
    tests_run_and_do_not_sleep,
    names_an_issue_for_what_is_missing,
    names_things_plainly,
];

fn begins_with_its_subject(source: &Source) -> Vec<String> {
    let start = if source.is_test() { "//" } else { "//!" };
    let begins = source.text.starts_with(start);
    found(source, 1, (!begins).then_some("the first line must say the file's subject (//!)"))
}

fn is_short(source: &Source) -> Vec<String> {
    let lines = source.text.lines().count();
    let says = format!("{lines} lines; split it by subject");
    found(source, lines, (lines > FILE_LINES_MAX).then_some(&says))
}

fn functions_fit_a_screen(source: &Source) -> Vec<String> {
    let long = functions(&source.code).into_iter().filter(|function| {
        let listed = LONG_FUNCTIONS.iter().any(|(path, name, reason)| {
            *path == source.path && *name == function.name && !reason.is_empty()
        });
        function.lines > FUNCTION_LINES_MAX && !listed
    });
    long.flat_map(|function| {
        let says = format!("{}() has {} lines", function.name, function.lines);
        found(source, function.line, Some(&says))
    })
    .collect()
}

fn is_ascii(source: &Source) -> Vec<String> {
    let line = source.text.lines().position(|line| !line.is_ascii());
    line.map_or(Vec::new(), |line| found(source, line + 1, Some("not ASCII")))
}

fn keeps_to_its_room(source: &Source) -> Vec<String> {
    let mut wrong = Vec::new();
    for silence in SILENCES {
        let excepted = silence.except.iter().any(|start| source.path.starts_with(start));
        if !source.path.starts_with(silence.room) || excepted {
            continue;
        }
        let product = source.product();
        for word in silence.words {
            if let Some(line) = mentions(&product, word) {
                wrong.extend(found(source, line, Some(&format!("{word}: {}", silence.why))));
            }
        }
        if let Some(line) = imports(&product, silence.words) {
            wrong.extend(found(source, line, Some(silence.why)));
        }
    }
    wrong
}

/// `use std::{fs, ...}` says `std::fs` in other words. The line of one that says any of `paths`.
fn imports(code: &str, paths: &[&str]) -> Option<usize> {
    for (at, start) in code.match_indices("use ") {
        let end = code[at..].find(';').map_or(code.len(), |length| at + length);
        let Some((root, list)) = code[at + start.len()..end].split_once("::{") else { continue };
        for name in list.split([',', '{', '}']).map(str::trim) {
            let first = name.split("::").next().unwrap_or(name);
            if paths.contains(&&*format!("{}::{first}", root.trim())) {
                return Some(1 + code[..at].matches('\n').count());
            }
        }
    }
    None
}

fn leaves_the_environment_to_src(source: &Source) -> Vec<String> {
    let apart = source.path.contains("/examples/") || source.path.ends_with("build.rs");
    if source.path.starts_with("src/") || apart {
        return Vec::new();
    }
    let product = source.product();
    let mut wrong = Vec::new();
    for word in OUTSIDE {
        let line = mentions(&product, word);
        wrong.extend(line.map(|line| format!("{}:{line}: {word}: only src asks", source.path)));
    }
    let reads_sys = !source.is_test() && source.text.contains(concat!("\"/", "sys/"));
    wrong.extend(found(source, 1, reads_sys.then_some("/sys: only src asks")));
    wrong
}

fn unwraps_only_in_tests(source: &Source) -> Vec<String> {
    let line = mentions(&source.product(), ".unwrap()");
    line.map_or(Vec::new(), |line| found(source, line, Some("unwrap() outside tests")))
}

fn tests_run_and_do_not_sleep(source: &Source) -> Vec<String> {
    let mut wrong = Vec::new();
    for word in ["#[ignore", "#[should_panic"] {
        if let Some(line) = mentions(&source.code, word) {
            wrong.extend(found(source, line, Some(word)));
        }
    }
    // In a file of both, what is not the product is a test.
    let count = |code: &str| code.matches("thread::sleep").count();
    let sleeps = count(&source.code) > count(&source.product());
    if sleeps && !MAY_SLEEP.contains(&&*source.path) {
        wrong.extend(found(source, 1, Some("a test that sleeps: wait for something, in bounds")));
    }
    wrong
}

fn names_an_issue_for_what_is_missing(source: &Source) -> Vec<String> {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let mut wrong = Vec::new();
    for (number, line) in source.text.lines().enumerate() {
        let marked = marks.iter().any(|mark| mentions(line, mark).is_some());
        let after_hash = line.split('#').skip(1);
        let numbered =
            after_hash.into_iter().any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        if marked && !numbered {
            wrong.extend(found(source, number + 1, Some("a thing to do without an issue's #N")));
        }
    }
    wrong
}

/// STYLE.md 2.
fn names_things_plainly(source: &Source) -> Vec<String> {
    let mut wrong = Vec::new();
    for function in functions(&source.code) {
        let name = &*function.name;
        if name.starts_with("do_") || name.ends_with("_inner") || name.ends_with("_impl") {
            wrong.extend(found(source, function.line, Some(&format!("{name}() is no verb"))));
        }
    }
    for kind in ["struct ", "enum ", "trait ", "type "] {
        for (at, _) in source.code.match_indices(kind) {
            let rest = &source.code[at + kind.len()..];
            let name: String = rest.chars().take_while(|c| is_word(*c)).collect();
            let vague = ["Manager", "Helper", "Util", "Utils"];
            if !source.code[..at].ends_with(is_word) && vague.iter().any(|end| name.ends_with(end))
            {
                let line = 1 + source.code[..at].matches('\n').count();
                wrong.extend(found(source, line, Some(&format!("{name} says nothing"))));
            }
        }
    }
    wrong
}

fn found(source: &Source, line: usize, says: Option<&str>) -> Vec<String> {
    says.map(|says| format!("{}:{line}: {says}", source.path)).into_iter().collect()
}

/// Names that Windows keeps for devices, with or without an extension.
fn is_reserved(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name).to_ascii_lowercase();
    let numbered = ["com", "lpt"]
        .iter()
        .any(|start| stem.strip_prefix(start).is_some_and(|rest| rest.len() == 1 && rest != "0"));
    matches!(&*stem, "aux" | "con" | "nul" | "prn") || numbered
}

/// Functions that a document names as `name()` or `Type::name()` and no source has.
fn unknown_functions(document: &str, sources: &[Source]) -> Vec<String> {
    let known: std::collections::HashSet<String> =
        sources.iter().flat_map(|source| functions(&source.code)).map(|f| f.name).collect();
    let quoted = document.split('`').skip(1).step_by(2);
    let named = quoted.filter_map(|text| {
        let path = text.split_once('(').filter(|(_, rest)| rest.ends_with(')'))?.0;
        let name = path.rsplit([':', '.']).next()?;
        (!name.is_empty() && name.chars().all(is_word)).then(|| name.to_owned())
    });
    named.filter(|name| !known.contains(name)).collect()
}

/// Every file of the project, by path relative to it; not what is built, nor git's own.
fn all_files() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    let mut dirs = vec![String::new()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(root.join(&dir)).expect("the project can be read") {
            let entry = entry.expect("the project can be read");
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = if dir.is_empty() { name.clone() } else { format!("{dir}/{name}") };
            let built = entry.path().join("CACHEDIR.TAG").exists();
            let kind = entry.file_type().expect("the project can be read");
            if kind.is_dir() && name != ".git" && !built && path != "target" {
                dirs.push(path);
            } else if kind.is_file() {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

fn read(path: &str) -> String {
    let bytes = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(path));
    let bytes = bytes.unwrap_or_else(|error| panic!("{path}: {error}"));
    String::from_utf8(bytes).unwrap_or_else(|_| panic!("{path} is not UTF-8"))
}

fn sources() -> Vec<Source> {
    let files = all_files().into_iter().filter(|path| path.ends_with(".rs"));
    files.map(|path| Source::new(&path, &read(&path))).collect()
}

#[test]
fn the_source_keeps_the_house_rules() {
    let mut wrong = Vec::new();
    for source in sources() {
        wrong.extend(RULES.iter().flat_map(|rule| rule(&source)));
    }
    assert!(wrong.is_empty(), "{} found:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn settings_and_scripts_are_ascii_and_names_fit_every_system() {
    let mut wrong = Vec::new();
    for path in all_files() {
        wrong.extend(path.split('/').filter(|name| is_reserved(name)).map(|_| path.clone()));
        let plain = [".toml", ".sh", ".yml", ".py"].iter().any(|end| path.ends_with(end));
        if plain {
            wrong.extend(is_ascii(&Source::new(&path, &read(&path))));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn functions_named_in_the_architecture_exist() {
    let unknown = unknown_functions(&read("docs/ARCHITECTURE.md"), &sources());
    assert!(unknown.is_empty(), "docs/ARCHITECTURE.md names what is not there: {unknown:?}");
}

#[test]
fn exceptions_are_still_needed() {
    let sources = sources();
    for (path, name, _) in LONG_FUNCTIONS {
        let source = sources.iter().find(|source| source.path == *path);
        let long = source.is_some_and(|source| {
            let all = functions(&source.code);
            all.iter().any(|found| found.name == *name && found.lines > FUNCTION_LINES_MAX)
        });
        assert!(long, "{path}: {name}() is short now, take it off the list");
    }
    for path in MAY_SLEEP {
        assert!(read(path).contains("thread::sleep"), "{path} no longer sleeps");
    }
}

/// The rule says nothing about `good` and something about `bad`, in a file at `path`.
#[track_caller]
fn check(rule: Rule, path: &str, good: &str, bad: &str) {
    assert_eq!(rule(&Source::new(path, good)), Vec::<String>::new());
    assert_ne!(rule(&Source::new(path, bad)), Vec::<String>::new(), "finds nothing in {bad}");
}

#[test]
fn each_rule_about_shape_finds_what_breaks_it() {
    check(begins_with_its_subject, "src/a.rs", "//! A.\nfn a() {}", "fn a() {}");
    check(begins_with_its_subject, "src/a.rs", "//! A.", "// A.");
    check(begins_with_its_subject, "tests/a.rs", "// A.\n", "use a;\n");
    check(is_short, "src/a.rs", &"\n".repeat(FILE_LINES_MAX), &"\n".repeat(FILE_LINES_MAX + 1));
    let function = |lines: usize| format!("fn a() {{{}}}", "\n".repeat(lines - 1));
    let (good, bad) = (function(FUNCTION_LINES_MAX), function(FUNCTION_LINES_MAX + 1));
    check(functions_fit_a_screen, "src/a.rs", &good, &bad);
    check(is_ascii, "src/a.rs", "// dots...", "// dots\u{2026}");
    check(names_things_plainly, "src/a.rs", "fn done() {}", "fn do_it() {}");
    check(names_things_plainly, "src/a.rs", "fn inner() {}", "fn read_inner() {}");
    check(names_things_plainly, "src/a.rs", "struct Files;", "pub struct FileManager {}");
    let (good, bad) = (concat!("// TO", "DO(#7): a"), concat!("// TO", "DO: a"));
    check(names_an_issue_for_what_is_missing, "src/a.rs", good, bad);
}

#[test]
fn each_rule_about_rooms_finds_what_breaks_it() {
    let rule = keeps_to_its_room;
    check(rule, "mount/src/a.rs", "use covefs_cache::Vfs;", "use covefs_remote::Remote;");
    check(rule, "mount/src/a.rs", "// no std::fs here", "fn a() { std::fs::read(b); }");
    check(rule, "mount/src/a.rs", "use std::{io, fmt};", "use std::{fs::File, io};");
    check(rule, "cache/src/a.rs", "use covefs_remote::Remote;", "use fuser::Errno;");
    check(
        rule,
        "cache/src/a.rs",
        "#[cfg(unix)] fn a() {}",
        "#[cfg(target_os = \"linux\")] fn a() {}",
    );
    check(rule, "cache/src/a.rs", "#[cfg(test)] mod tests { use std::fs; }", "use std::fs;");
    check(rule, "cache/src/disk/unix.rs", "use std::fs;", "use winfsp::A;");
    check(rule, "remote/src/a.rs", "fn a(ino: u64) {}", "use covefs_cache::Ino;");
    let rule = leaves_the_environment_to_src;
    check(rule, "cache/src/a.rs", "fn a() { args(); }", "fn a() { std::env::args(); }");
    check(rule, "cache/src/a.rs", "// /sys", concat!("fn a() { read(\"/", "sys/b\"); }"));
    for path in ["src/a.rs", "build.rs", "mount/build.rs", "mount/examples/a.rs"] {
        assert!(rule(&Source::new(path, "fn a() { std::env::var(b); }")).is_empty(), "{path}");
    }
}

#[test]
fn each_rule_about_tests_finds_what_breaks_it() {
    let in_test = |body: &str| format!("#[cfg(test)]\nmod tests {{ #[test] fn a() {{ {body} }} }}");
    let rule = unwraps_only_in_tests;
    check(rule, "src/a.rs", &in_test("b.unwrap();"), "fn a() { b.unwrap(); }");
    let rule = tests_run_and_do_not_sleep;
    check(rule, "src/a.rs", "fn a() { thread::sleep(b); }", &in_test("thread::sleep(b);"));
    check(rule, "tests/a.rs", "// #[ignore]", "#[test] #[ignore] fn a() {}");
    check(rule, "tests/a.rs", "", "#[should_panic(expected = \"b\")]");
    check(rule, "tests/a.rs", "", "fn a() { std::thread::sleep(b) }");
}

#[test]
fn reserved_names_and_unknown_functions_are_found() {
    for name in ["aux.rs", "CON", "nul.tar.gz", "prn", "com1.txt", "LPT9"] {
        assert!(is_reserved(name), "{name}");
    }
    for name in ["auxiliary.rs", "config.rs", "com.rs", "com0", "console"] {
        assert!(!is_reserved(name), "{name}");
    }
    let sources = [Source::new("src/a.rs", "impl A { fn known(&self) {} }")];
    let document = "`known()`, `A::known(b)`, `file.known()`, `unknown()`, `no call`, plain gone()";
    assert_eq!(unknown_functions(document, &sources), ["unknown"]);
}
