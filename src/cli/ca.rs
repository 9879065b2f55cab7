//! `lanyard ca`: the local CA that interception signs with, and how clients come to trust it.

use std::path::Path;

use clap::{Args, Subcommand};
use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::{ConfigFile, Failed, say, say_error};
use crate::{
    ca::{Authority, CaError, Files, bundle},
    config::Config,
    tls,
};

/// Make, show and install the local CA for interception.
///
/// A route with `intercept = true` has lanyard answer `https://` requests in the host's place, with a certificate of a
/// CA that lives on this machine. Clients have to trust that CA. `lanyard run` makes one at its first start if there is
/// none; these commands make it beforehand, show it, and tell how to install it.
#[derive(Debug, Args)]
pub(super) struct Ca {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make a CA that may sign for the intercepted hosts of the configuration, and for no others
    Create {
        #[command(flatten)]
        file: ConfigFile,
        /// Also where there is one: clients then have to trust the new one
        #[arg(long)]
        force: bool,
    },
    /// Show its name, validity, fingerprint and hosts, and whether it is good for the configuration
    Show {
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Print the path of its certificate, and nothing else: "$(lanyard ca path)"
    Path {
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Print the system's roots and its certificate in PEM form, for settings that replace the system's roots
    Bundle {
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Print lines to copy that make clients trust it
    InstallHint {
        #[command(flatten)]
        file: ConfigFile,
    },
}

impl Ca {
    pub(super) fn run(self) -> Result<(), Failed> {
        match self.what {
            What::Create { file, force } => create(&file, force),
            What::Show { file } => show(&file),
            What::Path { file } => {
                let (_, files) = of(&file)?;
                files.read_certificate().map_err(|error| told(&error))?;
                say(&files.certificate().display().to_string());
                Ok(())
            }
            What::Bundle { file } => print_bundle(&file),
            What::InstallHint { file } => {
                let (_, files) = of(&file)?;
                files.read_certificate().map_err(|error| told(&error))?;
                install_hint(&files.certificate(), file.path()).iter().for_each(|line| say(line));
                Ok(())
            }
        }
    }
}

fn create(file: &ConfigFile, force: bool) -> Result<(), Failed> {
    let (config, files) = of(file)?;
    let hosts = config.intercepted();
    if hosts.is_empty() {
        say_error(&format!(
            "{}: no route says `intercept = true`, so there is no host that a CA could sign for\n    \
             hint: say it on the routes that clients call by https:// URLs, then make the CA",
            file.path().display()
        ));
        return Err(Failed::Usage);
    }
    let replaced = files.certificate().exists();
    let authority = files.create(&hosts, force).map_err(|error| told(&error))?;
    say(&format!("certificate:  {} (what clients have to trust)", files.certificate().display()));
    say(&format!("key:          {} (mode 600: never give it away)", files.key().display()));
    say(&format!("may sign for: {}", permitted(&authority)));
    say("");
    if replaced {
        say("Clients have to trust the new one. A lanyard that runs takes it at its next reload (SIGHUP).");
    }
    say(
        "Next: `lanyard ca install-hint` tells how each client comes to trust it; `lanyard exec -- COMMAND` sets it all",
    );
    say("for one command, and needs no installation.");
    Ok(())
}

fn show(file: &ConfigFile) -> Result<(), Failed> {
    let (config, files) = of(file)?;
    let authority = files.load().map_err(|error| told(&error))?;
    let about = authority.about();
    say(&format!("subject:      {}", about.subject));
    say(&format!("valid:        {} to {}", about.from, about.until));
    say(&format!("SHA-256:      {}", about.fingerprint));
    say(&format!("may sign for: {}", permitted(&authority)));
    say(&format!("certificate:  {}", files.certificate().display()));
    say(&format!("key:          {}", files.key().display()));
    let hosts = config.intercepted();
    match authority.covers(&hosts) {
        Ok(()) if hosts.is_empty() => say(&format!("used by:      nothing in {}", file.path().display())),
        Ok(()) => say(&format!("covers:       every intercepted host of {}", file.path().display())),
        Err(error) => return Err(told(&error)),
    }
    Ok(())
}

fn print_bundle(file: &ConfigFile) -> Result<(), Failed> {
    let (_, files) = of(file)?;
    let own = files.read_certificate().map_err(|error| told(&error))?;
    let own: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(own.as_bytes()).collect();
    let own = own.map_err(|error| {
        told(&CaError::Unusable { path: files.certificate(), problem: format!("no good PEM: {error}") })
    })?;
    let system = tls::system_roots_der();
    if system.is_empty() {
        say_error("warning: the system has no trusted root certificates (package ca-certificates)");
    }
    say(bundle::pem(system.iter().chain(&own)).trim_end());
    Ok(())
}

/// Lines for a shell and for people, client by client.
fn install_hint(certificate: &Path, config: &Path) -> Vec<String> {
    let ca = quoted(certificate);
    let both = quoted(&certificate.with_file_name("bundle.pem"));
    let store = quoted(&certificate.with_file_name("truststore.p12"));
    let config = quoted(&std::path::absolute(config).unwrap_or_else(|_| config.to_owned()));
    let text = format!(
        "# One command, nothing installed: all of the below is set for it.
lanyard exec --config {config} -- COMMAND

# Node and Deno: added to the roots that they have.
export NODE_EXTRA_CA_CERTS={ca} DENO_CERT={ca}

# These variables REPLACE the roots that a program has: they need a file with the system's roots and this CA.
# Make it again when either changes.
lanyard ca bundle --config {config} > {both}
export SSL_CERT_FILE={both}        # OpenSSL, Go, Ruby, Python's ssl, httpx
export REQUESTS_CA_BUNDLE={both}   # Python requests
export CURL_CA_BUNDLE={both}       # curl
export AWS_CA_BUNDLE={both}        # AWS command line, boto3
export GIT_SSL_CAINFO={both}       # git
export GRPC_DEFAULT_SSL_ROOTS_FILE_PATH={both}

# Java: a copy of the JDK's truststore with this CA.
keytool -importkeystore -noprompt -srckeystore \"$JAVA_HOME/lib/security/cacerts\" -srcstorepass changeit \\
    -destkeystore {store} -deststoretype PKCS12 -deststorepass changeit
keytool -importcert -noprompt -alias lanyard -file {ca} -keystore {store} -storepass changeit
export JAVA_TOOL_OPTIONS=\"-Djavax.net.ssl.trustStore={store} -Djavax.net.ssl.trustStorePassword=changeit\"

# Everything on this machine. Debian, Ubuntu:
sudo cp {ca} /usr/local/share/ca-certificates/lanyard.crt && sudo update-ca-certificates
# Fedora, RHEL:
sudo cp {ca} /etc/pki/ca-trust/source/anchors/lanyard.crt && sudo update-ca-trust
# macOS:
sudo security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain {ca}
# Windows (a client there, by a copy of the file):
certutil -addstore -f Root ca.crt"
    );
    text.lines().map(str::to_owned).collect()
}

/// The configuration, and where its CA is; warnings are what `lanyard check` is for.
fn of(file: &ConfigFile) -> Result<(Config, Files), Failed> {
    let config = file.load_quietly()?.config;
    if config.ca.ephemeral {
        say_error(&format!(
            "{} says `ephemeral = true` in [ca]: lanyard makes a new CA at each start and keeps it in no file\n    \
             hint: that of a running lanyard: curl http://{}/ca.pem; or leave `ephemeral` out",
            file.path().display(),
            config.admin.address,
        ));
        return Err(Failed::AtRunTime);
    }
    let files = Files::at(config.ca.directory.as_deref()).map_err(|error| told(&error))?;
    Ok((config, files))
}

fn permitted(authority: &Authority) -> String {
    match authority.permitted() {
        Some(hosts) => format!("{}, and names below", hosts.join(", ")),
        None => "any host".to_owned(),
    }
}

fn told(error: &CaError) -> Failed {
    say_error(&format!("{error}\n    hint: {}", error.hint()));
    Failed::AtRunTime
}

/// A path for a shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-+:@%".contains(&b));
    if plain { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn paths_are_quoted_for_a_shell() {
        for (path, shown) in [("/a/b-c.pem", "/a/b-c.pem"), ("/a b", "'/a b'"), ("/it's", "'/it'\\''s'")] {
            assert_eq!(quoted(&PathBuf::from(path)), shown);
        }
    }
}
