//! The embedded authorization server, for demo, development and tests.
