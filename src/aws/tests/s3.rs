//! The examples of the S3 API Reference, "Signature Calculations for the Authorization Header".

use std::time::{Duration, SystemTime};

use http::HeaderMap;

use super::{field, headers, parts};
use crate::{
    aws::{Credentials, Payload, Request, Signed, Signer},
    secret::Secret,
};

pub(super) fn credentials() -> Credentials {
    Credentials {
        access_key_id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
        secret_access_key: Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
        session_token: None,
        expiration: None,
    }
}

/// 2013-05-24T00:00:00Z.
pub(super) fn time() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_369_353_600)
}

fn sign(method: &str, path: &str, query: Option<&str>, headers: &HeaderMap, payload: Payload) -> Signed {
    let request = Request { method, host: "examplebucket.s3.amazonaws.com", path, query, headers, payload };
    Signer::new("us-east-1", "s3").unwrap().sign(&request, &credentials(), time()).unwrap()
}

#[test]
fn get_object() {
    let signed = sign("GET", "/test.txt", None, &headers(&[("Range", "bytes=0-9")]), Payload::of(b""));
    assert_eq!(
        parts(&signed),
        (
            "host;range;x-amz-content-sha256;x-amz-date",
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        )
    );
    assert_eq!(
        field(&signed, "x-amz-content-sha256"),
        Some("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    );
    assert_eq!(field(&signed, "x-amz-date"), Some("20130524T000000Z"));
}

#[test]
fn put_object_whether_its_name_comes_encoded_or_not() {
    let fields = headers(&[("Date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")]);
    for path in ["/test$file.text", "/test%24file.text"] {
        let signed = sign("PUT", path, None, &fields, Payload::of(b"Welcome to Amazon S3."));
        assert_eq!(
            parts(&signed),
            (
                "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
                "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
            )
        );
        assert_eq!(
            field(&signed, "x-amz-content-sha256"),
            Some("44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072")
        );
    }
}

#[test]
fn get_bucket_lifecycle_and_list_objects() {
    let cases = [
        ("lifecycle", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        ("lifecycle=", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        ("max-keys=2&prefix=J", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
        ("prefix=J&max-keys=2", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
    ];
    for (query, signature) in cases {
        let signed = sign("GET", "/", Some(query), &HeaderMap::new(), Payload::of(b""));
        assert_eq!(parts(&signed), ("host;x-amz-content-sha256;x-amz-date", signature), "{query}");
    }
}
