//! Identifiers that appear in URLs: channels, participants, sessions.
//!
//! One alphabet for all of them, safe in paths, stream keys, Redis keys, file names and log fields:
//! 1 to 64 of `A-Z a-z 0-9 _ -`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Longest identifier, in bytes.
const MAX_LENGTH: usize = 64;

/// Why a value of the API was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Invalid {
    /// The field or parameter at fault, as it is named in the API.
    pub field: String,
    /// What is wrong with it, for a person to read.
    pub reason: String,
}

impl Invalid {
    /// An error at `field` because of `reason`.
    pub fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            reason: reason.into(),
        }
    }
}

fn parse(field: &str, text: String) -> Result<String, Invalid> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if text.is_empty() || text.len() > MAX_LENGTH || !text.bytes().all(allowed) {
        return Err(Invalid::new(
            field,
            "must be 1 to 64 characters of A-Z, a-z, 0-9, '_' and '-'",
        ));
    }
    Ok(text)
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $field:literal, $example:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schema(value_type = String, pattern = "^[A-Za-z0-9_-]{1,64}$", example = $example)]
        pub struct $name(String);

        impl $name {
            /// Parses an identifier; the error names the field that is at fault.
            pub fn new(text: impl Into<String>) -> Result<Self, Invalid> {
                parse($field, text.into()).map(Self)
            }

            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = Invalid;
            fn try_from(text: String) -> Result<Self, Invalid> {
                Self::new(text)
            }
        }

        impl std::str::FromStr for $name {
            type Err = Invalid;
            fn from_str(text: &str) -> Result<Self, Invalid> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

identifier!(
    /// One live show. Also the stream key at the origin and part of playback URLs.
    ChannelId,
    "channel",
    "demo"
);
identifier!(
    /// One broadcaster of a channel.
    ParticipantId,
    "participant",
    "alice"
);
identifier!(
    /// One WHIP or WHEP session. Unguessable: knowing it is part of being allowed to change it.
    SessionId,
    "session",
    "5b0c8d0e4c7f4a7b9d0b1f5e3a2c1d00"
);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_alphabet_is_the_published_one() {
        assert!(ChannelId::new("a-Z_9").is_ok());
        assert!(ChannelId::new("x".repeat(64)).is_ok());
        for bad in ["", "a b", "a/b", "ä", "a.b", "a\0", &"x".repeat(65)] {
            let error = ChannelId::new(bad).unwrap_err();
            assert_eq!(error.field, "channel", "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_parses_is_kept_verbatim(text in ".{0,80}") {
            if let Ok(id) = ParticipantId::new(text.clone()) {
                prop_assert_eq!(id.as_str(), text.as_str());
                prop_assert!(text.len() <= 64 && text.is_ascii());
            }
        }
    }
}
