//! The commands, as a shell runs them.

use super::support::{
    lanyard::{BINARY, command},
    *,
};

fn good(idp: &Idp) -> String {
    format!(
        "[[listeners]]\naddress = \"127.0.0.1:8080\"\n[[listeners]]\naddress = \"127.0.0.1:9001\"\nupstream = \"https://api.test/base\"\n\
         {}[[routes]]\nhost = \"api.test\"\nprofile = \"billing\"\n\
         [[routes]]\nhost = \"api.test\"\npath_prefix = \"/foo\"\nprofile = \"none\"\nupstream = \"http://localhost:81/resource\"\n",
        idp.profile("billing")
    )
}

async fn run(folder: &Folder, config: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let path = folder.write("proxy.toml", config);
    let mut all = arguments.to_vec();
    all.extend(["--config", path.to_str().unwrap()]);
    command(&all, &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn check_tells_every_problem_with_its_line() {
    let (folder, idp) = (Folder::new(), Idp::start().await);
    let (exit, told, warned) = run(&folder, &good(&idp), &["check"]).await;
    assert_eq!(exit, Some(0), "{warned}");
    assert!(told.contains("ok") && warned.contains("warning") && warned.contains("client_secret"), "{told}{warned}");

    let bad = "[profiles.p]\ntoken_endpont = \"https://a.test\"\nclient_id = 5\nclient_secret = \"canary-secret\"\n\
               timeout = 10\n\n[[routes]]\nhost = \"*.com\"\nprofile = \"q\"\n";
    let (exit, _, told) = run(&folder, bad, &["check"]).await;
    assert_eq!(exit, Some(64));
    for part in [
        "proxy.toml:2: profiles.p.token_endpont: unknown key\n    hint: did you mean `token_endpoint`?",
        "proxy.toml:3: profiles.p.client_id: the number 5\n    hint: write a string",
        "proxy.toml:5: profiles.p.timeout: the number 10\n    hint: write a duration with its unit",
        "proxy.toml:8: routes[0].host: \"*.com\" means a whole top-level domain",
        "proxy.toml:9: routes[0].profile: there is no profile \"q\"",
        "profiles.p: `token_endpoint` is missing",
    ] {
        assert!(told.contains(part), "{part} is not in:\n{told}");
    }
    assert!(!told.contains(CANARY), "{told}");
    let (exit, _, told) = command(&["check", "--config", "/does/not/exist.toml"], &[]).await;
    assert!(exit == Some(64) && told.contains("cannot be read"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_tells_what_would_become_of_a_request() {
    let (folder, idp) = (Folder::new(), Idp::start().await);
    let intercepted = good(&idp).replacen("profile = \"billing\"\n", "profile = \"billing\"\nintercept = true\n", 1);
    let deny = format!("{}[forward]\nunmatched = \"deny\"\n", good(&idp));
    for (config, method, url, exit, parts) in [
        (
            good(&idp),
            "GET",
            "http://api.test/v1?x",
            0,
            &["profile:  billing", "https://api.test/v1", "Bearer <token>"][..],
        ),
        (good(&idp), "GET", "http://api.test/foo/1", 0, &["profile:  none", "http://localhost:81/resource/1"]),
        (good(&idp), "POST", "http://127.0.0.1:9001/x", 0, &["(reverse)", "https://api.test/base/x"]),
        (good(&idp), "GET", "http://other.test/", 0, &["forwarded without a credential"]),
        (good(&idp), "GET", "https://api.test/v1", 0, &["passes by without a token: set intercept = true"]),
        (good(&idp), "GET", "https://other.test/", 0, &["CONNECT passes by\n"]),
        (intercepted, "GET", "https://api.test/v1", 0, &["CONNECT is intercepted", "lanyard ca path"]),
        (deny, "GET", "http://other.test/", 1, &["403 route_denied", "hint:"]),
        (good(&idp), "TRACE", "http://api.test/", 1, &["405 method_not_allowed"]),
        (good(&idp), "GET", "http://user@api.test/", 1, &["400 bad_request", "userinfo"]),
    ] {
        let (code, told, problems) = run(&folder, &config, &["explain", method, url]).await;
        assert_eq!(code, Some(exit), "{method} {url}: {told}{problems}");
        for part in parts {
            assert!(told.contains(part), "{part} is not in:\n{told}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_asks_the_provider() {
    let (folder, idp) = (Folder::new(), Idp::start().await);
    let (exit, told, _) = run(&folder, &good(&idp), &["doctor"]).await;
    assert_eq!((exit, idp.calls()), (Some(0), 1));
    assert!(told.contains("billing: ok") && told.contains("lives 3600 s") && !told.contains(CANARY), "{told}");
    let (exit, _, told) = run(&folder, &good(&idp), &["doctor", "bilin"]).await;
    assert!(exit == Some(64) && told.contains("billing"), "{told}");
    idp.accept_secret(Some("canary-other"));
    let (exit, told, _) = run(&folder, &good(&idp), &["doctor", "billing"]).await;
    assert!(exit == Some(1) && told.contains("Client authentication failed") && told.contains("fix: "), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_issuer_serves_doctor_and_stays_at_home() {
    let child = tokio::process::Command::new(BINARY)
        .args(["issuer", "--address", "127.0.0.1:0", "--client", "id:canary-client-secret:a,b", "--algorithm", "ES256"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn();
    let mut child = child.unwrap();
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(child.stdout.take().unwrap()));
    let mut endpoint = None;
    while endpoint.is_none() {
        let line = lines.next_line().await.unwrap().expect("the endpoint is told");
        assert!(!line.contains(CANARY), "{line}");
        endpoint = line.strip_prefix("token endpoint: ").map(|rest| rest.split(' ').next().unwrap().to_owned());
    }
    let config = format!(
        "[profiles.p]\ntoken_endpoint = \"{}\"\nclient_id = \"id\"\nclient_secret = \"{SECRET}\"\nscope = [\"a\"]\n",
        endpoint.unwrap()
    );
    let (exit, told, problems) = run(&Folder::new(), &config, &["doctor"]).await;
    assert_eq!(exit, Some(0), "{told}{problems}");

    let (exit, _, told) = command(&["issuer", "--address", "0.0.0.0:0"], &[]).await;
    assert!(exit == Some(64) && told.contains("--allow-remote"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_shows_401_and_200() {
    let (exit, told, problems) = command(&["demo", "--once"], &[]).await;
    assert_eq!(exit, Some(0), "{told}{problems}");
    assert!(told.contains("HTTP/1.1 401 Unauthorized") && told.contains("HTTP/1.1 200 OK"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn run_tells_why_it_cannot() {
    let folder = Folder::new();
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config =
        format!("[[listeners]]\naddress = \"{}\"\n[admin]\naddress = \"127.0.0.1:0\"\n", taken.local_addr().unwrap());
    let (exit, _, told) = run(&folder, &config, &["run"]).await;
    assert!(exit == Some(1) && told.contains("cannot listen on 127.0.0.1:"), "{told}");
    let (exit, _, told) = run(&folder, "[nothing]\n", &["run"]).await;
    assert!(exit == Some(64) && told.contains("proxy.toml:1: nothing: unknown key"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn help_completions_and_bad_usage() {
    for name in ["run", "exec", "demo", "ca", "check", "explain", "doctor", "issuer", "completions"] {
        let (exit, told, _) = command(&[name, "--help"], &[]).await;
        assert!(exit == Some(0) && told.len() > 150 && told.contains("Usage: lanyard"), "{name}: {told}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let (exit, told, _) = command(&["completions", shell], &[]).await;
        assert!(exit == Some(0) && told.contains("explain"), "{shell}");
    }
    assert_eq!(command(&["--version"], &[]).await.1, format!("lanyard {}\n", env!("CARGO_PKG_VERSION")));
    for bad in [&["bogus"][..], &[], &["check", "--confg", "x"]] {
        assert_eq!(command(bad, &[]).await.0, Some(64), "{bad:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_configuration_in_the_docs_is_good() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = Folder::new();
    let mut files: Vec<_> = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.push(root.join("README.md"));
    let mut checked = 0;
    for file in files.iter().filter(|file| file.extension().is_some_and(|e| e == "md")) {
        let text = std::fs::read_to_string(file).unwrap();
        for block in text.split("```toml\n").skip(1) {
            let block = block.split("```").next().unwrap();
            if block.contains("transparent = true") && !cfg!(target_os = "linux") {
                continue; // an error there, as it says
            }
            // A CA file that an example names has to be one.
            let block = block.replace("\"/etc/lanyard/ca.pem\"", "\"ca.pem\"");
            let (authority, pair) = (Authority::new(), Authority::new().pair(&["client.example"]));
            folder.write("ca.pem", authority.pem());
            folder.write("client.crt", pair.0);
            folder.write("client.key", pair.1);
            let (exit, _, told) = run(&folder, &block, &["check"]).await;
            assert_eq!(exit, Some(0), "{}:\n{block}\n{told}", file.display());
            checked += 1;
        }
    }
    assert!(checked >= 1);
    let (exit, _, told) = command(&["check", "--config", root.join("proxy.toml").to_str().unwrap()], &[]).await;
    assert_eq!(exit, Some(0), "{told}");
}
