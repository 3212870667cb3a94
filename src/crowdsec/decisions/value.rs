//! Against whom does a decision stand? An address or network, a country, an autonomous system, or an account of the
//! application's own.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

/// What a decision stands against. LAPI hands values on as somebody typed them: here each has one spelling.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    Network(IpNet),
    Country(Country),
    /// The number of an autonomous system.
    As(u32),
    /// Behind a pointer, so that a `Value` stays small: a full answer may make a long list of them.
    Account(Arc<Account>),
}

/// A country by its two letters (ISO 3166), in upper case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Country([u8; 2]);

/// A scope of the owner's own, such as `username`, and its text. Only the application knows what they mean, so both are
/// compared letter by letter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Account {
    pub scope: String,
    pub text: String,
}

/// The most bytes that an account's text may have: an e-mail address has up to 254.
const LONGEST_ACCOUNT: usize = 256;

impl Value {
    /// Reads a value in any spelling that LAPI uses; `Err` says what is wrong with it. An empty text is never a value:
    /// CrowdSec's enricher writes one for a country that it does not know.
    pub fn read(scope: &str, text: &str) -> Result<Self, &'static str> {
        match known_scope(scope) {
            Some("country") => Country::read(text).map(Self::Country).ok_or("not a country of two letters"),
            Some("as") => system(text).map(Self::As).ok_or("not the number of an autonomous system"),
            Some(_) => network(text).map(Self::Network).ok_or("not an address or network"),
            None => Self::account(scope, text).ok_or("not a text of 1 to 256 bytes"),
        }
    }

    /// `None` for a text that no decision can stand against.
    pub fn account(scope: &str, text: &str) -> Option<Self> {
        let is_one = (1..=LONGEST_ACCOUNT).contains(&text.len());
        is_one.then(|| Self::Account(Arc::new(Account { scope: scope.to_owned(), text: text.to_owned() })))
    }
}

/// Reads an address or a network in any spelling into its canonical form: IPv4-mapped IPv6 is IPv4, host bits are
/// masked, a single address is a /32 or /128.
///
/// A network that is spelled as mapped and is wider than all of IPv4 (`::ffff:192.0.2.1/64`) has no clear meaning: refused.
pub fn network(text: &str) -> Option<IpNet> {
    let (address, prefix) = match text.trim().split_once('/') {
        Some((address, prefix)) => (address.parse::<IpAddr>().ok()?, Some(prefix.parse::<u8>().ok()?)),
        None => (text.trim().parse().ok()?, None),
    };
    let canonical = address.to_canonical();
    let Some(prefix) = prefix else { return Some(canonical.into()) };
    // The first 96 bits of a mapped address only say that it is mapped.
    let prefix = if canonical == address { prefix } else { prefix.checked_sub(96)? };
    Some(IpNet::new(canonical, prefix).ok()?.trunc())
}

/// The one address of a /32 or /128.
pub fn single(net: IpNet) -> Option<IpAddr> {
    (net.prefix_len() == net.max_prefix_len()).then(|| net.addr())
}

/// Writes the spelling that `Value::read` reads again.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(net) => net.fmt(f),
            Self::Country(country) => country.fmt(f),
            Self::As(number) => write!(f, "AS{number}"),
            Self::Account(account) => account.text.fmt(f),
        }
    }
}

impl Country {
    /// Reads two letters, in upper or lower case, with or without white space around them.
    pub fn read(text: &str) -> Option<Self> {
        let &[first, second] = text.trim().as_bytes() else { return None };
        let is_country = first.is_ascii_alphabetic() && second.is_ascii_alphabetic();
        is_country.then(|| Self([first.to_ascii_uppercase(), second.to_ascii_uppercase()]))
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|letter| write!(f, "{}", char::from(*letter)))
    }
}

/// Reads the number of an autonomous system: `64500`, `AS64500`, `as 64500`. There is no number 0.
pub fn system(text: &str) -> Option<u32> {
    let text = text.trim();
    let prefixed = text.get(..2).is_some_and(|prefix| prefix.eq_ignore_ascii_case("as"));
    let digits = if prefixed { text[2..].trim_start() } else { text };
    // `parse` alone would accept a plus sign.
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|number| is_number && *number > 0)
}

/// The scopes whose decisions are kept, with commas between them as in LAPI's query: CrowdSec's own in lower case, the
/// owner's as they were written.
#[derive(Clone, Debug, PartialEq)]
pub struct Scopes(pub String);

impl Default for Scopes {
    fn default() -> Self {
        Self("ip,range".into())
    }
}

impl Scopes {
    /// `None` if LAPI cannot be asked for these scopes: the list is empty, or a scope is empty, over 64 bytes, or has a
    /// comma, a line break, a quote or a bracket, as a list that was quoted twice has.
    pub fn new(words: &[String]) -> Option<Self> {
        let is_word =
            |word: &str| (1..=64).contains(&word.len()) && !word.contains([',', '\n', '\r', '"', '\'', '[', ']']);
        let words: Vec<&str> = words.iter().map(|word| known_scope(word).unwrap_or(word.trim())).collect();
        let are_words = !words.is_empty() && words.iter().all(|word| is_word(word));
        are_words.then(|| Self(words.join(",")))
    }

    /// Whether decisions of this scope are kept.
    pub fn have(&self, scope: &str) -> bool {
        let scope = known_scope(scope).unwrap_or(scope);
        self.0.split(',').any(|word| word == scope)
    }

    /// Whether this is a scope of the owner's own.
    pub fn have_account(&self, scope: &str) -> bool {
        known_scope(scope).is_none() && self.have(scope)
    }

    /// The scopes that are not about addresses, as in LAPI's query; `None` if there are none.
    pub fn others(&self) -> Option<String> {
        let others: Vec<&str> = self.0.split(',').filter(|word| !["ip", "range"].contains(word)).collect();
        (!others.is_empty()).then(|| others.join(","))
    }
}

/// One of CrowdSec's own scopes, which LAPI may write in any case; `None` for any other.
pub fn known_scope(scope: &str) -> Option<&'static str> {
    ["ip", "range", "country", "as"].into_iter().find(|known| scope.trim().eq_ignore_ascii_case(known))
}
