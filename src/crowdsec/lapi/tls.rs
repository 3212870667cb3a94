//! How do LAPI and we prove to each other who we are? By certificates: ours, and those that the operator trusts.

mod file;
mod handshake;

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_platform_verifier::BuilderVerifierExt;

pub use file::{authorities, identity};

/// TLS towards LAPI or AppSec, `ca` being the CAs that the operator named, and `certificate` our own.
pub fn client(
    is_https: bool,
    ca: Option<&[CertificateDer<'static>]>,
    certificate: Option<Arc<CertifiedKey>>,
) -> Result<ClientConfig, Error> {
    let provider = Arc::new(default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let config = match ca {
        // Plain HTTP needs no CA, and a machine without any must not fail for that.
        _ if !is_https => config.with_root_certificates(RootCertStore::empty()),
        None => config.with_platform_verifier()?,
        Some(ca) => {
            let inner = WebPkiServerVerifier::builder_with_provider(roots(ca)?.into(), provider).build();
            let inner = inner.map_err(|error| Error::General(error.to_string()))?;
            config.dangerous().with_custom_certificate_verifier(Arc::new(Named { inner, named: ca.to_vec() }))
        }
    };
    Ok(match certificate {
        Some(certificate) => config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certificate))),
        None => config.with_no_client_auth(),
    })
}

fn roots(ca: &[CertificateDer<'static>]) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    ca.iter().try_for_each(|certificate| roots.add(certificate.clone()))?;
    Ok(roots)
}

/// Trusts the CAs in `ca_cert_path`, and LAPI's own certificate if it is listed there: `openssl req -x509` makes a
/// certificate that is its own CA, which the rules of the web forbid a server to show. CrowdSec's own bouncers, written in
/// Go, trust it too.
#[derive(Debug)]
struct Named {
    inner: Arc<WebPkiServerVerifier>,
    named: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let result = self.inner.verify_server_cert(certificate, intermediates, name, ocsp, now);
        let Err(Error::InvalidCertificate(error)) = &result else { return result };
        // The certificate's dates are checked before these three errors arise, its names are checked here, and the
        // handshake proves that LAPI has its key. The operator said that it is LAPI's. Everything else fails closed.
        let of_issuer =
            is_ca(error) || matches!(error, CertificateError::UnknownIssuer | CertificateError::BadSignature);
        if !of_issuer || !self.named.contains(certificate) {
            return result;
        }
        verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// rustls passes some of webpki's errors on as they are: only their names tell them apart.
fn is_ca(error: &CertificateError) -> bool {
    matches!(error, CertificateError::Other(other) if other.to_string() == "CaUsedAsEndEntity")
}
