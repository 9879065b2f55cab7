//! Configurations as operators write them, good and bad: what they mean, and what is said about them.

mod canary;
mod egress;
mod files;
mod kinds;
mod listeners;
mod meaning;
mod mutations;
mod profiles;
mod routes;
mod show;
mod syntax;

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// A machine that is not there: files, who may read them, and variables.
#[derive(Debug, Default)]
struct FakeEnvironment {
    files: BTreeMap<PathBuf, Vec<u8>>,
    world_readable: BTreeSet<PathBuf>,
    variables: BTreeMap<String, String>,
    not_linux: bool,
}

impl FakeEnvironment {
    fn with_file(mut self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.files.insert(PathBuf::from(path), content.into());
        self
    }

    fn with_variable(self, name: &str) -> Self {
        self.with_value(name, "value")
    }

    fn with_value(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }
}

impl Environment for FakeEnvironment {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.files.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn is_world_readable(&self, path: &Path) -> bool {
        self.world_readable.contains(path)
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }

    fn redirects(&self) -> bool {
        !self.not_linux
    }
}

/// One mistake and what is said of it: text, line, key, part of what was found, part of the hint.
type Row<'a> = (&'a str, usize, &'a str, &'a str, &'a str);

/// Where relative paths in the tests' configurations begin.
const FOLDER: &str = "/etc/lanyard";

/// A profile that says only what it must, and a route to it.
const MINIMAL: &str = r#"
[profiles.p]
token_endpoint = "https://auth.example.com/token"
client_id = "client"
client_secret = { env = "SECRET" }

[[routes]]
host = "api.example.com"
profile = "p"
"#;

/// What the tests' configurations refer to.
fn machine() -> FakeEnvironment {
    FakeEnvironment::default().with_variable("SECRET").with_file("/etc/lanyard/secret", "file-secret\n")
}

fn parse_in(text: &str, environment: &FakeEnvironment) -> Result<Loaded, ConfigError> {
    parse(text, "proxy.toml", Path::new(FOLDER), environment)
}

/// A configuration without any problem.
fn good(text: &str) -> Config {
    match parse_in(text, &machine()) {
        Ok(loaded) => {
            assert!(loaded.warnings.is_empty(), "{text}\n{:#?}", loaded.warnings);
            loaded.config
        }
        Err(e) => panic!("{text}\n{e}"),
    }
}

/// The errors of a configuration that cannot be run.
fn errors(text: &str) -> Vec<Problem> {
    match parse_in(text, &machine()) {
        Ok(loaded) => panic!("no error in:\n{text}\nwarnings: {:#?}", loaded.warnings),
        Err(e) => e.errors().cloned().collect(),
    }
}

/// The warnings of a configuration that can be run.
fn warnings(text: &str, environment: &FakeEnvironment) -> Vec<Problem> {
    match parse_in(text, environment) {
        Ok(loaded) => loaded.warnings,
        Err(e) => panic!("{text}\n{e}"),
    }
}

#[track_caller]
fn assert_problem(problem: &Problem, (text, line, key, what, hint): Row<'_>) {
    let told = format!("in:\n{text}\nthere is:\n{problem}\n");
    assert_eq!(problem.line, Some(line), "line, {told}");
    assert_eq!(problem.key, key, "key, {told}");
    assert!(problem.what.contains(what), "no {what:?} {told}");
    assert!(problem.hint.contains(hint), "no hint {hint:?} {told}");
}

/// Every text has exactly the one error of its row.
fn assert_rows(rows: &[Row<'_>]) {
    for row in rows {
        let errors = errors(row.0);
        let [error] = errors.as_slice() else { panic!("{} errors in:\n{}\n{errors:#?}", errors.len(), row.0) };
        assert_problem(error, *row);
    }
}

/// The same where each text is the second line of a table that is otherwise good.
fn assert_lines(table: fn(&str) -> String, path: &str, rows: &[(&str, &str, &str, &str)]) {
    for (text, key, what, hint) in rows {
        let key = if key.is_empty() { path.to_owned() } else { format!("{path}.{key}") };
        assert_rows(&[(&table(text), 2, &key, what, hint)]);
    }
}

/// The default lines whose keys the given one does not write itself.
fn others(line: &str, defaults: &[&str]) -> String {
    let key = |line: &str| line.split(['=', ' ']).next().unwrap_or_default().to_owned();
    let own = key(line);
    defaults.iter().filter(|default| key(default) != own).map(|default| format!("{default}\n")).collect()
}

/// A good configuration with this as the second line, in `[profiles.p]`.
fn in_profile(line: &str) -> String {
    let defaults = [
        r#"token_endpoint = "https://auth.example.com/token""#,
        r#"client_id = "client""#,
        r#"client_secret = { env = "SECRET" }"#,
    ];
    let route = "[[routes]]\nhost = \"api.example.com\"\nprofile = \"p\"\n";
    format!("[profiles.p]\n{line}\n{}{route}", others(line, &defaults))
}

/// A good configuration with this as the second line, in the first `[[routes]]`.
fn in_route(line: &str) -> String {
    let profile = MINIMAL.split("[[routes]]").next().unwrap_or_default();
    format!("[[routes]]\n{line}\n{}{profile}", others(line, &["host = \"api.example.com\"", "profile = \"p\""]))
}

/// A good configuration with this as the second line, in the first `[[listeners]]`.
fn in_listener(line: &str) -> String {
    format!("[[listeners]]\n{line}\n{}{MINIMAL}", others(line, &["address = \"127.0.0.1:8080\""]))
}
