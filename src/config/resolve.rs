//! From the form of the file to [`Config`](super::Config), collecting every problem.
