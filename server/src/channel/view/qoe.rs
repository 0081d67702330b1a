//! What a participant's figures mean for who watches: one score, one word, and what it is for.
//!
//! An estimate after the scale of mean opinion scores (ITU-T P.800.1), from what is known to disturb: a picture that stands
//! still most, sound and pictures that are lost for good, delay and its variation where people talk, a low frame rate.

use signaling::types::{Grade, Qoe};

use crate::sfu::{SessionStats, StreamStats};

const BEST: f64 = 5.0;
const WORST: f64 = 1.0;
const GOOD: f64 = 4.0;
const FAIR: f64 = 3.0;

/// A fault: its name, how much of the scale it takes per unit, what is tolerated, and the most that it takes.
struct Fault {
    name: &'static str,
    value: f64,
    tolerated: f64,
    weight: f64,
    most: f64,
}

impl Fault {
    fn cost(&self) -> f64 {
        ((self.value - self.tolerated) * self.weight).clamp(0.0, self.most)
    }
}

/// The summary; unknown before the first packets.
pub(super) fn summary(stats: &SessionStats) -> Qoe {
    let none = StreamStats::default();
    let video = stats.video.as_ref().unwrap_or(&none);
    let audio = stats.audio.as_ref().unwrap_or(&none);
    if video.units == 0 && audio.units == 0 {
        return Qoe::default();
    }
    let worse = |of: fn(&StreamStats) -> f64| of(video).max(of(audio));
    // Screens are shared at a few pictures a second; below that it is a slide show.
    let missing_fps = if video.units == 0 {
        0.0
    } else {
        10.0 - video.fps
    };
    let faults = [
        Fault {
            name: "freezes",
            value: video.frozen_ratio,
            tolerated: 0.002,
            weight: 30.0,
            most: 3.0,
        },
        Fault {
            name: "loss",
            value: worse(lost_ratio),
            tolerated: 0.002,
            weight: 25.0,
            most: 2.5,
        },
        Fault {
            name: "jitter",
            value: worse(|stream| stream.jitter_ms),
            tolerated: 40.0,
            weight: 0.01,
            most: 1.0,
        },
        Fault {
            name: "round_trip",
            value: stats.rtt_ms.unwrap_or_default(),
            tolerated: 200.0,
            weight: 0.005,
            most: 1.5,
        },
        Fault {
            name: "frame_rate",
            value: missing_fps,
            tolerated: 0.0,
            weight: 0.15,
            most: 1.5,
        },
    ];
    let mut costly: Vec<&Fault> = faults.iter().filter(|fault| fault.cost() >= 0.25).collect();
    costly.sort_by(|a, b| b.cost().total_cmp(&a.cost()));
    let cost: f64 = faults.iter().map(Fault::cost).sum();
    let score = (BEST - cost).max(WORST);
    Qoe {
        grade: match score {
            score if score >= GOOD => Grade::Good,
            score if score >= FAIR => Grade::Fair,
            _ => Grade::Poor,
        },
        score: super::narrow((score * 10.0).round() / 10.0),
        reasons: costly.iter().map(|fault| fault.name.to_owned()).collect(),
    }
}

fn lost_ratio(stream: &StreamStats) -> f64 {
    f64::from(super::ratio(
        stream.lost,
        stream.packets.saturating_add(stream.lost),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean() -> SessionStats {
        let stream = StreamStats {
            units: 1_000,
            packets: 10_000,
            fps: 30.0,
            ..StreamStats::default()
        };
        SessionStats {
            rtt_ms: Some(40.0),
            video: Some(stream.clone()),
            audio: Some(stream),
            ..SessionStats::default()
        }
    }

    fn with(change: impl FnOnce(&mut StreamStats)) -> Qoe {
        let mut stats = clean();
        change(stats.video.as_mut().expect("there"));
        summary(&stats)
    }

    #[test]
    fn what_disturbs_lowers_the_score_and_is_named() {
        assert_eq!(summary(&SessionStats::default()), Qoe::default());
        let qoe = summary(&clean());
        assert_eq!((qoe.grade, qoe.score), (Grade::Good, 5.0));
        assert!(qoe.reasons.is_empty());
        let frozen = with(|video| video.frozen_ratio = 0.05);
        assert_eq!(frozen.grade, Grade::Fair);
        assert_eq!(frozen.reasons, ["freezes"]);
        let bad = with(|video| {
            video.frozen_ratio = 0.2;
            video.lost = 2_000;
            video.fps = 4.0;
        });
        assert_eq!((bad.grade, bad.score), (Grade::Poor, 1.0));
        assert_eq!(bad.reasons, ["freezes", "loss", "frame_rate"]);
        let slow = with(|video| video.fps = 0.0);
        assert_eq!(slow.reasons, ["frame_rate"]);
    }
}
