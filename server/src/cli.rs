//! The command line: one binary, one subcommand per part.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// The anchor point of a live channel: WHIP in, one program out by RTMP, HTTP-FLV and HLS.
#[derive(Debug, Parser)]
#[command(name = "anchornet", version, about, max_term_width = 100)]
#[command(
    after_help = "Start here:\n  anchornet run                                    everything in one process, on loopback\n  anchornet publish test --whip http://127.0.0.1:8080/whip/demo     a demo host\n  then open http://127.0.0.1:8080/"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The parts of AnchorNet.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run everything in one process: anchor and origin, state in memory (or in Redis if configured).
    Run(Node),
    /// Run the anchor alone: WHIP ingest, program, RTMP push, API and pages.
    Anchor(Node),
    /// Run the origin alone: RTMP ingest, HTTP-FLV, WS-FLV, HLS and substreams.
    Origin(Node),
    /// Publish a clip by WHIP, looped in real time: a demo host and a load generator.
    Publish(crate::client::PublishArgs),
    /// Relay substreams of an origin to players: best-effort capacity beside it.
    Relay(crate::rlive::RelayArgs),
    /// Print the key of a relay, derived from the configured secret, for `anchornet relay --key`.
    RelayKey(crate::rlive::RelayKeyArgs),
    /// Recommend relays to players: knows them by their heartbeats.
    Scheduler(crate::rlive::SchedulerArgs),
    /// Play a stream from relays and its origin, and serve it here by HTTP-FLV.
    Play(crate::rlive::PlayArgs),
    /// Join two AAC files at a unit as the program does, and show what is to be heard of the joint.
    SpliceLab(crate::splice_lab::SpliceLabArgs),
    /// Read a configuration, report what is wrong with it or what it amounts to, and exit.
    CheckConfig(Node),
    /// Print every setting with its default, as a configuration file.
    ExampleConfig,
    /// Mint an access token from the configured secret.
    Token(Token),
    /// Ask a running node whether it is healthy; exit code 0 when it is (for container health checks).
    Healthcheck(Healthcheck),
}

/// Options shared by the long-running parts.
#[derive(Clone, Debug, Args)]
pub struct Node {
    /// Configuration file (TOML). Without it the defaults apply: everything on loopback.
    #[arg(short, long, env = "ANCHORNET_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Override one setting, as in `--set http.listen=127.0.0.1:9000`; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
}

/// What a minted token allows.
#[derive(Debug, Args)]
pub struct Token {
    /// Where the secret comes from.
    #[command(flatten)]
    pub node: Node,
    /// Scopes: publish, view, control, admin.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "publish",
        value_name = "SCOPES"
    )]
    pub scope: Vec<String>,
    /// Only for this channel.
    #[arg(long)]
    pub channel: Option<String>,
    /// Only for this participant.
    #[arg(long)]
    pub participant: Option<String>,
    /// How long it is valid.
    #[arg(long, default_value_t = 86_400, value_name = "SECONDS")]
    pub ttl_s: u64,
}

/// Which node to ask.
#[derive(Debug, Args)]
pub struct Healthcheck {
    /// The URL to get.
    #[arg(default_value = "http://127.0.0.1:8080/healthz")]
    pub url: String,
}
