//! `lanyard completions`: a completion script for a shell.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, Failed};

/// Print a completion script for a shell.
///
/// For example: lanyard completions bash > /etc/bash_completion.d/lanyard
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self) -> Result<(), Failed> {
        clap_complete::generate(self.shell, &mut Cli::command(), "lanyard", &mut std::io::stdout().lock());
        Ok(())
    }
}
