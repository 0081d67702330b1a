//! An open origin on loopback: `cargo run -p origin --example serve -- [rtmp port] [http port] [coalescing ms]`.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a program for people"
)]

use std::sync::Arc;

use origin::{Config, Open, Origin};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut numbers = std::env::args().skip(1).map(|number| number.parse::<u16>());
    let mut next = |default| numbers.next().unwrap_or(Ok(default));
    let (rtmp_port, http_port, coalescing) = (next(1935)?, next(8081)?, next(20)?);
    let config = Config {
        write_coalescing_ms: coalescing.into(),
        ..Config::default()
    };
    let origin = Origin::new(config, Arc::new(Open));
    let cancel = CancellationToken::new();
    let rtmp = TcpListener::bind(("127.0.0.1", rtmp_port)).await?;
    let http = TcpListener::bind(("127.0.0.1", http_port)).await?;
    println!("publish to rtmp://127.0.0.1:{rtmp_port}/live/show");
    println!("watch      http://127.0.0.1:{http_port}/live/show.flv");
    println!("       or  http://127.0.0.1:{http_port}/live/show/index.m3u8");
    let (ingest, playback) = tokio::join!(
        origin.serve_rtmp(rtmp, cancel.clone()),
        origin::serve_http(http, origin.router(), cancel)
    );
    ingest?;
    playback?;
    Ok(())
}
