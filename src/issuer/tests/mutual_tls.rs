//! Client authentication by certificate, over real TLS connections.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose, SanType};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject as _},
};
use serde_json::json;

use super::*;

/// A CA for clients.
struct Authority(rcgen::Issuer<'static, KeyPair>, CertificateDer<'static>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, "client authority");
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().clone();
        Self(rcgen::Issuer::new(params, key), der)
    }

    fn issue(&self, name: &str) -> Identity {
        let key = KeyPair::generate().unwrap();
        let certificate = params(name).signed_by(&key, &self.0).unwrap();
        Identity { der: certificate.der().clone(), pem: certificate.pem(), key }
    }
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec![format!("{name}.example")]).unwrap();
    params.subject_alt_names.push(SanType::URI(format!("spiffe://example/{name}").try_into().unwrap()));
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Example, Inc.");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

struct Identity {
    der: CertificateDer<'static>,
    pem: String,
    key: KeyPair,
}

impl Identity {
    fn self_signed(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = params(name).self_signed(&key).unwrap();
        Self { der: certificate.der().clone(), pem: certificate.pem(), key }
    }
}

/// A server with its protected API that speaks HTTPS.
struct Secure {
    issuer: Arc<Issuer>,
    url: String,
    ca: String,
}

impl Secure {
    async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings =
            Settings { algorithm: Algorithm::Es256, transport: Transport::Tls, ..Settings::development() };
        change(&mut settings);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let issuer = Arc::new(Issuer::new(settings, address).unwrap());
        let (tls, ca) = tls::mint("127.0.0.1").unwrap();
        let api = issuer.protected_api(None, None);
        tokio::spawn(tls::serve(listener, api.merge(issuer.router()), tls, std::future::pending()));
        Self { issuer, url: format!("https://{address}"), ca }
    }

    fn client(&self, identity: Option<&Identity>) -> reqwest::Client {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_root_certificates(roots);
        let tls = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(identity.key.serialize_der()));
                builder.with_client_auth_cert(vec![identity.der.clone()], key).unwrap()
            }
        };
        reqwest::Client::builder().no_proxy().tls_backend_preconfigured(tls).build().unwrap()
    }

    async fn send(&self, identity: Option<&Identity>, request: Request<Body>) -> Answer {
        let (mut parts, body) = request.into_parts();
        parts.uri = format!("{}{}", self.url, parts.uri).parse().unwrap();
        let request = reqwest::Request::try_from(Request::from_parts(parts, body)).unwrap();
        let response = self.client(identity).execute(request).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        Answer { status, headers, text: response.text().await.unwrap() }
    }

    async fn ask(&self, identity: Option<&Identity>, who: &str) -> Answer {
        let body = format!("grant_type=client_credentials&{who}");
        self.send(identity, form("/oauth/token").body(Body::from(body)).unwrap()).await
    }

    async fn call(&self, identity: Option<&Identity>, token: &str) -> Answer {
        let request = Request::get("/x").header(header::AUTHORIZATION, format!("Bearer {token}"));
        self.send(identity, request.body(Body::from("")).unwrap()).await
    }
}

fn by_name(name: CertificateName) -> Client {
    let methods = vec![AuthMethod::TlsClientAuth];
    Client { methods, certificate: Some(name), ..Client::public("billing") }
}

#[tokio::test]
async fn a_certificate_of_the_ca_with_the_registered_name_is_the_client() {
    let authority = Authority::new();
    let (billing, shop) = (authority.issue("billing"), authority.issue("shop"));
    let names = [
        CertificateName::SubjectDn("CN=billing, O=Example\\, Inc.".to_owned()),
        CertificateName::SanDns("Billing.example".to_owned()),
        CertificateName::SanUri("spiffe://example/billing".to_owned()),
    ];
    let told =
        ["its subject is CN=shop,O=example", "its DNS names are shop.example", "its URIs are spiffe://example/shop"];
    for (name, told) in names.into_iter().zip(told) {
        let server = Secure::with(|settings| {
            settings.client_ca = vec![authority.1.clone()];
            settings.clients.push(by_name(name));
        })
        .await;
        let who = "client_id=billing";
        let answer = server.ask(Some(&billing), who).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let token = answer.text("access_token");
        let introspection = form("/oauth/introspect").body(Body::from(format!("{DEMO}&token={token}"))).unwrap();
        let shown = server.send(None, introspection).await;
        assert_eq!(shown.get("cnf"), json!({ "x5t#S256": jwk::digest(&billing.der) }));

        // A token that was stolen is of no use without the key.
        assert_eq!(server.call(Some(&billing), &token).await.status, 200);
        for thief in [None, Some(&shop)] {
            let answer = server.call(thief, &token).await;
            assert_eq!((answer.status.as_u16(), answer.text("error")), (401, "invalid_token".to_owned()));
            assert!(answer.text.contains("bound to a client certificate"), "{}", answer.text);
        }
        server.ask(None, who).await.is_error(
            401,
            "invalid_client",
            "tls_client_auth: the TLS connection has no client",
        );
        server.ask(Some(&shop), who).await.is_error(401, "invalid_client", told);
        let stranger = Authority::new().issue("billing");
        server.ask(Some(&stranger), who).await.is_error(401, "invalid_client", "is not accepted");
        let own = Identity::self_signed("billing");
        server.ask(Some(&own), who).await.is_error(401, "invalid_client", "is not accepted");
        let secret = server.ask(Some(&billing), "client_id=billing&client_secret=x").await;
        secret.is_error(401, "invalid_client", "registered for tls_client_auth");
        // Others need no certificate, and theirs does no harm.
        for identity in [None, Some(&shop)] {
            let token = server.ask(identity, DEMO).await.text("access_token");
            assert_eq!(server.call(None, &token).await.status, 200);
        }
    }
}

#[tokio::test]
async fn a_registered_certificate_is_the_client() {
    let (own, other) = (Identity::self_signed("billing"), Identity::self_signed("billing"));
    let server = Secure::with(|settings| {
        let methods = vec![AuthMethod::SelfSignedTlsClientAuth];
        let keys = KeySet::from_pem(&own.pem).unwrap();
        settings.clients.push(Client { methods, keys, ..Client::public("billing") });
        settings.clients.push(Client { certificate_bound: true, ..Client::new("bound", "s") });
        settings.clients.push(Client { id: "named".to_owned(), ..by_name(CertificateName::SanDns("x".to_owned())) });
    })
    .await;
    let token = server.ask(Some(&own), "client_id=billing").await.text("access_token");
    assert_eq!(server.call(Some(&own), &token).await.status, 200);
    assert_eq!(server.call(Some(&other), &token).await.status, 401);
    let answer = server.ask(Some(&other), "client_id=billing").await;
    answer.is_error(401, "invalid_client", "self_signed_tls_client_auth: the client certificate (x5t#S256 ");

    // A secret says who it is; the certificate only binds the tokens.
    let bound = "client_id=bound&client_secret=s";
    let token = server.ask(Some(&other), bound).await.text("access_token");
    assert_eq!(server.call(Some(&other), &token).await.status, 200);
    assert_eq!(server.call(None, &token).await.status, 401);
    server.ask(None, bound).await.is_error(400, "invalid_request", "tls_client_certificate_bound_access_tokens");
    server.ask(Some(&own), "client_id=named").await.is_error(401, "invalid_client", "no CA for client certificates");

    let metadata =
        server.send(None, Request::get("/.well-known/oauth-authorization-server").body(Body::from("")).unwrap());
    let metadata = metadata.await;
    assert_eq!(metadata.get("tls_client_certificate_bound_access_tokens"), true);
    assert_eq!(metadata.text("token_endpoint"), format!("{}/oauth/token", server.url));
    assert_eq!(metadata.get("mtls_endpoint_aliases"), Value::Null);
    assert!(metadata.get("token_endpoint_auth_methods_supported").to_string().contains("self_signed_tls_client_auth"));
    assert_eq!(server.issuer.identifier(), server.url);
}

#[tokio::test]
async fn without_tls_there_is_no_certificate() {
    let own = Identity::self_signed("billing");
    let with = |transport: Transport| {
        Server::with(|settings| {
            let methods = vec![AuthMethod::SelfSignedTlsClientAuth];
            let keys = KeySet::from_pem(&own.pem).unwrap();
            settings.clients.push(Client { methods, keys, ..Client::public("billing") });
            settings.transport = transport;
        })
    };
    let body = "grant_type=client_credentials&client_id=billing";
    let plain = with(Transport::Plain);
    plain.form("/oauth/token", body).await.is_error(401, "invalid_client", "and this server has no TLS");
    let metadata = plain.get("/.well-known/oauth-authorization-server").await;
    assert!(!metadata.text.contains("tls"), "{}", metadata.text);

    let both = with(Transport::Both(([127, 0, 0, 1], 8443).into()));
    both.form("/oauth/token", body).await.is_error(401, "invalid_client", "use the URL in mtls_endpoint_aliases");
    let metadata = both.get("/api/v1/tenant/t/.well-known/oauth-authorization-server").await;
    assert_eq!(metadata.text("token_endpoint"), "http://127.0.0.1:8082/api/v1/tenant/t/oauth/token");
    let alias = "https://127.0.0.1:8443/api/v1/tenant/t/oauth/token";
    assert_eq!(metadata.get("mtls_endpoint_aliases")["token_endpoint"], alias);
}

#[tokio::test]
async fn a_client_that_never_finishes_its_handshake_keeps_nobody_waiting() {
    let server = Secure::with(|_| {}).await;
    let address = server.url.strip_prefix("https://").unwrap();
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(tokio::net::TcpStream::connect(address).await.unwrap());
    }
    assert_eq!(server.ask(None, DEMO).await.status, 200);
    drop(silent);
}
