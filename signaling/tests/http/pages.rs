//! The pages, built or not.

use super::fake::Surface;

#[tokio::test]
async fn pages_answer_even_when_they_are_not_built() {
    let surface = Surface::open();
    let built = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../web/dist/index.html")
        .exists();
    for at in ["/", "/studio/demo", "/watch/demo"] {
        let answer = surface.get(at).await;
        assert_eq!(answer.status, if built { 200 } else { 503 });
        assert!(built || answer.body.contains("make web"), "{}", answer.body);
        assert_eq!(answer.header("cache-control"), "no-cache");
        assert_eq!(answer.header("referrer-policy"), "no-referrer");
        let policy = answer.header("content-security-policy");
        assert!(
            policy.contains("default-src 'self'") && policy.contains("media-src 'self' blob:"),
            "{policy}"
        );
    }
}

#[tokio::test]
async fn a_separate_origin_may_be_connected_to() {
    let config = signaling::Config {
        playback_redirect: Some("https://origin.example/".to_owned()),
        connect_sources: vec!["https://b.example".to_owned()],
        ..signaling::Config::default()
    };
    let answer = Surface::new(config).get("/").await;
    let policy = answer.header("content-security-policy");
    assert!(
        policy.contains(" https://origin.example wss://origin.example https://b.example;"),
        "{policy}"
    );
}

#[tokio::test]
async fn files_cannot_be_written() {
    Surface::open()
        .ask("POST", "/assets/x.js", &[], "x")
        .await
        .problem(404);
}
