//! A credential as a query parameter: found, taken out and written. The rest of a query stays as it came, byte for byte.

use std::borrow::Cow;

use crate::secret::Secret;

/// Text as the value of a query parameter: all but unreserved characters (RFC 3986 2.3) percent-encoded.
pub fn encode(text: &Secret) -> Secret {
    Secret::new(encoded(text.expose()))
}

/// The same for the name of a parameter, which is no secret.
pub fn encoded(text: &str) -> String {
    // Grown by hand, the buffer would leave pieces of a secret behind.
    let mut out = String::with_capacity(text.len() * 3);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push('%');
            for digit in [byte >> 4, byte & 15] {
                out.push(char::from_digit(u32::from(digit), 16).unwrap_or('0').to_ascii_uppercase());
            }
        }
    }
    out
}

/// Whether a query has this parameter, however its name is encoded.
pub fn has(path_and_query: &str, parameter: &str) -> bool {
    path_and_query.split_once('?').is_some_and(|(_, query)| query.split('&').any(|pair| is(pair, parameter)))
}

/// The path and query without this parameter, wherever it stands.
pub fn without<'a>(path_and_query: &'a str, parameter: &str) -> Cow<'a, str> {
    let Some((path, query)) = path_and_query.split_once('?') else { return Cow::Borrowed(path_and_query) };
    if !query.split('&').any(|pair| is(pair, parameter)) {
        return Cow::Borrowed(path_and_query);
    }
    let left: Vec<&str> = query.split('&').filter(|pair| !is(pair, parameter)).collect();
    Cow::Owned(if left.is_empty() { path.to_owned() } else { format!("{path}?{}", left.join("&")) })
}

/// What stands between a query, or a path without one, and one more parameter.
pub fn separator(path_and_query: &str) -> &'static str {
    match path_and_query.split_once('?') {
        None => "?",
        Some((_, "")) => "",
        Some((_, query)) if query.ends_with('&') => "",
        Some(_) => "&",
    }
}

/// Whether a `name=value` has this name, which is percent-encoded. Servers read `+` as a space, and escapes in any case.
fn is(pair: &str, parameter: &str) -> bool {
    let name = pair.split_once('=').map_or(pair, |(name, _)| name);
    if name == parameter {
        return true;
    }
    // Most names are as they stand, and nothing has to be decoded for them.
    let is_plain = |text: &str| !text.contains(['%', '+']);
    if is_plain(name) && is_plain(parameter) {
        return false;
    }
    form_urlencoded::parse(name.as_bytes())
        .next()
        .is_some_and(|(decoded, _)| encoded(&decoded) == parameter && !decoded.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_encoded() {
        for (text, expected) in
            [("abc-._~09", "abc-._~09"), ("a b&c=d+e%/?#", "a%20b%26c%3Dd%2Be%25%2F%3F%23"), ("é", "%C3%A9")]
        {
            assert_eq!(encode(&Secret::new(text)).expose(), expected);
        }
    }

    #[test]
    fn a_parameter_is_found_and_taken_out_however_it_is_written() {
        for (before, expected) in [
            ("/p", None),
            ("/p?", None),
            ("/p?keys=1&api_keyx=2", None),
            ("/p?x=api_key", None),
            ("/p?api_key=1", Some("/p")),
            ("/p?api_key", Some("/p")),
            ("/p?a=1&api_key=2&b=%20", Some("/p?a=1&b=%20")),
            ("/p?api%5Fkey=2&a", Some("/p?a")),
            ("/p?%61pi_key=1&api_key=2&&c=", Some("/p?&c=")),
        ] {
            assert_eq!(has(before, "api_key"), expected.is_some(), "{before}");
            assert_eq!(without(before, "api_key"), expected.unwrap_or(before), "{before}");
        }
    }

    #[test]
    fn one_more_parameter_is_set_apart() {
        for (before, expected) in [("/p", "?"), ("/p?", ""), ("/p?a=1", "&"), ("/p?a=1&", "")] {
            assert_eq!(separator(before), expected, "{before}");
        }
    }
}
