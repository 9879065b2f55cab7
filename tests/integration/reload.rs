//! Reloads: nothing is dropped, nothing that did not change is fetched, and a bad file changes nothing.

use std::{
    os::unix::fs::symlink,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use super::support::*;

fn config(idp: &Idp, upstream: &Upstream, more: &str) -> String {
    format!("{}{}{more}", idp.profile("billing"), upstream.route("api.test", "billing"))
}

async fn generation(lanyard: &Lanyard) -> u64 {
    lanyard.status().await["config_generation"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_reloads_under_load_drop_nothing_and_ask_nobody() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let lanyard = Lanyard::start(&config(&idp, &upstream, "")).await;
    lanyard.ready().await;
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let load: Vec<_> = (0..8)
        .map(|_| {
            let (stop, served) = (Arc::clone(&stop), Arc::clone(&served));
            let client = client(Some(lanyard.address()));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(send(client.post("http://api.test/").body("x".repeat(2000))).await.status, 200);
                    served.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for n in 0..100 {
        lanyard.write_config(&config(&idp, &upstream, &upstream.route(&format!("other-{n}.test"), "none")));
        let answer = lanyard.reload().await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    stop.store(true, Ordering::Relaxed);
    for task in load {
        task.await.expect("no request failed");
    }
    assert!(served.load(Ordering::Relaxed) > 100 && generation(&lanyard).await >= 101);
    assert_eq!(idp.calls(), 1);
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_file_is_told_whole_and_changes_nothing() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let lanyard = Lanyard::start(&config(&idp, &upstream, "")).await;
    lanyard.ready().await;
    for (more, words) in [
        (
            "[[routes]]\nhost = \"x.test\"\nprofil = \"billing\"\n",
            &["profil", "did you mean", "`profile` is missing"][..],
        ),
        ("[limits]\nheader_timeout = 10\nmax_headers = 0\n", &["header_timeout", "\\\"10s\\\"", "max_headers"]),
        ("[[routes]]\nhost = \"x.test\"\nprofile = \"biling\"\n", &["did you mean \\\"billing\\\""]),
        ("[[routes\n", &["TOML"]),
    ] {
        lanyard.write_config(&config(&idp, &upstream, more));
        let answer = lanyard.reload().await;
        assert_eq!(answer.status, 422);
        for word in words {
            assert!(answer.body.contains(word), "{word}: {}", answer.body);
        }
        assert!(answer.body.contains("proxy.toml:"), "{}", answer.body);
        assert_eq!(get_via(lanyard.address(), "http://api.test/").await.status, 200);
    }
    assert_eq!((generation(&lanyard).await, idp.calls()), (1, 1));
    assert!(lanyard.metric("lanyard_config_reloads_total{result=\"failure\"}").await >= 4.0);
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_profile_has_its_token_before_it_is_used() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let lanyard = Lanyard::start(&config(&idp, &upstream, "")).await;
    lanyard.ready().await;
    idp.delay(Duration::from_millis(300));
    let changed = config(&idp, &upstream, "").replace("[profiles.billing]\n", "[profiles.billing]\nscope = \"more\"\n");
    lanyard.write_config(&changed);
    assert_eq!(lanyard.reload().await.status, 200);
    assert_eq!(get_via(lanyard.address(), "http://api.test/").await.status, 200);
    assert_eq!(upstream.seen.last().all("authorization"), ["Bearer canary-token-2"]);
    assert!(idp.requests()[1].contains("scope=more"));
    assert_eq!(lanyard.metric("lanyard_token_wait_seconds_count{profile=\"billing\"}").await, 0.0);

    // A profile that is gone leaves no gauge that would raise an alarm, also where a request still waits for its token.
    let gauge = "lanyard_token_expiry_timestamp_seconds{profile=\"billing\"}";
    assert!(lanyard.metrics().await.contains(gauge));
    upstream.seen.revoke(&idp.last_token());
    idp.delay(Duration::from_secs(1));
    let address = lanyard.address().to_owned();
    let waiting = tokio::spawn(async move { get_via(&address, "http://api.test/").await.status });
    eventually("the token is fetched anew", async || idp.calls() == 3).await;
    lanyard.write_config(&upstream.route("api.test", "none"));
    assert_eq!(lanyard.reload().await.status, 200);
    assert!(!lanyard.metrics().await.contains(gauge));
    assert_eq!(waiting.await.unwrap(), 200);
    assert!(!lanyard.metrics().await.contains(gauge));
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changed_and_sighup_reload_too() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let lanyard = Lanyard::start(&config(&idp, &upstream, "")).await;
    lanyard.ready().await;
    // Renamed into place.
    lanyard.write_config(&config(&idp, &upstream, &upstream.route("two.test", "none")));
    eventually("the watch sees a rename", async || generation(&lanyard).await == 2).await;
    // Rewritten in place.
    let text = std::fs::read_to_string(lanyard.config_path()).unwrap();
    std::fs::write(lanyard.config_path(), format!("{text}{}", upstream.route("three.test", "none"))).unwrap();
    eventually("the watch sees a rewrite", async || generation(&lanyard).await >= 3).await;
    let before = generation(&lanyard).await;
    lanyard.signal("HUP");
    eventually("SIGHUP", async || generation(&lanyard).await == before + 1).await;
    assert_eq!(idp.calls(), 1);
    lanyard.finish().await;
}

/// A mounted ConfigMap or Secret as the kubelet lays it out: `NAME -> ..data/NAME`, `..data -> ..VERSION`.
fn mount(folder: &std::path::Path, version: &str, name: &str, content: &str) {
    std::fs::create_dir_all(folder.join(version)).unwrap();
    std::fs::write(folder.join(version).join(name), content).unwrap();
    symlink(version, folder.join("..data_tmp")).unwrap();
    std::fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    if !folder.join(name).is_symlink() {
        symlink(format!("..data/{name}"), folder.join(name)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_symlink_swap_of_a_mounted_secret_and_configmap_is_seen() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let folder = Folder::new();
    mount(folder.path(), "..2026_1", "secret", "canary-one");
    let from_file = |text: String| text.replace(&format!("\"{SECRET}\""), "{ file = \"secret\" }");
    let lanyard = Lanyard::start_in(folder, &from_file(config(&idp, &upstream, "")), &[]).await;
    lanyard.ready().await;
    mount(lanyard.folder.path(), "..2026_2", "secret", "canary-two");
    std::fs::remove_dir_all(lanyard.folder.path().join("..2026_1")).unwrap();
    eventually("the new secret is used", async || idp.calls() == 2).await;
    use base64::{Engine, prelude::BASE64_STANDARD};
    assert!(idp.requests()[1].contains(&BASE64_STANDARD.encode("client:canary-two")), "{}", idp.requests()[1]);

    // The configuration itself becomes such a mount.
    let text = std::fs::read_to_string(lanyard.config_path()).unwrap();
    std::fs::remove_file(lanyard.config_path()).unwrap();
    for version in 3..5 {
        let more = upstream.route(&format!("v{version}.test"), "none");
        let before = generation(&lanyard).await;
        mount(lanyard.folder.path(), &format!("..2026_{version}"), "proxy.toml", &format!("{text}{more}"));
        // The secret is a file of the same mount: it has to be there in each version.
        std::fs::write(lanyard.folder.path().join(format!("..2026_{version}")).join("secret"), "canary-two").unwrap();
        eventually("the swap is seen", async || {
            let told = get(&format!("http://{}/status", lanyard.admin)).await.body;
            told.contains(&format!("v{version}.test")) && generation(&lanyard).await > before
        })
        .await;
    }
    assert_eq!(get_via(lanyard.address(), "http://api.test/").await.status, 200);
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_a_restart_is_said_and_a_log_level_is_taken() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let lanyard = Lanyard::start(&config(&idp, &upstream, "")).await;
    lanyard.write_config(&format!(
        "[[listeners]]\naddress = \"127.0.0.1:1\"\n{}",
        config(&idp, &upstream, "[log]\nlevel = \"error\"\n")
    ));
    let answer = lanyard.reload().await;
    assert_eq!((answer.status, answer.json()["needs_restart"].clone()), (200, serde_json::json!(["listeners"])));
    assert_eq!(get_via(lanyard.address(), "http://api.test/quiet").await.status, 200);
    assert!(!lanyard.log().iter().any(|event| event["path"] == "/quiet"));
    lanyard.finish().await;
}
