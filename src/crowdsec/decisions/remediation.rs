//! What is to be done with a visitor, and what does each of LAPI's types mean here?

use std::fmt;

/// What is to be done with a visitor, ordered by severity: of all that stands against an address, the greatest counts.
///
/// `Allow` stands above all because only the operator can say it: no decision of LAPI's is ever read as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Remediation {
    Captcha,
    Ban,
    Allow,
}

impl Remediation {
    /// Reads a decision's `type`. LAPI passes types through as somebody typed them, so case says nothing.
    pub fn from_type(kind: &str) -> Option<Self> {
        [Self::Captcha, Self::Ban, Self::Allow].into_iter().find(|r| kind.eq_ignore_ascii_case(r.as_str()))
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Captcha => "captcha",
            Self::Ban => "ban",
            Self::Allow => "allow",
        }
    }
}

impl fmt::Display for Remediation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How LAPI's types become remediations, settled once, where an answer comes in.
#[derive(Clone, Copy, Debug)]
pub struct Types {
    /// Whether a captcha can be shown at all.
    pub captcha: bool,
    /// What stands in for a captcha that cannot be shown, and for every type we do not know.
    pub fallback: Remediation,
}

impl Types {
    /// `None` for `allow`, which exempts nobody when it comes from LAPI: only the operator's own configuration can.
    pub fn remediation(self, kind: &str) -> Option<Remediation> {
        match Remediation::from_type(kind) {
            Some(Remediation::Allow) => None,
            Some(Remediation::Ban) => Some(Remediation::Ban),
            Some(Remediation::Captcha) if self.captcha => Some(Remediation::Captcha),
            Some(Remediation::Captcha) | None => Some(self.fallback),
        }
    }
}
