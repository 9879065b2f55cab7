//! `ca_file`, of routes and of profiles: certificates are read when the configuration is.

use super::*;

fn certificate(name: &str) -> rcgen::CertifiedKey<rcgen::KeyPair> {
    rcgen::generate_simple_self_signed([name.to_owned()]).unwrap()
}

#[test]
fn certificates_are_read_and_kept() {
    let (one, two) = (certificate("one.test"), certificate("two.test"));
    let bundle = format!("# comments are fine\n{}{}", one.cert.pem(), two.cert.pem());
    let environment = machine().with_file("/etc/lanyard/ca.pem", bundle);
    let expected = CaBundle {
        path: "/etc/lanyard/ca.pem".into(),
        certificates: vec![one.cert.der().to_vec(), two.cert.der().to_vec()].into(),
    };

    let loaded = parse_in(&in_route("ca_file = \"ca.pem\""), &environment).unwrap();
    assert_eq!(loaded.config.routes[0].ca_file.as_ref(), Some(&expected));
    let loaded = parse_in(&in_profile("ca_file = \"/etc/lanyard/ca.pem\""), &environment).unwrap();
    let CredentialKind::OAuth2(oauth2) = &loaded.config.profiles["p"].kind else { panic!("not OAuth2") };
    assert_eq!(oauth2.ca_file.as_ref(), Some(&expected));
}

#[test]
fn files_that_hold_no_certificate() {
    let good = certificate("one.test");
    let pem = good.cert.pem();
    let cut: String = pem.lines().take(3).map(|line| format!("{line}\n")).collect();
    let rubbish = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let environment = machine()
        .with_file("/etc/lanyard/good", pem.clone())
        .with_file("/etc/lanyard/empty", "")
        .with_file("/etc/lanyard/text", "not a certificate")
        .with_file("/etc/lanyard/bytes", [0xff, 0x00, 0x30])
        .with_file("/etc/lanyard/key", good.signing_key.serialize_pem())
        .with_file("/etc/lanyard/cut", cut)
        .with_file("/etc/lanyard/base64", pem.replace("MII", "!!!"))
        .with_file("/etc/lanyard/second", format!("{pem}{rubbish}"));
    for (name, what, hint) in [
        ("missing", "/etc/lanyard/missing cannot be read", "a PEM file that lanyard may read"),
        ("empty", "/etc/lanyard/empty holds no certificate", "-----BEGIN CERTIFICATE-----"),
        ("text", "/etc/lanyard/text holds no certificate", "-----BEGIN CERTIFICATE-----"),
        ("bytes", "/etc/lanyard/bytes holds no certificate", "-----BEGIN CERTIFICATE-----"),
        ("key", "/etc/lanyard/key holds no certificate", "-----BEGIN CERTIFICATE-----"),
        ("cut", "/etc/lanyard/cut is no good PEM", "-----BEGIN CERTIFICATE-----"),
        ("base64", "/etc/lanyard/base64 is no good PEM", "-----BEGIN CERTIFICATE-----"),
        ("second", "certificate 2 of /etc/lanyard/second is not usable", "-----BEGIN CERTIFICATE-----"),
    ] {
        let line = format!("ca_file = \"{name}\"");
        for (text, key) in [(in_route(&line), "routes[0].ca_file"), (in_profile(&line), "profiles.p.ca_file")] {
            let error = parse_in(&text, &environment).unwrap_err();
            let [problem] = error.0.as_slice() else { panic!("{error}") };
            assert_problem(problem, (&text, 2, key, what, hint));
        }
    }
    let text = in_route("ca_file = \"good\"\nupstream = \"http://127.0.0.1\"");
    let error = parse_in(&text, &environment).unwrap_err();
    let [problem] = error.0.as_slice() else { panic!("{error}") };
    assert_problem(problem, (&text, 2, "routes[0].ca_file", "an upstream of http://", "there is no TLS there"));
}
