//! How many instructions does a request take? Callgrind counts them; counts vary less between runs than times do.

use std::fs;
use std::path::Path;

use crate::counted::{Cost, Herd, ROUNDS, VISITORS, case};
use crate::decisions::{self, BANNED};
use crate::fake_lapi::FakeLapi;
use crate::report::{Report, thousands};
use crate::server::{PROXY, Setup, Snapshot};
use crate::visitor::{V4, V6};

/// Processes measured for each kind of application. The memory layout of a process changes its count by one or two
/// percent, so the mean of several is taken.
const PROCESSES: usize = 4;
/// Processes measured for the access log, whose cost is smaller than that difference.
const MANY: usize = 12;
pub fn run(directory: &Path) {
    let lapi = FakeLapi::start(directory, Vec::new());
    let few = Snapshot::of(20_000, &lapi, directory);
    let many = Snapshot::of(1_000_000, &lapi, directory);

    let protected = Setup::protected(&lapi).with("CROWDSEC_TRUSTED_PROXIES", &PROXY.to_string());
    let mut plain = Herd::start(PROCESSES, &Setup::plain(), None, directory);
    let mut none = Herd::start(PROCESSES, &protected, None, directory);
    let mut with_few = Herd::start(PROCESSES, &protected, Some(&few), directory);
    let mut with_many = Herd::start(PROCESSES, &protected, Some(&many), directory);

    let mut report = Report::new("requests", "Cost of a request, in instructions");
    report.columns(&["admitted", "decisions", "without the bouncer", "with it", "more", "target"]);
    let (mut text_page, mut tera_page) = (Cost::default(), Cost::default());
    for (page, path) in [("text", "/text"), ("Tera page", "/page")] {
        for (visitor, from, headers) in [
            ("IPv4", V4, vec![]),
            ("IPv6", V6, vec![]),
            ("IPv4 behind a proxy", PROXY, vec![("X-Forwarded-For", "198.51.100.77")]),
            ("IPv6 behind a proxy", PROXY, vec![("X-Forwarded-For", "2001:db8:1:2:3:4:5:6")]),
        ] {
            let case = case(from, path, &headers, 200);
            let without = plain.cost(&case);
            if from == V4 {
                *(if path == "/text" { &mut text_page } else { &mut tera_page }) = without;
            }
            for (decisions, server) in [("0", &mut none), ("20,000", &mut with_few), ("1,000,000", &mut with_many)] {
                // The proxy's header costs the same, however many decisions there are.
                if from == PROXY && decisions != "1,000,000" {
                    continue;
                }
                let with = server.cost(&case);
                let (before, after) = (thousands(without.mean), thousands(with.mean));
                let cells = [format!("{page}, {visitor}"), decisions.into(), before, after, with.more_than(without)];
                report.row(&[cells.as_slice(), &["≤ +3 %".into()]].concat());
            }
        }
    }
    with_many.cost(&case(V4, "/text", &[], 200));
    with_many.keep_profile("text");
    rooms(&mut report, &mut none, &protected, directory);

    report.columns(&["refused, 1,000,000 decisions", "instructions", "of the Tera page", "of the text page", "target"]);
    let mut row = |name: &str, cost: Cost, target| {
        let ratio =
            |page: Cost| format!("{:.2} ± {:.2}", cost.mean / page.mean, cost.error.hypot(page.error) / page.mean);
        report.row(&[name, &thousands(cost.mean), &ratio(tera_page), &ratio(text_page), target]);
    };
    for (name, headers) in [("page", [].as_slice()), ("JSON", &[("Accept", "application/json")])] {
        let cost = with_many.cost(&case(BANNED, "/text", headers, 403));
        with_many.keep_profile(&format!("refused-{name}"));
        row(name, cost, "≤ 3 of the Tera page");
    }
    let fixed = plain.cost(&case(V4, "/fixed", &[], 403));
    row("the floor: 4 kB of fixed words with four headers, without the bouncer", fixed, "");
    report.note(&format!(
        "Means over {PROCESSES} processes of each kind, {VISITORS} connections to each and {ROUNDS} requests over each; after ± \
         stands one standard error. A difference of less than three standard errors may be chance. \"Without the bouncer\" \
         is the same application without the fairing. Refused requests are compared with the pages of that application."
    ));
    report.finish();
}

/// How much more an admitted request costs when the other rooms are attached, or when decisions on countries exist.
/// Neither concerns the request.
fn rooms(report: &mut Report, none: &mut Herd, protected: &Setup, directory: &Path) {
    report.columns(&["admitted, text page", "with the fairing alone", "with this as well", "more", "target"]);
    let mut row = |name: &str, alone: Cost, with: Cost, target: &str| {
        report.row(&[name, &thousands(alone.mean), &thousands(with.mean), &with.more_than(alone), target]);
    };
    let direct = case(V4, "/text", &[], 200);
    let alone = none.cost(&direct);
    for (rooms, name) in
        [("metrics", "metrics"), ("all", "metrics, logs and AppSec, the latter two attached and switched off")]
    {
        let mut herd = Herd::start(PROCESSES, &protected.clone().with("BENCH_ROOMS", rooms), None, directory);
        row(name, alone, herd.cost(&direct), "≤ +1 %");
    }

    let german = case(PROXY, "/text", &[("X-Forwarded-For", "198.51.100.77"), ("CF-IPCountry", "DE")], 200);
    let [without, with] = [Vec::new(), decisions::on_countries()].map(|known| {
        let folder = (0..).map(|n| directory.join(format!("countries-{n}"))).find(|folder| !folder.exists());
        let folder = folder.expect("a free name");
        fs::create_dir(&folder).expect("a directory of our own");
        let lapi = FakeLapi::start(&folder, if known.is_empty() { decisions::answer([]) } else { known.clone() });
        let setup = Setup::protected(&lapi).with("CROWDSEC_TRUSTED_PROXIES", &PROXY.to_string());
        let setup = setup.with("CROWDSEC_SCOPES", "ip,range,country").with("CROWDSEC_COUNTRY_HEADER", "CF-IPCountry");
        let mut herd = Herd::start(PROCESSES, &setup, None, &folder);
        if !known.is_empty() {
            herd.refuses(PROXY, &[("X-Forwarded-For", "198.51.100.77"), ("CF-IPCountry", "FA")]);
        }
        herd.cost(&german)
    });
    row("a hundred Country decisions, behind a proxy that names the country", without, with, "≤ +3 %");
}

/// What the access log adds. The log adds less than two processes differ by, so more processes are measured.
pub fn log(directory: &Path) {
    let lapi = FakeLapi::start(directory, Vec::new());
    let off = Setup::protected(&lapi).with("BENCH_ROOMS", "all");
    let off = off.with("CROWDSEC_TRUSTED_PROXIES", &PROXY.to_string());
    let file = directory.join("access.log");
    let on = off.clone().with("CROWDSEC_ACCESS_LOG", file.to_str().expect("a plain path"));
    let [mut off, mut on] = [off, on].map(|setup| Herd::start(MANY, &setup, None, directory));

    let mut report = Report::new("log", "Cost of the access log, in instructions");
    report.columns(&["admitted, no decisions", "without a log", "with it", "more", "target"]);
    for (page, path) in [("text", "/text"), ("Tera page", "/page")] {
        for (visitor, from, headers) in [
            ("IPv4", V4, [].as_slice()),
            ("IPv6 behind a proxy", PROXY, &[("X-Forwarded-For", "2001:db8:1:2:3:4:5:6")]),
        ] {
            let case = case(from, path, headers, 200);
            let (off, on) = (off.cost(&case), on.cost(&case));
            let (before, after) = (thousands(off.mean), thousands(on.mean));
            report.row(&[&format!("{page}, {visitor}"), &before, &after, &on.more_than(off), "≤ +6 %"]);
        }
    }
    assert!(fs::metadata(&file).is_ok_and(|log| log.len() > 0), "nothing is in the access log");
    report.note(&format!(
        "Means over {MANY} processes of each kind, counted as `dev/bench requests` does; after ± stands one standard error. The \
         log's thread wakes ten times a second. Here each request carries more of that work than under load."
    ));
    report.finish();
}
