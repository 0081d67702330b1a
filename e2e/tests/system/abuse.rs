//! Bad input against the live process: it answers or hangs up, and the channel on air does not notice.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::ensure;
use e2e::analysis::{decode, pictures, tracks};
use e2e::capture::FlvViewer;
use e2e::clip::{self, Clip};
use e2e::run::anchor::{Anchor, Options};
use e2e::run::process::Process;
use e2e::run::rude::{self, Dice};
use e2e::run::whip;

use crate::support::{Recording, SOON, largest_step_ms};

/// A channel on air with somebody watching.
struct Live {
    anchor: Anchor,
    viewer: FlvViewer,
    _host: Process,
    clip: std::path::PathBuf,
}

impl Live {
    async fn start(options: Options) -> anyhow::Result<Self> {
        let anchor = Anchor::start_with(options).await?;
        anchor.create_channel("demo", &[]).await?;
        let viewer = FlvViewer::connect(&anchor.flv("demo")).await?;
        let clip = clip::clip(&Clip::default())?;
        let host = whip::ffmpeg(&anchor.whip("demo?participant=cam"), &clip, true)?;
        viewer.wait_for_pictures(60, SOON).await?;
        Ok(Self {
            anchor,
            viewer,
            _host: host,
            clip,
        })
    }

    /// The channel goes on, and what was recorded until now has no flaw.
    async fn is_unharmed(&mut self) -> anyhow::Result<()> {
        let seen = self.viewer.pictures();
        let more = self.viewer.wait_for_pictures(seen + 30, SOON).await;
        ensure!(
            self.anchor.process.ended()?.is_none(),
            "the server has ended\n{}",
            self.anchor.process.tail()
        );
        more?;
        let recording = Recording::of(&self.viewer.tags())?;
        let found = &recording.tracks;
        pictures::is_contiguous_run(
            &pictures::slices(&found.video)?,
            &decode::coded_pictures(&self.clip)?,
        )?;
        tracks::on_the_sample_clock(&found.audio)?;
        ensure!(largest_step_ms(&found.video) <= 67, "pictures came late");
        decode::without_errors(&recording.file)?;
        let panics = self.anchor.panics();
        ensure!(panics.is_empty(), "{panics:?}");
        Ok(())
    }
}

#[tokio::test]
async fn garbage_on_every_port_harms_nobody() -> anyhow::Result<()> {
    let mut live = Live::start(Options::default()).await?;
    let before_kib = live.anchor.resident_kib()?;
    let ports = live.anchor.ports;
    let http: Vec<Vec<u8>> = [
        "POST /whip/demo HTTP/1.1\r\nHost: a\r\nContent-Type: application/sdp\r\nContent-Length: 100\r\n\r\nv=0\r\n",
        "GET /live/demo.flv HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
        "GET /live/../../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /api/v1/channels HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n{",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect();
    // C0 and C1 of the RTMP handshake, then whatever follows: C2 and chunks of noise.
    let rtmp = vec![
        [&[3][..], &[0; 1536]].concat(),
        [&[3][..], &[0; 3072]].concat(),
        [&[3][..], &[1; 4000]].concat(),
    ];

    let (udp, web, publish, broadcast) = tokio::join!(
        rude::pelt_udp(ports.webrtc, 20_000, Dice::new(1)),
        rude::pelt_tcp(ports.http, 400, &http, Dice::new(2)),
        rude::pelt_tcp(ports.rtmp, 400, &rtmp, Dice::new(3)),
        rude::pelt_tcp(ports.rtmp_ingest, 400, &rtmp, Dice::new(4)),
    );
    udp.and(web).and(publish).and(broadcast)?;
    live.is_unharmed().await?;
    let grown_kib = live.anchor.resident_kib()?.saturating_sub(before_kib);
    assert!(grown_kib < 64 << 10, "memory grew by {grown_kib} KiB");
    Ok(())
}

#[tokio::test]
async fn bad_offers_get_clear_answers() -> anyhow::Result<()> {
    let mut live =
        Live::start(Options::default().set("http", "sessions_per_minute_per_ip = 0")).await?;
    let http = reqwest::Client::new();
    let url = live.anchor.whip("other");
    let post = |kind: &'static str, body: Vec<u8>| {
        let request = http.post(&url).header("content-type", kind).body(body);
        async move { anyhow::Ok(request.send().await?.status().as_u16()) }
    };
    let good = rude::offer(1);
    assert_eq!(post("text/plain", good.clone().into_bytes()).await?, 415);
    assert_eq!(post("application/sdp", b"hello".to_vec()).await?, 400);
    assert_eq!(post("application/sdp", Vec::new()).await?, 400);
    let no_h264 = good.replace("H264", "VP8").replace(
        "a=fmtp:102 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\n",
        "",
    );
    assert_eq!(post("application/sdp", no_h264.into_bytes()).await?, 422);
    let oversized = format!("{good}a={}\r\n", "x".repeat(2 << 20));
    assert_eq!(post("application/sdp", oversized.into_bytes()).await?, 413);
    let binary = post("application/sdp", vec![0xff; 2_000]).await?;
    assert_eq!(binary, 400);

    let mut dice = Dice::new(7);
    let mut answers = BTreeMap::<u16, usize>::new();
    for _ in 0..400 {
        let status = post("application/sdp", dice.damage(good.as_bytes())).await?;
        *answers.entry(status).or_default() += 1;
    }
    let expected = [201, 400, 409, 422, 429, 503];
    assert!(
        answers.keys().all(|status| expected.contains(status)),
        "{answers:?}"
    );
    live.is_unharmed().await
}

#[tokio::test]
async fn ten_thousand_half_open_sessions_are_bounded() -> anyhow::Result<()> {
    const SESSIONS: usize = 10_000;
    let options = Options::default()
        .set("http", "sessions_per_minute_per_ip = 0")
        .set("webrtc", "session_timeout_ms = 3000");
    let mut live = Live::start(options).await?;
    let before_kib = live.anchor.resident_kib()?;
    let idle = rude::hold_tcp(live.anchor.ports.rtmp, 300, &[3]).await;
    let slow = rude::hold_tcp(live.anchor.ports.http, 300, b"POST /whip/demo HTTP/1.1\r\n").await;

    let http = reqwest::Client::new();
    let mut answers = BTreeMap::<u16, usize>::new();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..SESSIONS {
        let url = live.anchor.whip(&format!(
            "half-{}?participant=p{number}&role=guest",
            number % 50
        ));
        let request = http
            .post(url)
            .header("content-type", "application/sdp")
            .body(rude::offer(number));
        tasks.spawn(async move { anyhow::Ok(request.send().await?.status().as_u16()) });
        if tasks.len() >= 16
            && let Some(done) = tasks.join_next().await
        {
            *answers.entry(done??).or_default() += 1;
        }
    }
    while let Some(done) = tasks.join_next().await {
        *answers.entry(done??).or_default() += 1;
    }
    let expected = [201, 409, 429, 503];
    assert!(
        answers.keys().all(|status| expected.contains(status)),
        "{answers:?}"
    );
    live.is_unharmed().await?;
    let grown_kib = live.anchor.resident_kib()?.saturating_sub(before_kib);
    assert!(grown_kib < 256 << 10, "memory grew by {grown_kib} KiB");
    drop((idle, slow));

    // Half-open sessions end by themselves, and there is room again.
    let url = live.anchor.whip("late");
    e2e::run::eventually(
        "room for another session",
        Duration::from_secs(20),
        async || {
            let answer = http
                .post(&url)
                .header("content-type", "application/sdp")
                .body(rude::offer(SESSIONS))
                .send()
                .await?;
            ensure!(answer.status() == 201, "{}", answer.status());
            Ok(())
        },
    )
    .await
}
