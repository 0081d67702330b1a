//! The counters and gauges of this crate.

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

use crate::stream::Counters;

pub(crate) const CONNECTIONS: &str = "anchornet_origin_rtmp_connections_total";
pub(crate) const REFUSED: &str = "anchornet_origin_rtmp_refused_total";
pub(crate) const BAD_INPUT: &str = "anchornet_origin_rtmp_bad_input_total";
pub(crate) const PANICS: &str = "anchornet_origin_rtmp_panics_total";
pub(crate) const VIEWERS: &str = "anchornet_origin_viewers";
pub(crate) const DISCONNECTS: &str = "anchornet_origin_viewer_disconnects_total";
const STREAMS: &str = "anchornet_origin_streams";
const BYTES_IN: &str = "anchornet_origin_received_bytes_total";
const BYTES_OUT: &str = "anchornet_origin_sent_bytes_total";
const SKIPS: &str = "anchornet_origin_viewer_skips_total";
const DROPPED: &str = "anchornet_origin_dropped_tags_total";
const CORRECTED: &str = "anchornet_origin_corrected_timestamps_total";
const PUBLISHERS: &str = "anchornet_origin_publishers_total";

/// Describes every metric of this crate to the recorder. Call once, after the recorder is installed.
pub fn describe_metrics() {
    let count = |name, text| describe_counter!(name, Unit::Count, text);
    let bytes = |name, text| describe_counter!(name, Unit::Bytes, text);
    count(CONNECTIONS, "RTMP connections accepted from the network");
    count(REFUSED, "RTMP publishers refused, by status code");
    count(
        BAD_INPUT,
        "RTMP connections closed because of malformed input",
    );
    count(
        PANICS,
        "RTMP connections that panicked; always zero, or a bug",
    );
    count(PUBLISHERS, "publishers accepted on a stream");
    count(SKIPS, "slow viewers moved to the newest keyframe");
    count(
        DISCONNECTS,
        "viewers disconnected because they took nothing",
    );
    count(DROPPED, "tags of publishers that could not be passed on");
    count(CORRECTED, "timestamps moved to keep a track increasing");
    bytes(BYTES_IN, "media received from publishers");
    bytes(BYTES_OUT, "media handed to viewers, all protocols");
    describe_gauge!(STREAMS, Unit::Count, "streams, live or in their grace");
    describe_gauge!(VIEWERS, Unit::Count, "viewers connected, by protocol");
}

/// Passes one stream's counters on as increments. Dropping it is the end of the stream.
pub(crate) struct Reporter {
    reported: Counters,
    bytes_out: u64,
}

impl Reporter {
    pub(crate) fn new() -> Self {
        gauge!(STREAMS).increment(1.0);
        Self {
            reported: Counters::default(),
            bytes_out: 0,
        }
    }

    pub(crate) fn report(&mut self, counters: Counters, bytes_out: u64) {
        let add = |name: &'static str, now: u64, before: u64| {
            counter!(name).increment(now.saturating_sub(before));
        };
        let before = self.reported;
        add(PUBLISHERS, counters.publishers, before.publishers);
        add(BYTES_IN, counters.bytes_in, before.bytes_in);
        add(DROPPED, counters.tags_dropped, before.tags_dropped);
        add(SKIPS, counters.viewer_skips, before.viewer_skips);
        add(
            CORRECTED,
            counters.timestamps_corrected,
            before.timestamps_corrected,
        );
        add(BYTES_OUT, bytes_out, self.bytes_out);
        self.reported = counters;
        self.bytes_out = bytes_out;
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        gauge!(STREAMS).decrement(1.0);
    }
}
