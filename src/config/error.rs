//! What is wrong with a configuration, shown for a terminal. Never the value of a secret.

use std::fmt;

/// One thing that is wrong, or worth a second look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file as it was named.
    pub file: String,
    /// From 1; `None`: the whole file.
    pub line: Option<usize>,
    /// The dotted key: `profiles.billing.scope`, `routes[2].host`; empty: the whole file.
    pub key: String,
    /// What was found.
    pub what: String,
    /// What to write instead.
    pub hint: String,
    /// Whether it keeps the configuration from running.
    pub severity: Severity,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The configuration cannot be run.
    Error,
    /// It can, but may not do what is meant.
    Warning,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        f.write_str(": ")?;
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}\n    hint: {}", self.what, self.hint)
    }
}

/// Every problem of a configuration, errors and warnings, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(pub Vec<Problem>);

impl ConfigError {
    /// One problem of the whole file.
    pub(super) fn whole_file(file: &str, what: String, hint: &str) -> Self {
        Self(vec![Problem {
            file: file.to_owned(),
            line: None,
            key: String::new(),
            what,
            hint: hint.to_owned(),
            severity: Severity::Error,
        }])
    }

    /// The errors alone.
    pub fn errors(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter().filter(|problem| problem.severity == Severity::Error)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.0 {
            writeln!(f, "{problem}")?;
        }
        let count = self.errors().count();
        write!(f, "{count} {}", if count == 1 { "problem" } else { "problems" })
    }
}

impl std::error::Error for ConfigError {}
