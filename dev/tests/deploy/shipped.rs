//! What do the tests run? The proxies of deploy/, with the test's own certificate and port, and a visitor with curl.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use dev::{App, Lapi, Proxy, server_command};

use super::{plain, set, shipped_text};

pub const BANNED: &str = "127.66.0.1";
pub const INNOCENT: &str = "127.66.0.2";

#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Nginx,
    HaProxy,
    Caddy,
}

pub const ALL: [Kind; 3] = [Kind::Nginx, Kind::HaProxy, Kind::Caddy];

/// This proxy as it is shipped, in front of these instances of an application.
#[track_caller]
pub fn proxy(kind: Kind, to: &[SocketAddr]) -> Proxy {
    changed(kind, to, |text| text)
}

/// This proxy after its owner has made this change.
#[track_caller]
pub fn changed(kind: Kind, to: &[SocketAddr], change: impl Fn(String) -> String) -> Proxy {
    match kind {
        Kind::Nginx => nginx(to, change),
        Kind::HaProxy => haproxy(to, change),
        Kind::Caddy => caddy(to, change),
    }
}

/// Repeats the line that names an instance, once for each of these.
fn instances(text: String, to: &[SocketAddr]) -> String {
    let line = text.lines().find(|line| line.contains("127.0.0.1:8000")).expect("a line for an instance").to_string();
    let of = |(n, address): (usize, &SocketAddr)| {
        line.replace("127.0.0.1:8000", &address.to_string()).replace("server one ", &format!("server s{n} "))
    };
    let lines: Vec<_> = to.iter().enumerate().map(of).collect();
    set(text, &line, &lines.join("\n"))
}

fn nginx(to: &[SocketAddr], change: impl Fn(String) -> String) -> Proxy {
    let configuration = |directory: &Path, port: u16| {
        let mut text = instances(change(shipped_text("nginx.conf")), to);
        text = set(text, "listen 80;", &format!("listen unix:{}/http;", plain(directory)));
        text = set(text, "listen [::]:80;", "");
        text = set(text, "listen 443 ", &format!("listen 127.0.0.1:{port} "));
        text = set(text, "listen [::]:443 ", &format!("listen [::1]:{port} "));
        text = set(text, "/etc/letsencrypt/live/example.org/fullchain.pem", plain(&certificate()));
        text = set(text, "/etc/letsencrypt/live/example.org/privkey.pem", plain(&certificate()));
        let folders: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {}/{kind};\n", plain(directory)))
            .concat();
        format!(
            "daemon off; master_process off; worker_processes 1; pid {}/pid; error_log stderr warn;\n\
             events {{}}\nhttp {{\naccess_log off;\n{folders}{text}\n}}\n",
            plain(directory)
        )
    };
    Proxy::start(configuration, |directory, file| {
        let mut command = server_command("nginx");
        command.arg("-p").arg(directory).arg("-e").arg("stderr").arg("-c").arg(file);
        command
    })
}

fn haproxy(to: &[SocketAddr], change: impl Fn(String) -> String) -> Proxy {
    let configuration = |directory: &Path, port: u16| {
        let mut text = instances(change(shipped_text("haproxy.cfg")), to);
        text = set(text, "bind :80\n", &format!("bind unix@{}/http\n", plain(directory)));
        text = set(text, "bind [::]:80 v6only\n", "");
        text = set(text, "bind :443 ", &format!("bind 127.0.0.1:{port} "));
        text = set(text, "bind [::]:443 v6only ", &format!("bind [::1]:{port} "));
        set(text, "/etc/haproxy/example.org.pem", plain(&certificate()))
    };
    Proxy::start(configuration, |_, file| {
        let mut command = server_command("haproxy");
        command.arg("-db").arg("-q").arg("-f").arg(file);
        command
    })
}

fn caddy(to: &[SocketAddr], change: impl Fn(String) -> String) -> Proxy {
    let configuration = |_: &Path, port: u16| {
        let servers: Vec<_> = to.iter().map(SocketAddr::to_string).collect();
        let mut text = set(change(shipped_text("Caddyfile")), "127.0.0.1:8000", &servers.join(" "));
        // Nobody gives a test a certificate, and port 80 is not the test's to take.
        text = set(text, "\tservers {\n", "\tadmin off\n\tauto_https disable_redirects\n\tservers {\n");
        let (pem, any) = (certificate(), format!("https://127.0.0.1:{port}, https://[::1]:{port} {{"));
        set(text, "example.org {", &format!("{any}\n\ttls {} {}\n", plain(&pem), plain(&pem)))
    };
    Proxy::start(configuration, |directory, file| {
        let mut command = server_command("caddy");
        command.args(["run", "--adapter", "caddyfile", "--config"]).arg(file).env("HOME", directory);
        command
    })
}

/// A certificate for 127.0.0.1, signed by itself, with its key in the same file.
pub fn certificate() -> PathBuf {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| {
        let file = std::env::temp_dir().join(format!("deploy-certificate-{}.pem", std::process::id()));
        let key = file.with_extension("key");
        let mut command = Command::new("openssl");
        command.args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2".split(' '));
        command.args(["-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1,IP:::1"]);
        let output = command.arg("-keyout").arg(&key).arg("-out").arg(&file).output().expect("running openssl");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let both = fs::read_to_string(&file).expect("the certificate") + &fs::read_to_string(&key).expect("the key");
        fs::write(&file, both).expect("writing the certificate");
        fs::remove_file(key).expect("removing the key");
        file
    })
    .clone()
}

/// An application in the release profile that trusts a proxy on this machine; `settings` override that.
pub fn app(lapi_url: &str, settings: &[(&str, &str)]) -> App {
    let usual = [
        ("ROCKET_PROFILE", "release"),
        ("ROCKET_SECRET_KEY", "k7yIT0EZQYsJYOvR2VtMZQzZtZ2wQ6zv0M8J2m3uT1Y="),
        ("CROWDSEC_TRUSTED_PROXIES", "127.0.0.1,::1"),
    ];
    App::polling(lapi_url, &[usual.as_slice(), settings].concat())
}

/// A LAPI that bans one visitor, and an application that has heard of it.
pub fn protected() -> (Lapi, App) {
    let lapi = Lapi::start();
    lapi.ban(BANNED);
    let app = app(lapi.url(), &[]);
    app.eventually(BANNED, dev::Verdict::Ban);
    (lapi, app)
}

/// A visitor, with curl, from this address.
pub struct Visitor(pub &'static str);

impl Visitor {
    /// The status that a request gets; 0 where there is no answer.
    #[track_caller]
    pub fn asks(&self, proxy: &Proxy, target: &str, arguments: &[&[u8]]) -> u16 {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;
        let mut command = Command::new("curl");
        command.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "20", "--interface", self.0]);
        command.arg("--cacert").arg(certificate());
        command.args(arguments.iter().map(|argument| OsStr::from_bytes(argument)));
        let output = command.arg(format!("https://{}{target}", proxy.v4())).output().expect("running curl");
        String::from_utf8_lossy(&output.stdout).parse().expect("a status")
    }
}
