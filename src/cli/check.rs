//! `lanyard check`: every problem of a configuration at once.

use clap::Args;

use super::{ConfigFile, Failed, say};

/// Validate a configuration.
///
/// Prints every problem with file, line, key, what was found and what to write instead, and exits with 64 if there is
/// one. Warnings (a literal secret, a token in clear text, a secret file that is not there yet) are printed too and do
/// not fail the check. Nothing is connected to: `lanyard doctor` does that.
#[derive(Debug, Args)]
pub(super) struct Check {
    #[command(flatten)]
    file: ConfigFile,
}

impl Check {
    pub(super) fn run(self) -> Result<(), Failed> {
        let loaded = self.file.load()?;
        let config = &loaded.config;
        say(&format!(
            "{}: ok ({} listeners, {} profiles, {} routes, {} warnings)",
            self.file.path().display(),
            config.listeners.len(),
            config.profiles.len(),
            config.routes.len(),
            loaded.warnings.len(),
        ));
        Ok(())
    }
}
