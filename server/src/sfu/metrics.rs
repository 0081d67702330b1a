//! Counters of the ingest, process-wide. Sessions count for themselves; the media thread publishes the differences.

use metrics::{counter, describe_counter, describe_gauge, gauge};

use super::egress;
use super::ingest::Totals;
use super::types::CloseReason;

/// Registers the help texts of this module's metrics with the recorder.
pub fn describe_metrics() {
    describe_gauge!(
        "anchornet_sfu_sessions",
        "WebRTC sessions, half-open ones included"
    );
    describe_gauge!(
        "anchornet_sfu_subscribers",
        "WebRTC sessions that receive, half-open ones included"
    );
    describe_gauge!(
        "anchornet_sfu_program_viewers",
        "Those of them that receive a channel's program"
    );
    describe_counter!(
        "anchornet_sfu_program_drops_total",
        "Units of a program not sent to its viewers because the media thread was busy"
    );
    describe_counter!(
        "anchornet_sfu_forwarded_packets_total",
        "Media packets sent to subscribers, repetitions not counted"
    );
    describe_counter!(
        "anchornet_sfu_repeated_packets_total",
        "Media packets sent to subscribers again"
    );
    describe_counter!(
        "anchornet_sfu_forward_drops_total",
        "Media packets not sent to a subscriber because too many waited, or for too long"
    );
    describe_counter!(
        "anchornet_sfu_padding_packets_total",
        "Packets sent to subscribers to see what their path carries"
    );
    describe_counter!(
        "anchornet_sfu_layer_switches_total",
        "How often a subscriber was given another size of a picture"
    );
    describe_counter!(
        "anchornet_sfu_sheds_total",
        "How often pictures to a subscriber were left out up to a keyframe because its path is too thin"
    );
    describe_gauge!(
        "anchornet_sfu_half_open_sessions",
        "WebRTC sessions that are not connected yet"
    );
    describe_counter!(
        "anchornet_sfu_offers_total",
        "WHIP and WHEP offers, by result"
    );
    describe_counter!(
        "anchornet_sfu_closed_total",
        "WebRTC sessions ended, by reason"
    );
    describe_counter!("anchornet_sfu_packets_total", "Media packets accepted");
    describe_counter!(
        "anchornet_sfu_duplicate_packets_total",
        "Media packets that came again or too late"
    );
    describe_counter!("anchornet_sfu_lost_packets_total", "Media packets given up");
    describe_counter!(
        "anchornet_sfu_recovered_packets_total",
        "Media packets that came by retransmission"
    );
    describe_counter!("anchornet_sfu_nacks_total", "Media packets asked for again");
    describe_counter!("anchornet_sfu_plis_total", "Keyframes asked for");
    describe_counter!(
        "anchornet_sfu_freezes_total",
        "How often the picture of a publisher stood still"
    );
    describe_counter!(
        "anchornet_sfu_malformed_packets_total",
        "Media packets with a payload that cannot be used"
    );
    describe_counter!(
        "anchornet_sfu_rejected_sender_reports_total",
        "Sender reports that were not believed"
    );
    describe_counter!(
        "anchornet_sfu_sound_placed_anew_total",
        "How often the sound of a publisher came too late for seconds and was placed anew"
    );
    describe_counter!(
        "anchornet_sfu_send_drops_total",
        "Datagrams that the kernel did not take, for its send buffer was full"
    );
    describe_gauge!(
        "anchornet_sfu_tcp_connections",
        "Connections of ICE over TCP"
    );
    describe_counter!(
        "anchornet_sfu_tcp_drops_total",
        "Datagrams not sent over TCP because too many waited for a connection"
    );
    describe_counter!(
        "anchornet_sfu_tcp_refused_total",
        "Connections of ICE over TCP refused, or given up to make room"
    );
    describe_counter!(
        "anchornet_sfu_unroutable_datagrams_total",
        "Datagrams that belong to no session"
    );
    describe_counter!(
        "anchornet_sfu_sink_drops_total",
        "Access units dropped because their receiver was full"
    );
    describe_counter!(
        "anchornet_sfu_engine_panics_total",
        "Sessions ended because the WebRTC engine panicked"
    );
}

pub(super) fn offer(result: &'static str) {
    counter!("anchornet_sfu_offers_total", "result" => result).increment(1);
}

pub(super) fn closed(reason: CloseReason) {
    let reason = match reason {
        CloseReason::Requested => "requested",
        CloseReason::PeerClosed => "peer_closed",
        CloseReason::Timeout => "timeout",
        CloseReason::NeverConnected => "never_connected",
        CloseReason::OverBitrate => "over_bitrate",
        CloseReason::Failed => "failed",
        CloseReason::SinkGone => "sink_gone",
        CloseReason::StreamEnded => "stream_ended",
        CloseReason::Shutdown => "shutdown",
    };
    counter!("anchornet_sfu_closed_total", "reason" => reason).increment(1);
}

/// What a media thread has now; the gauges are of all threads together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Present {
    pub(super) sessions: usize,
    pub(super) half_open: usize,
    pub(super) subscribers: usize,
    pub(super) viewers: usize,
}

/// Publishes what has changed since a thread had `before`.
pub(super) fn present(before: Present, now: Present) {
    let change = |before: usize, now: usize| {
        let number = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        number(now) - number(before)
    };
    gauge!("anchornet_sfu_sessions").increment(change(before.sessions, now.sessions));
    gauge!("anchornet_sfu_half_open_sessions").increment(change(before.half_open, now.half_open));
    gauge!("anchornet_sfu_subscribers").increment(change(before.subscribers, now.subscribers));
    gauge!("anchornet_sfu_program_viewers").increment(change(before.viewers, now.viewers));
}

pub(super) fn program_drop() {
    counter!("anchornet_sfu_program_drops_total").increment(1);
}

pub(super) fn send_drops(count: u64) {
    counter!("anchornet_sfu_send_drops_total").increment(count);
}

pub(super) fn tcp(figures: super::tcp::Figures) {
    let change = figures.connections.cast_signed() - figures.before.cast_signed();
    #[expect(clippy::cast_precision_loss, reason = "bounded by configuration")]
    gauge!("anchornet_sfu_tcp_connections").increment(change as f64);
    counter!("anchornet_sfu_tcp_drops_total").increment(figures.dropped);
    counter!("anchornet_sfu_tcp_refused_total").increment(figures.refused);
}

pub(super) fn unroutable(count: u64) {
    counter!("anchornet_sfu_unroutable_datagrams_total").increment(count);
}

pub(super) fn sink_drops(count: u64) {
    counter!("anchornet_sfu_sink_drops_total").increment(count);
}

pub(super) fn engine_panic() {
    counter!("anchornet_sfu_engine_panics_total").increment(1);
}

/// Publishes what a session has counted since `before`.
pub(super) fn media(before: &Totals, now: &Totals) {
    let values = [
        ("anchornet_sfu_packets_total", before.packets, now.packets),
        (
            "anchornet_sfu_duplicate_packets_total",
            before.duplicates,
            now.duplicates,
        ),
        ("anchornet_sfu_lost_packets_total", before.lost, now.lost),
        (
            "anchornet_sfu_recovered_packets_total",
            before.recovered,
            now.recovered,
        ),
        ("anchornet_sfu_nacks_total", before.nacks, now.nacks),
        ("anchornet_sfu_plis_total", before.plis, now.plis),
        (
            "anchornet_sfu_malformed_packets_total",
            before.malformed,
            now.malformed,
        ),
        (
            "anchornet_sfu_rejected_sender_reports_total",
            before.rejected_reports,
            now.rejected_reports,
        ),
        (
            "anchornet_sfu_sound_placed_anew_total",
            before.placed_anew,
            now.placed_anew,
        ),
        ("anchornet_sfu_freezes_total", before.freezes, now.freezes),
    ];
    publish(values);
}

/// Publishes what a subscriber has counted since `before`.
pub(super) fn forwarded(before: &egress::Totals, now: &egress::Totals) {
    publish([
        (
            "anchornet_sfu_forwarded_packets_total",
            before.packets,
            now.packets,
        ),
        (
            "anchornet_sfu_repeated_packets_total",
            before.repeated,
            now.repeated,
        ),
        (
            "anchornet_sfu_forward_drops_total",
            before.dropped,
            now.dropped,
        ),
        (
            "anchornet_sfu_padding_packets_total",
            before.padded,
            now.padded,
        ),
        ("anchornet_sfu_sheds_total", before.shed, now.shed),
        (
            "anchornet_sfu_layer_switches_total",
            before.switches,
            now.switches,
        ),
    ]);
}

fn publish<const N: usize>(values: [(&'static str, u64, u64); N]) {
    for (name, before, now) in values {
        let difference = now.saturating_sub(before);
        if difference > 0 {
            counter!(name).increment(difference);
        }
    }
}
