//! Where a CA is kept: `ca.crt`, which clients have to trust, and `ca.key`, which nobody else may read.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rcgen::KeyPair;
use rustix::fs::{FlockOperation, flock};

use super::{Authority, CaError};
use crate::{config::MAX_FILE_SIZE, route::pattern::HostPattern, secret::Secret};

/// The two files of a CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    directory: PathBuf,
}

impl Files {
    /// In this directory; `None`: in the user's own, by the environment (XDG Base Directory Specification).
    ///
    /// # Errors
    /// [`CaError::NoPlace`].
    pub fn at(directory: Option<&Path>) -> Result<Self, CaError> {
        let directory = match directory {
            Some(directory) => directory.to_owned(),
            None => default_directory().ok_or(CaError::NoPlace)?,
        };
        Ok(Self { directory })
    }

    /// The certificate, for clients to trust.
    pub fn certificate(&self) -> PathBuf {
        self.directory.join("ca.crt")
    }

    /// The key.
    pub fn key(&self) -> PathBuf {
        self.directory.join("ca.key")
    }

    /// Whether there is none yet.
    pub fn are_absent(&self) -> bool {
        // A link that leads nowhere is something, and not ours to write through.
        let absent = |path: PathBuf| fs::symlink_metadata(path).is_err();
        absent(self.key()) && absent(self.certificate())
    }

    /// Reads the CA.
    ///
    /// # Errors
    /// It is not there, others can read its key, or a file does not hold what it should.
    pub fn load(&self) -> Result<Authority, CaError> {
        let (certificate, key) = (self.certificate(), self.key());
        if self.are_absent() {
            return Err(CaError::Absent(certificate));
        }
        let private = self.read_key()?;
        let pem = read(&certificate)?;
        let unusable = |path: &Path, problem: String| CaError::Unusable { path: path.to_owned(), problem };
        let pair = KeyPair::from_pem(private.expose())
            .map_err(|error| unusable(&key, format!("no private key in PEM form (PKCS#8): {error}")))?;
        Authority::parse(&pem, pair).map_err(|problem| unusable(&certificate, problem))
    }

    /// Reads the certificate alone, for whoever has no business with the key.
    ///
    /// # Errors
    /// It is not there, or cannot be read.
    pub fn read_certificate(&self) -> Result<String, CaError> {
        let path = self.certificate();
        match read(&path) {
            Err(CaError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => Err(CaError::Absent(path)),
            read => read,
        }
    }

    fn read_key(&self) -> Result<Secret, CaError> {
        let path = self.key();
        let metadata = fs::metadata(&path).map_err(at(&path))?;
        let mode = metadata.permissions().mode() & 0o777;
        let (owner, ours) = (metadata.uid(), metadata.uid() == rustix::process::geteuid().as_raw());
        if !ours && owner != 0 {
            return Err(CaError::Unusable { path, problem: format!("it belongs to another user (uid {owner})") });
        }
        // A mounted secret belongs to root, and its group is how this process may read it.
        let forbidden = if ours { 0o077 } else { 0o027 };
        if mode & forbidden != 0 {
            return Err(CaError::Exposed { path, mode });
        }
        let folder = fs::metadata(&self.directory).map_err(at(&self.directory))?.permissions().mode();
        if folder & 0o002 != 0 && folder & 0o1000 == 0 {
            tracing::warn!(directory = %self.directory.display(), "others can replace the CA: chmod o-w its directory");
        }
        read(&path).map(Secret::new)
    }

    /// Reads the CA, or makes one for these hosts where there is none. Of several processes that do so at once one makes
    /// it, and the others read it.
    ///
    /// # Errors
    /// As [`load`](Self::load) and [`create`](Self::create).
    pub fn load_or_create(&self, hosts: &[HostPattern]) -> Result<Authority, CaError> {
        match self.load() {
            Err(CaError::Absent(_)) => match self.create(hosts, false) {
                Err(CaError::Exists(_)) => self.load(),
                created => created,
            },
            Err(CaError::File { .. }) if self.certificate().exists() && !self.key().exists() => {
                // Another process may be just between the two.
                drop(self.lock()?);
                self.load()
            }
            loaded => loaded,
        }
    }

    /// Waits until no other process writes here, and keeps them from it for as long as the lock lives.
    fn lock(&self) -> Result<fs::File, CaError> {
        let directory = fs::File::open(&self.directory).map_err(at(&self.directory))?;
        // Some file systems know no locks: there a race ends in an error, and the next start reads what is there.
        if let Err(error) = flock(&directory, FlockOperation::LockExclusive) {
            tracing::debug!(directory = %self.directory.display(), %error, "not locked");
        }
        Ok(directory)
    }

    /// Makes a CA for these hosts and writes both files; `replace`: also where there is one.
    ///
    /// # Errors
    /// There is one and it is not to be replaced; a file cannot be written.
    pub fn create(&self, hosts: &[HostPattern], replace: bool) -> Result<Authority, CaError> {
        // Whoever can write there can put a CA of his own in its place, whatever the umask says.
        fs::DirBuilder::new().recursive(true).mode(0o755).create(&self.directory).map_err(at(&self.directory))?;
        let _lock = self.lock()?;
        let (authority, private) = Authority::new(hosts)?;
        // The certificate first: without its key it is no danger.
        self.put(&self.certificate(), authority.pem(), 0o644, replace)?;
        self.put(&self.key(), private.expose(), 0o600, replace)?;
        Ok(authority)
    }

    /// Writes a file whole, or not at all.
    fn put(&self, path: &Path, content: &str, mode: u32, replace: bool) -> Result<(), CaError> {
        use io::Write;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = self.directory.join(format!(".{name}.{}", crate::telemetry::new_id()));
        let written = (|| {
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
            file.write_all(content.as_bytes())?;
            file.sync_all()?;
            if replace { fs::rename(&temporary, path) } else { fs::hard_link(&temporary, path) }
        })();
        if temporary.exists()
            && let Err(error) = fs::remove_file(&temporary)
        {
            tracing::warn!(file = %temporary.display(), %error, "a temporary file is left over");
        }
        match written {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(CaError::Exists(path.to_owned())),
            written => written.map_err(at(path)),
        }
    }
}

/// A file of a size that a CA has. What is no file, a pipe for one, could be waited for in vain.
fn read(path: &Path) -> Result<String, CaError> {
    let metadata = fs::metadata(path).map_err(at(path))?;
    if !metadata.is_file() || metadata.len() > MAX_FILE_SIZE {
        let problem = format!("not a regular file of at most {MAX_FILE_SIZE} bytes");
        return Err(CaError::Unusable { path: path.to_owned(), problem });
    }
    fs::read_to_string(path).map_err(at(path))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> CaError {
    let path = path.to_owned();
    move |source| CaError::File { path, source }
}

/// `$XDG_DATA_HOME/lanyard`, or `~/.local/share/lanyard`.
fn default_directory() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    set("XDG_DATA_HOME").or_else(|| set("HOME").map(|home| home.join(".local/share"))).map(|data| data.join("lanyard"))
}
