//! Does the application reach AppSec over HTTPS, and only the right AppSec? openssl makes the certificates; nginx shows them.

use std::path::Path;
use std::process::Command;

use dev::{App, FakeServer, Folder, Proxy, Reply, closed_port, eventually};
use serde_json::json;

/// An AppSec that bans `/attack`.
fn appsec() -> FakeServer {
    FakeServer::start(|seen| match seen.header("X-Crowdsec-Appsec-Uri") {
        Some("/attack") => Reply::json(&json!({ "action": "ban", "http_status": 403 })),
        _ => Reply::json(&json!({ "action": "allow", "http_status": 200 })),
    })
}

/// Makes NAME.pem and NAME.key: a certificate that is its own CA, or one that the certificate named `ca` signs.
#[track_caller]
fn certificate(folder: &Folder, name: &str, host: &str, ca: Option<&str>) {
    let mut openssl = Command::new("openssl");
    openssl.args("req -x509 -nodes -days 30 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1".split(' '));
    openssl.args(["-subj", &format!("/CN={name}"), "-addext", &format!("subjectAltName={host}")]);
    openssl.args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.pem")]);
    if let Some(ca) = ca {
        openssl.args(["-CA", &format!("{ca}.pem"), "-CAkey", &format!("{ca}.key")]);
        openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    }
    let output = openssl.current_dir(folder.path("")).output().expect("openssl");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// An application that asks AppSec over HTTPS, through an nginx that shows this certificate.
fn asking(folder: &Folder, shown: &str, ca: Option<&str>, appsec: &FakeServer, action: &str) -> (App, Proxy) {
    let of = |name: &str, kind: &str| text(&folder.path(&format!("{name}.{kind}")));
    let lines = format!("ssl_certificate {};\nssl_certificate_key {};", of(shown, "pem"), of(shown, "key"));
    let tls = Proxy::nginx_with_tls(appsec.address(), &lines);
    let url = format!("https://{}/", tls.v4());
    let ca = ca.map(|ca| of(ca, "pem"));
    let mut settings = vec![
        ("CROWDSEC_APPSEC_URL", url.as_str()),
        ("CROWDSEC_APPSEC_TIMEOUT", "5s"),
        ("CROWDSEC_APPSEC_FAILURE_ACTION", action),
    ];
    settings.extend(ca.as_deref().map(|ca| ("CROWDSEC_CA_CERT_PATH", ca)));
    // Nobody listens at LAPI's address: these tests are not about LAPI.
    (App::polling(&format!("https://{}/", closed_port()), &settings), tls)
}

fn text(path: &Path) -> String {
    path.to_str().expect("a plain path").to_string()
}

fn status(app: &App, path: &str) -> u16 {
    app.get(path).from("192.0.2.1").send().status
}

#[test]
fn an_appsec_whose_own_ca_is_named_is_asked_over_https() {
    let (folder, appsec) = (Folder::empty(), appsec());
    certificate(&folder, "ca", "DNS:ca.example", None);
    certificate(&folder, "right", "IP:127.0.0.1", Some("ca"));
    certificate(&folder, "own", "IP:127.0.0.1", None);
    for (shown, ca) in [("right", "ca"), ("own", "own")] {
        let (app, _tls) = asking(&folder, shown, Some(ca), &appsec, "ban");
        let before = appsec.seen().len();
        assert_eq!((status(&app, "/"), status(&app, "/attack")), (200, 403), "{shown}");
        assert_eq!(appsec.seen().len(), before + 2, "{shown}");
        assert_eq!(app.logged("does not answer"), 0, "{shown}");
        app.tells("ban by appsec", 1);
    }
}

#[test]
fn an_appsec_with_a_wrong_certificate_is_never_asked_and_told_as_an_outage() {
    let (folder, appsec) = (Folder::empty(), appsec());
    for name in ["ca", "other"] {
        certificate(&folder, name, &format!("DNS:{name}.example"), None);
    }
    certificate(&folder, "name", "DNS:appsec.example", Some("ca"));
    certificate(&folder, "issuer", "IP:127.0.0.1", Some("other"));
    for (shown, ca, told) in [
        ("name", Some("ca"), "not valid for name"),
        ("issuer", Some("ca"), "UnknownIssuer"),
        ("issuer", None, "UnknownIssuer"),
    ] {
        for (action, expected) in [("passthrough", 200), ("ban", 403)] {
            let (app, _tls) = asking(&folder, shown, ca, &appsec, action);
            assert_eq!(status(&app, "/"), expected, "{shown} {action}");
            eventually("the outage is told", || app.logged("AppSec at https://127.0.0.1:") == 2);
            let log = app.log();
            let line = log.lines().find(|line| line.contains("does not answer")).expect("a line about the outage");
            for told in [told, "`ca_cert_path`", "`appsec.url`", "`appsec.failure_action`"] {
                assert!(line.contains(told), "{shown} {action}: {told}: {line}");
            }
        }
    }
    assert_eq!(appsec.seen().len(), 0, "neither the key nor a request goes to anybody else");
}
