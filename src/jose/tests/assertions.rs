//! Headers, claims and certificates of assertions.

use std::time::{Duration, SystemTime};

use serde_json::json;

use super::{SigningKey, parse, read, test_key};
use crate::jose::{
    Header, KeyError, SignError, certificate_belongs_to, certificate_chain, certificate_thumbprint, claims::Claims,
    new_jti,
};

#[test]
fn the_header_says_what_it_was_told() {
    let key = parse(test_key!("key-p256-pkcs8"));
    let certificate = include_str!("keys/test-certificate-p256.pem");
    let header = Header {
        typ: Some("JWT".to_owned()),
        kid: Some("k".to_owned()),
        // As `openssl dgst -sha256` says of the certificate's DER.
        x5t_s256: Some(certificate_thumbprint(certificate).unwrap()),
        x5c: certificate_chain(certificate).unwrap(),
        jwk: true,
    };
    let (header, _) = read(key.sign(&header, &json!({})).unwrap().expose());
    assert_eq!(header["alg"], "ES256");
    assert_eq!(header["typ"], "JWT");
    assert_eq!(header["kid"], "k");
    assert_eq!(header["x5t#S256"], "QJHf_9t3OKocj7YBUpoc0qCT0fhWP4m06KLeyA8xO4Y");
    assert_eq!(header["jwk"], *key.public_jwk().unwrap());
    let body: String = certificate.lines().filter(|line| !line.starts_with('-')).collect();
    assert_eq!(header["x5c"], json!([body]));
}

#[test]
fn the_kid_of_the_jwk_is_used_unless_another_is_given() {
    let mut jwk: serde_json::Value = serde_json::from_str(super::vectors::ES256).unwrap();
    jwk["kid"] = json!("its own");
    let key = parse(&jwk.to_string());
    let kid = |header| read(key.sign(&header, &json!({})).unwrap().expose()).0["kid"].clone();
    assert_eq!(kid(Header::default()), "its own");
    assert_eq!(kid(Header { kid: Some("another".to_owned()), ..Header::default() }), "another");
}

#[test]
fn claims_are_those_of_rfc_7523() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_900);
    let mut claims = Claims::new(now, Duration::from_secs(60));
    claims.iss = Some("client".to_owned());
    claims.sub = Some("client".to_owned());
    claims.aud = Some("https://as.example/token".to_owned());
    let jti = claims.jti.clone().unwrap();
    let expected = json!({"iss": "client", "sub": "client", "aud": "https://as.example/token",
        "iat": 1_700_000_000, "exp": 1_700_000_060, "jti": jti});
    assert_eq!(serde_json::to_value(&claims).unwrap(), expected);

    // Extra claims join the others, and take the place of those with the same name without a second one of it.
    claims.extra = json!({"scope": "a b", "aud": ["x", "y"], "iat": 1}).as_object().unwrap().clone();
    let text = serde_json::to_string(&claims).unwrap();
    assert_eq!((text.matches("\"aud\"").count(), text.matches("\"iat\"").count()), (1, 1));
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&value["scope"], &value["aud"], &value["iat"]), (&json!("a b"), &json!(["x", "y"]), &json!(1)));
    assert_eq!(value["exp"], 1_700_000_060);
}

#[test]
fn claims_without_a_jti_have_none() {
    let claims = Claims { jti: None, ..Claims::new(SystemTime::UNIX_EPOCH, Duration::MAX) };
    assert_eq!(serde_json::to_value(&claims).unwrap(), json!({"iat": 0, "exp": u64::MAX}));
}

#[test]
fn only_objects_are_signed() {
    let key = SigningKey::generate().unwrap();
    for claims in [json!("text"), json!([1]), json!(null)] {
        assert_eq!(key.sign(&Header::default(), &claims).unwrap_err(), SignError::Claims);
    }
}

#[test]
fn identifiers_do_not_repeat() {
    let all: std::collections::HashSet<String> = (0..1000).map(|_| new_jti()).collect();
    assert_eq!(all.len(), 1000);
    assert!(all.iter().all(|jti| super::decode(jti).len() == 16));
}

#[test]
fn a_certificate_of_another_key_is_told() {
    use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256};
    let certificate = |pair: &KeyPair| CertificateParams::default().self_signed(pair).unwrap().pem();
    let rsa = KeyPair::from_pkcs8_pem_and_sign_algo(test_key!("key-rsa-pkcs8"), &PKCS_RSA_SHA256).unwrap();
    let pairs = [
        ("key-p256-pkcs8", include_str!("keys/test-certificate-p256.pem").to_owned()),
        ("key-p384-pkcs8", certificate(&KeyPair::from_pem(test_key!("key-p384-pkcs8")).unwrap())),
        ("key-ed25519-pkcs8", certificate(&KeyPair::from_pem(test_key!("key-ed25519-pkcs8")).unwrap())),
        ("key-rsa-pkcs8", certificate(&rsa)),
    ];
    let keys = [
        parse(test_key!("key-p256-pkcs8")),
        parse(test_key!("key-p384-pkcs8")),
        parse(test_key!("key-ed25519-pkcs8")),
        parse(test_key!("key-rsa-pkcs8")),
    ];
    for (of_certificate, (name, certificate)) in pairs.iter().enumerate() {
        for (of_key, key) in keys.iter().enumerate() {
            let expected = if of_key == of_certificate { Ok(()) } else { Err(KeyError::CertificateOfAnotherKey) };
            assert_eq!(certificate_belongs_to(certificate, key), expected, "{name}");
        }
    }
}

#[test]
fn a_certificate_that_is_none_is_told() {
    assert_eq!(certificate_thumbprint("").unwrap_err(), KeyError::NoCertificate);
    assert_eq!(certificate_thumbprint(test_key!("key-p256-pkcs8")).unwrap_err(), KeyError::NoCertificate);
    let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert_eq!(certificate_thumbprint(junk).unwrap_err(), KeyError::BadCertificate);
    assert_eq!(certificate_chain("-----BEGIN CERTIFICATE-----\nAAAA").unwrap_err(), KeyError::BadCertificate);
}
