use std::os::unix::fs::PermissionsExt as _;

use super::*;

/// A folder of this test's own.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("lanyard-refresh-{name}-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&path));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn secret(text: &str) -> Secret {
    Secret::new(text)
}

#[test]
fn the_latest_is_used_and_another_login_takes_its_place() {
    let rotation = Rotation::new(None);
    assert_eq!(rotation.current(&secret("first")), Ok(secret("first")));
    rotation.replace(&secret("first"), secret("second")).unwrap();
    assert_eq!(rotation.current(&secret("first")), Ok(secret("second")));
    assert_eq!(rotation.current(&secret("login")), Ok(secret("login")));
    assert!(!format!("{rotation:?}").contains("login"));
}

#[test]
fn a_restart_does_not_lose_it() {
    let folder = Folder::new("restart");
    let path = folder.0.join("state");
    let rotation = || Rotation::new(Some(path.clone()));
    assert_eq!(rotation().current(&secret("first")), Ok(secret("first")));
    rotation().replace(&secret("first"), secret("canary-second")).unwrap();
    assert_eq!(rotation().current(&secret("first")), Ok(secret("canary-second")));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    rotation().replace(&secret("first"), secret("third")).unwrap();
    assert_eq!(rotation().current(&secret("first")), Ok(secret("third")));
    // A new login was written into the configuration meanwhile.
    assert_eq!(rotation().current(&secret("login")), Ok(secret("login")));
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 1, "nothing else is left there");
}

/// `lanyard doctor` beside `lanyard run`, or the profile before a reload: to use an old token would end them all.
#[test]
fn what_another_one_has_kept_meanwhile_is_used() {
    let folder = Folder::new("shared");
    let path = folder.0.join("state");
    let (one, other) = (Rotation::new(Some(path.clone())), Rotation::new(Some(path.clone())));
    assert_eq!(one.current(&secret("first")), Ok(secret("first")));
    one.replace(&secret("first"), secret("second")).unwrap();
    assert_eq!(other.current(&secret("first")), Ok(secret("second")));
    other.replace(&secret("first"), secret("third")).unwrap();
    assert_eq!(one.current(&secret("first")), Ok(secret("third")));
    // What is in the way of reading takes nothing away from who knows.
    std::fs::remove_file(&path).unwrap();
    assert_eq!(one.current(&secret("first")), Ok(secret("third")));
    std::fs::create_dir(&path).unwrap();
    assert_eq!(one.current(&secret("first")), Ok(secret("third")));
    one.replace(&secret("first"), secret("fourth")).unwrap_err();
    std::fs::remove_dir(&path).unwrap();
    other.replace(&secret("first"), secret("old")).unwrap();
    assert_eq!(one.current(&secret("first")), Ok(secret("fourth")), "it could not be kept, and is newer");
}

#[test]
fn a_file_that_is_no_state_is_not_used_and_not_shown() {
    let folder = Folder::new("odd");
    for content in ["canary", "{}", "[1]", r#"{"from":1,"refresh_token":"canary"}"#, ""] {
        let path = folder.0.join("odd");
        std::fs::write(&path, content).unwrap();
        let problem = Rotation::new(Some(path)).current(&secret("first")).unwrap_err();
        assert!(problem.ends_with("is no state of lanyard's") && !problem.contains("canary"), "{problem}");
    }
    assert!(Rotation::new(Some(folder.0.clone())).current(&secret("first")).is_err());
}

#[test]
fn what_cannot_be_kept_is_used_all_the_same() {
    let folder = Folder::new("unwritable");
    let rotation = Rotation::new(Some(folder.0.join("no/such/folder/state")));
    let problem = rotation.replace(&secret("first"), secret("canary")).unwrap_err();
    assert!(problem.contains("could not be kept in") && !problem.contains("canary"), "{problem}");
    assert_eq!(rotation.current(&secret("first")), Ok(secret("canary")));
}
