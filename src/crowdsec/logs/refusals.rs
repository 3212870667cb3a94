//! Who was refused, and why? A line of JSON for each refusal, for whoever is asked "why was I refused at 14:02?".

use std::io::Write;
use std::sync::Arc;

use rocket::Request;
use rocket::fairing::{Fairing, Info, Kind};
use rocket::http::Status;
use rocket::response::Response;

use super::journal::Journal;
use super::line::{TEXT, json};
use crate::crowdsec::bouncer::{Bouncer, Verdict, Visit};

/// The log of every refusal, the fairing's and the guards'.
pub struct RefusalLog(pub Arc<Journal>);

/// How many characters of a path are written. With the escapes of JSON that is at most 6 kB of a line's 16.
const PATH: usize = 1000;

/// It has to be attached after all others, to see the status as it leaves.
#[rocket::async_trait]
impl Fairing for RefusalLog {
    fn info(&self) -> Info {
        Info { name: "CrowdSec's refusal log", kind: Kind::Response }
    }

    async fn on_response<'r>(&self, request: &'r Request<'_>, response: &mut Response<'r>) {
        let status = response.status();
        if let Some((bouncer, visit, verdict)) = Visit::refused(request, status) {
            self.0.refusal(bouncer, request, visit, verdict, status);
        }
    }
}

impl Journal {
    fn refusal(&self, bouncer: &Bouncer, request: &Request<'_>, visit: &Visit, verdict: Verdict, status: Status) {
        let (judgement, asked) = (visit.ground(), visit.asked(request));
        let decision = judgement.cause(verdict);
        let (country, reference) = (bouncer.country_of(request, judgement), bouncer.told.reference(judgement));
        self.append(|line, clock| {
            let (name, time, address) = (verdict.name(), &clock.rfc3339, judgement.address);
            let _ = write!(line, r#"{{"crowdsec_refusal":"{name}","time":"{time}","address":"{address}""#);
            let _ = write!(line, r#","status":{},"method":"{}","path":"#, status.code, asked.method);
            // Without the query, which may hold a password or a token.
            json(line, asked.uri.path().as_str(), PATH);
            for (key, text) in [
                ("country", country.as_ref()),
                ("origin", decision.map(|standing| &standing.source.origin)),
                ("scenario", decision.map(|standing| &standing.source.scenario)),
            ] {
                let _ = write!(line, r#","{key}":"#);
                match text {
                    Some(text) => json(line, text, TEXT),
                    None => line.extend_from_slice(b"null"),
                }
            }
            match decision.and_then(|standing| standing.id) {
                Some(id) => _ = write!(line, r#","decision":{id}"#),
                None => line.extend_from_slice(br#","decision":null"#),
            }
            let _ = writeln!(line, r#","reference":"{reference}"}}"#);
        });
    }
}
