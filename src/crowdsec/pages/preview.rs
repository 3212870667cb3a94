//! What do the pages look like? For whoever edits them.

use rocket::get;
use rocket::http::Status;

use super::refusal::{Kind, Refusal};

/// The pages for whoever edits them; a reload shows the change. Only in the debug profile.
#[get("/preview/ban")]
pub fn preview_ban() -> Refusal {
    Refusal { preview: true, ..Refusal::new(Status::Ok, Kind::Ban) }
}

#[get("/preview/captcha")]
pub fn preview_captcha() -> Refusal {
    Refusal { preview: true, ..Refusal::new(Status::Ok, Kind::Captcha) }
}
