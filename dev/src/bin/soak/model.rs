//! What does an address have to meet? The model of it, which knows every change and hears nothing of LAPI's answers.

use std::time::{Duration, Instant};

/// LAPI counts whole seconds, and we from when we heard of it.
pub const BLUR: Duration = Duration::from_secs(3);

/// What the model knows of one address.
#[derive(Clone)]
pub struct Address {
    pub name: String,
    pub banned: bool,
    /// When the latest ban of its ends by itself.
    pub until: Option<Instant>,
    pub changed: Instant,
    /// Whether the application is known to have heard of the last change. From then on it may not disagree.
    pub settled: bool,
    /// Whether that change came before the one before it had settled, or turned nothing. Then to meet what is right
    /// proves nothing: it may be what was right earlier.
    pub hasty: bool,
}

impl Address {
    /// One that was never banned.
    pub fn new(name: String) -> Self {
        Self { name, banned: false, until: None, changed: Instant::now(), settled: true, hasty: false }
    }

    /// What it has to meet; `None` in the moments around the end of a ban.
    pub fn is_banned(&mut self, now: Instant) -> Option<bool> {
        if let Some(until) = self.until {
            if now + BLUR < until {
                return Some(true);
            }
            if now < until + BLUR {
                return None;
            }
            self.change(false, None);
        }
        Some(self.banned)
    }

    pub fn turn(&mut self, banned: bool, until: Option<Instant>) {
        // A short ban on an address that is banned for long ends nothing.
        if banned && self.banned && self.until.is_none() {
            return;
        }
        let until = self.until.max(until).filter(|_| until.is_some());
        self.change(banned, until);
    }

    fn change(&mut self, banned: bool, until: Option<Instant>) {
        self.hasty = !self.settled || self.banned == banned;
        (self.banned, self.until, self.changed, self.settled) = (banned, until, Instant::now(), false);
    }
}
