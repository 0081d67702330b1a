//! What is counted in a trial.

use serde::Serialize;

/// Counts of one trial, over all its viewers.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Time that viewers watched, from the first picture on, in seconds.
    pub watched_s: f64,
    /// Times that a picture stopped.
    pub stalls: f64,
    /// How long pictures stood, in seconds.
    pub stalled_s: f64,
    /// Time from capture to the playhead, summed over looks, in seconds; and the looks.
    pub latency_s: f64,
    /// Looks at the latency.
    pub looks: f64,
    /// Bytes of frames that left players.
    pub played_bytes: f64,
    /// Times that a player went on with a later keyframe.
    pub skips: f64,
    /// Frames that did not follow the one before: always none.
    pub out_of_order: f64,
    /// Times that players fell back to the dedicated node.
    pub fallbacks: f64,
    /// Bytes that the dedicated node sent to players.
    pub cdn_to_players: f64,
    /// Bytes that it sent to relays.
    pub cdn_to_relays: f64,
    /// Bytes of frames that came to players over relays.
    pub relay_bytes: f64,
    /// Bytes of frames that came to players twice.
    pub duplicate_bytes: f64,
    /// Bytes that relays sent for the first time.
    pub relay_sent: f64,
    /// Bytes that relays sent again.
    pub relay_resent: f64,
    /// Frames asked of the dedicated node.
    pub fetched_frames: f64,
    /// Substreams that players moved to the dedicated node.
    pub moved: f64,
    /// Relays that players tried for the first time.
    pub tried: f64,
    /// Of those, relays that did not open a session within a second.
    pub invalid: f64,
}

impl Figures {
    /// Adds another trial's.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self {
            watched_s: self.watched_s + other.watched_s,
            stalls: self.stalls + other.stalls,
            stalled_s: self.stalled_s + other.stalled_s,
            latency_s: self.latency_s + other.latency_s,
            looks: self.looks + other.looks,
            played_bytes: self.played_bytes + other.played_bytes,
            skips: self.skips + other.skips,
            out_of_order: self.out_of_order + other.out_of_order,
            fallbacks: self.fallbacks + other.fallbacks,
            cdn_to_players: self.cdn_to_players + other.cdn_to_players,
            cdn_to_relays: self.cdn_to_relays + other.cdn_to_relays,
            relay_bytes: self.relay_bytes + other.relay_bytes,
            duplicate_bytes: self.duplicate_bytes + other.duplicate_bytes,
            relay_sent: self.relay_sent + other.relay_sent,
            relay_resent: self.relay_resent + other.relay_resent,
            fetched_frames: self.fetched_frames + other.fetched_frames,
            moved: self.moved + other.moved,
            tried: self.tried + other.tried,
            invalid: self.invalid + other.invalid,
        }
    }

    /// Stalls in 100 s of watching.
    #[must_use]
    pub fn stalls_per_100_s(&self) -> f64 {
        100.0 * self.stalls / self.watched_s
    }

    /// Time that pictures stood in an hour of watching, in seconds.
    #[must_use]
    pub fn stalled_s_per_hour(&self) -> f64 {
        3_600.0 * self.stalled_s / self.watched_s
    }

    /// Time from capture to the playhead, mean, in milliseconds.
    #[must_use]
    pub fn latency_ms(&self) -> f64 {
        1_000.0 * self.latency_s / self.looks
    }

    /// Bitrate as viewers get it, in kilobits per second of watching.
    #[must_use]
    pub fn kbps(&self) -> f64 {
        self.played_bytes / 125.0 / self.watched_s
    }

    /// γ: what relays send for what they take.
    #[must_use]
    pub fn expansion(&self) -> f64 {
        self.relay_sent / self.cdn_to_relays
    }

    /// What the dedicated node sends for one byte that is played.
    #[must_use]
    pub fn cdn_share(&self) -> f64 {
        (self.cdn_to_players + self.cdn_to_relays) / self.played_bytes
    }

    /// Traffic for one byte that is played, relays' at 0.7: the paper's EqT.
    #[must_use]
    pub fn equivalent_traffic(&self) -> f64 {
        self.cdn_share() + 0.7 * (self.relay_sent + self.relay_resent) / self.played_bytes
    }

    /// What is sent again or fetched, as a part of what relays send.
    #[must_use]
    pub fn retransmitted(&self) -> f64 {
        self.relay_resent / self.relay_sent
    }

    /// What comes twice, as a part of what comes.
    #[must_use]
    pub fn duplicates(&self) -> f64 {
        self.duplicate_bytes / (self.relay_bytes + self.cdn_to_players)
    }

    /// Relays that were of no use, as a part of those tried.
    #[must_use]
    pub fn invalid_share(&self) -> f64 {
        self.invalid / self.tried
    }
}
