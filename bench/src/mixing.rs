//! What mixing costs: the mixer's process beside a plain GStreamer pipeline and an ffmpeg filter graph.
//!
//! All three decode the same clip several times in real time, scale it into the same tiles and code the result with x264 in
//! the same preset, one after the other. None of them draws names. Each must make all pictures: who is slow is not cheap.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::{Bytes, BytesMut};
use media::h264::{self, annexb_nals, nal_type, nal_unit_type};
use media::link::{
    Configure, Decoder, Fit, FromMixer, Layout, LayoutName, Message as _, PING_INTERVAL_MS,
    Picture, Scene, Tile, ToMixer, VERSION,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use crate::clip::Clip;
use crate::node::cpu_ms;
use crate::print;
use crate::report::Row;

const WIDTH: u32 = 1_280;
const HEIGHT: u32 = 720;
/// Between tiles and around them, in pixels: what the mixer's grid leaves.
const GAP: u32 = 10;
const FPS: i64 = 30;
const KBPS: u32 = 2_500;
/// What the mixer chooses by itself.
const PRESET: &str = "superfast";
const SETTLE: Duration = Duration::from_secs(4);
/// Programs that end when the clip ends must not end before the measurement.
const CLIP_S: u32 = 30;

/// Inputs of one size in a grid.
struct Case {
    inputs: u32,
    clip: Clip,
    /// Tiles in a row.
    columns: u32,
    /// The most that is allowed, in cores.
    bar: f64,
}

impl Case {
    /// Size of a tile: of the picture's shape, with a gap between them and to the edges, as the mixer's grid has it.
    fn tile(&self) -> [u32; 2] {
        let width = (WIDTH - GAP * (self.columns + 1)) / self.columns / 2 * 2;
        [width, width * HEIGHT / WIDTH / 2 * 2]
    }

    /// What is cut off a picture that is hardly larger than its tile, at left and right, top and bottom: the mixer does not
    /// scale such a one, so its peers need not.
    fn cut(&self) -> Option<[u32; 2]> {
        let [width, height] = self.tile();
        let hardly = |whole: u32, part: u32| (part..=part + part / 24).contains(&whole);
        let close = hardly(self.clip.width, width) && hardly(self.clip.height, height);
        close.then(|| [self.clip.width - width, self.clip.height - height])
    }

    /// Where each tile lies; what is left over is shared by both sides.
    fn places(&self) -> Vec<[u32; 2]> {
        let [width, height] = self.tile();
        let rows = self.inputs.div_ceil(self.columns);
        let margin = |whole, count, part| (whole - count * part - (count - 1) * GAP) / 4 * 2;
        let left = margin(WIDTH, self.columns, width);
        let top = margin(HEIGHT, rows, height);
        let place = |n| {
            let (row, column) = (n / self.columns, n % self.columns);
            [left + column * (width + GAP), top + row * (height + GAP)]
        };
        (0..self.inputs).map(place).collect()
    }

    /// The same for the mixer.
    fn scene(&self) -> Scene {
        let [width, height] = self.tile();
        let tile = |(input, [x, y]): (u32, [u32; 2])| Tile {
            input,
            x: part(x, WIDTH),
            y: part(y, HEIGHT),
            width: part(width, WIDTH),
            height: part(height, HEIGHT),
            fit: Fit::Cover,
        };
        Scene {
            layout: Layout {
                name: LayoutName::Custom,
                tiles: (0..).zip(self.places()).map(tile).collect(),
            },
            order: (0..self.inputs).collect(),
            ..Scene::default()
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the link's fractions are short"
)]
fn part(pixels: u32, whole: u32) -> f32 {
    (f64::from(pixels) / f64::from(whole)) as f32
}

/// CPU of three mixes.
pub(crate) async fn cost(mixer: &Path, clips: &Path, round: Duration) -> anyhow::Result<Vec<Row>> {
    let clip = |width, height, kbps| Clip {
        width,
        height,
        kbps,
        gop: 30,
        seconds: CLIP_S,
    };
    let small = clip(640, 360, 800);
    let cases = [
        (2, 2, clip(WIDTH, HEIGHT, KBPS), 0.35),
        (4, 2, small, 0.30),
        (9, 3, small, 0.55),
    ];
    let mut rows = Vec::new();
    for (inputs, columns, clip, bar) in cases {
        let case = Case {
            inputs,
            clip,
            columns,
            bar,
        };
        print(&format!("  {inputs} inputs"));
        rows.extend(compare(&case, mixer, clips, round).await?);
    }
    Ok(rows)
}

async fn compare(
    case: &Case,
    mixer: &Path,
    clips: &Path,
    round: Duration,
) -> anyhow::Result<Vec<Row>> {
    let file = case.clip.file(clips).await?;
    let Ours {
        cores,
        fps,
        first_ms,
    } = ours(case, mixer, &file, round).await?;
    let what = format!("mixing {} x {}p30 to 720p30", case.inputs, case.clip.height);
    let mut row = Row::new(format!("{what}: CPU"), cores, "cores").at_most(case.bar);
    let mut least = f64::INFINITY;
    let frames = f64::from(u32::try_from(FPS)?);
    for (name, command) in [
        ("gst-launch", gst_launch(case, &file)),
        ("ffmpeg", ffmpeg(case, &file)),
    ] {
        // A peer that is not there is no reason to lose the run
        match peer(command, round).await {
            Ok((_, fps)) if fps < frames * 0.95 => {
                print(&format!(
                    "  {name} left out: it made {fps:.1} pictures per second"
                ));
            }
            Ok((cores, _)) => {
                row = row.beside(name, cores);
                least = least.min(cores);
            }
            Err(error) => print(&format!("  {name} left out: {error:#}")),
        }
    }
    let mut rows = vec![row];
    if least.is_finite() {
        let title = format!("{what}: CPU / the cheaper peer");
        rows.push(Row::new(title, cores / least, "x").at_most(1.0));
    }
    rows.push(Row::new(format!("{what}: pictures per second"), fps, "fps").at_least(frames * 0.98));
    let title = format!("{what}: from start to first picture");
    rows.push(Row::new(title, first_ms, "ms"));
    Ok(rows)
}

/// Cores that a process uses after it has settled, and what it makes per second.
async fn cores(child: &mut Child, made: &AtomicU64, round: Duration) -> anyhow::Result<(f64, f64)> {
    let pid = child.id().context("it ended at once")?;
    tokio::time::sleep(SETTLE).await;
    let (cpu, pictures, begun) = (cpu_ms(pid)?, made.load(Relaxed), Instant::now());
    tokio::time::sleep(round).await;
    let (cpu, pictures) = (cpu_ms(pid)? - cpu, made.load(Relaxed) - pictures);
    let elapsed_s = begun.elapsed().as_secs_f64();
    anyhow::ensure!(child.try_wait()?.is_none(), "it ended too soon");
    let pictures = f64::from(u32::try_from(pictures)?);
    Ok((cpu / 1_000.0 / elapsed_s, pictures / elapsed_s))
}

/// Cores and pictures per second of a program that writes H.264 (Annex B) to its standard output.
async fn peer(mut command: Command, round: Duration) -> anyhow::Result<(f64, f64)> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let mut child = command.spawn()?;
    let mut output = child.stdout.take().context("no output")?;
    let made = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&made);
    let counting = tokio::spawn(async move {
        let (mut slices, mut chunk) = (Slices::default(), vec![0; 65_536]);
        while let Ok(length @ 1..) = output.read(&mut chunk).await {
            let found = slices.count(chunk.get(..length).unwrap_or_default());
            counter.fetch_add(found, Relaxed);
        }
    });
    let used = cores(&mut child, &made, round).await;
    let _ = child.kill().await;
    let _ = counting.await;
    used
}

/// Finds slices in an Annex B stream, however it is cut: pictures, when each has one.
#[derive(Default)]
struct Slices {
    /// The last bytes.
    tail: [u8; 3],
}

impl Slices {
    fn count(&mut self, bytes: &[u8]) -> u64 {
        let mut found = 0;
        for byte in bytes {
            let is_slice = matches!(byte & 0x1f, nal_type::SLICE | nal_type::IDR);
            found += u64::from(self.tail == [0, 0, 1] && is_slice);
            let [_, b, c] = self.tail;
            self.tail = [b, c, *byte];
        }
        found
    }
}

fn gst_launch(case: &Case, file: &Path) -> Command {
    let [width, height] = case.tile();
    let mut text = "compositor name=mix background=black".to_owned();
    for (n, [x, y]) in case.places().iter().enumerate() {
        text += &format!(
            " sink_{n}::xpos={x} sink_{n}::ypos={y} sink_{n}::width={width} sink_{n}::height={height}"
        );
    }
    text += &format!(
        " ! video/x-raw,format=I420,width={WIDTH},height={HEIGHT},framerate={FPS}/1 \
         ! x264enc speed-preset={PRESET} tune=zerolatency bitrate={KBPS} key-int-max=60 bframes=0 threads=1 \
         ! video/x-h264,profile=constrained-baseline,stream-format=byte-stream ! fdsink fd=1 sync=true"
    );
    let fit = case.cut().map_or(String::new(), |[sides, ends]| {
        format!(
            "! videocrop left={} right={} top={} bottom={} ",
            sides / 2,
            sides - sides / 2,
            ends / 2 / 2 * 2,
            ends - ends / 2 / 2 * 2
        )
    });
    for n in 0..case.inputs {
        text += &format!(
            " filesrc location={} ! qtdemux ! h264parse ! avdec_h264 max-threads=1 {fit}! queue ! mix.sink_{n}",
            file.display()
        );
    }
    let mut command = Command::new("gst-launch-1.0");
    command.arg("-q").args(text.split_whitespace());
    command
}

fn ffmpeg(case: &Case, file: &Path) -> Command {
    let [width, height] = case.tile();
    let places = case.places();
    let [left, top] = places.first().copied().unwrap_or_default();
    let mut graph = String::new();
    let (mut tiles, mut layout) = (String::new(), Vec::new());
    for (n, [x, y]) in places.iter().enumerate() {
        graph += &match case.cut() {
            Some(_) => format!("[{n}:v]crop={width}:{height}[t{n}];"),
            None => format!("[{n}:v]scale={width}:{height}[t{n}];"),
        };
        tiles += &format!("[t{n}]");
        layout.push(format!("{}_{}", x - left, y - top));
    }
    graph += &format!(
        "{tiles}xstack=inputs={}:layout={}:fill=black,pad={WIDTH}:{HEIGHT}:{left}:{top}[out]",
        case.inputs,
        layout.join("|")
    );
    let mut command = Command::new("ffmpeg");
    command.args(["-hide_banner", "-loglevel", "error", "-nostdin"]);
    for _ in 0..case.inputs {
        command.args(["-re", "-threads", "1", "-i"]).arg(file);
    }
    command
        .args([
            "-filter_complex_threads",
            "1",
            "-filter_complex",
            &graph,
            "-map",
            "[out]",
        ])
        .args(["-c:v", "libx264", "-preset", PRESET, "-tune", "zerolatency"])
        .args(["-profile:v", "baseline", "-threads", "1", "-g", "60"])
        .args(["-b:v", &format!("{KBPS}k"), "-f", "h264", "-"]);
    command
}

/// Coded pictures of a clip.
struct Pictures {
    config: h264::Config,
    units: Vec<(bool, Bytes)>,
}

impl Pictures {
    async fn read(file: &Path) -> anyhow::Result<Self> {
        let output = Command::new("ffmpeg")
            .args(["-hide_banner", "-loglevel", "error", "-i"])
            .arg(file)
            .args([
                "-an",
                "-c:v",
                "copy",
                "-bsf:v",
                "h264_mp4toannexb",
                "-f",
                "h264",
                "-",
            ])
            .output()
            .await?;
        anyhow::ensure!(output.status.success(), "ffmpeg cannot read the clip");
        let (mut sps, mut pps) = (None, None);
        let mut units = Vec::new();
        for nal in annexb_nals(&output.stdout) {
            match nal_unit_type(nal) {
                nal_type::SPS => sps = Some(Bytes::copy_from_slice(nal)),
                nal_type::PPS => pps = Some(Bytes::copy_from_slice(nal)),
                kind @ (nal_type::SLICE | nal_type::IDR) => {
                    units.push((kind == nal_type::IDR, h264::to_avcc([nal])));
                }
                _ => {}
            }
        }
        let (sps, pps) = sps.zip(pps).context("no parameter sets in the clip")?;
        Ok(Self {
            config: h264::Config::new(sps, vec![pps])?,
            units,
        })
    }
}

/// What the mixer's process did.
struct Ours {
    cores: f64,
    fps: f64,
    /// From the start of the process to its first picture, with its latency of 180 ms.
    first_ms: f64,
}

/// Runs the mixer's process.
async fn ours(case: &Case, mixer: &Path, file: &Path, round: Duration) -> anyhow::Result<Ours> {
    let pictures = Arc::new(Pictures::read(file).await?);
    let (near, far) = UnixStream::pair()?;
    let far = far.into_std()?;
    far.set_nonblocking(false)?;
    let begun = Instant::now();
    let mut child = Command::new(mixer)
        .stdin(Stdio::from(OwnedFd::from(far)))
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start {}", mixer.display()))?;
    let (from_mixer, to_mixer) = near.into_split();
    let made = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    let first = Arc::new(OnceLock::new());
    tasks.spawn(count(from_mixer, Arc::clone(&made), Arc::clone(&first)));
    tasks.spawn(feed(to_mixer, case.scene(), pictures));
    let (cores, fps) = tokio::select! {
        used = cores(&mut child, &made, round) => used?,
        ended = tasks.join_next() => anyhow::bail!("the link to the mixer broke: {ended:?}"),
    };
    let first = first.get().context("the mixer made no picture")?;
    Ok(Ours {
        cores,
        fps,
        first_ms: first.duration_since(begun).as_secs_f64() * 1_000.0,
    })
}

/// Plays the anchor: every input gets the clip over and over in real time, each at a phase of its own.
async fn feed(
    mut link: OwnedWriteHalf,
    scene: Scene,
    pictures: Arc<Pictures>,
) -> anyhow::Result<()> {
    let inputs = u32::try_from(scene.order.len())?;
    let begun = Instant::now();
    let now_ns = || i64::try_from(begun.elapsed().as_nanos()).unwrap_or(i64::MAX);
    let mut bytes = BytesMut::new();
    ToMixer::Hello { version: VERSION }.encode(&mut bytes)?;
    let ping = |id| ToMixer::Ping {
        id,
        program_ns: now_ns(),
    };
    ping(0).encode(&mut bytes)?;
    let configure = Configure {
        width: WIDTH,
        height: HEIGHT,
        bitrate_bps: KBPS * 1_000,
        speed: Some(PRESET.into()),
        names: false,
        ..Configure::default()
    };
    ToMixer::Configure(configure).encode(&mut bytes)?;
    for input in 0..inputs {
        let name = format!("Guest {input}");
        ToMixer::Add { input, name }.encode(&mut bytes)?;
        let config = pictures.config.clone();
        ToMixer::VideoConfig { input, config }.encode(&mut bytes)?;
    }
    ToMixer::Scene(scene).encode(&mut bytes)?;
    let step_ns = 1_000_000_000 / FPS;
    let (mut pings, mut number) = (0, 0_i64);
    loop {
        for input in 0..inputs {
            let pts_ns = number * step_ns + step_ns * i64::from(input) / i64::from(inputs) / 2;
            let wait = Duration::from_nanos(u64::try_from(pts_ns - now_ns()).unwrap_or(0));
            if !wait.is_zero() {
                link.write_all(&bytes).await?;
                bytes.clear();
                tokio::time::sleep(wait).await;
            }
            let at = usize::try_from(number)? % pictures.units.len().max(1);
            let (keyframe, data) = pictures.units.get(at).context("an empty clip")?;
            let unit = Picture {
                pts_ns,
                dts_ns: pts_ns,
                keyframe: *keyframe,
                discontinuity: false,
                data: data.clone(),
            };
            ToMixer::Picture { input, unit }.encode(&mut bytes)?;
        }
        number += 1;
        if number * step_ns / 1_000_000 > i64::try_from(pings * PING_INTERVAL_MS)? {
            pings += 1;
            ping(pings).encode(&mut bytes)?;
        }
    }
}

/// Counts the mixer's pictures, and notes when the first comes.
async fn count(
    mut link: OwnedReadHalf,
    made: Arc<AtomicU64>,
    first: Arc<OnceLock<Instant>>,
) -> anyhow::Result<()> {
    let mut decoder = Decoder::<FromMixer>::new();
    let mut chunk = vec![0; 65_536];
    loop {
        let length = link.read(&mut chunk).await?;
        anyhow::ensure!(length > 0, "the mixer has ended");
        decoder.feed(chunk.get(..length).unwrap_or_default());
        while let Some(message) = decoder.next_message()? {
            match message {
                FromMixer::Picture(_) => {
                    first.get_or_init(Instant::now);
                    made.fetch_add(1, Relaxed);
                }
                FromMixer::Error { message } => anyhow::bail!("the mixer says: {message}"),
                FromMixer::Challenge { .. }
                | FromMixer::Hello { .. }
                | FromMixer::VideoConfig(_)
                | FromMixer::Pong { .. }
                | FromMixer::Stats(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_of_peers_fill_the_picture() {
        let clip = Clip {
            width: 640,
            height: 360,
            kbps: 800,
            gop: 30,
            seconds: 1,
        };
        for (inputs, columns, size, last) in [
            (2, 2, [624, 350], [644, 184]),
            (4, 2, [624, 350], [644, 364]),
            (9, 3, [412, 230], [856, 484]),
        ] {
            let case = Case {
                inputs,
                clip,
                columns,
                bar: 1.0,
            };
            let places = case.places();
            assert_eq!(places.len(), usize::try_from(inputs).unwrap());
            assert_eq!((case.tile(), places.last()), (size, Some(&last)));
            assert_eq!(case.cut(), (inputs < 9).then_some([16, 10]));
            let fits = |[x, y]: &[u32; 2]| x + size[0] <= WIDTH && y + size[1] <= HEIGHT;
            assert!(places.iter().all(fits));
        }
    }

    #[test]
    fn slices_are_found_however_the_bytes_are_cut() {
        let stream = [
            0, 0, 0, 1, 0x67, 9, 0, 0, 1, 0x65, 1, 2, 0, 0, 1, 0x41, 0, 0, 1, 0x06, 0,
        ];
        for step in 1..stream.len() {
            let mut slices = Slices::default();
            let found: u64 = stream.chunks(step).map(|part| slices.count(part)).sum();
            assert_eq!(found, 2, "in pieces of {step}");
        }
    }
}
