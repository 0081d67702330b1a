//! Invitations into a channel: a link to the studio page with a token for this channel only.

use axum::Json as Body;
use axum::extract::State;
use axum::http::StatusCode;

use super::App;
use super::extract::{Caller, InChannel, Json};
use crate::auth::{Claims, Scope};
use crate::backend::Error;
use crate::clock;
use crate::problem::Problem;
use crate::types::{ChannelId, Invite, InviteRequest, Role, WallTime};

/// Invite somebody to broadcast in a channel.
///
/// The answer has a link to the studio page, with a token in it that is good for this channel, to publish in the given
/// role and to view. Needs the scope `control`. `409` when this server checks tokens but cannot make any, because it
/// has only a public key.
#[utoipa::path(post, path = "/api/v1/channels/{id}/invites", tag = "control", params(("id" = ChannelId, Path)),
    request_body = InviteRequest, responses((status = 201, body = Invite)))]
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    InChannel(channel): InChannel,
    Json(request): Json<InviteRequest>,
) -> Result<(StatusCode, Body<Invite>), Problem> {
    caller.may(&[Scope::Control], Some(&channel))?;
    let life_s = request.life_s().map_err(Error::from)?;
    app.backend.channel(&channel).await?;
    let role = request.role.unwrap_or(Role::Guest);
    let expires_s = clock::unix_now_s().saturating_add(life_s);
    let token = token(&app, &channel, role, &request, expires_s)?;
    let invite = Invite {
        url: link(&channel, role, &request, token.as_deref()),
        expires_at: token
            .is_some()
            .then(|| WallTime::from_unix_ms(expires_s.saturating_mul(1_000))),
        token,
    };
    Ok((StatusCode::CREATED, Body(invite)))
}

/// None when this server asks for no tokens.
fn token(
    app: &App,
    channel: &ChannelId,
    role: Role,
    request: &InviteRequest,
    expires_s: u64,
) -> Result<Option<String>, Error> {
    if app.config.verifier.is_none() {
        return Ok(None);
    }
    let Some(signer) = &app.config.signer else {
        let why =
            "this server has no secret to sign tokens with: make one where the private key is";
        return Err(Error::Conflict(why.to_owned()));
    };
    let claims = Claims {
        scope: vec![Scope::Publish, Scope::View],
        channel: Some(channel.clone()),
        participant: request.participant.clone(),
        role: Some(role),
        exp: Some(expires_s),
        sub: request.name.clone(),
        ..Claims::default()
    };
    let signed = signer.sign(&claims);
    signed
        .map(Some)
        .map_err(|error| Error::Internal(error.to_string()))
}

fn link(channel: &ChannelId, role: Role, request: &InviteRequest, token: Option<&str>) -> String {
    let role = match role {
        Role::Host => "host",
        Role::Guest => "guest",
    };
    let participant = request.participant.as_ref().map(AsRef::as_ref);
    let parameters = [
        ("role", Some(role)),
        ("participant", participant),
        ("name", request.name.as_deref()),
    ];
    let mut url = format!("/studio/{channel}");
    let given = parameters
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    for ((name, value), separator) in given.zip(std::iter::once('?').chain(std::iter::repeat('&')))
    {
        url.push(separator);
        url.push_str(name);
        url.push('=');
        encode(value, &mut url);
    }
    // Fragments are not sent to servers, so the token stays out of their logs.
    if let Some(token) = token {
        url.push_str("#token=");
        encode(token, &mut url);
    }
    url
}

/// Everything but the unreserved characters of RFC 3986 §2.3 is percent-encoded.
fn encode(text: &str, out: &mut String) {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F',
    ];
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or('0');
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.extend(['%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
}
