//! From requests to checked values. Everything that fails here fails as a problem.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::body::Body;
use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, Query, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use bytes::BytesMut;
use futures_util::StreamExt;
use serde::de::DeserializeOwned;

use super::App;
use crate::auth::{Claims, Scope};
use crate::backend::{Direction, Error, SessionRef};
use crate::clock;
use crate::problem::Problem;
use crate::types::{
    ChannelId, Invalid, PageRequest, ParticipantId, PicturePlace, SessionId, Upload,
};

/// The token of `Authorization: Bearer`.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(token.trim())
}

/// The token of `?token=`, for players that cannot set headers. Tokens need no percent-encoding.
pub(super) fn query_token(uri: &Uri) -> Option<&str> {
    let pairs = uri.query()?.split('&');
    pairs
        .filter_map(|pair| pair.strip_prefix("token="))
        .find(|token| !token.is_empty())
}

/// Who asks, with a token that was checked if tokens are asked for at all.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// `None` when authorisation is off.
    pub(super) claims: Option<Claims>,
    /// The token came in the query: URLs made for this caller must carry it on.
    pub(super) query_token: Option<String>,
    pub(super) remote_ip: IpAddr,
}

impl Caller {
    /// Fails unless one of `scopes` is granted, for `channel` if one is concerned.
    pub(super) fn may(&self, scopes: &[Scope], channel: Option<&ChannelId>) -> Result<(), Problem> {
        match &self.claims {
            Some(claims) => claims
                .may(scopes, channel)
                .map_err(|why| Error::Forbidden(why).into()),
            None => Ok(()),
        }
    }
}

impl FromRequestParts<App> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let in_query = query_token(&parts.uri);
        let claims = match &app.config.verifier {
            None => None,
            Some(verifier) => {
                let missing = || Error::Unauthorized("a bearer token is needed".to_owned());
                let token = bearer(&parts.headers).or(in_query).ok_or_else(missing)?;
                let checked = verifier.verify(token, clock::unix_now_s());
                Some(checked.map_err(|error| Error::Unauthorized(error.to_string()))?)
            }
        };
        Ok(Self {
            claims,
            query_token: in_query
                .filter(|_| bearer(&parts.headers).is_none())
                .map(str::to_owned),
            remote_ip: remote_ip(parts, app.config.trust_forwarded_for),
        })
    }
}

/// The peer, or the one that the nearest proxy saw.
fn remote_ip(parts: &Parts, trust_forwarded_for: bool) -> IpAddr {
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    let peer = peer.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |info| info.0.ip());
    let forwarded = || {
        let last = parts
            .headers
            .get_all("x-forwarded-for")
            .iter()
            .next_back()?;
        last.to_str().ok()?.rsplit(',').next()?.trim().parse().ok()
    };
    if trust_forwarded_for {
        forwarded().unwrap_or(peer)
    } else {
        peer
    }
}

async fn path_param(parts: &mut Parts, app: &App, names: &[&str]) -> Result<String, Problem> {
    let bad = |why: String| Problem::new(StatusCode::BAD_REQUEST, why);
    let params = RawPathParams::from_request_parts(parts, app)
        .await
        .map_err(|e| bad(e.body_text()))?;
    let found = params.iter().find(|(name, _)| names.contains(name));
    found
        .map(|(_, value)| value.to_owned())
        .ok_or_else(|| bad("the path lacks an identifier".to_owned()))
}

fn malformed(invalid: Invalid) -> Problem {
    Error::Malformed(invalid).into()
}

/// `{channel}` or `{id}` of the path.
pub(super) struct InChannel(pub(super) ChannelId);

impl FromRequestParts<App> for InChannel {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let text = path_param(parts, app, &["channel", "id"]).await?;
        ChannelId::new(text).map(Self).map_err(malformed)
    }
}

/// `{other}` of the path: the channel at the other end of a link.
pub(super) struct InLink(pub(super) ChannelId);

impl FromRequestParts<App> for InLink {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let text = path_param(parts, app, &["other"]).await?;
        ChannelId::new(text).map(Self).map_err(malformed)
    }
}

/// `{participant}` or `{pid}` of the path.
pub(super) struct OfParticipant(pub(super) ParticipantId);

impl FromRequestParts<App> for OfParticipant {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let text = path_param(parts, app, &["participant", "pid"]).await?;
        ParticipantId::new(text).map(Self).map_err(malformed)
    }
}

/// `{place}` of the path: which picture of a channel.
pub(super) struct OfPicture(pub(super) PicturePlace);

impl FromRequestParts<App> for OfPicture {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let text = path_param(parts, app, &["place"]).await?;
        let unknown = || Error::NotFound("picture: it can be slate or background").into();
        PicturePlace::parse(&text).map(Self).ok_or_else(unknown)
    }
}

/// The session that a path under `/whip` or `/whep` names, for a caller who may change such sessions. What cannot be a
/// session is a session that does not exist.
pub(super) struct AtSession(pub(super) SessionRef);

impl FromRequestParts<App> for AtSession {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, app).await?;
        let InChannel(channel) = InChannel::from_request_parts(parts, app).await?;
        let text = path_param(parts, app, &["session"]).await?;
        let id = SessionId::new(text).map_err(|_| Error::NotFound("session"))?;
        let (direction, scopes): (_, &[Scope]) = if parts.uri.path().starts_with("/whep/") {
            (Direction::Play, &[Scope::View, Scope::Publish])
        } else {
            (Direction::Publish, &[Scope::Publish])
        };
        caller.may(scopes, Some(&channel))?;
        Ok(Self(SessionRef {
            channel,
            id,
            direction,
        }))
    }
}

/// The query, as `T`.
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<App> for Params<T> {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, Problem> {
        let read = Query::<T>::try_from_uri(&parts.uri);
        read.map(|Query(params)| Self(params)).map_err(|rejection| {
            let text = rejection.body_text();
            let detail = text
                .rsplit_once("query string: ")
                .map_or(text.as_str(), |(_, why)| why);
            match detail.split_once(": ") {
                Some((field, why)) => malformed(Invalid::new(field, why)),
                None => Problem::new(StatusCode::BAD_REQUEST, detail),
            }
        })
    }
}

/// `?limit=&after=`, within bounds.
pub(super) struct Paging(pub(super) PageRequest);

impl FromRequestParts<App> for Paging {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let Params(page) = Params::<PageRequest>::from_request_parts(parts, app).await?;
        if !(1..=PageRequest::MAX_LIMIT).contains(&page.limit) {
            return Err(malformed(Invalid::new("limit", "must be 1 to 500")));
        }
        Ok(Self(page))
    }
}

/// Whether the media type of the body is `expected`; parameters do not matter.
fn is_type(headers: &HeaderMap, expected: &str) -> bool {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = value
        .and_then(|value| value.split(';').next())
        .unwrap_or_default();
    essence.trim().eq_ignore_ascii_case(expected)
}

fn require_type(headers: &HeaderMap, expected: &str) -> Result<(), Problem> {
    if is_type(headers, expected) {
        return Ok(());
    }
    let detail = format!("the body must be {expected}");
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail).at("Content-Type"))
}

/// How much of an oversized body is read and thrown away before the answer: a client that is still writing when the
/// connection closes sees a broken pipe instead of the reason. Beyond, it has to live with that.
const DRAIN_BYTES: usize = 4 << 20;

/// The whole body; `413` as soon as it is known to be longer than `limit`.
async fn read_body(headers: &HeaderMap, body: Body, limit: usize) -> Result<bytes::Bytes, Problem> {
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    let mut too_large = announced.is_some_and(|length: usize| length > limit);
    let (mut stream, mut collected, mut drained) = (body.into_data_stream(), BytesMut::new(), 0);
    while let Some(piece) = stream.next().await {
        let ended_early = |_| Problem::new(StatusCode::BAD_REQUEST, "the body ended early");
        let piece = piece.map_err(ended_early)?;
        too_large |= collected.len() + piece.len() > limit;
        if too_large {
            drained += piece.len();
            if drained > DRAIN_BYTES {
                break;
            }
        } else {
            collected.extend_from_slice(&piece);
        }
    }
    if too_large {
        let detail = format!("the body exceeds the limit of {limit} bytes");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
    }
    Ok(collected.freeze())
}

async fn read_text(request: Request, expected: &str, limit: usize) -> Result<String, Problem> {
    let (parts, body) = request.into_parts();
    require_type(&parts.headers, expected)?;
    let body = read_body(&parts.headers, body, limit).await?;
    let bad = |why: &str| Err(Error::BadSdp(why.to_owned()).into());
    match String::from_utf8(body.into()) {
        Ok(text) if text.trim().is_empty() => bad("it is empty"),
        Ok(text) => Ok(text),
        Err(_) => bad("it is not UTF-8"),
    }
}

/// An SDP offer.
pub(super) struct Offer(pub(super) String);

impl FromRequest<App> for Offer {
    type Rejection = Problem;
    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let text = read_text(request, "application/sdp", app.config.max_sdp_bytes).await?;
        if !text.starts_with("v=0") {
            return Err(Error::BadSdp(
                "it does not begin with v=0 (RFC 8866 section 5.1)".to_owned(),
            )
            .into());
        }
        Ok(Self(text))
    }
}

/// Trickled candidates or the credentials of an ICE restart.
pub(super) struct Fragment(pub(super) String);

impl FromRequest<App> for Fragment {
    type Rejection = Problem;
    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let limit = app.config.max_sdp_bytes;
        read_text(request, "application/trickle-ice-sdpfrag", limit)
            .await
            .map(Self)
    }
}

/// A picture file: `415` unless its media type is that of a PNG or a JPEG, `422` when its head is not what that says.
pub(super) struct PictureFile(pub(super) Upload);

impl FromRequest<App> for PictureFile {
    type Rejection = Problem;
    async fn from_request(request: Request, _app: &App) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let known = ["image/png", "image/jpeg"];
        let said = known
            .into_iter()
            .find(|known| is_type(&parts.headers, known));
        let Some(said) = said else {
            let detail = "the body must be image/png or image/jpeg";
            let problem = Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail);
            return Err(problem.at("Content-Type"));
        };
        let body = read_body(&parts.headers, body, media::link::MAX_IMAGE_BYTES).await?;
        let upload = Upload::new(body).map_err(Error::from)?;
        if upload.still.media_type != said {
            let reason = format!("it is {}, not {said}", upload.still.media_type);
            return Err(Error::from(Invalid::new("body", reason)).into());
        }
        Ok(Self(upload))
    }
}

/// A JSON body: `400` when it is not JSON, `422` with the field when it is not what is asked for.
pub(super) struct Json<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<App> for Json<T> {
    type Rejection = Problem;
    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        require_type(&parts.headers, "application/json")?;
        let body = read_body(&parts.headers, body, app.config.max_json_bytes).await?;
        let mut reader = serde_json::Deserializer::from_slice(&body);
        let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
            let path = error.path().to_string();
            json_problem(&path, error.inner())
        })?;
        reader.end().map_err(|error| json_problem(".", &error))?;
        Ok(Self(value))
    }
}

fn json_problem(path: &str, error: &serde_json::Error) -> Problem {
    use serde_json::error::Category;
    let text = error.to_string();
    match error.classify() {
        Category::Io | Category::Syntax | Category::Eof => Problem::new(
            StatusCode::BAD_REQUEST,
            format!("the body is not JSON: {text}"),
        ),
        Category::Data => {
            let detail = text
                .rsplit_once(" at line ")
                .map_or(text.as_str(), |(detail, _)| detail);
            let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail);
            match field_of(path, detail) {
                Some(field) => problem.at(&field),
                None => problem,
            }
        }
    }
}

/// The path of the value at fault; of a missing field, its name comes from the message.
fn field_of(path: &str, detail: &str) -> Option<String> {
    let missing = detail
        .strip_prefix("missing field `")
        .and_then(|rest| rest.split('`').next());
    match (path, missing) {
        (".", None) => None,
        (".", Some(missing)) => Some(missing.to_owned()),
        (path, Some(missing)) => Some(format!("{path}.{missing}")),
        (path, None) => Some(path.to_owned()),
    }
}
