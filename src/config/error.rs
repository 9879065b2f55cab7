//! What is wrong with a configuration, shown for a terminal.
