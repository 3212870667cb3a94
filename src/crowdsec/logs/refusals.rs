//! Who was refused, and why? A line of JSON for each refusal, for whoever is asked "why was I refused at 14:02?".

use std::io::Write;
use std::sync::Arc;

use rocket::Request;
use rocket::fairing::{Fairing, Info, Kind};
use rocket::response::Response;

use super::journal::Journal;
use super::line::{TEXT, json};
use crate::crowdsec::bouncer::Refused;

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
        let Some(refused) = Refused::of(request, response.status()) else { return };
        let Refused { time, address, remediation, status, method, path, reference, .. } = &refused;
        self.0.append(|line| {
            let _ = write!(line, r#"{{"crowdsec_refusal":"{remediation}","time":"{time}","address":"{address}""#);
            let _ = write!(line, r#","status":{status},"method":"{method}","path":"#);
            json(line, path, PATH);
            let texts = [("country", &refused.country), ("origin", &refused.origin), ("scenario", &refused.scenario)];
            for (key, text) in texts {
                let _ = write!(line, r#","{key}":"#);
                match text {
                    Some(text) => json(line, text, TEXT),
                    None => line.extend_from_slice(b"null"),
                }
            }
            let decision = refused.decision.map_or("null".to_owned(), |id| id.to_string());
            let _ = writeln!(line, r#","decision":{decision},"reference":"{reference}"}}"#);
        });
    }
}
