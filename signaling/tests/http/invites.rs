//! Invitations: what they let their holder do, and nothing else.

use std::sync::Arc;

use signaling::Config;
use signaling::auth::{Claims, Keys, Scope, Signer, Verifier};
use signaling::types::{ChannelId, Role};

use super::fake::{OFFER, Surface};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn guarded(signs: bool) -> Surface {
    let keys = Keys {
        secret: Some(SECRET.to_owned()),
        ..Keys::default()
    };
    Surface::new(Config {
        verifier: Verifier::new(&keys).unwrap().map(Arc::new),
        signer: signs.then(|| Arc::new(Signer::secret(SECRET).unwrap())),
        ..Config::default()
    })
}

fn bearer(scope: Scope) -> String {
    let claims = Claims {
        scope: vec![scope],
        channel: Some(ChannelId::new("a").unwrap()),
        ..Claims::default()
    };
    format!(
        "Bearer {}",
        Signer::secret(SECRET).unwrap().sign(&claims).unwrap()
    )
}

async fn invite(surface: &Surface, channel: &str, body: &str) -> super::fake::Answer {
    let control = bearer(Scope::Control);
    let headers = [
        ("content-type", "application/json"),
        ("authorization", &control),
    ];
    let target = format!("/api/v1/channels/{channel}/invites");
    surface.ask("POST", &target, &headers, body).await
}

#[tokio::test]
async fn an_invitation_lets_its_holder_publish_and_view_in_one_channel() {
    let surface = guarded(true);
    let answer = invite(
        &surface,
        "a",
        r#"{"participant":"bob","name":"Bob & co","expires_in_s":600}"#,
    )
    .await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    let (token, url) = (answer.json()["token"].clone(), answer.json()["url"].clone());
    let (token, url) = (token.as_str().unwrap(), url.as_str().unwrap());
    let expected = "/studio/a?role=guest&participant=bob&name=Bob%20%26%20co#token=";
    assert!(url.starts_with(expected) && url.ends_with(token), "{url}");
    assert!(answer.json()["expires_at"].as_str().unwrap().ends_with('Z'));

    let bearer = format!("Bearer {token}");
    let sdp = [
        ("content-type", "application/sdp"),
        ("authorization", bearer.as_str()),
    ];
    for (target, status) in [
        ("/whip/a", 201),
        ("/whip/a?role=host", 403),
        ("/whip/a?participant=ann", 403),
        ("/whip/b", 403),
        ("/whep/a/ann", 201),
        ("/whep/b/ann", 403),
    ] {
        let answer = surface.ask("POST", target, &sdp, OFFER).await;
        assert_eq!(answer.status, status, "{target}: {}", answer.body);
    }
    let published = surface.backend.published.lock().unwrap().clone().unwrap();
    assert_eq!(published.role, Some(Role::Guest));
    assert_eq!(published.participant.unwrap().as_str(), "bob");
    let read = [("authorization", bearer.as_str())];
    let answer = surface.ask("GET", "/api/v1/channels/a", &read, "").await;
    assert_eq!(answer.status, 200);
    let answer = surface
        .ask("DELETE", "/api/v1/channels/a/participants/x", &read, "")
        .await;
    answer.problem(403);
}

#[tokio::test]
async fn only_those_who_run_the_channel_invite() {
    let surface = guarded(true);
    for scope in [Scope::Publish, Scope::View] {
        let bearer = bearer(scope);
        let headers = [
            ("content-type", "application/json"),
            ("authorization", &bearer),
        ];
        let target = "/api/v1/channels/a/invites";
        surface
            .ask("POST", target, &headers, "{}")
            .await
            .problem(403);
    }
    invite(&surface, "b", "{}").await.problem(403);
    guarded(false);
    invite(&guarded(false), "a", "{}").await.problem(409);
}

#[tokio::test]
async fn without_authorisation_the_link_needs_no_token() {
    let surface = Surface::open();
    let answer = surface
        .json("POST", "/api/v1/channels/a/invites", "{}")
        .await;
    assert_eq!(answer.status, 201);
    assert_eq!(
        answer.json(),
        serde_json::json!({"url": "/studio/a?role=guest"})
    );
    let unknown = surface
        .json("POST", "/api/v1/channels/nope/invites", "{}")
        .await;
    unknown.problem(404);
    let long = "x".repeat(65);
    for (body, field) in [
        (r#"{"expires_in_s":59}"#.to_owned(), "expires_in_s"),
        (r#"{"expires_in_s":2678401}"#.to_owned(), "expires_in_s"),
        (format!(r#"{{"name":"{long}"}}"#), "name"),
        (r#"{"name":"a\nb"}"#.to_owned(), "name"),
        (r#"{"participant":"a/b"}"#.to_owned(), "participant"),
        (r#"{"role":"admin"}"#.to_owned(), "role"),
    ] {
        let answer = surface
            .json("POST", "/api/v1/channels/a/invites", &body)
            .await;
        assert_eq!(answer.problem(422).as_deref(), Some(field), "{body}");
    }
}
