//! Bodies in signed chunks: the example of the S3 API Reference, "Transferring Payload in Multiple Chunks", and any other
//! way that a body may be cut.

use super::{field, headers, parts, s3};
use crate::aws::{CHUNK_SIZE, ChunkEncoder, Payload, Request, Signed, Signer, StreamError, framed_length};

fn begin(length: u64) -> Signed {
    let headers = headers(&[("x-amz-storage-class", "REDUCED_REDUNDANCY"), ("Content-Length", "1")]);
    let request = Request {
        method: "PUT",
        host: "s3.amazonaws.com",
        path: "/examplebucket/chunkObject.txt",
        query: None,
        headers: &headers,
        payload: Payload::Streaming { decoded_length: length },
    };
    Signer::new("us-east-1", "s3").unwrap().sign(&request, &s3::credentials(), s3::time()).unwrap()
}

fn encoder(length: u64) -> ChunkEncoder {
    begin(length).chunks.unwrap()
}

/// The body as it goes on the wire, handed over in pieces of this size.
fn encoded(body: &[u8], piece: usize) -> Vec<u8> {
    let mut encoder = encoder(body.len() as u64);
    let mut out = Vec::new();
    for data in body.chunks(piece) {
        out.extend_from_slice(&encoder.push(data).unwrap());
    }
    out.extend_from_slice(&encoder.finish().unwrap());
    out
}

fn documented() -> Vec<u8> {
    let head = |size: &str, signature: &str| format!("{size};chunk-signature={signature}\r\n").into_bytes();
    [
        head("10000", "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"),
        vec![b'a'; 65536],
        b"\r\n".to_vec(),
        head("400", "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"),
        vec![b'a'; 1024],
        b"\r\n".to_vec(),
        head("0", "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"),
        b"\r\n".to_vec(),
    ]
    .concat()
}

#[test]
fn the_documented_request_has_the_documented_seed() {
    let signed = begin(66560);
    assert_eq!(
        parts(&signed),
        (
            "content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class",
            "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
        )
    );
    assert_eq!(field(&signed, "content-length"), Some("66824"));
    assert_eq!(field(&signed, "content-encoding"), Some("aws-chunked"));
    assert_eq!(field(&signed, "x-amz-decoded-content-length"), Some("66560"));
    assert_eq!(field(&signed, "x-amz-content-sha256"), Some("STREAMING-AWS4-HMAC-SHA256-PAYLOAD"));
}

#[test]
fn the_documented_body_has_the_documented_chunks_however_it_arrives() {
    let body = vec![b'a'; 66560];
    for piece in [1, 1000, 65535, 65536, 65537, 66560] {
        assert!(encoded(&body, piece) == documented(), "in pieces of {piece}");
    }
}

#[test]
fn the_length_is_known_before_the_body() {
    let chunk = usize::try_from(CHUNK_SIZE).unwrap();
    for length in [0, 1, 15, 16, 17, 255, 256, chunk - 1, chunk, chunk + 1, 2 * chunk, 3 * chunk + 7] {
        let body = vec![7; length];
        assert_eq!(encoded(&body, 4096).len() as u64, framed_length(length as u64), "{length}");
    }
    assert_eq!(framed_length(66560), 66824);
    assert_eq!(framed_length(u64::MAX), u64::MAX);
}

#[test]
fn a_body_is_sent_on_while_it_comes() {
    let chunk = usize::try_from(CHUNK_SIZE).unwrap();
    let mut encoder = encoder(2 * CHUNK_SIZE);
    let body = vec![1; chunk];
    assert!(encoder.push(&body[..chunk - 1]).unwrap().is_empty());
    let first = encoder.push(&body[chunk - 1..]).unwrap();
    assert_eq!(first.len() as u64 + framed_length(CHUNK_SIZE), framed_length(2 * CHUNK_SIZE));
    assert!(!encoder.push(&body).unwrap().is_empty());
    assert!(encoder.finish().unwrap().starts_with(b"0;chunk-signature="));
}

#[test]
fn no_two_chunks_have_one_signature() {
    let body = vec![b'a'; 5 * usize::try_from(CHUNK_SIZE).unwrap()];
    let wire = String::from_utf8(encoded(&body, 10_000)).unwrap();
    let mut signatures: Vec<&str> =
        wire.split(";chunk-signature=").skip(1).map(|rest| rest.get(..64).unwrap()).collect();
    assert_eq!(signatures.len(), 6);
    signatures.sort_unstable();
    signatures.dedup();
    assert_eq!(signatures.len(), 6);
}

#[test]
fn a_body_that_is_not_as_long_as_announced_is_an_error() {
    let mut long = encoder(3);
    assert!(long.push(b"ab").unwrap().is_empty());
    let error = long.push(b"cd").unwrap_err();
    assert_eq!(error, StreamError::TooLong { declared: 3 });
    assert_eq!(error.to_string(), "the body is longer than the 3 bytes that were announced");
    let mut short = encoder(3);
    assert!(short.push(b"ab").unwrap().is_empty());
    let error = short.finish().unwrap_err();
    assert_eq!(error, StreamError::TooShort { declared: 3, missing: 1 });
    assert_eq!(error.to_string(), "the body ended 1 bytes before the 3 that were announced");
}

#[test]
fn other_encodings_stay_and_ours_is_there_once() {
    for (given, expected) in
        [("gzip", "aws-chunked,gzip"), ("aws-chunked, gzip", "aws-chunked,gzip"), ("aws-chunked", "aws-chunked")]
    {
        let headers = headers(&[("Content-Encoding", given)]);
        let request = Request {
            method: "PUT",
            host: "s3.amazonaws.com",
            path: "/b/o",
            query: None,
            headers: &headers,
            payload: Payload::Streaming { decoded_length: 1 },
        };
        let signed = Signer::new("us-east-1", "s3").unwrap().sign(&request, &s3::credentials(), s3::time()).unwrap();
        assert_eq!(field(&signed, "content-encoding"), Some(expected));
    }
}
