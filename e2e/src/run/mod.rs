//! Starting and stopping what takes part in a test. Everything here ends when its guard is dropped.

pub mod anchor;
pub mod browser;
pub mod destination;
pub mod namespace;
pub mod ports;
pub mod process;
pub mod redis;
pub mod relay;
pub mod rlive;
pub mod rtmp;
pub mod rtmp_tap;
pub mod rude;
pub mod tools;
pub mod whip;

use std::time::{Duration, Instant};

/// Tries every 20 ms until `probe` gives a value.
///
/// # Errors
/// After `limit`, with what was awaited and the last failure of the probe.
#[expect(clippy::disallowed_methods, reason = "the shell of the tests")]
pub async fn eventually<T, P>(what: &str, limit: Duration, mut probe: P) -> anyhow::Result<T>
where
    P: AsyncFnMut() -> anyhow::Result<T>,
{
    let start = Instant::now();
    loop {
        match probe().await {
            Ok(value) => return Ok(value),
            Err(error) if start.elapsed() > limit => {
                return Err(error.context(format!("no {what} after {limit:?}")));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}
