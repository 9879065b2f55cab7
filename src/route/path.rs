//! Paths in one normal form, so that a prefix means the same to us as to the server behind (RFC 3986 6.2.2).

use std::borrow::Cow;

/// The path with dot-segments removed and percent-encoded unreserved characters decoded; `None` where it stays
/// ambiguous: `%2f`, `%5c`, a backslash, a NUL, a broken escape, a `;` parameter on a dot-segment, or `..` that climbs
/// out of the root. Without allocation where the path is already normal.
pub fn normalise(path: &str) -> Option<Cow<'_, str>> {
    let needs_work = path.bytes().any(|b| matches!(b, b'%' | b'\\')) || path.contains("/.");
    if !needs_work {
        return Some(Cow::Borrowed(path));
    }
    let decoded = decode_unreserved(path)?;
    remove_dot_segments(&decoded).map(Cow::Owned)
}

/// Decodes `%41` and the like; upper-cases the hex digits of what stays encoded.
fn decode_unreserved(path: &str) -> Option<String> {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        if before.contains('\\') {
            return None;
        }
        out.push_str(before);
        let (hex, after) = after.split_at_checked(2)?;
        if !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let byte = u8::from_str_radix(hex, 16).ok()?;
        match byte {
            b'/' | b'\\' | 0 => return None,
            b if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~') => out.push(char::from(b)),
            _ => {
                out.push('%');
                out.push_str(&hex.to_ascii_uppercase());
            }
        }
        rest = after;
    }
    if rest.contains('\\') {
        return None;
    }
    out.push_str(rest);
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
