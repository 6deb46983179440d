//! The `draftpick` command line.

fn main() {}
