//! Whom to trust for RTMPS: the operating system's certificates, and a file for private ones.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::Error;

/// Reads the certificates anew for every connection, so that a replaced file works without a restart.
///
/// # Errors
/// [`Error::Tls`] when a certificate file cannot be read.
pub(crate) async fn client_config(extra: Option<PathBuf>) -> Result<Arc<ClientConfig>, Error> {
    tokio::task::spawn_blocking(move || build(extra.as_deref()))
        .await
        .map_err(|error| Error::Tls(error.to_string()))?
}

fn build(extra: Option<&Path>) -> Result<Arc<ClientConfig>, Error> {
    let tls = |error: &dyn std::fmt::Display| Error::Tls(error.to_string());
    let mut roots = RootCertStore::empty();
    // Some certificates of an operating system are often unusable; the others do.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = extra {
        for certificate in CertificateDer::pem_file_iter(path).map_err(|error| tls(&error))? {
            let certificate = certificate.map_err(|error| tls(&error))?;
            roots.add(certificate).map_err(|error| tls(&error))?;
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| tls(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
