//! The life of AWS credentials: where they come from, their rotation under load, outages, and refusals.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{
    super::support::*,
    NOT_PLAIN, ask, keys,
    metadata::Metadata,
    noise, profile,
    server::{Key, Keys, Service},
    sourced,
};

/// Asks without a pause until it is told to stop; how many answers there were, and those that were not 200.
struct Load {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(address: &str) -> Self {
        let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let tasks = (0..4)
            .map(|n| {
                let (address, stop, served) = (address.to_owned(), Arc::clone(&stop), Arc::clone(&served));
                tokio::spawn(async move {
                    let (mut failed, body) = (Vec::new(), noise(if n % 2 == 0 { 100 } else { 20_000 }));
                    while !stop.load(Ordering::Relaxed) {
                        let answer = ask(&address, "PUT", "/bucket/load", "", &body).await;
                        if status_of(&answer) != 200 {
                            failed.push(answer);
                        }
                        served.fetch_add(1, Ordering::Relaxed);
                    }
                    failed
                })
            })
            .collect();
        Self { stop, served, tasks }
    }

    /// Waits for so many more answers.
    async fn more(&self, count: u64) {
        let wanted = self.served.load(Ordering::Relaxed) + count;
        eventually("more answers", async || self.served.load(Ordering::Relaxed) >= wanted).await;
    }

    async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            assert_eq!(task.await.unwrap(), Vec::<String>::new());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn session_credentials_are_renewed_under_load() {
    for kind in ["container", "imds"] {
        let keys = Keys::default();
        let (metadata, upstream) = (Metadata::start(&keys, Duration::from_secs(4)).await, Service::start(&keys).await);
        let folder = Folder::new();
        let token = folder.write("token", "canary-pod-token-1");
        metadata.want("canary-pod-token-1");
        let full = format!("http://{}/container", metadata.address);
        let source = match kind {
            "container" => sourced("\"container\""),
            _ => sourced(&format!("\"imds\"\nmetadata_endpoint = \"http://{}\"", metadata.address)),
        };
        let environment = [
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &*full),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token.to_str().unwrap()),
            // Never asked.
            ("HTTP_PROXY", "http://127.0.0.1:9"),
        ];
        let config = format!("{source}{}", upstream.route("api.test", "aws", ""));
        let lanyard = Lanyard::start_in(Folder::new(), &config, &environment).await;
        lanyard.ready().await;
        let load = Load::start(lanyard.address());
        load.more(10).await;
        // What a container shows rotates, too.
        folder.write("token", "canary-pod-token-2");
        metadata.want("canary-pod-token-2");
        eventually("three renewals", async || metadata.given() >= 4).await;
        load.more(10).await;
        load.stop().await;
        assert_eq!(upstream.refused(), 0, "{kind}");
        upstream.verified("s3").await;
        lanyard.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credentials_file_rotates_under_load() {
    let (keys, folder) = (keys(1), Folder::new());
    let upstream = Service::start(&keys).await;
    let write = |number: u64| {
        let (id, key) = Key::number(number, None);
        let text = format!(
            "[default]\naws_access_key_id = AKIAWRONG\naws_secret_access_key = x\n\n[app]\naws_access_key_id = {id}\n\
             aws_secret_access_key = {}\naws_session_token = {}\n",
            key.secret,
            key.token.as_ref().unwrap()
        );
        keys.lock().unwrap().insert(id, key);
        folder.write("next", text);
        std::fs::rename(folder.path().join("next"), folder.path().join("credentials")).unwrap();
    };
    write(1);
    let file = folder.path().join("credentials");
    let source = sourced(&format!("\"file\"\ncredentials_file = {file:?}\ncredentials_profile = \"app\""));
    let lanyard = Lanyard::start(&format!("{source}{}", upstream.route("api.test", "aws", ""))).await;
    lanyard.ready().await;
    let load = Load::start(lanyard.address());
    for number in 2..5 {
        load.more(10).await;
        write(number);
        let id = Key::number(number, None).0;
        eventually("the new key signs", async || {
            upstream.requests().last().is_some_and(|request| request["headers"].to_string().contains(&id))
        })
        .await;
    }
    load.more(10).await;
    load.stop().await;
    assert_eq!(upstream.refused(), 0);
    upstream.verified("s3").await;
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_key_is_fetched_anew_and_the_request_signed_anew() {
    for size in [100, 20_000] {
        let keys = Keys::default();
        let (metadata, upstream) =
            (Metadata::start(&keys, Duration::from_secs(3600)).await, Service::start(&keys).await);
        let source = sourced(&format!("\"imds\"\nmetadata_endpoint = \"http://{}\"", metadata.address));
        // At the loudest level no part of a credential is told.
        let config = format!("[log]\nlevel = \"trace\"\n{source}{}", upstream.route("api.test", "aws", ""));
        let lanyard = Lanyard::start_in(Folder::new(), &config, &[("RUST_LOG", "trace")]).await;
        lanyard.ready().await;
        keys.lock().unwrap().get_mut("ASIATEST1").unwrap().until = Some(std::time::SystemTime::UNIX_EPOCH);
        let body = noise(size);
        let answer = ask(lanyard.address(), "PUT", "/bucket/x", "", &body).await;
        assert_eq!(status_of(&answer), 200, "{answer}");
        assert_eq!((upstream.refused(), metadata.given()), (1, 2));
        assert_eq!(upstream.verified("s3").await, [body.clone(), body]);
        lanyard.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_no_other_key_mends_is_passed_on() {
    let upstream = Service::start(&keys(1)).await;
    let config = format!("{}{}", profile("s3", 1, ""), upstream.route("api.test", "aws", ""));
    for size in [100, 20_000] {
        let lanyard = Lanyard::start(&config).await;
        let before = upstream.requests().len();
        upstream.set_clock_behind(Duration::from_secs(600));
        for (status, said) in [(400, "AuthorizationHeaderMalformed"), (403, "RequestTimeTooSkewed")] {
            upstream.say(status, said);
            let answer = ask(lanyard.address(), "PUT", "/bucket/x", "", &noise(size)).await;
            assert!(status_of(&answer) == status && answer.ends_with(said), "{answer}");
        }
        // The key is still the same: once each.
        assert_eq!(upstream.requests().len() - before, 2);
        let told = lanyard.wait_for("the clocks differ", |event| event["ours"] == "ahead").await;
        assert!(told["skew_s"].as_u64().unwrap().abs_diff(600) < 5, "{told}");
        assert!(told["hint"].as_str().unwrap().contains("NTP"), "{told}");
        let all = lanyard.log().iter().filter(|event| event["ours"].is_string()).count();
        assert_eq!(all, 1, "it is told once in five minutes");
        lanyard.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_may_be_down_at_start_and_later() {
    for kind in ["container", "imds"] {
        let keys = Keys::default();
        let (metadata, upstream) =
            (Metadata::start(&keys, Duration::from_secs(600)).await, Service::start(&keys).await);
        let path = if kind == "container" { "/container" } else { "" };
        let source = sourced(&format!(
            "\"{kind}\"\nmetadata_endpoint = \"http://{}{path}\"\nretry_statuses = [403]",
            metadata.address
        ));
        let environment = [("AWS_CONTAINER_AUTHORIZATION_TOKEN", "canary-pod-token")];
        metadata.want("canary-pod-token");
        metadata.say(Some(503));
        let config = format!("{source}{}", upstream.route("api.test", "aws", ""));
        let lanyard = Lanyard::start_in(Folder::new(), &config, &environment).await;
        let answer = ask(lanyard.address(), "GET", "/bucket/x", "", b"").await;
        assert_eq!(verdict(&answer), (503, "token_unavailable"), "{answer}");
        assert!(answer.contains("answered 503"), "{answer}");
        metadata.say(None);
        lanyard.ready().await;
        assert_eq!(status_of(&ask(lanyard.address(), "GET", "/bucket/x", "", b"").await), 200);
        // Down again: what there is serves, and a refusal that asks for more is passed on.
        metadata.say(Some(403));
        assert_eq!(status_of(&ask(lanyard.address(), "GET", "/bucket/x", "", b"").await), 200);
        upstream.say(403, "ExpiredToken");
        let answer = ask(lanyard.address(), "GET", "/bucket/x", "", b"").await;
        assert!(answer.ends_with("ExpiredToken"), "{answer}");
        let failed = lanyard.wait_for("a failure", |event| event["kind"] == "invalid_client").await;
        let hint = if kind == "container" { "has a role" } else { "turned off" };
        assert!(failed["hint"].as_str().unwrap().contains(hint), "{failed}");
        upstream.verified("s3").await;
        lanyard.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_without_a_role_is_told_so() {
    let upstream = Service::start(&keys(1)).await;
    let config = format!("{}{}", sourced("\"container\""), upstream.route("api.test", "aws", ""));
    for (environment, says) in [
        (&[][..], "neither AWS_CONTAINER_CREDENTIALS_FULL_URI nor AWS_CONTAINER_CREDENTIALS_RELATIVE_URI is set"),
        (&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://credentials.example/x")], "in clear text"),
        (&[("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "@evil.example/x")], "is no URL"),
    ] {
        let lanyard = Lanyard::start_in(Folder::new(), &config, environment).await;
        let answer = ask(lanyard.address(), "GET", "/bucket/x", "", b"").await;
        assert_eq!(verdict(&answer), (503, "token_unavailable"), "{answer}");
        assert!(answer.contains(says), "{answer}");
        lanyard.finish().await;
    }
    assert!(upstream.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_is_a_source_and_a_clients_own_signature_can_be_kept() {
    let upstream = Service::start(&keys(1)).await;
    let source = format!("{}existing = \"keep\"\n", sourced("\"environment\""));
    let (id, key) = Key::number(1, None);
    let token = key.token.unwrap();
    let environment =
        [("AWS_ACCESS_KEY_ID", &*id), ("AWS_SECRET_ACCESS_KEY", &*key.secret), ("AWS_SESSION_TOKEN", &*token)];
    let config = format!("{source}{}", upstream.route("api.test", "aws", ""));
    let lanyard = Lanyard::start_in(Folder::new(), &config, &environment).await;
    assert_eq!(status_of(&ask(lanyard.address(), "PUT", "/bucket/x", "", b"x").await), 200);
    assert_eq!(upstream.verified("s3").await, [b"x"]);
    let own = "Authorization: AWS4-HMAC-SHA256 Credential=ASIATEST1/mine\r\nX-Amz-Date: 20130524T000000Z\r\n";
    for more in ["", NOT_PLAIN] {
        assert_eq!(status_of(&ask(lanyard.address(), "PUT", "/bucket/x", &format!("{own}{more}"), b"x").await), 200);
        let headers = upstream.requests().pop().unwrap()["headers"].to_string();
        assert!(headers.contains("Credential=ASIATEST1/mine") && headers.contains("20130524T000000Z"), "{headers}");
        assert!(!headers.contains("x-amz-security-token"), "{headers}");
    }
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_configurations_are_right() {
    let document = std::fs::read_to_string(repository().join("docs/credentials/aws.md")).unwrap();
    let blocks: Vec<&str> = document.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(blocks.len(), 4);
    let folder = Folder::new();
    let environment = [("OPENSEARCH_SECRET_ACCESS_KEY", "canary-secret")];
    for block in blocks {
        let credentials = folder.write("credentials", "[reports]\naws_access_key_id = A\naws_secret_access_key = B\n");
        let block = block.replace("/home/app/.aws/credentials", credentials.to_str().unwrap());
        let path = folder.write("proxy.toml", &block);
        let (code, out, problems) =
            lanyard::command(&["check", "--config", path.to_str().unwrap()], &environment).await;
        assert_eq!(code, Some(0), "{block}\n{out}{problems}");
        assert!(out.contains(" 0 warnings"), "{out}{problems}");
    }
}
