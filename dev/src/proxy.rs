//! What stands in front of the application? Debian's nginx and HAProxy, each with a configuration of the test's own.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

use crate::PATIENCE;

/// A running proxy, which listens on the same port of 127.0.0.1 and [::1]; it ends with the test.
pub struct Proxy {
    process: Child,
    port: u16,
    directory: PathBuf,
}

impl Proxy {
    /// An nginx that hands every request on to this server. `global` stands in its `http` block, `local` beside the
    /// `proxy_pass`.
    #[track_caller]
    pub fn nginx(to: SocketAddr, global: &str, local: &str) -> Self {
        Self::nginx_to("", &to.to_string(), global, local)
    }

    /// An nginx that speaks TLS in front of this server. `global`, in its `http` block, names its certificate.
    #[track_caller]
    pub fn nginx_with_tls(to: SocketAddr, global: &str) -> Self {
        Self::nginx_to(" ssl", &to.to_string(), global, "")
    }

    /// An nginx that hands requests on to these servers by turns; `options` stand behind each server.
    #[track_caller]
    pub fn nginx_among(to: &[SocketAddr], options: &str, global: &str, local: &str) -> Self {
        let servers: String = to.iter().map(|address| format!("server {address} {options};\n")).collect();
        Self::nginx_to("", "all", &format!("upstream all {{\n{servers}}}\n{global}"), local)
    }

    #[track_caller]
    fn nginx_to(tls: &str, to: &str, global: &str, local: &str) -> Self {
        let configuration = |directory: &Path, port: u16| {
            // Debian's own folders for temporary files belong to root.
            let folders: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                .map(|kind| format!("{kind}_temp_path {};\n", directory.join(kind).display()))
                .concat();
            format!(
                "daemon off; master_process off; worker_processes 1; pid {}/pid; error_log stderr warn;\n\
                 events {{}}\n\
                 http {{\naccess_log off;\n{folders}{global}\n\
                 server {{\nlisten 127.0.0.1:{port}{tls}; listen [::1]:{port}{tls};\n\
                 location / {{\nproxy_pass http://{to};\n{local}\n}}\n}}\n}}\n",
                directory.display()
            )
        };
        Self::start(configuration, |directory, file| {
            let mut command = server_command("nginx");
            command.arg("-p").arg(directory).arg("-e").arg("stderr").arg("-c").arg(file);
            command
        })
    }

    /// A HAProxy that hands requests on to these servers by turns. `lines` stand in its one `listen` section, `options`
    /// behind each server.
    #[track_caller]
    pub fn haproxy(to: &[SocketAddr], lines: &str, options: &str) -> Self {
        let servers: String =
            to.iter().enumerate().map(|(n, address)| format!("server s{n} {address} {options}\n")).collect();
        let configuration = |_: &Path, port: u16| {
            format!(
                "defaults\nmode http\ntimeout connect 5s\ntimeout client 60s\ntimeout server 60s\n\
                 listen all\nbind 127.0.0.1:{port}\nbind [::1]:{port}\nbalance roundrobin\n{lines}\n{servers}"
            )
        };
        Self::start(configuration, |_, file| {
            let mut command = server_command("haproxy");
            command.arg("-db").arg("-q").arg("-f").arg(file);
            command
        })
    }

    /// A proxy in a folder of its own. `configuration` gets the folder and the port; `command` gets the folder and the
    /// configuration's file, and runs the proxy.
    #[track_caller]
    pub fn start(configuration: impl Fn(&Path, u16) -> String, command: impl Fn(&Path, &Path) -> Command) -> Self {
        // Below the ports of outgoing connections, and above those of dev/lapi. A proxy cannot look for a free port itself,
        // so another process may take this port first: then the loop tries the next port.
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let mut last_words = String::new();
        for _ in 0..20 {
            let port = 30_000 + (process::id() as u16 % 27 * 100 + NEXT.fetch_add(1, Ordering::SeqCst)) % 2700;
            if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err() {
                continue;
            }
            let directory = env::temp_dir().join(format!("proxy-{}-{port}", process::id()));
            fs::create_dir_all(&directory).expect("a folder for the proxy");
            let (file, log) = (directory.join("configuration"), directory.join("log"));
            fs::write(&file, configuration(&directory, port)).expect("writing the proxy's configuration");
            let mut command = command(&directory, &file);
            command.stdin(Stdio::null()).stdout(Stdio::null());
            command.stderr(fs::File::create(&log).expect("the proxy's log"));
            let process = command.spawn().unwrap_or_else(|e| panic!("{command:?} (dev/setup comes first): {e}"));
            let mut proxy = Self { process, port, directory };
            if proxy.is_up() {
                return proxy;
            }
            last_words = fs::read_to_string(log).unwrap_or_default();
        }
        panic!("the proxy does not start:\n{last_words}");
    }

    /// Waits until the proxy listens (true) or has ended (false).
    fn is_up(&mut self) -> bool {
        let end = Instant::now() + PATIENCE;
        loop {
            if self.process.try_wait().expect("its status").is_some() || Instant::now() > end {
                return false;
            }
            if TcpStream::connect(self.v4()).is_ok() && TcpStream::connect(self.v6()).is_ok() {
                return true;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// The folder in which its configuration lies.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn v4(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    pub fn v6(&self) -> SocketAddr {
        (Ipv6Addr::LOCALHOST, self.port).into()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Finds a server in /usr/sbin too: Debian keeps servers there, and not everybody's PATH has that folder.
pub fn server_command(name: &str) -> Command {
    let mut command = Command::new(name);
    command.env("PATH", format!("{}:/usr/sbin", env::var("PATH").unwrap_or_default()));
    command
}
