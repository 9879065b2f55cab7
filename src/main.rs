//! The command line of lanyard: arguments in, exit code out.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match lanyard::cli::Cli::try_parse() {
        Ok(cli) => cli.run(),
        Err(usage) => {
            // Help and version are no errors; anything else is bad usage.
            let code = if usage.use_stderr() { lanyard::cli::EXIT_USAGE } else { 0 };
            if usage.print().is_err() {
                return ExitCode::FAILURE;
            }
            ExitCode::from(code)
        }
    }
}
