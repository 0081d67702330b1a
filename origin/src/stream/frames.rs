//! The frames of a stream by name, for relays and players that take it in substreams.
//!
//! Every tag that viewers get is numbered, gets its entry ([`media::substream`]) and is kept for a while. A feed is a
//! [`Cursor`] that reads on from a frame; single frames and headers can be asked for by name. Relays get frames with a
//! signature, which is made when the first of them reads it.
//!
//! Invariants: frames are kept from the newest start point on, and for [`Limits::history`] at least. Bounded by
//! [`Limits::bytes`] (old frames go first, whatever reads them): a feed that has fallen behind ends, and whoever reads it
//! comes back with the last frame it has.

use std::cell::OnceCell;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use media::flv::Tag;
use media::substream::feed::{MAX_PRIOR, Record, Start};
use media::substream::sign::{Signature, Signer};
use media::substream::{CHAIN_LENGTH, Entry, Header, Sequencer, Split};

/// Bytes handed to a connection at once; a single frame may be larger.
const READ_BYTES: usize = 256 << 10;

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) history: Duration,
    pub(crate) bytes: usize,
}

#[derive(Debug)]
struct Frame {
    entry: Entry,
    substream: u8,
    at: Instant,
    body: Bytes,
    signature: OnceCell<Signature>,
}

/// Where somebody can start to play.
#[derive(Debug, Clone)]
struct StartPoint {
    number: u64,
    prelude: Bytes,
}

/// Where a feed begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    /// With the newest keyframe.
    Gop,
    /// With the next frame.
    Live,
    /// After this frame.
    After(Entry),
}

/// A feed's position.
#[derive(Debug)]
pub(crate) struct Cursor {
    next: u64,
    mask: u64,
    /// With signatures.
    signed: bool,
}

/// What a feed gets next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FeedRead {
    Data(Bytes),
    Pending,
    /// The next frame is no longer there.
    Behind,
}

#[derive(Debug)]
pub(crate) struct FrameLog {
    epoch: u16,
    split: Split,
    limits: Limits,
    sequencer: Sequencer,
    signer: Option<Signer>,
    frames: VecDeque<Frame>,
    /// Number of the first frame held.
    base: u64,
    held_bytes: usize,
    start: Option<StartPoint>,
}

impl FrameLog {
    pub(crate) fn new(epoch: u16, split: Split, limits: Limits) -> Self {
        Self {
            epoch,
            split,
            limits,
            sequencer: Sequencer::default(),
            signer: None,
            frames: VecDeque::new(),
            base: 0,
            held_bytes: 0,
            start: None,
        }
    }

    /// Frames are signed from now on.
    pub(crate) fn sign_with(&mut self, signer: Signer) {
        self.signer = Some(signer);
    }

    pub(crate) fn epoch(&self) -> u16 {
        self.epoch
    }

    pub(crate) fn split(&self) -> Split {
        self.split
    }

    /// Number that the next frame will have.
    pub(crate) fn next_number(&self) -> u64 {
        self.base + u64::try_from(self.frames.len()).unwrap_or_default()
    }

    /// Players start at frame `number` from now on.
    pub(crate) fn set_start(&mut self, number: u64, prelude: Bytes) {
        self.start = Some(StartPoint { number, prelude });
    }

    /// Takes a tag that viewers get.
    pub(crate) fn push(&mut self, now: Instant, tag: &Tag) {
        // Tags are bounded on their way in, so that none is too large.
        let Ok(header) = Header::of(tag) else {
            return;
        };
        self.held_bytes += tag.body.len();
        self.frames.push_back(Frame {
            entry: self.sequencer.next(header),
            substream: self.split.substream(&header),
            at: now,
            body: tag.body.clone(),
            signature: OnceCell::new(),
        });
        let keep_from = self.start.as_ref().map_or(u64::MAX, |start| start.number);
        while let Some(first) = self.frames.front() {
            let old = now.saturating_duration_since(first.at) > self.limits.history;
            let unneeded = old && self.base < keep_from;
            if !unneeded && self.held_bytes <= self.limits.bytes {
                break;
            }
            self.held_bytes -= first.body.len();
            self.frames.pop_front();
            self.base += 1;
        }
        if keep_from < self.base {
            self.start = None;
        }
    }

    /// Begins a feed of the substreams in `mask`, with signatures or without: its first record, and where it goes on.
    /// `None` when that frame is not there, or there is no keyframe yet.
    pub(crate) fn open(&self, from: From, mask: u64, signed: bool) -> Option<(Bytes, Cursor)> {
        let next = match from {
            From::Gop => self.start.as_ref()?.number,
            From::Live => self.next_number(),
            From::After(entry) => self.find(&entry)? + 1,
        };
        let first_prior = next.saturating_sub(u64::try_from(MAX_PRIOR).unwrap_or_default());
        let prior = (first_prior.max(self.base)..next)
            .filter_map(|number| Some(self.get(number)?.entry))
            .collect();
        let prelude = self.start.as_ref().map(|start| start.prelude.clone());
        let mut out = BytesMut::new();
        Record::Start(Start {
            epoch: self.epoch,
            split: self.split,
            signer: self.signer.as_ref().map(Signer::public),
            prior,
            prelude: prelude.unwrap_or_default(),
        })
        .write(&mut out);
        Some((out.freeze(), Cursor { next, mask, signed }))
    }

    /// The next records of a feed.
    pub(crate) fn read(&self, cursor: &mut Cursor) -> FeedRead {
        if cursor.next < self.base {
            return FeedRead::Behind;
        }
        let mut out = BytesMut::new();
        while let Some(frame) = self.get(cursor.next).filter(|_| out.len() < READ_BYTES) {
            if cursor.mask & (1 << frame.substream) == 0 {
                Record::Header(frame.entry).write(&mut out);
            } else {
                let signature = cursor.signed.then(|| self.signature(cursor.next, frame));
                let body = frame.body.clone();
                match signature.flatten() {
                    Some(signature) => Record::Signed(frame.entry, signature, body),
                    None => Record::Frame(frame.entry, body),
                }
                .write(&mut out);
            }
            cursor.next += 1;
        }
        match out.is_empty() {
            true => FeedRead::Pending,
            false => FeedRead::Data(out.freeze()),
        }
    }

    /// The headers after a frame, at most `max`; `None` when that frame is not there.
    pub(crate) fn headers_after(&self, entry: &Entry, max: usize) -> Option<Bytes> {
        let from = self.find(entry)? + 1;
        let mut out = BytesMut::new();
        (from..self.next_number())
            .take(max)
            .filter_map(|number| self.get(number))
            .for_each(|frame| Record::Header(frame.entry).write(&mut out));
        Some(out.freeze())
    }

    /// Appends the frame of a decoding time and CRC as a record; false when it is not there.
    pub(crate) fn write_frame(&self, dts_ms: u32, crc: u32, out: &mut BytesMut) -> bool {
        let named = |frame: &&Frame| frame.entry.crc == crc && frame.entry.header.dts_ms == dts_ms;
        let Some(frame) = self.frames.iter().rev().find(named) else {
            return false;
        };
        Record::Frame(frame.entry, frame.body.clone()).write(out);
        true
    }

    fn signature(&self, number: u64, frame: &Frame) -> Option<Signature> {
        let signer = self.signer.as_ref()?;
        let signature = frame.signature.get_or_init(|| {
            let first = number.saturating_sub(u64::try_from(CHAIN_LENGTH).unwrap_or_default());
            let before: Vec<Entry> = (first..number)
                .filter_map(|number| Some(self.get(number)?.entry))
                .collect();
            signer.sign(&before, &frame.entry, &frame.body)
        });
        Some(*signature)
    }

    fn get(&self, number: u64) -> Option<&Frame> {
        let index = usize::try_from(number.checked_sub(self.base)?).ok()?;
        self.frames.get(index)
    }

    fn find(&self, entry: &Entry) -> Option<u64> {
        let back = self.frames.iter().rev().position(|f| f.entry == *entry)?;
        let back = u64::try_from(back).unwrap_or_default();
        self.next_number().checked_sub(back + 1)
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "tests need some instant to start from"
)]
mod tests {
    use media::flv::TagKind;
    use media::substream::HashVersion;
    use media::substream::feed::Reader;

    use super::*;

    fn log(bytes: usize) -> FrameLog {
        let split = Split::new(HashVersion::Mixed, 4).expect("in range");
        let limits = Limits {
            history: Duration::from_secs(10),
            bytes,
        };
        FrameLog::new(7, split, limits)
    }

    fn tag(n: u32, size: usize) -> Tag {
        Tag {
            kind: TagKind::Audio,
            timestamp_ms: n * 21,
            body: Bytes::from(vec![0xaf; size]),
        }
    }

    fn records(bytes: &[u8]) -> Vec<Record> {
        let (mut reader, mut records) = (Reader::default(), Vec::new());
        reader.push(bytes);
        while let Some(record) = reader.next_record().expect("valid") {
            records.push(record);
        }
        records
    }

    #[test]
    fn a_feed_has_its_substreams_whole_and_the_rest_by_name() {
        let (now, mut log) = (Instant::now(), log(1 << 20));
        (0..10).for_each(|n| log.push(now, &tag(n, 10)));
        log.set_start(10, Bytes::from_static(b"prelude"));
        let (start, mut cursor) = log.open(From::Gop, 0b0101, false).expect("a start");
        let Some(Record::Start(start)) = records(&start).pop() else {
            panic!("not a start");
        };
        assert_eq!((start.epoch, start.prior.len()), (7, MAX_PRIOR));
        assert_eq!(start.prelude, Bytes::from_static(b"prelude"));
        assert_eq!(log.read(&mut cursor), FeedRead::Pending);
        (10..60).for_each(|n| log.push(now, &tag(n, 10)));
        let FeedRead::Data(data) = log.read(&mut cursor) else {
            panic!("nothing to read");
        };
        let records = records(&data);
        assert_eq!(records.len(), 50);
        for record in &records {
            let (entry, whole) = match record {
                Record::Frame(entry, _) => (entry, true),
                Record::Header(entry) => (entry, false),
                Record::Start(_) | Record::Signed(..) => panic!("not asked for"),
            };
            assert_eq!(whole, log.split.substream(&entry.header).is_multiple_of(2));
        }
        assert_eq!(log.read(&mut cursor), FeedRead::Pending);
    }

    #[test]
    fn relays_get_signed_frames() {
        let (now, mut log) = (Instant::now(), log(1 << 20));
        log.sign_with(Signer::of_stream(b"secret", "demo", 7).expect("a key"));
        (0..9).for_each(|n| log.push(now, &tag(n, 10)));
        let (start, mut cursor) = log.open(From::Live, u64::MAX, true).expect("live");
        let Some(Record::Start(start)) = records(&start).pop() else {
            panic!("not a start");
        };
        let key = start.signer.expect("a key");
        (9..40).for_each(|n| log.push(now, &tag(n, 1_020 + usize::try_from(n).expect("few"))));
        let FeedRead::Data(data) = log.read(&mut cursor) else {
            panic!("nothing to read");
        };
        let mut before = start.prior;
        for record in records(&data) {
            let Record::Signed(entry, signature, body) = record else {
                panic!("not signed");
            };
            let near = &before[before.len() - entry.header.signed_predecessors()..];
            assert!(key.verifies(near, &entry, &body, &signature));
            before.push(entry);
        }
        assert_eq!(before.len(), MAX_PRIOR + 31);
    }

    #[test]
    fn frames_and_headers_are_found_by_name() {
        let (now, mut log) = (Instant::now(), log(1 << 20));
        (0..20).for_each(|n| log.push(now, &tag(n, 10)));
        let (_, mut cursor) = log
            .open(From::Live, 0, false)
            .expect("live is always there");
        log.push(now, &tag(20, 10));
        let FeedRead::Data(data) = log.read(&mut cursor) else {
            panic!("nothing to read");
        };
        let [Record::Header(last)] = records(&data)[..] else {
            panic!("not one header");
        };
        let fifth = log.get(5).expect("held").entry;
        let headers = records(&log.headers_after(&fifth, 256).expect("held"));
        assert_eq!(headers.len(), 15);
        assert_eq!(headers.last(), Some(&Record::Header(last)));
        assert!(log.open(From::After(last), 1, false).is_some());
        let mut out = BytesMut::new();
        assert!(log.write_frame(fifth.header.dts_ms, fifth.crc, &mut out));
        assert!(!log.write_frame(fifth.header.dts_ms, fifth.crc ^ 1, &mut out));
        assert!(matches!(records(&out)[..], [Record::Frame(entry, _)] if entry == fifth));
        let stranger = Entry { crc: 1, ..fifth };
        assert!(log.headers_after(&stranger, 256).is_none());
        assert!(log.open(From::After(stranger), 1, false).is_none());
    }

    #[test]
    fn memory_is_bounded_and_who_falls_behind_is_told() {
        let (now, mut log) = (Instant::now(), log(1_000));
        let (_, mut cursor) = log
            .open(From::Live, 1, false)
            .expect("live is always there");
        log.set_start(0, Bytes::new());
        (0..50).for_each(|n| log.push(now, &tag(n, 100)));
        assert_eq!(log.frames.len(), 10);
        assert_eq!(log.read(&mut cursor), FeedRead::Behind);
        assert!(
            log.open(From::Gop, 1, false).is_none(),
            "its keyframe has gone"
        );
        let later = now + Duration::from_secs(11);
        log.push(later, &tag(50, 100));
        assert_eq!(log.frames.len(), 1, "old frames go too");
    }
}
