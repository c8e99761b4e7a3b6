//! The rules that keep the core pure and the imports pointing one way (see `src/lib.rs`).

// A test that cannot go on may panic.
#![allow(clippy::unwrap_used)]

#[path = "architecture/dependencies.rs"]
mod dependencies;
#[path = "architecture/ports.rs"]
mod ports;
#[path = "architecture/requirements.rs"]
mod requirements;
#[path = "architecture/signatures.rs"]
mod signatures;
#[path = "architecture/types.rs"]
mod types;

use std::fs;
use std::path::{Path, PathBuf};

/// Modules that only turn values into values.
const PURE: &[&str] = &[
    "excerpt",
    "digits",
    "words",
    "hex",
    "last_day",
    "name",
    "scarce",
    "smtp",
    "mx",
    "dane",
    "mta_sts",
    "policy",
    "rules",
    "requiretls",
    "terms",
    "refusal",
    "reserved",
    "config",
    "dns/mod",
    "dns/links",
    "dns/canonical",
    "dns/reply",
    "dns/denial",
    "dns/message",
    "dns/pace",
    "dns/invariant",
    "dns/reference_model",
    "dns/cache",
    "dns/server",
    "dns/answers",
    "dns/special",
    "dns/recursion/hints",
    "dns/recursion/minimise",
    "dns/recursion/referral",
    "dns/recursion/reply",
    "dns/negative_anchors",
    "dns/nat64",
    "dns/by_nat64",
    "upstream/failover",
    "upstream/order",
    "upstream/timeouts",
    "dns/budget",
    "store/index",
    "store/kept",
    "store/key",
    "transaction",
    "check/ends",
    "watch/agenda",
    "watch/book",
    "watch/entry",
    "watch/facts",
    "watch/findings",
    "watch/kinds",
    "watch/letter",
    "watch/looked",
    "watch/states",
    "watch/view",
    "tlsrpt/datagram",
    "tlsrpt/dkim",
    "tlsrpt/document",
    "tlsrpt/event",
    "tlsrpt/gzip",
    "tlsrpt/kept",
    "tlsrpt/mime",
    "tlsrpt/read",
    "tlsrpt/record",
    "tlsrpt/report_end",
    "tlsrpt/schedule",
    "tlsrpt/scope",
    "tlsrpt/tally",
    "tlsrpt/tried",
    "tlsrpt/window",
    "watch/settled",
];
/// Words that a pure module must not have.
const IMPURE: &[&str] =
    &["async ", "tokio", "hickory", "rustls::", "tracing", "Instant::now", "SystemTime::now", "now_utc", "std::fs"];
/// Each layer may use itself and those before it.
const ORDER: &[&str] = &[
    "version",
    "excerpt",
    "digits",
    "words",
    "hex",
    "last_day",
    "name",
    "scarce",
    "operator_file",
    "roots",
    "smtp",
    "reserved",
    "dns",
    "mx",
    "dane",
    "mta_sts",
    "policy",
    "rules",
    "requiretls",
    "terms",
    "refusal",
    "config",
    "tlsrpt",
    "trace",
    "latency",
    "background",
    "tls",
    "http",
    "store",
    "discovery",
    "wire",
    "upstream",
    "report",
    "journal",
    "transaction",
    "delivery",
    "session",
    "dispatch",
    "settings",
    "check",
    "watch",
    "server",
    "admin",
    "cli",
];
/// Names that only these places may use.
const SOLE: &[(&str, &[&str])] = &[
    ("hickory_resolver", &["dns/validating"]),
    ("dangerous()", &["tls"]),
    ("figment::", &["cli/load"]),
    ("sqlx::", &["store/sqlite", "store/postgres"]),
    ("prometheus_client", &["report/metrics"]),
    // The client, and the server.
    ("hyper", &["http", "admin"]),
    ("rustls_native_certs", &["roots"]),
    ("webpki_roots", &["roots"]),
    ("flate2", &["tlsrpt/gzip", "tlsrpt/read/unpack"]),
    // Each value of a page is escaped, and no text is inserted as it is.
    ("maud", &["admin/page/html"]),
    ("PreEscaped", &[]),
    // The last one uses the decoder of mail_parser, which leaves out line breaks.
    ("base64::", &["tlsrpt/mime", "tlsrpt/dkim", "dispatch/key", "tlsrpt/read/parts"]),
    ("mail_parser", &["tlsrpt/read/parts"]),
    // Each file that an operator names has a bound.
    ("fs::read(", &[]),
    ("read_to_string(", &[]),
    // The others have a bound of their own: for the first octets of a log, a report, and a part that is unpacked.
    ("read_to_end(", &["operator_file", "cli/domains/source", "cli/tlsrpt", "tlsrpt/read/unpack"]),
];
/// The modules that may name rustls: TLS towards remotes, resolvers and policy hosts, the authorities for them, and the session
/// that was verified by it.
const RUSTLS: &[&str] = &[
    "dns/backend",
    "dns/query",
    "dns/recursion",
    "dns/servers",
    "dispatch/key",
    "dns/setup",
    "roots",
    "tls",
    "http",
    "upstream/verified",
];
/// Modules, and the words for parts of the program that they must not know.
const APART: &[(&str, &[&str])] = &[
    ("upstream/pool", &["smtp", "tls", "verified", "Ready", "reuse"]),
    ("upstream/verified", &["pool", "limits", "reuse", "Permit<"]),
];

/// Every source file with its module path and its text up to the tests, without comments.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut files: Vec<PathBuf> = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    let code = |text: &str| {
        let (body, tests) = text.split_once("\n#[cfg(test)]\n").unwrap_or((text, "mod "));
        assert!(tests.trim_start_matches("pub(crate) ").starts_with("mod "), "tests come last in a file: {tests:.40}");
        body.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
    };
    let module = |path: &Path| path.strip_prefix(&root).unwrap().with_extension("").display().to_string();
    files.iter().map(|path| (module(path), code(&fs::read_to_string(path).unwrap()))).collect()
}

/// Whether a module is this one or below it.
fn is_in(module: &str, home: &str) -> bool {
    module == home || module.starts_with(&format!("{home}/"))
}

fn layer(module: &str) -> Option<usize> {
    let first = module.split('/').next().unwrap_or_default();
    ORDER.iter().position(|layer| *layer == first)
}

#[test]
fn pure_modules_stay_pure() {
    let sources = sources();
    for pure in PURE {
        assert!(sources.iter().any(|(module, _)| is_in(module, pure)), "{pure} is no module: take it off the list");
    }
    for (module, code) in sources {
        if PURE.iter().any(|pure| is_in(&module, pure)) {
            for word in IMPURE {
                assert!(!code.contains(word), "src/{module}.rs is pure and must not name {word:?}");
            }
        }
    }
}

/// The module that a path below `crate::` names, up to its first type or list.
fn module_of(path: &str) -> String {
    let end = path.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | ':'))).unwrap_or(path.len());
    let parts = path[..end].split("::").take_while(|part| part.starts_with(|c: char| c.is_lowercase()));
    parts.collect::<Vec<_>>().join("/")
}

#[test]
fn pure_modules_import_pure_ones() {
    let is_pure = |module: &str| PURE.iter().any(|pure| is_in(module, pure) || *pure == format!("{module}/mod"));
    for (module, code) in sources().into_iter().filter(|(module, _)| is_pure(module)) {
        for used in code.split("crate::").skip(1).map(module_of).filter(|used| !used.is_empty()) {
            assert!(is_pure(&used), "src/{module}.rs is pure, and {used} is not");
        }
    }
}

#[test]
fn lib_declares_the_modules_in_this_order() {
    let lib = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let modules = lib.lines().filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod "));
    assert_eq!(modules.map(|name| name.trim_end_matches(';')).collect::<Vec<_>>(), ORDER);
    assert!(lib.lines().count() <= 100);
}

#[test]
fn imports_point_one_way() {
    for (module, code) in sources() {
        let Some(own) = layer(&module) else { continue };
        for used in code.split("crate::").skip(1) {
            let used: String = used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let Some(other) = layer(&used) else { continue };
            assert!(other <= own, "src/{module}.rs must not use crate::{used}");
        }
    }
}

#[test]
fn each_library_has_one_home() {
    let sources = sources();
    for (library, homes) in SOLE {
        let naming: Vec<_> =
            sources.iter().filter(|(_, code)| code.contains(library)).map(|(module, _)| module.as_str()).collect();
        let elsewhere: Vec<_> = naming.iter().filter(|module| !homes.iter().any(|home| is_in(module, home))).collect();
        assert_eq!(elsewhere, Vec::<&&str>::new(), "only {homes:?} may name {library}");
        for home in *homes {
            assert!(
                naming.iter().any(|module| is_in(module, home)),
                "{home} does not name {library}: take it off the list"
            );
        }
    }
}

#[test]
fn the_pool_knows_no_protocol_and_the_session_no_pool() {
    for (module, code) in sources() {
        for (apart, words) in APART {
            if is_in(&module, apart) {
                for word in *words {
                    assert!(!code.contains(word), "src/{module}.rs must not name {word:?}");
                }
            }
        }
    }
}

#[test]
fn rustls_is_named_where_it_is_needed() {
    let naming: Vec<String> =
        sources().into_iter().filter(|(_, code)| code.contains("rustls::")).map(|(module, _)| module).collect();
    for module in &naming {
        assert!(RUSTLS.iter().any(|home| is_in(module, home)), "src/{module}.rs must not name rustls");
    }
    for home in RUSTLS {
        assert!(naming.iter().any(|module| is_in(module, home)), "{home} does not name rustls: take it off the list");
    }
}

/// The statements in `code` that borrow a watched value twice. A guard lives until the end of its statement, and a writer
/// that comes between the two waits for the first, while the second waits for the writer: the thread never goes on.
fn borrowed_twice(code: &str) -> Vec<String> {
    let borrowed = |statement: &str| {
        let parts: Vec<&str> = statement.split(".borrow()").collect();
        let owner = |part: &&str| {
            let start = part.rfind(|c: char| !c.is_alphanumeric() && !"_.".contains(c)).map_or(0, |at| at + 1);
            part[start..].to_owned()
        };
        let mut owners: Vec<String> = parts[..parts.len() - 1].iter().map(owner).collect();
        owners.sort();
        owners.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0].clone())
    };
    code.split(';').flat_map(|statements| statements.split("fn ")).filter_map(borrowed).collect()
}

#[test]
fn no_statement_borrows_a_watched_value_twice() {
    for (module, code) in sources() {
        assert_eq!(borrowed_twice(&code), Vec::<String>::new(), "src/{module}.rs");
    }
    assert_eq!(borrowed_twice("let a = M { x: h.borrow().x(), y: h.borrow().y() };"), ["h"]);
    assert_eq!(borrowed_twice("let a = (h.borrow().x(), g.h.borrow().y()); h.borrow();"), Vec::<String>::new());
}

#[test]
fn files_have_one_responsibility() {
    for (module, code) in sources() {
        let lines = code.lines().count();
        assert!(lines <= 400, "src/{module}.rs has {lines} lines of code; it has grown a second responsibility");
    }
}

/// More lines of code than this hide a second idea in a function.
const MAX_FUNCTION: usize = 40;

/// The functions in `code` that have more lines than allowed, each with their number. A function ends with the brace
/// below its first letter, as rustfmt writes it.
fn long_functions(code: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = code.lines().filter(|line| !line.trim().is_empty()).collect();
    let function = |(at, line): (usize, &&str)| {
        let start = line.trim_start();
        let (before, after) =
            if start.starts_with("fn ") { ("", start.get(3..)?) } else { start.split_once(" fn ")? };
        let is_function =
            before.split(' ').all(|word| word.starts_with("pub") || ["", "async", "const"].contains(&word));
        let end = format!("{}}}", &line[..line.len() - start.len()]);
        let length = 1 + lines[at..].iter().position(|line| *line == end)?;
        let is_whole = !line.ends_with(['}', ';']);
        let name = after.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        (is_function && is_whole && length > MAX_FUNCTION).then_some((name, length))
    };
    lines.iter().enumerate().filter_map(function).collect()
}

#[test]
fn a_function_holds_one_idea() {
    for (module, code) in sources() {
        assert_eq!(long_functions(&code), [], "src/{module}.rs");
    }
    let code =
        |lines| format!("    pub(crate) async fn a() {{\n{}\n    }}\n    fn b() {{}}", "        x();\n".repeat(lines));
    assert_eq!((long_functions(&code(38)), long_functions(&code(39))), (vec![], vec![("a".to_owned(), 41)]));
}

#[test]
fn decisions_cite_their_rule() {
    // One citation of an RFC section for every 66 lines of the core at least; most of it lies in comments.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let text = |module: &str| {
        let path = root.join(module);
        let file = path.with_extension("rs");
        fs::read_to_string(if file.exists() { file } else { path.join("mod.rs") }).unwrap()
    };
    for module in [
        "mx",
        "policy",
        "dane/verify",
        "dane/tlsa",
        "upstream",
        "upstream/plan",
        "upstream/failover",
        "upstream/starttls",
        "upstream/mx_iteration",
        "transaction/dialogue",
        "transaction",
    ] {
        let text = text(module);
        let body = text.split("#[cfg(test)]").next().unwrap_or_default();
        let cited = body.matches('§').count();
        assert!(cited * 66 >= body.lines().count(), "src/{module}: only {cited} citations of an RFC section");
    }
}
