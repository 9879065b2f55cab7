//! Whatever else is wrong with a configuration: no message and no `Debug` shows what may be a secret.

use super::*;

const CANARY: &str = "canary";

/// Everything that may hold a secret holds one, and all else is good.
const GOOD: &str = r#"
[profiles.p]
token_endpoint = "https://auth.example.com/token?key=canary-query"
client_id = "client"
client_secret = "canary-literal"
params = { pin = "canary-param" }
headers = { X-Key = "canary-header" }
egress_proxy = "http://canary-user:canary-password@proxy:3128"

[[routes]]
host = "api.example.com"
profile = "p"
egress_proxy = { url = "http://proxy:3129", username = "user", password = "canary-proxy-key" }
"#;

#[track_caller]
fn assert_silent(shown: &str, text: &str) {
    assert!(!shown.contains(CANARY), "of:\n{text}\nthis is shown:\n{shown}");
}

/// Everything that can be said about a text.
fn told(text: &str) -> String {
    match parse_in(text, &machine()) {
        Ok(loaded) => format!("{loaded:?} {loaded:#?} {:?}", loaded.config),
        Err(e) => format!("{e} {e:?} {e:#?}"),
    }
}

#[test]
fn debug_of_a_configuration_shows_no_secret() {
    let loaded = parse_in(GOOD, &machine()).unwrap();
    let shown = told(GOOD);
    assert_silent(&shown, GOOD);
    for part in ["auth.example.com/token", "pin", "x-key", "proxy:3128", "client"] {
        assert!(shown.contains(part), "no {part} in {shown}");
    }
    // The secrets themselves are there.
    let CredentialKind::OAuth2(oauth2) = &loaded.config.profiles["p"].kind else { panic!("not OAuth2") };
    assert_eq!(oauth2.params, [("pin".to_owned(), "canary-param".to_owned())]);
    let password = |proxy: &Egress| match &proxy.https.as_ref().unwrap().login.as_ref().unwrap().password {
        SecretSource::Literal(secret) => secret.expose().to_owned(),
        other => panic!("{other:?}"),
    };
    assert_eq!(password(&oauth2.egress_proxy), "canary-password");
    assert_eq!(password(&loaded.config.routes[0].egress_proxy), "canary-proxy-key");
    assert_eq!(oauth2.endpoint.token_endpoint.as_ref().unwrap().query(), Some("key=canary-query"));
}

#[test]
fn messages_about_everything_else_show_no_secret() {
    let text = r#"
colour = 1
[[listeners]]
address = "https://user:canary-a@127.0.0.1:8080"
upstream = "https://user:canary-b@api.example.com/a/../b"
allowed_hosts = ["user:canary-c@gateway", 7]

[[listeners]]
address = "0.0.0.0:8080"
upstream = "ftp://user:canary-d@api.example.com"
allowed_hosts = ["user:canary-e@gateway"]

[admin]
address = "admin:canary-f@127.0.0.1:9090"

[egress_proxy]
url = "http://user:canary-10@proxy:3128/canary-11"
username = "canary-12:"
password = ["canary-13"]
no_proxy = "https://user:canary-14@x, canary-15@y"

[profiles.billing]
token_endpoint = "http://user:canary-g@auth.example.com/?key=canary-h"
token_endpoint_auth_method = "x"
client_id = ""
client_secret = "canary-i"
scope = []
resource = ["https://user:canary-j@api.example.com", "canary-k@ is none"]
params = { scope = "canary-l", client_secret = "canary-m" }
headers = { Authorization = "Basic canary-n", "x y" = "canary-o", x = "canary-p\n" }
request_format = "x"
egress_proxy = "https://user:canary-q@proxy:3128"
timeout = 0
header = "host"

[profiles.second]
token_endpoint = "https://user:canary-r@auth.example.com:port/"
client_secret = { value = "canary-s" }
params = ["canary-t"]
headers = "X-Key: canary-u"
egress_proxy = "user:canary-v@proxy"

[profiles.third]
token_endpoint = ["https://user:canary-w@auth.example.com"]
client_secret = { file = ["canary-x"], env = "canary-y" }
client_secrets = "canary-z"
params = { pin = ["canary-1"] }
password = "canary-2"

[[routes]]
host = "https://user:canary-3@api.example.com"
path_prefix = "https://user:canary-4@api.example.com/v1"
profile = "x"
upstream = "https://user:canary-5/canary-6@api.example.com/"
server_name = "user:canary-7@api.example.com"

[[routes]]
host = "user:canary-8@api.example.com"
profile = "billing"
upstream = "https://api.example.com/?key=canary-9"
"#;
    let count = errors(text).len();
    assert!(count > 40, "{count}");
    assert_silent(&told(text), text);
    // What is no number in other places may be a PIN in these.
    for line in ["params = { pin = 734912 }", "headers = { x = 734912 }", "client_secret = 734912"] {
        let text = in_profile(line);
        assert!(!told(&text).contains("734912"), "{}", told(&text));
    }
}

#[test]
fn a_slip_of_the_pen_shows_no_secret() {
    for line in GOOD.lines().filter(|line| line.contains(CANARY)) {
        let slips = [
            line.replace('"', ""),
            line.replacen('"', "", 1),
            line.replace('"', "'"),
            line.replace('"', "\"\""),
            line.replace('"', "\"\"\""),
            line.replace("canary", "\ncanary"),
            line.replace("canary", "\n[canary"),
            line.replace("canary", "\ncanary = "),
            line.replace("canary", "\" canary"),
            line.replace("canary", "\\canary"),
            line.replace(" = ", " "),
            line.replace(" = ", ": "),
            line.replace("= ", "= ["),
            line.replace("= ", "= {"),
            line.replace(['{', '}'], ""),
            line.replace("client_secret", "client_secert"),
        ];
        for slip in slips {
            let text = GOOD.replace(line, &slip);
            assert_silent(&told(&text), &text);
        }
    }
}

#[test]
fn no_single_byte_taken_out_shows_a_secret() {
    // Without its '?' a query is a path like any other.
    for place in (0..GOOD.len()).filter(|place| GOOD.as_bytes()[*place] != b'?') {
        let (before, after) = GOOD.split_at(place);
        let text = format!("{before}{}", after.get(1..).unwrap_or_default());
        // A canary that loses a letter is still one: its rest is looked for too.
        let shown = told(&text);
        assert!(!shown.contains("anary") && !shown.contains("canar"), "of:\n{text}\nthis is shown:\n{shown}");
    }
}
