//! Does anything stand against an account of the application's own?

use rocket::Request;
use rocket::http::Status;
use rocket::request::Outcome;
use rocket::response::{self, Responder};

use super::DecisionView;
use crate::crowdsec::bouncer::{Bouncer, Verdict, Visit};
use crate::crowdsec::decisions::Value;

/// Asks for decisions on scopes of the owner's own: `cscli decisions add --scope username --value alice`. A scope has to be
/// listed in `scopes`; its name and its values are compared letter by letter.
///
/// ```text
/// #[post("/sign-in", data = "<form>")]
/// fn sign_in(_own: SameOrigin, form: Form<SignIn>, accounts: Accounts<'_>) -> Result<Redirect, Refused> {
///     accounts.admit("username", &form.user)?;
///     …
/// }
/// ```
pub struct Accounts<'r> {
    bouncer: &'r Bouncer,
    visit: &'r Visit,
    /// Whether the visitor has solved a captcha lately.
    has_solved: bool,
}

impl<'r> Accounts<'r> {
    pub(super) fn of(bouncer: &'r Bouncer, request: &'r Request<'_>) -> Outcome<Self, ()> {
        let visit = bouncer.visit(request);
        let has_solved = bouncer.solved_at(request, visit.judgement.address).is_some();
        Outcome::Success(Self { bouncer, visit, has_solved })
    }

    /// The greatest decision that stands against an account, enforced or not. Refuses nobody.
    pub fn standing(&self, scope: &str, account: &str) -> Option<DecisionView> {
        self.decisions(scope, account).into_iter().next()
    }

    /// Every decision that stands against an account, the greatest first. Refuses nobody.
    pub fn decisions(&self, scope: &str, account: &str) -> Vec<DecisionView> {
        let Some(value) = self.value(scope, account) else { return Vec::new() };
        self.bouncer.decisions.on(&value, self.bouncer.now()).iter().map(DecisionView::from).collect()
    }

    /// Lets an account in, or gives the refusal of its visitor: with `?` the handler ends, and the visitor meets the same pages
    /// as everybody else. The operator's own `allow` outweighs a decision on an account, too.
    pub fn admit(&self, scope: &str, account: &str) -> Result<(), Refused> {
        let Some(value) = self.value(scope, account) else { return Ok(()) };
        let (bouncer, visit) = (self.bouncer, self.visit);
        let judgement = bouncer.judge_account(&visit.judgement, &value, self.has_solved);
        if judgement.verdict == Verdict::Admit {
            judgement.trial.iter().for_each(|trial| bouncer.note_trial(visit, judgement.with(*trial)));
            return Ok(());
        }
        Err(Refused(visit.refuse_by_guard(bouncer, judgement, false)))
    }

    /// Fails open: nothing is known about a scope that LAPI is not asked for, or about a text that no decision can have.
    fn value(&self, scope: &str, account: &str) -> Option<Value> {
        let is_listed = self.bouncer.lapi.scopes.have_account(scope);
        if !is_listed {
            self.bouncer.refusal_lines.unlisted(scope);
        }
        Value::account(scope, account).filter(|_| is_listed)
    }
}

/// A refusal that a handler returns. A guard of yours returns its status. The page is the bouncer's.
#[derive(Debug)]
pub struct Refused(pub Status);

impl<'r> Responder<'r, 'static> for Refused {
    /// Our fairing puts the page in the place of the catcher's.
    fn respond_to(self, _: &'r Request<'_>) -> response::Result<'static> {
        Err(self.0)
    }
}
