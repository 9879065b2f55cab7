//! One mistake for each method and grant: what the issuer says of it reaches `lanyard doctor` and the client, with a fix
//! that fits. The table is that of `docs/issuer.md`.

use super::{
    cases::{Grant, ROWS, Row},
    registrations::{Registrations, claims},
    servers::{Issuer, Server},
};
use crate::interop::registrations::secret;
use crate::support::{lanyard::command, tools::repository, *};

/// A mistake in a profile that works.
struct Mistake {
    /// The row that it is made in, by its heading.
    of: &'static str,
    grant: Grant,
    what: &'static str,
    /// What of the profile is replaced, and by what.
    change: (&'static str, &'static str),
    /// What the server says.
    says: &'static str,
    /// What is to be done about it.
    fix: &'static str,
}

const fn mistake(of: &'static str, grant: Grant, what: &'static str) -> Mistake {
    Mistake { of, grant, what, change: ("", ""), says: "", fix: "" }
}

impl Mistake {
    const fn change(self, from: &'static str, to: &'static str) -> Self {
        Self { change: (from, to), ..self }
    }

    const fn told(self, says: &'static str, fix: &'static str) -> Self {
        Self { says, fix, ..self }
    }
}

use Grant::{ClientCredentials, Exchange, JwtBearer, OnBehalf, Password, Refresh};

#[rustfmt::skip]
const MISTAKES: &[Mistake] = &[
    mistake("`client_secret_basic`", ClientCredentials, "another secret").change("client_secret = \"canary-", "client_secret = \"canary-x").told("401 invalid_client: Client authentication failed", "check client_id and client_secret"),
    mistake("`client_secret_basic`", ClientCredentials, "another method").change("\"client_secret_basic\"", "\"client_secret_post\"").told("This is client_secret_post, but the client is registered for client_secret_basic", "some servers want token_endpoint_auth_method = \"client_secret_basic\""),
    mistake("`client_secret_basic`", ClientCredentials, "a scope that it may not have").change("read write", "admin").told("400 invalid_scope: Scope 'admin' is not allowed for this client", "change `scope`"),
    mistake("`client_secret_jwt`, HS256", ClientCredentials, "another secret").change("client_secret = \"canary-", "client_secret = \"canary-x").told("401 invalid_client: client_assertion:", "check client_id and client_secret"),
    mistake("`private_key_jwt`, ES256", ClientCredentials, "another key").change("p256.pem", "key.jwk").told("401 invalid_client: client_assertion:", "has the public key"),
    mistake("`private_key_jwt`, a key of a JWK set", ClientCredentials, "an unknown `kid`").change("\"second\"", "\"first\"").told("401 invalid_client: client_assertion:", "(key_id, too)"),
    mistake("`private_key_jwt`, ES256", ClientCredentials, "an assertion for another server").change("grant_type", "client_assertion_audience = \"https://elsewhere.test\"\ngrant_type").told("aud is https://elsewhere.test, expected the issuer", "client_assertion_audience"),
    mistake("`private_key_jwt`, ES256", ClientCredentials, "an assertion that lives too long").change("grant_type", "assertion_lifetime = \"10h\"\ngrant_type").told("exp is 36000 s away; at most", "assertion_lifetime"),
    mistake("`private_key_jwt`, a projected service-account token", ClientCredentials, "one that has expired").change("projected.jwt", "expired.jwt").told("client_assertion: it expired", "it is fresh"),
    mistake("`private_key_jwt`, a projected service-account token", ClientCredentials, "one of somebody else").change("projected.jwt", "user.jwt").told("sub alice of https://workloads.example stands for no registered client", "for its `sub`"),
    mistake("`tls_client_auth`", ClientCredentials, "no certificate").change("\"tls_client_auth\"", "\"none\"").told("the TLS connection has no client certificate", "set token_endpoint_auth_method"),
    mistake("`tls_client_auth`", ClientCredentials, "a certificate of no CA").change("signed", "self-signed").told("tls_client_auth: the client certificate is not accepted", "has the certificate of profile"),
    mistake("`self_signed_tls_client_auth`", ClientCredentials, "another certificate").change("self-signed.", "signed.").told("is not the registered one", "has the certificate of profile"),
    mistake("`none`", Password, "a client that has a secret").change("client_id = \"none\"", "client_id = \"client-secret-basic\"").told("401 invalid_client", "set token_endpoint_auth_method"),
    mistake("`none`", Password, "a wrong password").change("password = \"canary-", "password = \"canary-x").told("400 invalid_grant: username or password is wrong", "check username and password"),
    mistake("`client_secret_basic`", Password, "a client that may not").change("client_id = \"client-secret-basic\"", "client_id = \"resource-server\"").told("400 unauthorized_client: This client may not use the grant type password", "enable the password grant for it"),
    mistake("`client_secret_basic`", Refresh, "a refresh token of another client").change("client-secret-basic.refresh", "client-secret-post.refresh").told("400 invalid_grant: Refresh token is unknown, expired or revoked", "the refresh token is used up, revoked or expired"),
    mistake("`client_secret_basic`", Refresh, "a refresh token that somebody else has used").change("client-secret-basic.refresh", "stolen.refresh").told("Refresh token was already used: all tokens of its grant are revoked now", "log in again"),
    mistake("`none`, DPoP, nonces, a key from a file", Refresh, "a refresh token that is bound to another key").change("bound.pem", "p384.pem").told("Refresh token is bound to a key, and the request has proof of none or of another", "dpop_key"),
    mistake("`client_secret_basic`", JwtBearer, "an assertion of a foreign issuer").change("user.jwt", "foreign.jwt").told("400 invalid_grant: assertion: iss https://foreign.example is neither this client nor a trusted issuer", "check iss, sub and aud"),
    mistake("`client_secret_basic`", JwtBearer, "an assertion that was used").change("user.jwt", "used.jwt").told("400 invalid_grant: assertion: jti was used before", "fresh"),
    mistake("`client_secret_basic`", Exchange, "a subject token of a foreign issuer").change("user.jwt", "foreign.jwt").told("400 invalid_request: subject_token: iss https://foreign.example is neither this server nor a trusted issuer", "from an issuer that the server trusts"),
    mistake("`client_secret_basic`", Exchange, "a subject token that has expired").change("user.jwt", "expired.jwt").told("400 invalid_request: subject_token: it expired", "is it fresh"),
    mistake("`client_secret_basic`", OnBehalf, "a caller's token of a foreign issuer").told("400 invalid_request: subject_token: iss https://foreign.example is neither this server nor a trusted issuer", "from an issuer that the server trusts"),
];

impl Mistake {
    fn row(&self) -> &'static Row {
        ROWS.iter().find(|row| row.heading() == self.of).unwrap()
    }

    fn profile(&self, issuer: &str, folder: &Folder) -> String {
        let profile = self.row().profile(self.grant, issuer, folder);
        // Each mistake is made with what was never used, and keeps nothing.
        let mut profile: String =
            profile.lines().filter(|line| !line.contains("state_file")).map(|line| format!("{line}\n")).collect();
        assert!(profile.contains(self.change.0), "{}", self.what);
        // Then there is nothing to show a certificate with.
        if self.change.1 == "\"none\"" {
            profile = profile
                .lines()
                .filter(|line| !line.starts_with("client_certificate") && !line.starts_with("client_key"))
                .map(|line| format!("{line}\n"))
                .collect();
        }
        profile.replace(self.change.0, self.change.1)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_mistake_is_told_with_what_to_do() {
    let (registrations, folder) = (Registrations::new(), Folder::new());
    registrations.write(&folder);
    let issuer = Issuer::start(Server::Tls, &folder).await;
    registrations.write_for(&folder, &issuer.ca);
    let foreign = claims("https://foreign.example", "alice", "https://auth.test", 600);
    secret(&folder, "foreign.jwt", &registrations.signed("p384.pem", "ES384", &foreign));
    let mut expired =
        claims(super::registrations::WORKLOADS, "system:serviceaccount:shop:billing", "https://auth.test", 600);
    (expired.iat, expired.exp) = (expired.iat - 7200, expired.exp - 7200);
    secret(&folder, "expired.jwt", &registrations.signed("rsa.pem", "RS256", &expired));
    let used = claims(super::registrations::WORKLOADS, "alice", "https://auth.test", 600);
    secret(&folder, "used.jwt", &registrations.signed("rsa.pem", "RS256", &used));
    for name in ["`client_secret_basic`", "`client_secret_post`", "`none`, DPoP, nonces, a key from a file"] {
        let row = ROWS.iter().find(|row| row.heading() == name).unwrap();
        row.log_in(&registrations, &issuer.url, &folder).await;
    }
    let stolen = folder.path().join("client-secret-basic.refresh");
    std::fs::copy(&stolen, folder.path().join("stolen.refresh")).unwrap();

    let mut failures = Vec::new();
    let mut table =
        "| client authentication | what is wrong | what the issuer says | and the fix |\n|---|---|---|---|\n"
            .to_owned();
    for mistake in MISTAKES {
        let config = mistake.profile(&issuer.url, &folder);
        let name = mistake.row().profile_name(mistake.grant);
        let route =
            format!("[[routes]]\nhost = \"api.test\"\nprofile = \"{name}\"\nupstream = \"http://127.0.0.1:9\"\n");
        let path = folder.write("proxy.toml", format!("{config}{route}"));
        let path = path.to_str().unwrap();
        if mistake.what.contains("used") {
            // Whoever was there first.
            let (exit, told, problems) = command(&["doctor", "--config", path], &[]).await;
            assert_eq!(exit, Some(0), "{}: {told}{problems}", mistake.what);
        }
        let lanyard = Lanyard::start(&format!("{config}{route}")).await;
        let mut request = client(Some(lanyard.address())).get("http://api.test/");
        let expected = if mistake.grant == OnBehalf {
            let token = std::fs::read_to_string(folder.path().join("foreign.jwt")).unwrap();
            request = request.header("authorization", format!("Bearer {token}"));
            (401, Some("subject_token_refused"))
        } else {
            (503, Some("token_unavailable"))
        };
        let answer = send(request).await;
        let mut told = vec![answer.body.replace("\\\"", "\"")];
        if (answer.status, answer.refusal()) != expected {
            failures.push(format!("{}: {answer:?}", mistake.what));
        }
        lanyard.finish().await;
        if mistake.grant != OnBehalf {
            let (exit, of_doctor, _) = command(&["doctor", "--config", path], &[]).await;
            assert!(exit == Some(1) && of_doctor.contains("    fix: "), "{of_doctor}");
            // A refresh token that was used twice is gone altogether.
            if mistake.what != "a refresh token that somebody else has used" {
                told.push(of_doctor);
            }
        }
        for told in told {
            for said in [mistake.says, mistake.fix] {
                if !told.contains(said) || told.contains(CANARY) {
                    failures.push(format!("{}, {}: no {said:?} in {told}", mistake.of, mistake.what));
                }
            }
        }
        table += &format!("| {} | {} | `{}` | {} |\n", mistake.of, mistake.what, mistake.says, mistake.fix);
    }
    println!("{table}");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let documented = std::fs::read_to_string(repository().join("docs/issuer.md")).unwrap();
    assert!(documented.contains(&table), "docs/issuer.md has another table than this one:\n{table}");
}
