//! What happens to a request's header fields on the way out, but for the credential (`inject`).

use http::{HeaderMap, HeaderName, HeaderValue, Version, header};
use pingora::{Result, http::RequestHeader};

use super::admit::Fields;

/// `TE: trailers` is how a gRPC client says that it takes trailers, and some servers insist on it. pingora takes it out
/// with all that is meant for one connection only; only HTTP/2 carries trailers on to the client.
///
/// # Errors
/// None in practice.
pub fn restore_trailers(head: &mut RequestHeader, asked: &RequestHeader) -> Result<()> {
    let takes_trailers = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"trailers");
    if head.version == Version::HTTP_2 && asked.headers.get_all(header::TE).iter().any(takes_trailers) {
        head.insert_header(header::TE, "trailers")?;
    }
    Ok(())
}

/// Rewrites the head for its upstream. `credential`: the fields that are to carry it, which go out.
///
/// # Errors
/// None in practice: every name and value is legal.
pub fn rewrite(head: &mut RequestHeader, authority: &[u8], via: &HeaderValue, credential: &[HeaderName]) -> Result<()> {
    strip_hop_by_hop(head);
    for name in credential {
        remove_with_twins(head, name);
    }
    join_cookies(head)?;
    head.insert_header(header::HOST, authority)?;
    head.append_header("Via", via.clone())?;
    Ok(())
}

/// HTTP/2 may split cookies into fields of their own, which HTTP/1.1 may not have (RFC 9113 8.2.3).
fn join_cookies(head: &mut RequestHeader) -> Result<()> {
    let mut cookies = head.headers.get_all(header::COOKIE).iter();
    if let (Some(first), Some(second)) = (cookies.next(), cookies.next()) {
        let all: Vec<&[u8]> = [first, second].into_iter().chain(cookies).map(HeaderValue::as_bytes).collect();
        let joined = all.join(&b"; "[..]);
        head.insert_header(header::COOKIE, joined)?;
    }
    Ok(())
}

/// Takes out what is meant for a proxy or for one connection only, and what `Connection` names as such. What `Upgrade`
/// needs stays: pingora writes it anew for HTTP/1.1 and drops it for HTTP/2.
fn strip_hop_by_hop(head: &mut RequestHeader) {
    for name in &named_by_connection(&head.headers) {
        if *name != header::HOST {
            head.remove_header(name);
        }
    }
    for name in [header::PROXY_AUTHORIZATION, header::TE, HeaderName::from_static("keep-alive")] {
        // `TE: trailers` is how a gRPC client says that it takes trailers.
        if name != header::TE
            || !head.headers.get(&name).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"trailers"))
        {
            head.remove_header(&name);
        }
    }
    head.remove_header("proxy-connection");
    // A CGI-like server would read these as what frames the body.
    for name in [header::TRANSFER_ENCODING, header::CONTENT_LENGTH] {
        remove_twins(head, &name);
    }
}

/// What `Connection` names as meant for this connection only (RFC 9110 7.6.1), but for what an upgrade needs.
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let names = values.flat_map(|value| value.split(',')).filter_map(|name| HeaderName::try_from(name.trim()).ok());
    names.filter(|name| *name != header::UPGRADE).collect()
}

/// Removes every field of this name, and those that a CGI-like server would read as it (`Authorization_` is not one,
/// but `X_Api_Key` is `X-Api-Key` there).
fn remove_with_twins(head: &mut RequestHeader, name: &HeaderName) {
    head.remove_header(name);
    remove_twins(head, name);
}

fn remove_twins(head: &mut RequestHeader, name: &HeaderName) {
    let twins: Vec<HeaderName> = head.headers.keys().filter(|other| is_twin(other.as_str(), name)).cloned().collect();
    for twin in &twins {
        head.remove_header(twin);
    }
}

/// Whether two names are the same once `_` is read as `-` and trailing ones are cut.
pub(super) fn is_twin(other: &str, name: &HeaderName) -> bool {
    other.contains('_')
        && other
            .trim_end_matches(['_', '-'])
            .bytes()
            .map(|b| if b == b'_' { b'-' } else { b.to_ascii_lowercase() })
            .eq(name.as_str().bytes())
}

/// Whether a browser marks a request as coming from another site than the one it goes to (Fetch, section 3.2;
/// Fetch Metadata). Such a request gets no credential unless the listener allows it.
///
/// `host` is what the client named, in `Host` or `:authority`.
pub fn is_foreign<F: Fields + ?Sized>(fields: &F, host: Option<&[u8]>, target_host: &str) -> bool {
    if !fields.all(&SEC_FETCH_SITE).all(|site| matches!(site, b"same-origin" | b"none")) {
        return true;
    }
    fields.all(&header::ORIGIN).any(|origin| !origin_is(origin, host, target_host))
}

/// Whether an origin is that of the page's own host: what Host says, or the target.
fn origin_is(origin: &[u8], host: Option<&[u8]>, target_host: &str) -> bool {
    let Some((_, authority)) = std::str::from_utf8(origin).ok().and_then(|text| text.split_once("://")) else {
        return false; // "null", or something that is no origin
    };
    let same_as_host = host.is_some_and(|host| host.eq_ignore_ascii_case(authority.as_bytes()));
    let name = authority.rsplit_once(':').map_or(authority, |(name, _)| name);
    same_as_host || name.eq_ignore_ascii_case(target_host) || authority.eq_ignore_ascii_case(target_host)
}

/// Takes out of an answer what was meant for the connection to us only (pingora leaves these).
pub fn clean_answer(answer: &mut pingora::http::ResponseHeader) {
    for name in &named_by_connection(&answer.headers) {
        // How the body ends is for pingora to write anew.
        if !matches!(*name, header::TRANSFER_ENCODING | header::CONTENT_LENGTH) {
            answer.remove_header(name);
        }
    }
    for name in ["keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authentication-info"] {
        answer.remove_header(name);
    }
}

/// Fetch Metadata, section 2.4.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

#[cfg(test)]
mod tests {
    use super::*;

    fn head(fields: &[(&'static str, &str)]) -> RequestHeader {
        let mut head = RequestHeader::build("GET", b"/", None).unwrap();
        for (name, value) in fields {
            head.append_header(*name, *value).unwrap();
        }
        head
    }

    fn rewritten(fields: &[(&'static str, &str)], credential: &[HeaderName]) -> Vec<String> {
        let mut head = head(fields);
        rewrite(&mut head, b"api.example.com", &HeaderValue::from_static("1.1 lanyard"), credential).unwrap();
        let mut lines: Vec<String> =
            head.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        lines.sort();
        lines
    }

    #[test]
    fn what_is_for_a_proxy_or_a_connection_does_not_go_out() {
        let lines = rewritten(
            &[
                ("host", "wrong"),
                ("proxy-authorization", "Basic x"),
                ("proxy-connection", "keep-alive"),
                ("keep-alive", "timeout=5"),
                ("te", "gzip"),
                ("connection", "x-private, keep-alive"),
                ("x-private", "1"),
                ("transfer_encoding", "chunked"),
                ("content_length", "3"),
                ("accept", "*/*"),
                ("authorization", "Basic mine"),
            ],
            &[],
        );
        assert_eq!(
            lines,
            [
                "accept: */*",
                "authorization: Basic mine",
                "connection: x-private, keep-alive",
                "host: api.example.com",
                "via: 1.1 lanyard"
            ]
        );
    }

    #[test]
    fn a_stripped_request_has_no_credential_and_no_twin_of_it() {
        let lines = rewritten(
            &[("authorization", "a"), ("authorization", "b"), ("authorization_", "c"), ("te", "trailers")],
            &[header::AUTHORIZATION],
        );
        assert_eq!(lines, ["host: api.example.com", "te: trailers", "via: 1.1 lanyard"]);
        let key = HeaderName::from_static("x-api-key");
        assert_eq!(
            rewritten(&[("x_api_key", "a"), ("x-api_key", "b"), ("x-api-key2", "c")], &[key]),
            ["host: api.example.com", "via: 1.1 lanyard", "x-api-key2: c"]
        );
    }

    #[test]
    fn browsers_mark_foreign_requests() {
        for (fields, foreign) in [
            (&[][..], false),
            (&[("origin", "http://evil.test")], true),
            (&[("origin", "null")], true),
            (&[("origin", "http://localhost:9001"), ("host", "localhost:9001")], false),
            (&[("origin", "http://localhost:3000"), ("host", "localhost:9001")], true),
            (&[("origin", "https://api.example.com")], false),
            (&[("origin", "https://api.example.com.evil.test")], true),
            (&[("sec-fetch-site", "cross-site")], true),
            (&[("sec-fetch-site", "same-site")], true),
            (&[("sec-fetch-site", "same-origin")], false),
            (&[("sec-fetch-site", "none")], false),
            (&[("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")], true),
            (&[("sec-fetch-site", "something-new")], true),
        ] {
            let host = fields.iter().find(|(name, _)| *name == "host").map(|(_, host)| host.as_bytes());
            assert_eq!(is_foreign(&head(fields).headers, host, "api.example.com"), foreign, "{fields:?}");
        }
    }
}
