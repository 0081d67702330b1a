//! Who may do what: bearer tokens (JWT), their scopes and restrictions.
//!
//! The wall clock is passed in; this module decides and never reads it.

mod claims;
mod keys;
#[cfg(test)]
mod tests;

pub use claims::{Claims, Scope};
pub use keys::{KeyError, Keys, MIN_SECRET_BYTES, Signer, TokenError, Verifier};
