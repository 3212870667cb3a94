//! ALTCHA: a proof of work of the visitor's browser. No account, no third party, nothing loaded from elsewhere.
//!
//! The server picks a number, hashes it once and hands out the first half of the hash; the browser counts up until it
//! meets it. A challenge is signed, expires, is bound to the visitor's address (IPv6: the /64), and counts once on each
//! instance; on another one its expiry and address still limit a replay.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::altcha::{CreateChallengeOptions, Payload, VerifySolutionOptions, create_challenge, verify_solution};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Verdict, Widget};
use crate::crowdsec::client_ip::Subject;
use crate::crowdsec::config::{CaptchaConfig, Secret};

pub const FIELD: &str = "altcha";

/// Long enough to fetch a coffee before looking at the page.
const LIFETIME: Duration = Duration::from_secs(600);
/// The largest number a browser may have to count to. See the README for how long that takes.
const DIFFICULTY: u32 = 1_000_000;
/// How many solved challenges are remembered, each until it expires: 4 MB. When full, nobody more is let in.
const MOST_SPENT: usize = 65_536;

pub struct Altcha {
    difficulty: u32,
    challenge_secret: String,
    key_secret: String,
    spent: Mutex<HashMap<String, u64>>,
}

impl Altcha {
    /// Signs with keys made of Rocket's `secret_key`, so that a challenge of one instance holds on all that share it.
    /// Where none is set (the debug profile), with chance, so that nobody else's challenge holds.
    pub fn new(config: &CaptchaConfig, shared: Option<&Secret>) -> Self {
        let secret = shared.map_or_else(|| format!("{:032x}", rand::random::<u128>()), |secret| secret.0.clone());
        Self {
            difficulty: config.difficulty.unwrap_or(DIFFICULTY),
            challenge_secret: format!("crowdsec altcha challenge {secret}"),
            key_secret: format!("crowdsec altcha key {secret}"),
            spent: Mutex::default(),
        }
    }

    pub fn widget(&self, subject: Subject) -> Result<Widget, String> {
        let challenge = create_challenge(CreateChallengeOptions {
            algorithm: "SHA-256".into(),
            cost: 1,
            // From the whole range: with a smallest number, a program would start there and a browser would not.
            counter: Some(rand::random_range(1..=self.difficulty)),
            data: Some(BTreeMap::from([
                (SUBJECT.into(), subject.to_string().into()),
                // For the page's progress bar.
                ("largest_counter".into(), self.difficulty.into()),
            ])),
            expires_at: Some((unix_now() + LIFETIME.as_secs()) as i64),
            hmac_signature_secret: Some(self.challenge_secret.clone()),
            hmac_key_signature_secret: Some(self.key_secret.clone()),
            ..CreateChallengeOptions::default()
        });
        let challenge = challenge.map_err(|e| e.to_string())?;
        Ok(Widget {
            provider: "altcha",
            site_key: String::new(),
            script_url: String::new(),
            widget_class: "altcha",
            field: FIELD,
            challenge: serde_json::to_string(&challenge).map_err(|e| e.to_string())?,
        })
    }

    pub fn verify(&self, answer: &str, subject: Subject) -> Verdict {
        let json = STANDARD.decode(answer).unwrap_or_default();
        let Ok(Payload { challenge, solution }) = serde_json::from_slice(&json) else { return Verdict::Wrong };
        let options = VerifySolutionOptions {
            hmac_key_signature_secret: Some(self.key_secret.clone()),
            ..VerifySolutionOptions::new(&challenge, &solution, self.challenge_secret.as_str())
        };
        let bound_to = challenge.parameters.data.as_ref().and_then(|data| data.get(SUBJECT)?.as_str());
        match verify_solution(options) {
            Ok(result) if result.expired => Verdict::Expired,
            Ok(result) if result.verified && bound_to == Some(subject.to_string().as_str()) => {
                self.spend(challenge.parameters.nonce)
            }
            _ => Verdict::Wrong,
        }
    }

    /// A challenge counts once. Once too many are remembered we cannot tell any more, so nobody is let in by one.
    fn spend(&self, nonce: String) -> Verdict {
        let now = unix_now();
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        if spent.len() >= MOST_SPENT {
            spent.retain(|_, until| *until >= now);
        }
        match spent.len() {
            MOST_SPENT.. => Verdict::Away,
            _ => match spent.insert(nonce, now + LIFETIME.as_secs()) {
                None => Verdict::Human,
                Some(_) => Verdict::Expired,
            },
        }
    }
}

const SUBJECT: &str = "subject";

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use ::altcha::{Challenge, SolveChallengeOptions, solve_challenge};

    use super::*;

    fn altcha(secret: &str) -> Altcha {
        Altcha {
            difficulty: 50,
            challenge_secret: format!("c{secret}"),
            key_secret: format!("k{secret}"),
            spent: Mutex::default(),
        }
    }

    fn solve(widget: &Widget) -> String {
        let challenge: Challenge = serde_json::from_str(&widget.challenge).unwrap();
        let solution = solve_challenge(SolveChallengeOptions::new(&challenge)).unwrap().unwrap();
        STANDARD.encode(serde_json::to_vec(&Payload { challenge, solution }).unwrap())
    }

    fn subject(address: &str) -> Subject {
        Subject::from(address.parse::<std::net::IpAddr>().unwrap())
    }

    #[test]
    fn a_solved_challenge_counts_once_and_only_for_its_visitor() {
        let altcha = altcha("s");
        let answer = solve(&altcha.widget(subject("192.0.2.1")).unwrap());
        assert_eq!(altcha.verify(&answer, subject("192.0.2.2")), Verdict::Wrong);
        assert_eq!(altcha.verify(&answer, subject("192.0.2.1")), Verdict::Human);
        assert_eq!(altcha.verify(&answer, subject("192.0.2.1")), Verdict::Expired);
    }

    #[test]
    fn the_whole_64_of_an_ipv6_visitor_may_answer() {
        let altcha = altcha("s");
        let answer = solve(&altcha.widget(subject("2001:db8::1")).unwrap());
        assert_eq!(altcha.verify(&answer, subject("2001:db8:0:1::1")), Verdict::Wrong);
        assert_eq!(altcha.verify(&answer, subject("2001:db8::ffff:2")), Verdict::Human);
    }

    #[test]
    fn a_forged_challenge_proves_nothing() {
        let (ours, theirs, visitor) = (altcha("ours"), altcha("theirs"), subject("192.0.2.1"));
        assert_eq!(ours.verify(&solve(&theirs.widget(visitor).unwrap()), visitor), Verdict::Wrong);
        let widget = ours.widget(visitor).unwrap();
        let mut payload: Payload = serde_json::from_slice(&STANDARD.decode(solve(&widget)).unwrap()).unwrap();
        payload.challenge.parameters.expires_at = Some(payload.challenge.parameters.expires_at.unwrap() + 1);
        assert_eq!(ours.verify(&STANDARD.encode(serde_json::to_vec(&payload).unwrap()), visitor), Verdict::Wrong);
        for junk in ["", "junk", "e30=", "bnVsbA=="] {
            assert_eq!(ours.verify(junk, visitor), Verdict::Wrong);
        }
    }

    #[test]
    fn a_wrong_number_proves_nothing() {
        let (altcha, visitor) = (altcha("s"), subject("192.0.2.1"));
        let widget = altcha.widget(visitor).unwrap();
        let mut payload: Payload = serde_json::from_slice(&STANDARD.decode(solve(&widget)).unwrap()).unwrap();
        payload.solution.derived_key = "00".repeat(32);
        assert_eq!(altcha.verify(&STANDARD.encode(serde_json::to_vec(&payload).unwrap()), visitor), Verdict::Wrong);
    }

    #[test]
    fn a_full_memory_lets_nobody_in_until_challenges_expire() {
        let (altcha, visitor) = (altcha("s"), subject("192.0.2.1"));
        let later = unix_now() + 100;
        altcha.spent.lock().unwrap().extend((0..MOST_SPENT).map(|n| (n.to_string(), later)));
        assert_eq!(altcha.verify(&solve(&altcha.widget(visitor).unwrap()), visitor), Verdict::Away);
        altcha.spent.lock().unwrap().values_mut().for_each(|until| *until = 0);
        assert_eq!(altcha.verify(&solve(&altcha.widget(visitor).unwrap()), visitor), Verdict::Human);
    }
}
