//! Why did LAPI not answer, and what is to be done?

use std::error::Error as _;
use std::fmt;
use std::io;
use std::iter;

use super::connection::Connection;
use crate::crowdsec::printable::{printable, with_causes};

/// Why LAPI did not answer; each message says what to look at.
#[derive(Debug)]
pub enum Error {
    /// Nobody answered in time: the connection was refused, cut or too slow.
    Transfer(String),
    Forbidden,
    Redirect(String),
    Status(u16),
    Unreadable(String),
    /// Our own code panicked.
    Panicked(String),
    /// A full answer lacks decisions that nothing has ended, or is the first one and empty, and LAPI does not confirm that.
    Short(String),
}

/// How a poll can end.
pub const RESULTS: [&str; 5] = ["ok", "auth", "http", "network", "parse"];

impl Error {
    /// The one of `RESULTS` that this error counts as.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Forbidden => "auth",
            Self::Redirect(_) | Self::Status(_) => "http",
            Self::Transfer(_) => "network",
            Self::Unreadable(_) | Self::Panicked(_) | Self::Short(_) => "parse",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transfer(reason) => f.write_str(reason),
            Self::Forbidden => f.write_str(
                "403: LAPI refuses the key (or its database fails: see LAPI's log). `cscli bouncers list` shows whether the bouncer is \
                 there and valid, `cscli bouncers add` makes a new key; with a certificate, look whether it has expired \
                 (it is read at the launch alone), and compare its OU with bouncers_allowed_ou",
            ),
            Self::Redirect(to) => {
                write!(
                    f,
                    "a redirect to `{}`, which is not followed so that the key stays here: put that address into api_url",
                    printable(to.split("v1/decisions").next().unwrap_or_default())
                )
            }
            Self::Status(400) => f.write_str("status 400: LAPI does not understand us. If it speaks TLS, write https:// into api_url"),
            Self::Status(404) => f.write_str("status 404: api_url is the address of LAPI's root, without /v1"),
            Self::Status(status) => write!(f, "status {status}: see LAPI's own log, and that of a gateway before it"),
            Self::Unreadable(reason) => write!(f, "an answer that cannot be read: {reason}"),
            Self::Panicked(reason) => write!(f, "a poll of ours panicked, which is a fault of this program: {}", printable(reason)),
            Self::Short(what) => write!(f, "its full answer {what}, since LAPI's database may be failing: see its log"),
        }
    }
}

pub fn transfer(error: &reqwest::Error, lapi: Option<&Connection>) -> Error {
    use io::ErrorKind::{
        BrokenPipe, ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable, NotFound,
        PermissionDenied, UnexpectedEof,
    };
    // Without reqwest's own words, which hold the address: the operator wrote it, and it may be long.
    let reason = with_causes(error.source().unwrap_or(error));
    let tls = causes(error).find_map(|error| error.downcast_ref::<rustls::Error>());
    // The innermost error of io: outer ones wrap it under another kind.
    let kind = causes(error).filter_map(|error| error.downcast_ref::<io::Error>()).last().map(io::Error::kind);
    let meaning = match (tls, lapi, kind) {
        (Some(error), Some(lapi), _) => lapi.tls_failure(error),
        _ if error.is_timeout() && error.is_connect() => {
            "nobody answers at that address: check api_url, the firewall, and whether LAPI hangs".into()
        }
        _ if error.is_timeout() => "LAPI took too long: does it hang, or is it overloaded? Its log may say".into(),
        _ if reason.contains("dns error") => "the host in api_url has no address: check its spelling, and DNS".into(),
        (_, Some(lapi), Some(UnexpectedEof | ConnectionReset | BrokenPipe))
            if error.is_connect() && lapi.is_https() =>
        {
            lapi.tls_cut_off()
        }
        (.., Some(ConnectionRefused | NotFound)) => {
            "nobody listens there: is CrowdSec running, is api_url right?".into()
        }
        (.., Some(PermissionDenied)) => "this user may not connect there: see the socket's owner and mode".into(),
        (.., Some(HostUnreachable | NetworkUnreachable)) => {
            "no route leads to that address: check api_url, routes and the firewall".into()
        }
        _ => "the connection failed".to_owned(),
    };
    Error::Transfer(format!("{meaning} ({})", printable(&reason)))
}

type Cause<'a> = &'a (dyn std::error::Error + 'static);

/// An error and all its causes.
fn causes<'a>(error: Cause<'a>) -> impl Iterator<Item = Cause<'a>> {
    iter::successors(Some(error), |&error: &Cause<'a>| {
        // The `source` of an error of io skips the error that it wraps.
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        }
    })
}
