//! What runs beside a test? Processes of the built application and of other programs.

use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::{env, fs};

use crate::{eventually, root, signal};

/// The application with these environment variables, with Rocket's port, log level and colours set for tests, and no others.
pub fn command(environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(binary());
    command.current_dir(root()).env_clear();
    command.env("ROCKET_PORT", "0").env("ROCKET_LOG_LEVEL", "normal").env("ROCKET_CLI_COLORS", "false");
    command.envs(environment.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A process whose output is not read, unless a test takes it; the process ends with the test.
pub struct Process(Child);

impl Process {
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap_or_else(|e| panic!("{} does not start: {e}", command.get_program().display())))
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Gives its standard output, which must be a pipe, to a test that begins to read.
    pub fn output(&mut self) -> ChildStdout {
        self.0.stdout.take().expect("a pipe")
    }

    pub fn kill(&mut self) {
        self.0.kill().and_then(|()| self.0.wait()).expect("its end");
    }

    /// Sends this signal and waits until the process has ended.
    #[track_caller]
    pub fn stop(&mut self, name: &str) -> ExitStatus {
        signal(self.id(), name);
        eventually("it has ended", || self.0.try_wait().expect("its status").is_some());
        self.0.wait().expect("its status")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The binary under test: the file that `APP_BIN` names, else what `cargo build` at the root makes.
pub fn binary() -> PathBuf {
    env::var_os("APP_BIN").map(PathBuf::from).unwrap_or_else(|| root().join("target/debug").join(package()))
}

/// The package's name, which is the binary's name too.
pub fn package() -> String {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the root's manifest");
    let name = manifest.lines().find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
    name.expect("a package's name").to_string()
}
