//! Keys: making and checking tokens.
//!
//! Invariants: the algorithm belongs to the key, never to the token alone (a public key is not an HMAC secret);
//! a token of unreasonable size is not even decoded.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};

use super::Claims;

/// Shortest shared secret, in bytes (RFC 7518 section 3.2: at least the size of the hash).
pub const MIN_SECRET_BYTES: usize = 32;
/// Longest token, in bytes.
const MAX_TOKEN_BYTES: usize = 4096;

/// Why keys cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A shared secret that can be guessed.
    #[error(
        "the secret has {0} bytes, at least {MIN_SECRET_BYTES} are needed: make one with `openssl rand -hex 32`"
    )]
    ShortSecret(usize),
    /// Not a PEM or JWK Ed25519 key.
    #[error("the key is not an Ed25519 key in PEM or JWK form: {0}")]
    BadKey(String),
    /// Signing failed.
    #[error("the token cannot be signed: {0}")]
    Sign(String),
}

/// Why a token is not accepted. The text is for the peer and says nothing secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token, or signed by somebody else, or by an algorithm that has no key here.
    #[error("the token is not valid")]
    Invalid,
    /// `exp` is over.
    #[error("the token has expired")]
    Expired,
    /// `nbf` is ahead.
    #[error("the token is not valid yet")]
    NotYet,
    /// `iss` or `aud` is not the configured one.
    #[error("the token was made by or for another service")]
    OtherService,
}

/// Which tokens are accepted.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// Shared secret of HS256 tokens.
    pub secret: Option<String>,
    /// Public key of EdDSA tokens: PEM or JWK text.
    pub public_key: Option<String>,
    /// The only issuer accepted.
    pub issuer: Option<String>,
    /// The audience that must be named.
    pub audience: Option<String>,
    /// Tolerance for clocks that differ, in seconds.
    pub leeway_s: u64,
}

/// Checks tokens.
pub struct Verifier {
    keys: Vec<(DecodingKey, Validation)>,
    leeway_s: u64,
}

impl Verifier {
    /// Prepares the keys; `None` when there is none, which means that authorisation is off.
    pub fn new(keys: &Keys) -> Result<Option<Self>, KeyError> {
        let mut prepared = Vec::new();
        if let Some(secret) = &keys.secret {
            if secret.len() < MIN_SECRET_BYTES {
                return Err(KeyError::ShortSecret(secret.len()));
            }
            let key = DecodingKey::from_secret(secret.as_bytes());
            prepared.push((key, validation(Algorithm::HS256, keys)));
        }
        if let Some(text) = &keys.public_key {
            prepared.push((public_key(text)?, validation(Algorithm::EdDSA, keys)));
        }
        let leeway_s = keys.leeway_s;
        let verifier = Self {
            keys: prepared,
            leeway_s,
        };
        Ok((!verifier.keys.is_empty()).then_some(verifier))
    }

    /// What `token` says, if it is good at `now_s` (seconds since the Unix epoch).
    pub fn verify(&self, token: &str, now_s: u64) -> Result<Claims, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Invalid);
        }
        let claims = self.decode(token)?;
        if claims
            .exp
            .is_some_and(|exp| now_s >= exp.saturating_add(self.leeway_s))
        {
            return Err(TokenError::Expired);
        }
        if claims
            .nbf
            .is_some_and(|nbf| now_s.saturating_add(self.leeway_s) < nbf)
        {
            return Err(TokenError::NotYet);
        }
        Ok(claims)
    }

    fn decode(&self, token: &str) -> Result<Claims, TokenError> {
        use jsonwebtoken::errors::ErrorKind;
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Invalid)?;
        let fits = |(_, rules): &&(DecodingKey, Validation)| rules.algorithms.contains(&header.alg);
        let (key, rules) = self.keys.iter().find(fits).ok_or(TokenError::Invalid)?;
        let decoded = jsonwebtoken::decode::<Claims>(token, key, rules);
        let other_service = |kind: &ErrorKind| {
            matches!(
                kind,
                ErrorKind::InvalidIssuer
                    | ErrorKind::InvalidAudience
                    | ErrorKind::MissingRequiredClaim(_)
            )
        };
        match decoded {
            Ok(data) => Ok(data.claims),
            Err(error) if other_service(error.kind()) => Err(TokenError::OtherService),
            // The peer is not told which check failed.
            Err(_) => Err(TokenError::Invalid),
        }
    }
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier")
            .field("keys", &self.keys.len())
            .finish_non_exhaustive()
    }
}

/// Times are checked by [`Verifier::verify`] with the clock that is passed in.
fn validation(algorithm: Algorithm, keys: &Keys) -> Validation {
    let mut rules = Validation::new(algorithm);
    rules.validate_exp = false;
    rules.validate_nbf = false;
    rules.required_spec_claims.clear();
    rules.validate_aud = keys.audience.is_some();
    if let Some(issuer) = &keys.issuer {
        rules.set_issuer(&[issuer]);
        rules.required_spec_claims.insert("iss".to_owned());
    }
    if let Some(audience) = &keys.audience {
        rules.set_audience(&[audience]);
        rules.required_spec_claims.insert("aud".to_owned());
    }
    rules
}

fn public_key(text: &str) -> Result<DecodingKey, KeyError> {
    let bad = |why: String| KeyError::BadKey(why);
    if text.trim_start().starts_with('{') {
        let jwk: jsonwebtoken::jwk::Jwk =
            serde_json::from_str(text).map_err(|e| bad(e.to_string()))?;
        let octet_pair = matches!(
            jwk.algorithm,
            jsonwebtoken::jwk::AlgorithmParameters::OctetKeyPair(_)
        );
        if !octet_pair {
            return Err(bad("its kty is not OKP".to_owned()));
        }
        return DecodingKey::from_jwk(&jwk).map_err(|e| bad(e.to_string()));
    }
    DecodingKey::from_ed_pem(text.as_bytes()).map_err(|e| bad(e.to_string()))
}

/// Makes tokens.
pub struct Signer {
    key: EncodingKey,
    algorithm: Algorithm,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer")
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

impl Signer {
    /// With a shared secret (HS256).
    pub fn secret(secret: &str) -> Result<Self, KeyError> {
        if secret.len() < MIN_SECRET_BYTES {
            return Err(KeyError::ShortSecret(secret.len()));
        }
        Ok(Self {
            key: EncodingKey::from_secret(secret.as_bytes()),
            algorithm: Algorithm::HS256,
        })
    }

    /// With an Ed25519 private key in PKCS #8 PEM form (EdDSA).
    pub fn private_key(pem: &str) -> Result<Self, KeyError> {
        let key = EncodingKey::from_ed_pem(pem.as_bytes());
        Ok(Self {
            key: key.map_err(|e| KeyError::BadKey(e.to_string()))?,
            algorithm: Algorithm::EdDSA,
        })
    }

    /// The token that says `claims`.
    pub fn sign(&self, claims: &Claims) -> Result<String, KeyError> {
        let token = jsonwebtoken::encode(&Header::new(self.algorithm), claims, &self.key);
        token.map_err(|e| KeyError::Sign(e.to_string()))
    }
}
