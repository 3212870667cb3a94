//! Does the Dockerfile build an image that serves? `dev/image` builds it without Docker, step by step.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use dev::{KEY, Lapi, Request, eventually, root};
use serde_json::Value;

use super::set;

struct Image {
    folder: PathBuf,
}

impl Image {
    /// The image of a project as it is when generated, plus files that an owner leaves lying about.
    fn build() -> Self {
        let folder = std::env::temp_dir().join(format!("deploy-image-{}", std::process::id()));
        let project = folder.join("project");
        fs::create_dir_all(&project).expect("a folder for the project");
        let parts =
            ["Cargo.toml", "Cargo.lock", "Rocket.toml", ".dockerignore", "deploy", "src", "static", "templates"];
        for part in parts {
            let copied = Command::new("cp").arg("-r").arg(root().join(part)).arg(&project).status();
            assert!(copied.expect("cp").success(), "{part}");
        }
        // The project has a name of its own, which its lock file does not know yet. So its compiled files replace no
        // others in target/.
        let manifest = fs::read_to_string(project.join("Cargo.toml")).expect("the manifest");
        let renamed = set(manifest, "name = \"rocket-crowdsec\"", "name = \"in-an-image\"");
        fs::write(project.join("Cargo.toml"), renamed).expect("the manifest");
        for secret in [".env", "deploy/.env", "access.log", "decisions.snapshot"] {
            fs::write(project.join(secret), "a secret").expect("writing a secret");
        }
        let image = Self { folder };
        let output = image.command("build").arg(&project).output().expect("running dev/image");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        image
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(root().join("dev/image"));
        command.arg(name).arg(&self.folder).stdin(Stdio::null()).env_remove("IMAGE_RELEASE");
        command
    }

    fn print(&self, name: &str) -> String {
        let output = self.command(name).output().expect("running dev/image");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    fn run(&self, settings: &[String], program: &[&str]) -> Command {
        let mut command = self.command("run");
        command.args(settings).arg("--").args(program);
        command
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // What buildah keeps belongs to root.
        let _ = self.command("remove").status();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn the_image_serves_as_nobody_tells_its_health_and_holds_nothing_but_the_application() {
    let image = Image::build();
    let files = image.print("files");
    let names: Vec<_> = files.lines().filter_map(|line| line.split_once(' ')?.0.strip_prefix("app/")).collect();
    let mut expected = vec!["Rocket.toml".to_string(), "application".to_string()];
    expected.extend(below("static"));
    expected.extend(below("templates"));
    expected.sort();
    assert_eq!(names, expected, "{files}");
    assert!(files.contains("app/application 755 0\n"), "who serves cannot change what is served: {files}");

    let config: Value = serde_json::from_str(&image.print("config")).expect("JSON of buildah");
    let config = &config["Docker"]["config"];
    assert_eq!(config["User"], "10001:10001");
    let cmd: Vec<_> = words(&config["Cmd"]);
    let health: Vec<_> = words(&config["Healthcheck"]["Test"]);
    assert_eq!(health[0], "CMD");

    let lapi = Lapi::start();
    lapi.ban("192.0.2.1");
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let settings = [
        format!("ROCKET_PORT={port}"),
        "ROCKET_PROFILE=release".to_string(),
        "ROCKET_SECRET_KEY=k7yIT0EZQYsJYOvR2VtMZQzZtZ2wQ6zv0M8J2m3uT1Y=".to_string(),
        format!("CROWDSEC_API_KEY={KEY}"),
        format!("CROWDSEC_API_URL={}", lapi.url()),
        "CROWDSEC_UPDATE_FREQUENCY=1s".to_string(),
        "CROWDSEC_TRUSTED_PROXIES=127.0.0.1".to_string(),
        "CROWDSEC_ACCESS_LOG=/var/log/application/access.log".to_string(),
        "CROWDSEC_SNAPSHOT=/var/lib/application/decisions.snapshot".to_string(),
    ];
    let healthy =
        || image.run(&settings, &health[1..]).stderr(Stdio::null()).status().expect("running dev/image").success();
    assert!(!healthy(), "nobody listens yet");
    let container = Container(
        image
            .run(&settings, &cmd)
            .process_group(0)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("running dev/image"),
    );
    eventually("it serves", || TcpStream::connect(address).is_ok());
    assert_eq!(Request::new(address, "GET", "/").from("192.0.2.1").send().status, 403);
    assert_eq!(Request::new(address, "GET", "/").from("198.51.100.1").send().status, 200);
    assert!(healthy());
    lapi.stop();
    eventually("it is stale", || Request::new(address, "GET", "/crowdsec/health").send().text().contains("stale"));
    assert!(healthy(), "LAPI is away, and what is known is still enforced");
    drop(container);
}

/// A running container; it ends with the test.
struct Container(Child);

impl Drop for Container {
    fn drop(&mut self) {
        let _ = Command::new("sh").arg("-c").arg(format!("kill -TERM -{}", self.0.id())).status();
        let _ = self.0.wait();
    }
}

/// The files of one of the project's folders.
fn below(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join(folder)).expect("a folder");
    entries.map(|entry| format!("{folder}/{}", entry.expect("an entry").file_name().to_str().expect("text"))).collect()
}

fn words(list: &Value) -> Vec<&str> {
    list.as_array().expect("a list").iter().map(|word| word.as_str().expect("a word")).collect()
}
