//! Invitations: links that let somebody broadcast in one channel.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Invalid, ParticipantId, Role, WallTime};

/// Longest name, in characters.
const MAX_NAME: usize = 64;
/// How long an invitation is good when nothing else is asked for: a day.
const DEFAULT_S: u64 = 86_400;
/// The shortest and the longest life, in seconds: a minute and 31 days.
const LIFE_S: std::ops::RangeInclusive<u64> = 60..=31 * 86_400;

/// `POST …/invites`: whom to invite.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InviteRequest {
    /// As what; a guest when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// As whom; everybody with the link is somebody else when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub participant: Option<ParticipantId>,
    /// Whom it is for, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64)]
    pub name: Option<String>,
    /// How long it is good, in seconds; a day when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 60, maximum = 2_678_400)]
    pub expires_in_s: Option<u64>,
}

impl InviteRequest {
    /// How long the invitation is good, in seconds, once everything is found to be in order.
    ///
    /// # Errors
    /// Names the field at fault.
    pub fn life_s(&self) -> Result<u64, Invalid> {
        let printable = |name: &String| {
            (1..=MAX_NAME).contains(&name.chars().count()) && !name.chars().any(char::is_control)
        };
        if !self.name.as_ref().is_none_or(printable) {
            return Err(Invalid::new("name", "must be 1 to 64 printable characters"));
        }
        let life_s = self.expires_in_s.unwrap_or(DEFAULT_S);
        if !LIFE_S.contains(&life_s) {
            return Err(Invalid::new(
                "expires_in_s",
                "must be 60 to 2678400 (31 days)",
            ));
        }
        Ok(life_s)
    }
}

/// An invitation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Invite {
    /// The studio page to open, relative to this server; whoever has it may broadcast.
    #[schema(example = "/studio/demo?role=guest#token=eyJhbGciOi…")]
    pub url: String,
    /// The token in it, for other clients: good for this channel, to publish and to view. Absent when this server asks
    /// for no tokens.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub token: Option<String>,
    /// The end of the token.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires_at: Option<WallTime>,
}
