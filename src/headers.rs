//! What may browsers do with your pages? The security headers of every answer.
//!
//! They allow only what your pages need. The bouncer's own pages bring stricter ones, which stay as they are.
//! `Strict-Transport-Security` is missing on purpose: it belongs to whoever ends TLS, which is the proxy in front. It binds the
//! whole host for months, and nobody can take it back from a browser.

use rocket::fairing::{AdHoc, Fairing};
use rocket::http::Header;
use rocket::shield::{Feature, Permission, Shield};

/// Rocket's own headers: browsers guess no content types, and no other site frames a page. No page here asks for a camera or
/// the like, so no script that gets into a page may either.
pub fn shield() -> Shield {
    let none = Permission::blocked(Feature::Camera).block(Feature::Microphone).block(Feature::Geolocation);
    Shield::default().enable(none.block(Feature::Payment).block(Feature::Usb))
}

const POLICIES: [(&str, &str); 2] = [
    // Everything comes from this site, and nothing stands inline: a script that gets into a page as text does not run.
    // To load something from elsewhere, name its place here (`script-src 'self' https://cdn.example`).
    (
        "Content-Security-Policy",
        "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'",
    ),
    // Other sites learn that a visitor comes from here, and not from which page.
    ("Referrer-Policy", "strict-origin-when-cross-origin"),
];

/// Shield would set these too, but it warns in the log at each answer that already has one.
pub fn policies() -> impl Fairing {
    AdHoc::on_response("Security headers", |_, response| {
        Box::pin(async move {
            for (name, value) in POLICIES {
                if !response.headers().contains(name) {
                    response.set_header(Header::new(name, value));
                }
            }
        })
    })
}
