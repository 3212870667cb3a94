//! What is to be done with a visitor, and what does each of LAPI's types mean here?

use std::collections::BTreeMap;
use std::fmt;

use super::Source;

/// What is to be done with a visitor, ordered by severity: of all that stands against an address, the greatest counts.
///
/// `Allow` stands above all because only the operator can say it: no decision of LAPI's is ever read as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Remediation {
    /// Lets the visitor in. Handlers see the decision.
    Pass,
    /// Lets the visitor in as often as `throttle` says.
    Throttle,
    Captcha,
    /// Fails closed: a type that we do not know means a ban, unless the operator says otherwise.
    #[default]
    Ban,
    Allow,
}

impl Remediation {
    /// From the least to the greatest.
    pub const ALL: [Self; 5] = [Self::Pass, Self::Throttle, Self::Captcha, Self::Ban, Self::Allow];

    /// Reads a remediation's name. LAPI passes types on as somebody typed them, so case does not count.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|remediation| name.eq_ignore_ascii_case(remediation.as_str()))
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Throttle => "throttle",
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

/// How LAPI's types become remediations: decided once, when an answer comes in.
#[derive(Clone, Debug, Default)]
pub struct Types {
    /// Whether a captcha can be shown at all.
    pub captcha: bool,
    /// What stands in for a captcha that cannot be shown, and for every type we do not know.
    pub fallback: Remediation,
    /// The operator's own remediations, by `TYPE` or `ORIGIN/TYPE` in lower case.
    pub mapped: BTreeMap<String, Remediation>,
}

impl Types {
    /// `None` for `allow`, which exempts nobody when it comes from LAPI: only the operator's own configuration can.
    pub fn remediation(&self, source: &Source) -> Option<Remediation> {
        let known = match Remediation::from_name(&source.kind) {
            Some(Remediation::Allow) => return None,
            Some(Remediation::Ban) => Remediation::Ban,
            Some(Remediation::Captcha) if self.captcha => Remediation::Captcha,
            _ => self.fallback,
        };
        Some(self.mapped(source).unwrap_or(known))
    }

    /// Whether a decision asks for a captcha that cannot be shown, and the operator has not said what to do then.
    pub fn lacks_captcha(&self, source: &Source) -> bool {
        !self.captcha
            && source.kind.eq_ignore_ascii_case(Remediation::Captcha.as_str())
            && self.mapped(source).is_none()
    }

    /// What the operator's settings say of a decision: a key with its list or origin counts before one with its type alone.
    fn mapped(&self, source: &Source) -> Option<Remediation> {
        if self.mapped.is_empty() {
            return None;
        }
        let Source { origin, kind, .. } = source;
        let keys = [format!("{}/{kind}", source.named_origin()), format!("{origin}/{kind}"), kind.clone()];
        keys.iter().find_map(|key| self.mapped.get(&key.to_ascii_lowercase()).copied())
    }
}
