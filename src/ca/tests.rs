use std::{fs, os::unix::fs::PermissionsExt};

use super::*;

/// An empty folder of this test's own, removed with the value.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("lanyard-ca-{}-{}", std::process::id(), fastrand::u64(..)));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn files(&self) -> Files {
        Files::at(Some(&self.0.join("ca"))).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn hosts(names: &[&str]) -> Vec<HostPattern> {
    names.iter().map(|name| HostPattern::parse(name).unwrap()).collect()
}

#[test]
fn it_is_made_once_and_read_ever_after() {
    let folder = Folder::new();
    let files = folder.files();
    assert!(matches!(files.load(), Err(CaError::Absent(_))));
    let made = files.load_or_create(&hosts(&["api.example.com", "*.test.example"])).unwrap();
    assert_eq!(made.permitted().unwrap(), ["api.example.com", "test.example"]);
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(files.key()), mode(files.certificate())), (0o600, 0o644));
    assert_eq!(files.load_or_create(&hosts(&["other.test"])).unwrap().pem(), made.pem());
    assert!(matches!(files.create(&[], false), Err(CaError::Exists(_))));
    assert_eq!(files.load().unwrap().pem(), made.pem());
    assert_ne!(files.create(&[], true).unwrap().pem(), made.pem());
    assert!(files.load().unwrap().permitted().is_none());
    let left: Vec<_> = fs::read_dir(folder.0.join("ca")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn of_many_at_once_one_makes_it() {
    let folder = Folder::new();
    let files = folder.files();
    let made = std::sync::Mutex::new(std::collections::HashSet::new());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let authority = files.load_or_create(&[]).unwrap();
                made.lock().unwrap().insert(authority.pem().to_owned());
            });
        }
    });
    assert_eq!(made.into_inner().unwrap().len(), 1);
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let folder = Folder::new();
    let files = folder.files();
    files.create(&[], false).unwrap();
    for (mode, refused) in [(0o600, false), (0o400, false), (0o640, true), (0o604, true), (0o660, true)] {
        fs::set_permissions(files.key(), fs::Permissions::from_mode(mode)).unwrap();
        let loaded = files.load();
        assert_eq!(matches!(&loaded, Err(CaError::Exposed { mode: found, .. }) if *found == mode), refused, "{mode:o}");
        assert_eq!(loaded.is_ok(), !refused);
    }
}

#[test]
fn files_that_are_no_ca_are_told_and_never_replaced() {
    let folder = Folder::new();
    let (files, other) = (folder.files(), Files::at(Some(&folder.0.join("other"))).unwrap());
    files.create(&[], false).unwrap();
    other.create(&[], false).unwrap();
    let told = || {
        let error = files.load_or_create(&[]).unwrap_err();
        assert!(!error.hint().is_empty());
        error.to_string()
    };

    fs::copy(other.certificate(), files.certificate()).unwrap();
    assert!(told().contains("the key beside it belongs to another certificate"), "{}", told());
    fs::write(files.certificate(), "").unwrap();
    assert!(told().contains("holds no certificate"), "{}", told());
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["a.test".to_owned()]).unwrap().self_signed(&key).unwrap();
    fs::write(files.certificate(), leaf.pem()).unwrap();
    fs::write(files.key(), key.serialize_pem()).unwrap();
    assert!(told().contains("not that of a CA"), "{}", told());
    fs::write(files.key(), "canary").unwrap();
    assert!(told().contains("ca.key: no private key") && !told().contains("canary"), "{}", told());
    fs::remove_file(files.key()).unwrap();
    assert!(told().contains("ca.key"), "{}", told());
    assert!(!files.key().exists(), "a CA was made in place of a broken one");

    std::os::unix::fs::symlink(folder.0.join("nowhere"), files.key()).unwrap();
    assert!(told().contains("ca.key: No such file"), "{}", told());
    fs::remove_file(files.key()).unwrap();
    fs::remove_file(files.certificate()).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(files.certificate()).status().unwrap().success());
    fs::write(files.key(), key.serialize_pem()).unwrap();
    fs::set_permissions(files.key(), fs::Permissions::from_mode(0o600)).unwrap();
    assert!(told().contains("ca.crt: not a regular file"), "{}", told());
    fs::remove_file(files.certificate()).unwrap();

    let mut old = CertificateParams::default();
    old.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    old.not_after = rcgen::date_time_ymd(2020, 1, 1);
    fs::write(files.certificate(), old.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(files.key(), key.serialize_pem()).unwrap();
    fs::set_permissions(files.key(), fs::Permissions::from_mode(0o600)).unwrap();
    assert!(told().contains("expired at"), "{}", told());
}
