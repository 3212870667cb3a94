//! What did AppSec say? The word in its answer counts, whatever status and type the answer has; without a word the
//! status counts.

use http::StatusCode;
use rocket::http::Status;

use super::relay::Relay;

/// What came of one question.
pub enum Answer {
    Allow,
    /// `ban`, `captcha` or a word of the operator's; `status` is that of a ban, if AppSec names one.
    Act {
        word: String,
        status: Option<Status>,
    },
    /// A challenge's page, script or verdict, to be handed on.
    Relay(Relay),
    /// AppSec did not answer, or another server did: `appsec.failure_action` says what becomes of the visitor.
    Outage(String),
    /// No question can be made of the request, or AppSec cannot read it. A visitor can cause that, so it lets nobody in.
    Unjudgeable,
}

impl Answer {
    /// The name in the figures, which add `other`, `unreadable` and `error` to AppSec's words.
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
            // Fails closed: AppSec did not let the visitor in, and its challenge cannot be handed on.
            "challenge" => Self::ban(),
            _ => Self::Act { word: relay.action, status },
        }
    }

    /// Fails closed: a block that names no usable action is a ban.
    fn ban() -> Self {
        Self::Act { word: "ban".into(), status: None }
    }

    fn without_word(status: StatusCode, is_whole: bool) -> Self {
        match status.as_u16() {
            400 | 413 | 414 | 417 | 431 | 501 => Self::Unjudgeable,
            401 => Self::Outage("401: AppSec does not know the key, or cannot ask LAPI about it. It has to be the key of LAPI's, from `cscli bouncers add`".into()),
            // From another server, or from AppSec below another path: no visitor can cause these.
            code @ (404 | 405 | 407 | 408 | 421 | 426) => {
                Self::Outage(format!("status {code}: is `appsec.url` AppSec's address, with the path of its acquisition?"))
            }
            // A block, even if the rest of the answer does not arrive.
            400..=499 => Self::ban(),
            code @ 300..=399 => Self::Outage(format!("status {code}, a redirect, which is not followed: `appsec.url` has to be AppSec's own address")),
            code if is_whole => Self::Outage(format!("status {code} without a word: see AppSec's log")),
            code => Self::Outage(format!("status {code}, and the answer was cut off, too slow or too long")),
        }
    }
}
