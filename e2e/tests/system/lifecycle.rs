//! Starting, refusing to start, and stopping.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::ensure;
use e2e::analysis::{decode, tracks};
use e2e::capture::FlvViewer;
use e2e::clip::{self, Clip};
use e2e::run::anchor::{self, Anchor};
use e2e::run::destination::NginxRtmp;
use e2e::run::process::Process;
use e2e::run::rtmp_tap::RtmpTap;
use e2e::run::{eventually, ports, whip};

use crate::support::SOON;

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a test that measures time")]
async fn a_graceful_stop_flushes_and_tells_everybody() -> anyhow::Result<()> {
    let nginx = NginxRtmp::start().await?;
    let tap = RtmpTap::start(nginx.port()).await?;
    let mut anchor = Anchor::start().await?;
    anchor.create_channel("demo", &[tap.url("demo")]).await?;
    let viewer = FlvViewer::connect(&anchor.flv("demo")).await?;
    let _host = whip::ffmpeg(&anchor.whip("demo"), &clip::clip(&Clip::default())?, true)?;
    let long = clip::clip(&Clip {
        seconds: 60,
        ..Clip::default()
    })?;
    let mut other = whip::anchornet(&anchor.whip("other"), &long)?;
    anchor.wait_for_state("other", "live", SOON).await?;
    viewer.wait_for_pictures(60, SOON).await?;

    let asked = Instant::now();
    let status = anchor.process.stop(Duration::from_secs(5)).await?;
    let took = asked.elapsed();
    assert_eq!(status.code(), Some(0), "{}", anchor.process.tail());
    assert!(took < Duration::from_secs(3), "stopping took {took:?}");
    assert!(anchor.panics().is_empty());

    // A broadcaster hears of it (DTLS close), and need not wait for a timeout of ten seconds.
    let status = other.end(Duration::from_secs(3)).await?;
    assert!(!status.success(), "{}", other.tail());

    // The CDN has everything that the viewer has, and saw an end, not a reset.
    eventually("end of the push", SOON, async || {
        ensure!(
            tap.connections().iter().all(|connection| !connection.open),
            "still open"
        );
        Ok(())
    })
    .await?;
    let pushed = tracks::Tracks::of(&tap.connections()[0].tags()?)?;
    let watched = tracks::Tracks::of(&viewer.tags())?;
    let last = |units: &[tracks::Unit]| units.last().map(|unit| unit.dts_ms);
    assert!(
        last(&pushed.video) >= last(&watched.video),
        "{:?} {:?}",
        last(&pushed.video),
        last(&watched.video)
    );
    decode::without_errors(&nginx.recordings()?[0])?;
    eventually("end of the viewer's stream", SOON, async || {
        let end = viewer.ended();
        ensure!(end.as_deref() == Some("the stream ended"), "{end:?}");
        Ok(())
    })
    .await?;
    Ok(())
}

/// Runs the binary with a configuration and gives its exit code and what it said.
async fn run(part: &str, config: &str) -> anyhow::Result<(Option<i32>, String)> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("anchornet.toml");
    fs::write(&file, config)?;
    let mut process = Process::start("anchornet", &mut anchor::command(&[part], &file, &[])?)?;
    let status = process.end(SOON).await?;
    Ok((status.code(), process.output().join("\n")))
}

#[tokio::test]
async fn an_open_port_without_a_secret_is_refused_with_the_remedy() -> anyhow::Result<()> {
    for section in ["http", "webrtc", "rtmp", "rtmp_ingest"] {
        let config = format!("[{section}]\nlisten = \"0.0.0.0:{}\"\n", ports::free()?);
        let (code, said) = run("run", &config).await?;
        assert!(code.is_some_and(|code| code != 0), "{section}: {code:?}");
        assert!(
            said.contains("ANCHORNET_AUTH_SECRET") && said.contains(section),
            "{section}: {said}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn mistakes_in_the_configuration_are_named() -> anyhow::Result<()> {
    let (code, said) = run("check-config", "[http]\nlissten = \"127.0.0.1:1\"\n").await?;
    assert!(
        code.is_some_and(|code| code != 0) && said.contains("lissten"),
        "{code:?} {said}"
    );
    let (code, said) = run("check-config", "[program]\nprogram_delay_ms = \"soon\"\n").await?;
    assert!(
        code.is_some_and(|code| code != 0) && said.contains("program_delay_ms"),
        "{code:?} {said}"
    );
    let (code, said) = run("check-config", "").await?;
    assert_eq!(code, Some(0), "{said}");

    // The example that the binary prints is a configuration that it accepts.
    let mut example = std::process::Command::new(e2e::run::tools::anchornet()?);
    let example = String::from_utf8(example.arg("example-config").output()?.stdout)?;
    assert!(example.contains("[http]"), "{example}");
    let (code, said) = run("check-config", &example).await?;
    assert_eq!(code, Some(0), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_port_that_is_taken_is_said_so() -> anyhow::Result<()> {
    let running = Anchor::start().await?;
    let config = format!("[http]\nlisten = \"127.0.0.1:{}\"\n", running.ports.http);
    let (code, said) = run("run", &config).await?;
    assert!(code.is_some_and(|code| code != 0), "{code:?} {said}");
    assert!(said.contains(&running.ports.http.to_string()), "{said}");
    Ok(())
}

#[tokio::test]
async fn health_checks_tell_by_exit_code() -> anyhow::Result<()> {
    let anchor = Anchor::start().await?;
    let check = |url: String| -> anyhow::Result<bool> {
        let mut command = std::process::Command::new(e2e::run::tools::anchornet()?);
        Ok(command
            .args(["healthcheck", &url])
            .output()?
            .status
            .success())
    };
    assert!(check(anchor.url("/healthz"))?);
    assert!(!check(format!(
        "http://127.0.0.1:{}/healthz",
        ports::free()?
    ))?);
    Ok(())
}
