//! The configuration that is shipped, and what becomes of it when it is changed by hand, by accident and by chance.

use super::*;

const SHIPPED: &str = include_str!("../../../proxy.toml");
const PROFILES: &str = include_str!("../../../docs/profiles.toml");

fn shipped_machine() -> FakeEnvironment {
    let ca = rcgen::generate_simple_self_signed(["ca.test".to_owned()]).unwrap();
    machine()
        .with_variable("BILLING_CLIENT_SECRET")
        .with_variable("EGRESS_PROXY_PASSWORD")
        .with_variable("LOCAL_CLIENT_SECRET")
        .with_file("/etc/lanyard/ca.pem", ca.cert.pem())
}

/// The lines that are a commented key or table, from 0.
fn commented() -> Vec<usize> {
    let is_one = |line: &str| {
        let Some(rest) = line.strip_prefix("# ") else { return false };
        let key = rest.split(" = ").next().unwrap_or_default();
        let is_key = rest.contains(" = ") && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        is_key || rest.starts_with('[')
    };
    SHIPPED.lines().enumerate().filter(|(_, line)| is_one(line)).map(|(number, _)| number).collect()
}

/// The shipped file with some of its lines uncommented.
fn uncommented(numbers: &[usize]) -> String {
    let open = |(number, line): (usize, &'static str)| match line.strip_prefix("# ") {
        Some(rest) if numbers.contains(&number) => format!("{rest}\n"),
        _ => format!("{line}\n"),
    };
    SHIPPED.lines().enumerate().map(open).collect()
}

fn everything() -> String {
    uncommented(&commented())
}

#[test]
fn the_shipped_file_is_good() {
    assert_eq!(warnings(SHIPPED, &shipped_machine()), []);
}

#[test]
fn the_shipped_file_is_good_with_every_comment_opened() {
    let text = everything();
    assert_eq!(warnings(&text, &shipped_machine()), []);
    // Every key is in it, or in the file that has a profile of every kind.
    for key in file::all_keys() {
        let is_it = |line: &str| line.starts_with(&format!("{key} = "));
        assert!(text.lines().chain(PROFILES.lines()).any(is_it), "{key}");
    }
}

#[test]
fn the_profiles_of_every_kind_are_good() {
    // Every file that is named is there.
    let mut machine = machine();
    for path in PROFILES.split('"').filter(|text| text.starts_with('/')) {
        machine = machine.with_file(path, "secret");
    }
    assert_eq!(warnings(PROFILES, &machine), []);
    let config = parse_in(PROFILES, &machine).unwrap().config;
    assert_eq!(config.profiles.len(), PROFILES.matches("[profiles.").count());
    // What is said to be the default is.
    let commented: Vec<&str> = PROFILES.lines().filter(|line| line.contains("# the default")).collect();
    assert!(commented.len() > 8, "{commented:?}");
    for line in commented {
        let without = PROFILES.replacen(line, "", 1);
        let mut other = parse_in(&without, &machine).unwrap().config;
        for (route, same) in other.routes.iter_mut().zip(&config.routes) {
            route.line = same.line;
        }
        // Not where it is.
        if !line.starts_with("metadata_endpoint") {
            assert_eq!(other.profiles, config.profiles, "{line}");
        }
    }
}

#[test]
fn the_shipped_file_is_good_with_any_one_comment_opened() {
    let lines: Vec<&str> = SHIPPED.lines().collect();
    let numbers = commented();
    assert!(numbers.len() > 40, "{numbers:?}");
    let mut table = None;
    for number in numbers {
        let line = lines[number].trim_start_matches("# ");
        // A key of a commented table comes with its table, and a listener with its address.
        let blank_before = lines[..number].iter().rposition(|line| line.is_empty()).unwrap_or(0);
        if line.starts_with('[') {
            table = Some(number);
        }
        let mut open: Vec<usize> = vec![number];
        if let Some(table) = table.filter(|table| *table > blank_before) {
            open.push(table);
            if lines[table].contains("[[listeners]]") || lines[table].contains("[token_endpoint]") {
                open.extend([table + 1, table + 2]);
            }
            // A proxy needs its URL, and a name its password.
            if lines[table].contains("[egress_proxy]") {
                open.extend(table + 1..=table + 3);
            }
        }
        let text = uncommented(&open);
        assert_eq!(warnings(&text, &shipped_machine()), [], "{line}");
    }
}

#[test]
fn shipped_comments_name_the_defaults() {
    let plain = parse_in(SHIPPED, &shipped_machine()).unwrap().config;
    let lines: Vec<&str> = SHIPPED.lines().collect();
    // What is commented out with another value than its default is an example.
    let examples = [
        "audience",
        "resource",
        "params",
        "headers",
        "ca_file",
        "egress_proxy",
        "url",
        "username",
        "password",
        "no_proxy",
        "environment",
        "idle_after",
        "profiles",
        "client_secret",
        "scope",
        "path_prefix",
        "methods",
        "upstream",
        "server_name",
        "format",
        "address",
        "allowed_hosts",
        "allow_browsers",
        "transparent",
        "directory",
        "level", // of servers: `exec` has another
    ];
    let is_single = |number: &usize| {
        let line = lines[*number];
        line.starts_with("# [")
            && !line.contains("[[")
            && !line.contains("[egress_proxy]")
            && !line.contains("[token_endpoint]")
    };
    let single: Vec<usize> = commented().into_iter().filter(is_single).collect();
    for number in commented() {
        let key = lines[number].trim_start_matches("# ").split(" = ").next().unwrap_or_default();
        if key.starts_with('[') || examples.contains(&key) {
            continue;
        }
        let mut open = single.clone();
        open.push(number);
        let mut changed = parse_in(&uncommented(&open), &shipped_machine()).unwrap().config;
        for (route, other) in changed.routes.iter_mut().zip(&plain.routes) {
            route.line = other.line;
        }
        assert_eq!(changed, plain, "{key}");
    }
}

#[test]
fn an_unknown_key_is_found_in_every_table() {
    let text = everything();
    let lines: Vec<&str> = text.lines().collect();
    let mut tables = 0;
    for (number, line) in lines.iter().enumerate().filter(|(_, line)| line.starts_with('[')) {
        tables += 1;
        let mut changed = lines.clone();
        changed.insert(number + 1, "colour = \"blue\"");
        let error = parse_in(&changed.join("\n"), &shipped_machine()).unwrap_err();
        let [problem] = error.0.as_slice() else { panic!("{line}: {error}") };
        assert_eq!(problem.line, Some(number + 2), "{line}");
        assert!(problem.key.ends_with(".colour"), "{line}: {problem}");
        assert_eq!(problem.what, "unknown key");
        let told = ["the keys here are: ", "docs/configuration.md has the keys"];
        assert!(told.iter().any(|told| problem.hint.starts_with(told)), "{problem}");
    }
    assert_eq!(tables, 12);
}

#[test]
fn a_slip_in_every_key_is_found_at_its_line() {
    let text = everything();
    let lines: Vec<&str> = text.lines().collect();
    for (number, line) in lines.iter().enumerate() {
        let Some((key, value)) = line.split_once(" = ").filter(|(key, _)| !key.starts_with('#')) else { continue };
        let slipped = format!("x{key} = {value}");
        let mut changed = lines.clone();
        changed[number] = &slipped;
        let told = parse_in(&changed.join("\n"), &shipped_machine()).unwrap_err();
        let found = told.errors().find(|problem| problem.what == "unknown key").unwrap();
        assert_eq!(found.line, Some(number + 1), "{slipped}");
        assert_eq!(found.hint, format!("did you mean `{key}`?"));
    }
}

/// Neither a panic nor a problem without a hint; whether it is good does not matter.
fn assert_orderly(text: &str, environment: &FakeEnvironment) {
    let problems = match parse_in(text, environment) {
        Ok(loaded) => loaded.warnings,
        Err(e) => {
            assert!(e.errors().count() > 0, "{text}");
            e.0
        }
    };
    let lines = text.split('\n').count();
    for problem in &problems {
        assert!(!problem.hint.is_empty() && !problem.what.is_empty(), "{problem}\nin:\n{text}");
        assert!(problem.line.is_some_and(|line| (1..=lines).contains(&line)), "{problem}\nin:\n{text}");
    }
    assert!(problems.is_sorted_by_key(|problem| problem.line), "{problems:#?}");
}

#[test]
fn a_file_that_was_cut_off_anywhere() {
    let (text, environment) = (everything(), shipped_machine());
    for end in 0..text.len() {
        assert_orderly(text.get(..end).unwrap(), &environment);
    }
}

#[test]
fn bytes_that_were_changed_by_chance() {
    let (text, environment) = (everything(), shipped_machine());
    let mut random = fastrand::Rng::with_seed(20_240_607);
    // What TOML and our values are made of turns up more often than other bytes.
    let likely = b"[]{}=\"'#.,\\\n\r\t :/*@%-_0x9sT\x00\x7f\xc3\xa9";
    for _ in 0..2_000 {
        let mut bytes = text.clone().into_bytes();
        for _ in 0..random.usize(1..=4) {
            let place = random.usize(0..bytes.len());
            let byte = if random.bool() { likely[random.usize(0..likely.len())] } else { random.u8(..) };
            match random.u8(0..3) {
                0 => bytes[place] = byte,
                1 => bytes.insert(place, byte),
                _ => {
                    bytes.remove(place);
                }
            }
        }
        assert_orderly(&String::from_utf8_lossy(&bytes), &environment);
    }
}
