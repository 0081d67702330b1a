//! The STUN and TURN servers that clients are told of, with credentials for the latter.
//!
//! Either one user and password for everybody, or, where node and TURN server share a secret, a user that ends: its name is
//! the second in which it does (and for whom it is), its password the HMAC-SHA1 of that name, in base64
//! (draft-uberti-behave-turn-rest section 2.2; `use-auth-secret` of coturn). The server computes the same and keeps nothing.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use signaling::backend::IceServer;

use crate::config::WebRtc;

const MS_PER_S: u64 = 1_000;

/// The servers for a client, whose `name` appears in what the TURN server logs; `now_ms` is wall time.
#[must_use]
pub fn ice_servers(config: &WebRtc, name: &str, now_ms: u64) -> Vec<IceServer> {
    let urls = config.ice_servers.iter();
    urls.map(|url| IceServer {
        url: url.clone(),
        credentials: is_turn(url).then(|| credentials(config, name, now_ms)),
    })
    .collect()
}

fn credentials(config: &WebRtc, name: &str, now_ms: u64) -> (String, String) {
    if config.turn_secret.is_empty() {
        return (
            config.turn_username.clone(),
            config.turn_credential.reveal().to_owned(),
        );
    }
    let ends_s = (now_ms / MS_PER_S).saturating_add(config.turn_lifetime_s);
    let username = format!("{ends_s}:{name}");
    let key = hmac::Key::new(
        hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        config.turn_secret.reveal().as_bytes(),
    );
    let tag = hmac::sign(&key, username.as_bytes());
    (username, BASE64_STANDARD.encode(tag))
}

fn is_turn(url: &str) -> bool {
    url.starts_with("turn:") || url.starts_with("turns:")
}

/// Says what is wrong with these settings: the key and why.
pub(crate) fn validate(config: &WebRtc) -> Result<(), (&'static str, String)> {
    let is_stun = |url: &str| url.starts_with("stun:") || url.starts_with("stuns:");
    let urls = &config.ice_servers;
    if let Some(url) = urls.iter().find(|url| !is_turn(url) && !is_stun(url)) {
        let problem = format!("{url:?} starts with none of stun:, stuns:, turn: and turns:");
        return Err(("webrtc.ice_servers", problem));
    }
    let has_user = !config.turn_username.is_empty() && !config.turn_credential.is_empty();
    let has_secret = !config.turn_secret.is_empty();
    if has_user && has_secret {
        let problem = "there are turn_username and turn_credential too: it is one or the other";
        return Err(("webrtc.turn_secret", problem.into()));
    }
    if !has_user && !has_secret && urls.iter().any(|url| is_turn(url)) {
        let problem = "browsers refuse a TURN server without credentials: set webrtc.turn_secret (ANCHORNET_TURN_SECRET), \
                       or webrtc.turn_username and webrtc.turn_credential (ANCHORNET_TURN_CREDENTIAL)";
        return Err(("webrtc.ice_servers", problem.into()));
    }
    if config.turn_lifetime_s == 0 {
        return Err((
            "webrtc.turn_lifetime_s",
            "it must be greater than zero".into(),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> WebRtc {
        WebRtc {
            ice_servers: vec!["stun:stun.example".into(), "turn:turn.example:3478".into()],
            ..WebRtc::default()
        }
    }

    #[test]
    fn a_user_ends_and_its_password_is_what_the_server_computes() {
        let config = WebRtc {
            turn_secret: "north".into(),
            turn_lifetime_s: 600,
            ..config()
        };
        let servers = ice_servers(&config, "ann", 1_433_894_400_999);
        assert_eq!(servers[0].credentials, None);
        // printf 1433895000:ann | openssl dgst -sha1 -hmac north -binary | base64
        let (name, password) = ("1433895000:ann", "rOSDbEhX75cHDENL+4NmBHftRLw=");
        assert_eq!(servers[1].credentials, Some((name.into(), password.into())));
    }

    #[test]
    fn a_fixed_user_is_handed_on() {
        let config = WebRtc {
            turn_username: "ann".into(),
            turn_credential: "secret".into(),
            ..config()
        };
        let servers = ice_servers(&config, "p1", 0);
        assert_eq!(
            servers[1].credentials,
            Some(("ann".into(), "secret".into()))
        );
        assert_eq!(validate(&config), Ok(()));
    }

    #[test]
    fn what_no_browser_would_take_is_refused() {
        let refused = |config: WebRtc| validate(&config).map_err(|(key, _)| key);
        assert_eq!(refused(WebRtc::default()), Ok(()));
        assert_eq!(refused(config()), Err("webrtc.ice_servers"));
        let mut both = config();
        both.turn_secret = "north".into();
        both.turn_username = "ann".into();
        assert_eq!(refused(both.clone()), Ok(()), "half a user is none");
        both.turn_credential = "secret".into();
        assert_eq!(refused(both), Err("webrtc.turn_secret"));
        let mut other = config();
        other.ice_servers = vec!["https://turn.example".into()];
        assert_eq!(refused(other), Err("webrtc.ice_servers"));
    }
}
