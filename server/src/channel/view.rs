//! A channel's state in the words of the API.

mod qoe;

use cdn_publisher::program::{GAIN_RAMP, Levels, SpliceMethod};
use cdn_publisher::publisher::{
    Destination as Target, DestinationState as PublisherState, DestinationStatus,
};
use media::Config as CodecConfig;
use media::link;
use signaling::types::{
    AudioFormat, AudioLevel, Channel, ChannelId, ChannelState, ChannelStats, Cut, Destination,
    DestinationState, DestinationStats, DestinationUrl, IngestStats, LayerStats, LayoutName, Link,
    LinkState, Mode, Participant, ParticipantState, ParticipantStats, Playback, ProgramSource,
    ProgramStats, Role, Splice, SwitchRecord, SwitchReport, VideoFormat, Viewers, WallTime,
};

use super::manager::Deps;
use super::state;
use super::switch::{self, Picture};
use super::task::{ParticipantView, Snapshot};
use crate::clock;
use crate::sfu::{self, SessionStats, StreamStats};

/// A channel.
#[must_use]
pub fn channel(snapshot: &Snapshot, deps: &Deps) -> Channel {
    let host = snapshot
        .participants
        .iter()
        .find(|p| p.role == state::Role::Host);
    Channel {
        id: snapshot.id.clone(),
        title: snapshot.title.clone(),
        mode: api_mode(snapshot.stage.mode),
        layout: snapshot.stage.layout.clone(),
        slate: snapshot.stage.slate.clone(),
        order: snapshot.stage.order.clone(),
        state: channel_state(snapshot),
        node: deps.node_id.clone(),
        created_at: WallTime::from_unix_ms(snapshot.created_at_ms),
        live_since: snapshot.live_since_ms.map(WallTime::from_unix_ms),
        host: host.map(|host| host.id.clone()),
        links: snapshot.links.clone(),
        show: snapshot.show.clone(),
        participants: count(snapshot.participants.len()),
        destinations: count(snapshot.destinations.len()),
        host_adaptation: deps.config.channels.host_adaptation,
        viewers: viewers(snapshot, deps),
        playback: Playback::below(&deps.playback_base, &snapshot.id),
    }
}

fn channel_state(snapshot: &Snapshot) -> ChannelState {
    match (&snapshot.program, snapshot.host_live) {
        (None, _) => ChannelState::Idle,
        (Some(_), true) => ChannelState::Live,
        (Some(_), false) => ChannelState::Away,
    }
}

fn viewers(snapshot: &Snapshot, deps: &Deps) -> Viewers {
    let stream = deps
        .origin
        .as_ref()
        .and_then(|origin| origin.stream(snapshot.id.as_str()));
    let (flv, ws_flv, hls) = stream.map_or((0, 0, 0), |stream| {
        let viewers = stream.viewers;
        (count(viewers.flv), count(viewers.ws), count(viewers.hls))
    });
    let whep = count(snapshot.viewers);
    let total = [flv, ws_flv, hls, whep].into_iter();
    Viewers {
        total: total.fold(0, u32::saturating_add),
        flv,
        ws_flv,
        hls,
        whep,
        ..Viewers::default()
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// A link to a channel.
#[must_use]
pub fn link(snapshot: &Snapshot, other: &ChannelId) -> Link {
    let there = |p: &ParticipantView| p.id.as_str() == other.as_str() && p.connected;
    Link {
        channel: other.clone(),
        state: if snapshot.participants.iter().any(there) {
            LinkState::Live
        } else {
            LinkState::Waiting
        },
    }
}

/// A participant, with what the SFU measured if it was asked.
#[must_use]
pub fn participant(view: &ParticipantView, ingest: Option<&SessionStats>) -> Participant {
    Participant {
        id: view.id.clone(),
        role: role(view.role),
        state: participant_state(view),
        protocol: match (view.stream.is_some(), view.is_rtmp) {
            (true, _) => "link",
            (false, true) => "rtmp",
            (false, false) => "whip",
        }
        .into(),
        joined_at: WallTime::from_unix_ms(view.joined_at_ms),
        muted: view.controls.muted,
        volume: view.controls.volume,
        on_program: view.controls.on_program,
        on_air: view.on_air,
        level: view.level.map(audio_level),
        video: view.video.as_ref().and_then(video_format),
        audio: view.audio.as_ref().and_then(audio_format),
        ingest: ingest.map(ingest_stats),
    }
}

fn participant_state(view: &ParticipantView) -> ParticipantState {
    if view.connected {
        ParticipantState::Live
    } else {
        ParticipantState::Connecting
    }
}

fn role(role: state::Role) -> Role {
    match role {
        state::Role::Host => Role::Host,
        state::Role::Guest => Role::Guest,
    }
}

/// The machine's word for a role of the API.
#[must_use]
pub fn machine_role(role: Role) -> state::Role {
    match role {
        Role::Host => state::Role::Host,
        Role::Guest => state::Role::Guest,
    }
}

fn video_format(config: &CodecConfig) -> Option<VideoFormat> {
    match config {
        CodecConfig::H264(avc) => {
            let [profile, constraints, level] = avc.profile_level();
            let codec = format!("avc1.{profile:02x}{constraints:02x}{level:02x}");
            Some(VideoFormat {
                codec,
                width: avc.width,
                height: avc.height,
            })
        }
        CodecConfig::Aac(_) | CodecConfig::Opus(_) => None,
    }
}

fn audio_format(config: &CodecConfig) -> Option<AudioFormat> {
    match config {
        CodecConfig::H264(_) => None,
        CodecConfig::Aac(aac) => Some(AudioFormat {
            codec: format!("mp4a.40.{}", aac.object_type),
            sample_rate_hz: aac.sample_rate_hz,
            channels: aac.channels,
        }),
        CodecConfig::Opus(opus) => Some(AudioFormat {
            codec: "opus".into(),
            sample_rate_hz: 48_000,
            channels: opus.channels,
        }),
    }
}

fn audio_level(levels: Levels) -> AudioLevel {
    AudioLevel {
        rms_dbfs: levels.rms_dbfs,
        peak_dbfs: levels.peak_dbfs,
    }
}

fn api_mode(mode: switch::Mode) -> Mode {
    match mode {
        switch::Mode::Solo => Mode::Solo,
        switch::Mode::Collab => Mode::Collab,
    }
}

/// The machine's word for a mode of the API.
#[must_use]
pub fn machine_mode(mode: Mode) -> switch::Mode {
    match mode {
        Mode::Solo => switch::Mode::Solo,
        Mode::Collab => switch::Mode::Collab,
    }
}

/// The mixer's word for a layout of the API.
#[must_use]
pub fn link_layout(name: LayoutName) -> link::LayoutName {
    match name {
        LayoutName::Grid => link::LayoutName::Grid,
        LayoutName::SideBySide => link::LayoutName::SideBySide,
        LayoutName::Speaker => link::LayoutName::Speaker,
        LayoutName::Pip => link::LayoutName::Pip,
        LayoutName::Custom => link::LayoutName::Custom,
    }
}

/// The report of a switch that was asked for at `requested_ms` of the wall clock.
///
/// The sound of the host is the same samples before and after, whether one encoder goes on or its own AAC is joined with the
/// encoder's; the guests' gains move over the fade. So nothing is missing and nothing is heard twice, by construction.
#[must_use]
pub fn switch_report(report: &switch::Report, requested_ms: u64) -> SwitchReport {
    SwitchReport {
        mode: api_mode(report.mode),
        changed: report.cut.is_some(),
        requested_at: WallTime::from_unix_ms(requested_ms),
        cut: report.cut.map(|at| Cut {
            video_dts_ms: at.video_dts_ms,
            audio_dts_ms: at.audio_dts_ms,
            waited_ms: report.waited.as_secs_f64() * 1e3,
        }),
        splice: report.cut.map(|at| Splice {
            method: match at.method {
                SpliceMethod::Crossfade => "crossfade",
                SpliceMethod::Bitstream => "bitstream",
            }
            .into(),
            fade_ms: GAIN_RAMP.as_secs_f64() * 1e3,
            gap_samples: 0,
            overlap_samples: 0,
        }),
    }
}

/// The same for the list of switches, as the `number`th of its channel.
#[must_use]
pub fn switch_record(number: u64, report: &SwitchReport) -> SwitchRecord {
    SwitchRecord {
        number,
        mode: report.mode,
        requested_at: report.requested_at,
        cut: report.cut.clone(),
        splice: report.splice.clone(),
    }
}

/// What the SFU measured on one session.
#[must_use]
pub fn ingest_stats(stats: &SessionStats) -> IngestStats {
    let none = StreamStats::default();
    let (video, audio) = (
        stats.video.as_ref().unwrap_or(&none),
        stats.audio.as_ref().unwrap_or(&none),
    );
    let (received, lost) = (video.packets + audio.packets, video.lost + audio.lost);
    IngestStats {
        video_bitrate_bps: video.bitrate_bps,
        audio_bitrate_bps: audio.bitrate_bps,
        fps: narrow(video.fps),
        video_codec: video.codec.clone(),
        audio_codec: audio.codec.clone(),
        width: video.width,
        height: video.height,
        packets_received: received,
        packets_lost: lost,
        packets_repaired: video.recovered + audio.recovered,
        loss_ratio: ratio(lost, received.saturating_add(lost)),
        jitter_ms: narrow(video.jitter_ms.max(audio.jitter_ms)),
        rtt_ms: narrow(stats.rtt_ms.unwrap_or_default()),
        nacks_sent: video.nacks + audio.nacks,
        plis_sent: stats.plis,
        keyframes: video.keyframes,
        dropped_units: stats.sink_drops.saturating_add(video.undecodable),
        freezes: video.freezes,
        frozen_ms: video.frozen_ms,
        layers: stats.layers.iter().map(layer_stats).collect(),
        qoe: qoe::summary(stats),
    }
}

fn layer_stats(layer: &sfu::LayerStats) -> LayerStats {
    let stream = &layer.stream;
    LayerStats {
        rid: layer.rid.clone(),
        active: layer.active,
        on_program: layer.on_program,
        width: stream.width,
        height: stream.height,
        bitrate_bps: stream.bitrate_bps,
        fps: narrow(stream.fps),
        packets_received: stream.packets,
        packets_lost: stream.lost,
        packets_repaired: stream.recovered,
        nacks_sent: stream.nacks,
        plis_sent: stream.plis,
        keyframes: stream.keyframes,
        jitter_ms: narrow(stream.jitter_ms),
        freezes: stream.freezes,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a measurement for people: seven digits are plenty"
)]
fn narrow(value: f64) -> f32 {
    value as f32
}

#[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
fn ratio(part: u64, whole: u64) -> f32 {
    if whole == 0 {
        0.0
    } else {
        narrow(part as f64 / whole as f64)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, which is what is wanted"
)]
fn whole(value: f64) -> u64 {
    value.round() as u64
}

/// A destination as the publisher reports it.
#[must_use]
pub fn destination(status: &DestinationStatus) -> Destination {
    Destination {
        name: status.name.clone(),
        url: status.url.clone(),
        state: destination_state(status.state),
        attempts: status.attempts,
        last_error: status.last_error.clone(),
        next_attempt_at: status.next_attempt_at.map(WallTime::from_system),
        connected_at: status.connected_at.map(WallTime::from_system),
        bytes_sent: status.bytes_sent,
        dropped_units: status.dropped_units,
    }
}

fn destination_state(state: PublisherState) -> DestinationState {
    match state {
        PublisherState::Idle => DestinationState::Idle,
        PublisherState::Connecting | PublisherState::Handshaking => DestinationState::Connecting,
        PublisherState::Publishing => DestinationState::Live,
        PublisherState::Backoff => DestinationState::Backoff,
        PublisherState::Refused => DestinationState::Refused,
        PublisherState::Closed => DestinationState::Stopped,
    }
}

/// A URL without its secrets.
#[must_use]
pub fn redacted(url: &str) -> String {
    DestinationUrl::new(url).map_or_else(|_| "***".into(), |url| url.redacted())
}

/// A destination that waits for the program to start.
#[must_use]
pub fn idle_destination(target: &Target) -> DestinationStatus {
    DestinationStatus {
        name: target.name.clone(),
        url: redacted(&target.url),
        state: PublisherState::Idle,
        attempts: 0,
        connections: 0,
        last_error: None,
        bytes_sent: 0,
        dropped_units: 0,
        queued_bytes: 0,
        connected_at: None,
        next_attempt_at: None,
    }
}

/// Everything that plots need. `ingest` is in the order of the snapshot's participants.
#[must_use]
pub fn stats(snapshot: &Snapshot, ingest: &[Option<SessionStats>], deps: &Deps) -> ChannelStats {
    let now_ms = clock::wall_ms();
    let participants = snapshot
        .participants
        .iter()
        .zip(ingest)
        .map(|(view, stats)| ParticipantStats {
            id: view.id.clone(),
            role: role(view.role),
            state: participant_state(view),
            level: view.level.map(audio_level).unwrap_or_default(),
            ingest: stats.as_ref().map(ingest_stats).unwrap_or_default(),
        });
    let program = program_stats(snapshot, deps);
    let published_bps = program
        .video_bitrate_bps
        .saturating_add(program.audio_bitrate_bps);
    let destinations = snapshot.destinations.iter().map(|status| {
        let state = destination_state(status.state);
        DestinationStats {
            name: status.name.clone(),
            bitrate_bps: if state == DestinationState::Live {
                published_bps
            } else {
                0
            },
            state,
            bytes_sent: status.bytes_sent,
            dropped_units: status.dropped_units,
        }
    });
    ChannelStats {
        channel: snapshot.id.clone(),
        at: WallTime::from_unix_ms(now_ms),
        uptime_ms: snapshot
            .live_since_ms
            .map_or(0, |since| now_ms.saturating_sub(since)),
        mode: api_mode(snapshot.stage.mode),
        state: channel_state(snapshot),
        participants: participants.collect(),
        destinations: destinations.collect(),
        viewers: viewers(snapshot, deps),
        program,
    }
}

fn program_stats(snapshot: &Snapshot, deps: &Deps) -> ProgramStats {
    let Some(program) = &snapshot.program else {
        return ProgramStats::default();
    };
    let (video, audio) = (&program.stats.video, &program.stats.audio);
    ProgramStats {
        source: match snapshot.stage.shown {
            Some(Picture::Mix) if snapshot.stage.mode == switch::Mode::Solo => ProgramSource::Slate,
            Some(Picture::Mix) => ProgramSource::Mix,
            Some(Picture::Host) if snapshot.host_live => ProgramSource::Host,
            Some(Picture::Host) | None => ProgramSource::None,
        },
        fps: narrow(video.fps),
        video_bitrate_bps: whole(video.bitrate_bps),
        audio_bitrate_bps: whole(audio.bitrate_bps),
        width: video.width,
        height: video.height,
        audio_level: AudioLevel {
            rms_dbfs: audio.rms_dbfs,
            peak_dbfs: audio.peak_dbfs,
        },
        audio_passes: audio.passes,
        splices: audio.splices,
        forced_splices: audio.forced_splices,
        silence_samples: audio.silence_inserted_samples,
        concealed_samples: audio.concealed_samples,
        video_units: video.units,
        audio_units: audio.units,
        keyframes: program.keyframes,
        dropped_units: video.dropped.saturating_add(audio.dropped_packets),
        video_dts_ms: millis(program.video_dts),
        audio_dts_ms: millis(program.audio_dts),
        program_delay_ms: u32::try_from(deps.config.program.delay_ms).unwrap_or(u32::MAX),
        switches: snapshot.stage.switches,
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "milliseconds since the epoch stay far below 2^53"
)]
fn millis(at: Option<media::Timestamp>) -> f64 {
    at.map_or(0.0, |at| at.as_nanos() as f64 / 1e6)
}
