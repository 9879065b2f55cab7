//! Every format that a key comes in, and every algorithm that it signs.

use serde_json::{Value, json};

use super::{
    Algorithm, SigningKey, parse, read, test_key,
    vectors::{ED25519, ES256, ES512, rsa_of_rfc_7515},
    verifies,
};
use crate::{
    jose::{Header, KeyError},
    secret::Secret,
};

#[test]
fn a_key_is_the_same_in_every_format() {
    let same = [
        [test_key!("key-rsa-pkcs8"), test_key!("key-rsa-pkcs1")],
        [test_key!("key-p256-pkcs8"), test_key!("key-p256-sec1")],
        [test_key!("key-p384-pkcs8"), test_key!("key-p384-sec1")],
        [test_key!("key-p521-pkcs8"), test_key!("key-p521-sec1")],
    ];
    for [pkcs8, traditional] in same {
        let (pkcs8, traditional) = (parse(pkcs8), parse(traditional));
        assert!(pkcs8.thumbprint().is_some());
        assert_eq!(pkcs8.thumbprint(), traditional.thumbprint());
        assert_eq!(pkcs8.algorithm(), traditional.algorithm());
    }
}

#[test]
fn every_algorithm_signs_what_another_library_verifies() {
    let rsa = test_key!("key-rsa-pkcs8");
    let cases = [
        (rsa, Algorithm::Rs256),
        (rsa, Algorithm::Rs384),
        (rsa, Algorithm::Rs512),
        (rsa, Algorithm::Ps256),
        (rsa, Algorithm::Ps384),
        (rsa, Algorithm::Ps512),
        (test_key!("key-p256-pkcs8"), Algorithm::Es256),
        (test_key!("key-p256-with-parameters"), Algorithm::Es256),
        (test_key!("key-p384-sec1"), Algorithm::Es384),
        (test_key!("key-p521-sec1"), Algorithm::Es512),
        (test_key!("key-ed25519-pkcs8"), Algorithm::EdDsa),
        (ES256, Algorithm::Es256),
        (ES512, Algorithm::Es512),
        (ED25519, Algorithm::EdDsa),
    ];
    for (text, algorithm) in cases {
        let key = SigningKey::parse(&Secret::new(text), Some(algorithm), None).unwrap();
        let jws = key.sign(&Header::default(), &json!({"sub": "me"})).unwrap();
        let (header, claims) = read(jws.expose());
        assert_eq!(header, json!({"alg": algorithm.as_str()}));
        assert_eq!(claims, json!({"sub": "me"}));
        let public = key.public_jwk().unwrap();
        assert!(verifies(algorithm, public, jws.expose()), "{algorithm}");
        let forged = jws.expose().replacen('.', "A.", 1);
        assert!(!verifies(algorithm, public, &forged), "{algorithm}");
    }
    let secret = Secret::new("a secret of at least 64 octets, which is what RFC 7518 wants for HS512");
    let k = json!({"k": base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, secret.expose())});
    for algorithm in Algorithm::ALL.into_iter().filter(|algorithm| algorithm.is_symmetric()) {
        let key = SigningKey::from_secret(&secret, algorithm).unwrap();
        assert!(verifies(algorithm, &k, key.sign(&Header::default(), &json!({})).unwrap().expose()), "{algorithm}");
        assert_eq!(key.public_jwk(), None);
    }
}

#[test]
fn keys_of_other_libraries_are_read() {
    for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
        let pair = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let key = parse(&pair.serialize_pem());
        let jws = key.sign(&Header::default(), &json!({})).unwrap();
        assert!(verifies(key.algorithm(), key.public_jwk().unwrap(), jws.expose()));
    }
}

#[test]
fn ed25519_in_both_versions_of_pkcs8() {
    // RFC 8410 section 10.3 has one key as version 1 and, with its public part, as version 2.
    let first = parse(
        "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n",
    );
    let second = parse(
        "-----BEGIN PRIVATE KEY-----\nMHICAQEwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\noB8wHQYKKoZIhvcNAQkJFDEPDA1DdXJkbGUgQ2hhaXJzgSEAGb9ECWmEzf6FQbrB\nZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PRIVATE KEY-----\n",
    );
    assert_eq!(first.thumbprint(), second.thumbprint());
    assert_eq!(first.public_jwk().unwrap()["x"], "Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE");
    let other = "-----BEGIN PRIVATE KEY-----\nMHICAQEwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\noB8wHQYKKoZIhvcNAQkJFDEPDA1DdXJkbGUgQ2hhaXJzgSEAGb9ECWmEzf6FQbrB\nZ9w7lshQhqowtrbLDFw4rXAxZuA=\n-----END PRIVATE KEY-----\n";
    assert_eq!(SigningKey::parse(&Secret::new(other), None, None).unwrap_err(), KeyError::PublicMismatch);
}

#[test]
fn what_stands_around_a_key_does_not_matter() {
    let key = test_key!("key-p256-pkcs8");
    let thumbprint = parse(key).thumbprint().unwrap().to_owned();
    let certificate = include_str!("keys/test-certificate-p256.pem");
    for text in [
        format!("\u{feff}{key}"),
        format!("Bag Attributes\r\n    friendlyName: test\r\n{}", key.replace('\n', "\r\n")),
        format!("{key}{certificate}"),
        format!("{certificate}{key}\n\n"),
    ] {
        assert_eq!(parse(&text).thumbprint(), Some(thumbprint.as_str()));
    }
}

#[test]
fn the_algorithm_is_the_chosen_one_or_that_of_the_jwk_or_the_usual_one() {
    let mut jwk = rsa_of_rfc_7515();
    assert_eq!(parse(&jwk.to_string()).algorithm(), Algorithm::Rs256);
    jwk["alg"] = json!("PS384");
    let text = Secret::new(jwk.to_string());
    assert_eq!(SigningKey::parse(&text, None, None).unwrap().algorithm(), Algorithm::Ps384);
    let chosen = SigningKey::parse(&text, Some(Algorithm::Rs512), None).unwrap();
    assert_eq!(chosen.algorithm(), Algorithm::Rs512);
    assert_eq!(parse(test_key!("key-p384-pkcs8")).algorithm(), Algorithm::Es384);
}

#[test]
fn a_set_yields_its_private_key_or_the_named_one() {
    let (mut one, mut two): (Value, Value) =
        (serde_json::from_str(ES256).unwrap(), serde_json::from_str(ED25519).unwrap());
    one["kid"] = json!("one");
    two["kid"] = json!("two");
    let mut public = two.clone();
    public.as_object_mut().unwrap().remove("d").unwrap();
    let mut encryption = rsa_of_rfc_7515();
    encryption["use"] = json!("enc");

    let alone = json!({"keys": [public, encryption, one]});
    let key = parse(&alone.to_string());
    assert_eq!((key.kid(), key.algorithm()), (Some("one"), Algorithm::Es256));

    let both = Secret::new(json!({"keys": [one, two]}).to_string());
    let key = SigningKey::parse(&both, None, Some("two")).unwrap();
    assert_eq!((key.kid(), key.algorithm()), (Some("two"), Algorithm::EdDsa));
    assert_eq!(SigningKey::parse(&both, None, None).unwrap_err(), KeyError::Several { number: 2 });
    let unknown = SigningKey::parse(&both, None, Some("three")).unwrap_err();
    assert_eq!(unknown, KeyError::NoSuchKid { kid: "three".to_owned() });
}

#[test]
fn a_fresh_key_is_fresh_and_signs() {
    let (one, two) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
    assert_eq!(one.algorithm(), Algorithm::Es256);
    assert_ne!(one.thumbprint(), two.thumbprint());
    let jws = one.sign(&Header::default(), &json!({})).unwrap();
    assert!(verifies(Algorithm::Es256, one.public_jwk().unwrap(), jws.expose()));
    assert!(!verifies(Algorithm::Es256, two.public_jwk().unwrap(), jws.expose()));
}

#[test]
fn algorithms_are_named_as_registered() {
    for algorithm in Algorithm::ALL {
        assert_eq!(algorithm.as_str().parse(), Ok(algorithm));
        assert_eq!(algorithm.to_string(), algorithm.as_str());
    }
    for name in ["none", "es256", "ES256K", ""] {
        assert!(name.parse::<Algorithm>().is_err(), "{name}");
    }
}
