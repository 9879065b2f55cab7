//! Which route a target takes.

pub mod path;
pub mod pattern;
