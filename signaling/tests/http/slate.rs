//! Slates, and pictures as they are uploaded.

use axum::body::Body;
use axum::http::Request;

use super::fake::{Answer, Surface};

const SLATE: &str = "/api/v1/channels/a/pictures/slate";

/// The head of a PNG.
fn png(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
    bytes.extend(width.to_be_bytes());
    bytes.extend(height.to_be_bytes());
    bytes
}

async fn upload(surface: &Surface, at: &str, kind: &str, body: Vec<u8>) -> Answer {
    let request = Request::put(at).header("content-type", kind);
    surface.send(request.body(Body::from(body)).unwrap()).await
}

#[tokio::test]
async fn a_picture_comes_back_as_it_was_sent_until_it_is_taken_away() {
    let surface = Surface::open();
    surface.get(SLATE).await.problem(404);
    let answer = upload(&surface, SLATE, "image/png", png(640, 360)).await;
    assert_eq!((answer.status, &answer.json()["width"]), (200, &640.into()));
    let answer = surface.get(SLATE).await;
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, "image/png")
    );
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    let answer = surface.ask("DELETE", SLATE, &[], "").await;
    assert_eq!(answer.status, 204);
    surface.get(SLATE).await.problem(404);
    assert_eq!(
        surface.backend.log(),
        ["picture Slate true", "picture Slate false"]
    );
}

#[tokio::test]
async fn what_is_no_picture_is_refused() {
    let surface = Surface::open();
    upload(&surface, SLATE, "image/gif", png(1, 1))
        .await
        .problem(415);
    for (kind, body) in [
        ("image/png", b"GIF89a".to_vec()),
        ("image/png", Vec::new()),
        ("image/png", png(5_000, 1)),
        ("image/jpeg", png(1, 1)),
    ] {
        let field = upload(&surface, SLATE, kind, body).await.problem(422);
        assert_eq!(field.as_deref(), Some("body"));
    }
    let large = vec![0; (4 << 20) + 1];
    upload(&surface, SLATE, "image/png", large)
        .await
        .problem(413);
    let nowhere = "/api/v1/channels/a/pictures/front";
    upload(&surface, nowhere, "image/png", png(1, 1))
        .await
        .problem(404);
    assert!(surface.backend.log().is_empty());
}

#[tokio::test]
async fn the_text_can_be_set_and_left_to_the_node() {
    let surface = Surface::open();
    let at = "/api/v1/channels/a/slate";
    let answer = surface.json("PUT", at, r#"{"text":"Back at 12"}"#).await;
    assert_eq!(
        (answer.status, &answer.json()["text"]),
        (200, &"Back at 12".into())
    );
    assert_eq!(
        surface.json("PUT", at, r#"{"text":null}"#).await.status,
        200
    );
    assert_eq!(
        surface.backend.log(),
        [r#"slate Some("Back at 12")"#, "slate None"]
    );
}
