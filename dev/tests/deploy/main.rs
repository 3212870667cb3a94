//! Do the files in deploy/ do what they say? The tests run the shipped files themselves, and change only the ports and
//! what comments in the files leave to the owner.

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

/// Changes a shipped text as its owner would; fails the test if `from` is not in it.
#[track_caller]
fn set(text: String, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from:?} is not in: {text}");
    text.replace(from, to)
}

fn plain(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}
