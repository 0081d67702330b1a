//! ffmpeg publishes by RTMP, viewers watch by HTTP-FLV.
#![allow(clippy::disallowed_methods, reason = "tests read the clock")]

mod common;

use std::time::{Duration, Instant};

use common::{Server, Viewer, check_viewer_tags, decode_errors, ffmpeg_publish};
use media::flv::{Item, TagKind, VideoBody};
use origin::{Config, StreamState};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ffmpeg_publishes_plays_without_an_error() {
    let server = Server::start(Config::default()).await;
    let _publisher = ffmpeg_publish(&server.rtmp_url("show"), &[]);
    server
        .until("show", |stats| stats.video_dts_ms > Some(1_500))
        .await;

    let connected = Instant::now();
    let mut viewer = Viewer::connect(&server.url("show.flv")).await;
    let header = viewer.next().await;
    assert_eq!(
        header,
        Some(Item::Header {
            has_audio: true,
            has_video: true
        })
    );
    let tags = viewer.watch_ms(3_000).await;
    assert!(connected.elapsed() < Duration::from_millis(4_500));
    check_viewer_tags(&tags);
    let pictures = tags
        .iter()
        .filter(|tag| tag.kind == TagKind::Video)
        .filter(|tag| matches!(VideoBody::parse(&tag.body), Ok(VideoBody::Avc { .. })))
        .count();
    assert!(
        (75..=77).contains(&pictures),
        "{pictures} pictures in 3 s at 25 per second"
    );

    let file = std::env::temp_dir().join(format!("origin-flv-{}.flv", std::process::id()));
    std::fs::write(&file, &viewer.bytes).unwrap();
    // The recording ends in the middle of a tag; that is the one thing that may be wrong with it.
    let errors = decode_errors(&file).await;
    std::fs::remove_file(&file).unwrap();
    assert!(
        errors.is_empty() || errors.contains("Packet mismatch"),
        "{errors}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_stream_is_a_problem_document() {
    let server = Server::start(Config::default()).await;
    let response = reqwest::get(server.url("nobody.flv")).await.unwrap();
    assert_eq!(response.status(), 404);
    assert_eq!(
        response.headers()["content-type"],
        "application/problem+json"
    );
    assert_eq!(response.headers()["access-control-allow-origin"], "*");
    assert_eq!(response.headers()["cache-control"], "no-store");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn viewers_stay_while_the_publisher_is_away() {
    let server = Server::start(Config::default()).await;
    let mut publisher = ffmpeg_publish(&server.rtmp_url("show"), &[]);
    server
        .until("show", |stats| stats.video_dts_ms > Some(500))
        .await;
    let mut viewer = Viewer::connect(&server.url("show.flv")).await;
    let mut tags = viewer.watch_ms(500).await;

    publisher.kill().await.unwrap();
    server
        .until("show", |stats| stats.state == StreamState::Grace)
        .await;
    let _again = ffmpeg_publish(&server.rtmp_url("show"), &[]);
    tags.extend(viewer.watch_ms(2_000).await);
    check_viewer_tags(&tags);
    assert_eq!(server.origin.stream("show").unwrap().publishers, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stream_ends_cleanly_with_the_grace() {
    let server = Server::start(Config {
        publish_grace_s: 1,
        ..Config::default()
    })
    .await;
    let mut publisher = ffmpeg_publish(&server.rtmp_url("show"), &[]);
    server
        .until("show", |stats| stats.video_dts_ms > Some(500))
        .await;
    let mut viewer = Viewer::connect(&server.url("show.flv")).await;
    publisher.kill().await.unwrap();
    while viewer.next().await.is_some() {}
    assert!(server.origin.stream("show").is_none());
    assert_eq!(
        reqwest::get(server.url("show.flv")).await.unwrap().status(),
        404
    );
}
