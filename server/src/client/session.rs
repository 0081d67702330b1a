//! One publisher: connects, plays the clip in real time, and comes back when the connection is lost.
//!
//! The show goes on while the publisher is away: after a reconnect it continues where the clip would be by then, at the
//! next keyframe, as a camera would.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};

use media::Kind;
use rand::Rng as _;
use reqwest::Url;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::clip::{Clip, Next, Unit};
use super::peer::Peer;
use super::report::{INTERVAL, Stats};
use super::timeline::{Timeline, ntp, ticks_at, wrap_u32};
use super::whip::{self, WhipError};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const BACKOFF: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(10)];
/// A session that lasted so long starts over with the shortest backoff.
const STABLE: Duration = Duration::from_secs(30);
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Packets of one unit sent back to back; a keyframe is spread over at most [`BURST_STEPS`] steps.
const BURST_PACKETS: usize = 8;
const BURST_STEPS: usize = 12;
const BURST_STEP: Duration = Duration::from_millis(1);

/// What one publisher shall do.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Where to post the offer.
    pub(super) url: Url,
    /// Bearer token.
    pub(super) token: Option<String>,
    /// Address to send media from.
    pub(super) local: IpAddr,
    /// Start over at the end of the clip.
    pub(super) repeat: bool,
    /// Come back after a failure.
    pub(super) retry: bool,
    /// Stop so long after the first picture.
    pub(super) duration: Option<Duration>,
    /// How far its wall clock is ahead in its sender reports.
    pub(super) clock_ahead: Duration,
}

/// Why playing ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// As planned: told to stop, or the clip or the time is over.
    Done,
    /// The connection is gone.
    Lost,
}

/// When media time zero was, on both clocks.
#[derive(Clone, Copy, Debug)]
struct Epoch {
    instant: Instant,
    unix: Duration,
}

/// One publisher.
pub(super) struct Publisher {
    plan: Plan,
    clip: Arc<Clip>,
    client: reqwest::Client,
    stats: Arc<Stats>,
    timeline: Timeline,
    epoch: Option<Epoch>,
    next_report: Instant,
    next_quality: Instant,
}

impl Publisher {
    /// A publisher that has not connected yet.
    #[expect(
        clippy::disallowed_methods,
        reason = "the shell around the timeline reads the clock"
    )]
    pub(super) fn new(
        plan: Plan,
        clip: Arc<Clip>,
        client: reqwest::Client,
        stats: Arc<Stats>,
    ) -> Self {
        let now = Instant::now();
        Self {
            plan,
            clip,
            client,
            stats,
            timeline: Timeline::default(),
            epoch: None,
            next_report: now,
            next_quality: now,
        }
    }

    /// Publishes until `stop`, the end of the plan, or a failure that is final.
    ///
    /// # Errors
    /// The final failure.
    #[expect(
        clippy::disallowed_methods,
        reason = "measures how long a session lasted"
    )]
    pub(super) async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let [shortest, longest] = BACKOFF;
        let mut backoff = shortest;
        loop {
            let begun = Instant::now();
            let outcome = self.session(&stop).await;
            self.stats.live.store(false, Relaxed);
            let failure = match outcome {
                Ok(Ended::Done) => return Ok(()),
                Ok(Ended::Lost) => anyhow::anyhow!("the connection was lost"),
                Err(error) => error,
            };
            let refusal = failure.downcast_ref::<WhipError>();
            let is_final = refusal.is_some_and(|refusal| !refusal.is_temporary());
            if is_final || !self.plan.retry {
                return Err(failure.context(format!("cannot publish to {}", self.plan.url)));
            }
            if begun.elapsed() > STABLE {
                backoff = shortest;
            }
            let asked = refusal.and_then(WhipError::retry_after).unwrap_or_default();
            let wait = backoff
                .mul_f64(rand::rng().random_range(0.5..1.0))
                .max(asked);
            backoff = (backoff * 2).min(longest);
            tracing::warn!(url = %self.plan.url, error = %format!("{failure:#}"), wait_ms = wait.as_millis(), "trying again");
            self.stats.reconnects.fetch_add(1, Relaxed);
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// One WHIP session from offer to DELETE.
    async fn session(&mut self, stop: &CancellationToken) -> anyhow::Result<Ended> {
        let profile = self.clip.config().profile_level();
        let (mut peer, offer) = Peer::offer(self.plan.local, profile).await?;
        let token = self.plan.token.as_deref();
        let posted = whip::post(&self.client, &self.plan.url, token, offer).await;
        let (session, answer) = match posted {
            Ok(posted) => posted,
            Err(error) => {
                peer.close().await;
                return Err(error.into());
            }
        };
        let ended = tokio::select! {
            () = stop.cancelled() => Ok(Ended::Done),
            ended = self.play(&mut peer, answer) => ended,
        };
        session.delete().await;
        peer.close().await;
        ended
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the shell around the timeline reads the clocks"
    )]
    async fn play(&mut self, peer: &mut Peer, answer: String) -> anyhow::Result<Ended> {
        peer.connect(answer, CONNECT_TIMEOUT).await?;
        self.stats.live.store(true, Relaxed);
        let now = Instant::now();
        let epoch = *self.epoch.get_or_insert_with(|| Epoch {
            instant: now,
            unix: SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or_default(),
        });
        let epoch_us = u64::try_from(epoch.unix.as_micros()).unwrap_or(u64::MAX);
        self.stats.epoch_unix_us.store(epoch_us, Relaxed);
        // Reports first: the receiver knows the mapping from the first packet on
        self.next_report = now;
        let missed = now.saturating_duration_since(epoch.instant);
        let mut waiting = true;
        loop {
            let unit = match self.clip.get(self.timeline.index).await? {
                Next::Unit(unit) => unit,
                Next::End { .. } if !self.plan.repeat => return Ok(Ended::Done),
                Next::End { loop_samples } => {
                    self.timeline.wrap(loop_samples);
                    continue;
                }
            };
            let due = self.timeline.due(&unit);
            if self.plan.duration.is_some_and(|duration| due >= duration) {
                return Ok(Ended::Done);
            }
            waiting &= due < missed || unit.kind != Kind::Video || !unit.keyframe;
            if !waiting {
                let sleep = tokio::time::sleep_until(epoch.instant + due);
                tokio::select! {
                    () = peer.closed() => return Ok(Ended::Lost),
                    () = sleep => {}
                }
                self.send(peer, &unit, epoch).await?;
            }
            self.timeline.advance();
        }
    }

    /// Sends one unit, and a report about every second.
    #[expect(
        clippy::disallowed_methods,
        reason = "the shell around the timeline reads the clock"
    )]
    async fn send(&mut self, peer: &mut Peer, unit: &Unit, epoch: Epoch) -> anyhow::Result<()> {
        let begun = Instant::now();
        let due = epoch.instant + self.timeline.due(unit);
        let late = begun.saturating_duration_since(due).as_micros();
        let late = u64::try_from(late).unwrap_or(u64::MAX);
        self.stats.late_us.fetch_max(late, Relaxed);
        if begun >= self.next_report {
            self.next_report = begun + REPORT_INTERVAL;
            let at = begun.saturating_duration_since(epoch.instant);
            for kind in [Kind::Video, Kind::Audio] {
                let ticks = wrap_u32(ticks_at(kind, at));
                peer.report(kind, ntp(epoch.unix + self.plan.clock_ahead + at), ticks)
                    .await?;
            }
        }
        let ticks = wrap_u32(self.timeline.ticks(unit));
        let burst = BURST_PACKETS.max(unit.payloads.len().div_ceil(BURST_STEPS));
        for (index, payload) in unit.payloads.iter().enumerate() {
            if index > 0 && index % burst == 0 {
                tokio::time::sleep(BURST_STEP).await;
            }
            let last = index + 1 == unit.payloads.len();
            let marker = last && unit.kind == Kind::Video;
            let bytes = u64::try_from(payload.len()).unwrap_or(0);
            self.stats.bytes.fetch_add(bytes, Relaxed);
            peer.send(unit.kind, payload.clone(), ticks, marker).await?;
        }
        if unit.kind == Kind::Video {
            self.stats.frames.fetch_add(1, Relaxed);
        }
        if begun >= self.next_quality {
            self.next_quality = begun + INTERVAL;
            self.measure(peer, begun).await;
        }
        Ok(())
    }

    async fn measure(&self, peer: &Peer, now: Instant) {
        let (trip, loss) = peer.quality(now.into_std()).await;
        let trip_us = u64::try_from(trip.unwrap_or_default().as_micros()).unwrap_or(u64::MAX);
        self.stats.rtt_us.store(trip_us, Relaxed);
        let loss = Duration::try_from_secs_f64(loss).unwrap_or_default();
        let loss_ppm = u64::try_from(loss.as_micros()).unwrap_or(u64::MAX);
        self.stats.loss_ppm.store(loss_ppm, Relaxed);
    }
}
