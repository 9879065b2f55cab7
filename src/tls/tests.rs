use super::*;

fn root() -> CertificateDer<'static> {
    let signed = rcgen::generate_simple_self_signed(vec!["ca.test".to_owned()]).unwrap();
    signed.cert.der().clone()
}

fn bundle(certificates: Vec<Vec<u8>>) -> CaBundle {
    CaBundle { path: "/etc/ca.pem".into(), certificates: certificates.into() }
}

#[test]
fn installing_the_provider_twice_is_fine() {
    install_provider();
    install_provider();
    assert!(rustls::crypto::CryptoProvider::get_default().is_some());
}

#[test]
fn a_certificate_that_cannot_be_a_root_does_not_cost_the_others() {
    let roots = usable(vec![CertificateDer::from(vec![1, 2, 3]), root()], vec!["one file was unreadable".to_owned()]);
    assert_eq!(roots.certificates.len(), 1);
    assert!(build(&roots, None).is_ok());
}

#[test]
fn nothing_to_trust_is_an_error_that_says_why_and_what_to_do() {
    let none = usable(Vec::new(), vec!["/nowhere: No such file".to_owned()]);
    let error = build(&none, None).unwrap_err();
    assert_eq!(error.to_string(), "there are no trusted root certificates: /nowhere: No such file");
    assert!(error.hint().contains("SSL_CERT_FILE"));
    let silent = build(&usable(Vec::new(), Vec::new()), None).unwrap_err();
    assert_eq!(silent.to_string(), "there are no trusted root certificates");
}

#[test]
fn a_bundle_is_enough_on_a_system_without_roots() {
    let none = usable(Vec::new(), Vec::new());
    assert!(build(&none, Some(&bundle(vec![root().to_vec()]))).is_ok());
}

#[test]
fn a_bad_certificate_of_a_bundle_is_named() {
    let none = usable(Vec::new(), Vec::new());
    let error = build(&none, Some(&bundle(vec![root().to_vec(), vec![0x30, 0x00]]))).unwrap_err();
    assert!(error.to_string().starts_with("/etc/ca.pem: certificate 2 cannot be trusted as a root: "), "{error}");
    assert!(error.hint().contains("ca_file"));
}

#[test]
fn a_client_without_roots_can_be_built_anywhere() {
    assert!(client_config_without_roots().is_ok());
}

/// Runs itself in a process of its own, because the system's roots are loaded once.
#[test]
fn the_system_roots_can_be_named_by_ssl_cert_file() {
    const NAME: &str = "lanyard-roots";
    if std::env::var("SSL_CERT_FILE").is_ok_and(|path| path.contains(NAME)) {
        assert_eq!(system_roots_der().len(), 1);
        assert!(client_config(None).is_ok());
        return;
    }
    let path = std::env::temp_dir().join(format!("{NAME}-{}.pem", std::process::id()));
    let signed = rcgen::generate_simple_self_signed(vec!["ca.test".to_owned()]).unwrap();
    std::fs::write(&path, signed.cert.pem()).unwrap();
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["tls::tests::the_system_roots_can_be_named_by_ssl_cert_file", "--exact"])
        .env("SSL_CERT_FILE", &path)
        .env_remove("SSL_CERT_DIR")
        .output()
        .unwrap();
    std::fs::remove_file(&path).unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}
