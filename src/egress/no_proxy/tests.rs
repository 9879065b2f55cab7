use super::*;

/// Whether the rules of a list cover a host.
fn covers(list: &str, host: &str) -> bool {
    NoProxy::parse(list).0.covers(host)
}

/// The cases that curl tests itself by, and some between them. `tests/integration/egress.rs` asks curl too.
#[test]
fn curls_own_table() {
    for (host, list, expected) in [
        ("www.example.com", "localhost,.example.com,.example.de", true),
        ("www.example.com.", "localhost,.example.com,.example.de", true),
        ("example.com", "localhost,.example.com,.example.de", true),
        ("example.com.", "localhost,.example.com,.example.de", true),
        ("www.example.com", "localhost,.example.com.,.example.de", true),
        ("www.example.com", "localhost,www.example.com.,.example.de", true),
        ("example.com", "localhost,example.com,.example.de", true),
        ("www.example.com", "localhost,example.com,.example.de", true),
        ("WWW.Example.com", "localhost,EXAMPLE.com", true),
        ("127.0.0.1", "127.0.0.1,localhost", true),
        ("127.0.0.1", "127.0.0.1,localhost,", true),
        ("127.0.0.1", "127.0.0.1/8,localhost,", true),
        ("127.0.0.1", "127.0.0.1/28,localhost,", true),
        ("127.0.0.1", "127.0.0.1/31,localhost,", true),
        ("127.0.0.1", "localhost,127.0.0.1", true),
        ("127.0.0.1", "localhost,127.0.0.1.127.0.0.1", false),
        ("localhost", "localhost,127.0.0.1", true),
        ("localhost", "127.0.0.1,localhost", true),
        ("foobar", "barfoo", false),
        ("foobar", "foobar", true),
        ("192.168.0.1", "foobar", false),
        ("192.168.0.1", "192.168.0.0/16", true),
        ("192.168.0.1", "192.168.0.0/24", true),
        ("192.168.0.1", "192.168.0.0/32", false),
        ("192.168.0.1", "192.168.0.1/33", false),
        ("192.168.0.1", "192.168.0.1/0", true),
        ("192.168.0.1", "10.0.0.1/0", false),
        ("192.168.0.1", "192.168.0.0", false),
        ("192.168.1.1", "192.168.0.0/24", false),
        ("192.168.1.1", "foo, bar, 192.168.0.0/24", false),
        ("192.168.1.1", "foo, bar, 192.168.0.0/16", true),
        ("::1", "foo, bar, 192.168.0.0/16", false),
        ("::1", "foo, bar, ::1/64", true),
        ("::1", "0:0::1", true),
        ("::1", "::1/129", false),
        ("fe80::ab47:4396:55c9:8474", "fe80::ab47:4396:55c9:8474/64", true),
        ("fd00::1", "fd00::/8", true),
        ("fe00::1", "fd00::/8", false),
        ("bar", "foo, bar, ::1/64", true),
        ("BAr", "foo,,,,,              bar, ::1/64", true),
        ("www.example.com", "foo, .example.com", true),
        ("www.example.com", "www2.example.com, .example.net", false),
        ("example.com", ".example.com, .example.net", true),
        ("nonexample.com", ".example.com, .example.net", false),
        ("anything", "*", true),
        ("10.0.0.1", "*", true),
        ("anything", "", false),
        ("anything", "*,other", false),
        ("www.example.com", "*.example.com", false),
        ("example.com", "example.com:80", false),
        ("::1", "[::1]", false),
        // A name is not looked up for a range, and an address is no name.
        ("ten.example.com", "10.0.0.0/8", false),
        ("10.0.0.1", "0.0.1", false),
        // What follows a blank is not read.
        ("a", "a b", true),
        ("b", "a b", false),
        ("c", "a b, c", false),
    ] {
        assert_eq!(covers(list, host), expected, "{host} in {list:?}");
    }
}

#[test]
fn what_curl_would_not_read_as_it_was_meant_is_told() {
    for (list, entry, what, hint) in [
        ("a,*", "*", "among other entries", "alone"),
        ("*.example.com", "*.example.com", "a wildcard", ".example.com"),
        ("example.com:443", "example.com:443", "a port", "the host alone"),
        ("[::1]", "[::1]", "brackets", "without brackets"),
        ("http://example.com", "http://example.com", "a URL", "the host alone"),
        ("0.0.0.0/0", "0.0.0.0/0", "no bits", "\"*\" alone"),
        ("10.0.0.0/33", "10.0.0.0/33", "bits are no number in range", "10.0.0.0/8"),
        ("10.0.0.0/x", "10.0.0.0/x", "bits are no number in range", "10.0.0.0/8"),
        ("a b", "a b", "a blank", "a comma"),
        ("..", "..", "no host", "localhost"),
        ("exämple.com", "exämple.com", "no host", "localhost"),
    ] {
        let (_, oddities) = NoProxy::parse(list);
        let [oddity] = oddities.as_slice() else { panic!("{list}: {oddities:?}") };
        assert_eq!(oddity.entry, entry, "{list}");
        assert!(oddity.what.contains(what) && oddity.hint.contains(hint), "{list}: {oddity:?}");
    }
    assert_eq!(NoProxy::parse("localhost, .corp.example, 10.0.0.0/8, ::1,").1, []);
}

#[test]
fn it_is_shown_as_a_list_that_reads_the_same() {
    for (list, shown) in [
        ("", ""),
        ("*", "*"),
        ("Localhost, .corp.example., 10.0.0.0/8, fd00::/8,::1", "localhost,corp.example,10.0.0.0/8,fd00::/8,::1"),
    ] {
        let (rules, _) = NoProxy::parse(list);
        assert_eq!(rules.to_string(), shown);
        assert_eq!(NoProxy::parse(shown).0, rules);
    }
}
