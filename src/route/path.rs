//! Paths in one normal form, so that a prefix means the same to us as to the server behind (RFC 3986 6.2.2).

use std::borrow::Cow;

/// The path with dot-segments removed and percent-encoded unreserved characters decoded; `None` where it has no normal
/// form: a NUL, a broken escape, a `;` parameter on a dot-segment, or `..` that climbs out of the root. An encoded `/`
/// or `\`, and a plain `\`, are part of their segment. Without allocation where the path is already normal.
pub fn normalise(path: &str) -> Option<Cow<'_, str>> {
    let needs_work = path.contains('%') || path.contains("/.");
    if !needs_work {
        return Some(Cow::Borrowed(path));
    }
    let decoded = decode(path, Separators::Opaque)?;
    remove_dot_segments(&decoded).map(Cow::Owned)
}

/// The same for a server that takes `%2f`, `%5c` and `\` for `/`, and several of them for one.
pub fn normalise_lax(path: &str) -> Option<String> {
    let mut merged = decode(path, Separators::Slashes)?;
    while merged.contains("//") {
        merged = merged.replace("//", "/");
    }
    remove_dot_segments(&merged)
}

/// Whether there is one way to read a path, and it is as it stands: nothing encoded, no dot-segment, no separator that
/// hides. Most are.
pub fn is_plain(path: &str) -> bool {
    let mut before = 0;
    path.bytes().all(|byte| {
        let odd = matches!(byte, b'%' | b'\\') || (before == b'/' && matches!(byte, b'/' | b'.'));
        before = byte;
        !odd
    })
}

/// Whether the two ways to read a path can differ.
pub fn has_hidden_separator(path: &str) -> bool {
    path.contains('\\')
        || path.contains("//")
        || path
            .as_bytes()
            .windows(3)
            .any(|escape| matches!(escape, [b'%', b'2', b'f' | b'F'] | [b'%', b'5', b'c' | b'C']))
}

/// How an encoded `/` or `\`, and a plain `\`, are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Separators {
    /// As part of a segment (RFC 3986).
    Opaque,
    /// As what separates segments.
    Slashes,
}

/// Decodes `%41` and the like; upper-cases the hex digits of what stays encoded.
fn decode(path: &str, separators: Separators) -> Option<String> {
    let slashes = separators == Separators::Slashes;
    let mut out = String::with_capacity(path.len());
    let push_plain = |out: &mut String, text: &str| {
        if slashes { out.push_str(&text.replace('\\', "/")) } else { out.push_str(text) }
    };
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        push_plain(&mut out, before);
        let (hex, after) = after.split_at_checked(2)?;
        if !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        match u8::from_str_radix(hex, 16).ok()? {
            0 => return None,
            b'/' | b'\\' if slashes => out.push('/'),
            b if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~') => out.push(char::from(b)),
            _ => {
                out.push('%');
                out.push_str(&hex.to_ascii_uppercase());
            }
        }
        rest = after;
    }
    push_plain(&mut out, rest);
    Some(out)
}

/// RFC 3986 5.2.4, but climbing above the root is ambiguous instead of ignored.
fn remove_dot_segments(path: &str) -> Option<String> {
    let mut segments: Vec<&str> = Vec::new();
    let mut ends_in_slash = false;
    for segment in path.strip_prefix('/').unwrap_or(path).split('/') {
        ends_in_slash = false;
        match segment {
            "." => ends_in_slash = true,
            ".." => {
                segments.pop()?;
                ends_in_slash = true;
            }
            // Some servers cut `;params` off before they look for dots: `/..;/` climbs there and not here.
            _ if segment.starts_with(".;") || segment.starts_with("..;") => return None,
            _ => segments.push(segment),
        }
    }
    let mut out = String::with_capacity(path.len());
    for segment in &segments {
        out.push('/');
        out.push_str(segment);
    }
    if ends_in_slash || out.is_empty() {
        out.push('/');
    }
    Some(out)
}
