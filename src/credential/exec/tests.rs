//! Real commands, and what is made of what they print.

use std::time::SystemTime;

use super::*;

fn exec(command: &[&str], environment: &[(&str, &str)], timeout_ms: u64) -> Printed {
    let config = Exec {
        command: command.iter().map(|argument| (*argument).to_owned()).collect(),
        environment: environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        timeout: Duration::from_millis(timeout_ms),
    };
    Printed::new(&"p".into(), &config)
}

/// A script, by the one shell that is always there.
fn script(text: &str) -> Printed {
    exec(&["/bin/sh", "-c", text], &[], 10_000)
}

async fn token(credential: &Printed) -> String {
    let fetched = credential.fetch().await.unwrap();
    fetched.material.token().unwrap().expose().to_owned()
}

/// What is told of a failure, which shows no canary.
async fn failure(credential: &Printed) -> FetchError {
    let error = credential.fetch().await.unwrap_err();
    assert!(!error.hint.is_empty() && !format!("{error:?} {credential:?}").contains("canary"), "{error:?}");
    error
}

#[tokio::test]
async fn a_command_prints_its_token() {
    for (text, lifetime) in [
        ("echo canary-token", None),
        ("printf ' canary-token\\r\\n'", None),
        ("echo '{\"access_token\":\"canary-token\",\"expires_in\":600}'", Some(600)),
        ("echo '{\"accessToken\":\"canary-token\",\"expires_on\":\"4102444800\"}'", Some(u64::MAX)),
        (
            "echo '{\"apiVersion\":\"client.authentication.k8s.io/v1\",\"kind\":\"ExecCredential\",\
             \"status\":{\"token\":\"canary-token\"}}'",
            None,
        ),
        // With a byte order mark, as PowerShell writes it.
        (
            "printf '\\357\\273\\277{\"apiVersion\":\"client.authentication.k8s.io/v1\",\"kind\":\"ExecCredential\",\
             \"status\":{\"token\":\"canary-token\"}}'",
            None,
        ),
        (
            "echo '{\"apiVersion\":\"client.authentication.k8s.io/v1beta1\",\"kind\":\"ExecCredential\",\
             \"status\":{\"token\":\"canary-token\",\"expirationTimestamp\":\"2100-01-01T00:00:00Z\"}}'",
            Some(u64::MAX),
        ),
    ] {
        let fetched = script(text).fetch().await.unwrap();
        assert_eq!(fetched.material.token().unwrap().expose(), "canary-token", "{text}");
        match lifetime {
            Some(u64::MAX) => assert!(fetched.lifetime.unwrap() > Duration::from_secs(1_000_000), "{text}"),
            _ => assert_eq!(fetched.lifetime.map(|lifetime| lifetime.as_secs().div_ceil(10) * 10), lifetime, "{text}"),
        }
        assert!(fetched.warning.is_none());
    }
}

#[tokio::test]
async fn it_has_its_own_environment_and_arguments_as_they_are() {
    let credential = exec(&["/bin/sh", "-c", "env | sort | cut -d= -f1 | tr '\\n' ','"], &[("TOKEN_OF", "x")], 10_000);
    let names = token(&credential).await;
    let names: Vec<&str> = names.split(',').filter(|name| !matches!(*name, "PWD" | "SHLVL" | "_" | "")).collect();
    let mut expected = vec!["HOME", "KUBERNETES_EXEC_INFO", "PATH", "TOKEN_OF"];
    expected.retain(|name| *name == "TOKEN_OF" || *name == "KUBERNETES_EXEC_INFO" || std::env::var_os(name).is_some());
    assert_eq!(names, expected);
    // A bare name is found in PATH, and nothing expands what it is given.
    assert_eq!(token(&exec(&["printf", "%s", "$HOME;*"], &[], 10_000)).await, "$HOME;*");
    let own = exec(&["/bin/sh", "-c", "printf %s \"$KUBERNETES_EXEC_INFO\""], &[("KUBERNETES_EXEC_INFO", "x")], 10_000);
    assert_eq!(token(&own).await, "x");
    // There is nothing to read.
    assert_eq!(token(&script("cat; echo canary")).await, "canary");
}

#[tokio::test]
async fn what_goes_wrong_is_told() {
    for (text, kind, parts) in [
        ("exit 3", FetchErrorKind::Secret, &["failed (exit status: 3)"][..]),
        ("kill -9 $$", FetchErrorKind::Secret, &["signal: 9"]),
        (
            "echo 'not logged in' >&2; echo 'run login first' >&2; exit 1",
            FetchErrorKind::Secret,
            &["not logged in; run login first"],
        ),
        ("true", FetchErrorKind::InvalidResponse, &["printed nothing at all"]),
        ("echo no luck >&2", FetchErrorKind::InvalidResponse, &["printed nothing at all: no luck"]),
        ("echo a b", FetchErrorKind::InvalidResponse, &["a space at byte 1"]),
        ("echo '{'", FetchErrorKind::InvalidResponse, &["no JSON (line 1, column 1)"]),
        ("printf '\\377'", FetchErrorKind::InvalidResponse, &["something that is no text"]),
        (
            "echo '{\"token\":\"canary\",\"expiry\":\"2001-01-01T00:00:00Z\"}'",
            FetchErrorKind::InvalidResponse,
            &["a token that has expired"],
        ),
        (
            "echo '{\"apiVersion\":\"client.authentication.k8s.io/v1alpha1\",\"kind\":\"ExecCredential\"}'",
            FetchErrorKind::InvalidResponse,
            &["an ExecCredential of a version that is not known"],
        ),
        (
            "echo '{\"apiVersion\":\"client.authentication.k8s.io/v1\",\"kind\":\"ExecCredential\"}'",
            FetchErrorKind::InvalidResponse,
            &["an ExecCredential without `status`"],
        ),
        (
            "echo '{\"apiVersion\":\"client.authentication.k8s.io/v1\",\"kind\":\"ExecCredential\",\"status\":{\
             \"clientCertificateData\":\"canary\",\"clientKeyData\":\"canary\"}}'",
            FetchErrorKind::InvalidResponse,
            &["with a client certificate and no token"],
        ),
        // What it printed is not shown by way of what it complains about.
        (
            "echo canary-token; echo 'got canary-token of 7' >&2; exit 1",
            FetchErrorKind::Secret,
            &["got [redacted] of 7"],
        ),
        (
            "echo '{\"a\":{\"b\":[\"canary\"]}}'; echo 'x canary y' >&2",
            FetchErrorKind::InvalidResponse,
            &["x [redacted] y"],
        ),
    ] {
        let error = failure(&script(text)).await;
        assert_eq!(error.kind, kind, "{text}: {error:?}");
        for part in parts {
            assert!(
                error.detail.starts_with("the command /bin/sh ") && error.detail.contains(part),
                "{text}: {error:?}"
            );
        }
    }
    let secret = [("PASSWORD", "canary-variable")];
    let error = failure(&exec(&["/bin/sh", "-c", "echo \"is $PASSWORD\" >&2; exit 1"], &secret, 10_000)).await;
    assert!(error.detail.ends_with("is [redacted]"), "{error:?}");
    let error =
        failure(&exec(&["/bin/sh", "-c", "echo \"$0 $1\" >&2; exit 1", "--k=canary-a", "canary-b"], &[], 10_000)).await;
    assert!(error.detail.ends_with("--k=[redacted] [redacted]"), "{error:?}");

    // No more than the end of a long complaint.
    let error = failure(&script("i=0; while [ $i -lt 3000 ]; do echo line $i >&2; i=$((i+1)); done; exit 1")).await;
    assert!(error.detail.ends_with("line 2998; line 2999") && error.detail.chars().count() < 300, "{error:?}");

    for (program, part) in [("/does/not/exist", "cannot be started: No such file"), ("/", "cannot be started: ")] {
        let error = failure(&exec(&[program], &[], 10_000)).await;
        assert!(error.detail.contains(part) && error.kind == FetchErrorKind::Secret, "{error:?}");
    }
}

/// Whether a process is there and no zombie.
fn runs(pid: &str) -> bool {
    // A small Linux may have no `ps`.
    if cfg!(target_os = "linux") {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        return stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']));
    }
    let state = std::process::Command::new("ps").args(["-o", "stat=", "-p", pid]).output().unwrap().stdout;
    !state.is_empty() && !state.starts_with(b"Z")
}

async fn ends(pid: &str) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while runs(pid) {
        assert!(tokio::time::Instant::now() < deadline, "{pid} still runs");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn written(path: &std::path::Path) -> String {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        if text.ends_with('\n') {
            return text.trim().to_owned();
        }
        assert!(tokio::time::Instant::now() < deadline, "nothing in {}", path.display());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn the_whole_group_ends_where_the_command_does_not() {
    let path = std::env::temp_dir().join(format!("lanyard-exec-{}-{:x}", std::process::id(), fastrand::u64(..)));
    // The one that is left over has the output open, or the command itself goes on.
    for tail in ["", "wait", "yes"] {
        let text = format!("sleep 1000 & echo $! > {}; {tail}", path.display());
        let began = tokio::time::Instant::now();
        let error = failure(&exec(&["/bin/sh", "-c", &text], &[], 500)).await;
        let (kind, part) = match tail {
            "yes" => (FetchErrorKind::InvalidResponse, "more than 65536 bytes"),
            _ => (FetchErrorKind::Timeout, "within 500ms"),
        };
        assert!(error.kind == kind && error.detail.contains(part), "{tail}: {error:?}");
        assert!(began.elapsed() < Duration::from_secs(8));
        ends(&written(&path).await).await;
        std::fs::remove_file(&path).unwrap();
    }
    // A fetch that is given up.
    let text = format!("sleep 1000 & echo $! > {}; wait", path.display());
    let credential = exec(&["/bin/sh", "-c", &text], &[], 60_000);
    let fetching = tokio::spawn(async move { credential.fetch().await.map(|_| ()) });
    let pid = written(&path).await;
    assert!(runs(&pid));
    fetching.abort();
    assert!(fetching.await.unwrap_err().is_cancelled());
    ends(&pid).await;
    std::fs::remove_file(path).unwrap();
}

#[test]
fn secrets_are_found_in_what_was_printed() {
    let texts = |stdout: &str| -> Vec<String> {
        output::secrets(stdout).iter().map(|secret| secret.expose().to_owned()).collect()
    };
    assert_eq!(texts("one three-four\n"), ["one three-four", "three-four"]);
    assert_eq!(texts(r#"{"a":"long","b":"abc","c":[{"d":"longer"}],"e":1}"#).len(), 2);
    assert!(output::read(b"x", SystemTime::now()).is_ok());
}
