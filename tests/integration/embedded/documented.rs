//! The pairs of `docs/issuer.md`, tried: each client with its profile.

use lanyard::{
    jose::{Header, SigningKey},
    secret::Secret,
};
use serde_json::{Value, json};
use tokio::process::Command;

use super::{super::interop::servers::Process, registrations::claims};
use crate::support::{
    Authority, Folder,
    lanyard::{BINARY, command},
    tools::repository,
};

/// The blocks of a page in this language.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let begin = format!("```{language}\n");
    page.split(&*begin).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_pair_of_the_page_works() {
    let page = std::fs::read_to_string(repository().join("docs/issuer.md")).unwrap();
    let folder = Folder::new();
    let path = |name: &str| folder.path().join(name).into_os_string().into_string().unwrap();

    // What the page makes with openssl.
    let key = rcgen::KeyPair::generate().unwrap();
    folder.write("key.pem", key.serialize_pem());
    folder.write("key.pub.pem", key.public_key_pem());
    folder.write("client.key", key.serialize_pem());
    let params = rcgen::CertificateParams::new(vec!["client.example".to_owned()]).unwrap();
    folder.write("client.crt", params.self_signed(&key).unwrap().pem());
    folder.write("client-ca.pem", Authority::new().pem());
    let key = SigningKey::parse(&Secret::new(key.serialize_pem()), None, None).unwrap();
    for (name, sub) in [("projected.jwt", "system:serviceaccount:shop:billing"), ("user.jwt", "alice")] {
        let mut claims = claims("https://kubernetes.example", sub, "https://auth.example", 600);
        claims.jti = None;
        folder.write(name, key.sign(&Header::default(), &claims).unwrap().expose());
    }

    let entries = blocks(&page, "json").into_iter().map(|block| serde_json::from_str::<Value>(block).unwrap());
    let (clients, trusted): (Vec<Value>, Vec<Value>) = entries.partition(|entry| entry.get("client_id").is_some());
    assert!(clients.len() >= 8 && trusted.len() == 1, "{clients:?} {trusted:?}");
    folder.write("clients.json", json!({"clients": clients, "trusted_issuers": trusted}).to_string());

    // As the page starts it, but for the address, which may be taken.
    let line = page.lines().find(|line| line.starts_with("$ lanyard issuer --tls ")).unwrap();
    let mut issuer = Command::new(BINARY);
    issuer.args(line.split(' ').skip(2)).args(["--address", "127.0.0.1:0"]).current_dir(folder.path());
    let process = Process::start(issuer.kill_on_drop(true), Folder::new());
    let told = |lines: &[String]| {
        let line = lines.iter().find_map(|line| line.strip_prefix("token endpoint: https://"))?;
        let ready = lines.iter().any(|line| line.starts_with("CA to trust:"));
        ready.then(|| line.split('/').next().unwrap().to_owned())
    };
    let address = process.wait_for("the token endpoint", told).await;

    let profiles = blocks(&page, "toml");
    assert!(profiles.len() >= 8);
    for profile in profiles {
        folder.write("proxy.toml", profile.replace("127.0.0.1:9100", &address));
        for verb in ["check", "doctor"] {
            let (exit, told, problems) = command(&[verb, "--config", &path("proxy.toml")], &[]).await;
            assert_eq!(exit, Some(0), "{verb}: {told}{problems}\n{profile}\n{:#?}", process.lines());
        }
    }
}
