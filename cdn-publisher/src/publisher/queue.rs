//! What waits for one destination.
//!
//! Bounds: bytes and stretch of program time, from the configuration. Policy: the queue is cut to its newest keyframe; when
//! there is none to cut to, it is emptied and pictures wait for the next keyframe. While the destination is away, a
//! keyframe replaces all that waited before it, so that it resumes with the newest picture that can be decoded, and never
//! repeats what it got before: its timestamps only increase.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use media::Track;
use media::flv::{Tag, TagKind};

/// One access unit, ready for FLV.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) track: Arc<Track>,
    /// Body of the sequence header that decodes it.
    pub(crate) header: Bytes,
    pub(crate) tag: Tag,
    pub(crate) keyframe: bool,
    /// Decoding time in milliseconds, not wrapped.
    pub(crate) dts_ms: i64,
}

impl Item {
    fn is_video(&self) -> bool {
        self.tag.kind == TagKind::Video
    }

    fn is_video_keyframe(&self) -> bool {
        self.is_video() && self.keyframe
    }
}

/// The queue of one destination.
#[derive(Debug)]
pub(crate) struct Queue {
    items: VecDeque<Item>,
    bytes: usize,
    max_bytes: usize,
    max_ms: i64,
    /// Pictures are of no use until a keyframe comes.
    needs_keyframe: bool,
    dropped: u64,
}

impl Queue {
    pub(crate) fn new(max_bytes: usize, max: Duration) -> Self {
        Self {
            items: VecDeque::new(),
            bytes: 0,
            max_bytes,
            max_ms: i64::try_from(max.as_millis()).unwrap_or(i64::MAX),
            needs_keyframe: true,
            dropped: 0,
        }
    }

    /// Adds an item; `connected` tells whether anybody takes items out.
    pub(crate) fn push(&mut self, item: Item, connected: bool) {
        if item.is_video() && self.needs_keyframe && !item.keyframe {
            self.dropped += 1;
            return;
        }
        if item.is_video_keyframe() {
            self.needs_keyframe = false;
            if !connected {
                self.clear();
            }
        }
        self.bytes += item.tag.body.len();
        self.items.push_back(item);
        // Twice at most: to the newest keyframe, then, if that is too much still, to nothing.
        while self.is_over() {
            self.cut();
        }
    }

    fn is_over(&self) -> bool {
        self.bytes > self.max_bytes || self.stretch_ms() > self.max_ms
    }

    pub(crate) fn pop(&mut self) -> Option<Item> {
        let item = self.items.pop_front()?;
        self.bytes -= item.tag.body.len();
        Some(item)
    }

    /// The connection is gone, and what was taken out may be lost: pictures resume at a keyframe.
    pub(crate) fn interrupt(&mut self) {
        self.cut();
        let resumes = self.items.front().is_some_and(Item::is_video_keyframe);
        self.needs_keyframe = !resumes;
    }

    /// Drops what waits before the newest keyframe, or everything.
    fn cut(&mut self) {
        let newest = self.items.iter().rposition(Item::is_video_keyframe);
        // A keyframe at the front with too much behind it is no place to resume at.
        match newest.filter(|at| *at > 0 || !self.is_over()) {
            Some(at) => {
                let gone = self.items.drain(..at);
                self.dropped += gone.len() as u64;
                drop(gone);
                self.bytes = self.items.iter().map(|item| item.tag.body.len()).sum();
            }
            None => {
                self.clear();
                self.needs_keyframe = true;
            }
        }
    }

    fn clear(&mut self) {
        self.dropped += self.items.len() as u64;
        self.items.clear();
        self.bytes = 0;
    }

    fn stretch_ms(&self) -> i64 {
        match (self.items.front(), self.items.back()) {
            (Some(first), Some(last)) => last.dts_ms.saturating_sub(first.dts_ms),
            _ => 0,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use media::{Config, Rate, TrackId, opus};
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn item(dts_ms: i64, video: bool, keyframe: bool, bytes: usize) -> Item {
        let kind = if video {
            TagKind::Video
        } else {
            TagKind::Audio
        };
        Item {
            track: Arc::new(Track {
                id: TrackId(0),
                config: Config::Opus(opus::Config { channels: 2 }),
                rate: Rate::MILLIS,
            }),
            header: Bytes::new(),
            tag: Tag {
                kind,
                timestamp_ms: u32::try_from(dts_ms).unwrap(),
                body: Bytes::from(vec![0; bytes]),
            },
            keyframe: keyframe || !video,
            dts_ms,
        }
    }

    #[test]
    fn resumes_at_the_newest_keyframe() {
        let mut queue = Queue::new(1 << 20, Duration::from_secs(5));
        for n in 0..10 {
            queue.push(item(n * 40, true, n == 3 || n == 7, 10), false);
        }
        let times: Vec<i64> = std::iter::from_fn(|| queue.pop())
            .map(|i| i.dts_ms)
            .collect();
        assert_eq!(times, [280, 320, 360]);
    }

    #[test]
    fn overflow_drops_to_the_next_keyframe() {
        let mut queue = Queue::new(100, Duration::from_secs(5));
        for n in 0..30 {
            queue.push(item(n * 40, true, n % 20 == 0, 10), true);
        }
        // Ten fit, the eleventh empties the queue, and pictures are refused up to the keyframe at 20.
        let times: Vec<i64> = std::iter::from_fn(|| queue.pop())
            .map(|i| i.dts_ms)
            .collect();
        assert_eq!(times, (20..30).map(|n| n * 40).collect::<Vec<i64>>());
        assert_eq!(queue.dropped(), 20);
    }

    #[test]
    fn after_an_interruption_nothing_is_sent_twice_or_undecodable() {
        let mut queue = Queue::new(1 << 20, Duration::from_secs(5));
        for n in 0..5 {
            queue.push(item(n * 40, true, n == 0, 10), true);
        }
        queue.pop();
        queue.interrupt();
        queue.push(item(200, true, false, 10), false);
        assert!(queue.is_empty());
        queue.push(item(240, true, true, 10), false);
        assert_eq!(queue.pop().unwrap().dts_ms, 240);
    }

    proptest! {
        #[test]
        fn bounds_hold_and_pictures_stay_decodable(
            steps in prop::collection::vec((0u8..10, any::<bool>(), prop::bool::weighted(0.2), 1usize..40), 0..200),
        ) {
            let mut queue = Queue::new(200, Duration::from_millis(500));
            let (mut decodable, mut connected) = (false, false);
            for (n, (step, video, keyframe, bytes)) in steps.into_iter().enumerate() {
                match step {
                    0 => {
                        queue.interrupt();
                        (decodable, connected) = (false, false);
                    }
                    1 => connected = true,
                    2..=4 if connected => {
                        let before = queue.dropped();
                        if let Some(item) = queue.pop() {
                            prop_assert_eq!(before, queue.dropped());
                            decodable |= item.is_video_keyframe();
                            prop_assert!(!item.is_video() || decodable);
                        }
                    }
                    _ => queue.push(item(i64::try_from(n).unwrap() * 30, video, keyframe, bytes), connected),
                }
                prop_assert!(queue.bytes() <= 200 && queue.stretch_ms() <= 500);
            }
        }
    }
}
