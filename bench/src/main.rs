//! `make bench`: AnchorNet measured beside its peers, in one run on one machine.
//!
//! The servers are child processes; the source and all viewers live in this process, so that their CPU is not counted
//! and one clock serves both ends. Absolute figures depend on the machine: read the ratios. Peers take part when they
//! are installed: nginx with its RTMP module (`apt-get install nginx libnginx-mod-rtmp`), Janus (`apt-get install janus`) and xiu
//! (`cargo install xiu`).

#![expect(
    clippy::disallowed_methods,
    reason = "a bench reads clocks and opens sockets"
)]

mod api;
mod channel;
mod clip;
mod delivery;
mod fanout;
mod mixing;
mod node;
mod passthrough;
mod report;
mod rtmp;
mod scheduling;
mod sfu;
mod source;
mod stats;
mod switch;
mod viewer;

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser as _;

use self::fanout::{Fanout, fan_out};
use self::node::Node;
use self::report::Row;

/// The program delay of the default configuration, in milliseconds.
const PROGRAM_DELAY_MS: f64 = 300.0;

/// Measures AnchorNet beside its peers; prints a table and writes JSON.
#[derive(clap::Parser)]
struct Args {
    #[command(subcommand)]
    role: Option<Role>,
    /// Shorter rounds with fewer viewers: does the bench work?
    #[arg(long)]
    quick: bool,
    /// Only these parts; all without it.
    #[arg(long, value_delimiter = ',', value_name = "PART")]
    only: Vec<Part>,
    /// Trials of the switch per network, or in all with --drawn: 3 without it, and 30 per network take more than an hour.
    /// Seeds of the simulated delivery: 30 without it.
    #[arg(long, value_name = "N")]
    seeds: Option<u64>,
    /// Vary every assumed number of the simulated delivery by half: takes long.
    #[arg(long)]
    sensitivity: bool,
    /// Draw a network for each trial of the switch, instead of trying each on all.
    #[arg(long, conflicts_with_all = ["rtt", "loss"])]
    drawn: bool,
    /// Trials of the switch at the same time.
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=50))]
    parallel: u8,
    /// Networks of the switch: round-trip times in milliseconds.
    #[arg(long, value_delimiter = ',', default_values_t = [20, 50, 100, 200], value_name = "MS")]
    rtt: Vec<u32>,
    /// Networks of the switch: packets lost on each way, in percent.
    #[arg(long, value_delimiter = ',', default_values_t = [0.0, 1.0, 3.0], value_name = "PERCENT", value_parser = parse_percent)]
    loss: Vec<f64>,
    /// The binary under measurement.
    #[arg(long, default_value = "target/release/anchornet")]
    anchornet: PathBuf,
    /// Where the JSON goes.
    #[arg(long, default_value = "target/bench/results.json")]
    json: PathBuf,
    /// Exit with 1 when a bar is missed.
    #[arg(long)]
    strict: bool,
}

impl Args {
    /// Whether all that is to be measured is in this program.
    fn needs_no_binary(&self) -> bool {
        let inside = |part: &Part| matches!(part, Part::Rlive | Part::Scheduler);
        !self.only.is_empty() && self.only.iter().all(inside)
    }

    /// Where clips are kept.
    fn clips(&self) -> PathBuf {
        self.json.with_file_name("clips")
    }
}

/// What the bench starts itself as.
#[derive(clap::Subcommand)]
enum Role {
    /// A host that publishes noise by RTMP, from the first byte of standard input to its end.
    #[command(hide = true)]
    RtmpHost { url: String, video_kbps: u64 },
}

/// Parts of the bench.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Start-up and idle memory.
    Idle,
    /// A channel from the host to a viewer, and its cost.
    Channel,
    /// A host by RTMP that passes through.
    Passthrough,
    /// Many viewers of one stream.
    Fanout,
    /// Solo to collab and back: what viewers notice, how long it takes.
    Switch,
    /// What the mixer costs.
    Mixing,
    /// Forwarding by WebRTC.
    Sfu,
    /// Delivery over relays, simulated. Needs no binary.
    Rlive,
    /// The scheduler of relays with a million of them. Needs no binary.
    Scheduler,
}

fn parse_percent(text: &str) -> Result<f64, String> {
    let percent: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    match (0.0..=100.0).contains(&percent) {
        true => Ok(percent),
        false => Err("a percentage lies between 0 and 100".into()),
    }
}

/// Sizes of a run.
struct Scale {
    viewers: [usize; 2],
    round: Duration,
    channel: Duration,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if let Some(Role::RtmpHost { url, video_kbps }) = args.role {
        return switch::rtmp_host(url, video_kbps).await;
    }
    anyhow::ensure!(
        args.needs_no_binary() || args.anchornet.is_file(),
        "there is no {}: cargo build --release -p server",
        args.anchornet.display()
    );
    let seconds = Duration::from_secs;
    let scale = match args.quick {
        true => Scale {
            viewers: [10, 30],
            round: seconds(3),
            channel: seconds(6),
        },
        false => Scale {
            viewers: [100, 300],
            round: seconds(10),
            channel: seconds(20),
        },
    };
    let wants = |part| args.only.is_empty() || args.only.contains(&part);
    let mut rows = Vec::new();
    if wants(Part::Idle) {
        rows.extend(idle(&args).await?);
    }
    if wants(Part::Channel) {
        rows.extend(whole_channel(&args, &scale).await?);
    }
    if wants(Part::Passthrough) {
        print("one host by RTMP, passed on");
        rows.extend(passthrough::cost(&args.anchornet, &args.clips(), scale.channel).await?);
    }
    if wants(Part::Fanout) {
        rows.extend(fan_outs(&args, &scale).await?);
    }
    if wants(Part::Switch) {
        rows.extend(switches(&args).await?);
    }
    if wants(Part::Mixing) {
        rows.extend(mixes(&args).await?);
    }
    if wants(Part::Sfu) {
        rows.extend(forwarding(&args, scale.round).await?);
    }
    if wants(Part::Rlive) {
        print("delivery over relays, simulated");
        rows.extend(delivery::rows(args.seeds.unwrap_or(30), args.quick));
        if args.sensitivity {
            print("delivery over relays: each assumed number varied");
            rows.extend(delivery::sensitivity(args.seeds.unwrap_or(10)));
        }
    }
    if wants(Part::Scheduler) {
        print("the scheduler of relays");
        rows.extend(scheduling::rows(args.quick).await?);
    }
    report::write(&rows, &args.json)?;
    print(&format!(
        "\n{}\nwritten to {}",
        report::table(&rows),
        args.json.display()
    ));
    let missed = rows
        .iter()
        .filter(|row| row.passes() == Some(false))
        .count();
    anyhow::ensure!(!args.strict || missed == 0, "{missed} bars missed");
    Ok(())
}

/// Start-up and memory of a node that does nothing.
async fn idle(args: &Args) -> anyhow::Result<Vec<Row>> {
    print("start-up and idle memory");
    let mut started_ms: Vec<f64> = Vec::new();
    for _ in 0..3 {
        let node = Node::anchornet(&args.anchornet, "run", &[]).await?;
        started_ms.push(node.started_in.as_secs_f64() * 1_000.0);
        node.stop().await;
    }
    let node = Node::anchornet(&args.anchornet, "run", &[]).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let rss = node.rss_mb()?;
    node.stop().await;
    let slowest = started_ms.iter().copied().fold(0.0, f64::max);
    Ok(vec![
        Row::new("start until /readyz, slowest of 3", slowest, "ms").at_most(300.0),
        Row::new("idle memory (RSS)", rss, "MB").at_most(40.0),
    ])
}

/// WHIP host to FLV viewer, and what the channel costs.
async fn whole_channel(args: &Args, scale: &Scale) -> anyhow::Result<Vec<Row>> {
    print("one channel: WHIP host, program, origin, viewer");
    let node = Node::anchornet(&args.anchornet, "run", &[]).await?;
    let solo = channel::solo_cpu(&args.anchornet, &node, scale.channel).await?;
    let live = channel::early_viewer(&args.anchornet, &node, scale.channel).await?;
    node.stop().await;
    Ok(vec![
        Row::new("solo channel: CPU per second", solo, "ms").at_most(12.0),
        Row::new(
            "first picture after the host's, viewer came before",
            live.first_picture_ms,
            "ms",
        )
        .at_most(500.0),
        Row::new("capture to FLV viewer, p50", live.p50_ms, "ms"),
        Row::new("capture to FLV viewer, p95", live.p95_ms, "ms").at_most(PROGRAM_DELAY_MS + 100.0),
        Row::new("pictures per second at that viewer", live.fps, "fps").at_least(29.7),
    ])
}

/// CPU of the mixer's process.
async fn mixes(args: &Args) -> anyhow::Result<Vec<Row>> {
    print(
        "mixing beside GStreamer and ffmpeg: three minutes, most of them to settle and to measure",
    );
    let mixer = args.anchornet.with_file_name("anchornet-mixer");
    let round = Duration::from_secs(if args.quick { 4 } else { 12 });
    mixing::cost(&mixer, &args.clips(), round).await
}

/// Solo to collab and back.
async fn switches(args: &Args) -> anyhow::Result<Vec<Row>> {
    print("switch: from the request to the first picture");
    let toggles = if args.quick { 5 } else { 30 };
    let mut rows = switch::durations(&args.anchornet, &args.clips(), toggles).await?;
    print("switch: latency of the program, solo and collab");
    let round = Duration::from_secs(if args.quick { 4 } else { 10 });
    rows.extend(switch::latency(&args.anchornet, &args.clips(), round, PROGRAM_DELAY_MS).await?);
    print("switch: rebuffering of viewers, AnchorNet beside two paths");
    let plan = switch::Plan {
        networks: if args.drawn {
            switch::Networks::Drawn
        } else {
            switch::Networks::Grid {
                round_trips_ms: args.rtt.clone(),
                losses_percent: args.loss.clone(),
            }
        },
        seeds: if args.quick {
            1
        } else {
            args.seeds.unwrap_or(3)
        },
        parallel: args.parallel.into(),
    };
    rows.extend(switch::rebuffering(&args.anchornet, &args.clips(), &plan).await?);
    Ok(rows)
}

async fn fan_outs(args: &Args, scale: &Scale) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for viewers in scale.viewers {
        print(&format!("fan-out to {viewers} viewers"));
        let ours = anchornet_round(args, &[], viewers, scale).await?;
        let batched =
            anchornet_round(args, &["origin.write_coalescing_ms=350"], viewers, scale).await?;
        let mut peers = Vec::new();
        for peer in [Node::nginx(None).await?, Node::xiu().await?]
            .into_iter()
            .flatten()
        {
            print(&format!("  {}", peer.name));
            // A peer that fails is no reason to lose the run
            match fan_out(&peer, viewers, scale.round).await {
                Ok(result) => peers.push((peer.name, result)),
                Err(error) => print(&format!("  {} left out: {error:#}", peer.name)),
            }
            peer.stop().await;
        }
        rows.extend(fan_out_rows(viewers, &ours, &batched, &peers));
    }
    Ok(rows)
}

async fn anchornet_round(
    args: &Args,
    settings: &[&str],
    viewers: usize,
    scale: &Scale,
) -> anyhow::Result<Fanout> {
    let node = Node::anchornet(&args.anchornet, "origin", settings).await?;
    let result = fan_out(&node, viewers, scale.round).await;
    node.stop().await;
    result
}

fn fan_out_rows(
    viewers: usize,
    ours: &Fanout,
    batched: &Fanout,
    peers: &[(&'static str, Fanout)],
) -> Vec<Row> {
    let beside = |row: Row, of: fn(&Fanout) -> f64| {
        peers
            .iter()
            .fold(row, |row, (name, peer)| row.beside(name, of(peer)))
    };
    let title = |what: &str| format!("FLV x{viewers}: {what}");
    let row = |what: &str, result: &Fanout, of: fn(&Fanout) -> f64, unit| {
        beside(Row::new(title(what), of(result), unit), of)
    };
    vec![
        row("CPU per viewer-second", ours, |fanout| fanout.cpu_ms, "ms").at_most(0.40),
        row("latency p50", ours, |fanout| fanout.p50_ms, "ms").at_most(20.0),
        row("latency p99", ours, |fanout| fanout.p99_ms, "ms"),
        row(
            "first frame after connect, p50",
            ours,
            |fanout| fanout.first_p50_ms,
            "ms",
        )
        .at_most(50.0),
        row(
            "first frame after connect, slowest",
            ours,
            |fanout| fanout.first_max_ms,
            "ms",
        ),
        row(
            "pictures per second, worst viewer",
            ours,
            |fanout| fanout.least_fps,
            "fps",
        )
        .at_least(ours.sent_fps * 0.98),
        row(
            "350 ms coalescing: CPU per viewer-second",
            batched,
            |fanout| fanout.cpu_ms,
            "ms",
        )
        .at_most(0.15),
        row(
            "350 ms coalescing: latency p50",
            batched,
            |fanout| fanout.p50_ms,
            "ms",
        ),
        row(
            "350 ms coalescing: pictures per second, worst",
            batched,
            |fanout| fanout.least_fps,
            "fps",
        )
        .at_least(ours.sent_fps * 0.95),
    ]
}

/// Progress and results are what this program is for.
fn print(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// One publisher to many subscribers, and many to some.
async fn forwarding(args: &Args, duration: Duration) -> anyhow::Result<Vec<Row>> {
    print("forwarding by WebRTC");
    let crowd = |channels, subscribers| sfu::Crowd {
        channels,
        subscribers,
    };
    let crowds = match args.quick {
        true => vec![crowd(1, 10), crowd(3, 4)],
        false => vec![crowd(1, 50), crowd(1, 200), crowd(20, 10)],
    };
    sfu::rows(&args.anchornet, &args.clips(), &crowds, duration).await
}
