use serde_json::json;

use super::*;
use crate::issuer::jws::Jwt;

fn jwk(value: &Value) -> PublicKey {
    PublicKey::from_jwk(value.as_object().unwrap()).unwrap()
}

/// The key of RFC 7515 appendix A.2.
fn rfc_7515_a_2() -> Value {
    json!({
        "kty": "RSA", "e": "AQAB",
        "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yR\
              T-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXB\
              dQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9ia\
              GNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
    })
}

#[test]
fn the_examples_of_rfc_7515_verify() {
    let rs256 = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
        cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
    let jwt = Jwt::parse(rs256).unwrap();
    assert!(jwt.is_signed_by(&jwk(&rfc_7515_a_2())));
    assert_eq!((jwt.text("iss"), jwt.time("exp").unwrap()), (Some("joe"), Some(1_300_819_380)));
    // One bit of the payload.
    assert!(!Jwt::parse(&rs256.replace("LmNvbS9", "LmNvcS9")).unwrap().is_signed_by(&jwk(&rfc_7515_a_2())));

    // Appendix A.3.
    let es256 = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
        DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    let key = jwk(&json!({
        "kty": "EC", "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    }));
    assert!(Jwt::parse(es256).unwrap().is_signed_by(&key));
    assert!(!Jwt::parse(es256).unwrap().is_signed_by(&jwk(&rfc_7515_a_2())));

    // Appendix A.4: its payload is no JSON, so the parts are checked as they are.
    let key = jwk(&json!({
        "kty": "EC", "crv": "P-521",
        "x": "AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk",
        "y": "ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2",
    }));
    let signature = "AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDKB34XO0aw_7XdtAG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn";
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    assert!(key.verify(Alg::Es512, b"eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA", &signature));
    assert!(!key.verify(Alg::Es512, b"eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZB", &signature));
    assert!(!key.verify(Alg::Es256, b"eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA", &signature));

    // Appendix A.5: the unsecured JWS is refused before anything else of it is looked at.
    let none = "eyJhbGciOiJub25lIn0.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.";
    assert!(Jwt::parse(none).err().unwrap().0.contains("alg is none"));
}

#[test]
fn the_example_of_rfc_8037_verifies() {
    // Appendix A.4, and the thumbprint of A.3.
    let key = jwk(&json!({ "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" }));
    assert_eq!(key.thumbprint(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    let signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let message = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    assert!(key.verify(Alg::EdDsa, message, &signature));
    assert!(!key.verify(Alg::EdDsa, b"eyJhbGciOiJFZERTQSJ9.", &signature));
}

#[test]
fn the_thumbprint_is_that_of_rfc_7638() {
    // Section 3.1.
    let key = jwk(&json!({
        "kty": "RSA", "e": "AQAB", "alg": "RS256", "kid": "2011-04-29",
        "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCi\
              FV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnY\
              b9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0\
              Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
    }));
    assert_eq!(key.thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    assert!(key.suits(Alg::Rs256) && !key.suits(Alg::Ps256) && !key.suits(Alg::Es256));
}

#[test]
fn a_key_that_is_none_of_ours_is_refused_in_words() {
    let ec = json!({
        "kty": "EC", "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    });
    let with = |key: &str, value: Value| {
        let mut changed = ec.clone();
        changed[key] = value;
        KeySet::from_jwks(&changed).unwrap_err().to_string()
    };
    assert!(with("d", json!("canary")).contains("member d: it is a private"));
    assert!(with("k", json!("canary")).contains("member k"));
    assert!(with("kty", json!("oct")).contains("kty of the JWK is oct"));
    assert!(with("crv", json!("secp256k1")).contains("crv of the JWK is secp256k1"));
    assert!(with("x", json!("AAAA")).contains("32 bytes"));
    assert!(with("y", json!("!")).contains("no base64url"));
    assert!(with("use", json!("enc")).contains("use of the JWK"));
    assert!(with("kty", Value::Null).contains("no kty"));
    assert!(with("x5c", json!(["AAAA"])).contains("no certificate"));
    let mut weak = rfc_7515_a_2();
    weak["n"] = json!(URL_SAFE_NO_PAD.encode([0xff; 128]));
    assert!(KeySet::from_jwks(&weak).unwrap_err().to_string().contains("1024 bits"));
    weak["n"] = json!("");
    assert!(KeySet::from_jwks(&weak).unwrap_err().to_string().contains("0 bits"));
    for nothing in [json!([]), json!({"keys": 1}), json!({"keys": [1]}), json!("x")] {
        KeySet::from_jwks(&nothing).unwrap_err();
    }
    // A point that is not on the curve verifies nothing, and breaks nothing.
    let mut outside = ec.clone();
    outside["y"] = ec["x"].clone();
    assert!(!jwk(&outside).verify(Alg::Es256, b"x", &[1; 64]));
}

#[test]
fn pem_and_jwk_are_the_same_key() {
    for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
        let pair = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let bare = KeySet::from_pem(&pair.public_key_pem()).unwrap();
        let certificate = rcgen::CertificateParams::default().self_signed(&pair).unwrap();
        let certified = KeySet::from_pem(&certificate.pem()).unwrap();
        assert_eq!(bare.0[0].kind, certified.0[0].kind);
        assert_eq!(certified.0[0].x5t, Some(digest(certificate.der())));
        let error = KeySet::from_pem(&pair.serialize_pem()).unwrap_err().to_string();
        assert!(error.contains("keep the private key"), "{error}");
    }
    KeySet::from_pem("nothing").unwrap_err();
}
