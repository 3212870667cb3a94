//! What did AppSec say? Its word counts, whatever the status and the type of the answer; the status only where there is none.

use http::StatusCode;
use rocket::http::Status;

use super::relay::Relay;

/// What came of one question.
pub enum Answer {
    Allow,
    /// `ban`, `captcha`, or a word of the operator's, and the status of a ban, if AppSec names one.
    Act {
        word: String,
        status: Option<Status>,
    },
    /// A challenge's page, script or verdict, to be handed on.
    Relay(Relay),
    /// Nobody answered, or somebody else did: `appsec.failure_action` says what becomes of the visitor.
    Outage(String),
    /// The question was refused as one that cannot be read. That is in the visitor's power, so nobody is let in by it.
    Unjudgeable,
}

impl Answer {
    /// For figures, which have words of their own for what is none of AppSec's.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Act { word, .. } if word.eq_ignore_ascii_case("ban") => "ban",
            Self::Act { word, .. } if word.eq_ignore_ascii_case("captcha") => "captcha",
            Self::Act { .. } => "other",
            Self::Relay(_) => "challenge",
            Self::Outage(_) => "error",
            Self::Unjudgeable => "unreadable",
        }
    }

    /// `body` is `None` where it did not arrive whole.
    pub fn read(status: StatusCode, body: Option<&[u8]>) -> Self {
        let relay = body.and_then(|body| serde_json::from_slice::<Relay>(body).ok());
        let Some(relay) = relay.filter(|relay| !relay.action.is_empty()) else {
            return Self::without_word(status, body.is_some());
        };
        let status = matches!(relay.http_status, 400..=499).then(|| Status::new(relay.http_status as u16));
        match relay.action.to_ascii_lowercase().as_str() {
            "allow" => Self::Allow,
            "challenge" if relay.is_safe() => Self::Relay(relay),
            // Fails closed: AppSec did not let the visitor in, and there is nothing that they could do about it.
            "challenge" => Self::ban(),
            _ => Self::Act { word: relay.action, status },
        }
    }

    /// Fails closed: a block that says no more than that it is one.
    fn ban() -> Self {
        Self::Act { word: "ban".into(), status: None }
    }

    fn without_word(status: StatusCode, is_whole: bool) -> Self {
        match status.as_u16() {
            400 | 413 | 414 | 417 | 431 | 501 => Self::Unjudgeable,
            401 => Self::Outage("401: AppSec does not know the key, or cannot ask LAPI about it. It has to be the key of LAPI's, from `cscli bouncers add`".into()),
            // Another server's, or AppSec below another path: no visitor can bring that about.
            code @ (404 | 405 | 407 | 408 | 421 | 426) => {
                Self::Outage(format!("status {code}: is `appsec.url` AppSec's address, with the path of its acquisition?"))
            }
            // Whatever follows, even if it does not arrive: it is a block.
            400..=499 => Self::ban(),
            code @ 300..=399 => Self::Outage(format!("status {code}, a redirect, which is not followed: `appsec.url` has to be AppSec's own address")),
            code if is_whole => Self::Outage(format!("status {code} without a word: see AppSec's log")),
            code => Self::Outage(format!("status {code}, and the answer was cut off, too slow or too long")),
        }
    }
}
