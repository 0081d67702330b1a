//! Pictures without B-frames for those who watch a participant by WebRTC: receivers there show pictures in the order in
//! which they come. Sans-IO.
//!
//! A picture that is presented before one that was decoded earlier is a B-frame. One that no other refers to
//! (`nal_ref_idc` 0, H.264 §7.4.1) can be left out; the rest is in order then. One that others refer to cannot.

use media::h264::{self, nal_type, nal_unit_type};
use media::{AccessUnit, Timestamp};

/// What is to be done with a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is in order.
    Forward,
    /// It is a B-frame that can be left out.
    LeaveOut,
    /// It is a B-frame that others need: this stream cannot be put in order.
    Impossible,
}

/// The order of one stream.
#[derive(Debug, Default)]
pub(super) struct Reorder {
    /// The latest presentation since the last IDR.
    newest: Option<Timestamp>,
}

impl Reorder {
    /// Takes the next picture in decoding order.
    pub(super) fn judge(&mut self, picture: &AccessUnit) -> Verdict {
        if picture.keyframe || self.newest.is_none_or(|newest| newest <= picture.pts) {
            self.newest = Some(picture.pts);
            return Verdict::Forward;
        }
        if is_reference(picture) {
            Verdict::Impossible
        } else {
            Verdict::LeaveOut
        }
    }
}

fn is_reference(picture: &AccessUnit) -> bool {
    let slices = h264::avcc_nals(&picture.data).flatten();
    let mut slices =
        slices.filter(|nal| (nal_type::SLICE..=nal_type::IDR).contains(&nal_unit_type(nal)));
    slices.any(|nal| nal.first().is_some_and(|header| header & 0x60 != 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use media::{Config, Rate, Track, TrackId, opus};
    use std::sync::Arc;

    fn picture(pts_ms: i64, header: u8) -> AccessUnit {
        // The codec does not matter here.
        let track = Track {
            id: TrackId(0),
            config: Config::Opus(opus::Config { channels: 1 }),
            rate: Rate::MILLIS,
        };
        AccessUnit {
            track: Arc::new(track),
            pts: Timestamp::from_millis(pts_ms),
            dts: Timestamp::from_millis(0),
            keyframe: header & 0x1f == nal_type::IDR,
            discontinuity: false,
            data: h264::to_avcc([&[0x06, 1][..], &[header, 1]]),
        }
    }

    #[test]
    fn b_frames_are_left_out_unless_others_need_them() {
        let mut reorder = Reorder::default();
        let mut judge = |pts, header| reorder.judge(&picture(pts, header));
        assert_eq!(judge(80, 0x65), Verdict::Forward);
        assert_eq!(judge(200, 0x41), Verdict::Forward);
        assert_eq!(judge(120, 0x01), Verdict::LeaveOut);
        assert_eq!(judge(160, 0x01), Verdict::LeaveOut);
        assert_eq!(
            judge(240, 0x01),
            Verdict::Forward,
            "not needed, but in order"
        );
        assert_eq!(judge(230, 0x21), Verdict::Impossible);
        assert_eq!(judge(20, 0x65), Verdict::Forward, "another timeline");
        let mut broken = picture(0, 0x41);
        broken.data = Bytes::from_static(&[0, 0, 0, 9]);
        assert_eq!(reorder.judge(&broken), Verdict::LeaveOut);
    }
}
