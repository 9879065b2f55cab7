//! d
use super::Failed;
/// d
#[derive(Debug, clap::Args)]
pub(super) struct Issuer {}
impl Issuer {
    pub(super) fn run(self) -> Result<(), Failed> {
        Ok(())
    }
}
