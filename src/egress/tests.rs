use super::*;

#[test]
fn a_proxy_is_an_http_url() {
    for (text, name, login) in [
        ("http://proxy:3128", "http://proxy:3128", None),
        ("http://Proxy.Corp.Example./", "http://proxy.corp.example:80", None),
        ("http://[::1]:3128", "http://[::1]:3128", None),
        ("http://user:p%40ss%3Aword@proxy:3128", "http://proxy:3128", Some(("user", "p@ss:word"))),
    ] {
        let proxy = Proxy::parse(text).unwrap();
        assert_eq!(proxy.name(), name);
        let found = proxy.login.as_ref().map(|login| (login.username.clone(), login.password.clone()));
        let expected = login.map(|(name, word)| (name.to_owned(), SecretSource::Literal(Secret::new(word))));
        assert!(found == expected, "{text}");
        assert!(!format!("{proxy:?}").contains("user"), "{proxy:?}");
    }
    for text in [
        "",
        "proxy:3128",
        "https://proxy",
        "socks5://proxy",
        "http://",
        "http://proxy:0",
        "http://proxy:99999",
        "http://proxy/path",
        "http://proxy/?query",
        "http://proxy/#fragment",
        "http://user@proxy",
        "http://:password@proxy",
        "http://user:@proxy",
        "http://us%3Aer:password@proxy",
        "http://user:%ff@proxy",
        "http://user:%0a@proxy",
        "http://user:%zz@proxy",
    ] {
        assert!(Proxy::parse(text).is_err(), "{text}");
    }
}

#[test]
fn the_scheme_and_no_proxy_decide() {
    let proxy = |text| Some(Arc::new(Proxy::parse(text).unwrap()));
    let (no_proxy, _) = NoProxy::parse(".corp.example");
    let egress = Egress { http: proxy("http://a"), https: proxy("http://b"), no_proxy };
    let name = |scheme, host| egress.through(scheme, host).map(|proxy| proxy.name());
    assert_eq!(name(Scheme::Http, "example.com").as_deref(), Some("http://a:80"));
    assert_eq!(name(Scheme::Https, "example.com").as_deref(), Some("http://b:80"));
    assert_eq!(name(Scheme::Https, "api.corp.example"), None);
    assert!(Egress::direct().through(Scheme::Https, "example.com").is_none());
}

#[tokio::test]
async fn credentials_are_read_at_each_use() {
    let file = std::env::temp_dir().join(format!("lanyard-egress-{}", std::process::id()));
    let password = SecretSource::File(file.clone());
    let login = Some(Login { username: "user".to_owned(), password });
    let proxy = Proxy { login, ..Proxy::parse("http://proxy").unwrap() };
    assert!(proxy.authorization().await.is_err());
    for (password, expected) in [("one", "Basic dXNlcjpvbmU="), ("two\n", "Basic dXNlcjp0d28=")] {
        std::fs::write(&file, password).unwrap();
        let value = proxy.authorization().await.unwrap().unwrap();
        assert!(value == expected && value.is_sensitive());
    }
    std::fs::remove_file(&file).unwrap();
    assert!(Proxy::parse("http://proxy").unwrap().authorization().await.unwrap().is_none());
}
