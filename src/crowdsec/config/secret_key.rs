//! Where does the `secret_key` come from that encrypts Rocket's cookies? From a file too, as Docker and systemd hand it over.

use std::fs;

use figment::Figment;
use figment::value::magic::RelativePathBuf;
use rocket::config::SecretKey;

use crate::crowdsec::setting::Reading;

/// Set when the file with Rocket's `secret_key` has been read: a pipe, as `<(…)` in a shell, can be read only once.
pub const SECRET_IS_READ: &str = "crowdsec_secret_is_read";

/// Copies Rocket's `secret_key` from its file to the key that Rocket reads. What is wrong with the file is reported
/// when the settings are read.
pub fn with_secret_of_file(figment: Figment) -> Figment {
    let file: Option<RelativePathBuf> = figment.extract_inner("crowdsec.rocket_secret_key_file").ok();
    let text = file.and_then(|file| fs::read_to_string(file.relative()).ok()).unwrap_or_default();
    match is_secret_key(text.trim()) && !has_secret_key(&figment) {
        true => figment.merge(("secret_key", text.trim())).merge((SECRET_IS_READ, true)),
        false => figment,
    }
}

/// Whether Rocket can use this text as its key: 256 bits as base64 or hexadecimal.
fn is_secret_key(text: &str) -> bool {
    has_secret_key(&Figment::from(("secret_key", text)))
}

/// Rocket's default is a key of zeros, which counts as none.
fn has_secret_key(figment: &Figment) -> bool {
    figment.extract_inner::<SecretKey>("secret_key").is_ok_and(|key| key.is_provided())
}

/// Says why the file with Rocket's `secret_key` is of no use.
pub fn secret_of_file(reading: &mut Reading<'_>, file: &RelativePathBuf) {
    const KEY: &str = "rocket_secret_key_file";
    if reading.figment.contains(SECRET_IS_READ) {
        return;
    }
    let Some(bytes) = reading.file(KEY, file) else { return };
    let text = String::from_utf8_lossy(&bytes);
    if !is_secret_key(text.trim()) {
        reading.wrong(KEY, "the file holds no secret key: write what `openssl rand -base64 32` prints into it");
    } else if reading.shared_secret().is_none_or(|set| set.0 != text.trim()) {
        reading.wrong(KEY, "`secret_key` and this file are both set, and differ: take one away");
    }
}

/// Reports that the key is missing. Only the debug profile goes on, with a key that Rocket makes up.
pub fn no_secret(reading: &mut Reading<'_>) {
    let is_missing = reading.figment.extract_inner::<SecretKey>("secret_key").is_ok_and(|key| !key.is_provided());
    if is_missing && !reading.debug {
        reading.problems.push(
            "`secret_key` is missing, which encrypts the cookies: set `secret_key` (ROCKET_SECRET_KEY, unless your application reads its variables by another prefix) to what `openssl rand -base64 32` prints, or CROWDSEC_ROCKET_SECRET_KEY_FILE to a file with it".into(),
        );
    }
}
