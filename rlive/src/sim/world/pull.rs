//! The paper's first approach (§2.2): one relay stands between the dedicated node and a player, as a further layer of it.
//!
//! A player pulls the whole stream from one relay over TCP, from its first byte on, and the relay pulls it from the
//! dedicated node, once for all its players. Nothing else helps: what is lost comes again in TCP's time, and a relay that is
//! silent is left for the next one. There are no substreams, no chains and no way around relays, so nothing of
//! [`crate::relay`] is in it; player and scheduler are the same as everywhere.

use std::collections::{HashSet, VecDeque};

use media::ticket::Key;

use super::{Event, LINGER_US, Node, STREAM, USELESS_US, World, byte, float, number};
use crate::player::{self, From};
use crate::relay::{HEARTBEAT, HEARTBEAT_IDLE};
use crate::sim::cdn::Connection;
use crate::sim::path::us;
use crate::sim::stream;
use crate::wire::heartbeat::{Heartbeat, Served, stream_tag};

/// A connection that brings nothing for so long is given up, as a session of ours is.
const SILENCE_US: u64 = 1_500_000;
/// The scheduler is asked this often at most, as by ours.
const ASK_US: u64 = 2_000_000;
/// How often connections are looked at.
const LOOK_US: u64 = 100_000;
/// What a segment of TCP carries.
const SEGMENT_BYTES: usize = 1_400;

/// What a player does to get its connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// Asks the scheduler.
    Ask,
    /// Tries the next relay.
    Next,
    /// Its request is with this relay.
    Open(usize),
    /// Is anybody there?
    Look,
}

/// A player's connection.
#[derive(Debug)]
pub(super) struct Pull {
    pub(super) feed: u64,
    from: From,
    candidates: VecDeque<usize>,
    failed: Vec<u64>,
    asked: Option<u64>,
    relay: Option<usize>,
    /// The frame that is sent next.
    next: usize,
    /// When what was sent last arrives.
    arrives: u64,
    pub(super) heard: u64,
}

/// What a relay has of the stream.
#[derive(Debug, Default)]
pub(super) struct Edge {
    upstream: Option<(u64, Connection)>,
    opened: u64,
    have: HashSet<usize>,
    newest: usize,
    players: Vec<usize>,
    unused_since: u64,
    beats: u32,
    beat_at: u64,
    was_busy: bool,
    /// Bytes sent, all and since the last heartbeat.
    sent: (u64, u64),
}

impl World<'_> {
    /// A player wants the stream.
    pub(super) fn pull(&mut self, n: usize, feed: u64, from: From) {
        let now = self.now;
        let Some(seat) = self.seats.get_mut(n) else {
            return;
        };
        let before = seat.pull.take();
        let (candidates, failed, asked) = before.map_or_else(Default::default, |pull| {
            (pull.candidates, pull.failed, pull.asked)
        });
        seat.pull = Some(Pull {
            feed,
            from,
            candidates,
            failed,
            asked,
            relay: None,
            next: 0,
            arrives: 0,
            heard: now,
        });
        self.post(now, Event::Pull(n, feed, Step::Next));
    }

    pub(super) fn step(&mut self, n: usize, feed: u64, step: Step) {
        let now = self.now;
        let Some(pull) = self.seats.get_mut(n).and_then(|seat| seat.pull.as_mut()) else {
            return;
        };
        if pull.feed != feed {
            return;
        }
        match step {
            Step::Ask => {
                pull.asked = Some(now);
                let failed = std::mem::take(&mut pull.failed);
                let took = self
                    .scheduler_dice
                    .log_normal(self.model.recommend_ms, self.model.recommend_sigma);
                self.post(now + us(took / 1_000.0), Event::Recommend(n, failed));
            }
            Step::Next => match pull.candidates.pop_front() {
                Some(relay) => self.try_relay(n, feed, relay),
                None => {
                    let at = pull.asked.map_or(now, |at| (at + ASK_US).max(now));
                    self.post(at, Event::Pull(n, feed, Step::Ask));
                }
            },
            Step::Open(relay) => self.open_pull(n, relay),
            Step::Look => {
                if now.saturating_sub(pull.heard) < SILENCE_US {
                    self.post(now + LOOK_US, Event::Pull(n, feed, Step::Look));
                    return;
                }
                if let Some(relay) = pull.relay.take() {
                    pull.failed.push(number(relay));
                    self.leave_edge(n, relay);
                }
                let ended = player::Input::FeedEnded { feed, gone: false };
                let instant = self.instant();
                self.player(n, |p| p.handle(instant, ended));
            }
        }
    }

    /// The scheduler has answered.
    pub(super) fn recommended(&mut self, n: usize, relays: impl Iterator<Item = u64>) {
        let Some(pull) = self.seats.get_mut(n).and_then(|seat| seat.pull.as_mut()) else {
            return;
        };
        pull.candidates = relays.filter_map(|id| usize::try_from(id).ok()).collect();
        let feed = pull.feed;
        self.step(n, feed, Step::Next);
    }

    fn try_relay(&mut self, n: usize, feed: u64, relay: usize) {
        let now = self.now;
        let Some(path) = self.path(relay, n) else {
            return;
        };
        let trip = path.trip_us();
        let reached = path.up(now).is_some() && trip < USELESS_US;
        let (Some(node), Some(seat)) = (self.nodes.get_mut(relay), self.seats.get_mut(n)) else {
            return;
        };
        let (_, opened) = seat.tried.entry(relay).or_insert((now, false));
        let answers = reached && node.nature.is_alive(now) && node.nature.outage(now).is_none();
        let full = node.nature.full || node.edge.players.len() >= node.machine.max_sessions();
        *opened |= answers && !full;
        let (at, step) = match (answers, full) {
            (false, _) => {
                if let Some(pull) = &mut seat.pull {
                    pull.failed.push(number(relay));
                }
                (now + USELESS_US, Step::Next)
            }
            (true, true) => (now + trip, Step::Next),
            (true, false) => (now + trip + trip / 2, Step::Open(relay)),
        };
        self.post(at, Event::Pull(n, feed, step));
    }

    /// A player's request is with a relay.
    fn open_pull(&mut self, n: usize, relay: usize) {
        let now = self.now;
        let (Some(node), Some(pull)) = (
            self.nodes.get_mut(relay),
            self.seats.get_mut(n).and_then(|seat| seat.pull.as_mut()),
        ) else {
            return;
        };
        let edge = &mut node.edge;
        let first = match pull.from {
            From::Gop if edge.upstream.is_some() && !edge.have.is_empty() => {
                self.stream.gop_until(edge.newest)
            }
            From::Gop => self.stream.gop(),
            From::After(entry) => {
                let at = self.stream.number(entry.header.dts_ms, entry.crc);
                at.map_or_else(|| self.stream.gop(), |at| at + 1)
            }
        };
        pull.relay = Some(relay);
        pull.next = first;
        pull.heard = now;
        edge.players.push(n);
        let feed = pull.feed;
        if edge.upstream.is_none() {
            edge.opened += 1;
            let mut connection = self.cdn.connect(relay);
            connection.opened(now);
            edge.upstream = Some((edge.opened, connection));
            self.fill(relay, first, self.stream.len());
        } else if !self.has(relay, first) {
            // Somebody wants to go on from before the relay began.
            let until = (first..self.stream.len()).find(|at| self.has(relay, *at));
            self.fill(relay, first, until.unwrap_or(first));
        }
        let start = self.stream.start(first);
        self.carry(relay, n, feed, start);
        self.serve(relay, n);
        self.post(now + LOOK_US, Event::Pull(n, feed, Step::Look));
    }

    fn has(&self, relay: usize, at: usize) -> bool {
        let node = self.nodes.get(relay);
        node.is_some_and(|node| node.edge.have.contains(&at))
    }

    /// The relay takes frames that are there from the dedicated node.
    fn fill(&mut self, relay: usize, first: usize, end: usize) {
        let mut posts = Vec::new();
        if let Some(node) = self.nodes.get_mut(relay)
            && let Some((opened, connection)) = &mut node.edge.upstream
        {
            for at in first..end {
                let Some(record) = self.stream.record(at, u64::MAX) else {
                    continue;
                };
                let there = connection.send(&self.cdn, self.now, stream::size(&record));
                posts.push((there, Event::AtEdge(relay, *opened, at)));
            }
        }
        for (there, event) in posts {
            self.post(there, event);
        }
    }

    /// The origin has a new frame: it is sent to the relay, if it takes the stream.
    pub(super) fn sent_to_edge(
        cdn: &super::Cdn,
        node: &mut Node,
        now: u64,
        bytes: usize,
    ) -> Option<(u64, u64)> {
        let (opened, connection) = node.edge.upstream.as_mut()?;
        Some((connection.send(cdn, now, bytes), *opened))
    }

    /// A frame is with a relay.
    pub(super) fn at_edge(&mut self, relay: usize, opened: u64, at: usize) {
        let Some(node) = self.nodes.get_mut(relay) else {
            return;
        };
        let current = node
            .edge
            .upstream
            .as_ref()
            .is_some_and(|(id, _)| *id == opened);
        if !current || !node.nature.is_alive(self.now) {
            return;
        }
        if let Some(record) = self.stream.record(at, u64::MAX) {
            self.figures.cdn_to_relays += float(number(stream::size(&record)));
        }
        node.edge.have.insert(at);
        node.edge.newest = node.edge.newest.max(at);
        for player in node.edge.players.clone() {
            self.serve(relay, player);
        }
    }

    /// Sends a player what is there and is its turn.
    fn serve(&mut self, relay: usize, n: usize) {
        loop {
            let Some(pull) = self.seats.get_mut(n).and_then(|seat| seat.pull.as_mut()) else {
                return;
            };
            let (feed, next) = (pull.feed, pull.next);
            if pull.relay != Some(relay) || !self.has(relay, next) {
                return;
            }
            let Some(record) = self.stream.record(next, u64::MAX) else {
                return;
            };
            self.carry(relay, n, feed, record);
            if let Some(pull) = self.seats.get_mut(n).and_then(|seat| seat.pull.as_mut()) {
                pull.next += 1;
            }
        }
    }

    /// Carries a record from a relay to a player, by TCP: in order, and what is lost again.
    fn carry(&mut self, relay: usize, n: usize, feed: u64, record: media::substream::feed::Record) {
        let now = self.now;
        let bytes = stream::size(&record);
        let Some(node) = self.nodes.get_mut(relay) else {
            return;
        };
        if !node.nature.is_alive(now) {
            return;
        }
        let from = node.nature.outage(now).unwrap_or(now);
        let congestion = node.nature.congestion_us(now);
        let mut left = bytes;
        let mut arrives = 0;
        while left > 0 {
            let size = left.min(SEGMENT_BYTES);
            left -= size;
            let Some(node) = self.nodes.get_mut(relay) else {
                return;
            };
            let sent = node.nature.send_waiting(from, size);
            node.edge.sent.0 += number(size);
            node.edge.sent.1 += number(size);
            let Some((at, again)) = self
                .path(relay, n)
                .and_then(|path| path.reliable(sent, congestion))
            else {
                return;
            };
            arrives = at;
            self.figures.relay_sent += float(number(size));
            self.figures.relay_resent += float(number(size) * u64::from(again));
        }
        if let Some(pull) = self.seats.get_mut(n).and_then(|seat| seat.pull.as_mut()) {
            pull.arrives = pull.arrives.max(arrives);
            let at = pull.arrives;
            self.post(at, Event::PlayerRecord(n, feed, record));
        }
    }

    /// A player wants its connection no more.
    pub(super) fn close_pull(&mut self, n: usize, feed: u64) {
        let pull = self.seats.get_mut(n).and_then(|seat| seat.pull.as_mut());
        if let Some(relay) = pull
            .filter(|pull| pull.feed == feed)
            .and_then(|p| p.relay.take())
        {
            self.leave_edge(n, relay);
        }
    }

    fn leave_edge(&mut self, n: usize, relay: usize) {
        if let Some(node) = self.nodes.get_mut(relay) {
            node.edge.players.retain(|player| *player != n);
            node.edge.unused_since = self.now;
        }
    }

    /// A relay's housekeeping: its heartbeat, and the stream that nobody wants any more.
    pub(super) fn edge_tick(&mut self, n: usize) {
        let (now, instant, wall_s) = (self.now, self.instant(), self.wall_s());
        let Some(node) = self.nodes.get_mut(n) else {
            return;
        };
        let edge = &mut node.edge;
        if edge.players.is_empty() && now.saturating_sub(edge.unused_since) >= LINGER_US {
            edge.upstream = None;
            edge.have.clear();
        }
        let busy = !edge.players.is_empty();
        if (edge.beat_at > now && busy == edge.was_busy) || node.nature.outage(now).is_some() {
            return;
        }
        let every = if busy { HEARTBEAT } else { HEARTBEAT_IDLE };
        let every_us = u64::try_from(every.as_micros()).unwrap_or_default();
        edge.beats += 1;
        edge.was_busy = busy;
        edge.beat_at = now + every_us;
        let sent = std::mem::take(&mut edge.sent.1);
        let small = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
        let served = Served {
            stream: stream_tag(STREAM),
            substream: 0,
            players: byte(number(edge.players.len().min(255))),
        };
        let heartbeat = Heartbeat {
            relay: number(n),
            wall_s,
            seq: edge.beats,
            address: node.address,
            region: 0,
            capacity_kbps: u32::try_from(us(node.nature.says_mbps / 1_000.0)).unwrap_or(u32::MAX),
            used_kbps: u32::try_from(sent * 8_000 / every_us.max(1)).unwrap_or(u32::MAX),
            sessions: small(edge.players.len()),
            max_sessions: small(node.machine.max_sessions()),
            cpu: 0,
            leaving: false,
            asks: false,
            expansion: 0,
            memory: 0,
            served: edge.upstream.iter().map(|_| served).collect(),
        };
        let key = Heartbeat::key(&Key::of_relay(super::SECRET, number(n)));
        self.scheduler
            .handle(instant, wall_s, &heartbeat.write(&key));
    }
}
