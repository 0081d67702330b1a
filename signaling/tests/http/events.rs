//! Server-sent events, read as a browser reads them.

use std::time::Duration;

use axum::body::BodyDataStream;
use futures_util::StreamExt;
use signaling::Config;
use signaling::types::{ChannelId, Event, EventBody, WallTime};
use tower::ServiceExt;

use super::fake::{Surface, request};

async fn open(surface: &Surface, at: &str, headers: &[(&str, &str)]) -> (u16, BodyDataStream) {
    let response = surface
        .router
        .clone()
        .oneshot(request("GET", at, headers, ""))
        .await
        .unwrap();
    let status = response.status().as_u16();
    (status, response.into_body().into_data_stream())
}

async fn next(stream: &mut BodyDataStream) -> Option<String> {
    let chunk = stream.next().await?.unwrap();
    Some(String::from_utf8(chunk.to_vec()).unwrap())
}

fn event(id: u64, channel: &str) -> Event {
    Event {
        id,
        at: WallTime::from_unix_ms(0),
        channel: Some(ChannelId::new(channel).unwrap()),
        body: EventBody::ChannelDeleted {},
    }
}

#[tokio::test]
async fn events_arrive_named_numbered_and_filtered() {
    let surface = Surface::open();
    let (status, mut stream) = open(&surface, "/api/v1/events?channel=a", &[]).await;
    assert_eq!(status, 200);
    let hello = next(&mut stream).await.unwrap();
    assert!(hello.contains("retry: 2000"), "{hello}");
    surface.backend.events.send(event(1, "b")).unwrap();
    surface.backend.events.send(event(2, "a")).unwrap();
    assert_eq!(
        next(&mut stream).await.unwrap(),
        "id: 2\nevent: channel.deleted\ndata: {\"id\":2,\"at\":\"1970-01-01T00:00:00.000Z\",\"channel\":\"a\",\
         \"type\":\"channel.deleted\",\"data\":{}}\n\n"
    );
}

#[tokio::test]
async fn who_lags_or_comes_back_is_told_to_resync() {
    let surface = Surface::open();
    let (_, mut stream) = open(&surface, "/api/v1/events", &[]).await;
    next(&mut stream).await.unwrap();
    for id in 0..20 {
        surface.backend.events.send(event(id, "a")).unwrap();
    }
    assert!(next(&mut stream).await.unwrap().contains("event: resync"));
    assert!(
        next(&mut stream).await.unwrap().contains("id: 16\n"),
        "then goes on with what is left"
    );

    for last in ["7", "nonsense", ""] {
        let (status, mut again) =
            open(&surface, "/api/v1/events", &[("last-event-id", last)]).await;
        assert_eq!(status, 200);
        next(&mut again).await.unwrap();
        assert!(next(&mut again).await.unwrap().contains("event: resync"));
    }
}

#[tokio::test]
async fn streams_are_bounded_and_end_with_the_server() {
    let config = Config {
        max_event_streams: 1,
        ..Config::default()
    };
    let shutdown = config.shutdown.clone();
    let surface = Surface::new(config);
    let (_, mut first) = open(&surface, "/api/v1/events", &[]).await;
    next(&mut first).await.unwrap();
    let refused = surface.get("/api/v1/events").await;
    refused.problem(503);
    assert_eq!(refused.header("retry-after"), "10");
    shutdown.cancel();
    assert_eq!(next(&mut first).await, None);
    drop(first);
    assert_eq!(open(&surface, "/api/v1/events", &[]).await.0, 200);
}

#[tokio::test]
async fn silence_is_kept_alive() {
    let surface = Surface::new(Config {
        event_keep_alive: Duration::from_millis(1),
        ..Config::default()
    });
    let (_, mut stream) = open(&surface, "/api/v1/events", &[]).await;
    next(&mut stream).await.unwrap();
    assert_eq!(next(&mut stream).await.unwrap(), ":\n\n");
}

#[tokio::test]
async fn a_token_for_one_channel_gets_that_ones_events() {
    use signaling::auth::{Claims, Keys, Scope, Signer, Verifier};
    let secret = "0123456789abcdef0123456789abcdef";
    let keys = Keys {
        secret: Some(secret.to_owned()),
        ..Keys::default()
    };
    let surface = Surface::new(Config {
        verifier: Verifier::new(&keys).unwrap().map(std::sync::Arc::new),
        ..Config::default()
    });
    let claims = Claims {
        scope: vec![Scope::View],
        channel: Some(ChannelId::new("b").unwrap()),
        ..Claims::default()
    };
    let token = Signer::secret(secret).unwrap().sign(&claims).unwrap();
    let (status, mut stream) = open(&surface, &format!("/api/v1/events?token={token}"), &[]).await;
    assert_eq!(status, 200);
    next(&mut stream).await.unwrap();
    surface.backend.events.send(event(1, "a")).unwrap();
    surface.backend.events.send(event(2, "b")).unwrap();
    assert!(next(&mut stream).await.unwrap().contains("id: 2\n"));
}
