//! Do the files in deploy/ do what they say? They themselves are run, and not copies of them: a test changes only what
//! their own comments call the owner's to change, and the ports.

mod check;
mod image;
mod proxies;
mod service;
mod shipped;

use std::fs;
use std::path::{Path, PathBuf};

use dev::root;

/// A file of deploy/ in the repository.
fn shipped_file(name: &str) -> PathBuf {
    root().join("deploy").join(name)
}

fn shipped_text(name: &str) -> String {
    fs::read_to_string(shipped_file(name)).unwrap_or_else(|e| panic!("deploy/{name}: {e}"))
}

/// Puts the owner's own words into a shipped text, whose words have to be there.
#[track_caller]
fn set(text: String, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from:?} is not in: {text}");
    text.replace(from, to)
}

fn plain(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}
