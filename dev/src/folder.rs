//! Where does the application run when a test changes its files? In a folder of its own, with copies of what it needs.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, process};

use crate::root;

/// A temporary folder; it is removed with the test.
pub struct Folder(PathBuf);

impl Folder {
    pub fn empty() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("folder-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::SeqCst));
        let folder = Self(env::temp_dir().join(name));
        fs::create_dir_all(&folder.0).expect("a folder");
        folder
    }

    /// A folder with copies of the application's templates and static files, and a Rocket.toml without settings.
    pub fn of_the_application() -> Self {
        let folder = Self::empty();
        for part in ["templates", "static"] {
            fs::create_dir(folder.path(part)).expect("a folder");
            for file in fs::read_dir(root().join(part)).expect("the application's folder") {
                let file = file.expect("a file");
                fs::copy(file.path(), folder.path(part).join(file.file_name())).expect("a copy");
            }
        }
        // Without the file, the log would warn that it is missing.
        folder.write("Rocket.toml", "[default]\n");
        folder
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.path(name), bytes).expect("writing a file");
    }

    pub fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.path(name)).expect("reading a file")).into_owned()
    }

    /// The lines of a log that may not be there yet.
    pub fn lines(&self, name: &str) -> Vec<String> {
        let bytes = fs::read(self.path(name)).unwrap_or_default();
        String::from_utf8(bytes).expect("a log is text").lines().map(str::to_owned).collect()
    }

    /// How many lines of a log, which may not be there yet, hold this text.
    pub fn count(&self, name: &str, text: &str) -> usize {
        self.lines(name).iter().filter(|line| line.contains(text)).count()
    }

    /// Replaces a text in a file; fails the test if the file does not hold it.
    #[track_caller]
    pub fn replace(&self, name: &str, from: &str, to: &str) {
        let text = self.read(name);
        assert!(text.contains(from), "{name} has no {from}");
        self.write(name, text.replace(from, to));
    }
}

impl AsRef<Path> for Folder {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
