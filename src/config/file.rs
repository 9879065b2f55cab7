//! The form of the file: one struct a table, every key optional.
