//! Reads TOML tables key by key and collects every problem, where a deserializer would stop at the first.

use std::{ops::Range, time::Duration};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{Problem, Severity};
use crate::secret::Secret;

/// A value and where it stands. No `Debug`, here and in the form of the file: any of it may be a secret.
#[derive(Clone)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) key: String,
    pub(super) line: usize,
}

impl<T> At<T> {
    /// The place alone.
    pub(super) fn place(&self) -> At<()> {
        self.with(())
    }

    /// Another value at this place.
    pub(super) fn with<U>(&self, value: U) -> At<U> {
        At { value, key: self.key.clone(), line: self.line }
    }
}

/// Collects the problems of one file.
pub(super) struct Reader<'a> {
    text: &'a str,
    file: &'a str,
    /// Where each line ends, bytes.
    line_ends: Vec<usize>,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str, file: &'a str) -> Self {
        let line_ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(place, _)| place).collect();
        Self { text, file, line_ends, problems: Vec::new() }
    }

    /// The text as TOML. `None` where it is none: what could still be read of it then may be the rest of a secret that
    /// lost a quote, taken for a key, and what is missing may only be misread.
    pub(super) fn document(&mut self) -> Option<DeTable<'a>> {
        let (document, errors) = DeTable::parse_recoverable(self.text);
        for error in errors {
            let line = error.span().map(|span| self.line(&span));
            self.push(Severity::Error, line, "", error.message(), "look at the TOML of this line (https://toml.io)");
        }
        (!self.has_errors()).then(|| document.into_inner())
    }

    pub(super) fn error<T>(&mut self, at: &At<T>, what: impl Into<String>, hint: impl AsRef<str>) {
        self.push(Severity::Error, Some(at.line), &at.key, &what.into(), hint.as_ref());
    }

    pub(super) fn warning<T>(&mut self, at: &At<T>, what: impl Into<String>, hint: impl AsRef<str>) {
        self.push(Severity::Warning, Some(at.line), &at.key, &what.into(), hint.as_ref());
    }

    fn push(&mut self, severity: Severity, line: Option<usize>, key: &str, what: &str, hint: &str) {
        self.problems.push(Problem {
            file: self.file.to_owned(),
            line,
            key: key.to_owned(),
            what: what.to_owned(),
            hint: hint.to_owned(),
            severity,
        });
    }

    pub(super) fn has_errors(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity == Severity::Error)
    }

    /// Whether an error was reported for this key: it is there then, and not missing besides.
    pub(super) fn is_wrong(&self, path: &str, name: &str) -> bool {
        let key = dotted(path, name);
        self.problems.iter().any(|problem| problem.severity == Severity::Error && problem.key == key)
    }

    /// In the order of the file.
    pub(super) fn into_problems(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|problem| problem.line);
        self.problems
    }

    fn line(&self, span: &Range<usize>) -> usize {
        1 + self.line_ends.partition_point(|end| *end < span.start)
    }

    pub(super) fn at<T>(&self, value: T, key: String, span: &Range<usize>) -> At<T> {
        At { value, key, line: self.line(span) }
    }

    /// Reports the keys of a table that are not among the known ones.
    pub(super) fn unknown_keys(&mut self, table: &DeTable<'_>, path: &str, known: &[&str]) {
        for (key, _) in table.iter() {
            let name = key.get_ref().as_ref();
            if !known.contains(&name) {
                let at = self.at((), dotted(path, name), &key.span());
                let hint = match nearest(name, known) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None if known.len() > MANY_KEYS => "docs/configuration.md has the keys of this table".to_owned(),
                    None => format!("the keys here are: {}", known.join(", ")),
                };
                self.error(&at, "unknown key", hint);
            }
        }
    }

    /// A key's value, if it is there and of its type.
    pub(super) fn value<T: Value>(&mut self, table: &DeTable<'_>, path: &str, name: &str) -> Option<At<T>> {
        let (key, value) = table.iter().find(|(key, _)| key.get_ref().as_ref() == name)?;
        let at = self.at((), dotted(path, name), &key.span());
        match T::read_at(self, value.get_ref(), &at.key) {
            Ok(value) => Some(At { value, key: at.key, line: at.line }),
            Err(found) => {
                self.error(&at, found, T::hint(value.get_ref()));
                None
            }
        }
    }

    /// The table of a key, or a problem.
    pub(super) fn table<'t, 'i>(
        &mut self,
        value: &'t Spanned<DeValue<'i>>,
        path: &str,
        write: &str,
    ) -> Option<&'t DeTable<'i>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            let at = self.at((), path.to_owned(), &value.span());
            self.error(&at, found(value.get_ref()), format!("write {write}"));
        }
        table
    }
}

/// A type that a key can have.
pub(super) trait Value: Sized {
    /// What to write, with an example.
    const EXPECTED: &'static str;
    /// Reads it, or says what was found. Never the text of a secret.
    fn read(value: &DeValue<'_>) -> Result<Self, String>;
    /// The same for what can be a table of its own, whose keys and lines are told.
    fn read_at(_reader: &mut Reader<'_>, value: &DeValue<'_>, _path: &str) -> Result<Self, String> {
        Self::read(value)
    }
    /// What to write in place of a value that cannot be read.
    fn hint(_value: &DeValue<'_>) -> String {
        format!("write {}", Self::EXPECTED)
    }
}

/// A list of strings, or one.
#[derive(Clone)]
pub(super) struct StringOrList(pub(super) Vec<String>);
/// A table of strings.
#[derive(Clone)]
pub(super) struct StringTable(pub(super) Vec<(String, String)>);
/// Bytes, written with their unit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size(pub(super) usize);
/// Where a secret comes from, as written.
#[derive(Clone)]
pub(super) enum SecretValue {
    File(String),
    Env(String),
    Literal(Secret),
}

/// Whose token is exchanged, as written.
#[derive(Clone)]
pub(super) enum SubjectValue {
    /// Always the same one's.
    Source(SecretValue),
    /// The field of a request that holds it.
    Header(String),
}
/// Claims of a JWT, as written.
#[derive(Clone)]
pub(super) struct Claims(pub(super) serde_json::Map<String, serde_json::Value>);

impl Value for String {
    const EXPECTED: &'static str = "a string: \"...\"";
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        value.as_str().map(str::to_owned).ok_or_else(|| found(value))
    }
}

impl Value for bool {
    const EXPECTED: &'static str = "true or false";
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        value.as_bool().ok_or_else(|| found(value))
    }
}

impl Value for usize {
    const EXPECTED: &'static str = "a whole number: 100";
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let number = value.as_integer().ok_or_else(|| found(value))?;
        let digits = number.as_str();
        Self::from_str_radix(digits, number.radix()).map_err(|_| format!("the number {digits}"))
    }
}

impl Value for Vec<usize> {
    const EXPECTED: &'static str = "a list of whole numbers: [401]";
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let list = value.as_array().ok_or_else(|| found(value))?;
        list.iter().map(|item| usize::read(item.get_ref())).collect()
    }
}

impl Value for Vec<String> {
    const EXPECTED: &'static str = "a list of strings: [\"...\"]";
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let list = value.as_array().ok_or_else(|| found(value))?;
        list.iter().map(|item| String::read(item.get_ref())).collect()
    }
}

impl Value for StringOrList {
    const EXPECTED: &'static str = "a string or a list of strings: \"...\" or [\"...\"]";
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        match value.as_str() {
            Some(text) => Ok(Self(vec![text.to_owned()])),
            None => Vec::read(value).map(Self),
        }
    }
}

impl Value for StringTable {
    const EXPECTED: &'static str = "a table of strings: { name = \"value\" }";
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let table = value.as_table().ok_or_else(|| found(value))?;
        let mut pairs = table
            .iter()
            .map(|(key, item)| {
                let name = key.get_ref().as_ref();
                String::read(item.get_ref())
                    .map(|v| (name.to_owned(), v))
                    .map_err(|_| format!("{} for {}", kind(item.get_ref()), name.escape_debug()))
            })
            .collect::<Result<Vec<_>, _>>()?;
        pairs.sort();
        Ok(Self(pairs))
    }
}

impl Value for Duration {
    const EXPECTED: &'static str = "a duration with its unit: \"500ms\", \"30s\", \"5m\" or \"1h\", at most a year";
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let text = value.as_str().ok_or_else(|| found(value))?;
        let (number, unit) = number_and_unit(text).ok_or_else(|| format!("the string {text:?}"))?;
        let millis = match unit {
            "ms" => Some(1),
            "s" => Some(1000),
            "m" => Some(60 * 1000),
            "h" => Some(60 * 60 * 1000),
            _ => None,
        };
        let millis = millis.and_then(|unit: u64| number.checked_mul(unit)).filter(|all| *all <= MAX_MILLIS);
        millis.map(Self::from_millis).ok_or_else(|| format!("the string {text:?}"))
    }

    /// Seconds are what a bare number mostly means.
    fn hint(value: &DeValue<'_>) -> String {
        match bare_number(value).filter(|seconds| *seconds <= MAX_MILLIS / 1000) {
            Some(seconds) => format!("write a duration with its unit: \"{seconds}s\""),
            None => format!("write {}", Self::EXPECTED),
        }
    }
}

impl Value for Size {
    const EXPECTED: &'static str = "a size with its unit: \"512B\", \"64KiB\" or \"1MiB\"";
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let text = value.as_str().ok_or_else(|| found(value))?;
        let (number, unit) = number_and_unit(text).ok_or_else(|| format!("the string {text:?}"))?;
        let bytes = match unit {
            "B" => Some(1),
            "KiB" => Some(1024),
            "MiB" => Some(1024 * 1024),
            _ => None,
        };
        let bytes = bytes.and_then(|unit: u64| number.checked_mul(unit)).and_then(|all| usize::try_from(all).ok());
        bytes.map(Self).ok_or_else(|| format!("the string {text:?}"))
    }

    /// Bytes are what a bare number means.
    fn hint(value: &DeValue<'_>) -> String {
        let (number, unit) = match bare_number(value) {
            None => return format!("write {}", Self::EXPECTED),
            Some(bytes) if bytes.is_multiple_of(1024 * 1024) => (bytes / (1024 * 1024), "MiB"),
            Some(bytes) if bytes.is_multiple_of(1024) => (bytes / 1024, "KiB"),
            Some(bytes) => (bytes, "B"),
        };
        format!("write a size with its unit: \"{number}{unit}\"")
    }
}

impl Value for SecretValue {
    const EXPECTED: &'static str = "{ file = \"/run/secrets/...\" } or { env = \"NAME\" }";
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        if let Some(text) = value.as_str() {
            return Ok(Self::Literal(Secret::new(text)));
        }
        let table = value.as_table().ok_or_else(|| kind(value))?;
        let mut entries = table.iter();
        let (Some((key, item)), None) = (entries.next(), entries.next()) else {
            return Err("a table that does not have exactly one of `file` and `env`".to_owned());
        };
        let text = item.get_ref().as_str().map(str::to_owned);
        match (key.get_ref().as_ref(), text) {
            ("file" | "env", Some(text)) if text.trim().is_empty() => Err(format!("`{}` that is empty", key.get_ref())),
            ("file", Some(path)) => Ok(Self::File(path)),
            ("env", Some(name)) => Ok(Self::Env(name)),
            ("file" | "env", None) => Err(format!("`{}` that is no string", key.get_ref())),
            (other, _) => Err(format!("a table with the key `{}`", other.escape_debug())),
        }
    }
}

impl Value for SubjectValue {
    const EXPECTED: &'static str =
        "{ header = \"Authorization\" } (that of each request), { file = \"/run/secrets/...\" } or { env = \"NAME\" }";
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let header = value.as_table().and_then(|table| {
            let mut entries = table.iter();
            let (Some((key, item)), None) = (entries.next(), entries.next()) else { return None };
            (key.get_ref() == "header").then(|| item.get_ref().as_str().map(str::to_owned))
        });
        match header {
            Some(Some(name)) => Ok(Self::Header(name)),
            Some(None) => Err("`header` that is no string".to_owned()),
            None => SecretValue::read(value).map(Self::Source),
        }
    }
}

impl Value for Claims {
    const EXPECTED: &'static str = "a table of claims: { iss = \"...\", sub = \"...\", aud = \"...\" }";
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        match json(value)? {
            serde_json::Value::Object(claims) => Ok(Self(claims)),
            _ => Err(kind(value)),
        }
    }
}

/// A value of TOML as one of JSON.
fn json(value: &DeValue<'_>) -> Result<serde_json::Value, String> {
    Ok(match value {
        DeValue::String(text) => text.as_ref().into(),
        DeValue::Boolean(truth) => (*truth).into(),
        DeValue::Integer(number) => {
            let digits = number.as_str();
            let number = i64::from_str_radix(digits, number.radix());
            number.map_err(|_| format!("the number {digits}, which is too large"))?.into()
        }
        DeValue::Array(list) => {
            let list: Result<Vec<_>, _> = list.iter().map(|item| json(item.get_ref())).collect();
            list?.into()
        }
        DeValue::Table(table) => {
            let members: Result<serde_json::Map<_, _>, String> =
                table.iter().map(|(key, item)| Ok((key.get_ref().to_string(), json(item.get_ref())?))).collect();
            members?.into()
        }
        DeValue::Float(_) | DeValue::Datetime(_) => return Err(format!("{} among the claims", kind(value))),
    })
}

/// `30s` as 30 and `s`; `None` where it is not a plain number and letters.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit))
}

/// A number above zero that only lacks its unit, quoted or not.
fn bare_number(value: &DeValue<'_>) -> Option<u64> {
    let number = match value {
        DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix()).ok(),
        DeValue::String(text) => number_and_unit(text).filter(|(_, unit)| unit.is_empty()).map(|(number, _)| number),
        _ => None,
    };
    number.filter(|number| *number > 0)
}

/// What was found, short. Numbers are shown: what may hold a secret says its [`kind`] alone.
fn found(value: &DeValue<'_>) -> String {
    match value {
        DeValue::Integer(number) => format!("the number {}", number.as_str()),
        DeValue::Float(number) => format!("the number {}", number.as_str()),
        DeValue::Boolean(value) => format!("{value}"),
        other => kind(other),
    }
}

/// The type that was found, with its article.
pub(super) fn kind(value: &DeValue<'_>) -> String {
    let noun = value.type_str();
    let article = if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {noun}")
}

/// The known word that was probably meant.
pub(super) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let distances = known.iter().map(|k| (strsim::damerau_levenshtein(&word.to_ascii_lowercase(), k), *k));
    let (distance, near) = distances.min_by_key(|(distance, _)| *distance)?;
    let close = distance <= (word.len() / 3).max(1);
    let begins = word.len() >= 4 && known.iter().filter(|k| k.starts_with(word)).count() == 1;
    if close {
        return Some(near);
    }
    if begins { known.iter().find(|k| k.starts_with(word)).copied() } else { None }
}

/// A key below a path, quoted where TOML needs it.
pub(super) fn dotted(path: &str, name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    let name = if bare { name.to_owned() } else { format!("{name:?}") };
    if path.is_empty() { name } else { format!("{path}.{name}") }
}

/// More keys than this are not told one by one.
const MANY_KEYS: usize = 20;
/// A year: longer is a slip of the pen.
const MAX_MILLIS: u64 = 366 * 24 * 60 * 60 * 1000;
