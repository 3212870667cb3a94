//! How much memory do decisions take? Resident, in the steady state and at the peak of taking them over.

use std::fs;
use std::path::Path;

use crate::decisions::{self, BANNED, answer};
use crate::fake_lapi::FakeLapi;
use crate::report::Report;
use crate::server::{Server, Setup, Snapshot, eventually};

const MILLION: u64 = 1_000_000;
const MEGABYTE: f64 = 1e6;

pub fn run(directory: &Path) {
    let lapi = FakeLapi::start(directory, answer(decisions::many(0)));
    let often = Setup::protected(&lapi).with("CROWDSEC_UPDATE_FREQUENCY", "1s");
    let often = often.with("CROWDSEC_STARTUP_TIMEOUT", "5m").with("CROWDSEC_RESYNC_FREQUENCY", "10h");
    let empty = often.start(directory);
    empty.settle();
    let without = empty.memory("VmRSS");
    drop(empty);

    let mut report = Report::new("memory", "Memory of 1,000,000 decisions");
    let columns = ["after", "resident", "a decision", "target", "peak", "peak / resident", "target"];
    report.columns(&columns);
    let mut row = |after: &str, server: &Server| {
        server.settle();
        let (resident, peak) = (server.memory("VmRSS"), server.memory("VmHWM"));
        let decision = format!("{:.1} B", (resident - without) / MILLION as f64);
        let ratio = format!("{:.2}", peak / resident);
        let megabytes = |bytes: f64| format!("{:.1} MB", bytes / MEGABYTE);
        report.row(&[after, &megabytes(resident), &decision, "≤ 64 B", &megabytes(peak), &ratio, "≤ 2.2"]);
    };

    lapi.knows(answer(decisions::many(MILLION)));
    let server = often.start(directory);
    everything_is_known(&server);
    row("the first full answer", &server);
    for again in ["a full answer once more", "and once more"] {
        // From here on the kernel counts the peak anew.
        fs::write(format!("/proc/{}/clear_refs", server.pid()), "5").expect("a peak to reset");
        let fulls = lapi.full_answers();
        lapi.down(true);
        let logged = |text: &str| server.log().matches(text).count();
        eventually("LAPI is lost", || logged(" is lost: ") > logged(" is back after "));
        lapi.down(false);
        eventually("everything comes once more", || lapi.full_answers() > fulls);
        eventually("everything is taken over", || logged(" is lost: ") == logged(" is back after "));
        row(again, &server);
    }
    drop(server);

    let snapshot = Snapshot::of(MILLION, &lapi, directory);
    let server = often.clone().with("CROWDSEC_SNAPSHOT", snapshot.path()).start(directory);
    everything_is_known(&server);
    row("a start from a snapshot", &server);
    report.note(&format!(
        "A decision's share is what is resident more than the {:.1} MB of the same application with no decision; id, origin and \
         scenario are known of each, as its log shows.",
        without / MEGABYTE
    ));
    report.finish();
}

/// Checks in the log that the application knows all that LAPI said of a refused visitor's decision.
fn everything_is_known(server: &Server) {
    assert_eq!(server.ask(BANNED, "/text"), 403);
    let banned = decisions::many(1).next().expect("the first decision");
    let line = format!("ban by {} ({}), decision {}", banned.origin(), banned.scenario(), banned.id);
    eventually("the refusal is in the log", || server.log().contains(&line));
}
