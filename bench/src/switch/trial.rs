//! One trial: the same show by AnchorNet and by two paths, at the same time, over the same network, watched alike.
//!
//! Both shows have a host and a guest at the studio and go from solo to collab and back.
//!
//! AnchorNet: the host publishes by WHIP all the time, the anchor's one publisher stays connected, `PUT …/mode` switches.
//!
//! Two paths: alone, the host publishes to the CDN by RTMP itself. For collab that session is closed, the host joins by
//! WHIP (ICE, DTLS) an anchor that serves as the conference's server: it starts a mixer, and a new RTMP session goes from
//! there to another ingest of the CDN. Back is the reverse. Where a real system may do better or worse than that, the
//! better is assumed: the application knows all addresses, RTMP is without TLS, a new session begins with a keyframe, the
//! guest is in the conference already, the RTMP session is opened while the mixer starts, and viewers know the new
//! ingest from the moment of the switch on and ask it every 20 ms. No program has to start: the moment of the switch is when
//! the host's first packet to the conference is under way.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::process::Child;
use tokio::task::JoinHandle;

use super::net::{Impairment, Net, Site};
use super::player::{Arrival, Trouble, from, play};
use crate::api::{Channel, Switched};
use crate::viewer::FlvStream;

/// What is looked at after each switch.
const WINDOW: Duration = Duration::from_secs(10);
/// Viewers have played for so long, and up to a second more, before anything happens.
const WARM_UP: Duration = Duration::from_millis(2_500);
const PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);
/// HTTP port of the second anchor, the conference's server.
const CONFERENCE: u16 = 8081;
const SECRET: &str = "a secret of the bench, and none at all";

/// What all trials share.
#[derive(Clone)]
pub(crate) struct Kit {
    pub(crate) anchornet: PathBuf,
    pub(crate) clip: PathBuf,
    pub(crate) video_kbps: u32,
    pub(crate) token: String,
}

impl Kit {
    /// A token is minted by the binary itself.
    pub(crate) async fn new(
        anchornet: &Path,
        clip: PathBuf,
        video_kbps: u32,
    ) -> anyhow::Result<Self> {
        let output = tokio::process::Command::new(anchornet)
            .args(["token", "--scope", "publish,view,control,admin"])
            .env("ANCHORNET_AUTH_SECRET", SECRET)
            .output()
            .await?;
        let token = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let told = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success() && !token.is_empty(), "{told}");
        Ok(Self {
            anchornet: anchornet.to_owned(),
            clip,
            video_kbps,
            token,
        })
    }
}

/// What viewers of each saw, to collab and back.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) anchornet: [Trouble; 2],
    /// The new session carries the mixer's pictures from its first on.
    pub(crate) dual: [Trouble; 2],
    /// The same when the host alone is shown until the mixer is ready.
    pub(crate) dual_early: [Trouble; 2],
    /// From the switch to the conference's server seeing the host.
    pub(crate) joined_ms: f64,
    /// From the switch to the first picture of the mix at the viewer's edge.
    pub(crate) taken_over_ms: f64,
}

/// Runs one trial. `lane` is its own among those that run at the same time.
pub(crate) async fn run(
    kit: &Kit,
    impairment: Impairment,
    seed: u64,
    lane: u8,
) -> anyhow::Result<Outcome> {
    let net = Net::start(lane, impairment, seed).await?;
    let cdn = net.socket(Site::Cdn, 8080);
    let _origin = serve(kit, &net, Site::Cdn, "origin", 0).await?;
    let ours = Anchored::start(kit, &net).await?;
    let mut dual = Dual::start(kit, &net).await?;
    let watching = [
        Recording::start(cdn, "/live/anchored.flv"),
        Recording::start(cdn, "/live/first.flv"),
    ];
    for recording in &watching {
        recording.begun().await?;
    }
    let phase_ms = StdRng::seed_from_u64(seed).random_range(0..1_000);
    tokio::time::sleep(WARM_UP + Duration::from_millis(phase_ms)).await;

    dual.call().await?;
    let to_collab = Instant::now();
    let mixed = Recording::start(cdn, "/live/mixed.flv");
    let (switched, joined) = tokio::join!(ours.channel.switch("collab"), dual.enter());
    switched?;
    let (joined, cut) = joined?;
    tokio::time::sleep_until((to_collab + WINDOW).into()).await;

    let to_solo = Instant::now();
    let second = Recording::start(cdn, "/live/second.flv");
    let (switched, left) = tokio::join!(ours.channel.switch("solo"), dual.leave());
    switched?;
    left?;
    let end = to_solo + WINDOW;
    tokio::time::sleep_until(end.into()).await;

    let [anchored, first] = watching.map(Recording::finish);
    let (mixed, second) = (mixed.finish(), second.finish());
    let late = from(&mixed, cut.video_dts_ms);
    let taken_over = late.first().map_or(f64::NAN, |(at, _)| ms(to_collab, *at));
    let judge = |streams: &[Vec<Arrival>]| {
        let viewing = play(streams, end);
        anyhow::ensure!(
            viewing.begun.is_some_and(|begun| begun < to_collab),
            "a viewer was not playing yet"
        );
        Ok([to_collab, to_solo].map(|switch| viewing.trouble(switch, WINDOW)))
    };
    Ok(Outcome {
        anchornet: judge(&[anchored])?,
        dual: judge(&[first.clone(), late, second.clone()])?,
        dual_early: judge(&[first, mixed, second])?,
        joined_ms: ms(to_collab, joined),
        taken_over_ms: taken_over,
    })
}

fn ms(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64() * 1_000.0
}

/// A node at a site, ready; `number` tells several at one site apart.
async fn serve(kit: &Kit, net: &Net, site: Site, part: &str, number: u16) -> anyhow::Result<Child> {
    let http = net.socket(site, 8080 + number);
    let mut command = net.command(site, &kit.anchornet)?;
    command
        .arg(part)
        .env("ANCHORNET_AUTH_SECRET", SECRET)
        .env("RUST_LOG", "error");
    let settings = [
        format!("http.listen={http}"),
        format!("webrtc.listen={}", net.socket(site, 8189 + number)),
        format!("rtmp.listen={}", net.socket(site, 1935 + number)),
        "rtmp_ingest.enabled=false".into(),
        // both start a mixer when they switch; small and quick, so that many trials fit on one machine
        "mixer.prewarm=never".into(),
        "mixer.speed=ultrafast".into(),
        "mixer.keyframe_interval_ms=1000".into(),
        format!("mixer.bitrate_kbps={}", kit.video_kbps),
    ];
    for setting in settings {
        command.arg("--set").arg(setting);
    }
    let mut child = command.spawn().context("cannot start a node")?;
    let begun = Instant::now();
    let ready = format!("http://{http}/readyz");
    while !reqwest::get(&ready)
        .await
        .is_ok_and(|answer| answer.status().is_success())
    {
        if let Some(status) = child.try_wait()? {
            anyhow::bail!("anchornet {part} ended at once: {status}");
        }
        anyhow::ensure!(
            begun.elapsed() < PATIENCE,
            "anchornet {part} does not become ready"
        );
        tokio::time::sleep(POLL).await;
    }
    Ok(child)
}

/// A broadcaster at the studio, by WHIP.
fn broadcast(
    kit: &Kit,
    net: &Net,
    number: u16,
    channel: &str,
    role: &str,
) -> anyhow::Result<Child> {
    let server = net.socket(Site::Anchor, 8080 + number);
    let url = format!("http://{server}/whip/{channel}?participant={role}&role={role}");
    let mut command = net.command(Site::Studio, &kit.anchornet)?;
    command
        .arg("publish")
        .arg(&kit.clip)
        .args(["--quiet", "--whip", &url]);
    command
        .env("ANCHORNET_TOKEN", &kit.token)
        .env("RUST_LOG", "error");
    command.spawn().context("cannot start a broadcaster")
}

/// Where to publish a stream to the CDN.
fn ingest(kit: &Kit, net: &Net, stream: &str) -> String {
    let server = net.socket(Site::Cdn, 1935);
    format!("rtmp://{server}/live/{stream}?token={}", kit.token)
}

/// The show by AnchorNet.
struct Anchored {
    channel: Channel,
    _processes: [Child; 3],
}

impl Anchored {
    async fn start(kit: &Kit, net: &Net) -> anyhow::Result<Self> {
        let node = serve(kit, net, Site::Anchor, "anchor", 0).await?;
        let server = format!("http://{}", net.socket(Site::Anchor, 8080));
        let push = ingest(kit, net, "anchored");
        let channel = Channel::create(&server, Some(&kit.token), "show", &[&push]).await?;
        let host = broadcast(kit, net, 0, "show", "host")?;
        let guest = broadcast(kit, net, 0, "show", "guest")?;
        channel.await_live(2).await?;
        Ok(Self {
            channel,
            _processes: [node, host, guest],
        })
    }
}

/// The show by two paths.
struct Dual<'a> {
    kit: &'a Kit,
    net: &'a Net,
    conference: Channel,
    first: RtmpHost,
    second: RtmpHost,
    host: Option<Child>,
    _processes: [Child; 2],
}

impl<'a> Dual<'a> {
    async fn start(kit: &'a Kit, net: &'a Net) -> anyhow::Result<Self> {
        let node = serve(kit, net, Site::Anchor, "anchor", 1).await?;
        let server = format!("http://{}", net.socket(Site::Anchor, CONFERENCE));
        let conference = Channel::create(&server, Some(&kit.token), "talk", &[]).await?;
        let guest = broadcast(kit, net, 1, "talk", "guest")?;
        conference.await_live(1).await?;
        let mut first = RtmpHost::prepare(kit, net, "first")?;
        first.go().await?;
        Ok(Self {
            kit,
            net,
            conference,
            first,
            second: RtmpHost::prepare(kit, net, "second")?,
            host: None,
            _processes: [node, guest],
        })
    }

    /// The host's application begins to join: how long a program takes to start shall not count.
    async fn call(&mut self) -> anyhow::Result<()> {
        let called = self.net.called(CONFERENCE);
        self.host = Some(broadcast(self.kit, self.net, 1, "talk", "host")?);
        called.await
    }

    /// When the conference saw the host, and the mixer's first picture.
    async fn enter(&mut self) -> anyhow::Result<(Instant, Switched)> {
        self.first.hang_up();
        self.conference.await_live(2).await?;
        let joined = Instant::now();
        let push = ingest(self.kit, self.net, "mixed");
        let push = [&push[..]];
        let (pushed, switched) = tokio::join!(
            self.conference.push_to(&push),
            self.conference.switch("collab")
        );
        pushed?;
        Ok((joined, switched?))
    }

    async fn leave(&mut self) -> anyhow::Result<()> {
        self.second.go().await?;
        self.conference.push_to(&[]).await?;
        if let Some(host) = &mut self.host {
            host.start_kill()?;
        }
        Ok(())
    }
}

/// A host that publishes to the CDN by RTMP: this program, at the studio, see [`rtmp_host`].
struct RtmpHost(Child);

impl RtmpHost {
    /// Starts the program, which waits for a word.
    fn prepare(kit: &Kit, net: &Net, stream: &str) -> anyhow::Result<Self> {
        let mut command = net.command(Site::Studio, &std::env::current_exe()?)?;
        command
            .arg("rtmp-host")
            .arg(ingest(kit, net, stream))
            .arg(kit.video_kbps.to_string())
            .stdin(Stdio::piped());
        Ok(Self(command.spawn().context("cannot start a host")?))
    }

    async fn go(&mut self) -> anyhow::Result<()> {
        use tokio::io::AsyncWriteExt as _;
        let stdin = self.0.stdin.as_mut().context("the host has left")?;
        Ok(stdin.write_all(b"go\n").await?)
    }

    /// The end of its standard input tells it to say goodbye.
    fn hang_up(&mut self) {
        self.0.stdin = None;
    }
}

/// The other end of [`RtmpHost`]: publishes from the first byte of standard input to its end.
pub(crate) async fn rtmp_host(url: String, video_kbps: u64) -> anyhow::Result<()> {
    use tokio::io::AsyncReadExt as _;
    let mut stdin = tokio::io::stdin();
    if stdin.read(&mut [0; 8]).await? == 0 {
        return Ok(());
    }
    let source = crate::source::Source::publish(url, video_kbps * 1_000).await?;
    stdin.read_to_end(&mut Vec::new()).await?;
    source.stop().await;
    Ok(())
}

/// What arrives of a stream at a viewer who asks for it until it is there.
struct Recording {
    arrivals: Arc<Mutex<Vec<Arrival>>>,
    task: JoinHandle<()>,
}

impl Recording {
    fn start(server: SocketAddr, path: &'static str) -> Self {
        let arrivals = Arc::<Mutex<Vec<Arrival>>>::default();
        let noted = Arc::clone(&arrivals);
        let task = tokio::spawn(async move {
            let mut stream = loop {
                match FlvStream::open(server, path).await {
                    Ok(stream) => break stream,
                    Err(_) => tokio::time::sleep(POLL).await,
                }
            };
            let note = |unit| {
                let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
                noted.push((Instant::now(), unit));
            };
            while stream.read(note).await.unwrap_or(false) {}
        });
        Self { arrivals, task }
    }

    fn take(&self) -> Vec<Arrival> {
        let arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        arrivals.clone()
    }

    async fn begun(&self) -> anyhow::Result<()> {
        let begun = Instant::now();
        while self.take().is_empty() {
            anyhow::ensure!(begun.elapsed() < PATIENCE, "a viewer sees nothing");
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    fn finish(self) -> Vec<Arrival> {
        self.take()
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.task.abort();
    }
}
