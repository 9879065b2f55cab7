//! `lanyard ca`, and the CA's certificate on the admin listener.

use std::path::PathBuf;

use super::support::{lanyard::command, *};

const HOST: &str = "[[routes]]\nhost = \"api.test\"\nprofile = \"none\"\nintercept = true\n";

/// A folder with a configuration whose CA is in `ca` beside it.
fn place(routes: &str) -> (Folder, PathBuf) {
    let folder = Folder::new();
    let path = folder.write("proxy.toml", format!("{routes}[ca]\ndirectory = \"ca\"\n"));
    (folder, path)
}

async fn ca(path: &std::path::Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    command(&[&["ca"], arguments, &["--config", path.to_str().unwrap()]].concat(), &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_is_made_once_shown_and_made_anew() {
    let (folder, config) = place(HOST);
    for what in ["show", "path", "bundle", "install-hint"] {
        let (exit, told, problem) = ca(&config, &[what]).await;
        assert!(exit == Some(1) && told.is_empty(), "{what}: {told}");
        assert!(problem.contains("there is no CA") && problem.contains("lanyard ca create"), "{what}: {problem}");
    }
    let (exit, told, problem) = ca(&config, &["create"]).await;
    assert_eq!((exit, problem.as_str()), (Some(0), ""));
    let certificate = folder.path().join("ca/ca.crt");
    assert!(told.contains(certificate.to_str().unwrap()) && told.contains("may sign for: api.test"), "{told}");
    let made = std::fs::read_to_string(&certificate).unwrap();

    let (exit, told, problem) = ca(&config, &["create"]).await;
    assert!(exit == Some(1) && told.is_empty() && problem.contains("hint: keep it"), "{told}{problem}");
    assert_eq!(std::fs::read_to_string(&certificate).unwrap(), made);

    let (exit, told, _) = ca(&config, &["show"]).await;
    assert_eq!(exit, Some(0));
    for part in ["CN=lanyard local CA", "SHA-256:      ", "may sign for: api.test", "every intercepted host"] {
        assert!(told.contains(part), "{part} is not in:\n{told}");
    }
    let fingerprint = told.lines().find_map(|line| line.strip_prefix("SHA-256:")).unwrap().trim();
    assert_eq!(fingerprint.split(':').count(), 32);
    assert_eq!(ca(&config, &["path"]).await.1, format!("{}\n", certificate.display()));
    let (_, hints, _) = ca(&config, &["install-hint"]).await;
    for part in [
        "export NODE_EXTRA_CA_CERTS=",
        "export SSL_CERT_FILE=",
        "export REQUESTS_CA_BUNDLE=",
        "export CURL_CA_BUNDLE=",
        "export AWS_CA_BUNDLE=",
        "keytool -importcert",
        "update-ca-certificates",
        "security add-trusted-cert",
        "certutil -addstore",
        certificate.to_str().unwrap(),
    ] {
        assert!(hints.contains(part), "{part} is not in:\n{hints}");
    }

    let (exit, told, _) = ca(&config, &["create", "--force"]).await;
    assert!(exit == Some(0) && told.contains("Clients have to trust the new one"), "{told}");
    assert_ne!(std::fs::read_to_string(&certificate).unwrap(), made);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_has_the_systems_roots_and_ours() {
    let (folder, config) = place(HOST);
    ca(&config, &["create"]).await;
    let system = Authority::new();
    let roots = folder.write("system.pem", system.pem());
    let arguments = ["ca", "bundle", "--config", config.to_str().unwrap()];
    let environment = [("SSL_CERT_FILE", roots.to_str().unwrap()), ("SSL_CERT_DIR", "")];
    let (exit, bundle, problem) = command(&arguments, &environment).await;
    assert_eq!((exit, problem.as_str()), (Some(0), ""));
    let own = std::fs::read_to_string(folder.path().join("ca/ca.crt")).unwrap();
    let held = |pem: &str| pem.split_whitespace().collect::<String>();
    assert_eq!(held(&bundle), held(system.pem()) + &held(&own));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_it_is_not_good_for_is_told() {
    let (folder, config) = place(HOST);
    ca(&config, &["create"]).await;
    let more = format!("{HOST}{}[ca]\ndirectory = \"ca\"\n", HOST.replace("api.test", "other.test"));
    let config = folder.write("proxy.toml", more);
    let (exit, _, problem) = ca(&config, &["show"]).await;
    assert!(exit == Some(1) && problem.contains("other.test") && problem.contains("--force"), "{problem}");

    let (_folder, config) = place(&HOST.replace("intercept = true\n", ""));
    let (exit, _, problem) = ca(&config, &["create"]).await;
    assert!(exit == Some(64) && problem.contains("intercept = true"), "{problem}");

    let folder = Folder::new();
    let config = folder.write("proxy.toml", format!("{HOST}[ca]\nephemeral = true\n"));
    for what in ["create", "show", "path", "bundle", "install-hint"] {
        let (exit, told, problem) = ca(&config, &[what]).await;
        assert!(exit == Some(1) && told.is_empty() && problem.contains("/ca.pem"), "{what}: {told}{problem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_listener_gives_the_certificate() {
    let lanyard = Lanyard::start(&format!("{HOST}[ca]\nephemeral = true\n")).await;
    let answer = get(&format!("http://{}/ca.pem", lanyard.admin)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/x-pem-file"));
    assert!(answer.body.starts_with("-----BEGIN CERTIFICATE-----") && !answer.body.contains("PRIVATE"));
    lanyard.finish().await;
    let lanyard = Lanyard::start(&HOST.replace("intercept = true\n", "")).await;
    let answer = get(&format!("http://{}/ca.pem", lanyard.admin)).await;
    assert!(answer.status == 404 && answer.body.contains("intercept = true"), "{}", answer.body);
    lanyard.finish().await;
}
