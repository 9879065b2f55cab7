//! Microsoft Entra ID, by "Microsoft identity platform and the OAuth 2.0 client credentials flow", "Microsoft identity
//! platform application authentication certificate credentials", "Microsoft identity platform and OAuth2.0 On-Behalf-Of
//! flow" and "Microsoft Entra authentication and authorization error codes" (learn.microsoft.com).

use jsonwebtoken::Algorithm;
use serde_json::json;

use super::{
    case::Case,
    keys::{KNOWN, OTHER, claims, unsigned, verify},
    lookalike::{Asked, Lookalike, Told},
};

const PATH: &str = "/contoso.onmicrosoft.com/oauth2/v2.0/token";
const CLIENT: &str = "535fb089-9ff3-47b6-9bfb-4f1264799865";
const HOST: &str = "https://login.microsoftonline.com";
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// With the ids that its support asks for, after line ends.
fn refused(status: u16, code: &str, number: u32, description: &str) -> Told {
    let (trace, correlation) = ("255d1aef-8c98-452f-ac51-23d051240864", "fb3d2015-bc17-4bb9-bb85-30c5cf1aaaa7");
    let (time, aadsts) = ("2026-01-09 02:02:12Z", format!("AADSTS{number}"));
    Told::new(
        status,
        json!({
            "error": code,
            "error_description": format!(
                "{aadsts}: {description}\r\nTrace ID: {trace}\r\nCorrelation ID: {correlation}\r\nTimestamp: {time}"
            ),
            "error_codes": [number],
            "timestamp": time,
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": format!("https://login.microsoftonline.com/error?code={number}"),
        }),
    )
}

fn missing(name: &str) -> Told {
    let description = format!("The request body must contain the following parameter: '{name}'.");
    refused(400, "invalid_request", 900_144, &description)
}

fn answer(asked: &Asked) -> Told {
    if !asked.is_post(PATH) {
        return Told::new(404, json!({}));
    }
    for name in ["grant_type", "client_id", "scope"] {
        if asked.get(name).is_empty() {
            return missing(name);
        }
    }
    let (client, scope) = (asked.get("client_id"), asked.get("scope"));
    if client != CLIENT {
        let description = format!("Application with identifier '{client}' was not found in the directory 'Contoso'.");
        return refused(400, "unauthorized_client", 700_016, &description);
    }
    if let Err(refusal) = authenticated(asked) {
        return refusal;
    }
    match &*asked.get("grant_type") {
        "client_credentials" if scope.ends_with("/.default") => {}
        "client_credentials" => {
            let description = format!(
                "The provided value for scope {scope} is not valid. Client credential flows must have a scope value with \
                 /.default suffixed to the resource identifier (application ID URI)."
            );
            return refused(400, "invalid_scope", 1_002_012, &description);
        }
        JWT_BEARER => {
            if asked.get("requested_token_use") != "on_behalf_of" {
                return missing("requested_token_use");
            }
            let of_user = claims(&asked.get("assertion")).unwrap_or_default();
            if of_user["aud"] != format!("api://{CLIENT}") {
                let description = "Assertion failed signature validation.";
                return refused(400, "invalid_grant", 50_013, description);
            }
            if of_user["oid"] == "without consent" {
                let description = "The user or administrator has not consented to use the application.";
                return refused(400, "invalid_grant", 65_001, description);
            }
            if of_user["oid"] == "without a second factor" {
                let description = "Due to a configuration change made by your administrator, or because you moved to a new \
                                   location, you must use multi-factor authentication.";
                return refused(400, "interaction_required", 50_076, description);
            }
            return Told::token(
                &format!("canary-of-{}", of_user["oid"].as_str().unwrap()),
                json!({ "scope": scope, "expires_in": 3269, "ext_expires_in": 0 }),
            );
        }
        _ => return refused(400, "unsupported_grant_type", 70_003, "The app requested an unsupported grant type."),
    }
    Told::token("canary-entra", json!({ "expires_in": 3599, "ext_expires_in": 3599 }))
}

fn authenticated(asked: &Asked) -> Result<(), Told> {
    let secret = asked.get("client_secret");
    if !secret.is_empty() {
        let description = format!(
            "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not \
             the client secret ID, for a secret added to app '{CLIENT}'."
        );
        return if secret == "canary-secret" {
            Ok(())
        } else {
            Err(refused(401, "invalid_client", 7_000_215, &description))
        };
    }
    let assertion = asked.get("client_assertion");
    if assertion.is_empty() {
        let description =
            "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.";
        return Err(refused(401, "invalid_client", 7_000_218, description));
    }
    assert_eq!(asked.get("client_assertion_type"), "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
    let said = claims(&assertion).expect("a JWT");
    if said["iss"] == "https://oidc.cluster.example" {
        if said["aud"] != "api://AzureADTokenExchange" {
            let description = format!(
                "No matching federated identity record found for presented assertion audience '{}'.",
                said["aud"].as_str().unwrap()
            );
            return Err(refused(401, "invalid_client", 700_212, &description));
        }
        let subject = said["sub"].as_str().unwrap();
        if subject != "system:serviceaccount:billing:sync" {
            let description =
                format!("No matching federated identity record found for presented assertion subject '{subject}'.");
            return Err(refused(401, "invalid_client", 700_213, &description));
        }
        return Ok(());
    }
    let endpoint = format!("{}{PATH}", asked.base);
    if said["aud"] != endpoint {
        let description = "Client assertion audience claim does not match Realm issuer.";
        return Err(refused(401, "invalid_client", 700_023, description));
    }
    let unknown = || {
        let description =
            "The certificate with identifier used to sign the client assertion is not registered on application.";
        refused(401, "invalid_client", 700_027, description)
    };
    let allowed = [Algorithm::PS256, Algorithm::RS256];
    let (header, said) = verify(&assertion, &KNOWN.decoding(), &allowed, &endpoint, 600).map_err(|_| unknown())?;
    if header.x5t_s256.as_deref() != Some(&KNOWN.thumbprint) {
        return Err(unknown());
    }
    assert_eq!((&said["iss"], &said["sub"]), (&json!(CLIENT), &json!(CLIENT)));
    assert!(said["jti"].is_string() && header.typ.as_deref() == Some("JWT"));
    Ok(())
}

async fn by_certificate() -> Case {
    let files = [("graph/tls.key", &*KNOWN.pem), ("graph/tls.crt", &*KNOWN.certificate)];
    Case::new("### With a certificate", 0, HOST, Lookalike::start(answer).await, &files).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_proves_the_client() {
    let case = by_certificate().await;
    let (authorization, left) = case.works().await;
    assert_eq!(authorization, "Bearer canary-entra");
    assert!((3500..=3599).contains(&left), "{left}");
    let asked = case.server.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].names(), ["grant_type", "scope", "client_id", "client_assertion_type", "client_assertion"]);
    let header = jsonwebtoken::decode_header(asked[0].get("client_assertion")).unwrap();
    assert_eq!(header.alg, Algorithm::PS256);
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_with_a_certificate_are_told() {
    let case = by_certificate().await;
    // Support asks for the ids at the end, each of which is a word of its own.
    case.fails(
        "https://graph.microsoft.com/.default",
        "User.Read",
        &["invalid_scope: AADSTS1002012: The provided value for scope User.Read", " Trace ID: 255d1aef"],
        &["does not grant one of `User.Read`", "change `scope` of profile graph"],
    )
    .await;
    let scope = "scope = \"https://graph.microsoft.com/.default\"\n";
    case.fails(scope, "", &["invalid_request: AADSTS900144"], &["some want scope or audience"]).await;
    let method = "token_endpoint_auth_method";
    let other = format!("client_assertion_audience = \"https://login.example\"\n{method}");
    let fix = ["client_assertion_audience", "\"token_endpoint\""];
    case.fails(method, &other, &["AADSTS700023", "audience claim"], &fix).await;
    case.fails(CLIENT, "11111111-9ff3-47b6-9bfb-4f1264799865", &["unauthorized_client: AADSTS700016"], &["client `1"])
        .await;
    // Another certificate; none; and a key of another certificate.
    let certificate = format!("client_certificate_file = \"{}/graph/tls.crt\"\n", case.folder.path().display());
    let fix = ["public key of profile graph"];
    case.fails(&certificate, "", &["invalid_client: AADSTS700027"], &fix).await;
    case.file("graph/tls.crt", &OTHER.certificate);
    case.fails("PS256", "PS256", &["client_certificate_file", "belongs to another key"], &["being renewed"]).await;
    // What is no private key never leaves the machine.
    for (text, said) in [
        (&KNOWN.public_pem, "this is a public key"),
        (&KNOWN.certificate, "this is a certificate"),
        (&KNOWN.thumbprint, "neither PEM nor a JWK"),
    ] {
        case.file("graph/tls.key", text);
        let before = case.server.asked().len();
        case.fails("PS256", "PS256", &["private_key of profile graph cannot be used", said], &["private"]).await;
        assert_eq!(case.server.asked().len(), before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_secret_works_too_and_its_id_does_not() {
    let case = by_certificate().await;
    let (_, after) = case.config.split_once("token_endpoint_auth_method").unwrap();
    let (keys, _) = after.split_once("scope = ").unwrap();
    let from = format!("token_endpoint_auth_method{keys}");
    let to =
        |secret: &str| format!("token_endpoint_auth_method = \"client_secret_post\"\nclient_secret = \"{secret}\"\n");
    let said = [
        "invalid_client: AADSTS7000215: Invalid client secret",
        "not the client secret ID",
        "Correlation ID: fb3d2015",
    ];
    case.fails(&from, &to("canary-id-of-it"), &said, &["check client_id and client_secret"]).await;
    let case = Case { config: case.config.replace(&from, &to("canary-secret")), ..case };
    assert_eq!(case.works().await.0, "Bearer canary-entra");
}

fn projected(audience: &str, subject: &str) -> String {
    let claims =
        json!({ "iss": "https://oidc.cluster.example", "sub": subject, "aud": audience, "canary": "canary-x" });
    format!("{}\n", unsigned(&claims))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_account_proves_the_client() {
    let subject = "system:serviceaccount:billing:sync";
    let good = projected("api://AzureADTokenExchange", subject);
    let file = "azure/tokens/azure-identity-token";
    let heading = "### With a Kubernetes service account (workload identity federation)";
    let case = Case::new(heading, 0, HOST, Lookalike::start(answer).await, &[(file, &good)]).await;
    assert_eq!(case.works().await.0, "Bearer canary-entra");
    assert_eq!(case.server.posts()[0].get("client_assertion"), good.trim());
    let fix = ["the server trusts who made client_assertion", "`sub` and `aud`"];
    case.file(file, &projected("https://kubernetes.default.svc", subject));
    case.fails("graph", "graph", &["AADSTS700212", "'https://kubernetes.default.svc'"], &fix).await;
    case.file(file, &projected("api://AzureADTokenExchange", "system:serviceaccount:default:default"));
    case.fails("graph", "graph", &["AADSTS700213", "'system:serviceaccount:default:default'"], &fix).await;
    std::fs::remove_file(case.folder.path().join(file)).unwrap();
    case.fails("graph", "graph", &["client_assertion cannot be read"], &["check client_assertion"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_acted_for() {
    let user = |audience: &str, oid: &str| unsigned(&json!({ "aud": audience, "oid": oid, "canary": "canary-user" }));
    let own = format!("api://{CLIENT}");
    let files = [("mail/client_secret", "canary-secret"), ("mail/user_token", &*user(&own, "ann"))];
    let case = Case::new("### On behalf of a user", 0, HOST, Lookalike::start(answer).await, &files).await;
    assert_eq!(case.works().await.0, "Bearer canary-of-ann");
    let names = case.server.posts()[0].names();
    assert_eq!(names, ["grant_type", "assertion", "scope", "requested_token_use", "client_id", "client_secret"]);
    let params = "params = { requested_token_use = \"on_behalf_of\" }\n";
    case.fails(params, "", &["invalid_request: AADSTS900144", "'requested_token_use'"], &["misses a parameter"]).await;
    for (audience, oid, said, fix) in [
        // A token for Graph is not for the application.
        ("https://graph.microsoft.com", "ann", "invalid_grant: AADSTS50013", "refuses the assertion"),
        (&*own, "without consent", "invalid_grant: AADSTS65001", "an administrator has approved this client"),
        (&*own, "without a second factor", "interaction_required: AADSTS50076", "consent once, in a browser"),
    ] {
        case.file("mail/user_token", &user(audience, oid));
        case.fails("mail", "mail", &[said], &[fix]).await;
    }
    let claims = "claims = { sub = \"ann\" }\nparams = {";
    case.is_refused("params = {", claims, &["claims", "an assertion that lanyard signs"]).await;
}
