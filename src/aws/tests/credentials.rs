//! The texts that credentials come in.

use std::time::{Duration, SystemTime};

use crate::{
    aws::{ACCESS_KEY_ID_VARIABLE, Credentials, CredentialsError, SECRET_ACCESS_KEY_VARIABLE, SESSION_TOKEN_VARIABLE},
    secret::Secret,
};

fn json(text: &str) -> Result<Credentials, CredentialsError> {
    Credentials::from_json(&Secret::new(text))
}

#[test]
fn the_answers_of_endpoints_are_read() {
    let expected = Credentials {
        access_key_id: "ASIAEXAMPLE".to_owned(),
        secret_access_key: Secret::new("secret/+="),
        session_token: Some(Secret::new("token==")),
        expiration: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_494_907_200)),
    };
    // The instance metadata service, the container endpoint, and a credential_process.
    for text in [
        r#"{"Code": "Success", "LastUpdated": "2017-04-26T16:39:16Z", "Type": "AWS-HMAC", "AccessKeyId": "ASIAEXAMPLE",
            "SecretAccessKey": "secret/+=", "Token": "token==", "Expiration": "2017-05-16T04:00:00Z"}"#,
        r#"{"RoleArn": "arn:aws:iam::1:role/r", "AccessKeyId": "ASIAEXAMPLE", "SecretAccessKey": "secret/+=",
            "Token": "token==", "Expiration": "2017-05-16T04:00:00.000Z"}"#,
        r#"{"Version": 1, "AccessKeyId": "ASIAEXAMPLE", "SecretAccessKey": "secret/+=", "SessionToken": "token==",
            "Expiration": "2017-05-16T06:00:00+02:00"}"#,
    ] {
        assert_eq!(json(text).unwrap(), expected);
    }
    let lasting = json(r#"{"AccessKeyId": "A", "SecretAccessKey": "s", "Token": "", "Expiration": null}"#).unwrap();
    assert_eq!((lasting.session_token, lasting.expiration), (None, None));
}

#[test]
fn answers_that_are_none_are_told_without_their_content() {
    let cases = [
        (
            r#"{"Code": "Failed", "Message": "hush"}"#,
            "the endpoint has no credentials: its answer's `Code` is not `Success`",
        ),
        (r#"{"SecretAccessKey": "hush"}"#, "there is no AccessKeyId"),
        (r#"{"AccessKeyId": "hush", "SecretAccessKey": ""}"#, "there is no SecretAccessKey"),
        (
            r#"{"AccessKeyId": "hush", "SecretAccessKey": "hush", "Expiration": "tomorrow"}"#,
            "Expiration is not a time of RFC 3339",
        ),
        (
            "{\"AccessKeyId\": \"hush\",\n\"SecretAccessKey\": [\"hush\"]}",
            "the credentials are not JSON of the expected form: mistake at line 2, column 19",
        ),
        ("hush", "the credentials are not JSON of the expected form: mistake at line 1, column 1"),
    ];
    for (text, message) in cases {
        let error = json(text).unwrap_err();
        assert_eq!(error.to_string(), message);
        assert!(!format!("{error:?} {}", error.hint()).contains("hush"));
    }
}

const FILE: &str = "\
# a comment\r
[default]\r
aws_access_key_id = AKIADEFAULT\r
aws_secret_access_key=wJalr/K7MDENG+bPx#Rfi=\r

[ temporary ]
; another
AWS_ACCESS_KEY_ID = ASIATEMP   # which one
aws_secret_access_key = s ; comment
aws_session_token = a==
region = eu-central-1
aws_access_key_id_old = no
[half]
aws_access_key_id = AKIAHALF
[twice]
aws_access_key_id = one
aws_secret_access_key = x
aws_access_key_id = two
[default-of-others]
";

#[test]
fn a_profile_of_the_credentials_file_is_read() {
    let read = |profile| Credentials::from_ini(&Secret::new(FILE), profile);
    let default = read("default").unwrap();
    assert_eq!(default.access_key_id, "AKIADEFAULT");
    assert_eq!(default.secret_access_key.expose(), "wJalr/K7MDENG+bPx#Rfi=");
    assert_eq!((default.session_token, default.expiration), (None, None));
    let temporary = read("temporary").unwrap();
    assert_eq!(temporary.access_key_id, "ASIATEMP");
    assert_eq!(temporary.secret_access_key.expose(), "s");
    assert_eq!(temporary.session_token, Some(Secret::new("a==")));
    assert_eq!(read("twice").unwrap().access_key_id, "two");
    assert_eq!(read("half").unwrap_err().to_string(), "there is no aws_secret_access_key");
    assert_eq!(read("default-of-others").unwrap_err().to_string(), "there is no aws_access_key_id");
    assert_eq!(read("none").unwrap_err().to_string(), "the credentials file has no profile [none]");
}

#[test]
fn the_environment_is_read() {
    let with = |token: &'static str| {
        Credentials::from_environment(move |name| match name {
            ACCESS_KEY_ID_VARIABLE => Some(Secret::new("AKIA")),
            SECRET_ACCESS_KEY_VARIABLE => Some(Secret::new("s")),
            SESSION_TOKEN_VARIABLE => Some(Secret::new(token)),
            _ => None,
        })
        .unwrap()
    };
    assert_eq!(with("t").session_token, Some(Secret::new("t")));
    assert_eq!(with("").session_token, None);
    assert_eq!((with("").access_key_id.as_str(), with("").secret_access_key.expose()), ("AKIA", "s"));
    let missing = Credentials::from_environment(|name| (name == ACCESS_KEY_ID_VARIABLE).then(|| Secret::new("A")));
    assert_eq!(missing.unwrap_err().to_string(), "there is no AWS_SECRET_ACCESS_KEY");
    let empty = Credentials::from_environment(|_| Some(Secret::new("")));
    assert_eq!(empty.unwrap_err().to_string(), "there is no AWS_ACCESS_KEY_ID");
}
