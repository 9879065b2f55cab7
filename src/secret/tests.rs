use super::*;

#[test]
fn a_secret_does_not_show_itself() {
    let secret = Secret::new("canary-secret");
    assert_eq!(format!("{secret:?}"), "[redacted]");
    let source = SecretSource::Literal(secret);
    assert_eq!(format!("{source:?}"), "Literal([redacted])");
}

#[tokio::test]
async fn a_file_is_read_at_each_use_and_loses_one_line_end() {
    let dir = std::env::temp_dir().join(format!("lanyard-secret-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("secret");
    let source = SecretSource::File(path.clone());

    std::fs::write(&path, "first\n").unwrap();
    assert_eq!(source.read().await.unwrap().expose(), "first");
    std::fs::write(&path, " second \r\n").unwrap();
    assert_eq!(source.read().await.unwrap().expose(), " second ");

    // As editors on Windows save it; within the text the character stays.
    std::fs::write(&path, "\u{feff}thi\u{feff}rd\r\n").unwrap();
    assert_eq!(source.read().await.unwrap().expose(), "thi\u{feff}rd");
    std::fs::write(&path, "\u{feff}\n").unwrap();
    assert!(source.read().await.unwrap_err().to_string().ends_with("is empty"));

    std::fs::write(&path, "\n").unwrap();
    assert!(source.read().await.unwrap_err().to_string().ends_with("is empty"));
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(source.read().await.unwrap_err().to_string().ends_with("is not UTF-8 text"));
    std::fs::remove_file(&path).unwrap();
    assert!(source.read().await.unwrap_err().to_string().contains("No such file"));
    assert!(SecretSource::File(dir.clone()).read().await.unwrap_err().to_string().ends_with("is not a regular file"));
    std::fs::remove_dir_all(&dir).unwrap();
}
