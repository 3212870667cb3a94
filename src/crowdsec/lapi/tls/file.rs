//! What is in the certificate and key files that the operator named? They are read and checked, and a message says what a
//! bad one is.

use std::sync::Arc;

use figment::value::magic::RelativePathBuf;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};

use super::roots;
use crate::crowdsec::setting::Reading;

/// A file that the operator named.
struct PemFile {
    setting: &'static str,
    path: String,
    bytes: Vec<u8>,
}

impl PemFile {
    fn read(reading: &mut Reading<'_>, setting: &'static str, path: &RelativePathBuf) -> Option<Self> {
        let bytes = reading.file(setting, path)?;
        Some(Self { setting, path: path.relative().display().to_string(), bytes })
    }

    /// Notes what is wrong with the file.
    fn checked<T>(&self, reading: &mut Reading<'_>, found: Result<T, String>) -> Option<T> {
        found.map_err(|what| reading.wrong(self.setting, &format!("{} {what}", self.path))).ok()
    }

    /// The certificates in the file. `Err` is a sentence that follows the file's name: what the file is instead, and the
    /// next command.
    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, String> {
        let (path, pem) = (&self.path, self.pem("x509")?);
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let certificates = certificates.map_err(|error| format!("is damaged ({error}): copy it again"))?;
        if certificates.is_empty() {
            return Err(match PrivateKeyDer::from_pem_slice(pem) {
                Ok(_) if self.setting == "ca_cert_path" => {
                    "holds a private key and no certificate: name the CA's".into()
                }
                Ok(_) => "holds a private key and no certificate: are `cert_path` and `key_path` swapped?".into(),
                Err(_) => format!(
                    "holds no certificate, which begins with -----BEGIN CERTIFICATE-----: `openssl x509 -in {path} -noout -text` \
                     shows what OpenSSL makes of it"
                ),
            });
        }
        Ok(certificates)
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, String> {
        let (path, pem) = (&self.path, self.pem("pkey")?);
        // "ENCRYPTED PRIVATE KEY", or "Proc-Type: 4,ENCRYPTED" in an older file.
        if pem.windows(9).any(|text| text == b"ENCRYPTED") {
            return Err(format!(
                "holds an encrypted key, and nobody is there to type its password: `openssl pkey -in {path} -out NEW` writes it \
                 without one; let nobody else read that file (chmod 600)"
            ));
        }
        PrivateKeyDer::from_pem_slice(pem).map_err(|error| match CertificateDer::from_pem_slice(pem) {
            Ok(_) => "holds a certificate and no private key: are `cert_path` and `key_path` swapped?".into(),
            Err(_) => {
                format!("holds no private key ({error}): `openssl pkey -in {path} -noout` says whether it is one")
            }
        })
    }

    /// The file's text, without the byte order mark that Windows puts before it.
    fn pem(&self, kind: &str) -> Result<&[u8], String> {
        let path = &self.path;
        match self.bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&self.bytes) {
            text if text.trim_ascii().is_empty() => Err("is empty: copy it again".into()),
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Err(format!(
                "is UTF-16, as Windows writes text: `iconv -f UTF-16 -t UTF-8 {path} > NEW` writes it as it is needed"
            )),
            // DER begins with a sequence, and in PKCS#12 that begins with the number 3.
            [0x30, _, _, _, 2, 1, 3, ..] => {
                Err(format!("is PKCS#12, not PEM: `openssl pkcs12 -in {path} -nodes -out NEW` takes it apart"))
            }
            // Text may begin with 0x30 too, the digit 0; but then neither a long length follows, nor a number as in a short
            // key.
            [0x30, 0x80..=0xff, ..] | [0x30, _, 2, 1, ..] => {
                Err(format!("is DER, not PEM: `openssl {kind} -inform der -in {path} -out NEW` writes it as PEM"))
            }
            text => Ok(text),
        }
    }
}

/// The CAs of `ca_cert_path`.
pub fn authorities(reading: &mut Reading<'_>, path: &RelativePathBuf) -> Option<Vec<CertificateDer<'static>>> {
    let file = PemFile::read(reading, "ca_cert_path", path)?;
    let certificates = file.checked(reading, file.certificates())?;
    let help = format!("see `openssl x509 -in {} -noout -text`", file.path);
    let readable =
        roots(&certificates).map_err(|error| format!("holds a certificate that cannot be read ({error}): {help}"));
    file.checked(reading, readable).map(|_| certificates)
}

/// The certificate and the key of `cert_path` and `key_path`.
pub fn identity(reading: &mut Reading<'_>, cert: &RelativePathBuf, key: &RelativePathBuf) -> Option<Arc<CertifiedKey>> {
    let (cert, key) = (PemFile::read(reading, "cert_path", cert)?, PemFile::read(reading, "key_path", key)?);
    let chain = cert.checked(reading, cert.certificates())?;
    let private = key.checked(reading, key.key())?;
    let pair = CertifiedKey::from_der(chain, private, &default_provider()).map(Arc::new);
    let file = if matches!(pair, Err(Error::InvalidCertificate(_))) { &cert } else { &key };
    let pair = pair.map_err(|error| match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => format!(
            "is not the key of the certificate in `cert_path`: `openssl pkey -in {} -pubout` and `openssl x509 -in {} \
             -noout -pubkey` print the same for a pair",
            key.path, cert.path
        ),
        Error::InvalidCertificate(error) => format!(
            "holds a certificate that cannot be used ({error}; UnsupportedCertVersion is one of X.509 version 1, made without \
             `-extfile`): see `openssl x509 -in {} -noout -text`",
            cert.path
        ),
        error => {
            format!("holds a key that cannot be used ({error}): use RSA from 2048 bits, ECDSA P-256 or P-384, or Ed25519")
        }
    });
    file.checked(reading, pair)
}
