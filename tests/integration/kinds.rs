//! Credentials that are no OAuth2 grant: what an upstream sees of each, byte for byte and both ways, and how they change.

mod recorder;
mod versions;

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rsa::{RsaPrivateKey, pkcs1::EncodeRsaPrivateKey as _};
use serde_json::Value;

use self::recorder::{Recorder, both_ways, only};
use super::support::{idp::Reply, lanyard::command, *};

fn rsa_pem() -> String {
    RsaPrivateKey::new(&mut rand_core::OsRng, 2048)
        .unwrap()
        .to_pkcs1_pem(rsa::pkcs8::LineEnding::LF)
        .unwrap()
        .to_string()
}

/// A scripted provider's address without a path.
fn base(idp: &Idp) -> String {
    idp.url().trim_end_matches("/token").to_owned()
}

fn claims(jwt: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(jwt.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

fn replace(folder: &Folder, name: &str, content: impl AsRef<[u8]>) {
    let next = folder.write(&format!("{name}.next"), content);
    std::fs::rename(next, folder.path().join(name)).unwrap();
}

/// The log and everything that the admin listener tells.
async fn told(lanyard: &Lanyard) -> String {
    let mut all: String = lanyard.log().iter().map(|event| format!("{event}\n")).collect();
    for path in ["status", "config", "readyz"] {
        all += &get(&format!("http://{}/{path}", lanyard.admin)).await.body;
    }
    all + &lanyard.metrics().await
}

struct Providers {
    github: Idp,
    google: Idp,
    azure: Idp,
}

impl Providers {
    async fn start() -> Self {
        let (github, google, azure) = (Idp::start().await, Idp::start().await, Idp::start().await);
        let body = r#"{"token":"canary-github","expires_at":"2100-01-01T00:00:00Z"}"#;
        github.always(Reply::Json(201, "", body.to_owned()));
        let body = r#"{"access_token":"canary-google","expires_in":3600,"token_type":"Bearer"}"#;
        google.always(Reply::Json(200, "Metadata-Flavor: Google\r\n", body.to_owned()));
        let body = r#"{"access_token":"canary-azure","expires_in":"3600","token_type":"Bearer"}"#;
        azure.always(Reply::Json(200, "", body.to_owned()));
        Self { github, google, azure }
    }
}

/// A folder with a secret of each kind, and the profiles that read them.
fn every_kind(providers: &Providers) -> (Folder, String) {
    let folder = Folder::new();
    folder.write("bearer", "canary-bearer\n");
    folder.write("header", "canary-header\n");
    folder.write("query", "canary-query&=/ ü\n");
    folder.write("basic", "canary-basic:ä\n");
    folder.write("jwt.pem", rcgen::KeyPair::generate().unwrap().serialize_pem());
    folder.write("file", r#"{"access_token":"canary-file","expires_in":3600}"#);
    let script =
        folder.write("get-token.sh", "echo \"{\\\"access_token\\\":\\\"$TOKEN\\\",\\\"expires_in\\\":3600}\"\n");
    folder.write("app.pem", rsa_pem());
    let config = format!(
        "[profiles.bearer]\ntype = \"bearer\"\ntoken = {{ file = \"bearer\" }}\n\
         [profiles.header]\ntype = \"header\"\nheader = \"X-Api-Key\"\nsecret = {{ file = \"header\" }}\ntemplate = \"Token token={{secret}}\"\n\
         [profiles.query]\ntype = \"query\"\nparameter = \"api_key\"\nsecret = {{ file = \"query\" }}\n\
         [profiles.basic]\ntype = \"basic\"\nusername = \"me@example.com\"\npassword = {{ file = \"basic\" }}\n\
         [profiles.jwt]\ntype = \"jwt\"\nprivate_key = {{ file = \"jwt.pem\" }}\nkey_id = \"K1\"\n\
         claims = {{ iss = \"team\", aud = \"appstoreconnect-v1\", sub = \"{{profile}}\", nbf = \"{{now}}\" }}\n\
         [profiles.file]\ntype = \"file\"\npath = \"file\"\n\
         [profiles.exec]\ntype = \"exec\"\ncommand = [\"/bin/sh\", \"{}\"]\nenvironment = {{ TOKEN = \"canary-exec\" }}\n\
         [profiles.github]\ntype = \"github_app\"\nclient_id = \"Iv1.x\"\ninstallation_id = \"42\"\n\
         private_key = {{ file = \"app.pem\" }}\napi = \"{}\"\npermissions = {{ contents = \"read\" }}\n\
         [profiles.google]\ntype = \"google_metadata\"\nmetadata_endpoint = \"{}\"\n\
         [profiles.azure]\ntype = \"azure_managed_identity\"\nresource = \"https://vault.azure.net\"\nmetadata_endpoint = \"{}\"\n",
        script.display(),
        base(&providers.github),
        base(&providers.google),
        base(&providers.azure),
    );
    (folder, config)
}

const KINDS: [&str; 10] = ["bearer", "header", "query", "basic", "jwt", "file", "exec", "github", "google", "azure"];

fn routes(upstream: &ByHand) -> String {
    KINDS.iter().map(|name| upstream.route(&format!("{name}.test"), name)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_sees_each_kind_as_it_should_both_ways() {
    let (providers, upstream) = (Providers::start().await, Recorder::start().await);
    let (folder, profiles) = every_kind(&providers);
    let lanyard = Lanyard::start_in(folder, &(profiles + &routes(&upstream.server)), &[]).await;
    lanyard.ready().await;
    for (name, path, sent, field) in [
        ("bearer", "/a%2Fb?x=%20&y", "/a%2Fb?x=%20&y", "Authorization: Bearer canary-bearer"),
        ("header", "/", "/", "X-Api-Key: Token token=canary-header"),
        ("query", "/a%2Fb", "/a%2Fb?api_key=canary-query%26%3D%2F%20%C3%BC", ""),
        ("query", "/a?x=%20&y", "/a?x=%20&y&api_key=canary-query%26%3D%2F%20%C3%BC", ""),
        // The client's own goes, however it is written.
        ("query", "/a?api_key=canary-own&x=+&api%5Fkey=b", "/a?x=+&api_key=canary-query%26%3D%2F%20%C3%BC", ""),
        ("basic", "/", "/", "Authorization: Basic bWVAZXhhbXBsZS5jb206Y2FuYXJ5LWJhc2ljOsOk"),
        ("jwt", "/", "/", "Authorization: Bearer <jwt>"),
        ("file", "/", "/", "Authorization: Bearer canary-file"),
        ("exec", "/", "/", "Authorization: Bearer canary-exec"),
        ("github", "/", "/", "Authorization: Bearer canary-github"),
        ("google", "/", "/", "Authorization: Bearer canary-google"),
        ("azure", "/", "/", "Authorization: Bearer canary-azure"),
    ] {
        let (host, to) = (format!("{name}.test"), upstream.server.address);
        let [plain, chunked] = both_ways(&lanyard, &upstream, &host, path).await;
        let via = |head: &str| only(head, "via").to_owned();
        let field = match field.strip_suffix("<jwt>") {
            Some(start) => format!("{start}{}", only(&plain, "authorization").trim_start_matches("Bearer ")),
            None => field.to_owned(),
        };
        let field = if field.is_empty() { field } else { format!("\r\n{field}") };
        let expected = format!("GET {sent} HTTP/1.1\r\nHost: {to}\r\nX-One: 1\r\nVia: {}{field}", via(&plain));
        assert_eq!(plain, expected);
        let mut lines: Vec<&str> = chunked.lines().collect();
        assert_eq!(lines.remove(0), format!("POST {sent} HTTP/1.1"));
        let via = format!("Via: {}", via(&chunked));
        let mut expected =
            vec![format!("Host: {to}"), "X-One: 1".to_owned(), "Transfer-Encoding: chunked".to_owned(), via];
        expected.extend(field.strip_prefix("\r\n").map(str::to_owned));
        let mut fields: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        fields.sort();
        expected.sort();
        assert_eq!(fields, expected, "{chunked}");
    }

    // What the metadata servers and GitHub were asked.
    let google = providers.google.requests();
    assert!(google[0].starts_with(
        "GET /computeMetadata/v1/instance/service-accounts/default/token HTTP/1.1\r\nmetadata-flavor: Google\r\n"
    ));
    let azure = providers.azure.requests();
    let line = "GET /metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net HTTP/1.1\r\nmetadata: true\r\n";
    assert!(azure[0].starts_with(line), "{}", azure[0]);
    let github = providers.github.requests();
    assert!(github[0].starts_with("POST /app/installations/42/access_tokens HTTP/1.1\r\n"), "{}", github[0]);
    assert!(github[0].ends_with("\r\n\r\n{\"permissions\":{\"contents\":\"read\"}}"), "{}", github[0]);
    assert_eq!((google.len(), azure.len(), github.len()), (1, 1, 1));

    // What does not expire says so; a JWT and a proof are secrets too.
    let status = lanyard.status().await;
    let token = |name: &str| status["profiles"][name]["token"].clone();
    for name in ["bearer", "header", "query", "basic"] {
        assert_eq!(
            (&token(name)["expires"], &token(name)["expires_in_seconds"]),
            (&Value::Bool(false), &Value::Null),
            "{name}"
        );
    }
    assert!((290..=300).contains(&token("jwt")["expires_in_seconds"].as_u64().unwrap()), "{status}");
    assert!((3500..=3600).contains(&token("file")["expires_in_seconds"].as_u64().unwrap()), "{status}");
    // Each is told as it would be written.
    let config = get(&format!("http://{}/config", lanyard.admin)).await.json();
    for (name, key) in [("bearer", "token"), ("header", "secret"), ("query", "secret"), ("basic", "password")] {
        let profile = &config["profiles"][name];
        let file = profile[key]["file"].as_str().unwrap_or_default();
        assert_eq!((profile["type"].as_str(), file.ends_with(name)), (Some(name), true), "{profile}");
    }
    let told = told(&lanyard).await;
    assert!(!told.contains("token_expiry_timestamp_seconds{profile=\"bearer\"}"));
    assert!(told.contains("token_expiry_timestamp_seconds{profile=\"exec\"}"));
    let [head, _] = both_ways(&lanyard, &upstream, "jwt.test", "/").await;
    let jwt = only(&head, "authorization").strip_prefix("Bearer ").unwrap();
    let said = claims(jwt);
    assert_eq!((said["sub"].as_str(), &said["nbf"]), (Some("jwt"), &said["iat"]));
    let proof =
        only(github[0].split_once("\r\n\r\n").unwrap().0, "authorization").strip_prefix("Bearer ").unwrap().to_owned();
    for secret in [jwt, &proof, "bWVAZXhhbXBsZS5jb206Y2FuYXJ5LWJhc2ljOsOk"] {
        assert!(!told.contains(secret));
    }
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_client_sent_itself_is_kept_or_rejected_wherever_it_stands() {
    let (providers, upstream) = (Providers::start().await, Recorder::start().await);
    for existing in ["keep", "reject"] {
        let (folder, profiles) = every_kind(&providers);
        let profiles = profiles.replace("\ntype = ", &format!("\nexisting = \"{existing}\"\ntype = "));
        let lanyard = Lanyard::start_in(folder, &(profiles + &routes(&upstream.server)), &[]).await;
        lanyard.ready().await;
        for (name, path, field) in [
            ("bearer", "/", "Authorization: Basic canary-own"),
            ("header", "/", "X-Api-Key: canary-own"),
            ("query", "/?api%5fkey=canary-own", "X-Two: 2"),
            ("basic", "/", "Authorization: Bearer canary-own"),
            ("exec", "/", "Authorization: Bearer canary-own"),
        ] {
            for (method, fields, body) in
                [("GET", "", ""), ("POST", "Transfer-Encoding: chunked\r\n", "2\r\nhi\r\n0\r\n\r\n")]
            {
                let before = upstream.count();
                let request = format!(
                    "{method} {path} HTTP/1.1\r\nHost: {name}.test\r\nX-One: 1\r\n{field}\r\n{fields}Connection: close\r\n\r\n{body}"
                );
                let answer = raw(lanyard.address(), request).await;
                if existing == "reject" {
                    assert_eq!((status_of(&answer), upstream.count()), (400, before), "{name} {method}: {answer}");
                    assert!(!answer.contains(CANARY), "{answer}");
                    continue;
                }
                assert_eq!(status_of(&answer), 200, "{name} {method}: {answer}");
                let seen = upstream.last();
                assert!(seen.starts_with(&format!("{method} {path} HTTP/1.1\r\n")), "{seen}");
                let (field, value) = field.split_once(": ").unwrap();
                assert_eq!(only(seen.split_once("\r\n\r\n").unwrap().0, field), value, "{seen}");
                assert_eq!(seen.matches(CANARY).count(), 1, "{seen}");
            }
        }
        lanyard.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_secret_file_can_change_under_load() {
    let (providers, upstream) = (Providers::start().await, Recorder::start().await);
    let (folder, profiles) = every_kind(&providers);
    let lanyard = Lanyard::start_in(folder, &(profiles + &routes(&upstream.server)), &[]).await;
    lanyard.ready().await;
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let load: Vec<_> = KINDS
        .iter()
        .map(|name| {
            let (stop, client) = (Arc::clone(&stop), client(Some(lanyard.address())));
            let url = format!("http://{name}.test/load");
            tokio::spawn(async move {
                let mut served = 0;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let answer = send(client.get(&url)).await;
                    assert_eq!(answer.status, 200, "{url}: {}", answer.body);
                    served += 1;
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                served
            })
        })
        .collect();
    let pair = rcgen::KeyPair::generate().unwrap();
    let rsa = rsa_pem();
    let before = providers.github.calls();
    for (name, content) in [
        ("bearer", "canary-bearer-2\n"),
        ("header", "canary-header-2\n"),
        ("query", "canary-query-2\n"),
        ("basic", "canary-basic-2\n"),
        ("jwt.pem", &pair.serialize_pem()),
        ("file", "canary-file-2\n"),
        ("app.pem", &rsa),
    ] {
        replace(&lanyard.folder, name, content);
    }
    for (host, sign) in [
        ("bearer.test", "Bearer canary-bearer-2"),
        ("header.test", "token=canary-header-2"),
        ("query.test", "api_key=canary-query-2 "),
        ("basic.test", "Basic bWVAZXhhbXBsZS5jb206Y2FuYXJ5LWJhc2ljLTI="),
        ("file.test", "Bearer canary-file-2"),
    ] {
        let changed = async || both_ways(&lanyard, &upstream, host, "/").await.iter().all(|head| head.contains(sign));
        eventually(host, changed).await;
    }
    let key = jsonwebtoken::DecodingKey::from_ec_der(pair.public_key_raw());
    let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::ES256);
    validation.set_audience(&["appstoreconnect-v1"]);
    eventually("the new key signs", async || {
        let [head, _] = both_ways(&lanyard, &upstream, "jwt.test", "/").await;
        let jwt = only(&head, "authorization").strip_prefix("Bearer ").unwrap();
        jsonwebtoken::decode::<Value>(jwt, &key, &validation).is_ok()
    })
    .await;
    eventually("the app's new key", async || providers.github.calls() > before).await;
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    for task in load {
        assert!(task.await.expect("no request failed") > 0);
    }
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_secret_is_read_anew_and_sent_again_only_if_it_changed() {
    let upstream = Upstream::start().await;
    for (secret, again) in [("canary-old\n", false), ("canary-new\n", true)] {
        for chunked in [false, true] {
            let folder = Folder::new();
            folder.write("secret", "canary-old\n");
            let profile = "[profiles.p]\ntype = \"bearer\"\ntoken = { file = \"secret\" }\n";
            let lanyard =
                Lanyard::start_in(folder, &format!("{profile}{}", upstream.route("api.test", "p")), &[]).await;
            lanyard.ready().await;
            upstream.seen.revoke("canary-old");
            let before = upstream.seen.requests().len();
            // The same inode, size and time: only the 401 makes it read.
            let path = lanyard.folder.path().join("secret");
            let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
            std::fs::write(&path, secret).unwrap();
            std::fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
            let (fields, body) =
                if chunked { ("Transfer-Encoding: chunked\r\n", "2\r\nhi\r\n0\r\n\r\n") } else { ("", "") };
            let method = if chunked { "POST" } else { "GET" };
            let answer = raw(
                lanyard.address(),
                format!("{method} / HTTP/1.1\r\nHost: api.test\r\n{fields}Connection: close\r\n\r\n{body}"),
            )
            .await;
            assert_eq!(status_of(&answer), if again { 200 } else { 401 }, "{answer}");
            let sent: Vec<String> =
                upstream.seen.requests()[before..].iter().flat_map(|r| r.all("authorization")).collect();
            let expected: &[&str] =
                if again { &["Bearer canary-old", "Bearer canary-new"] } else { &["Bearer canary-old"] };
            assert_eq!(sent, expected, "{method}");
            assert_eq!(lanyard.metric("lanyard_token_rejected_total{profile=\"p\"}").await, 1.0);
            lanyard.finish().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_run_before_its_token_ends_and_its_failure_is_told() {
    let upstream = Upstream::start().await;
    let folder = Folder::new();
    let script = folder.write(
        "get-token.sh",
        "cd \"$(dirname \"$0\")\"\necho run >> runs\n\
         if [ -e broken ]; then echo canary-leak; echo 'login expired for canary-leak' >&2; exit 7; fi\n\
         n=$(($(wc -l < runs)))\necho \"{\\\"token\\\":\\\"canary-token-$n\\\",\\\"expires_in\\\":2}\"\n",
    );
    let profile = format!("[profiles.p]\ntype = \"exec\"\ncommand = [\"/bin/sh\", \"{}\"]\n", script.display());
    let lanyard = Lanyard::start_in(folder, &format!("{profile}{}", upstream.route("api.test", "p")), &[]).await;
    lanyard.ready().await;
    eventually("a token of a later run", async || {
        assert_eq!(get_via(lanyard.address(), "http://api.test/").await.status, 200);
        upstream.seen.last().all("authorization") != ["Bearer canary-token-1"]
    })
    .await;
    assert_eq!(lanyard.metric("lanyard_token_wait_seconds_count{profile=\"p\"}").await, 0.0);
    lanyard.folder.write("broken", "");
    let event = lanyard.wait_for("a failure", |event| event["message"] == "token request failed").await;
    let detail = event["detail"].as_str().unwrap();
    assert!(detail.ends_with("failed (exit status: 7): login expired for [redacted]"), "{event}");
    eventually("it is refused", async || get_via(lanyard.address(), "http://api.test/").await.status == 503).await;
    let answer = get_via(lanyard.address(), "http://api.test/").await;
    assert!(answer.refusal() == Some("token_unavailable") && answer.body.contains("login expired"), "{}", answer.body);
    assert!(!answer.body.contains(CANARY), "{}", answer.body);
    std::fs::remove_file(lanyard.folder.path().join("broken")).unwrap();
    eventually("it recovers", async || get_via(lanyard.address(), "http://api.test/").await.status == 200).await;
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_servers_are_asked_directly_where_the_environment_says() {
    let (providers, upstream) = (Providers::start().await, Upstream::start().await);
    let profiles = "[profiles.google]\ntype = \"google_metadata\"\nscope = \"a b\"\n\
                    [profiles.azure]\ntype = \"azure_managed_identity\"\nresource = \"https://vault.azure.net\"\nclient_id = \"c\"\n\
                    [egress_proxy]\nurl = \"http://127.0.0.1:1\"\nno_proxy = \"127.0.0.2\"\n";
    let routes = upstream.route("google.test", "google") + &upstream.route("azure.test", "azure");
    let (google, azure) = (base(&providers.google).replace("http://", ""), format!("{}/msi", base(&providers.azure)));
    let environment = [
        ("GCE_METADATA_HOST", google.as_str()),
        ("IDENTITY_ENDPOINT", &azure),
        ("IDENTITY_HEADER", "canary-identity"),
        ("HTTP_PROXY", "http://127.0.0.1:1"),
        ("http_proxy", "http://127.0.0.1:1"),
    ];
    let lanyard = Lanyard::start_in(Folder::new(), &format!("{profiles}{routes}"), &environment).await;
    lanyard.ready().await;
    assert!(
        providers.google.requests()[0]
            .starts_with("GET /computeMetadata/v1/instance/service-accounts/default/token?scopes=a%2Cb HTTP/1.1\r\n")
    );
    let request = providers.azure.requests()[0].clone();
    assert!(
        request.starts_with(
            "GET /msi?api-version=2019-08-01&resource=https%3A%2F%2Fvault.azure.net&client_id=c HTTP/1.1\r\n"
        ),
        "{request}"
    );
    assert!(request.contains("\r\nx-identity-header: canary-identity\r\n"), "{request}");

    // A server that sends lanyard elsewhere, or is another, gets nothing more.
    let other = Idp::start().await;
    let location = format!("Metadata-Flavor: Google\r\nLocation: {}\r\n", other.url());
    let location: &'static str = Box::leak(location.into_boxed_str());
    providers.google.always(Reply::Json(302, location, String::new()));
    providers.azure.always(Reply::Json(
        410,
        "",
        r#"{"error":"gone","error_description":"canary-identity"}"#.to_owned(),
    ));
    let config = lanyard.config_path();
    let (exit, told, _) = command(&["doctor", "--config", config.to_str().unwrap()], &environment).await;
    assert_eq!((exit, other.calls()), (Some(1), 0));
    for part in [
        "google: FAILED (refused)",
        "answered 302",
        "azure: FAILED (server_error)",
        "answered 410: gone: [redacted]",
        "fix: ",
    ] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_tells_what_each_kind_did_and_how_to_mend_it() {
    let providers = Providers::start().await;
    let (folder, profiles) = every_kind(&providers);
    let path = folder.write("proxy.toml", &profiles);
    let run = async || command(&["doctor", "--config", path.to_str().unwrap()], &[]).await;
    let (exit, told, warned) = run().await;
    assert_eq!(exit, Some(0), "{told}{warned}");
    for (start, end) in [
        ("bearer: ok: the secret in ", "which does not expire"),
        ("query: ok: the secret in ", "which does not expire"),
        ("jwt: ok: a signed JWT in ", "which lives 299 s"),
        ("file: ok: the file's token in ", "which lives 35"),
        ("exec: ok: the token that the command printed in ", "which lives 3"),
        ("github: ok: an installation token in ", "which lives "),
        ("google: ok: a token of Google's metadata server in ", "which lives 3"),
        ("azure: ok: a token of Azure's identity service in ", "which lives 3"),
    ] {
        let line =
            told.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("no {start:?} in {told}"));
        assert!(line.contains(end), "{line}");
    }
    assert!(!told.contains(CANARY), "{told}");

    folder.write("bearer", "canary\u{1}\n");
    std::fs::remove_file(folder.path().join("header")).unwrap();
    folder.write("jwt.pem", "canary-no-key");
    folder.write("file", "canary one two");
    folder.write("get-token.sh", "echo 'not logged in' >&2\nexit 3\n");
    providers.github.always(Reply::Json(404, "", r#"{"message":"Not Found"}"#.to_owned()));
    providers.google.always(Reply::Json(200, "", r#"{"access_token":"canary-impostor"}"#.to_owned()));
    providers.azure.always(Reply::Json(
        400,
        "",
        r#"{"error":"invalid_request","error_description":"Identity not found"}"#.to_owned(),
    ));
    let (exit, told, _) = run().await;
    assert_eq!(exit, Some(1));
    let lines: Vec<&str> = told.lines().collect();
    for (start, what, fix) in [
        ("bearer", "a control character at byte 6", "nothing but the secret"),
        ("header", "cannot be read", "secret of profile header"),
        ("jwt", "not a private key", "BEGIN PRIVATE KEY"),
        ("file", "a space at byte 6", "a token and nothing else"),
        ("exec", "failed (exit status: 3): not logged in", "by hand as lanyard's user"),
        ("github", "answered 404: Not Found", "installation_id"),
        ("google", "without Metadata-Flavor: Google", "something else answers"),
        ("azure", "Identity not found", "assign a managed identity"),
    ] {
        let at = lines.iter().position(|line| line.starts_with(&format!("{start}: FAILED (")));
        let at = at.unwrap_or_else(|| panic!("{start} did not fail: {told}"));
        assert!(lines[at].contains(what), "{}", lines[at]);
        assert!(lines[at + 1].starts_with("    fix: ") && lines[at + 1].contains(fix), "{}", lines[at + 1]);
    }
    assert!(told.contains("basic: ok") && !told.contains("canary"), "{told}");
}
