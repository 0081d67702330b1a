//! ffmpeg publishes by RTMP, players read HLS.
#![allow(clippy::disallowed_methods, reason = "tests read the clock")]

mod common;

use std::time::{Duration, Instant};

use common::{Server, decode_errors, ffmpeg_publish};
use origin::{Config, StreamState};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segments_of_ffmpeg_decode_without_an_error() {
    let server = Server::start(Config::default()).await;
    let _publisher = ffmpeg_publish(&server.rtmp_url("show"), &[]);
    server
        .until("show", |stats| stats.state == StreamState::Live)
        .await;

    // The first request waits for the first segment instead of failing.
    let asked = Instant::now();
    let response = reqwest::get(server.url("show/index.m3u8")).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(
        response.headers()["content-type"],
        "application/vnd.apple.mpegurl"
    );
    assert_eq!(response.headers()["access-control-allow-origin"], "*");
    assert!(
        asked.elapsed() < Duration::from_secs(4),
        "{:?}",
        asked.elapsed()
    );
    assert_eq!(server.origin.stream("show").unwrap().viewers.hls, 1);

    server
        .until("show", |stats| stats.video_dts_ms > Some(6_200))
        .await;
    let text = reqwest::get(server.url("show/index.m3u8"))
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert_eq!(text.matches("#EXTINF:2.000,").count(), 3, "{text}");
    let mut file = Vec::new();
    for uri in uris(&text) {
        let response = reqwest::get(server.url(&format!("show/{uri}")))
            .await
            .unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "video/mp4");
        file.extend_from_slice(&response.bytes().await.unwrap());
    }
    let path = std::env::temp_dir().join(format!("origin-hls-{}.mp4", std::process::id()));
    std::fs::write(&path, &file).unwrap();
    let errors = decode_errors(&path).await;
    std::fs::remove_file(&path).unwrap();
    assert_eq!(errors, "");
}

/// The initialisation segment and the media segments, in order.
fn uris(playlist: &str) -> Vec<&str> {
    playlist
        .lines()
        .filter_map(|line| match line.strip_prefix("#EXT-X-MAP:URI=\"") {
            Some(rest) => rest.strip_suffix('"'),
            None => (!line.starts_with('#')).then_some(line),
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_streams_and_segments_are_404() {
    let server = Server::start(Config::default()).await;
    let status = |path: &str| {
        let url = server.url(path);
        async move { reqwest::get(url).await.unwrap().status().as_u16() }
    };
    assert_eq!(status("nobody/index.m3u8").await, 404);
    let _publisher = ffmpeg_publish(&server.rtmp_url("show"), &[]);
    server
        .until("show", |stats| stats.state == StreamState::Live)
        .await;
    assert_eq!(status("show/no-such-segment.m4s").await, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_playlist_says_that_the_stream_is_over() {
    let server = Server::start(Config {
        publish_grace_s: 1,
        ..Config::default()
    })
    .await;
    let mut publisher = ffmpeg_publish(&server.rtmp_url("show"), &[]);
    server
        .until("show", |stats| stats.video_dts_ms > Some(1_500))
        .await;
    publisher.kill().await.unwrap();
    while server.origin.stream("show").is_some() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let text = reqwest::get(server.url("show/index.m3u8"))
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(text.ends_with("#EXT-X-ENDLIST\n"), "{text}");
    assert_eq!(
        text.matches("#EXTINF").count(),
        1,
        "what there was of the first segment"
    );
    assert_eq!(
        reqwest::get(server.url("show.flv")).await.unwrap().status(),
        404
    );
}
