//! What waits to be written to the link: messages in order, pictures within a bound.
//!
//! A peer that does not read must not make the mixer grow or stop: beyond [`MAX_PICTURES`] waiting pictures, further
//! ones are dropped up to an IDR, which is asked for once there is room and marked as a discontinuity. Control messages are few
//! and small and are never dropped; a peer that leaves [`MAX_MESSAGES`] unread is given up.

use std::collections::VecDeque;

use media::link::FromMixer;

/// The most coded pictures that wait: two seconds at 30 per second.
pub const MAX_PICTURES: usize = 60;

/// The most messages that wait in all.
pub const MAX_MESSAGES: usize = 1_000;

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It waits to be written.
    Queued,
    /// It is dropped; nothing can be decoded before the next IDR.
    Dropped,
    /// It is dropped, and an IDR is needed now.
    NeedsKeyframe,
    /// The peer has stopped reading for good.
    Abandoned,
}

/// The queue. Pure; the shell wakes the writer.
#[derive(Debug, Default)]
pub struct Outbox {
    messages: VecDeque<FromMixer>,
    pictures: usize,
    flow: Flow,
}

/// Whether pictures pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Flow {
    #[default]
    Open,
    /// A picture was dropped: nothing passes before a keyframe.
    Broken,
    /// As `Broken`, and a keyframe was asked for since there was room again.
    Asked,
}

impl Outbox {
    /// Appends a message, or drops it.
    pub fn push(&mut self, message: FromMixer) -> Pushed {
        if self.messages.len() >= MAX_MESSAGES {
            return Pushed::Abandoned;
        }
        match message {
            FromMixer::Picture(mut unit) => {
                if self.pictures >= MAX_PICTURES {
                    self.flow = Flow::Broken;
                    return Pushed::Dropped;
                }
                if self.flow != Flow::Open && !unit.keyframe {
                    let asked = self.flow == Flow::Asked;
                    self.flow = Flow::Asked;
                    return match asked {
                        true => Pushed::Dropped,
                        false => Pushed::NeedsKeyframe,
                    };
                }
                unit.discontinuity |= self.flow != Flow::Open;
                self.flow = Flow::Open;
                self.pictures += 1;
                self.messages.push_back(FromMixer::Picture(unit));
            }
            control @ (FromMixer::Challenge { .. }
            | FromMixer::Hello { .. }
            | FromMixer::VideoConfig(_)
            | FromMixer::Pong { .. }
            | FromMixer::Stats(_)
            | FromMixer::Error { .. }) => self.messages.push_back(control),
        }
        Pushed::Queued
    }

    /// The next message to write.
    pub fn pop(&mut self) -> Option<FromMixer> {
        let message = self.messages.pop_front()?;
        if matches!(message, FromMixer::Picture(_)) {
            self.pictures -= 1;
        }
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use media::link::Picture;

    fn picture(pts_ns: i64, keyframe: bool) -> FromMixer {
        FromMixer::Picture(Picture {
            pts_ns,
            dts_ns: pts_ns,
            keyframe,
            discontinuity: false,
            data: Bytes::new(),
        })
    }

    #[test]
    fn a_full_queue_drops_to_the_next_keyframe() {
        let mut outbox = Outbox::default();
        for n in 0..60 {
            assert_eq!(outbox.push(picture(n, n == 0)), Pushed::Queued);
        }
        assert_eq!(outbox.push(picture(60, false)), Pushed::Dropped);
        assert_eq!(outbox.push(picture(61, true)), Pushed::Dropped);
        assert!(outbox.pop().is_some());
        assert_eq!(outbox.push(picture(62, false)), Pushed::NeedsKeyframe);
        assert_eq!(outbox.push(picture(63, false)), Pushed::Dropped);
        assert_eq!(outbox.push(picture(64, true)), Pushed::Queued);
        let last = std::iter::from_fn(|| outbox.pop()).last();
        assert!(
            matches!(&last, Some(FromMixer::Picture(unit)) if unit.pts_ns == 64 && unit.discontinuity),
            "{last:?}"
        );
    }

    #[test]
    fn control_messages_pass_a_full_queue() {
        let mut outbox = Outbox::default();
        while outbox.push(picture(0, true)) == Pushed::Queued {}
        let pong = FromMixer::Pong {
            id: 1,
            program_ns: 2,
            mixer_ns: 3,
        };
        assert_eq!(outbox.push(pong), Pushed::Queued);
    }

    #[test]
    fn a_peer_that_never_reads_is_given_up() {
        let mut outbox = Outbox::default();
        let error = || FromMixer::Error {
            message: String::new(),
        };
        let queued = std::iter::repeat_with(|| outbox.push(error()))
            .take_while(|pushed| *pushed == Pushed::Queued)
            .count();
        assert_eq!(queued, MAX_MESSAGES);
    }
}
