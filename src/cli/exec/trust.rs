//! The files that make a command trust the CA: in a folder of their own, gone with the value.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use rustls::pki_types::{CertificateDer, pem::PemObject};

use crate::{
    ca::{Authority, bundle},
    telemetry, tls,
};

/// What is to be said to a command's environment about the CA.
#[derive(Debug)]
pub(super) struct Trust {
    /// The variables, and the file that each is to name.
    pub(super) variables: BTreeMap<&'static str, PathBuf>,
    /// The same certificates for Java.
    pub(super) truststore: PathBuf,
    _folder: Folder,
}

impl Trust {
    /// Writes the files. A variable that is set keeps what it stands for: its file's certificates and the CA's.
    ///
    /// # Errors
    /// The folder or a file cannot be written.
    pub(super) fn new(authority: &Authority, variable: &dyn Fn(&str) -> Option<OsString>) -> io::Result<Self> {
        let folder = Folder::new()?;
        let ours = authority.certificates();
        // By SSL_CERT_FILE and SSL_CERT_DIR, where they are set.
        let system = tls::system_roots_der();
        let bundle = folder.write("bundle.pem", bundle::pem(system.iter().chain(ours)))?;
        let ca = folder.write("ca.pem", bundle::pem(ours))?;
        let truststore = folder.write("truststore.p12", bundle::truststore(system.iter().chain(ours)))?;
        let mut variables = BTreeMap::new();
        for (names, usual) in [(&REPLACING[..], &bundle), (&ADDING[..], &ca)] {
            for name in names {
                let theirs = variable(name).filter(|value| *name != SYSTEM && !value.is_empty()).map(PathBuf::from);
                let theirs = theirs.and_then(|path| match certificates_at(&path) {
                    Ok(theirs) => Some(theirs),
                    Err(error) => {
                        tracing::warn!(variable = name, file = %path.display(), %error, "no certificates there");
                        None
                    }
                });
                let file = match theirs {
                    Some(theirs) => folder.write(&format!("{name}.pem"), bundle::pem(theirs.iter().chain(ours)))?,
                    None => usual.clone(),
                };
                variables.insert(*name, file);
            }
        }
        Ok(Self { variables, truststore, _folder: folder })
    }
}

/// The certificates of a PEM file, or of every file of a folder (which requests and OpenSSL take too).
fn certificates_at(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let mut files = vec![path.to_owned()];
    if path.is_dir() {
        let entries = fs::read_dir(path).map_err(|error| error.to_string())?;
        files = entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| path.is_file()).collect();
        files.sort();
    }
    let mut certificates = Vec::new();
    for file in files {
        let pem = fs::read(&file).map_err(|error| error.to_string())?;
        for der in CertificateDer::pem_slice_iter(&pem) {
            let der = der.map_err(|error| format!("no good PEM: {error}"))?;
            if !certificates.contains(&der) {
                certificates.push(der);
            }
        }
    }
    if certificates.is_empty() { Err("it holds no certificate".to_owned()) } else { Ok(certificates) }
}

/// A folder that nobody else can look into, removed with the value.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn new() -> io::Result<Self> {
        let path = env::temp_dir().join(format!("lanyard-exec-{}", telemetry::new_id()));
        // Fails if somebody else was there before.
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> io::Result<PathBuf> {
        let path = self.0.join(name);
        fs::write(&path, content)?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(folder = %self.0.display(), %error, "a temporary folder is left over");
        }
    }
}

/// rustls' own, and so where the system's roots come from.
const SYSTEM: &str = "SSL_CERT_FILE";
/// What these name takes the place of a program's roots.
const REPLACING: [&str; 11] = [
    SYSTEM,
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "AWS_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
    "PIP_CERT",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "NIX_SSL_CERT_FILE",
    "HTTPLIB2_CA_CERTS",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
];
/// What these name is added to them.
const ADDING: [&str; 2] = ["NODE_EXTRA_CA_CERTS", "DENO_CERT"];

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_variable_that_is_set_keeps_what_it_stands_for() {
        let (ours, _) = Authority::new(&[]).unwrap();
        let (theirs, _) = Authority::new(&[]).unwrap();
        let other = Folder::new().unwrap();
        let file = other.write("theirs.pem", theirs.pem()).unwrap();
        other.write("certs", "").unwrap();
        let environment = |name: &str| match name {
            "REQUESTS_CA_BUNDLE" | "NODE_EXTRA_CA_CERTS" => Some(file.clone().into()),
            "PIP_CERT" => Some(other.0.clone().into()),
            "CURL_CA_BUNDLE" => Some("/does/not/exist.pem".into()),
            "AWS_CA_BUNDLE" => Some("".into()),
            _ => None,
        };
        let trust = Trust::new(&ours, &environment).unwrap();
        let folder = trust.truststore.parent().unwrap().to_owned();
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        let held = |name: &str| certificates_at(trust.variables.get(name).unwrap()).unwrap();
        let (own, their) = (ours.certificates().to_vec(), theirs.certificates().to_vec());
        for name in ["REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "PIP_CERT"] {
            assert_eq!(held(name), [their.clone(), own.clone()].concat(), "{name}");
        }
        assert_eq!(held("DENO_CERT"), own);
        for name in ["SSL_CERT_FILE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE", "GIT_SSL_CAINFO"] {
            let system = tls::system_roots_der().iter().all(|root| held(name).contains(root));
            assert!(system && held(name).contains(own.first().unwrap()), "{name}");
        }
        drop(trust);
        assert!(!folder.exists());
    }
}
