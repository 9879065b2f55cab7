//! d
use super::Failed;
/// d
#[derive(Debug, clap::Args)]
pub(super) struct Demo {}
impl Demo {
    pub(super) fn run(self) -> Result<(), Failed> {
        Ok(())
    }
}
