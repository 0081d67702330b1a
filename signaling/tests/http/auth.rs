//! Which token opens which route.

use std::sync::Arc;

use signaling::Config;
use signaling::auth::{Claims, Keys, Scope, Signer, Verifier};
use signaling::types::{ChannelId, ParticipantId, Role};

use super::fake::{OFFER, Surface};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn surface() -> Surface {
    let keys = Keys {
        secret: Some(SECRET.to_owned()),
        ..Keys::default()
    };
    let verifier = Verifier::new(&keys).unwrap().map(Arc::new);
    Surface::new(Config {
        verifier,
        session_burst: 0,
        ..Config::default()
    })
}

fn token(claims: Claims) -> String {
    Signer::secret(SECRET).unwrap().sign(&claims).unwrap()
}

fn scoped(scope: Scope) -> Claims {
    Claims {
        scope: vec![scope],
        ..Claims::default()
    }
}

async fn status(surface: &Surface, method: &str, at: &str, token: &str) -> u16 {
    let bearer = format!("Bearer {token}");
    let (kind, body) = match (method, at) {
        ("POST", at) if at.contains("/wh") => ("application/sdp", OFFER),
        ("PATCH", at) if at.contains("/wh") => ("application/trickle-ice-sdpfrag", "a=x"),
        (_, at) if at.ends_with("/mode") => ("application/json", r#"{"mode":"solo"}"#),
        (_, at) if at.ends_with("/layout") => ("application/json", r#"{"name":"grid"}"#),
        ("PUT", at) if at.ends_with("/destinations") => ("application/json", "[]"),
        ("POST", at) if at.ends_with("/invites") => ("application/json", "{}"),
        ("POST", at) if at.ends_with("/links") => ("application/json", r#"{"channel":"b"}"#),
        ("POST", _) => ("application/json", r#"{"id":"a"}"#),
        _ => ("application/json", "{}"),
    };
    let headers = [
        ("content-type", kind),
        ("if-match", "*"),
        ("authorization", &bearer),
    ];
    if at == "/api/v1/events?channel=a" {
        // An endless body: only the head matters.
        use tower::ServiceExt;
        let request = super::fake::request(method, at, &headers, body);
        return surface
            .router
            .clone()
            .oneshot(request)
            .await
            .unwrap()
            .status()
            .as_u16();
    }
    surface.ask(method, at, &headers, body).await.status
}

#[tokio::test]
async fn scope_matrix() {
    const P: [Scope; 2] = [Scope::Publish, Scope::Admin];
    const V: [Scope; 3] = [Scope::View, Scope::Control, Scope::Admin];
    const VP: [Scope; 4] = [Scope::View, Scope::Publish, Scope::Control, Scope::Admin];
    const PC: [Scope; 3] = [Scope::Publish, Scope::Control, Scope::Admin];
    const C: [Scope; 2] = [Scope::Control, Scope::Admin];
    const A: [Scope; 1] = [Scope::Admin];
    let routes: [(&str, &str, &[Scope]); 31] = [
        ("POST", "/whip/a", &P),
        ("PATCH", "/whip/a/sessions/s", &P),
        ("DELETE", "/whip/a/sessions/s", &P),
        ("POST", "/whep/a", &V),
        ("POST", "/whep/a/p", &PC),
        ("PATCH", "/whep/a/sessions/s", &VP),
        ("DELETE", "/whep/a/sessions/s", &VP),
        ("GET", "/api/v1/channels", &VP),
        ("POST", "/api/v1/channels", &A),
        ("GET", "/api/v1/channels/a", &VP),
        ("PATCH", "/api/v1/channels/a", &C),
        ("DELETE", "/api/v1/channels/a", &A),
        ("PUT", "/api/v1/channels/a/mode", &C),
        ("PUT", "/api/v1/channels/a/layout", &C),
        ("PUT", "/api/v1/channels/a/slate", &C),
        ("GET", "/api/v1/channels/a/pictures/background", &VP),
        ("DELETE", "/api/v1/channels/a/pictures/background", &C),
        ("GET", "/api/v1/channels/a/participants", &VP),
        ("PATCH", "/api/v1/channels/a/participants/p", &C),
        ("DELETE", "/api/v1/channels/a/participants/p", &C),
        ("POST", "/api/v1/channels/a/invites", &C),
        ("GET", "/api/v1/channels/a/links", &VP),
        ("POST", "/api/v1/channels/a/links", &C),
        ("DELETE", "/api/v1/channels/a/links/b", &C),
        ("GET", "/api/v1/channels/a/destinations", &C),
        ("PUT", "/api/v1/channels/a/destinations", &C),
        ("GET", "/api/v1/channels/a/stats", &VP),
        ("GET", "/api/v1/events?channel=a", &VP),
        ("GET", "/api/v1/nodes", &A),
        ("GET", "/api/v1/relays", &A),
        ("GET", "/metrics", &A),
    ];
    let surface = surface();
    for (method, at, allowed) in routes {
        for scope in [Scope::Publish, Scope::View, Scope::Control, Scope::Admin] {
            let status = status(&surface, method, at, &token(scoped(scope))).await;
            assert_eq!(
                status != 403,
                allowed.contains(&scope),
                "{method} {at} with {scope:?}: {status}"
            );
            assert!(status != 401);
        }
        assert_eq!(
            status(&surface, method, at, "nonsense").await,
            401,
            "{method} {at}"
        );
        let other = Claims {
            channel: Some(ChannelId::new("z").unwrap()),
            ..scoped(Scope::Admin)
        };
        let lists = at == "/api/v1/channels" && method == "GET";
        let expected = if lists { 200 } else { 403 };
        assert_eq!(
            status(&surface, method, at, &token(other)).await,
            expected,
            "{method} {at}"
        );
    }
    for open in ["/healthz", "/readyz", "/api/v1/openapi.json"] {
        assert_eq!(surface.get(open).await.status, 200, "{open}");
    }
}

#[tokio::test]
async fn tokens_come_in_the_header_or_the_query() {
    let surface = surface();
    let token = token(scoped(Scope::Publish));
    surface.offer("/whip/a").await.problem(401);
    let by_query = surface
        .offer(&format!("/whip/a?participant=p&token={token}"))
        .await;
    assert_eq!(by_query.status, 201);
    let location = by_query.header("location").to_owned();
    assert_eq!(
        location,
        format!("/whip/a/sessions/s1?token={token}"),
        "the session's URL works as it is"
    );
    assert_eq!(surface.ask("DELETE", &location, &[], "").await.status, 200);
    let bearer = format!("bearer {token}");
    let headers = [
        ("content-type", "application/sdp"),
        ("authorization", bearer.as_str()),
    ];
    let by_header = surface.ask("POST", "/whip/a", &headers, OFFER).await;
    assert_eq!(by_header.header("location"), "/whip/a/sessions/s1");
    let basic = [
        ("content-type", "application/sdp"),
        ("authorization", "Basic eA=="),
    ];
    surface
        .ask("POST", "/whip/a", &basic, OFFER)
        .await
        .problem(401);
}

#[tokio::test]
async fn expired_tokens_say_so() {
    let surface = surface();
    let expired = token(Claims {
        exp: Some(1),
        ..scoped(Scope::Publish)
    });
    let answer = surface.offer(&format!("/whip/a?token={expired}")).await;
    answer.problem(401);
    assert_eq!(answer.json()["detail"], "the token has expired");
}

#[tokio::test]
async fn a_token_fixes_who_the_broadcaster_is() {
    let surface = surface();
    let token = token(Claims {
        participant: Some(ParticipantId::new("alice").unwrap()),
        role: Some(Role::Guest),
        ..scoped(Scope::Publish)
    });
    let at = |query: &str| format!("/whip/a?token={token}{query}");
    assert_eq!(surface.offer(&at("")).await.status, 201);
    let asked = surface.backend.published.lock().unwrap().clone().unwrap();
    assert_eq!(asked.participant.unwrap().as_str(), "alice");
    assert_eq!(asked.role, Some(Role::Guest));
    assert!(asked.claims.is_some());
    let field = surface.offer(&at("&participant=bob")).await.problem(403);
    assert_eq!(field.as_deref(), Some("participant"));
    let field = surface.offer(&at("&role=host")).await.problem(403);
    assert_eq!(field.as_deref(), Some("role"));
}

#[tokio::test]
async fn a_token_for_one_channel_lists_that_one() {
    let surface = surface();
    let list = |channel: &str| {
        let channel = Some(ChannelId::new(channel).unwrap());
        token(Claims {
            channel,
            ..scoped(Scope::View)
        })
    };
    let page = surface
        .get(&format!("/api/v1/channels?token={}", list("b")))
        .await
        .json();
    assert_eq!(page["items"].as_array().unwrap().len(), 1);
    assert_eq!(page["items"][0]["id"], "b");
    let page = surface
        .get(&format!("/api/v1/channels?token={}", list("zz")))
        .await
        .json();
    assert_eq!(page["items"].as_array().unwrap().len(), 0);
    let at = format!("/api/v1/events?channel=a&token={}", list("b"));
    surface.get(&at).await.problem(403);
}

#[tokio::test]
async fn with_tokens_any_page_may_ask() {
    let headers = [
        ("origin", "https://ops.example"),
        ("access-control-request-method", "PUT"),
    ];
    let answer = surface()
        .ask("OPTIONS", "/api/v1/channels/a/mode", &headers, "")
        .await;
    assert_eq!(answer.header("access-control-allow-origin"), "*");
}
