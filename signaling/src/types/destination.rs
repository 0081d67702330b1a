//! Destinations: the RTMP URLs that a program is pushed to.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Invalid, WallTime};

/// Most destinations of one channel.
pub const MAX_DESTINATIONS: usize = 16;
/// Longest URL, in bytes. Stream keys with signatures reach a few hundred.
const MAX_URL: usize = 1024;

/// An `rtmp://` or `rtmps://` URL with a host. Holds a stream key: [`redacted`](Self::redacted) is what may be shown.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, pattern = "^rtmps?://", example = "rtmps://live.example/app/key")]
pub struct DestinationUrl(String);

impl DestinationUrl {
    /// Parses a URL; the error names the field `url`.
    pub fn new(text: impl Into<String>) -> Result<Self, Invalid> {
        let text: String = text.into();
        let fail = |reason: &str| Err(Invalid::new("url", reason));
        if text.len() > MAX_URL {
            return fail("must be at most 1024 bytes long");
        }
        if text
            .bytes()
            .any(|b| b.is_ascii_whitespace() || b.is_ascii_control())
        {
            return fail("must not contain spaces or control characters");
        }
        let Some(rest) = text
            .strip_prefix("rtmp://")
            .or_else(|| text.strip_prefix("rtmps://"))
        else {
            return fail("must begin with rtmp:// or rtmps://");
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if !valid_authority(authority) {
            return fail("must have a host, and a port of 1 to 65535 if any");
        }
        if path.trim_matches('/').is_empty() {
            return fail("must have a path: the application and the stream key");
        }
        Ok(Self(text))
    }

    /// The whole URL, with its stream key.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The URL for people and logs: user, query and the last path segment (the stream key) are replaced by `***`.
    pub fn redacted(&self) -> String {
        let (scheme, rest) = self.0.split_once("://").unwrap_or(("rtmp", ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let host = authority
            .rsplit_once('@')
            .map_or(authority, |(_, host)| host);
        let path = path
            .split(['?', '#'])
            .next()
            .unwrap_or_default()
            .trim_end_matches('/');
        match path.rsplit_once('/') {
            Some((app, _key)) => format!("{scheme}://{host}/{app}/***"),
            None => format!("{scheme}://{host}/***"),
        }
    }
}

fn valid_authority(authority: &str) -> bool {
    let host_port = authority
        .rsplit_once('@')
        .map_or(authority, |(_, rest)| rest);
    // An IPv6 literal is in brackets, so the port is what follows the last colon outside of them.
    let (host, port) = match host_port
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
    {
        Some((v6, rest)) => match (v6.parse::<std::net::Ipv6Addr>(), rest.strip_prefix(':')) {
            (Ok(_), port) if port.is_some() || rest.is_empty() => (v6, port),
            _ => return false,
        },
        None => match host_port.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (host_port, None),
        },
    };
    let named = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':');
    !host.is_empty()
        && host.bytes().all(named)
        && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port != 0))
}

impl TryFrom<String> for DestinationUrl {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        Self::new(text)
    }
}

impl From<DestinationUrl> for String {
    fn from(url: DestinationUrl) -> String {
        url.0
    }
}

impl std::fmt::Debug for DestinationUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.redacted())
    }
}

/// A destination as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DestinationSpec {
    /// Where to push to.
    pub url: DestinationUrl,
    /// A name for people, unique in the channel; chosen by position (`destination-1`) when empty.
    #[serde(default)]
    #[schema(max_length = 64)]
    pub name: String,
}

impl DestinationSpec {
    /// Checks a whole set and fills in missing names; the error says which element is at fault (`[2].name`).
    pub fn validate_all(mut specs: Vec<Self>) -> Result<Vec<Self>, Invalid> {
        if specs.len() > MAX_DESTINATIONS {
            let reason = format!("at most {MAX_DESTINATIONS} destinations are allowed");
            return Err(Invalid::new("destinations", reason));
        }
        let mut names = std::collections::HashSet::new();
        for (at, spec) in specs.iter_mut().enumerate() {
            if spec.name.is_empty() {
                spec.name = format!("destination-{}", at + 1);
            }
            let printable = spec.name.chars().all(|c| !c.is_control());
            if spec.name.chars().count() > 64 || !printable {
                return Err(Invalid::new(
                    format!("[{at}].name"),
                    "must be at most 64 printable characters",
                ));
            }
            if !names.insert(spec.name.clone()) {
                return Err(Invalid::new(
                    format!("[{at}].name"),
                    "must be unique in the channel",
                ));
            }
        }
        Ok(specs)
    }
}

/// Where a destination is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DestinationState {
    /// Waiting for something to push.
    Idle,
    /// Connecting, handshaking, asking to publish.
    Connecting,
    /// Media flows.
    Live,
    /// Waiting for the next attempt; see `next_attempt_at`.
    Backoff,
    /// The server refused the stream key; tried again rarely. See `last_error`.
    Refused,
    /// Taken away; it is finishing.
    Stopped,
}

/// A destination as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Destination {
    /// Its name, unique in the channel.
    pub name: String,
    /// Its URL without credentials: the stream key is shown as `***`.
    #[schema(example = "rtmps://live.example/app/***")]
    pub url: String,
    /// Where it is in its life.
    pub state: DestinationState,
    /// Connection attempts since it was last live, the running one included.
    pub attempts: u32,
    /// Why the last attempt or connection ended.
    #[serde(default)]
    #[schema(required)]
    pub last_error: Option<String>,
    /// When it is tried again; only in backoff or refused.
    #[serde(default)]
    #[schema(required)]
    pub next_attempt_at: Option<WallTime>,
    /// Since when it is live.
    #[serde(default)]
    #[schema(required)]
    pub connected_at: Option<WallTime>,
    /// Bytes sent since it was added.
    pub bytes_sent: u64,
    /// Access units dropped because it was slow, since it was added.
    pub dropped_units: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn urls_are_rtmp_with_host_and_key() {
        for good in [
            "rtmp://a/b",
            "rtmps://live.example:443/app/key?sig=1",
            "rtmp://user:pass@10.0.0.1:1935/app/key",
            "rtmp://[::1]:1935/live/demo",
            "rtmp://[::1]/live/demo",
        ] {
            assert!(DestinationUrl::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "http://a/b",
            "rtmp://",
            "rtmp:///b",
            "rtmp://a",
            "rtmp://a/",
            "rtmp://a:0/b",
            "rtmp://a:99999/b",
            "rtmp://a b/c",
            "rtmp://[::1/b",
            "rtmp://[zz]/b",
            "rtmp://[::1]x/b",
            "RTMP://a/b",
            "rtmp://a/b\n",
        ] {
            assert_eq!(DestinationUrl::new(bad).unwrap_err().field, "url", "{bad}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let url = DestinationUrl::new("rtmps://me:pw@live.example:443/app/secret?sig=abc").unwrap();
        assert_eq!(url.redacted(), "rtmps://live.example:443/app/***");
        assert_eq!(format!("{url:?}"), "rtmps://live.example:443/app/***");
        assert_eq!(
            DestinationUrl::new("rtmp://a/secret/").unwrap().redacted(),
            "rtmp://a/***"
        );
    }

    #[test]
    fn names_are_filled_in_and_unique() {
        let spec = |name: &str| DestinationSpec {
            url: DestinationUrl::new("rtmp://a/b/c").unwrap(),
            name: name.into(),
        };
        let named = DestinationSpec::validate_all(vec![spec(""), spec("x")]).unwrap();
        assert_eq!(named.first().unwrap().name, "destination-1");
        let twice = DestinationSpec::validate_all(vec![spec("x"), spec("x")]).unwrap_err();
        assert_eq!(twice.field, "[1].name");
        let many = vec![spec(""); MAX_DESTINATIONS + 1];
        assert_eq!(
            DestinationSpec::validate_all(many).unwrap_err().field,
            "destinations"
        );
    }

    proptest! {
        #[test]
        fn parsing_is_total_and_redaction_hides_the_key(text in "rtmps?://[a-z0-9:@\\[\\]./?#-]{0,40}") {
            if let Ok(url) = DestinationUrl::new(text) {
                prop_assert!(url.redacted().ends_with("/***"));
                prop_assert!(!url.redacted().contains('?'));
                let shown = url.redacted();
                let authority = shown.split('/').nth(2).unwrap_or_default();
                prop_assert!(!authority.contains('@'));
            }
        }
    }
}
