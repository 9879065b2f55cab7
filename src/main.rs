//! The command line of lanyard.
fn main() {}
