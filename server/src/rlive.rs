//! `anchornet relay`, `relay-key`, `scheduler` and `play`: the parts of `rlive` as commands.
//!
//! Keys of relays are derived from the configured secret, so that the origin needs no list of them. Without a secret (on
//! loopback) they follow from nothing but the id, and every relay that can reach the ports is let in.

use std::io::Write as _;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use anyhow::{Context as _, bail};
use aws_lc_rs::hmac;
use clap::Args;
use media::ticket::{Key, Ticket};
use reqwest::header::AUTHORIZATION;
use rlive::{player, relay, scheduler};
use signaling::types::Relays;
use tokio_util::sync::CancellationToken;

use crate::cli::Node;
use crate::clock;
use crate::config::Config;

/// Relay substreams of an origin to players.
#[derive(Debug, Args)]
pub struct RelayArgs {
    /// The origin's HTTP port.
    #[arg(long, default_value = "http://127.0.0.1:8080", value_name = "URL")]
    pub origin: String,
    /// Where to listen for players, by UDP.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// Where players reach this relay, if not where it listens: behind a NAT, in a container.
    #[arg(long, value_name = "ADDRESS")]
    pub advertise: Option<SocketAddr>,
    /// Which relay this is, in hexadecimal digits; a random one without a key.
    #[arg(long, value_parser = relay_id, requires = "key")]
    pub id: Option<u64>,
    /// The key that `anchornet relay-key` prints for this id at the origin.
    #[arg(
        long,
        env = "ANCHORNET_RELAY_KEY",
        hide_env_values = true,
        requires = "id"
    )]
    pub key: Option<String>,
    /// The scheduler to tell by heartbeats, by UDP; without one, the origin recommends the relay itself.
    #[arg(long, value_name = "HOST:PORT", value_parser = resolved)]
    pub scheduler: Option<SocketAddr>,
    /// Where the relay is, in a word that players use too.
    #[arg(long, default_value = "", value_name = "NAME")]
    pub region: String,
    /// What the relay can send, in kilobits per second; 0: unknown.
    #[arg(long, default_value_t = 0, value_name = "KBPS")]
    pub capacity: u32,
    /// Players' sessions at once.
    #[arg(long, default_value_t = 1_000)]
    pub max_sessions: usize,
}

/// Which key to print.
#[derive(Debug, Args)]
pub struct RelayKeyArgs {
    /// Where the secret comes from.
    #[command(flatten)]
    pub node: Node,
    /// The relay, in hexadecimal digits.
    #[arg(long, value_parser = relay_id)]
    pub id: u64,
}

/// Recommend relays to players.
#[derive(Debug, Args)]
pub struct SchedulerArgs {
    /// Where the secret comes from: it must be the origin's.
    #[command(flatten)]
    pub node: Node,
    /// Where to listen: for heartbeats by UDP, for players by HTTP, on the same port.
    #[arg(long, default_value = "127.0.0.1:8095", value_name = "ADDRESS")]
    pub listen: SocketAddr,
}

/// Play a stream from relays and its origin.
#[derive(Debug, Args)]
pub struct PlayArgs {
    /// The stream's HTTP-FLV URL at the origin, as in http://127.0.0.1:8080/live/demo.flv; with `?token=` if one is needed.
    pub url: String,
    /// Where to serve it.
    #[arg(long, default_value = "127.0.0.1:8090", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// Use only this relay; may be repeated. Without it: those that are recommended.
    #[arg(long = "relay", value_name = "ADDRESS")]
    pub relays: Vec<SocketAddr>,
    /// Where the player is, in a word that relays use too.
    #[arg(long, default_value = "", value_name = "NAME")]
    pub region: String,
    /// Use relays only after this long: who leaves at once is not worth the sessions.
    #[arg(long, default_value_t = 30.0, value_name = "SECONDS")]
    pub relay_after: f64,
    /// What is buffered before the playhead starts.
    #[arg(long, default_value_t = 1_000, value_name = "MS")]
    pub buffer: u64,
    /// Print what happens as a line of JSON every second.
    #[arg(long)]
    pub stats: bool,
}

/// The first address of a host's name, as known when the relay starts.
fn resolved(text: &str) -> Result<SocketAddr, String> {
    let mut found = text.to_socket_addrs().map_err(|error| error.to_string())?;
    found.next().ok_or_else(|| "it has no address".to_owned())
}

fn relay_id(text: &str) -> Result<u64, String> {
    u64::from_str_radix(text, 16).map_err(|_| "an id is up to 16 hexadecimal digits".to_owned())
}

/// The secret that the keys of relays are derived from; `None` when tokens are checked but there is no secret.
#[must_use]
pub fn relay_secret(config: &Config) -> Option<Vec<u8>> {
    if !config.has_auth() {
        return Some(Vec::new());
    }
    let secret = config.auth.secret.as_bytes();
    (!secret.is_empty()).then(|| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        hmac::sign(&key, b"anchornet relays").as_ref().to_vec()
    })
}

/// The key of a relay.
///
/// # Errors
/// When there is no secret to derive it from.
pub fn relay_key(config: &Config, id: u64) -> anyhow::Result<String> {
    if config.auth.secret.is_empty() {
        bail!(
            "no secret is set: give it in ANCHORNET_AUTH_SECRET or in the file named by --config"
        );
    }
    let secret = relay_secret(config).unwrap_or_default();
    Ok(Key::of_relay(&secret, id).to_hex())
}

/// What the scheduler of a configuration knows of relays, for the console.
pub struct RelayView {
    client: reqwest::Client,
    url: String,
    key: Key,
}

/// How long the scheduler may take to say what relays there are.
const VIEW_PATIENCE: Duration = Duration::from_secs(2);
/// How long a ticket for it is good, in seconds.
const VIEW_TICKET_S: u32 = 30;

impl RelayView {
    /// The view of the scheduler that is configured, if one is.
    ///
    /// # Errors
    /// When there can be no HTTP client.
    pub fn of(config: &Config) -> anyhow::Result<Option<Self>> {
        let url = config.origin.substreams.scheduler_url.trim_end_matches('/');
        let Some(secret) = relay_secret(config).filter(|_| !url.is_empty()) else {
            return Ok(None);
        };
        let client = reqwest::Client::builder().timeout(VIEW_PATIENCE).build()?;
        Ok(Some(Self {
            client,
            url: format!("{url}/v1/relays"),
            key: Key::of_scheduler(&secret),
        }))
    }

    /// The busiest relays now.
    ///
    /// # Errors
    /// When the scheduler does not answer.
    pub async fn read(&self) -> anyhow::Result<Relays> {
        let now_s = u32::try_from(clock::wall_ms() / 1_000).unwrap_or(u32::MAX);
        let ticket = Ticket {
            stream: scheduler::ALL_RELAYS.to_owned(),
            expires_s: now_s.saturating_add(VIEW_TICKET_S),
            max_kbps: 0,
            nonce: rand::random(),
        };
        let ticket = media::ticket::to_hex(&ticket.seal(&self.key));
        let request = self
            .client
            .get(&self.url)
            .header(AUTHORIZATION, format!("Ticket {ticket}"));
        let answer = request.send().await?.error_for_status()?;
        // The scheduler's relays and the API's have the same shape.
        let relays: Relays = serde_json::from_slice(&answer.bytes().await?)?;
        Ok(Relays {
            scheduled: true,
            ..relays
        })
    }
}

/// Runs a relay until SIGINT or SIGTERM.
///
/// # Errors
/// When it cannot start.
pub async fn relay(args: RelayArgs) -> anyhow::Result<()> {
    let id = args.id.unwrap_or_else(rand::random);
    let key = match &args.key {
        Some(key) => Key::from_hex(key).context("--key: a key has 64 hexadecimal digits")?,
        None => Key::of_relay(&[], id),
    };
    let unspecified = args.advertise.is_none() && args.listen.ip().is_unspecified();
    if unspecified || args.advertise.is_some_and(|a| a.ip().is_unspecified()) {
        bail!(
            "players cannot reach {}: say where they can with --advertise",
            args.listen
        );
    }
    let options = relay::Options {
        origin: args.origin,
        listen: args.listen,
        advertise: args.advertise,
        id,
        key,
        scheduler: args.scheduler,
        region: args.region,
        capacity_kbps: args.capacity,
        config: relay::Config {
            max_sessions: args.max_sessions,
            ..relay::Config::default()
        },
    };
    let listen = options.listen;
    relay::run(options, stop_by_signal())
        .await
        .with_context(|| format!("cannot relay on {listen}"))
}

/// Runs a scheduler until SIGINT or SIGTERM.
///
/// # Errors
/// When it cannot start, and when it would be open to the network without a secret.
pub async fn scheduler(args: SchedulerArgs, config: &Config) -> anyhow::Result<()> {
    let listen = args.listen;
    let Some(secret) = relay_secret(config) else {
        bail!("relays need auth.secret: give it in ANCHORNET_AUTH_SECRET, as at the origin");
    };
    if !listen.ip().is_loopback() && !config.has_auth() {
        bail!(
            "{listen} is open to the network, and without a secret anybody could be a relay: set ANCHORNET_AUTH_SECRET as \
             at the origin, or listen on 127.0.0.1"
        );
    }
    let options = scheduler::Options {
        listen,
        secret,
        revoked: config.origin.substreams.revoked(),
        config: scheduler::Config::default(),
    };
    scheduler::run(options, stop_by_signal())
        .await
        .with_context(|| format!("cannot schedule on {listen}"))
}

/// Plays until SIGINT or SIGTERM.
///
/// # Errors
/// When it cannot start.
pub async fn play(args: PlayArgs) -> anyhow::Result<()> {
    if !args.listen.ip().is_loopback() {
        bail!("a player serves its own machine: --listen must be on loopback");
    }
    let relay_after = Duration::try_from_secs_f64(args.relay_after).context("--relay-after")?;
    let mut config = player::Config {
        relay_after,
        target: Duration::from_millis(args.buffer),
        ..player::Config::default()
    };
    config.back = config.back.min(config.target);
    if config.target <= config.fallback {
        bail!(
            "--buffer: it must be more than {} ms, below which the origin is asked for everything",
            config.fallback.as_millis()
        );
    }
    let options = player::Options {
        url: args.url,
        listen: args.listen,
        relays: args.relays,
        region: args.region,
        config,
    };
    let listen = options.listen;
    let print_stats = args.stats;
    let started = move |report: player::Report| {
        let _ = writeln!(std::io::stderr(), "watch {}", report.url);
        if print_stats {
            tokio::spawn(print(report));
        }
    };
    player::run(options, stop_by_signal(), started)
        .await
        .with_context(|| format!("cannot play on {listen}"))
}

/// Prints the statistics as a line of JSON every second.
async fn print(mut report: player::Report) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    loop {
        ticks.tick().await;
        let stats = report.stats.borrow_and_update().clone();
        let Ok(line) = serde_json::to_string(&stats) else {
            return;
        };
        if writeln!(std::io::stdout(), "{line}").is_err() {
            return;
        }
    }
}

fn stop_by_signal() -> CancellationToken {
    let stop = CancellationToken::new();
    let ended = stop.clone();
    tokio::spawn(async move {
        crate::run::ended_by_signal().await;
        ended.cancel();
    });
    stop
}
