//! An origin on loopback, publishers (ffmpeg, or bytes written by hand) and viewers for the tests of this crate.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed expectation is a failed test"
)]
#![allow(dead_code, reason = "every test binary uses its own part")]
#![allow(
    clippy::disallowed_methods,
    reason = "tests open sockets and read the clock"
)]

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use media::flv::{AudioBody, Item, Reader, Tag, TagKind, VideoBody};
use origin::{Access, Config, Open, Origin};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

pub(crate) struct Server {
    pub(crate) origin: Origin,
    pub(crate) rtmp: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) cancel: CancellationToken,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl Server {
    pub(crate) async fn start(config: Config) -> Self {
        Self::with_access(config, Arc::new(Open)).await
    }

    pub(crate) async fn with_access(config: Config, access: Arc<dyn Access>) -> Self {
        let origin = Origin::new(config, access);
        let rtmp_listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http_listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let rtmp = rtmp_listener.local_addr().unwrap();
        let http = http_listener.local_addr().unwrap();
        let cancel = CancellationToken::new();
        let ingest = origin.clone();
        let stop = cancel.clone();
        tokio::spawn(async move { ingest.serve_rtmp(rtmp_listener, stop).await });
        tokio::spawn(origin::serve_http(
            http_listener,
            origin.router(),
            cancel.clone(),
        ));
        Self {
            origin,
            rtmp,
            http,
            cancel,
        }
    }

    pub(crate) fn rtmp_url(&self, stream: &str) -> String {
        format!("rtmp://{}/live/{stream}", self.rtmp)
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}/live/{path}", self.http)
    }

    /// Waits until the stream's statistics satisfy a condition.
    pub(crate) async fn until(
        &self,
        stream: &str,
        condition: impl Fn(&origin::StreamStats) -> bool,
    ) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let stats = self.origin.stream(stream);
            if stats.as_ref().is_some_and(&condition) {
                return;
            }
            assert!(Instant::now() < deadline, "never came true: {stats:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// ffmpeg publishing a test picture with a 1 kHz tone; 25 fps, a keyframe every second.
pub(crate) fn ffmpeg_publish(url: &str, extra: &[&str]) -> Child {
    let mut command = Command::new("ffmpeg");
    command
        .args(["-hide_banner", "-loglevel", "error", "-re"])
        .args(["-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25"])
        .args(["-f", "lavfi", "-i", "sine=frequency=1000:sample_rate=48000"])
        .args(extra)
        .args([
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-tune",
            "zerolatency",
        ])
        .args(["-pix_fmt", "yuv420p", "-g", "25", "-b:v", "300k"])
        .args(["-c:a", "aac", "-b:a", "96k", "-ac", "2", "-f", "flv", url])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true);
    command.spawn().expect("ffmpeg is installed")
}

/// What ffmpeg has to say against a file when it must decode everything; empty when it is content.
pub(crate) async fn decode_errors(path: &Path) -> String {
    let output = Command::new("ffmpeg")
        .args(["-hide_banner", "-loglevel", "warning", "-xerror", "-i"])
        .arg(path)
        .args(["-f", "null", "-"])
        .output()
        .await
        .expect("ffmpeg is installed");
    let mut text = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        text.push_str("(exit status)");
    }
    text
}

/// A viewer that reads FLV over HTTP.
pub(crate) struct Viewer {
    response: reqwest::Response,
    reader: Reader,
    pub(crate) bytes: Vec<u8>,
}

impl Viewer {
    pub(crate) async fn connect(url: &str) -> Self {
        let response = reqwest::get(url).await.expect("connects");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "video/x-flv");
        Self {
            response,
            reader: Reader::default(),
            bytes: Vec::new(),
        }
    }

    /// The next header or tag; `None` at the end of the response.
    pub(crate) async fn next(&mut self) -> Option<Item> {
        loop {
            if let Some(item) = self.reader.next_item().expect("valid FLV") {
                return Some(item);
            }
            let chunk = tokio::time::timeout(Duration::from_secs(20), self.response.chunk());
            let chunk = chunk.await.expect("bytes in time").expect("a clean end")?;
            self.bytes.extend_from_slice(&chunk);
            self.reader.push(&chunk);
        }
    }

    pub(crate) async fn next_tag(&mut self) -> Option<Tag> {
        loop {
            if let Item::Tag(tag) = self.next().await? {
                return Some(tag);
            }
        }
    }

    /// Tags until the newest video tag is at least `ms` after the first one.
    pub(crate) async fn watch_ms(&mut self, ms: u32) -> Vec<Tag> {
        let mut tags: Vec<Tag> = Vec::new();
        let mut first = None;
        while let Some(tag) = self.next_tag().await {
            let video = tag.kind == TagKind::Video;
            let time = tag.timestamp_ms;
            tags.push(tag);
            if video && time >= *first.get_or_insert(time) + ms {
                break;
            }
        }
        tags
    }
}

/// The rules for what a viewer gets: headers first, a keyframe, then strictly increasing times per track.
pub(crate) fn check_viewer_tags(tags: &[Tag]) {
    let mut last = [None::<u32>; 2];
    let mut first_video = None;
    let mut headers = [false; 2];
    for tag in tags {
        let media = match tag.kind {
            TagKind::Script => None,
            TagKind::Video => match VideoBody::parse(&tag.body).expect("valid") {
                VideoBody::AvcConfig(_) => {
                    headers[0] = true;
                    None
                }
                VideoBody::Avc { keyframe, .. } => {
                    assert!(headers[0], "a picture before its sequence header");
                    if first_video.is_none() {
                        assert!(keyframe, "the first picture is a keyframe");
                        first_video = Some(tag.timestamp_ms);
                    }
                    Some(0)
                }
                VideoBody::AvcEnd => None,
            },
            TagKind::Audio => match AudioBody::parse(&tag.body).expect("valid") {
                AudioBody::AacConfig(_) => {
                    headers[1] = true;
                    None
                }
                AudioBody::Aac(_) => {
                    assert!(headers[1], "sound before its sequence header");
                    assert!(
                        first_video.is_some_and(|first| tag.timestamp_ms >= first),
                        "sound from before the first picture"
                    );
                    Some(1)
                }
            },
        };
        if let Some(lane) = media {
            assert!(
                last[lane].is_none_or(|last| tag.timestamp_ms > last),
                "lane {lane}: {} after {:?}",
                tag.timestamp_ms,
                last[lane]
            );
            last[lane] = Some(tag.timestamp_ms);
        }
    }
    assert!(headers == [true; 2], "both sequence headers: {headers:?}");
}
