//! The command line.

use std::net::SocketAddr;

use clap::Parser;

/// Mixes the pictures of a channel's participants into one: the part of AnchorNet that uses GStreamer.
///
/// An anchor starts it by itself, with its link as standard input. Start it by hand to let anchors on other machines
/// use this one: each connection gets a process of its own.
#[derive(Debug, Parser)]
#[command(name = "anchornet-mixer", version, max_term_width = 100, after_help = AFTER_HELP)]
pub struct Cli {
    /// Take links from anchors by TCP at this address, one mixer process for each.
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,

    /// The environment variable with the secret that anchors must know; needed unless ADDR is on loopback.
    #[arg(long, value_name = "NAME", requires = "listen")]
    pub secret_env: Option<String>,

    /// The most mixers at a time with --listen; further connections are closed.
    #[arg(long, value_name = "COUNT", default_value_t = 8, requires = "listen")]
    pub max_mixers: usize,

    /// Print the H.264 encoders found on this machine, best first, and exit.
    #[arg(long)]
    pub encoders: bool,
}

const AFTER_HELP: &str = "Examples:
  anchornet-mixer --encoders
  SECRET=… anchornet-mixer --listen 10.0.0.7:9710 --secret-env SECRET

It needs GStreamer 1.22 or newer with its base, good, bad, ugly and libav plugins:
  apt-get install gstreamer1.0-plugins-{base,good,bad,ugly} gstreamer1.0-libav
RUST_LOG sets what is logged to standard error (for example: mixer=debug).";
