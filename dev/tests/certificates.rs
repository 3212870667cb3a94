//! What does the operator learn when TLS with LAPI fails? The cause, and the next command. openssl makes the certificates, as
//! people make them; nginx shows them in front of a LAPI.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::{env, fs, process, thread};

use dev::Verdict::{Ban, NotYet, Welcome};
use dev::{App, FakeServer, Lapi, Proxy, Reply, eventually};
use serde_json::json;

/// A folder with certificates, which is removed with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("certificates-{name}-{}", process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("a plain path").to_string()
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        fs::write(self.path(name), bytes).expect("writing a file");
        self.path(name)
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).expect("reading a file")
    }

    /// Runs openssl with these arguments, in this folder.
    #[track_caller]
    fn openssl(&self, line: &str) -> Output {
        self.run("openssl", line)
    }

    #[track_caller]
    fn run(&self, program: &str, line: &str) -> Output {
        let mut command = Command::new(program);
        command.args(line.split_whitespace()).current_dir(&self.0);
        let mut output = command.output().expect("a program");
        // A process that was killed under faketime leaves a semaphore, named by its id, which another process may now have.
        while String::from_utf8_lossy(&output.stderr).contains("sem_open: File exists") {
            output = command.output().expect("a program");
        }
        assert!(output.status.success(), "{program} {line}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    /// A certificate and its key, NAME.pem and NAME.key, as `openssl req -x509` makes them.
    #[track_caller]
    fn self_signed(&self, name: &str, options: &str) {
        self.openssl(&format!("req -x509 -nodes -subj /CN=lapi -keyout {name}.key -out {name}.pem {KEY} {options}"));
    }

    /// A certificate with these extensions, signed by the CA in ca.pem; without extensions it is of X.509 version 1.
    #[track_caller]
    fn signed(&self, name: &str, extensions: &str, program: &str) {
        if !self.0.join("ca.pem").exists() {
            self.self_signed("ca", "-days 3650");
        }
        self.openssl(&format!("req -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr {KEY}"));
        self.write("extensions", extensions);
        let with = if extensions.is_empty() { "" } else { " -extfile extensions" };
        let sign =
            format!("x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -out {name}.pem");
        let line = format!("{program} {sign}{with}");
        let (program, line) = line.split_once(' ').expect("a program and its arguments");
        self.run(program, line);
    }

    /// An nginx that shows this certificate in front of a server.
    #[track_caller]
    fn tls(&self, name: &str, to: SocketAddr, more: &str) -> Tls {
        let (certificate, key) = (self.path(&format!("{name}.pem")), self.path(&format!("{name}.key")));
        // These lines stand in the `http` block, and its one server takes the certificate from there.
        let lines = format!("ssl_certificate {certificate};\nssl_certificate_key {key};\n{more}");
        Tls(Proxy::nginx_with_tls(to, &lines))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1";
const LOCAL: &str = "-addext subjectAltName=IP:127.0.0.1,DNS:localhost";

struct Tls(Proxy);

impl Tls {
    fn url(&self) -> String {
        format!("https://{}", self.0.v4())
    }
}

/// A LAPI that answers every poll with one ban, always on the same address.
fn lapi() -> FakeServer {
    let ban = json!({ "duration": "4h", "id": 1, "origin": "cscli", "scenario": "x", "scope": "Ip", "type": "ban", "value": "192.0.2.1" });
    FakeServer::start(move |_| Reply::decisions(std::slice::from_ref(&ban), &[]))
}

/// Checks that the launch goes on without LAPI, that its one warning says all of `told`, and that `closed` lets nobody in.
#[track_caller]
fn warns(url: &str, settings: &[(&str, &str)], told: &[&str]) {
    let app = App::polling(url, settings);
    let log = app.log();
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains(" has not answered yet: ")).collect();
    assert_eq!(warnings.len(), 1 + 1, "a warning, and the line of the launch: {log}");
    for told in told {
        assert!(warnings[0].contains(told), "{told}: {}", warnings[0]);
    }
    assert!(warnings[0].contains("EVERYBODY IS LET IN"), "{}", warnings[0]);
    assert_eq!(app.verdict("192.0.2.1"), Welcome, "as `open` says");
    let closed = [settings, &[("CROWDSEC_ON_STARTUP_FAILURE", "closed"), ("CROWDSEC_STARTUP_TIMEOUT", "1s")]].concat();
    let app = App::polling(url, &closed);
    assert_eq!(app.verdict("192.0.2.2"), NotYet);
    eventually("it is told", || app.logged("VISITORS GET 503") > 0);
}

/// Checks that the launch ends, and that one line of its log says all of `told`.
#[track_caller]
fn stops(settings: &[(&str, &str)], told: &[&str]) {
    let ended = App::fails_to_start(&App::usual("https://127.0.0.1:9/", settings));
    let line = ended.log.lines().find(|line| line.contains(told[0])).unwrap_or_default();
    for told in told {
        assert!(line.contains(told), "{told}: {}", ended.log);
    }
}

// --- LAPI's certificate ---

#[test]
fn the_certificate_that_openssl_req_x509_makes_is_believed_where_the_operator_names_it() {
    let (folder, lapi) = (Folder::new("self-signed"), lapi());
    folder.self_signed("lapi", LOCAL);
    let tls = folder.tls("lapi", lapi.address(), "");
    let app = App::polling(&tls.url(), &[("CROWDSEC_CA_CERT_PATH", &folder.path("lapi.pem"))]);
    assert_eq!(app.verdict("192.0.2.1"), Ban);
    // TLS 1.2, and a file that holds another certificate too.
    folder.self_signed("other", LOCAL);
    let both = folder.write("both.pem", [folder.read("other.pem"), folder.read("lapi.pem")].concat());
    let tls = folder.tls("lapi", lapi.address(), "ssl_protocols TLSv1.2;");
    let app = App::polling(&tls.url(), &[("CROWDSEC_CA_CERT_PATH", &both)]);
    assert_eq!(app.verdict("192.0.2.1"), Ban);
    // LAPI's certificate is not believed if the operator names another with the same name, or none.
    let other = folder.path("other.pem");
    warns(&tls.url(), &[("CROWDSEC_CA_CERT_PATH", &other)], &["a CA's own", "ca_cert_path to it", "openssl s_client"]);
    warns(&tls.url(), &[], &["a CA's own", "`openssl req -x509`", "ca_cert_path to it"]);
}

#[test]
fn a_real_lapi_with_a_self_signed_certificate_is_reached() {
    let mut lapi = Lapi::start_with_tls();
    lapi.ban("192.0.2.1");
    lapi.stop();
    let ca = lapi.value("LAPI_CA_CERT").to_string();
    let of_lapi = |name: &str| ca.replace("ca.pem", name);
    let folder = Folder::new("real");
    folder.self_signed("lapi", LOCAL);
    for (ours, theirs) in [("lapi.pem", "server.pem"), ("lapi.key", "server.key"), ("lapi.pem", "ca.pem")] {
        fs::copy(folder.path(ours), of_lapi(theirs)).expect("a copy");
    }
    lapi.start_again();
    let app = App::polling(lapi.url(), &[("CROWDSEC_CA_CERT_PATH", &ca)]);
    assert_eq!(app.verdict("192.0.2.1"), Ban);
}

#[test]
fn a_server_certificate_that_the_operator_names_is_believed_without_its_ca() {
    let (folder, lapi) = (Folder::new("leaf"), lapi());
    folder.signed("lapi", "subjectAltName=IP:127.0.0.1", "openssl");
    let tls = folder.tls("lapi", lapi.address(), "");
    for ca in ["lapi.pem", "ca.pem"] {
        let app = App::polling(&tls.url(), &[("CROWDSEC_CA_CERT_PATH", &folder.path(ca))]);
        assert_eq!(app.verdict("192.0.2.1"), Ban, "{ca}");
    }
}

#[test]
fn a_named_certificate_is_believed_for_its_own_names_and_time_alone() {
    let (folder, lapi) = (Folder::new("named"), lapi());
    for (name, extension) in [("wrong", "-addext subjectAltName=DNS:lapi.example,IP:192.0.2.9"), ("none", "")] {
        folder.self_signed(name, extension);
    }
    folder.run(
        "faketime",
        &format!("2020-01-02 openssl req -x509 -nodes -subj /CN=x -keyout old.key -out old.pem {KEY} {LOCAL}"),
    );
    folder.run(
        "faketime",
        &format!("2099-01-02 openssl req -x509 -nodes -subj /CN=x -keyout new.key -out new.pem {KEY} {LOCAL}"),
    );
    for (name, told) in [
        ("wrong", ["is for ", "lapi.example", "not for 127.0.0.1", "subjectAltName=IP:127.0.0.1"]),
        ("none", ["names no host", "CN does not count", "`openssl req -x509", "subjectAltName=IP:127.0.0.1"]),
        ("old", ["ended on 2020-02-01", "today is 20", "renew", "`date -u`"]),
        ("new", ["begins on 2099-01-02", "today is 20", "set the clock", "`date -u`"]),
    ] {
        let tls = folder.tls(name, lapi.address(), "");
        warns(&tls.url(), &[("CROWDSEC_CA_CERT_PATH", &folder.path(&format!("{name}.pem")))], &told);
    }
}

#[test]
fn a_signed_certificate_is_told_for_what_is_wrong_with_it() {
    let (folder, lapi) = (Folder::new("signed"), lapi());
    folder.signed("good", "subjectAltName=IP:127.0.0.1", "openssl");
    folder.signed("version-1", "", "openssl");
    folder.signed("host", "subjectAltName=DNS:localhost", "openssl");
    folder.signed("client", "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=clientAuth", "openssl");
    folder.signed("old", "subjectAltName=IP:127.0.0.1", "faketime 2020-01-02 openssl");
    folder.signed("new", "subjectAltName=IP:127.0.0.1", "faketime 2099-01-02 openssl");
    let ca = folder.path("ca.pem");
    for (name, told) in [
        ("version-1", ["X.509 version 1", "`openssl req -x509", "subjectAltName=IP:127.0.0.1"]),
        ("host", ["is for ", "localhost", "not for 127.0.0.1"]),
        ("client", ["is no good", "s_client -connect 127.0.0.1:", "`openssl req -x509"]),
        ("old", ["ended on 2020-02-01", "renew", "`date -u`"]),
        ("new", ["begins on 2099-01-02", "set the clock", "`date -u`"]),
    ] {
        let tls = folder.tls(name, lapi.address(), "");
        warns(&tls.url(), &[("CROWDSEC_CA_CERT_PATH", &ca)], &told);
    }
    let tls = folder.tls("good", lapi.address(), "");
    warns(&tls.url(), &[], &["is not known", "ca_cert_path", "s_client -connect 127.0.0.1:"]);
    // Another CA with another name, and another CA with the same name.
    folder.openssl(&format!("req -x509 -nodes -subj /CN=other -keyout o.key -out o.pem {KEY}"));
    folder.openssl(&format!("req -x509 -nodes -subj /CN=lapi -keyout s.key -out s.pem {KEY}"));
    warns(
        &tls.url(),
        &[("CROWDSEC_CA_CERT_PATH", &folder.path("o.pem"))],
        &["not that of its certificate", "s_client"],
    );
    warns(&tls.url(), &[("CROWDSEC_CA_CERT_PATH", &folder.path("s.pem"))], &["another CA", "one name", "s_client"]);
}

// --- the handshake ---

#[test]
fn a_server_that_speaks_old_tls_alone_is_told() {
    let (folder, lapi) = (Folder::new("old-tls"), lapi());
    folder.self_signed("lapi", LOCAL);
    let old = folder.tls("lapi", lapi.address(), "ssl_protocols TLSv1.1;\nssl_ciphers DEFAULT@SECLEVEL=0;");
    let ca = ("CROWDSEC_CA_CERT_PATH", folder.path("lapi.pem"));
    warns(&old.url(), &[(ca.0, &ca.1)], &["TLS 1.1 or older", "openssl s_client", "-tls1_2"]);
    let foreign = folder.tls("lapi", lapi.address(), "ssl_protocols TLSv1.2;\nssl_ciphers AES128-SHA;");
    warns(&foreign.url(), &[(ca.0, &ca.1)], &["no way of encrypting in common", "openssl s_client", "ECDHE"]);
}

#[test]
fn an_alert_that_is_not_about_our_certificate_is_not_taken_for_it() {
    for (alert, told) in [
        (80, ["InternalError", "see its log", "openssl s_client"]),
        (90, ["UserCanceled", "see its log", "openssl s_client"]),
        (112, ["knows no host 127.0.0.1", "api_url", "api_url"]),
        (70, ["TLS 1.1 or older", "-tls1_2", "openssl s_client"]),
        (40, ["no way of encrypting in common", "ECDHE", "openssl s_client"]),
        (42, ["LAPI wants a certificate of ours", "cert_path", "key_path"]),
    ] {
        let url = tls_of(vec![21, 3, 3, 0, 2, 2, alert]);
        warns(&url, &[], &told);
    }
}

#[test]
fn a_handshake_that_ends_abruptly_is_told() {
    warns(&tls_of(vec![]), &[], &["cut the TLS handshake off", "LAPI's log", "openssl s_client -connect 127.0.0.1:"]);
    // The server closes in the middle of a record.
    warns(&tls_of(vec![22, 3, 3, 0, 90, 2]), &[], &["cut the TLS handshake off", "openssl s_client"]);
    warns(&tls_of(b"220 mail ESMTP\r\n".to_vec()), &[], &["no TLS is spoken there", "http://"]);
}

/// A server that reads the beginning of a handshake, answers these bytes, and closes the connection.
fn tls_of(bytes: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("the port just bound");
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 2000]);
            let _ = stream.write_all(&bytes);
        }
    });
    format!("https://{address}")
}

#[test]
fn a_lapi_that_refuses_our_certificate_says_so() {
    let lapi = Lapi::start_with_tls();
    lapi.ban("192.0.2.1");
    let folder = Folder::new("client");
    folder.signed("stranger", "extendedKeyUsage=clientAuth", "openssl");
    let certificate = [
        ("CROWDSEC_API_KEY", ""),
        ("CROWDSEC_CA_CERT_PATH", lapi.value("LAPI_CA_CERT")),
        ("CROWDSEC_CERT_PATH", &folder.path("stranger.pem")),
        ("CROWDSEC_KEY_PATH", &folder.path("stranger.key")),
    ];
    warns(lapi.url(), &certificate, &["LAPI refuses our certificate", "openssl x509 -in CERT -noout", "LAPI's log"]);
}

// --- the operator's files ---

#[test]
fn a_file_that_is_no_pem_stops_the_launch_and_is_told_for_what_it_is() {
    let folder = Folder::new("files");
    folder.self_signed("a", LOCAL);
    folder.openssl("x509 -in a.pem -outform der -out der");
    folder.openssl("pkcs12 -export -in a.pem -inkey a.key -passout pass:x -out p12");
    let utf16: Vec<u8> = folder.read("a.pem").iter().flat_map(|byte| [*byte, 0]).collect();
    let cut = folder.read("a.pem");
    for (name, bytes, told) in [
        ("empty", vec![], ["is empty", "copy it again"]),
        ("der.pem", folder.read("der"), ["is DER, not PEM", "openssl x509 -inform der -in "]),
        ("p12.pem", folder.read("p12"), ["is PKCS#12", "openssl pkcs12 -in "]),
        ("utf16.pem", [&[0xff, 0xfe], utf16.as_slice()].concat(), ["is UTF-16", "iconv -f UTF-16"]),
        ("cut.pem", cut[..cut.len() / 2].to_vec(), ["is damaged", "copy it again"]),
        ("key.pem", folder.read("a.key"), ["holds a private key and no certificate", "name the CA's"]),
        ("words.pem", b"see the wiki".to_vec(), ["holds no certificate", "openssl x509 -in "]),
        (
            "broken.pem",
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec(),
            ["cannot be read", "openssl x509 -in "],
        ),
    ] {
        let path = folder.write(name, bytes);
        stops(&[("CROWDSEC_CA_CERT_PATH", &path)], &["ca_cert_path", &path, told[0], told[1]]);
    }
}

/// Before it stands a byte order mark, or what `openssl s_client -showcerts` prints around certificates.
#[test]
fn what_stands_before_a_pem_changes_nothing() {
    let (lapi, folder) = (Lapi::start_with_tls(), Folder::new("before"));
    lapi.ban("192.0.2.1");
    for (number, before) in [&b"\xef\xbb\xbf"[..], b"0 s:CN = lapi\n   i:CN = ca\n"].into_iter().enumerate() {
        let file = |name: &str, value: &str| {
            let file = fs::read(lapi.value(value)).expect("a file of LAPI's");
            folder.write(&format!("{name}-{number}"), [before, file.as_slice()].concat())
        };
        let certificate = [
            ("CROWDSEC_API_KEY", ""),
            ("CROWDSEC_CA_CERT_PATH", &file("ca", "LAPI_CA_CERT")),
            ("CROWDSEC_CERT_PATH", &file("cert", "LAPI_CERT")),
            ("CROWDSEC_KEY_PATH", &file("key", "LAPI_CERT_KEY")),
        ];
        assert_eq!(App::polling(lapi.url(), &certificate).verdict("192.0.2.1"), Ban, "{number}");
    }
}

#[test]
fn a_certificate_and_a_key_that_do_not_fit_stop_the_launch_and_are_told() {
    let folder = Folder::new("pair");
    folder.self_signed("a", LOCAL);
    folder.self_signed("b", LOCAL);
    folder.signed("version-1", "", "openssl");
    folder.openssl("pkey -in a.key -aes256 -passout pass:x -out encrypted.key");
    folder.openssl("ec -in a.key -aes256 -passout pass:x -out older.key");
    folder.openssl("pkey -in a.key -outform der -out der.key");
    folder.openssl("genpkey -algorithm ED448 -out strange.key");
    folder.openssl("req -x509 -new -key strange.key -subj /CN=x -out strange.pem");
    folder.write("empty.key", "");
    for (certificate, key, told) in [
        ("a.pem", "b.key", ["key_path", "is not the key of the certificate", "openssl pkey -in ", "-noout -pubkey"]),
        ("a.pem", "encrypted.key", ["key_path", "encrypted key", "openssl pkey -in ", "chmod 600"]),
        ("a.pem", "older.key", ["key_path", "encrypted key", "openssl pkey -in ", "chmod 600"]),
        ("a.pem", "der.key", ["key_path", "is DER, not PEM", "openssl pkey -inform der", "-out NEW"]),
        ("a.pem", "empty.key", ["key_path", "empty.key", "is empty", "copy it again"]),
        ("a.pem", "a.pem", ["key_path", "a.pem", "holds a certificate and no private key", "swapped"]),
        ("a.key", "a.pem", ["cert_path", "a.key", "holds a private key and no certificate", "swapped"]),
        ("strange.pem", "strange.key", ["key_path", "strange.key", "cannot be used", "ECDSA P-256"]),
        ("version-1.pem", "version-1.key", ["cert_path", "cannot be used", "X.509 version 1", "openssl x509 -in "]),
    ] {
        let settings = [
            ("CROWDSEC_API_KEY", ""),
            ("CROWDSEC_CERT_PATH", &folder.path(certificate)),
            ("CROWDSEC_KEY_PATH", &folder.path(key)),
        ];
        stops(&settings, &told);
    }
}
