use http::{HeaderName, HeaderValue};

use super::*;
use crate::oauth::tests::{client_secret, endpoint, oauth2};

fn knowing(secret: &str) -> Scrubber {
    let config = oauth2("https://auth.test/token");
    Scrubber::new(&config, endpoint(&config), &client_secret(secret))
}

const SECRET: &str = "can/ary:s3 cr+et%";

fn scrubber() -> Scrubber {
    let mut config = oauth2("https://auth.test/token?key=canary-query");
    config.headers = vec![(HeaderName::from_static("x-api-key"), HeaderValue::from_static("Key canary-header"))];
    config.params = vec![("pin".to_owned(), "canary-param".to_owned()), ("mode".to_owned(), "true".to_owned())];
    Scrubber::new(&config, endpoint(&config), &client_secret(SECRET))
}

#[test]
fn every_form_of_a_secret_goes() {
    let encoded = encode(SECRET);
    for reflected in [
        SECRET.to_owned(),
        encoded.clone(),
        encoded.replace('+', "%20"),
        "can%2fary%3as3+cr%2bet%25".to_owned(),
        basic("client", &Secret::new(SECRET)).expose().to_owned(),
        BASE64.encode(format!("client:{SECRET}")),
        BASE64.encode(SECRET),
        "can/ary:s3\u{0} cr\u{200b}+et%".to_owned(),
        "canary-header".to_owned(),
        "Key canary-header".to_owned(),
        "canary-param".to_owned(),
        "canary-query".to_owned(),
    ] {
        let shown = scrubber().clean(&format!("bad <{reflected}>, twice {reflected}"), 200);
        assert_eq!(shown, "bad <[redacted]>, twice [redacted]", "{reflected:?}");
    }
    assert_eq!(scrubber().clean("that is not true", 200), "that is not true");
}

#[test]
fn a_secret_with_quotes_goes_in_its_json_form_too() {
    let scrubber = knowing("can\"ary\\x");
    assert_eq!(scrubber.clean(r#"{"client_secret":"can\"ary\\x"}"#, 200), r#"{"client_secret":"[redacted]"}"#);
}

#[test]
fn a_secret_of_control_characters_does_no_harm() {
    let scrubber = knowing("\u{1}\u{2}\u{3}\u{4}");
    assert_eq!(scrubber.clean("as \u{1}\u{2}\u{3}\u{4} is", 200), "as [redacted] is");
}

#[test]
fn a_secret_too_short_to_find_withholds_the_text() {
    let scrubber = knowing("abc");
    assert!(!scrubber.clean("abc", 200).contains("abc"));
}

#[test]
fn control_characters_go_and_long_texts_are_cut() {
    assert_eq!(scrubber().clean("  red\u{1b}[31m\r\nline\u{202e}  ", 200), "red[31m line");
    // As Entra ID writes it; and a secret that line ends tear apart.
    let said = "AADSTS70011: no such scope.\r\nTrace ID: 25\r\nCorrelation ID: fb";
    assert_eq!(scrubber().clean(said, 200), "AADSTS70011: no such scope. Trace ID: 25 Correlation ID: fb");
    assert_eq!(scrubber().clean("a\r\nb can/\r\nary:s3 cr+\net%", 200), "ab [redacted]");
    assert_eq!(scrubber().clean("a can/ary:s3\r\ncr+et% b", 200), "a [redacted] b");
    let cut = scrubber().clean(&"ü".repeat(300), 200);
    assert_eq!(cut.chars().count(), 200);
    assert!(cut.ends_with('…'));
    // A secret that the cut would leave the beginning of is gone before.
    let shown = scrubber().clean(&format!("{}{SECRET}", "x".repeat(190)), 200);
    assert!(!shown.contains("can"), "{shown}");
}

#[test]
fn a_scrubber_does_not_show_itself() {
    assert_eq!(format!("{:?}", scrubber()), "Scrubber { .. }");
}
