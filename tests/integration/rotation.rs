//! Every kind of secret file is replaced under load: no request fails, and the provider sees the new one. First as
//! Kubernetes does it, by a swap of the link `..data`, then by renaming a file over it.

mod provider;

use std::{
    os::unix::fs::symlink,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{DecodingKey, Validation, jwk::Jwk};
use rcgen::{KeyPair, PublicKeyData};
use serde_json::{Value, json};

use self::provider::{Known, Provider, der, tls};
use super::support::*;

/// A kind of secret: what its profile says, and for each generation its files and what the provider knows of them.
struct Kind {
    name: &'static str,
    keys: String,
    generations: Vec<(Vec<(&'static str, String)>, Known)>,
}

const GENERATIONS: usize = 3;

fn kind(name: &'static str, keys: &str, make: impl Fn(usize) -> (Vec<(&'static str, String)>, Known)) -> Kind {
    let keys = keys.replace("FILE", &format!("{name}/file"));
    Kind { name, keys, generations: (0..GENERATIONS).map(make).collect() }
}

/// One that is a text; the line end is an editor's.
fn text(name: &'static str, keys: &str) -> Kind {
    kind(name, keys, |generation| {
        let text = format!("canary-{name}-{generation}");
        (vec![("file", format!("{text}\n"))], Known::Text(text))
    })
}

fn key_pair() -> (KeyPair, DecodingKey) {
    let pair = KeyPair::generate().unwrap();
    // An EC key's DER is the point itself, to this library.
    let decoding = DecodingKey::from_ec_der(pair.der_bytes());
    (pair, decoding)
}

fn kinds(authority: &Authority) -> Vec<Kind> {
    let jwt_bearer = "grant_type = \"urn:ietf:params:oauth:grant-type:jwt-bearer\"\n";
    let exchange = "grant_type = \"urn:ietf:params:oauth:grant-type:token-exchange\"\n";
    vec![
        text("client-secret", "client_id = \"client\"\nclient_secret = { file = \"FILE\" }\n"),
        text("client-assertion", "client_id = \"client\"\nclient_assertion = { file = \"FILE\" }\n"),
        text(
            "password",
            "grant_type = \"password\"\ntoken_endpoint_auth_method = \"none\"\nclient_id = \"client\"\nusername = \"ann\"\n\
             password = { file = \"FILE\" }\n",
        ),
        text("assertion", &format!("{jwt_bearer}assertion = {{ file = \"FILE\" }}\n")),
        text("subject-token", &format!("{exchange}subject_token = {{ file = \"FILE\" }}\n")),
        kind("private-key", "client_id = \"client\"\nprivate_key = { file = \"FILE\" }\n", |_| {
            let (pair, decoding) = key_pair();
            (vec![("file", pair.serialize_pem())], Known::Key(decoding))
        }),
        kind("service-account", &format!("{jwt_bearer}service_account = {{ file = \"FILE\" }}\n"), |generation| {
            let (pair, decoding) = key_pair();
            let file = json!({
                "type": "service_account",
                "client_email": "sync@acme.iam.gserviceaccount.com",
                "private_key_id": generation.to_string(),
                "private_key": pair.serialize_pem(),
            });
            (vec![("file", file.to_string())], Known::Key(decoding))
        }),
        kind(
            "certificate",
            "client_id = \"client\"\ntoken_endpoint_auth_method = \"tls_client_auth\"\n\
             client_certificate_file = \"certificate/tls.crt\"\nclient_key_file = \"certificate/tls.key\"\n",
            |generation| {
                let (certificate, key) = authority.pair(&[&format!("client-{generation}")]);
                let known = Known::Certificate(der(&certificate).to_vec());
                (vec![("tls.crt", certificate), ("tls.key", key)], known)
            },
        ),
        kind(
            "dpop-key",
            "client_id = \"client\"\ntoken_endpoint_auth_method = \"none\"\ndpop_key = { file = \"FILE\" }\n",
            |_| {
                let (pair, _) = key_pair();
                // A point that is not compressed: 4, x, y.
                let x = BASE64_URL_SAFE_NO_PAD.encode(&pair.der_bytes()[1..33]);
                (vec![("file", pair.serialize_pem())], Known::Proof(json!({ "x": x })))
            },
        ),
    ]
}

impl Kind {
    fn host(&self) -> String {
        format!("{}.test", self.name)
    }

    fn accepted(&self, generations: &[usize]) -> Vec<(usize, Known)> {
        generations.iter().map(|at| (*at, self.generations[*at].1.clone())).collect()
    }

    /// A version of a mounted secret.
    fn mount(&self, folder: &Path, generation: usize) {
        mount(&folder.join(self.name), generation, &self.generations[generation].0);
    }

    /// File by file, each by a rename.
    fn rename(&self, folder: &Path, generation: usize) {
        for (name, content) in &self.generations[generation].0 {
            let (path, beside) = (folder.join(self.name).join(name), folder.join(self.name).join(".new"));
            std::fs::write(&beside, content).unwrap();
            std::fs::rename(&beside, &path).unwrap();
        }
    }
}

/// A version of a mounted volume, as kubelet writes it: a folder of its own, and one link that is swapped.
fn mount(folder: &Path, version: usize, files: &[(&'static str, String)]) {
    let of_version = format!("..2026_{version}");
    std::fs::create_dir_all(folder.join(&of_version)).unwrap();
    for (name, content) in files {
        std::fs::write(folder.join(&of_version).join(name), content).unwrap();
    }
    symlink(&of_version, folder.join("..data_tmp")).unwrap();
    std::fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    for (name, _) in files {
        if !folder.join(name).is_symlink() {
            symlink(format!("..data/{name}"), folder.join(name)).unwrap();
        }
    }
    // The old one goes.
    if version > 0 {
        std::fs::remove_dir_all(folder.join(format!("..2026_{}", version - 1))).unwrap();
    }
}

/// Two connections for each host, each with a request every 100 ms.
struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(lanyard: &Lanyard, hosts: &[String]) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let tasks = hosts.iter().chain(hosts).map(|host| {
            let (stop, sent, url) = (Arc::clone(&stop), Arc::clone(&sent), format!("http://{host}/{host}"));
            let client = client(Some(lanyard.address()));
            tokio::spawn(async move {
                let (mut failed, mut pace) = (Vec::new(), tokio::time::interval(Duration::from_millis(100)));
                while !stop.load(Ordering::Relaxed) {
                    pace.tick().await;
                    let answer = send(client.get(&url)).await;
                    sent.fetch_add(1, Ordering::Relaxed);
                    if answer.status != 200 {
                        failed.push(format!("{url}: {} {}", answer.status, answer.body));
                    }
                }
                failed
            })
        });
        Self { tasks: tasks.collect(), stop, sent }
    }

    /// How many requests were answered; not one of them failed.
    async fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let mut failed = Vec::new();
        for task in self.tasks {
            failed.extend(task.await.unwrap());
        }
        assert!(failed.is_empty(), "{} failed: {:?}", failed.len(), failed.first());
        self.sent.load(Ordering::Relaxed)
    }
}

/// Waits until the provider has seen a generation so often.
async fn seen(provider: &Provider, kinds: &[Kind], generation: usize, times: usize) {
    for kind in kinds {
        let what = format!("{}, generation {generation}, {times} times", kind.name);
        eventually(&what, async || provider.seen(kind.name, generation) >= times).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_secret_is_replaced_under_load() {
    let authority = Authority::new();
    let (provider, upstream) = (Provider::start(tls(&authority)).await, Upstream::start().await);
    let (kinds, folder) = (kinds(&authority), Folder::new());
    folder.write("ca.pem", authority.pem());
    let mut config = String::new();
    for kind in &kinds {
        kind.mount(folder.path(), 0);
        provider.accept(kind.name, kind.accepted(&[0]));
        let (name, url) = (kind.name, provider.url(kind.name));
        config += &format!("[profiles.{name}]\ntoken_endpoint = \"{url}\"\nca_file = \"ca.pem\"\n{}", kind.keys);
        config += &upstream.route(&kind.host(), name);
    }
    let lanyard = Lanyard::start_in(folder, &config, &[]).await;
    lanyard.ready().await;
    let hosts: Vec<String> = kinds.iter().map(Kind::host).collect();
    let load = Load::start(&lanyard, &hosts);
    for next in 1..GENERATIONS {
        // Both are taken for a moment, then the new one alone, for more than one token.
        for kind in &kinds {
            provider.accept(kind.name, kind.accepted(&[next - 1, next]));
            match next {
                1 => kind.mount(lanyard.folder.path(), next),
                _ => kind.rename(lanyard.folder.path(), next),
            }
        }
        seen(&provider, &kinds, next, 1).await;
        for kind in &kinds {
            provider.accept(kind.name, kind.accepted(&[next]));
        }
        seen(&provider, &kinds, next, 2).await;
    }
    let sent = load.end().await;
    assert_eq!(provider.refused(), [""; 0]);
    let requests = upstream.seen.requests();
    assert!(sent >= 500 && u64::try_from(requests.len()).unwrap() == sent, "{sent}, {}", requests.len());
    println!("{} kinds, {GENERATIONS} generations, {sent} requests, 0 failed", kinds.len());
    for (kind, host) in kinds.iter().zip(&hosts) {
        let of_kind: Vec<_> = requests.iter().filter(|request| request.path[1..] == **host).collect();
        assert!(!of_kind.is_empty(), "{host}");
        for request in of_kind {
            let authorization = &request.all("authorization")[0];
            if kind.name == "dpop-key" {
                is_bound(authorization, &request.all("dpop")[0]);
            } else {
                assert!(authorization.starts_with(&format!("Bearer canary-{}-", kind.name)), "{authorization}");
            }
        }
    }
    lanyard.finish().await;
}

/// The proof is by the key that the token is bound to, also where the key has changed since.
fn is_bound(authorization: &str, proof: &str) {
    let token = authorization.strip_prefix("DPoP ").unwrap();
    let jwk = base64::prelude::BASE64_STANDARD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let bound: Jwk = serde_json::from_slice(&jwk).unwrap();
    let mut validation = Validation::new(jsonwebtoken::Algorithm::ES256);
    validation.required_spec_claims.clear();
    jsonwebtoken::decode::<Value>(proof, &DecodingKey::from_jwk(&bound).unwrap(), &validation).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_is_followed_across_a_restart_and_replaced() {
    let authority = Authority::new();
    let (provider, upstream) = (Provider::start(tls(&authority)).await, Upstream::start().await);
    let name = "refresh-token";
    let family = |generation: usize| (generation, Known::Family(format!("canary-login-{generation}")));
    // It outlives both runs.
    let folder = Folder::new();
    let file = |generation: usize| vec![("file", format!("canary-login-{generation}\n"))];
    mount(&folder.path().join("mounted"), 0, &file(0));
    folder.write("ca.pem", authority.pem());
    let path = folder.path().display();
    let config = format!(
        "[profiles.{name}]\ngrant_type = \"refresh_token\"\ntoken_endpoint = \"{}\"\nca_file = \"{path}/ca.pem\"\n\
         client_id = \"client\"\ntoken_endpoint_auth_method = \"none\"\nrefresh_token = {{ file = \"{path}/mounted/file\" }}\n\
         refresh_token_state_file = \"{path}/state\"\n{}",
        provider.url(name),
        upstream.route("api.test", name)
    );
    let hosts = ["api.test".to_owned()];
    provider.accept(name, vec![family(0)]);
    let lanyard = Lanyard::start(&config).await;
    lanyard.ready().await;
    let load = Load::start(&lanyard, &hosts);
    eventually("it rotates", async || provider.seen(name, 0) >= 2).await;
    load.end().await;
    lanyard.finish().await;

    // The server would refuse the one of the login, which was used long ago.
    let before = provider.seen(name, 0);
    let lanyard = Lanyard::start(&config).await;
    lanyard.ready().await;
    assert!(provider.seen(name, 0) > before);
    let load = Load::start(&lanyard, &hosts);
    // Somebody logged in again: the file's takes the place of what came from the one before.
    provider.accept(name, vec![family(0), family(1)]);
    mount(&folder.path().join("mounted"), 1, &file(1));
    eventually("the new login is used", async || provider.seen(name, 1) >= 1).await;
    provider.accept(name, vec![family(1)]);
    eventually("it rotates too", async || provider.seen(name, 1) >= 2).await;
    let sent = load.end().await;
    assert!(sent > 20 && provider.refused().is_empty(), "{sent} {:?}", provider.refused());
    lanyard.finish().await;
    let state = std::fs::metadata(folder.path().join("state")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&state.permissions()) & 0o777, 0o600);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ca_of_a_token_endpoint_is_replaced() {
    let (old, new) = (Authority::new(), Authority::new());
    let (provider, upstream) = (Provider::start(tls(&old)).await, Upstream::start().await);
    let (name, folder) = ("client-secret", Folder::new());
    let bundle = |authorities: &[&Authority]| {
        let text: String = authorities.iter().map(|authority| authority.pem()).collect();
        vec![("ca.pem", text)]
    };
    mount(&folder.path().join("mounted"), 0, &bundle(&[&old]));
    provider.accept(name, vec![(0, Known::Text("canary-secret".to_owned()))]);
    let config = format!(
        "[profiles.{name}]\ntoken_endpoint = \"{}\"\nca_file = \"mounted/ca.pem\"\nclient_id = \"client\"\n\
         client_secret = \"canary-secret\"\n{}",
        provider.url(name),
        upstream.route("api.test", name)
    );
    let lanyard = Lanyard::start_in(folder, &config, &[]).await;
    lanyard.ready().await;
    let load = Load::start(&lanyard, &["api.test".to_owned()]);
    let mounted = lanyard.folder.path().join("mounted");
    let generation = async || lanyard.status().await["config_generation"].as_u64().unwrap();
    mount(&mounted, 1, &bundle(&[&old, &new]));
    eventually("both are trusted", async || generation().await == 2).await;
    provider.show(tls(&new));
    mount(&mounted, 2, &bundle(&[&new]));
    eventually("the new one alone is trusted", async || generation().await == 3).await;
    let before = provider.seen(name, 0);
    eventually("tokens come as before", async || provider.seen(name, 0) >= before + 2).await;
    let sent = load.end().await;
    assert!(sent > 20 && provider.refused().is_empty(), "{sent}");
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_comes_before_its_key_fails_nothing() {
    let authority = Authority::new();
    let (provider, upstream) = (Provider::start(tls(&authority)).await, Upstream::start().await);
    let (kinds, folder) = (kinds(&authority), Folder::new());
    let kind = kinds.iter().find(|kind| kind.name == "certificate").unwrap();
    folder.write("ca.pem", authority.pem());
    kind.mount(folder.path(), 0);
    provider.accept(kind.name, kind.accepted(&[0, 1]));
    let config = format!(
        "[profiles.p]\ntoken_endpoint = \"{}\"\nca_file = \"ca.pem\"\n{}{}",
        provider.url(kind.name),
        kind.keys,
        upstream.route("api.test", "p")
    );
    let lanyard = Lanyard::start_in(folder, &config, &[]).await;
    lanyard.ready().await;
    let load = Load::start(&lanyard, &["api.test".to_owned()]);
    let folder = lanyard.folder.path().join(kind.name);
    let [certificate, key] = &kind.generations[1].0[..] else { panic!("two files") };
    let write = |(name, content): &(&'static str, String)| {
        std::fs::write(folder.join(".new"), content).unwrap();
        std::fs::rename(folder.join(".new"), folder.join(name)).unwrap();
    };
    write(certificate);
    let event = lanyard.wait_for("they do not fit", |event| event["message"] == "token request failed").await;
    assert_eq!((event["kind"].as_str(), event["serving"].as_bool()), (Some("secret"), Some(true)), "{event}");
    assert!(event["hint"].as_str().unwrap().contains("a renewal replaces both"), "{event}");
    write(key);
    eventually("the new pair is used", async || provider.seen(kind.name, 1) >= 1).await;
    load.end().await;
    assert_eq!(provider.refused(), [""; 0]);
    lanyard.finish().await;
}
