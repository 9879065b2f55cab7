//! How problems look on a terminal, and reading the file itself.

use super::*;

#[test]
fn a_problem_names_its_place_and_what_to_write() {
    let mut problem = Problem {
        file: "proxy.toml".to_owned(),
        line: Some(7),
        key: "routes[0].host".to_owned(),
        what: "\"\" is no host".to_owned(),
        hint: "write a host".to_owned(),
        severity: Severity::Error,
    };
    assert_eq!(problem.to_string(), "proxy.toml:7: routes[0].host: \"\" is no host\n    hint: write a host");
    problem.severity = Severity::Warning;
    assert_eq!(problem.to_string(), "proxy.toml:7: warning: routes[0].host: \"\" is no host\n    hint: write a host");
    problem = Problem { line: None, key: String::new(), severity: Severity::Error, ..problem };
    assert_eq!(problem.to_string(), "proxy.toml: \"\" is no host\n    hint: write a host");
}

#[test]
fn all_problems_are_shown_and_errors_are_counted() {
    let text = in_profile("client_secret = \"literal\"\ntimeout = 10\nscope = []");
    let error = parse_in(&text, &machine()).unwrap_err();
    assert_eq!(error.0.len(), 3);
    assert_eq!(error.errors().count(), 2);
    let shown = error.to_string();
    let starts: Vec<&str> = shown.lines().filter(|line| !line.starts_with(' ')).collect();
    assert_eq!(
        starts,
        [
            "proxy.toml:2: warning: profiles.p.client_secret: a secret in the configuration itself",
            "proxy.toml:3: profiles.p.timeout: the number 10",
            "proxy.toml:4: profiles.p.scope: no scope at all",
            "2 problems",
        ]
    );
    assert!(parse_in("[log]\nlevel = 1\n", &machine()).unwrap_err().to_string().ends_with("\n1 problem"));
}

#[test]
fn the_file_itself() {
    let folder = std::env::temp_dir().join(format!("lanyard-config-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("proxy.toml");
    let failure = || {
        let error = load(&path).unwrap_err();
        let [problem] = error.0.as_slice() else { panic!("{error}") };
        assert_eq!((problem.line, problem.key.as_str()), (None, ""));
        assert_eq!(problem.file, path.display().to_string());
        assert!(!problem.hint.is_empty());
        problem.what.clone()
    };

    assert!(failure().contains("cannot be read: No such file"));
    std::fs::create_dir(&path).unwrap();
    assert!(failure().contains("is not a regular file"));
    std::fs::remove_dir(&path).unwrap();
    std::fs::write(&path, [b'#', 0xff]).unwrap();
    assert!(failure().contains("is not UTF-8"));
    std::fs::write(&path, vec![b'#'; 1024 * 1024 + 1]).unwrap();
    assert!(failure().contains("at most 1048576 bytes"));

    let text = in_profile("client_secret = { file = \"secret\" }");
    std::fs::write(&path, text).unwrap();
    std::fs::write(folder.join("secret"), "s").unwrap();
    let loaded = load(&path).unwrap();
    let CredentialKind::OAuth2(oauth2) = &loaded.config.profiles["p"].kind else { panic!("not OAuth2") };
    let secret = SecretSource::File(folder.join("secret"));
    assert_eq!(oauth2.authentication, Authentication::ClientSecretBasic(secret));
    std::fs::remove_dir_all(&folder).unwrap();
}
