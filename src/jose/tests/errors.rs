//! What cannot be used is refused with its reason, and no reason tells a key.

use serde_json::{Value, json};

use super::{
    Algorithm, SigningKey, test_key,
    vectors::{ED25519, ES256, ES512, rsa_of_rfc_7515},
};
use crate::{
    jose::{Header, KeyError, Prover},
    secret::Secret,
};

fn error(text: &str) -> KeyError {
    SigningKey::parse(&Secret::new(text), None, None).unwrap_err()
}

/// A JWK with one member changed, or removed by null.
fn with(jwk: &str, member: &str, value: Value) -> String {
    let mut jwk: Value = serde_json::from_str(jwk).unwrap();
    let members = jwk.as_object_mut().unwrap();
    if value.is_null() {
        drop(members.remove(member))
    } else {
        drop(members.insert(member.to_owned(), value))
    }
    jwk.to_string()
}

#[test]
fn what_is_no_private_key_is_told_apart() {
    let rsa = rsa_of_rfc_7515().to_string();
    let p256 = test_key!("key-p256-pkcs8");
    let cases = [
        (" \n".to_owned(), "the key is empty"),
        ("my secret".to_owned(), "not a private key: neither PEM nor a JWK"),
        ("-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----".to_owned(), "the PEM text holds no private key"),
        (test_key!("key-p256-encrypted").to_owned(), "the private key is encrypted"),
        (test_key!("key-p256-encrypted-traditional").to_owned(), "the private key is encrypted"),
        (test_key!("key-p256-public").to_owned(), "this is a public key; signing takes the private one"),
        (test_key!("key-rsa-public-pkcs1").to_owned(), "this is a public key; signing takes the private one"),
        (with(ES256, "d", json!(null)), "this is a public key; signing takes the private one"),
        (with(&rsa, "d", json!(null)), "this is a public key; signing takes the private one"),
        (with(ED25519, "d", json!(null)), "this is a public key; signing takes the private one"),
        (
            include_str!("keys/test-certificate-p256.pem").to_owned(),
            "this is a certificate; signing takes the private key that belongs to it",
        ),
        (test_key!("key-openssh").to_owned(), "the private key has the format of OpenSSH"),
        (
            "-----BEGIN DSA PRIVATE KEY-----\nAAAA\n-----END DSA PRIVATE KEY-----".to_owned(),
            "a key of this type or curve signs none of the algorithms that are known here",
        ),
        (p256.replace("-----END", ""), "the private key is damaged: it cannot be read as PEM"),
        (p256.replace('\n', "\\n"), "the private key is damaged: it cannot be read as PEM"),
        (format!("{p256}{p256}"), "there are 2 private keys"),
        ("{\"kty\":".to_owned(), "the JWK cannot be read: mistake at line 1, column 7 of the JSON"),
        ("{\n\"kty\": 1}".to_owned(), "the JWK cannot be read: mistake at line 2, column 8 of the JSON"),
        ("{\"private_key\": \"x\"}".to_owned(), "this is JSON, but neither a JWK nor a JWK set"),
        ("{\"keys\": []}".to_owned(), "the key is empty"),
        (
            json!({"keys": [serde_json::from_str::<Value>(&with(ES256, "d", json!(null))).unwrap()]}).to_string(),
            "this is a public key; signing takes the private one",
        ),
        (with(ES256, "use", json!("enc")), "the JWK is not for signing: its `use` or `key_ops` says otherwise"),
        (
            with(ES256, "key_ops", json!(["deriveKey"])),
            "the JWK is not for signing: its `use` or `key_ops` says otherwise",
        ),
    ];
    for (text, message) in cases {
        let found = error(&text);
        assert_eq!(found.to_string(), message);
        assert!(!found.hint().is_empty());
    }
    // The mistake of those who have a key in a variable.
    assert!(error(&p256.replace('\n', "\\n")).hint().contains("not as \\n"));
}

#[test]
fn a_key_that_contradicts_itself_or_is_too_weak_is_refused() {
    let rsa = rsa_of_rfc_7515().to_string();
    let (inconsistent, mismatch) = (
        "the numbers of the RSA key do not belong together",
        "the key's public part does not belong to its private part",
    );
    let other_point = json!("ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj3");
    let long = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, [0xff; 1025]);
    let no_primes = with(&with(&rsa, "p", json!(null)), "q", json!(null));
    let cases = [
        (test_key!("key-rsa-1024").to_owned(), "the RSA key has 1024 bits, and 2048 is the least"),
        (with(&rsa, "n", json!("AA")), "the RSA key has 0 bits, and 2048 is the least"),
        (with(&rsa, "n", json!(long)), "the RSA key has 8200 bits, and 8192 is the most"),
        (with(&rsa, "d", json!("AA")), inconsistent),
        (with(&no_primes, "d", json!("AA")), inconsistent),
        (with(&no_primes, "d", json!("AQ")), inconsistent),
        (with(&no_primes, "e", json!("AA")), inconsistent),
        (with(&no_primes, "e", json!("AQ")), inconsistent),
        (with(&rsa, "e", json!("Ag")), inconsistent),
        (with(&rsa, "p", json!("AQ")), inconsistent),
        (with(&rsa, "q", json!("AA")), inconsistent),
        (with(&rsa, "q", json!(null)), "the JWK has no member `q`"),
        (with(&rsa, "n", json!(null)), "the JWK has no member `n`"),
        (with(&rsa, "e", json!("A=")), "the JWK's member `e` is not what RFC 7518 asks for"),
        (with(&rsa, "oth", json!([])), "a key of this type or curve signs none of the algorithms that are known here"),
        (with(ES256, "y", json!("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU")), mismatch),
        (with(ES512, "y", other_point), mismatch),
        (with(ES256, "x", json!("AAAA")), mismatch),
        (with(ES256, "d", json!("AAAA")), "the JWK's member `d` is not what RFC 7518 asks for"),
        (
            with(ES256, "d", json!("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")),
            "the JWK's member `d` is not what RFC 7518 asks for",
        ),
        (with(ES256, "crv", json!(null)), "the JWK has no member `crv`"),
        (with(ES256, "x", json!(null)), "the JWK has no member `x`"),
        (with(ED25519, "x", json!("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU")), mismatch),
        (with(ED25519, "d", json!("AAAA")), "the JWK's member `d` is not what RFC 7518 asks for"),
        (with(ED25519, "x", json!("AAAA")), "the JWK's member `x` is not what RFC 7518 asks for"),
        (r#"{"kty":"oct"}"#.to_owned(), "the JWK has no member `k`"),
        (r#"{"kty":"oct","k":""}"#.to_owned(), "the key is empty"),
    ];
    for (text, message) in cases {
        assert_eq!(error(&text).to_string(), message, "{text}");
    }
}

#[test]
fn public_parts_of_other_keys_are_found_in_pem_too() {
    // The last octets of both formats are those of the public point.
    for text in [test_key!("key-p256-pkcs8"), test_key!("key-p256-sec1")] {
        let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
        let mut der = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, body).unwrap();
        *der.last_mut().unwrap() ^= 1;
        let body = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
        let begin = text.lines().next().unwrap();
        assert_eq!(error(&format!("{begin}\n{body}\n{}", begin.replace("BEGIN", "END"))), KeyError::PublicMismatch);
    }
}

#[test]
fn types_that_sign_nothing_here_are_refused() {
    for text in [
        test_key!("key-secp256k1-sec1").to_owned(),
        test_key!("key-secp256k1-pkcs8").to_owned(),
        test_key!("key-x25519").to_owned(),
        with(ES256, "crv", json!("secp256k1")),
        with(ED25519, "crv", json!("X25519")),
        with(ES256, "kty", json!("AKP")),
    ] {
        assert_eq!(error(&text), KeyError::UnsupportedType);
    }
    assert_eq!(error(&with(ES256, "alg", json!("ECDH-ES"))), KeyError::UnknownAlgorithm);
}

#[test]
fn an_algorithm_that_does_not_fit_is_refused_with_those_that_do() {
    let keys = [
        (test_key!("key-rsa-pkcs8"), "an RSA key signs RS256, RS384, RS512, PS256, PS384 and PS512"),
        (test_key!("key-p256-pkcs8"), "a key on P-256 signs ES256"),
        (test_key!("key-p384-pkcs8"), "a key on P-384 signs ES384"),
        (test_key!("key-p521-pkcs8"), "a key on P-521 signs ES512"),
        (test_key!("key-ed25519-pkcs8"), "an Ed25519 key signs EdDSA"),
    ];
    for (text, hint) in keys {
        for algorithm in Algorithm::ALL {
            match SigningKey::parse(&Secret::new(text), Some(algorithm), None) {
                Ok(key) => assert!(hint.contains(algorithm.as_str()) && key.algorithm() == algorithm),
                Err(error) => {
                    assert!(!hint.contains(algorithm.as_str()), "{algorithm}: {error}");
                    assert_eq!(error.hint(), hint);
                    assert!(error.to_string().starts_with(&format!("{algorithm} cannot be signed with ")), "{error}");
                }
            }
        }
    }
    let shared = SigningKey::from_secret(&Secret::new("x"), Algorithm::Rs256).unwrap_err();
    assert_eq!(shared.to_string(), "RS256 cannot be signed with a shared secret");
    assert_eq!(SigningKey::from_secret(&Secret::new(""), Algorithm::Hs256).unwrap_err(), KeyError::Empty);
}

#[test]
fn a_single_jwk_is_not_taken_for_another_one() {
    let text = Secret::new(with(ES256, "kid", json!("one")));
    assert!(SigningKey::parse(&text, None, Some("one")).is_ok());
    let other = SigningKey::parse(&text, None, Some("two")).unwrap_err();
    assert_eq!(other.to_string(), "there is no private key with kid \"two\"");
    // One without a name may be the one.
    assert!(SigningKey::parse(&Secret::new(ES256), None, Some("two")).is_ok());
}

/// Texts from all formats, and what must not be seen of each: any eight characters of its private parts.
fn texts() -> Vec<(String, Vec<String>)> {
    let pem = [
        test_key!("key-rsa-pkcs8"),
        test_key!("key-rsa-pkcs1"),
        test_key!("key-p256-sec1"),
        test_key!("key-p521-pkcs8"),
        test_key!("key-ed25519-pkcs8"),
        test_key!("key-openssh"),
    ];
    let mut texts: Vec<_> = pem
        .iter()
        .map(|text| {
            let body = text.lines().filter(|line| !line.starts_with('-')).map(str::to_owned).collect();
            ((*text).to_owned(), body)
        })
        .collect();
    for text in [ES256, ES512, ED25519, &rsa_of_rfc_7515().to_string()] {
        let jwk: Value = serde_json::from_str(text).unwrap();
        let private = ["d", "p", "q", "dp", "dq", "qi"];
        let parts = private.iter().filter_map(|member| jwk[member].as_str().map(str::to_owned)).collect();
        texts.push((text.to_owned(), parts));
    }
    texts
}

#[test]
fn no_error_and_no_debug_tells_a_key_however_it_is_damaged() {
    let mut random = fastrand::Rng::with_seed(7);
    let mut refused = 0;
    for (text, parts) in texts() {
        // PEM has the public part too, and where its octets begin at the same place in base64 it looks the same.
        let whole = SigningKey::parse(&Secret::new(text.as_str()), None, None);
        let public = whole.map_or_else(|_| String::new(), |key| key.public_jwk().unwrap().to_string());
        let secrets: Vec<String> = parts
            .iter()
            .map(|part| part.replace('+', "-").replace('/', "_"))
            .flat_map(|part| (0..part.len().saturating_sub(7)).map(move |at| part.get(at..at + 8).unwrap().to_owned()))
            .filter(|eight| !public.contains(eight))
            .collect();
        assert!(!secrets.is_empty());
        for round in 0..60 {
            let mut octets = text.clone().into_bytes();
            // The first round is the key as it is; the others are cut, or have one character changed.
            if round % 2 == 1 {
                octets.truncate(random.usize(..octets.len()));
            } else if round > 0 {
                let at = random.usize(..octets.len());
                octets[at] = *random.choice(b"{}\",:A-=\n1z").as_ref().unwrap().to_owned();
            }
            let Ok(damaged) = String::from_utf8(octets) else { continue };
            let shown = match SigningKey::parse(&Secret::new(damaged), None, None) {
                Ok(key) => {
                    let jws = key.sign(&Header { jwk: true, ..Header::default() }, &json!({})).unwrap();
                    let prover = Prover::new(std::sync::Arc::new(key)).unwrap();
                    format!("{prover:?} {:?} {}", prover.key().public_jwk(), jws.expose())
                }
                Err(error) => {
                    refused += 1;
                    format!("{error:?} {error} {}", error.hint())
                }
            };
            for secret in &secrets {
                assert!(!shown.replace('+', "-").replace('/', "_").contains(secret), "{shown}");
            }
        }
    }
    assert!(refused > 200, "only {refused}");
}
