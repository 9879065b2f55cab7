//! The published vectors, and what they leave open.

mod behaviour;
mod credentials;
mod s3;
mod streams;
mod suite;

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Credentials, Payload, Request, Signed, Signer};
use crate::secret::Secret;

/// The credentials of AWS's test suite.
fn suite_credentials() -> Credentials {
    Credentials {
        access_key_id: "AKIDEXAMPLE".to_owned(),
        secret_access_key: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
        session_token: None,
        expiration: None,
    }
}

/// 2015-08-30T12:36:00Z, the suite's time.
fn suite_time() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_440_938_160)
}

fn headers(fields: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    map
}

/// A request of the suite: its host, and no body unless the payload says otherwise.
fn request<'a>(method: &'a str, target: &'a str, headers: &'a HeaderMap, payload: Payload) -> Request<'a> {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    Request { method, host: "example.amazonaws.com", path, query, headers, payload }
}

/// A field that was set.
fn field<'a>(signed: &'a Signed, name: &str) -> Option<&'a str> {
    signed.fields.iter().find(|(other, _)| other == name).map(|(_, value)| value.to_str().unwrap())
}

/// The signed headers and the signature.
fn parts(signed: &Signed) -> (&str, &str) {
    let authorization = field(signed, "authorization").unwrap();
    let rest = authorization.split_once(" SignedHeaders=").unwrap().1;
    rest.split_once(", Signature=").unwrap()
}

/// What a signer of the suite's scope signs.
fn sign(request: &Request<'_>) -> Signed {
    Signer::new("us-east-1", "service").unwrap().sign(request, &suite_credentials(), suite_time()).unwrap()
}
