//! `anchornet publish`: a small WHIP client that loops a clip in real time, as a demo host and load generator.
//!
//! [`clip`] holds the access units, read by [`mp4`] and [`ffmpeg`] and cut into RTP payloads once for
//! all publishers; [`timeline`] says when each is due and with which timestamp; [`session`] plays them over [`whip`] and
//! [`peer`]; [`report`] tells how it goes.
//!
//! Invariant: RTP timestamps follow media time exactly and never jump at the joint of the loop, and sender reports map
//! them to the wall clock on one straight line.

mod clip;
mod ffmpeg;
mod mp4;
mod peer;
mod report;
mod session;
mod timeline;
mod whip;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use reqwest::Url;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::report::{Reporter, Stats, Style};
use self::session::{Plan, Publisher};

/// The clip called `test`; what is in it is written down in its script, `assets/make-demo-clip`.
const DEMO_CLIP: &[u8] = include_bytes!("../../assets/demo-clip.mp4");
/// Publishers that start together begin so long after each other, so that their keyframes do not coincide.
const STAGGER: Duration = Duration::from_millis(37);

/// What to publish, and where.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct PublishArgs {
    /// A media file, or `test` for the built-in clip: a picture with frame numbers, music and beeps.
    ///
    /// Files with H.264 (no B-frames) and Opus are sent untouched. Others are converted while they play, for which
    /// ffmpeg must be installed.
    #[arg(value_name = "FILE|test")]
    pub source: String,
    /// WHIP endpoint of the channel; `{i}` stands for the number of the publisher.
    #[arg(long, value_name = "URL")]
    pub whip: String,
    /// How many publishers to run. Without `{i}` in the URL, each gets a channel of its own: NAME-1, NAME-2, …
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub count: u32,
    /// Stop so long after the first picture. Default: never.
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    pub duration: Option<Duration>,
    /// Token with the scope `publish`, as minted by `anchornet token`.
    #[arg(long, env = "ANCHORNET_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Participant id within the channel; may contain `{i}`. Default: the server chooses.
    #[arg(long, value_name = "ID")]
    pub participant: Option<String>,
    /// Role within the channel: host or guest. Default: the first publisher of a channel is its host.
    #[arg(long, value_name = "ROLE", value_parser = ["host", "guest"])]
    pub role: Option<String>,
    /// Send media from this address. Default: loopback to a server on loopback, otherwise every interface.
    #[arg(long, value_name = "ADDRESS")]
    pub bind: Option<IpAddr>,
    /// Send reports as if this machine's clock were ahead by so long, to see that nobody minds.
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds, default_value = "0")]
    pub clock_ahead: Duration,
    /// Stop at the end of the clip instead of starting over.
    #[arg(long)]
    pub no_loop: bool,
    /// Give up at the first failure instead of trying again.
    #[arg(long)]
    pub no_retry: bool,
    /// Print nothing but errors.
    #[arg(long)]
    pub quiet: bool,
    /// Print progress as one JSON object per line.
    #[arg(long, conflicts_with = "quiet")]
    pub json: bool,
}

const EXAMPLES: &str = "\
Examples:
  anchornet publish test --whip http://127.0.0.1:8080/whip/demo
  anchornet publish holiday.mkv --whip https://live.example.org/whip/trip --token \"$TOKEN\" --no-loop
  anchornet publish test --whip 'http://127.0.0.1:8080/whip/load-{i}' --count 50 --duration 60 --json

Ends with exit code 0 when stopped (Ctrl-C, SIGTERM), after --duration, or with --no-loop at the end of the clip;
1 when it had to give up; 2 when the command line is wrong. Requests for a keyframe cannot be answered by a file:
use clips with a keyframe every second or two.";

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds")?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// Publishes until it is told to stop by Ctrl-C or SIGTERM.
///
/// # Errors
/// When the clip cannot be read, or publishing failed for good.
pub async fn publish(args: PublishArgs) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    let signal = stop.clone();
    tokio::spawn(async move {
        wait_for_signal().await;
        signal.cancel();
    });
    publish_until(args, stop).await
}

/// Publishes until `stop` is cancelled.
///
/// # Errors
/// When the clip cannot be read, or publishing failed for good.
#[expect(
    clippy::disallowed_methods,
    reason = "progress lines carry the time since the start"
)]
pub async fn publish_until(args: PublishArgs, stop: CancellationToken) -> anyhow::Result<()> {
    let clip = match args.source.as_str() {
        "test" => ffmpeg::from_bytes(DEMO_CLIP)?,
        file => ffmpeg::from_file(Path::new(file)).await?,
    };
    let plans = plans(&args).await?;
    let client = reqwest::Client::builder()
        .user_agent(concat!("anchornet/", env!("CARGO_PKG_VERSION")))
        .build()?;
    let stats: Vec<Arc<Stats>> = plans.iter().map(|_| Arc::default()).collect();
    let mut reporter = Reporter::new(style(&args), stats.clone());
    reporter.say(&introduction(&args, &clip, &plans));
    let mut publishers = tokio::task::JoinSet::new();
    for (index, (plan, stats)) in (0_u32..).zip(plans.into_iter().zip(stats)) {
        let publisher = Publisher::new(plan, Arc::clone(&clip), client.clone(), stats);
        let stop = stop.clone();
        publishers.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(STAGGER * index) => {}
            }
            publisher.run(stop).await
        });
    }
    let begun = Instant::now();
    let mut ticks = tokio::time::interval_at(begun + report::INTERVAL, report::INTERVAL);
    let mut outcome = Ok(());
    loop {
        tokio::select! {
            _ = ticks.tick() => reporter.tick(begun.elapsed()),
            ended = publishers.join_next() => match ended {
                None => break,
                Some(ended) => {
                    let ended = ended.context("a publisher crashed").flatten();
                    outcome = outcome.and(ended);
                }
            },
        }
    }
    reporter.tick(begun.elapsed());
    outcome
}

/// One plan per publisher.
async fn plans(args: &PublishArgs) -> anyhow::Result<Vec<Plan>> {
    let first = endpoint(args, 1)?;
    let local = match args.bind {
        Some(address) => address,
        None => local_address(&first).await?,
    };
    let plan = |n| {
        Ok(Plan {
            url: endpoint(args, n)?,
            token: args.token.clone(),
            local,
            repeat: !args.no_loop,
            retry: !args.no_retry,
            duration: args.duration,
            clock_ahead: args.clock_ahead,
        })
    };
    (1..=args.count).map(plan).collect()
}

/// The URL that publisher `n` posts to.
fn endpoint(args: &PublishArgs, n: u32) -> anyhow::Result<Url> {
    let number = n.to_string();
    let has_place = args.whip.contains("{i}")
        || args
            .participant
            .as_ref()
            .is_some_and(|id| id.contains("{i}"));
    let text = args.whip.replace("{i}", &number);
    let mut url = Url::parse(&text).with_context(|| format!("--whip {text} is not a URL"))?;
    anyhow::ensure!(
        matches!(url.scheme(), "http" | "https"),
        "--whip must be an http or https URL, as in http://127.0.0.1:8080/whip/demo"
    );
    if args.count > 1 && !has_place {
        let path = format!("{}-{n}", url.path().trim_end_matches('/'));
        url.set_path(&path);
    }
    let participant = args
        .participant
        .as_ref()
        .map(|id| id.replace("{i}", &number));
    let pairs = [("participant", participant), ("role", args.role.clone())];
    for (key, value) in pairs {
        if let Some(value) = value {
            url.query_pairs_mut().append_pair(key, &value);
        }
    }
    Ok(url)
}

/// Loopback for a server on loopback, otherwise the unspecified address: all interfaces.
async fn local_address(url: &Url) -> anyhow::Result<IpAddr> {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let port = url.port_or_known_default().unwrap_or(80);
    let found = tokio::net::lookup_host((host, port)).await;
    let mut found = found.with_context(|| format!("cannot find the server {host}"))?;
    let remote = found.next().map(|address| address.ip());
    Ok(match remote {
        Some(address) if address.is_loopback() => address,
        Some(IpAddr::V6(_)) => Ipv6Addr::UNSPECIFIED.into(),
        Some(IpAddr::V4(_)) | None => Ipv4Addr::UNSPECIFIED.into(),
    })
}

fn style(args: &PublishArgs) -> Style {
    match (args.quiet, args.json) {
        (true, _) => Style::Quiet,
        (_, true) => Style::Json,
        _ => Style::Text,
    }
}

fn introduction(args: &PublishArgs, clip: &clip::Clip, plans: &[Plan]) -> String {
    let config = clip.config();
    let target = plans.first().map(|plan| plan.url.to_string());
    let others = match args.count {
        1 => String::new(),
        count => format!(" and {} more", count - 1),
    };
    format!(
        "publishing {} ({}x{}) to {}{others}; Ctrl-C to stop",
        args.source,
        config.width,
        config.height,
        target.unwrap_or_default()
    )
}

/// Resolves at Ctrl-C or SIGTERM.
async fn wait_for_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        let _ = tokio::signal::ctrl_c().await;
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(whip: &str, count: u32) -> PublishArgs {
        PublishArgs {
            source: "test".into(),
            whip: whip.into(),
            count,
            duration: None,
            token: None,
            participant: None,
            role: None,
            clock_ahead: Duration::ZERO,
            bind: None,
            no_loop: false,
            no_retry: false,
            quiet: true,
            json: false,
        }
    }

    #[test]
    fn publishers_get_endpoints_of_their_own() {
        let of = |args: &PublishArgs, n| endpoint(args, n).expect("valid").to_string();
        assert_eq!(of(&args("http://h/whip/demo", 1), 1), "http://h/whip/demo");
        assert_eq!(
            of(&args("http://h/whip/demo", 2), 2),
            "http://h/whip/demo-2"
        );
        assert_eq!(of(&args("http://h/whip/{i}/x", 2), 2), "http://h/whip/2/x");
        let mut guests = args("http://h/whip/demo", 3);
        guests.participant = Some("guest {i}".into());
        guests.role = Some("guest".into());
        assert_eq!(
            of(&guests, 3),
            "http://h/whip/demo?participant=guest+3&role=guest"
        );
        assert!(endpoint(&args("rtmp://h/x", 1), 1).is_err());
    }
}
