//! Does Prometheus understand what the application tells, and do the alerts and the dashboard of deploy/ ask for what is there?
//! Shown with a real Prometheus and a real CrowdSec.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use dev::Verdict::{Ban, Welcome};
use dev::{App, Folder, Lapi, Process, closed_port, eventually, root};
use serde_json::Value;

const PATH: &str = "/crowdsec/metrics";

/// A program of Debian's package, which dev/setup unpacks.
fn program(name: &str) -> PathBuf {
    let path = root().join("target/prometheus/package/usr/bin").join(name);
    assert!(path.exists(), "{} is missing: run dev/setup", path.display());
    path
}

fn promtool(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(program("promtool"));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().expect("promtool");
    process.stdin.take().expect("its input").write_all(input.as_bytes()).expect("its input");
    process.wait_with_output().expect("promtool's end")
}

#[track_caller]
fn is_content(arguments: &[&str], input: &str) {
    let output = promtool(arguments, input);
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "promtool {arguments:?}: {}", String::from_utf8_lossy(&said));
}

/// In the debug profile, whoever connects from this machine without a proxy's header is the developer.
fn app(lapi: &Lapi) -> App {
    App::polling(lapi.url(), &[("CROWDSEC_METRICS_FROM", "127.0.0.1")])
}

/// The names of our metrics in a text.
fn names(text: &str) -> BTreeSet<String> {
    let parts = text.split("crowdsec_rocket_").skip(1);
    let is_letter = |c: char| c.is_ascii_lowercase() || c == '_';
    parts.map(|part| part.chars().take_while(|c| is_letter(*c)).collect()).collect()
}

fn dashboard() -> Value {
    let text = fs::read_to_string(root().join("deploy/grafana/dashboard.json")).expect("the dashboard");
    serde_json::from_str(&text).expect("JSON")
}

/// What the dashboard and the alerts ask Prometheus for.
fn questions() -> Vec<String> {
    let dashboard = dashboard();
    let targets = dashboard["panels"].as_array().expect("panels").iter().flat_map(|panel| panel["targets"].as_array());
    let of_panels = targets.flatten().map(|target| target["expr"].as_str().expect("a question").to_owned());
    let filled = of_panels.map(|expr| expr.replace("$__rate_interval", "1m").replace("$instance", ".*"));
    let alerts = fs::read_to_string(root().join("deploy/prometheus/alerts.yaml")).expect("the alerts");
    let of_alerts = alerts.lines().filter_map(|line| line.trim().strip_prefix("expr: ")).filter(|expr| *expr != "|");
    filled.chain(of_alerts.map(str::to_owned)).collect()
}

#[test]
fn promtool_finds_nothing_wrong_with_what_is_told() {
    let lapi = Lapi::start();
    lapi.ban("192.0.2.1");
    lapi.captcha("2001:db8::1");
    // With AppSec there are its series as well, whether or not it answers.
    let appsec = ("CROWDSEC_APPSEC_URL", "http://127.0.0.1:9/");
    let app = App::polling(lapi.url(), &[("CROWDSEC_METRICS_FROM", "127.0.0.1"), appsec]);
    assert_eq!(app.verdict("192.0.2.1"), Ban);
    let answer = app.get(PATH).send();
    assert_eq!(answer.header("Content-Type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = answer.text();
    is_content(&["check", "metrics"], &text);
    let told = names(&text);
    for (from, asked) in [
        ("the dashboard", names(&dashboard().to_string())),
        ("the alerts", names(&fs::read_to_string(root().join("deploy/prometheus/alerts.yaml")).expect("the alerts"))),
        ("docs/metrics.md", names(&fs::read_to_string(root().join("docs/metrics.md")).expect("the page"))),
    ] {
        assert!(!asked.is_empty());
        assert!(asked.is_subset(&told), "{from} names what nobody tells: {:?}", asked.difference(&told));
    }
    // The page about the metrics names each one.
    let page = names(&fs::read_to_string(root().join("docs/metrics.md")).expect("the page"));
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE crowdsec_rocket_"));
    for name in types.map(|line| line.split(' ').next().expect("a name")) {
        assert!(page.contains(name), "docs/metrics.md does not name {name}");
    }
    // Through a proxy, as everybody but the developer comes, the page is not found.
    assert_eq!(app.get(PATH).from("192.0.2.2").send().status, 404);
}

#[test]
fn a_real_prometheus_that_scrapes_has_the_right_number_for_a_refused_visitors_origin() {
    let lapi = Lapi::start();
    lapi.ban("192.0.2.1");
    lapi.ban("2001:db8::1");
    let app = app(&lapi);
    for (visitor, verdict, times) in [("192.0.2.1", Ban, 3), ("2001:db8::1", Ban, 2), ("192.0.2.9", Welcome, 4)] {
        for _ in 0..times {
            assert_eq!(app.verdict(visitor), verdict);
        }
    }
    let (folder, at) = (Folder::empty(), closed_port());
    let rules = root().join("deploy/prometheus/alerts.yaml");
    folder.write(
        "prometheus.yml",
        format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: ['{}']\nscrape_configs:\n  - job_name: application\n    \
             metrics_path: {PATH}\n    static_configs: [{{ targets: ['{}'] }}]\n",
            rules.display(),
            app.address()
        ),
    );
    let mut command = Command::new(program("prometheus"));
    command
        .arg(format!("--config.file={}", folder.path("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", folder.path("data").display()))
        .arg(format!("--web.listen-address={at}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let _prometheus = Process::start(&mut command);
    let url = format!("http://{at}");
    let query = |expression: &str| promtool(&["query", "instant", &url, expression], "");
    let says = |expression: &str| String::from_utf8_lossy(&query(expression).stdout).into_owned();
    for (expression, value) in [
        (r#"sum(crowdsec_rocket_dropped_total{origin="cscli",remediation="ban",ip_type="ipv4"})"#, 3),
        (r#"sum(crowdsec_rocket_dropped_total{origin="cscli",ip_type="ipv6"})"#, 2),
        ("sum(crowdsec_rocket_dropped_total)", 5),
        (r#"sum(crowdsec_rocket_decisions{origin="cscli"})"#, 2),
    ] {
        eventually(expression, || says(expression).contains(&format!("=> {value} @")));
    }
    let questions = questions();
    assert!(questions.len() > 12, "{questions:?}");
    for question in questions {
        let output = query(&question);
        assert!(output.status.success(), "{question}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn each_alert_comes_when_it_is_to_come_and_not_otherwise() {
    is_content(
        &["check", "rules", "deploy/prometheus/alerts.yaml"]
            .map(|word| word.replace("deploy", &format!("{}/deploy", root().display())))
            .each_ref()
            .map(String::as_str),
        "",
    );
    let tests = root().join("dev/tests/prometheus/alerts.test.yaml");
    is_content(&["test", "rules", tests.to_str().expect("a path")], "");
    // No alert is left untested.
    let read = |name: &str| fs::read_to_string(root().join(name)).expect("a file");
    let (alerts, tests) = (read("deploy/prometheus/alerts.yaml"), read("dev/tests/prometheus/alerts.test.yaml"));
    let alerts: Vec<&str> = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(
        alerts.len() >= 4 && alerts.iter().all(|alert| tests.contains(&format!("alertname: {alert}"))),
        "{alerts:?}"
    );
}
