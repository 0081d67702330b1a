//! A world on virtual time: an origin, relays, paths that lose and delay, and a player, all from one seed.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::net::SocketAddr;

use media::flv::{Tag, TagKind};
use media::substream::feed::{MAX_PRIOR, Record, Start};
use media::substream::sign::{Signature, Signer};
use media::substream::{Header, Sequencer};
use media::ticket::{Key, Ticket};
use rand::Rng as _;

use super::super::*;
use crate::relay::{self, FeedName, Relay};
use crate::wire::Keys;

const WALL_S: u32 = 1_700_000_000;
const PLAYER: ([u8; 4], u16) = ([10, 0, 0, 1], 1_000);

/// What is on its way.
enum Mail {
    /// The source makes the next frame.
    Frame,
    ToRelay(usize, Vec<u8>),
    ToPlayer(usize, Vec<u8>),
    RelayRecord(usize, FeedName, Record),
    PlayerRecord(u64, Record),
    RelayFeedEnded(usize, FeedName),
    PlayerFeedEnded(u64),
    Frames(u64, Vec<Record>),
    Headers(Option<Vec<Record>>),
    Relays,
}

/// How a relay and its path are.
#[derive(Clone, Copy)]
pub(super) struct Path {
    pub(super) delay_ms: u64,
    pub(super) jitter_ms: u64,
    pub(super) loss: f64,
}

pub(super) struct World {
    pub(super) now: Instant,
    random: StdRng,
    pub(super) player: Player,
    pub(super) relays: Vec<Option<Relay>>,
    pub(super) paths: Vec<Path>,
    /// Whether the origin answers.
    origin_up: bool,
    mail: BinaryHeap<Reverse<(Instant, u64)>>,
    letters: HashMap<u64, Mail>,
    sent: u64,
    sequencer: Sequencer,
    signer: Option<Signer>,
    signatures: Vec<Option<Signature>>,
    /// How each relay spoils what it sends; gets the keys of its sessions.
    pub(super) evil: Vec<Option<super::evil::Evil>>,
    keys: Vec<Vec<Keys>>,
    /// Relays that the player has said do not work.
    pub(super) reported: Vec<u64>,
    /// All frames of the stream so far.
    pub(super) truth: Vec<(Entry, Bytes)>,
    frame: u32,
    gop: usize,
    relay_feeds: BTreeSet<(usize, FeedName)>,
    player_feed: Option<(u64, u64)>,
    pub(super) played: Vec<(Entry, Bytes)>,
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn address(relay: usize) -> SocketAddr {
    let port = 2_000 + u16::try_from(relay).expect("few");
    SocketAddr::from(([10, 0, 1, 1], port))
}

fn key(relay: usize) -> Key {
    Key::of_relay(b"world", u64::try_from(relay).expect("few"))
}

impl World {
    /// An origin that signs.
    pub(super) fn new(seed: u64, paths: Vec<Path>) -> Self {
        Self::with(seed, paths, true)
    }

    #[expect(clippy::disallowed_methods, reason = "any instant will do in a test")]
    pub(super) fn with(seed: u64, paths: Vec<Path>, signed: bool) -> Self {
        let now = Instant::now();
        let mut random = StdRng::seed_from_u64(seed);
        let config = Config {
            relay_after: Duration::ZERO,
            ..Config::default()
        };
        let relays = (0..paths.len()).map(|n| {
            Some(Relay::new(
                now,
                relay::Config::default(),
                key(n),
                random.random(),
            ))
        });
        let mut world = Self {
            now,
            relays: relays.collect(),
            player: Player::new(now, config, random.random()),
            random,
            signer: signed.then(|| Signer::of_stream(b"world", "demo", 3).expect("a key")),
            signatures: Vec::new(),
            evil: paths.iter().map(|_| None).collect(),
            keys: paths.iter().map(|_| Vec::new()).collect(),
            reported: Vec::new(),
            paths,
            origin_up: true,
            mail: BinaryHeap::new(),
            letters: HashMap::new(),
            sent: 0,
            sequencer: Sequencer::default(),
            truth: Vec::new(),
            frame: 0,
            gop: 0,
            relay_feeds: BTreeSet::new(),
            player_feed: None,
            played: Vec::new(),
        };
        // There is a picture before anybody comes.
        (0..45).for_each(|_| world.make_frame());
        world.post(ms(0), Mail::Frame);
        world
    }

    fn post(&mut self, after: Duration, mail: Mail) {
        self.sent += 1;
        self.letters.insert(self.sent, mail);
        self.mail.push(Reverse((self.now + after, self.sent)));
    }

    /// 25 pictures per second, a keyframe each second, sound between them.
    fn make_frame(&mut self) {
        let n = self.frame;
        self.frame += 1;
        let picture = n % 3 != 2;
        let key = n.is_multiple_of(75);
        let size = match (picture, key) {
            (true, true) => 40_000,
            (true, false) => 4_000 + self.random.random_range(0..9_000),
            (false, _) => 300,
        };
        let mut body = vec![0; size];
        self.random.fill(&mut body[..]);
        let head: &[u8] = match (picture, key) {
            (true, true) => &[0x17, 1, 0, 0, 0],
            (true, false) => &[0x27, 1, 0, 0, 0],
            (false, _) => &[0xaf, 1],
        };
        body[..head.len()].copy_from_slice(head);
        let kind = if picture {
            TagKind::Video
        } else {
            TagKind::Audio
        };
        let tag = Tag {
            kind,
            timestamp_ms: 4_294_960_000_u32.wrapping_add(n * 40 / 3),
            body: Bytes::from(body),
        };
        let entry = self.sequencer.next(Header::of(&tag).expect("small"));
        if key {
            self.gop = self.truth.len();
        }
        let before = &self.truth[self.truth.len().saturating_sub(CHAIN_LENGTH)..];
        let before: Vec<_> = before.iter().map(|(entry, _)| *entry).collect();
        let sign = |signer: &Signer| signer.sign(&before, &entry, &tag.body);
        self.signatures.push(self.signer.as_ref().map(sign));
        self.truth.push((entry, tag.body));
    }

    fn split() -> Split {
        Split::default()
    }

    fn start_record(&self, at: usize) -> Record {
        let from = at.saturating_sub(MAX_PRIOR);
        Record::Start(Start {
            epoch: 3,
            split: Self::split(),
            signer: self.signer.as_ref().map(Signer::public),
            prior: self.truth[from..at].iter().map(|(e, _)| *e).collect(),
            prelude: Bytes::new(),
        })
    }

    fn record(&self, at: usize, mask: u64) -> Record {
        let (entry, body) = &self.truth[at];
        match mask & (1 << Self::split().substream(&entry.header)) {
            0 => Record::Header(*entry),
            _ => Record::Frame(*entry, body.clone()),
        }
    }

    /// What relays get.
    fn signed(&self, at: usize, mask: u64) -> Record {
        match (self.record(at, mask), self.signatures[at]) {
            (Record::Frame(entry, body), Some(signature)) => Record::Signed(entry, signature, body),
            (record, _) => record,
        }
    }

    /// Lets time pass.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let relays = self.relays.iter().flatten().map(Relay::poll_timeout);
            let timeout = relays.chain([self.player.poll_timeout()]).min();
            let mail = self.mail.peek().map(|Reverse((at, _))| *at);
            let next = timeout.into_iter().chain(mail).min().expect("timers");
            if next > end {
                self.now = end;
                return;
            }
            self.now = self.now.max(next);
            while let Some(Reverse((at, id))) = self.mail.peek().copied()
                && at <= self.now
            {
                self.mail.pop();
                let mail = self.letters.remove(&id).expect("posted");
                self.deliver(mail);
                self.drain();
            }
            self.player.handle_timeout(self.now);
            for relay in self.relays.iter_mut().flatten() {
                relay.handle_timeout(self.now);
            }
            self.drain();
        }
    }

    fn deliver(&mut self, mail: Mail) {
        match mail {
            Mail::Frame => {
                self.make_frame();
                self.post(Duration::from_micros(13_333), Mail::Frame);
                let at = self.truth.len() - 1;
                if !self.origin_up {
                    return;
                }
                let feeds: Vec<_> = self.relay_feeds.iter().cloned().collect();
                for (relay, name) in feeds {
                    let record = self.signed(at, 1 << name.substream);
                    self.post(ms(5), Mail::RelayRecord(relay, name, record));
                }
                if let Some((feed, mask)) = self.player_feed {
                    let record = self.record(at, mask);
                    self.post(ms(20), Mail::PlayerRecord(feed, record));
                }
            }
            Mail::ToRelay(n, bytes) => {
                if let Some(relay) = &mut self.relays[n] {
                    let from = SocketAddr::from(PLAYER);
                    let (bytes, wall_s) = (&bytes[..], WALL_S);
                    let input = relay::Input::Datagram {
                        from,
                        bytes,
                        wall_s,
                    };
                    relay.handle(self.now, input);
                }
            }
            Mail::ToPlayer(n, bytes) => {
                let input = Input::Datagram(address(n), &bytes);
                self.player.handle(self.now, input);
            }
            Mail::RelayRecord(n, name, record) => {
                if let Some(relay) = &mut self.relays[n] {
                    relay.handle(self.now, relay::Input::Record(&name, record));
                }
            }
            Mail::RelayFeedEnded(n, name) => {
                if let Some(relay) = &mut self.relays[n] {
                    relay.handle(self.now, relay::Input::FeedEnded(&name));
                }
            }
            Mail::PlayerFeedEnded(feed) => {
                let ended = Input::FeedEnded { feed, gone: false };
                self.player.handle(self.now, ended);
            }
            Mail::PlayerRecord(feed, record) => {
                self.player.handle(self.now, Input::Record(feed, record));
            }
            Mail::Frames(id, records) => {
                let records = self.origin_up.then_some(records);
                self.player.handle(self.now, Input::Frames(id, records));
            }
            Mail::Headers(records) => {
                let records = records.filter(|_| self.origin_up);
                self.player.handle(self.now, Input::Headers(records));
            }
            Mail::Relays => {
                let ticket = Ticket {
                    stream: "demo".into(),
                    expires_s: WALL_S + 60,
                    max_kbps: 20_000,
                    nonce: self.sent,
                };
                let relays = (0..self.relays.len()).map(|n| {
                    let sealed = ticket.seal(&key(n));
                    self.keys[n].push(Keys::new(&key(n).of_session(&sealed)));
                    RelayInfo {
                        id: u64::try_from(n).expect("few"),
                        address: address(n),
                        mask: u64::MAX,
                        key: key(n).of_session(&sealed),
                        ticket: sealed,
                    }
                });
                let relays: Vec<_> = relays.collect();
                self.player.handle(self.now, Input::Relays(relays));
            }
        }
    }

    /// Over a path: lost, or there after its delay.
    fn travel(&mut self, relay: usize, later: Duration, mail: Mail) {
        let path = self.paths[relay];
        if self.random.random_bool(path.loss) {
            return;
        }
        let jitter = self.random.random_range(0..=path.jitter_ms);
        self.post(later + ms(path.delay_ms + jitter), mail);
    }

    fn drain(&mut self) {
        for n in 0..self.relays.len() {
            while let Some(output) = self.relays[n].as_mut().and_then(Relay::poll_output) {
                match output {
                    relay::Output::Send(_, bytes) => {
                        let evil = self.evil[n].as_mut();
                        let sent = match evil {
                            Some(evil) => evil.spoil(&bytes, &self.keys[n]),
                            None => vec![(ms(0), bytes)],
                        };
                        for (later, bytes) in sent {
                            self.travel(n, later, Mail::ToPlayer(n, bytes));
                        }
                    }
                    relay::Output::OpenFeed(name) if !self.origin_up => {
                        self.post(ms(5), Mail::RelayFeedEnded(n, name));
                    }
                    relay::Output::OpenFeed(name) => {
                        let record = self.start_record(self.truth.len());
                        self.relay_feeds.insert((n, name.clone()));
                        self.post(ms(5), Mail::RelayRecord(n, name, record));
                    }
                    relay::Output::CloseFeed(name) => {
                        self.relay_feeds.remove(&(n, name));
                    }
                }
            }
        }
        while let Some(output) = self.player.poll_output() {
            match output {
                Output::Send(to, bytes) => {
                    let n = usize::from(to.port() - 2_000);
                    self.travel(n, ms(0), Mail::ToRelay(n, bytes));
                }
                Output::OpenFeed { feed, .. } if !self.origin_up => {
                    self.post(ms(20), Mail::PlayerFeedEnded(feed));
                }
                Output::OpenFeed { feed, mask, from } => {
                    let at = match from {
                        From::Gop => self.gop,
                        From::After(entry) => self.find(entry.header.dts_ms, entry.crc) + 1,
                    };
                    self.player_feed = Some((feed, mask));
                    let start = self.start_record(at);
                    self.post(ms(20), Mail::PlayerRecord(feed, start));
                    for at in at..self.truth.len() {
                        let record = self.record(at, mask);
                        self.post(ms(20), Mail::PlayerRecord(feed, record));
                    }
                }
                Output::CloseFeed(_) => self.player_feed = None,
                Output::FetchFrames(id, names) => {
                    let found = names.iter().map(|(dts, crc)| self.find(*dts, *crc));
                    let records = found.map(|at| self.record(at, u64::MAX)).collect();
                    self.post(ms(30), Mail::Frames(id, records));
                }
                Output::FetchHeaders(after) => {
                    let from = self.find(after.header.dts_ms, after.crc) + 1;
                    let records = (from..self.truth.len()).map(|at| self.record(at, 0));
                    let records = records.collect();
                    self.post(ms(30), Mail::Headers(Some(records)));
                }
                Output::FetchRelays(failed) => {
                    self.reported.extend(failed);
                    self.post(ms(20), Mail::Relays);
                }
                Output::Begin(_) => {}
                Output::Frame(entry, body) => self.played.push((entry, body)),
            }
        }
    }

    fn find(&self, dts_ms: u32, crc: u32) -> usize {
        let found = self
            .truth
            .iter()
            .rposition(|(e, _)| e.crc == crc && e.header.dts_ms == dts_ms);
        found.expect("the player asks only for what there is")
    }

    /// The origin goes, and its connections with it, or comes back.
    pub(super) fn set_origin(&mut self, up: bool) {
        self.origin_up = up;
        if up {
            return;
        }
        for (n, name) in std::mem::take(&mut self.relay_feeds) {
            self.post(ms(5), Mail::RelayFeedEnded(n, name));
        }
        if let Some((feed, _)) = self.player_feed.take() {
            self.post(ms(20), Mail::PlayerFeedEnded(feed));
        }
    }

    /// A relay dies without a word.
    pub(super) fn kill(&mut self, relay: usize) {
        self.relays[relay] = None;
        self.relay_feeds.retain(|(n, _)| *n != relay);
    }

    /// What was played is a piece of the truth without gaps.
    pub(super) fn check(&self) {
        let first = self.played.first().expect("something was played").0;
        let start = self.find(first.header.dts_ms, first.crc);
        assert!(first.header.kind.is_key());
        let truth = &self.truth[start..start + self.played.len()];
        for (at, (played, truth)) in self.played.iter().zip(truth).enumerate() {
            assert_eq!(played.0, truth.0, "frame {at}");
            assert!(played.1 == truth.1, "the bytes of frame {at}");
        }
    }

    /// How far what was played is behind the newest frame, in frames.
    pub(super) fn behind(&self) -> usize {
        let last = self.played.last().expect("something was played").0;
        self.truth.len() - 1 - self.find(last.header.dts_ms, last.crc)
    }
}
