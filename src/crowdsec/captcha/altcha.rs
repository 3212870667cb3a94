//! What is ALTCHA? A proof of work by the visitor's browser: no account, no third party, nothing loaded from elsewhere.
//!
//! The server picks a number, hashes it once and hands out the first half of the hash; the browser counts up until it finds the
//! number. A challenge is signed, expires, and is bound to the visitor's address (IPv6: the /64).
//!
//! Nobody remembers which challenges were solved, and an answer may be sent again, also to another instance and after a
//! restart. That is sound because a pass counts from when the challenge was made, and not from when its answer came: the
//! second pass for one challenge is for the same address and ends at the same second as the first. Whoever has the
//! answer gains no more than by copying the first pass. So nothing has to be limited either: a right answer took the
//! work that it proves, and to check a wrong one takes microseconds and asks nobody.

use std::collections::BTreeMap;
use std::time::Duration;

use ::altcha::{CreateChallengeOptions, Payload, VerifySolutionOptions, create_challenge, verify_solution};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Finding;
use crate::crowdsec::limit::Subject;

/// How long a challenge holds: long enough to fetch a coffee before looking at the page. Half of `captcha.expiration` where
/// that is less, so that whoever takes their time still has a pass for the other half.
const LONGEST_LIFETIME: Duration = Duration::from_secs(600);

pub struct Altcha {
    difficulty: u32,
    /// In seconds.
    lifetime: u64,
    challenge_secret: String,
    key_secret: String,
}

impl Altcha {
    /// Signs with keys made of `secret`.
    pub fn new(difficulty: u32, expiration: Duration, secret: &str) -> Self {
        Self {
            difficulty,
            lifetime: (expiration / 2).min(LONGEST_LIFETIME).as_secs().max(1),
            challenge_secret: format!("crowdsec altcha challenge {secret}"),
            key_secret: format!("crowdsec altcha key {secret}"),
        }
    }

    /// A challenge for one visitor, as JSON. `issued` is in seconds since 1970.
    pub fn challenge(&self, subject: Subject, issued: u64) -> Result<String, String> {
        let challenge = create_challenge(CreateChallengeOptions {
            algorithm: "SHA-256".into(),
            cost: 1,
            // From the whole range: with a smallest number, a program would start there and a browser would not.
            counter: Some(rand::random_range(1..=self.difficulty)),
            data: Some(BTreeMap::from([
                (SUBJECT.into(), subject.0.to_string().into()),
                // For the pass; and for the page, since the visitor's clock may be wrong.
                (ISSUED.into(), issued.into()),
                // For the page's progress bar.
                ("largest_counter".into(), self.difficulty.into()),
            ])),
            expires_at: Some((issued + self.lifetime) as i64),
            hmac_signature_secret: Some(self.challenge_secret.clone()),
            hmac_key_signature_secret: Some(self.key_secret.clone()),
            ..CreateChallengeOptions::default()
        });
        serde_json::to_string(&challenge.map_err(|e| e.to_string())?).map_err(|e| e.to_string())
    }

    pub fn verify(&self, answer: &str, subject: Subject) -> Finding {
        let json = STANDARD.decode(answer).unwrap_or_default();
        let Ok(Payload { challenge, solution }) = serde_json::from_slice(&json) else { return Finding::Wrong };
        let options = VerifySolutionOptions {
            hmac_key_signature_secret: Some(self.key_secret.clone()),
            ..VerifySolutionOptions::new(&challenge, &solution, self.challenge_secret.as_str())
        };
        let said = |name: &str| challenge.parameters.data.as_ref()?.get(name);
        let bound_to = said(SUBJECT).and_then(|subject| subject.as_str());
        let issued = said(ISSUED).and_then(|issued| issued.as_u64());
        match (verify_solution(options), issued) {
            (Ok(result), _) if result.expired => Finding::Expired,
            (Ok(result), Some(since)) if result.verified && bound_to == Some(subject.0.to_string().as_str()) => {
                Finding::Human { since }
            }
            _ => Finding::Wrong,
        }
    }
}

const SUBJECT: &str = "subject";
const ISSUED: &str = "issued";

#[cfg(test)]
mod tests {
    use ::altcha::{Challenge, SolveChallengeOptions, solve_challenge};

    use super::*;
    use crate::crowdsec::timestamp::unix_now;

    fn altcha(secret: &str) -> Altcha {
        Altcha::new(50, Duration::from_secs(3600), secret)
    }

    fn solve(challenge: &str) -> String {
        let challenge: Challenge = serde_json::from_str(challenge).unwrap();
        let solution = solve_challenge(SolveChallengeOptions::new(&challenge)).unwrap().unwrap();
        STANDARD.encode(serde_json::to_vec(&Payload { challenge, solution }).unwrap())
    }

    fn subject(address: &str) -> Subject {
        Subject::from(address.parse::<std::net::IpAddr>().unwrap())
    }

    #[test]
    fn a_solved_challenge_counts_only_for_its_visitor_and_from_when_it_was_made() {
        let (altcha, issued) = (altcha("s"), unix_now() - 500);
        let answer = solve(&altcha.challenge(subject("192.0.2.1"), issued).unwrap());
        assert_eq!(altcha.verify(&answer, subject("192.0.2.2")), Finding::Wrong);
        // The second time, the answer gives the same pass as the first time, and no second more.
        for _ in 0..2 {
            assert_eq!(altcha.verify(&answer, subject("192.0.2.1")), Finding::Human { since: issued });
        }
    }

    #[test]
    fn a_challenge_lives_ten_minutes_or_half_of_what_a_pass_does() {
        let (altcha, visitor) = (altcha("s"), subject("192.0.2.1"));
        let old = solve(&altcha.challenge(visitor, unix_now() - 602).unwrap());
        assert_eq!(altcha.verify(&old, visitor), Finding::Expired);
        for (expiration, lifetime) in [(3600, 600), (1200, 600), (60, 30), (3, 1), (1, 1)] {
            assert_eq!(Altcha::new(50, Duration::from_secs(expiration), "s").lifetime, lifetime, "{expiration}");
        }
    }

    #[test]
    fn the_whole_64_of_an_ipv6_visitor_may_answer() {
        let altcha = altcha("s");
        let answer = solve(&altcha.challenge(subject("2001:db8::1"), unix_now()).unwrap());
        assert_eq!(altcha.verify(&answer, subject("2001:db8:0:1::1")), Finding::Wrong);
        assert!(matches!(altcha.verify(&answer, subject("2001:db8::ffff:2")), Finding::Human { .. }));
    }

    #[test]
    fn a_forged_challenge_proves_nothing() {
        let (ours, theirs, visitor) = (altcha("ours"), altcha("theirs"), subject("192.0.2.1"));
        assert_eq!(ours.verify(&solve(&theirs.challenge(visitor, unix_now()).unwrap()), visitor), Finding::Wrong);
        let challenge = ours.challenge(visitor, unix_now()).unwrap();
        let mut payload: Payload = serde_json::from_slice(&STANDARD.decode(solve(&challenge)).unwrap()).unwrap();
        payload.challenge.parameters.expires_at = Some(payload.challenge.parameters.expires_at.unwrap() + 1);
        assert_eq!(ours.verify(&STANDARD.encode(serde_json::to_vec(&payload).unwrap()), visitor), Finding::Wrong);
        // Whoever could choose when a challenge was issued could choose when the pass ends.
        let mut payload: Payload = serde_json::from_slice(&STANDARD.decode(solve(&challenge)).unwrap()).unwrap();
        payload.challenge.parameters.data.as_mut().unwrap().insert(ISSUED.into(), (unix_now() + 9).into());
        assert_eq!(ours.verify(&STANDARD.encode(serde_json::to_vec(&payload).unwrap()), visitor), Finding::Wrong);
        for junk in ["", "junk", "e30=", "bnVsbA=="] {
            assert_eq!(ours.verify(junk, visitor), Finding::Wrong);
        }
    }

    #[test]
    fn a_wrong_number_proves_nothing() {
        let (altcha, visitor) = (altcha("s"), subject("192.0.2.1"));
        let challenge = altcha.challenge(visitor, unix_now()).unwrap();
        let mut payload: Payload = serde_json::from_slice(&STANDARD.decode(solve(&challenge)).unwrap()).unwrap();
        payload.solution.derived_key = "00".repeat(32);
        assert_eq!(altcha.verify(&STANDARD.encode(serde_json::to_vec(&payload).unwrap()), visitor), Finding::Wrong);
    }

    #[test]
    fn the_number_to_find_may_be_any_up_to_the_difficulty() {
        let (altcha, visitor) = (altcha("s"), subject("192.0.2.1"));
        let number = || {
            let answer = solve(&altcha.challenge(visitor, unix_now()).unwrap());
            let Payload { solution, .. } = serde_json::from_slice(&STANDARD.decode(answer).unwrap()).unwrap();
            solution.counter
        };
        let numbers: std::collections::BTreeSet<u32> = (0..50).map(|_| number()).collect();
        assert!(numbers.len() > 10 && numbers.iter().all(|number| (1..=50).contains(number)), "{numbers:?}");
    }
}
