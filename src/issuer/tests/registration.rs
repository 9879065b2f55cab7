//! The file of clients.

use std::path::Path;

use super::{signer::Signer, *};

fn parse(text: &str) -> Result<Registrations, String> {
    Registrations::parse(text, Path::new("/nonexistent")).map_err(|error| error.to_string())
}

#[test]
fn a_file_says_all_of_a_client() {
    let keys = Signer::new().jwk;
    let text = format!(
        r#"{{ "clients": [
            {{ "client_id": "a", "client_secret": "s", "client_name": "A", "scope": "x  y", "audiences": ["urn:a"] }},
            {{ "client_id": "b", "token_endpoint_auth_method": "private_key_jwt", "jwks": {{ "keys": [{keys}] }},
               "token_endpoint_auth_signing_alg": "ES256", "dpop_bound_access_tokens": true,
               "grant_types": ["client_credentials", "urn:ietf:params:oauth:grant-type:token-exchange"] }},
            {{ "client_id": "c", "token_endpoint_auth_method": "tls_client_auth",
               "tls_client_auth_san_ip": "192.0.2.1", "tls_client_certificate_bound_access_tokens": true }},
            {{ "client_id": "d", "token_endpoint_auth_method": "none", "grant_types": ["password"],
               "users": {{ "zoe": "p", "adam": "q" }} }}
        ], "trusted_issuers": [
            {{ "issuer": "https://cluster", "jwks": {keys}, "subjects": {{ "sub": "b" }}, "audiences": ["x"] }}
        ] }}"#
    );
    let read = parse(&text).unwrap();
    let [a, b, c, d] = <[Client; 4]>::try_from(read.clients.clone()).unwrap();
    assert_eq!((a.methods, a.grant_types), (vec![AuthMethod::ClientSecretBasic], vec![GrantType::ClientCredentials]));
    assert_eq!((a.scopes, a.audiences), (vec!["x".to_owned(), "y".to_owned()], vec!["urn:a".to_owned()]));
    assert_eq!(b.methods, [AuthMethod::PrivateKeyJwt]);
    assert_eq!(b.grant_types, [GrantType::ClientCredentials, GrantType::TokenExchange]);
    assert!(b.dpop_bound && !b.keys.is_empty() && b.signing_algorithm.as_deref() == Some("ES256"));
    assert_eq!(c.certificate, Some(CertificateName::SanIp("192.0.2.1".parse().unwrap())));
    assert!(c.certificate_bound);
    assert_eq!(d.users.iter().map(|user| user.name.as_str()).collect::<Vec<_>>(), ["adam", "zoe"]);
    let mut settings = Settings { algorithm: Algorithm::Opaque, clients: Vec::new(), ..Settings::development() };
    read.add_to(&mut settings);
    Issuer::new(settings, ([127, 0, 0, 1], 1).into()).unwrap();
}

#[test]
fn what_is_wrong_in_a_file_is_told_with_its_place_and_without_values() {
    let key = Signer::new().jwk.to_string();
    for (text, problem) in [
        ("{", "no JSON (line 1"),
        (r#""canary""#, "expected a list of clients"),
        (r#"["canary"]"#, "clients[0] must be an object"),
        (r#"[{"client_secret": "canary"}]"#, "clients[0]: client_id is missing"),
        (r#"[{"client_id": "a", "client_secret": 7}]"#, "clients[0]: client_secret must be a string"),
        (r#"[{"client_id": "a", "client_secrets": "canary"}]"#, "clients[0]: unknown member \"client_secrets\""),
        (r#"[{"client_id": "a", "token_endpoint_auth_method": "canary"}]"#, "is not one of client_secret_basic"),
        (r#"[{"client_id": "a", "token_endpoint_auth_signing_alg": "none"}]"#, "is not a known algorithm"),
        (r#"[{"client_id": "a", "grant_types": ["canary"]}]"#, "grant_types knows client_credentials"),
        (r#"[{"client_id": "a", "grant_types": "canary"}]"#, "grant_types must be a list"),
        (r#"[{"client_id": "a", "grant_types": [1]}]"#, "grant_types must be a list of strings"),
        (r#"[{"client_id": "a", "users": {"u": 1}}]"#, "users must be an object of strings"),
        (r#"[{"client_id": "a", "dpop_bound_access_tokens": "canary"}]"#, "must be true or false"),
        (
            r#"[{"client_id": "a", "jwks": {"keys": [{"kty": "oct", "k": "canary"}]}}]"#,
            "jwks is not usable: the JWK has",
        ),
        (r#"[{"client_id": "a", "jwks_file": "none.json"}]"#, "jwks_file /nonexistent/none.json: No such file"),
        (r#"[{"client_id": "a", "tls_client_auth_subject_dn": "canary"}]"#, "cannot be read as one"),
        (r#"[{"client_id": "a", "tls_client_auth_san_ip": "canary"}]"#, "cannot be read as one"),
        (
            r#"[{"client_id": "a", "tls_client_auth_san_dns": "a", "tls_client_auth_san_uri": "b"}]"#,
            "is there more than once",
        ),
        (r#"{"trusted_issuers": [{"issuer": "x"}]}"#, "trusted_issuers[0]: issuer needs jwks"),
        (r#"{"client": []}"#, "the file: unknown member \"client\""),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.contains(problem), "{error}");
        assert!(!error.contains("canary"), "{error}");
    }
    let settings = |text: &str| {
        let mut settings = Settings { algorithm: Algorithm::Opaque, clients: Vec::new(), ..Settings::development() };
        parse(text).unwrap().add_to(&mut settings);
        Issuer::new(settings, ([127, 0, 0, 1], 1).into()).err().unwrap().to_string()
    };
    let with = |method: &str| settings(&format!(r#"[{{"client_id": "a", "token_endpoint_auth_method": "{method}"}}]"#));
    assert!(with("client_secret_jwt").contains("the secret is empty"));
    assert!(with("private_key_jwt").contains("private_key_jwt needs jwks"));
    assert!(with("tls_client_auth").contains("needs one of tls_client_auth_subject_dn"));
    assert!(with("self_signed_tls_client_auth").contains("needs certificate_file"));
    let password = r#"[{"client_id": "a", "client_secret": "s", "grant_types": ["password"]}]"#;
    assert!(settings(password).contains("needs users"));
    assert!(settings(r#"[{"client_id": "a", "client_secret": "s", "grant_types": []}]"#).contains("no grant type"));
    let nobody = format!(
        r#"{{"clients": [{{"client_id": "a", "client_secret": "s"}}],
            "trusted_issuers": [{{"issuer": "i", "jwks": {key}, "subjects": {{"x": "b"}}}}]}}"#
    );
    assert!(settings(&nobody).contains("vouches for client \"b\", which is not registered"));
}

#[test]
fn keys_are_read_from_files_beside_it() {
    let folder = std::env::temp_dir().join(format!("lanyard-registration-{}", crate::telemetry::new_id()));
    std::fs::create_dir(&folder).unwrap();
    let pair = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::default().self_signed(&pair).unwrap();
    std::fs::write(folder.join("key.pem"), pair.public_key_pem()).unwrap();
    std::fs::write(folder.join("jwks.json"), format!(r#"{{"keys": [{}]}}"#, Signer::new().jwk)).unwrap();
    std::fs::write(folder.join("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(folder.join("private.pem"), pair.serialize_pem()).unwrap();
    let path = folder.join("clients.json");
    let text = r#"[{"client_id": "a", "token_endpoint_auth_method": "private_key_jwt",
        "public_key_file": "key.pem", "jwks_file": "jwks.json", "certificate_file": "cert.pem"}]"#;
    std::fs::write(&path, text).unwrap();
    assert_eq!(Registrations::read(&path).unwrap().clients[0].keys.iter().count(), 3);
    std::fs::write(&path, text.replace("key.pem", "private.pem")).unwrap();
    let error = Registrations::read(&path).unwrap_err().to_string();
    assert!(
        error.contains("clients.json: clients[0]: public_key_file") && error.contains("keep the private key"),
        "{error}"
    );
    std::fs::remove_dir_all(&folder).unwrap();
}
