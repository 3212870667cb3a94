//! Who was refused, and why? A line of JSON for each refusal, for whoever is asked "why was I refused at 14:02?".

use std::io::Write;
use std::sync::Arc;

use rocket::fairing::{AdHoc, Fairing};

use super::field::{TEXT, json};
use crate::crowdsec::bouncer::Record;
use crate::crowdsec::journal::Journal;

/// How many UTF-16 units of a path are written. With JSON's escapes they take up to 6 kB of the 16 that a line may have.
const PATH: usize = 1000;

/// Writes every refusal by fairing or guard. Rocket asks no fairing about a method that it does not know. Has to be
/// attached after all others, to see the status as it leaves.
pub fn refusal_log(journal: Arc<Journal>) -> impl Fairing {
    AdHoc::on_response("CrowdSec's refusal log", move |request, response| {
        if let Some(refused) = Record::of(request, response.status()) {
            journal.append(|line| write(line, &refused));
        }
        Box::pin(async {})
    })
}

fn write(line: &mut Vec<u8>, refused: &Record) {
    let Record { time, address, remediation, status, method, reference, .. } = refused;
    let path = json(Some(&refused.path), PATH);
    let texts = [&refused.country, &refused.origin, &refused.scenario];
    let [country, origin, scenario] = texts.map(|text| json(text.as_deref(), TEXT));
    let id = refused.decision.map_or("null".to_owned(), |id| id.to_string());
    let _ = write!(line, r#"{{"crowdsec_refusal":"{remediation}","time":"{time}","address":"{address}","#);
    let _ = write!(line, r#""status":{status},"method":"{method}","path":{path},"country":{country},"#);
    let _ = writeln!(line, r#""origin":{origin},"scenario":{scenario},"decision":{id},"reference":"{reference}"}}"#);
}
