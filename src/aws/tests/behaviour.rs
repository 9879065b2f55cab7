//! What the vectors do not say.

use std::time::{Duration, SystemTime};

use http::HeaderMap;

use super::{Payload, field, headers, parts, request, sign, suite_credentials, suite_time};
use crate::{
    aws::{
        Credentials, Request, SignError, Signer,
        canonical::{self, PathStyle},
    },
    secret::Secret,
};

/// Lines of a canonical request: path and query.
fn path_and_query(style: PathStyle, target: &str) -> (String, String) {
    let headers = HeaderMap::new();
    let request = request("GET", target, &headers, Payload::Unsigned);
    let text = String::from_utf8(canonical::request(style, &request, &[], "").text).unwrap();
    let mut lines = text.lines().skip(1).map(str::to_owned);
    (lines.next().unwrap(), lines.next().unwrap())
}

#[test]
fn paths_are_encoded_once_for_s3_and_once_more_for_others() {
    let cases = [
        // What is on the wire, for S3, for others.
        ("/a%20b", "/a%20b", "/a%2520b"),
        ("/a%2fb", "/a/b", "/a%252fb"),
        ("/%7Euser", "/~user", "/%257Euser"),
        ("/a+b:c", "/a%2Bb%3Ac", "/a%2Bb%3Ac"),
        ("/%E4%BD%A0", "/%E4%BD%A0", "/%25E4%25BD%25A0"),
        ("/100%", "/100%25", "/100%25"),
        ("/%zz%4", "/%25zz%254", "/%25zz%254"),
        ("/a//b/./c/../d/", "/a//b/./c/../d/", "/a/b/d/"),
        ("/..", "/..", "/"),
        ("", "/", "/"),
        ("/a/b/..", "/a/b/..", "/a"),
    ];
    for (wire, s3, others) in cases {
        assert_eq!(path_and_query(PathStyle::Object, wire).0, s3);
        assert_eq!(path_and_query(PathStyle::Normalized, wire).0, others);
    }
}

#[test]
fn queries_are_sorted_after_they_are_encoded_alike() {
    let cases = [
        ("b=2&a=1&a=0&a", "a=&a=0&a=1&b=2"),
        ("a=x+y&a=x%20z", "a=x%20y&a=x%20z"),
        ("k=%7e%2f/", "k=~%2F%2F"),
        ("k=a=b", "k=a%3Db"),
        ("=v&&k", "=v&k="),
        ("ab=1&a=2&a-b=3", "a=2&a-b=3&ab=1"),
        ("k=%", "k=%25"),
    ];
    for (wire, canonical) in cases {
        assert_eq!(path_and_query(PathStyle::Normalized, &format!("/?{wire}")).1, canonical, "{wire}");
    }
}

#[test]
fn what_changes_on_the_way_is_not_signed_and_the_rest_is() {
    let fields = headers(&[
        ("accept", "*/*"),
        ("accept-encoding", "gzip"),
        ("authorization", "placeholder"),
        ("connection", "keep-alive"),
        ("content-length", "0"),
        ("content-md5", "x"),
        ("content-type", "text/plain"),
        ("expect", "100-continue"),
        ("forwarded", "for=a"),
        ("host", "another.example"),
        ("te", "trailers"),
        ("traceparent", "00-x"),
        ("transfer-encoding", "chunked"),
        ("user-agent", "curl"),
        ("via", "1.1 x"),
        ("x-amz-acl", "private"),
        ("x-amz-content-sha256", "of the client"),
        ("x-amz-date", "of the client"),
        ("x-amz-security-token", "of the client"),
        ("x-amzn-trace-id", "x"),
        ("x-b3-traceid", "x"),
        ("x-forwarded-for", "x"),
    ]);
    let credentials = Credentials { session_token: Some(Secret::new("t")), ..suite_credentials() };
    let signed = Signer::new("us-east-1", "s3")
        .unwrap()
        .sign(&request("GET", "/", &fields, Payload::Unsigned), &credentials, suite_time())
        .unwrap();
    assert_eq!(
        parts(&signed).0,
        "accept;content-md5;content-type;host;x-amz-acl;x-amz-content-sha256;x-amz-date;x-amz-security-token"
    );
    // The signature is that of the same request without all that.
    let plain =
        headers(&[("accept", "*/*"), ("content-md5", "x"), ("content-type", "text/plain"), ("x-amz-acl", "private")]);
    let same = Signer::new("us-east-1", "s3")
        .unwrap()
        .sign(&request("GET", "/", &plain, Payload::Unsigned), &credentials, suite_time())
        .unwrap();
    assert_eq!(parts(&signed), parts(&same));
}

#[test]
fn a_request_without_a_signed_body_says_so_to_every_service() {
    let headers = HeaderMap::new();
    for (payload, text) in
        [(Payload::Unsigned, "UNSIGNED-PAYLOAD"), (Payload::UnsignedTrailer, "STREAMING-UNSIGNED-PAYLOAD-TRAILER")]
    {
        let signed = sign(&request("POST", "/", &headers, payload));
        assert_eq!(field(&signed, "x-amz-content-sha256"), Some(text));
        assert_eq!(parts(&signed).0, "host;x-amz-content-sha256;x-amz-date");
        assert_eq!(Payload::from_field(text), Some(payload));
    }
    let Payload::Sha256(_) = Payload::of(b"body") else { panic!("a body has a hash") };
    let hash = "230d8358dc8e8890b4c58deeb62912ee2f20357ae92a5cc861b98e68fe31acb5";
    assert_eq!(Payload::from_field(hash), Some(Payload::of(b"body")));
    for field in ["", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "230d", "zz"] {
        assert_eq!(Payload::from_field(field), None);
    }
}

#[test]
fn a_hash_that_the_client_sent_is_replaced() {
    let headers = headers(&[("x-amz-content-sha256", "UNSIGNED-PAYLOAD")]);
    let signed = sign(&request("POST", "/", &headers, Payload::of(b"body")));
    let hash = "230d8358dc8e8890b4c58deeb62912ee2f20357ae92a5cc861b98e68fe31acb5";
    assert_eq!(field(&signed, "x-amz-content-sha256"), Some(hash));
}

#[test]
fn secrets_are_marked_and_never_shown() {
    let credentials = Credentials { session_token: Some(Secret::new("the-token")), ..suite_credentials() };
    let headers = HeaderMap::new();
    let signer = Signer::new("us-east-1", "s3").unwrap();
    let request = request("PUT", "/", &headers, Payload::Streaming { decoded_length: 3 });
    let signed = signer.sign(&request, &credentials, suite_time()).unwrap();
    for (name, value) in &signed.fields {
        assert_eq!(value.is_sensitive(), *name == "authorization" || *name == "x-amz-security-token", "{name}");
    }
    let shown = format!("{signer:?} {signed:?} {credentials:?}");
    assert!(shown.contains("20150830/us-east-1/s3/aws4_request"));
    assert!(!shown.contains("the-token") && !shown.contains("wJalrXUtnFEMI"), "{shown}");
}

#[test]
fn a_signer_follows_the_day_and_the_credentials() {
    let headers = HeaderMap::new();
    let request = request("GET", "/", &headers, Payload::of(b""));
    let kept = Signer::new("us-east-1", "service").unwrap();
    let other = Credentials { secret_access_key: Secret::new("another"), ..suite_credentials() };
    let day = Duration::from_secs(24 * 60 * 60);
    for (credentials, now) in [
        (suite_credentials(), suite_time()),
        (suite_credentials(), suite_time() + day),
        (suite_credentials(), suite_time()),
        (other.clone(), suite_time()),
        (suite_credentials(), suite_time() + Duration::from_secs(1)),
        (other, suite_time() + day),
    ] {
        let fresh = Signer::new("us-east-1", "service").unwrap();
        let (kept, fresh) =
            (kept.sign(&request, &credentials, now).unwrap(), fresh.sign(&request, &credentials, now).unwrap());
        assert_eq!(kept.fields, fresh.fields);
    }
}

#[test]
fn region_service_and_time_have_a_part_in_the_signature() {
    let headers = HeaderMap::new();
    let request = request("GET", "/", &headers, Payload::of(b""));
    let sign = |region, service, seconds| {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let signed = Signer::new(region, service).unwrap().sign(&request, &suite_credentials(), now).unwrap();
        parts(&signed).1.to_owned()
    };
    let all = [
        sign("us-east-1", "sts", 1_440_938_160),
        sign("eu-west-1", "sts", 1_440_938_160),
        sign("us-east-1", "iam", 1_440_938_160),
        sign("us-east-1", "sts", 1_440_938_161),
    ];
    let unique: std::collections::HashSet<&String> = all.iter().collect();
    assert_eq!(unique.len(), all.len());
}

#[test]
fn what_cannot_be_signed_is_told() {
    for (region, service, what) in [
        ("", "s3", "region"),
        ("us east", "s3", "region"),
        ("us-east-1", "s3/x", "service"),
        ("a", "b\r\nc", "service"),
    ] {
        assert_eq!(Signer::new(region, service).unwrap_err(), SignError::Name { what });
    }
    let headers = HeaderMap::new();
    let signer = Signer::new("us-east-1", "s3").unwrap();
    let good = request("GET", "/", &headers, Payload::Unsigned);
    let error = |request: &Request<'_>, credentials: &Credentials, now| {
        signer.sign(request, credentials, now).unwrap_err().to_string()
    };
    assert_eq!(
        error(&Request { host: "a\nb", ..good }, &suite_credentials(), suite_time()),
        "the host has characters that no header field can hold"
    );
    let token = Credentials { session_token: Some(Secret::new("a\nb")), ..suite_credentials() };
    assert_eq!(error(&good, &token, suite_time()), "the session token has characters that no header field can hold");
    let id = Credentials { access_key_id: "a\nb".to_owned(), ..suite_credentials() };
    assert_eq!(error(&good, &id, suite_time()), "the access key ID has characters that no header field can hold");
    for now in
        [SystemTime::UNIX_EPOCH - Duration::from_secs(1), SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_800)]
    {
        assert_eq!(error(&good, &suite_credentials(), now), "the clock is wrong: its year is not one of 1970 to 9999");
    }
}
