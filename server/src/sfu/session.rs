//! One session, of a publisher or a subscriber: engine, path and media together. Sans-IO; the media thread moves its
//! bytes.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use media::{AccessUnit, Clock};

use super::config::Config;
use super::demux::{Check, is_proof};
use super::egress::{self, Egress, Limits};
use super::engine::{Engine, EngineError, Event, Identity, stun};
use super::ingest::{self, Ingest};
use super::packet::Relayed;
use super::path::Path;
use super::policer::Policer;
use super::remote::plain;
use super::sdp::answer::Streams;
use super::sdp::fragment::Fragment;
use super::sdp::{Credentials, Offer};
use super::types::{CloseReason, PatchError, SessionId, SessionStats};

/// A longer silence is not waited for, whatever is configured.
const MAX_PATIENCE: Duration = Duration::from_secs(86_400);

/// Room for more outputs is given back when there are none.
const MAX_IDLE: usize = 64;

/// What a session gives.
#[derive(Debug)]
pub(crate) enum Output {
    /// ICE and DTLS are up.
    Connected,
    /// A unit to deliver.
    Unit(AccessUnit),
    /// A packet for the subscribers.
    Relay(Relayed),
    /// The subscriber needs a keyframe of its participant, of a certain layer.
    WantKeyframe(Option<u8>),
    /// A datagram to send.
    Transmit(SocketAddr, BytesMut),
    /// From now on this address speaks for the session.
    Proven(SocketAddr),
    /// This address does not speak for the session any more.
    Forgotten(SocketAddr),
    /// From now on this SSRC is the session's.
    Ssrc(u32),
    /// It is over; nothing follows.
    Closed(CloseReason),
}

/// Which way media goes.
enum Flow {
    In(Box<Ingest>),
    Out(Box<Egress>),
}

/// Totals that process-wide counters are fed from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Totals {
    /// Of a publisher.
    In(ingest::Totals),
    /// Of a subscriber.
    Out(egress::Totals),
}

/// A session.
pub(crate) struct Session {
    offer: Offer,
    engine: Engine,
    path: Path,
    flow: Flow,
    policer: Policer,
    /// Our credentials in the engine's ICE session, and in the one that has been restarted beside it, if any.
    local: Credentials,
    restarted: Option<Credentials>,
    /// Of the peer, in the newest ICE session.
    remote: Credentials,
    /// Counts ICE sessions; the entity tag is made of it.
    generation: u32,
    outputs: VecDeque<Output>,
    /// Where media is written; the media thread's while it forwards.
    arena: BytesMut,
    ssrcs: Vec<u32>,
    connected: bool,
    closed: bool,
    heard: Instant,
    /// How long it may be silent: until it is connected, and after.
    patience: [Duration; 2],
}

impl Session {
    /// Accepts an offer to publish.
    ///
    /// # Errors
    /// When the engine refuses it.
    pub(crate) fn publish(
        now: Instant,
        clock: Clock,
        offer: Offer,
        identity: &Identity,
        config: &Config,
    ) -> Result<Self, EngineError> {
        let ingest = Ingest::new(
            &offer,
            clock,
            Duration::from_millis(config.keyframe_interval_ms),
            Duration::from_millis(config.keyframe_min_interval_ms),
        );
        Self::accept(now, offer, identity, config, Flow::In(Box::new(ingest)))
    }

    /// Accepts an offer to play; media goes out as `streams`, pictures no higher than `max_height` if there is a choice.
    ///
    /// # Errors
    /// When the engine refuses it.
    pub(crate) fn play(
        now: Instant,
        clock: Clock,
        offer: Offer,
        (streams, max_height): (Streams, Option<u32>),
        identity: &Identity,
        config: &Config,
    ) -> Result<Self, EngineError> {
        let limits = Limits {
            start_bps: f64::from(config.start_bitrate_kbps) * 1_000.0,
            max_height,
        };
        let egress = Egress::new(&offer, clock, streams.video, streams.audio, limits);
        Self::accept(now, offer, identity, config, Flow::Out(Box::new(egress)))
    }

    fn accept(
        now: Instant,
        offer: Offer,
        identity: &Identity,
        config: &Config,
        flow: Flow,
    ) -> Result<Self, EngineError> {
        let (engine, local) = Engine::accept(now, &offer, identity)?;
        Ok(Self {
            remote: offer.credentials.clone(),
            offer,
            engine,
            path: Path::default(),
            flow,
            policer: Policer::new(config.max_bitrate_kbps),
            local,
            restarted: None,
            generation: 0,
            outputs: VecDeque::new(),
            arena: BytesMut::new(),
            ssrcs: Vec::new(),
            connected: false,
            closed: false,
            heard: now,
            patience: [config.half_open_timeout_ms, config.session_timeout_ms]
                .map(|ms| Duration::from_millis(ms).min(MAX_PATIENCE)),
        })
    }

    /// Our ICE credentials.
    pub(crate) fn credentials(&self) -> &Credentials {
        self.restarted.as_ref().unwrap_or(&self.local)
    }

    /// What was offered.
    pub(crate) fn offer(&self) -> &Offer {
        &self.offer
    }

    /// Entity tag of the present ICE session, quotes included; it tells nothing that a client could use.
    pub(crate) fn etag(&self) -> String {
        format!("\"ice-{}-{}\"", self.generation, self.local.ufrag)
    }

    /// Takes a check from `from`. What the engine says to it goes back there, whatever the path is.
    pub(crate) fn handle_check(
        &mut self,
        now: Instant,
        from: SocketAddr,
        check: &Check<'_>,
        datagram: &[u8],
    ) {
        if let Some(local) = &self.restarted
            && check.ufrag == Some(local.ufrag.as_str())
        {
            if let Some(answer) = stun::answer(datagram, plain(from), &local.pwd) {
                self.handle_proof(now, from, check);
                let answer = BytesMut::from(answer.as_slice());
                self.outputs.push_back(Output::Transmit(from, answer));
            }
            return;
        }
        // What was queued before must not be taken for the answer.
        self.flush();
        self.engine
            .handle_datagram(now, self.path.to_engine(from), datagram);
        while let Some((to, datagram)) = self.engine.poll_transmit() {
            if is_proof(&datagram, &check.transaction) {
                self.handle_proof(now, from, check);
                self.outputs.push_back(Output::Transmit(from, datagram));
            } else {
                let to = self.path.return_address().unwrap_or(to);
                self.outputs.push_back(Output::Transmit(to, datagram));
            }
        }
        self.advance(now);
    }

    /// A check from `from` has been authenticated.
    fn handle_proof(&mut self, now: Instant, from: SocketAddr, check: &Check<'_>) {
        self.heard = now;
        if let Some(forgotten) = self.path.handle_proof(now, from, check.nominates) {
            self.outputs.push_back(Output::Forgotten(forgotten));
        }
        self.outputs.push_back(Output::Proven(from));
    }

    /// Takes an answer to a check of the engine's own.
    pub(crate) fn handle_answer(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        self.engine
            .handle_datagram(now, self.path.to_engine(from), datagram);
        self.advance(now);
    }

    /// Takes DTLS from `from`.
    pub(crate) fn handle_dtls(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        self.path.handle_media(now, from);
        self.engine
            .handle_datagram(now, self.path.to_engine(from), datagram);
        if self.path.return_address() == Some(from) {
            self.heard = now;
        }
        self.advance(now);
        if let Some(event) = self.engine.poll_peer_closed() {
            self.handle_event(now, event);
        }
    }

    /// Takes RTP or RTCP from `from`. What comes of it is done by [`Self::settle`], once for all that came together:
    /// asking every layer of the engine for news costs more than a packet does.
    pub(crate) fn handle_media(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        self.path.handle_media(now, from);
        self.engine
            .handle_datagram(now, self.path.to_engine(from), datagram);
        if self.engine.take_authentic() && !self.policer.allows(now, datagram.len()) {
            self.finish(CloseReason::OverBitrate);
        }
    }

    /// Does what the media that came asks for.
    pub(crate) fn settle(&mut self, now: Instant) {
        self.advance(now);
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        // Of a subscriber, whose deadlines are nearly all of its media, the engine is asked when it has something to do.
        let is_due = matches!(self.flow, Flow::In(_))
            || self.engine.poll_timeout().is_some_and(|at| at <= now);
        if is_due {
            self.engine.handle_timeout(now);
        }
        match &mut self.flow {
            Flow::In(ingest) => {
                ingest.handle_timeout(now);
                self.advance(now);
            }
            Flow::Out(egress) => {
                egress.handle_timeout(now);
                match is_due {
                    true => self.advance(now),
                    false => self.collect(now),
                }
            }
        }
        if now >= self.gives_up_at() {
            self.finish(if self.connected {
                CloseReason::Timeout
            } else {
                CloseReason::NeverConnected
            });
        }
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub(crate) fn poll_timeout(&mut self) -> Instant {
        let media = match &self.flow {
            Flow::In(ingest) => ingest.poll_timeout(),
            Flow::Out(egress) => egress.poll_timeout().filter(|_| self.connected),
        };
        [self.engine.poll_timeout(), media]
            .into_iter()
            .flatten()
            .fold(self.gives_up_at(), Instant::min)
    }

    /// What to do next.
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        let next = self.outputs.pop_front();
        // Room for a burst is not kept for the life of a session: there are many.
        if next.is_none() && self.outputs.capacity() > MAX_IDLE {
            self.outputs = VecDeque::new();
        }
        next
    }

    /// Somebody downstream needs a keyframe: of a layer, or of the one that the program is made of.
    pub(crate) fn request_keyframe(&mut self, now: Instant, layer: Option<u8>) {
        if let Flow::In(ingest) = &mut self.flow {
            ingest.request_keyframe(now, layer);
        }
        self.advance(now);
    }

    /// Like [`Self::request_keyframe`], at the next occasion.
    pub(crate) fn want_keyframe(&mut self) {
        if let Flow::In(ingest) = &mut self.flow {
            ingest.want_keyframe(None);
        }
    }

    /// Whether [`Output::Relay`] is wanted of a publisher.
    pub(crate) fn set_relayed(&mut self, is_relayed: bool) {
        if let Flow::In(ingest) = &mut self.flow {
            ingest.set_relayed(is_relayed);
        }
    }

    /// How high a publisher's units are shown; none: as high as they come.
    pub(crate) fn set_height(&mut self, height: Option<u32>) {
        if let Flow::In(ingest) = &mut self.flow {
            ingest.set_height(height);
        }
    }

    /// Sends those packets of the session `from` that it wants to a subscriber, written in `arena` one after the other;
    /// nothing before it is connected. The engine is not asked: this is the way of nearly every packet.
    pub(crate) fn forward(
        &mut self,
        now: Instant,
        from: SessionId,
        packets: &[Relayed],
        arena: &mut BytesMut,
    ) {
        if !self.connected {
            return;
        }
        if let Flow::Out(egress) = &mut self.flow {
            egress.handle_packets(now, from, packets);
        }
        std::mem::swap(&mut self.arena, arena);
        self.collect(now);
        std::mem::swap(&mut self.arena, arena);
    }

    /// It receives.
    pub(crate) fn is_subscriber(&self) -> bool {
        matches!(self.flow, Flow::Out(_))
    }

    /// Trickled candidates, or an ICE restart when the client's credentials are new: then `fresh` become ours. Gives the
    /// user fragment that is no longer in use, if it was a restart (empty when there is none).
    ///
    /// # Errors
    /// [`PatchError`]; the session is unchanged then.
    pub(crate) fn patch(
        &mut self,
        if_match: Option<&str>,
        fragment: &Fragment,
        fresh: Credentials,
    ) -> Result<Option<String>, PatchError> {
        let if_match = if_match.ok_or(PatchError::PreconditionRequired)?;
        let etag = self.etag();
        let matches = if_match
            .split(',')
            .map(str::trim)
            .any(|tag| tag == "*" || tag == etag || tag == etag.trim_matches('"'));
        if !matches {
            return Err(PatchError::PreconditionFailed);
        }
        let restart = fragment
            .credentials
            .as_ref()
            .filter(|credentials| **credentials != self.remote);
        let Some(remote) = restart else {
            return Ok(None);
        };
        self.remote = remote.clone();
        self.generation += 1;
        let replaced = self.restarted.replace(fresh);
        Ok(Some(replaced.map(|old| old.ufrag).unwrap_or_default()))
    }

    /// Ends the session, telling the peer.
    pub(crate) fn close(&mut self, reason: CloseReason) {
        self.finish(reason);
    }

    /// Everything that routes lead to: user fragments, addresses, SSRCs.
    pub(crate) fn routes(&self) -> (Vec<&str>, Vec<SocketAddr>, &[u32]) {
        let locals = std::iter::once(&self.local).chain(&self.restarted);
        (
            locals.map(|local| local.ufrag.as_str()).collect(),
            self.path.proven().collect(),
            &self.ssrcs,
        )
    }

    /// How it is doing.
    pub(crate) fn stats(&self, now: Instant) -> SessionStats {
        let mut stats = SessionStats {
            connected: self.connected,
            remote_address: self.path.return_address().map(plain),
            ..SessionStats::default()
        };
        match &self.flow {
            Flow::In(ingest) => ingest.stats(now, &mut stats),
            Flow::Out(egress) => egress.stats(&mut stats),
        }
        stats
    }

    /// Totals for the process-wide counters.
    pub(crate) fn totals(&self) -> Totals {
        match &self.flow {
            Flow::In(ingest) => Totals::In(ingest.totals()),
            Flow::Out(egress) => Totals::Out(egress.totals()),
        }
    }

    fn gives_up_at(&self) -> Instant {
        let [half_open, silent] = self.patience;
        self.heard + if self.connected { silent } else { half_open }
    }

    /// Moves events and requests between engine and media until both rest, then collects what is to be sent.
    fn advance(&mut self, now: Instant) {
        while let Some(event) = self.engine.poll_event() {
            self.handle_event(now, event);
        }
        match &mut self.flow {
            Flow::In(ingest) => {
                while let Some(output) = ingest.poll_output() {
                    match output {
                        ingest::Output::Unit(unit) => self.outputs.push_back(Output::Unit(unit)),
                        ingest::Output::Relay(packet) => {
                            self.outputs.push_back(Output::Relay(packet));
                        }
                        ingest::Output::Nack { ssrc, sequences } => {
                            self.engine.send_nack(ssrc, &sequences);
                        }
                        ingest::Output::Pli { ssrc } => self.engine.send_pli(ssrc),
                    }
                }
            }
            Flow::Out(_) => self.collect(now),
        }
        self.flush();
    }

    /// Sends what a subscriber's media gives.
    fn collect(&mut self, now: Instant) {
        let Flow::Out(egress) = &mut self.flow else {
            return;
        };
        let to = self.path.return_address();
        let mut is_for_engine = false;
        while let Some(output) = egress.poll_output() {
            match output {
                egress::Output::Send(packet) => {
                    let sealed = self.engine.seal(&packet, &mut self.arena);
                    if let Some((to, datagram)) = to.zip(sealed) {
                        self.outputs.push_back(Output::Transmit(to, datagram));
                    } else {
                        self.engine.send_media(now, packet);
                        is_for_engine = true;
                    }
                }
                egress::Output::Report(report) => {
                    self.engine.send_report(now, report);
                    is_for_engine = true;
                }
                egress::Output::WantKeyframe(layer) => {
                    self.outputs.push_back(Output::WantKeyframe(layer));
                }
            }
        }
        if is_for_engine {
            self.flush();
        }
    }

    fn handle_event(&mut self, now: Instant, event: Event) {
        match event {
            Event::Connected => {
                self.connected = true;
                self.heard = now;
                self.outputs.push_back(Output::Connected);
            }
            Event::Closed { by_peer } => self.finish(if by_peer {
                CloseReason::PeerClosed
            } else {
                CloseReason::Failed
            }),
            Event::Rtp {
                which,
                ssrc,
                packet,
            } => {
                self.heard = now;
                if !self.ssrcs.contains(&ssrc) && self.ssrcs.len() < super::path::MAX_ADDRESSES {
                    self.ssrcs.push(ssrc);
                    self.outputs.push_back(Output::Ssrc(ssrc));
                }
                if let Flow::In(ingest) = &mut self.flow {
                    ingest.handle_packet(now, which, ssrc, packet);
                }
            }
            Event::SenderReport {
                which,
                ntp,
                rtp,
                arrived,
            } => {
                self.heard = now;
                if let Flow::In(ingest) = &mut self.flow {
                    ingest.handle_sender_report(which, ntp, rtp, arrived);
                }
            }
            Event::Feedback(feedback) => {
                self.heard = now;
                if let Flow::Out(egress) = &mut self.flow {
                    egress.handle_feedback(now, feedback);
                }
            }
        }
    }

    fn flush(&mut self) {
        while let Some((to, datagram)) = self.engine.poll_transmit() {
            let to = self.path.return_address().unwrap_or(to);
            self.outputs.push_back(Output::Transmit(to, datagram));
        }
    }

    fn finish(&mut self, reason: CloseReason) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        self.engine.close();
        self.flush();
        self.outputs.push_back(Output::Closed(reason));
    }
}
