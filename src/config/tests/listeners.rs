//! What can be wrong with `[[listeners]]`, `[admin]`, `[forward]`, `[limits]` and `[log]`.

use super::*;

#[test]
fn keys_of_a_listener() {
    let reverse = |line: &str| format!("{line}\nupstream = \"https://api.example.com\"");
    let (no_host, no_list, ip_wildcard) = (
        reverse("allowed_hosts = [\"good\", \"a b\"]"),
        reverse("allowed_hosts = \"gateway\""),
        reverse("allowed_hosts = [\"*.10.0.0.1\"]"),
    );
    let no_hosts = "allowed_hosts = [\"gateway\"]\ntransparent = true";
    assert_lines(
        in_listener,
        "listeners[0]",
        &[
            ("adress = \"127.0.0.1:1\"", "adress", "unknown key", "did you mean `address`?"),
            ("tls = true", "tls", "unknown key", "the keys here are: address, upstream"),
            ("address = 8080", "address", "the number 8080", "write a string"),
            ("address = \":8080\"", "address", "\":8080\" is no address", "\"127.0.0.1:8080\", or \"0.0.0.0:8080\""),
            ("address = \"8080\"", "address", "\"8080\" is no address", "write \"127.0.0.1:8080\""),
            ("address = \"127.0.0.1\"", "address", "is no address", "add the port: \"127.0.0.1:8080\""),
            ("address = \"[::1]\"", "address", "is no address", "add the port: \"[::1]:8080\""),
            ("address = \"proxy.internal:8080\"", "address", "is no address", "an IP address and a port"),
            ("address = \"127.0.0.1:80800\"", "address", "is no address", "an IP address and a port"),
            ("address = \"\"", "address", "\"\" is no address", "an IP address and a port"),
            ("address = \"unix:\"", "address", "a Unix socket without a path", "unix:/run/lanyard/lanyard.sock"),
            ("upstream = \"api.example.com\"", "upstream", "no http or https URL", "https://HOST[:PORT]"),
            ("allowed_hosts = [\"a\"]", "allowed_hosts", "on a forward listener", "remove it"),
            (&no_host, "allowed_hosts", "\"a b\"", "\"name:port\""),
            (&no_list, "allowed_hosts", "a string", "a list of strings"),
            (&ip_wildcard, "allowed_hosts", "a wildcard is", "\"*.name\""),
            ("transparent = \"true\"", "transparent", "a string", "true or false"),
            ("transparent = 1", "transparent", "the number 1", "true or false"),
            (&reverse("transparent = true"), "transparent", "`transparent` and `upstream`", "remove one of them"),
            (no_hosts, "allowed_hosts", "on a transparent listener", "remove it"),
            ("allow_browsers = \"false\"", "allow_browsers", "a string", "true or false"),
            ("address = \"0.0.0.0:8080\"", "address", "does not say what it does with other hosts", "\"deny\""),
            ("address = \"[::]:8080\"", "address", "does not say what it does with other hosts", "\"deny\""),
            ("address = \"127.0.0.1:9090\"", "address", "127.0.0.1:9090 is listened on twice", "of its own"),
            ("address = \"0.0.0.0:9090\"\nupstream = \"https://api.example.com\"", "address", "twice", "of its own"),
        ],
    );
}

#[test]
fn a_listener_without_an_address_tells_the_rest_too() {
    let text = "[[listeners]]\nupstream = \"x\"\nallowed_hosts = [\"a b\"]\n";
    let errors = errors(text);
    let [address, upstream, hosts] = errors.as_slice() else { panic!("{errors:#?}") };
    assert_problem(address, (text, 1, "listeners[0]", "`address` is missing", "write address = \"127.0.0.1:8080\""));
    assert_problem(upstream, (text, 2, "listeners[0].upstream", "no http or https URL", "https://HOST"));
    assert_problem(hosts, (text, 3, "listeners[0].allowed_hosts", "\"a b\"", "write \"name\""));
}

#[test]
fn addresses_that_are_taken() {
    for (one, other) in [
        ("127.0.0.1:8080", "localhost:8080"),
        ("0.0.0.0:8080", "127.0.0.1:8080"),
        ("127.0.0.1:8080", "0.0.0.0:8080"),
        ("[::]:8080", "[::1]:8080"),
        ("unix:/run/a.sock", "unix:/run/a.sock"),
    ] {
        let text = format!(
            "[[listeners]]\naddress = \"{one}\"\n[[listeners]]\naddress = \"{other}\"\n[forward]\nunmatched = \"deny\"\n"
        );
        assert_rows(&[(&text, 4, "listeners[1].address", "is listened on twice", "an address of its own")]);
    }
    for (one, other) in [("127.0.0.1:8080", "127.0.0.1:8081"), ("127.0.0.1:8080", "[::1]:8080")] {
        good(&format!("[[listeners]]\naddress = \"{one}\"\n[[listeners]]\naddress = \"{other}\"\n"));
    }
    let default = "[admin]\naddress = \"127.0.0.1:8080\"\n";
    assert_rows(&[(default, 2, "admin.address", "127.0.0.1:8080 is listened on twice", "an address of its own")]);
}

#[test]
fn a_listener_off_loopback_says_what_it_does_with_other_hosts() {
    for unmatched in ["pass", "deny"] {
        good(&format!("[[listeners]]\naddress = \"0.0.0.0:8080\"\n[forward]\nunmatched = \"{unmatched}\"\n"));
    }
    let reverse = in_listener("upstream = \"https://api.example.com\"").replace("127.0.0.1", "0.0.0.0");
    good(&reverse);
}

#[test]
fn a_transparent_listener() {
    let mode = |text: &str| good(text).listeners.remove(0).mode;
    assert_eq!(mode("[[listeners]]\naddress = \"127.0.0.1:15001\"\ntransparent = true\n"), ListenerMode::Transparent);
    assert_eq!(mode("[[listeners]]\naddress = \"127.0.0.1:15001\"\ntransparent = false\n"), ListenerMode::Forward);
    let everywhere = "[[listeners]]\naddress = \"0.0.0.0:15001\"\ntransparent = true\n";
    assert_eq!(mode(&format!("{everywhere}[forward]\nunmatched = \"pass\"\n")), ListenerMode::Transparent);
    assert_rows(&[
        (everywhere, 2, "listeners[0].address", "a transparent listener that other machines can reach", "\"deny\""),
        (
            "[[listeners]]\naddress = \"unix:/run/a.sock\"\ntransparent = true\n",
            2,
            "listeners[0].address",
            "a transparent listener on a Unix socket",
            "write the TCP address",
        ),
    ]);
}

#[test]
fn a_transparent_listener_where_nothing_redirects() {
    let text = "[[listeners]]\naddress = \"127.0.0.1:15001\"\ntransparent = true\n";
    let machine = FakeEnvironment { not_linux: true, ..machine() };
    let ConfigError(errors) = parse_in(text, &machine).unwrap_err();
    let [error] = errors.as_slice() else { panic!("{errors:#?}") };
    assert_problem(error, (text, 3, "listeners[0].transparent", "not Linux", "remove it"));
}

#[test]
fn a_reverse_listener_without_a_route() {
    let text = in_listener("upstream = \"https://other.example.com\"");
    let warnings = warnings(&text, &machine());
    let [warning] = warnings.as_slice() else { panic!("{warnings:#?}") };
    assert_problem(
        warning,
        (&text, 2, "listeners[0].upstream", "nothing injects a token", "a route with host = \"other.example.com\""),
    );
}

#[test]
fn the_other_tables() {
    assert_rows(&[
        ("[admin]\nadress = \"x\"\n", 2, "admin.adress", "unknown key", "did you mean `address`?"),
        ("[admin]\naddress = \":9090\"\n", 2, "admin.address", "is no address", "write \"127.0.0.1:9090\""),
        ("[admin]\naddress = \"unix:/a\"\n", 2, "admin.address", "is no address", "an IP address and a port"),
        ("[admin]\naddress = 9090\n", 2, "admin.address", "the number 9090", "write a string"),
        ("admin = \"127.0.0.1:9090\"\n", 1, "admin", "a string", "write [admin]"),
        ("[forward]\nunmached = \"deny\"\n", 2, "forward.unmached", "unknown key", "did you mean `unmatched`?"),
        ("[forward]\nunmatched = \"dney\"\n", 2, "forward.unmatched", "\"dney\"", "did you mean \"deny\"?"),
        ("[forward]\nunmatched = \"x\"\n", 2, "forward.unmatched", "\"x\"", "one of: \"pass\", \"deny\""),
        ("[forward]\nconnect = \"tunel\"\n", 2, "forward.connect", "\"tunel\"", "did you mean \"tunnel\"?"),
        ("[forward]\nconnect = true\n", 2, "forward.connect", "true", "write a string"),
        ("[limits]\nmax_conections = 1\n", 2, "limits.max_conections", "unknown key", "`max_connections`?"),
        ("[limits]\nmax_connections = 0\n", 2, "limits.max_connections", "the number 0", "1 to 1000000"),
        ("[limits]\nmax_connections = 1000001\n", 2, "limits.max_connections", "1000001", "1 to 1000000"),
        ("[limits]\nmax_connections = -1\n", 2, "limits.max_connections", "the number -1", "a whole number"),
        ("[limits]\nmax_connections = \"9\"\n", 2, "limits.max_connections", "a string", "a whole number"),
        ("[limits]\nheader_timeout = \"0s\"\n", 2, "limits.header_timeout", "no time at all", "for 10s"),
        ("[limits]\nmax_header_size = \"0B\"\n", 2, "limits.max_header_size", "0 bytes", "\"1023KiB\""),
        ("[limits]\nmax_header_size = \"1MiB\"\n", 2, "limits.max_header_size", "1048576 bytes", "\"1023KiB\""),
        (
            "[limits]\nmax_header_size = 65536\n",
            2,
            "limits.max_header_size",
            "the number 65536",
            "a size with its unit: \"64KiB\"",
        ),
        ("[limits]\nmax_header_size = 2097152\n", 2, "limits.max_header_size", "the number 2097152", "\"2MiB\""),
        ("[limits]\nmax_headers = 257\n", 2, "limits.max_headers", "the number 257", "1 to 256"),
        ("[limits]\nmax_headers = 1.5\n", 2, "limits.max_headers", "the number 1.5", "a whole number"),
        ("[limits]\nidle_timeout = \"0m\"\n", 2, "limits.idle_timeout", "no time at all", "for 60s"),
        ("[limits]\nbody_timeout = 30\n", 2, "limits.body_timeout", "the number 30", "with its unit"),
        ("[limits]\ndrain_timeout = \"25\"\n", 2, "limits.drain_timeout", "\"25\"", "with its unit"),
        ("[log]\nformat = \"jsn\"\n", 2, "log.format", "\"jsn\"", "did you mean \"json\"?"),
        ("[log]\nlevel = \"INFO\"\n", 2, "log.level", "\"INFO\"", "did you mean \"info\"?"),
        (
            "[log]\nlevel = \"loud\"\n",
            2,
            "log.level",
            "\"loud\"",
            "\"error\", \"warn\", \"info\", \"debug\", \"trace\"",
        ),
        ("[log]\nacces = true\n", 2, "log.acces", "unknown key", "did you mean `access`?"),
        ("[log]\naccess = \"true\"\n", 2, "log.access", "a string", "true or false"),
        ("[[log]]\nlevel = \"info\"\n", 1, "log", "an array", "write [log]"),
    ]);
}

#[test]
fn an_admin_listener_for_everybody() {
    let text = "[admin]\naddress = \"0.0.0.0:9090\"\n";
    let warnings = warnings(text, &machine());
    let [warning] = warnings.as_slice() else { panic!("{warnings:#?}") };
    assert_problem(warning, (text, 2, "admin.address", "from other machines", "NetworkPolicy"));
}
