//! Chromium on the project's own pages, driven by the scripts in `e2e/browser`. They report as JSON, one object a line.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::process::Process;
use super::{eventually, tools};

/// A script with its browser.
#[derive(Debug)]
pub struct Browser {
    process: Process,
}

/// What a viewer saw and heard while judged.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// When judging began.
    pub start: Moment,
    /// When it ended.
    pub end: Moment,
    /// Every frame that was shown.
    pub frames: Vec<Frame>,
    /// What the player went through: `waiting`, `stalled`, `seeking`, `ratechange` and the like.
    pub events: Vec<Event>,
    /// The tone.
    pub sound: Sound,
}

/// The state of the player.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Moment {
    /// The page's clock, in milliseconds.
    pub now: f64,
    /// Media time in seconds.
    pub current_time: f64,
    /// Frames the browser left out.
    pub dropped: u32,
}

/// A frame that was shown.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Frame {
    /// Its drawn number; `None` when it could not be read.
    pub number: Option<u32>,
    /// When it was shown, on the page's clock, in milliseconds.
    pub now: f64,
}

/// An event of the player.
#[derive(Clone, Debug, Deserialize)]
pub struct Event {
    /// Its name.
    pub name: String,
    /// The page's clock, in milliseconds.
    pub at: f64,
    /// The playback rate then.
    pub rate: f64,
}

/// The tone as it came out of the player.
#[derive(Clone, Debug, Deserialize)]
pub struct Sound {
    /// Clicks.
    pub clicks: Vec<Value>,
    /// Gaps.
    pub gaps: Vec<Value>,
    /// The largest residual.
    pub worst: f64,
    /// How long it was judged.
    pub seconds: f64,
    /// Its level; a tone of 0.4 has 0.28.
    pub rms: f64,
}

/// What the console said about a show that went to collab and back.
#[derive(Clone, Debug, Deserialize)]
pub struct Produced {
    /// After the switch to collab.
    pub collab: String,
    /// After the switch back.
    pub solo: String,
    /// The layout that is chosen at the end.
    pub layout: String,
    /// Switches in the list.
    pub listed: usize,
}

impl Report {
    /// Seconds of media per second of time.
    #[must_use]
    pub fn pace(&self) -> f64 {
        (self.end.current_time - self.start.current_time)
            / ((self.end.now - self.start.now) / 1_000.0)
    }

    /// How often the player had nothing to play.
    #[must_use]
    pub fn stalls(&self) -> usize {
        self.events
            .iter()
            .filter(|event| event.name == "waiting")
            .count()
    }

    /// The drawn numbers, in order.
    #[must_use]
    pub fn numbers(&self) -> Vec<Option<u32>> {
        self.frames.iter().map(|frame| frame.number).collect()
    }
}

impl Browser {
    /// Goes live from the studio page at `url` and waits until media flows.
    ///
    /// # Errors
    /// When it does not.
    pub async fn publish(url: &str) -> anyhow::Result<Self> {
        let mut browser = Self::start("studio.mjs", &[url])?;
        browser.said("live", Duration::from_secs(45)).await?;
        Ok(browser)
    }

    /// As [`Browser::publish`], with the prefix of a command that runs node.
    ///
    /// # Errors
    /// When media does not flow.
    pub async fn publish_by(node: Command, url: &str) -> anyhow::Result<Self> {
        let mut browser = Self::start_by(node, "studio.mjs", &[url])?;
        browser.live().await?;
        Ok(browser)
    }

    /// Goes live from the studio page at `studio` and, in the same page, watches another participant at the WHEP URL;
    /// judges `seconds` of what is seen and heard.
    ///
    /// # Errors
    /// When Chromium is missing.
    pub fn talk(studio: &str, whep: &str, seconds: u32) -> anyhow::Result<Self> {
        Self::start("talk.mjs", &[studio, whep, &seconds.to_string()])
    }

    /// Publishes a picture in three sizes to `whip` and watches it at `whep` twice, once as a small picture, for `seconds`, in
    /// a page of the origin of `url`.
    ///
    /// # Errors
    /// When Chromium is missing.
    pub fn layers(url: &str, whip: &str, whep: &str, seconds: u32) -> anyhow::Result<Self> {
        Self::start("layers.mjs", &[url, whip, whep, &seconds.to_string()])
    }

    /// Publishes to `whip` from a page of the origin of `url`, and restarts ICE with new addresses after `seconds`.
    ///
    /// # Errors
    /// When Chromium is missing.
    pub fn restart(url: &str, whip: &str, seconds: u32) -> anyhow::Result<Self> {
        Self::start("restart.mjs", &[url, whip, &seconds.to_string()])
    }

    /// Waits until media flows.
    ///
    /// # Errors
    /// When it does not.
    pub async fn live(&mut self) -> anyhow::Result<()> {
        self.said("live", Duration::from_secs(45)).await.map(drop)
    }

    /// What a script that watches for `seconds` has seen, in its own terms.
    ///
    /// # Errors
    /// When it says nothing.
    pub async fn seen(&mut self, seconds: u32) -> anyhow::Result<Value> {
        let limit = Duration::from_secs(u64::from(seconds) + 60);
        let said = self.said("report", limit).await?;
        Ok(said.get("report").context("a report")?.clone())
    }

    /// Opens the watch page at `url` with a player (`flv`, `hls` or `webrtc`) and judges `seconds` of playback.
    ///
    /// # Errors
    /// When Chromium is missing.
    pub fn watch(url: &str, player: &str, seconds: u32) -> anyhow::Result<Self> {
        Self::start("watch.mjs", &[url, player, &seconds.to_string()])
    }

    /// As [`Self::watch`], after `settle_s` of playback that is not judged.
    ///
    /// # Errors
    /// When Chromium is missing.
    pub fn watch_settled(
        url: &str,
        player: &str,
        seconds: u32,
        settle_s: u32,
    ) -> anyhow::Result<Self> {
        let (seconds, settle) = (seconds.to_string(), settle_s.to_string());
        Self::start("watch.mjs", &[url, player, &seconds, &settle])
    }

    /// Opens a WHEP URL on an empty page, with or without the `feedback` that congestion control is made of, and judges
    /// `seconds` of it.
    ///
    /// # Errors
    /// When Chromium is missing.
    pub fn whep(url: &str, seconds: u32, feedback: bool) -> anyhow::Result<Self> {
        let feedback = if feedback { "feedback" } else { "no-feedback" };
        Self::start("whep.mjs", &[url, &seconds.to_string(), feedback])
    }

    /// What a viewer at a WHEP URL has counted when judging began, or, once it has reported, at the end: the browser's own
    /// figures of `video` and `audio`, and the `protocol` over which they came.
    ///
    /// # Errors
    /// When it has not said.
    pub async fn received(&mut self, at_end: bool) -> anyhow::Result<Value> {
        let (event, field) = match at_end {
            false => ("judging", "received"),
            true => ("report", "after"),
        };
        let said = self.said(event, Duration::from_secs(60)).await?;
        Ok(said.get(field).context("figures")?.clone())
    }

    /// Waits until the picture moves.
    ///
    /// # Errors
    /// When it does not.
    pub async fn playing(&mut self) -> anyhow::Result<()> {
        self.said("playing", Duration::from_secs(45))
            .await
            .map(drop)
    }

    /// Waits until what it plays has settled, and is judged.
    ///
    /// # Errors
    /// When it does not play.
    pub async fn judging(&mut self) -> anyhow::Result<()> {
        self.said("judging", Duration::from_secs(60))
            .await
            .map(drop)
    }

    /// Waits for the report of a viewer who watches for `seconds`.
    ///
    /// # Errors
    /// When there is none.
    pub async fn report(&mut self, seconds: u32) -> anyhow::Result<Report> {
        let limit = Duration::from_secs(u64::from(seconds) + 60);
        let said = self.said("report", limit).await?;
        Ok(serde_json::from_value(
            said.get("report").context("a report")?.clone(),
        )?)
    }

    /// Opens the console at `url`, waits for the host and `guests`, takes the show to collab for `seconds` and back.
    ///
    /// # Errors
    /// When Chromium is missing.
    pub fn produce(url: &str, guests: u32, seconds: u32) -> anyhow::Result<Self> {
        let arguments = [url, &guests.to_string(), &seconds.to_string()];
        Self::start("desk.mjs", &arguments)
    }

    /// Waits until the producer has what it takes: pictures of everybody.
    ///
    /// # Errors
    /// When they do not come.
    pub async fn pictures(&mut self) -> anyhow::Result<()> {
        self.said("pictures", Duration::from_secs(60))
            .await
            .map(drop)
    }

    /// Waits until the producer is done.
    ///
    /// # Errors
    /// When a switch did not happen.
    pub async fn produced(&mut self) -> anyhow::Result<Produced> {
        let said = self.said("produced", Duration::from_secs(90)).await?;
        Ok(serde_json::from_value(said)?)
    }

    /// The newest figures that a publishing page said about itself.
    #[must_use]
    pub fn stats(&self) -> Option<Value> {
        let said = self.process.output();
        let stats = |line: &String| {
            let line: Value = serde_json::from_str(line).ok()?;
            line.get("stats").cloned()
        };
        said.iter().rev().find_map(stats)
    }

    /// Ends a publishing page as its user would.
    ///
    /// # Errors
    /// When it does not end in order.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let status = self.process.stop(Duration::from_secs(20)).await?;
        ensure!(status.success(), "{}", self.process.tail());
        Ok(())
    }

    /// What the script has said so far, without its report.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        let mut said = self.process.output();
        said.retain(|line| line.len() < 1_000);
        said
    }

    fn start(script: &str, arguments: &[&str]) -> anyhow::Result<Self> {
        Self::start_by(Command::new(tools::system("node")?), script, arguments)
    }

    fn start_by(mut command: Command, script: &str, arguments: &[&str]) -> anyhow::Result<Self> {
        let folder = crate::workspace().join("e2e/browser");
        ensure!(
            folder.join("node_modules").exists(),
            "run `deploy/scripts/install test` for playwright-core"
        );
        command.arg(folder.join(script)).args(arguments);
        Ok(Self {
            process: Process::start(script, &mut command)?,
        })
    }

    async fn said(&mut self, event: &str, limit: Duration) -> anyhow::Result<Value> {
        let what = format!("\"{event}\" from the browser");
        let found = eventually(&what, limit, async || {
            let said = self.process.output();
            let said = said
                .iter()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok());
            for line in said {
                match line.get("event").and_then(Value::as_str) {
                    Some(name) if name == event => return Ok(Ok(line)),
                    Some("failed") => return Ok(Err(line)),
                    Some(_) | None => {}
                }
            }
            match self.process.ended()? {
                Some(status) => Ok(Err(Value::String(format!("the script ended: {status}")))),
                None => bail!("not yet"),
            }
        })
        .await;
        match found.map_err(|error| error.context(self.process.tail()))? {
            Ok(said) => Ok(said),
            Err(failure) => bail!("no {what}: {failure}\n{}", self.process.tail()),
        }
    }
}
