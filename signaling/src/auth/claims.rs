//! What a token says, and what follows from it.

use serde::{Deserialize, Serialize};

use crate::types::{ChannelId, ParticipantId, Role};

/// What a token is good for. `admin` includes everything; `control` includes `view`; `publish` stands alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Broadcast: WHIP, RTMP publish, and WHEP of the other participants.
    Publish,
    /// Watch: WHEP of the program, playback, reading channels and statistics.
    View,
    /// Run a channel: mode, layout, participants, destinations.
    Control,
    /// Everything: create and delete channels, nodes, metrics.
    Admin,
}

impl Scope {
    fn includes(self, wanted: Self) -> bool {
        match self {
            Self::Admin => true,
            Self::Control => matches!(wanted, Self::Control | Self::View),
            Self::Publish | Self::View => self == wanted,
        }
    }
}

/// The payload of a token. Absent restrictions allow everything that the scopes allow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Scopes, as a list or as one space-separated string (RFC 8693 section 4.2).
    #[serde(default, alias = "scopes", deserialize_with = "scopes")]
    pub scope: Vec<Scope>,
    /// The only channel that it is good for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<ChannelId>,
    /// The only participant that it may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub participant: Option<ParticipantId>,
    /// The only role that it may publish as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// End of life, seconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exp: Option<u64>,
    /// Not good before, seconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<u64>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// For which service it was made. Not read back: only checked when the service has a name.
    #[serde(default, skip_serializing_if = "Option::is_none", skip_deserializing)]
    pub aud: Option<String>,
    /// Whom it is for, for logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
}

impl Claims {
    /// Whether one of `scopes` is granted, for `channel` if one is concerned. The error says what is missing.
    pub fn may(&self, scopes: &[Scope], channel: Option<&ChannelId>) -> Result<(), String> {
        let granted = |wanted: &Scope| self.scope.iter().any(|have| have.includes(*wanted));
        if !scopes.iter().any(granted) {
            return Err(format!("the token lacks the scope {}", names(scopes)));
        }
        match (&self.channel, channel) {
            (Some(only), Some(channel)) if only != channel => {
                Err(format!("the token is for the channel {only} only"))
            }
            (Some(only), None) => Err(format!(
                "the token is for the channel {only} only, this concerns all"
            )),
            (Some(_) | None, _) => Ok(()),
        }
    }
}

fn names(scopes: &[Scope]) -> String {
    let name = |scope: &Scope| match scope {
        Scope::Publish => "publish",
        Scope::View => "view",
        Scope::Control => "control",
        Scope::Admin => "admin",
    };
    scopes.iter().map(name).collect::<Vec<_>>().join(" or ")
}

fn scopes<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<Scope>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        List(Vec<String>),
        Text(String),
    }
    let names = match Form::deserialize(from)? {
        Form::List(names) => names,
        Form::Text(text) => text.split_whitespace().map(str::to_owned).collect(),
    };
    // Scopes of other systems may stand in the same token: they mean nothing here.
    let known = |name: String| serde_json::from_value(serde_json::Value::String(name)).ok();
    Ok(names.into_iter().filter_map(known).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inclusion_matrix() {
        use Scope::*;
        let all = [Publish, View, Control, Admin];
        let expected = [
            (Publish, [true, false, false, false]),
            (View, [false, true, false, false]),
            (Control, [false, true, true, false]),
            (Admin, [true, true, true, true]),
        ];
        for (have, row) in expected {
            let claims = Claims {
                scope: vec![have],
                ..Claims::default()
            };
            for (wanted, allowed) in all.iter().zip(row) {
                assert_eq!(
                    claims.may(&[*wanted], None).is_ok(),
                    allowed,
                    "{have:?} for {wanted:?}"
                );
            }
        }
        assert!(Claims::default().may(&all, None).is_err());
    }

    #[test]
    fn a_channel_restriction_excludes_others_and_all() {
        let only = ChannelId::new("a").unwrap();
        let claims = Claims {
            scope: vec![Scope::Admin],
            channel: Some(only.clone()),
            ..Claims::default()
        };
        assert!(claims.may(&[Scope::Control], Some(&only)).is_ok());
        assert!(
            claims
                .may(&[Scope::Control], Some(&ChannelId::new("b").unwrap()))
                .is_err()
        );
        assert!(claims.may(&[Scope::Admin], None).is_err());
    }

    #[test]
    fn scopes_are_a_list_or_text_and_foreign_ones_are_ignored() {
        let read = |json| serde_json::from_value::<Claims>(json).unwrap().scope;
        let both = vec![Scope::Publish, Scope::View];
        assert_eq!(
            read(serde_json::json!({"scope": "publish mail view"})),
            both
        );
        assert_eq!(
            read(serde_json::json!({"scope": ["publish", "view"]})),
            both
        );
        assert_eq!(
            read(serde_json::json!({"scopes": ["publish", "view"]})),
            both
        );
        assert!(read(serde_json::json!({})).is_empty());
    }
}
