//! How every participant arrives, track by track, in the Prometheus text format.
//!
//! Written anew for each scrape from what the sessions measure at that moment, and kept nowhere: series end with the session
//! that they are about, and no table of labels can grow. A channel, its participants and the sizes of their pictures are
//! names that clients choose, so they are escaped, and a scrape describes at most [`MAX_TRACKS`] tracks.
//!
//! Invariants: every family stands once, with its help and type before its samples; no two samples have the same name and
//! labels. Of a picture in several sizes each size is a track, and there is none for all of them, so that sums are right.

use std::fmt::{Display, Write as _};

use crate::channel::view;
use crate::sfu::{SessionStats, StreamStats};

/// So many tracks are described at most, some 2 KiB of text each; the participants beyond are counted in
/// `anchornet_participants_not_described`.
pub const MAX_TRACKS: usize = 1_024;

/// Somebody who publishes.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// Where.
    pub channel: String,
    /// Who, unique in the channel.
    pub participant: String,
    /// What is measured on the session.
    pub stats: SessionStats,
}

impl Arrival {
    fn tracks(&self) -> Vec<Track<'_>> {
        let track = |kind, rid, stream, layer| Track {
            arrival: self,
            kind,
            rid,
            stream,
            layer,
        };
        let mut tracks = Vec::new();
        for layer in &self.stats.layers {
            let state = (layer.active, layer.on_program);
            tracks.push(track("video", &layer.rid, &layer.stream, Some(state)));
        }
        if let Some(video) = self.stats.video.as_ref().filter(|_| tracks.is_empty()) {
            tracks.push(track("video", "", video, None));
        }
        if let Some(audio) = &self.stats.audio {
            tracks.push(track("audio", "", audio, None));
        }
        tracks
    }
}

/// One stream of packets.
#[derive(Clone, Copy)]
struct Track<'a> {
    arrival: &'a Arrival,
    kind: &'static str,
    /// Its name among the sizes of a picture; empty when there is one.
    rid: &'a str,
    stream: &'a StreamStats,
    /// Of one of several sizes: it is sent, and it is on program.
    layer: Option<(bool, bool)>,
}

impl Track<'_> {
    fn is_video(&self) -> bool {
        self.kind == "video"
    }

    fn labels(&self) -> String {
        format!(
            "{},track=\"{}\",rid=\"{}\"",
            who(self.arrival),
            self.kind,
            escaped(self.rid)
        )
    }
}

fn who(arrival: &Arrival) -> String {
    format!(
        "channel=\"{}\",participant=\"{}\"",
        escaped(&arrival.channel),
        escaped(&arrival.participant)
    )
}

/// A label's value as the text format wants it.
fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

/// A sample's value.
#[derive(Clone, Copy)]
enum Value {
    Count(u64),
    Measure(f64),
}

impl Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Count(count) => count.fmt(f),
            Self::Measure(measure) => measure.fmt(f),
        }
    }
}

use Value::{Count, Measure};

/// A family of samples: its name, help and type, and a sample for whom it makes sense.
struct Family<T> {
    name: &'static str,
    help: &'static str,
    kind: &'static str,
    value: fn(&T) -> Option<Value>,
}

const fn counter<T>(
    name: &'static str,
    help: &'static str,
    value: fn(&T) -> Option<Value>,
) -> Family<T> {
    Family {
        name,
        help,
        kind: "counter",
        value,
    }
}

const fn gauge<T>(
    name: &'static str,
    help: &'static str,
    value: fn(&T) -> Option<Value>,
) -> Family<T> {
    Family {
        name,
        help,
        kind: "gauge",
        value,
    }
}

fn of_video(track: &Track<'_>, value: Value) -> Option<Value> {
    track.is_video().then_some(value)
}

fn truth(of: bool) -> Value {
    Count(u64::from(of))
}

const MS_PER_S: f64 = 1_000.0;

fn tracks<'a>() -> [Family<Track<'a>>; 18] {
    [
        counter(
            "anchornet_track_packets_total",
            "Media packets received",
            |t| Some(Count(t.stream.packets)),
        ),
        counter(
            "anchornet_track_bytes_total",
            "Media payload received",
            |t| Some(Count(t.stream.bytes)),
        ),
        counter(
            "anchornet_track_lost_packets_total",
            "Media packets that never came, repair included",
            |t| Some(Count(t.stream.lost)),
        ),
        counter(
            "anchornet_track_recovered_packets_total",
            "Media packets that came by retransmission",
            |t| Some(Count(t.stream.recovered)),
        ),
        counter(
            "anchornet_track_duplicate_packets_total",
            "Media packets that came more than once",
            |t| Some(Count(t.stream.duplicates)),
        ),
        counter(
            "anchornet_track_nacks_total",
            "Media packets asked for again",
            |t| Some(Count(t.stream.nacks)),
        ),
        counter("anchornet_track_plis_total", "Keyframes asked for", |t| {
            of_video(t, Count(t.stream.plis))
        }),
        counter(
            "anchornet_track_units_total",
            "Pictures, or packets of sound, delivered",
            |t| Some(Count(t.stream.units)),
        ),
        counter(
            "anchornet_track_keyframes_total",
            "Keyframes among them",
            |t| of_video(t, Count(t.stream.keyframes)),
        ),
        counter(
            "anchornet_track_freezes_total",
            "How often the picture stood still",
            |t| of_video(t, Count(t.stream.freezes)),
        ),
        counter(
            "anchornet_track_frozen_seconds_total",
            "For how long together",
            |t| {
                let frozen_ms = u32::try_from(t.stream.frozen_ms).unwrap_or(u32::MAX);
                of_video(t, Measure(f64::from(frozen_ms) / MS_PER_S))
            },
        ),
        gauge(
            "anchornet_track_bits_per_second",
            "Media payload over about the last second",
            |t| Some(Count(t.stream.bitrate_bps)),
        ),
        gauge(
            "anchornet_track_frames_per_second",
            "Pictures over about the last second",
            |t| of_video(t, Measure(t.stream.fps)),
        ),
        gauge(
            "anchornet_track_jitter_seconds",
            "Interarrival jitter (RFC 3550 section 6.4.1)",
            |t| Some(Measure(t.stream.jitter_ms / MS_PER_S)),
        ),
        gauge(
            "anchornet_track_width_pixels",
            "Width of the picture",
            |t| of_video(t, Count(t.stream.width.into())),
        ),
        gauge(
            "anchornet_track_height_pixels",
            "Height of the picture",
            |t| of_video(t, Count(t.stream.height.into())),
        ),
        gauge(
            "anchornet_track_active",
            "Whether this one of several sizes is sent",
            |t| t.layer.map(|(active, _)| truth(active)),
        ),
        gauge(
            "anchornet_track_on_program",
            "Whether the program is made of this one of several sizes",
            |t| t.layer.map(|(_, on_program)| truth(on_program)),
        ),
    ]
}

fn participants() -> [Family<Arrival>; 4] {
    [
        gauge(
            "anchornet_participant_connected",
            "Whether media can flow",
            |a| Some(truth(a.stats.connected)),
        ),
        gauge(
            "anchornet_participant_rtt_seconds",
            "Round trip, once it is known",
            |a| a.stats.rtt_ms.map(|rtt_ms| Measure(rtt_ms / MS_PER_S)),
        ),
        gauge(
            "anchornet_participant_qoe_score",
            "1 (bad) to 5 (excellent), once it is known",
            |a| {
                let score = view::ingest_stats(&a.stats).qoe.score;
                (score > 0.0).then_some(Measure(score.into()))
            },
        ),
        counter(
            "anchornet_participant_dropped_units_total",
            "Pictures and sounds that the program did not take",
            |a| Some(Count(a.stats.sink_drops)),
        ),
    ]
}

/// The exposition of as many of `arrivals` as there is room for, in their order; `left_out` more were not asked.
#[must_use]
pub fn render(arrivals: &[Arrival], left_out: usize) -> String {
    let mut rows: Vec<Track<'_>> = Vec::new();
    let mut described = 0;
    for arrival in arrivals {
        let tracks = arrival.tracks();
        if rows.len() + tracks.len() > MAX_TRACKS {
            break;
        }
        rows.extend(tracks);
        described += 1;
    }
    let (known, beyond) = arrivals.split_at(described);
    let mut text = String::new();
    for family in participants() {
        let samples = known
            .iter()
            .map(|arrival| (who(arrival), (family.value)(arrival)));
        write(&mut text, &family, samples);
    }
    for family in tracks() {
        let samples = rows
            .iter()
            .map(|track| (track.labels(), (family.value)(track)));
        write(&mut text, &family, samples);
    }
    let left_out = left_out + beyond.len();
    let _ = writeln!(
        text,
        "# HELP anchornet_participants_not_described Participants for whom a scrape has no room\n\
         # TYPE anchornet_participants_not_described gauge\n\
         anchornet_participants_not_described {left_out}"
    );
    text
}

fn write<T>(
    text: &mut String,
    family: &Family<T>,
    samples: impl Iterator<Item = (String, Option<Value>)>,
) {
    let mut samples = samples
        .filter_map(|(labels, value)| Some((labels, value?)))
        .peekable();
    if samples.peek().is_none() {
        return;
    }
    let Family {
        name, help, kind, ..
    } = family;
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    for (labels, value) in samples {
        let _ = writeln!(text, "{name}{{{labels}}} {value}");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;
    use crate::sfu::LayerStats;

    fn arrival(participant: &str) -> Arrival {
        let stream = StreamStats {
            packets: 7,
            jitter_ms: 2.5,
            frozen_ms: 1_500,
            ..StreamStats::default()
        };
        Arrival {
            channel: "demo".to_owned(),
            participant: participant.to_owned(),
            stats: SessionStats {
                video: Some(stream.clone()),
                audio: Some(stream),
                ..SessionStats::default()
            },
        }
    }

    fn in_sizes(mut arrival: Arrival) -> Arrival {
        let stream = arrival.stats.video.clone().unwrap_or_default();
        arrival.stats.layers = ["h", "l"]
            .map(|rid| LayerStats {
                rid: rid.to_owned(),
                on_program: rid == "h",
                stream: stream.clone(),
                ..LayerStats::default()
            })
            .into();
        arrival
    }

    /// Reads an exposition as strictly as the format is written down; gives the values by name and labels.
    fn read(text: &str) -> HashMap<String, f64> {
        let (mut samples, mut families) = (HashMap::new(), HashSet::new());
        let (mut helped, mut typed) = ("", ("", ""));
        assert!(text.ends_with('\n'));
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect("a help");
                assert!(!help.is_empty() && !help.contains('\\'));
                assert!(families.insert(name), "{name} stands twice");
                helped = name;
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                typed = rest.split_once(' ').expect("a type");
                assert_eq!(typed.0, helped);
                assert!(["counter", "gauge"].contains(&typed.1));
                assert_eq!(typed.1 == "counter", typed.0.ends_with("_total"));
            } else {
                let (series, value) = line.rsplit_once(' ').expect("a value");
                let name = series.split('{').next().expect("a name");
                assert_eq!(name, typed.0, "{line} stands in another family");
                assert!(
                    name.bytes()
                        .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
                );
                let value: f64 = value.parse().expect("a number");
                assert!(
                    samples.insert(series.to_owned(), value).is_none(),
                    "{series} stands twice"
                );
            }
        }
        samples
    }

    #[test]
    fn every_track_has_its_series_in_a_valid_exposition() {
        let samples = read(&render(&[arrival("ann"), arrival("bob")], 0));
        for participant in ["ann", "bob"] {
            for track in ["video", "audio"] {
                let labels = format!(
                    "channel=\"demo\",participant=\"{participant}\",track=\"{track}\",rid=\"\""
                );
                let value = |name: &str| {
                    samples
                        .get(&format!("anchornet_track_{name}{{{labels}}}"))
                        .copied()
                };
                assert_eq!(value("packets_total"), Some(7.0));
                assert_eq!(value("jitter_seconds"), Some(0.0025));
                let frozen = (track == "video").then_some(1.5);
                assert_eq!(value("frozen_seconds_total"), frozen);
            }
        }
    }

    #[test]
    fn sizes_are_tracks_and_their_sum_is_none() {
        let samples = read(&render(&[in_sizes(arrival("ann"))], 0));
        let of = |name: &str| {
            let prefix = format!("anchornet_track_{name}{{");
            let mut found: Vec<_> = samples
                .iter()
                .filter(|(series, _)| series.starts_with(&prefix))
                .collect();
            found.sort_by_key(|(series, _)| series.as_str());
            found
                .into_iter()
                .map(|(_, value)| *value)
                .collect::<Vec<_>>()
        };
        assert_eq!(of("packets_total"), [7.0; 3], "two sizes and a sound");
        assert_eq!(of("on_program"), [1.0, 0.0]);
    }

    #[test]
    fn names_cannot_break_out_of_their_label() {
        let text = render(&[arrival("a\"} 1\nb\\")], 0);
        assert!(text.contains(r#"participant="a\"} 1\nb\\""#), "{text}");
        read(&text);
    }

    #[test]
    fn there_is_room_for_so_many_tracks_and_the_rest_is_counted() {
        let all: Vec<Arrival> = (0..600)
            .map(|number| arrival(&format!("p{number}")))
            .collect();
        let samples = read(&render(&all, 10));
        let tracks = samples
            .keys()
            .filter(|series| series.starts_with("anchornet_track_packets_total{"));
        assert_eq!(tracks.count(), MAX_TRACKS);
        assert_eq!(samples["anchornet_participants_not_described"], 98.0);
        assert_eq!(read(&render(&[], 0)).len(), 1);
    }
}
