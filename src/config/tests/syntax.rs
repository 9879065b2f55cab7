//! Text that is no TOML, tables that are none of ours, and where each problem is said to be.

use super::*;

#[test]
fn tables_and_keys_at_the_top() {
    assert_rows(&[
        ("[limit]\nmax_connections = 1\n", 1, "limit", "unknown key", "did you mean `limits`?"),
        ("\n[[route]]\nhost = \"a\"\n", 2, "route", "unknown key", "did you mean `routes`?"),
        ("\n[profile.p]\nclient_id = \"a\"\n", 2, "profile", "unknown key", "did you mean `profiles`?"),
        ("[telemetry]\n", 1, "telemetry", "unknown key", "the keys here are: listeners, admin, token_endpoint"),
        ("\"a\\u001bb\" = 1\n", 1, "\"a\\u{1b}b\"", "unknown key", "the keys here are"),
        ("[listeners]\naddress = \"x\"\n", 1, "listeners", "a single table", "write [[listeners]]"),
        ("[routes]\nhost = \"x\"\n", 1, "routes", "a single table", "write [[routes]]"),
        ("routes = \"x\"\n", 1, "routes", "a string", "write [[routes]]"),
        ("routes = [\n  \"x\",\n]\n", 2, "routes[0]", "a string", "write [[routes]]"),
        ("[[profiles]]\nname = \"p\"\n", 1, "profiles", "an array", "write [profiles.NAME]"),
        ("[profiles]\np = \"secret\"\n", 2, "profiles.p", "a string", "write [profiles.NAME]"),
        ("log = true\n", 1, "log", "true", "write [log]"),
    ]);
}

#[test]
fn text_that_is_no_toml() {
    for (text, line) in [
        ("\n[admin\naddress = \"x\"\n", 2),
        ("\n\n= 1\n", 3),
        ("[log]\nlevel = info\n", 2),
        ("[log]\nlevel = \"info\n", 2),
        ("[log]\nlevel = \"info\"\nlevel = \"info\"\n", 3),
        ("[log]\n\n[admin]\n\n[log]\n", 5),
        ("[log]\r\n\r\nlevel = \r\n", 3),
        ("[log]\naccess = true access\n", 2),
        ("[log]\n\u{0}\n", 2),
    ] {
        let errors = errors(text);
        let first = errors.first().unwrap();
        assert_eq!((first.line, first.key.as_str()), (Some(line), ""), "{text}\n{errors:#?}");
        assert!(!first.what.is_empty() && first.hint.contains("toml.io"), "{first}");
    }
}

#[test]
fn a_byte_order_mark_and_other_line_ends_are_no_problem() {
    good(&format!("\u{feff}{MINIMAL}"));
    good(&MINIMAL.replace('\n', "\r\n"));
    let text = "\u{feff}[log]\r\n\r\nacces = true\r\n";
    assert_rows(&[(text, 3, "log.acces", "unknown key", "did you mean `access`?")]);
}

#[test]
fn several_problems_are_told_in_the_order_of_the_file() {
    let text = r#"
[[routes]]
host = "a.test"
profile = "none"
methods = ["get"]

[[routes]]
profile = "biling"
host = "*.com"
timeout = "5s"

[limits]
max_headers = 0

# inline tables and dotted keys count as well
[profiles]
billing = { client_id = "x", client_secret = { env = "SECRET" },
    token_endpoint = "x",
    timeout = 10 }
other.client_idd = "x"

[log]
level = "x"

[[routes]]
host = "b.test"
profile = 1
"#;
    let expected = [
        (5, "routes[0].methods"),
        (8, "routes[1].profile"),
        (9, "routes[1].host"),
        (10, "routes[1].timeout"),
        (13, "limits.max_headers"),
        (18, "profiles.billing.token_endpoint"),
        (19, "profiles.billing.timeout"),
        (20, "profiles.other.client_idd"),
        (20, "profiles.other"),
        (20, "profiles.other"),
        (20, "profiles.other"),
        (23, "log.level"),
        (27, "routes[2].profile"),
    ];
    let told = errors(text);
    let told: Vec<_> = told.iter().map(|problem| (problem.line.unwrap(), problem.key.as_str())).collect();
    assert_eq!(told, expected);
}

#[test]
fn syntax_errors_are_told_before_all_else() {
    let text = "[log]\nlevel = \"x\"\n[admin\n[limits]\nmax_headers = 0\nmax_connections = ten\n";
    let lines: Vec<_> = errors(text).iter().map(|problem| problem.line.unwrap()).collect();
    assert_eq!(lines, [3, 6]);
}
