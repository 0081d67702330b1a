//! The only place that names the WebRTC engine, the sans-IO core of webrtc-rs (`rtc`).
//!
//! One [`Engine`] is one peer connection: ICE-lite, DTLS, SRTP. It gets datagrams and the time, and gives datagrams,
//! media and reports. What `rtc` 0.21 does not do well is kept from it:
//! - it never parses what a client wrote: its offer is rendered here from the checked one;
//! - media is taken at the end of its interceptor chain (`tap`), before its track lookup, RTX unwrapping, NACK generator
//!   and depacketizers, which lose undeclared streams, storm, or panic;
//! - media to subscribers does not go through it at all: it is encrypted where it is written (`sealer`), with the keys of
//!   the engine's handshake (`keys`); reports enter at the other end of that chain (`outlet`), beside its senders;
//! - its own liveness timers are off, since only STUN refreshes them: the session decides when a peer is gone;
//! - it believes in one remote address for ever (the session translates addresses), and role conflicts, which it
//!   settles before it authenticates them, are filtered out by `demux`.

#[cfg(test)]
mod client;
#[cfg(test)]
mod corpus;
mod feedback;
mod flight;
mod keys;
mod offer;
mod outlet;
#[cfg(test)]
pub(crate) mod peer;
mod sealer;
mod streams;
pub(crate) mod stun;
mod tap;
#[cfg(test)]
pub(crate) mod viewer;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rtc::dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc::interceptor::{Registry, Slot};
use rtc::peer_connection::certificate::{CertificateParams, RTCCertificate};
use rtc::peer_connection::configuration::RTCConfigurationBuilder;
use rtc::peer_connection::configuration::setting_engine::SettingEngineBuilder;
use rtc::peer_connection::event::RTCPeerConnectionEvent;
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::peer_connection::state::RTCPeerConnectionState;
use rtc::peer_connection::transport::{
    CandidateConfig, CandidateHostConfig, RTCDtlsTransportState, RTCIceCandidate,
};
use rtc::peer_connection::{RTCPeerConnection, RTCPeerConnectionBuilder};
use rtc::sansio::Protocol;
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};

use self::flight::Flights;
use self::keys::Provider;
use self::outlet::Outlet;
use self::sealer::Sealer;
use self::tap::{Shared, Tap};
use super::ingress_clock::Which;
use super::packet::{Feedback, Outgoing, Report, RtpPacket};
use super::sdp::{Credentials, Direction, Offer};

/// The engine's view of our own address: fixed, one per family, since one socket serves every address.
const LOCAL_V4: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9);
const LOCAL_V6: SocketAddr = SocketAddr::new(
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
    9,
);
/// Packets replayed within this many sequence numbers are refused; must exceed what the receive buffer repairs.
const REPLAY_WINDOW: usize = 4_096;

/// How media may be encrypted, the cheapest first; tags of 32 bits are not for the open internet.
const PROFILES: [SrtpProtectionProfile; 3] = [
    SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
    SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm,
    SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
];

/// What went wrong inside the engine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {why}")]
pub(crate) struct EngineError {
    what: &'static str,
    why: String,
}

fn failed<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> EngineError {
    move |error| EngineError {
        what,
        why: error.to_string(),
    }
}

/// The certificate of this process; made at start and shared by all sessions.
#[derive(Clone)]
pub(crate) struct Identity {
    certificate: RTCCertificate,
    fingerprint: String,
}

impl Identity {
    /// Makes a key and a self-signed certificate (ECDSA P-256).
    ///
    /// # Errors
    /// When the crypto provider cannot.
    pub(crate) fn generate() -> Result<Self, EngineError> {
        let provider = rtc::crypto::default_provider().map_err(failed("no crypto provider"))?;
        let crypto = provider.crypto();
        let certificate = RTCCertificate::generate(
            crypto,
            rtc::crypto::SignatureScheme::EcdsaP256Sha256,
            CertificateParams::default(),
        )
        .map_err(failed("no certificate"))?;
        let fingerprint = certificate
            .get_fingerprints(crypto)
            .map_err(failed("no fingerprint"))?
            .into_iter()
            .find(|fingerprint| fingerprint.algorithm == "sha-256")
            .map(|fingerprint| fingerprint.value.to_ascii_uppercase())
            .ok_or("there is no sha-256")
            .map_err(failed("no fingerprint"))?;
        Ok(Self {
            certificate,
            fingerprint,
        })
    }

    /// SHA-256, colon-separated, in upper case.
    pub(crate) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

/// What an engine gives.
#[derive(Debug)]
pub(crate) enum Event {
    /// ICE and DTLS are up.
    Connected,
    /// The peer closed, or the connection failed beyond repair.
    Closed {
        /// It was the peer who closed.
        by_peer: bool,
    },
    /// A packet of a stream.
    Rtp {
        /// Which stream.
        which: Which,
        /// The stream that it belongs to, after unwrapping.
        ssrc: u32,
        /// The packet.
        packet: RtpPacket,
    },
    /// The sender says what time it is.
    SenderReport {
        /// Of which stream.
        which: Which,
        /// 32.32 fixed point seconds.
        ntp: u64,
        /// The same moment in RTP time.
        rtp: u32,
        /// When it came.
        arrived: Instant,
    },
    /// The subscriber says something about our streams.
    Feedback(Feedback),
}

/// One peer connection.
pub(crate) struct Engine {
    connection: RTCPeerConnection,
    shared: Arc<Shared>,
    flights: Flights,
    provider: Arc<Provider>,
    /// Once connected, of subscribers; none when the keys are not known, and media goes through the engine.
    sealer: Option<Sealer>,
    /// What the engine said when it was last asked; none when it has been given something since.
    deadline: Option<Option<Instant>>,
    /// The latest time that it was told.
    now: Instant,
    connected: bool,
    closed: bool,
    /// The peer is a subscriber.
    plays: bool,
}

impl Engine {
    /// Accepts an offer: the engine and our ICE credentials.
    ///
    /// # Errors
    /// When the engine refuses what the checks let through.
    pub(crate) fn accept(
        now: Instant,
        offer: &Offer,
        identity: &Identity,
    ) -> Result<(Self, Credentials), EngineError> {
        let shared = Arc::new(Shared::default());
        let provider = rtc::crypto::default_provider().map_err(failed("no crypto provider"))?;
        let provider = Arc::new(Provider::new(provider));
        let settings = SettingEngineBuilder::new()
            .with_crypto_provider(Arc::clone(&provider) as _)
            .with_srtp_protection_profiles(PROFILES.to_vec())
            .with_lite(true)
            .with_ice_timeouts(
                Some(Duration::ZERO),
                Some(Duration::ZERO),
                Some(Duration::ZERO),
            )
            .with_srtp_replay_protection_window(REPLAY_WINDOW)
            .build();
        let configuration = RTCConfigurationBuilder::new()
            .with_certificates(vec![identity.certificate.clone()])
            .build();
        let connection = RTCPeerConnectionBuilder::new()
            .with_configuration(configuration)
            .with_media_engine(offer::media_engine(offer).map_err(failed("codecs"))?)
            .with_setting_engine(settings)
            .with_interceptor_registry(interceptors(offer, &shared))
            .build(now)
            .map_err(failed("peer connection"))?;
        let mut engine = Self {
            connection,
            shared,
            flights: Flights::default(),
            provider,
            sealer: None,
            deadline: None,
            now,
            connected: false,
            closed: false,
            plays: offer.direction == Direction::Play,
        };
        let local = engine.negotiate(now, offer)?;
        for address in [LOCAL_V4, LOCAL_V6] {
            engine.add_candidate(address)?;
        }
        Ok((engine, local))
    }

    /// Takes a datagram that came from `remote`.
    pub(crate) fn handle_datagram(&mut self, now: Instant, remote: SocketAddr, datagram: &[u8]) {
        let transport = TransportContext {
            local_addr: local_for(remote),
            peer_addr: remote,
            ecn: None,
            transport_protocol: TransportProtocol::UDP,
        };
        self.now = now;
        self.deadline = None;
        if !self.connected {
            self.flights.hear(now, datagram);
        }
        // Errors here are about what the peer sent; there is nothing to do but drop it.
        let _ = self.connection.handle_read(TaggedBytesMut {
            now,
            transport,
            message: BytesMut::from(datagram),
        });
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        self.deadline = None;
        let _ = self.connection.handle_timeout(now);
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub(crate) fn poll_timeout(&mut self) -> Option<Instant> {
        let connection = &mut self.connection;
        let engine = *self
            .deadline
            .get_or_insert_with(|| connection.poll_timeout());
        let held = self.flights.poll_timeout();
        engine.into_iter().chain(held).min()
    }

    /// The next datagram to send, and where to.
    pub(crate) fn poll_transmit(&mut self) -> Option<(SocketAddr, BytesMut)> {
        loop {
            if let Some(out) = self.flights.poll(self.now) {
                return Some(out);
            }
            let out = self.connection.poll_write()?;
            let out = (out.transport.peer_addr, out.message);
            if self.connected {
                return Some(out);
            }
            if let Some(out) = self.flights.say(self.now, out) {
                return Some(out);
            }
        }
    }

    /// What happened next.
    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.deadline = None;
        while let Some(event) = self.connection.poll_event() {
            if let RTCPeerConnectionEvent::OnConnectionStateChangeEvent(state) = event
                && let Some(event) = self.note_state(state)
            {
                return Some(event);
            }
        }
        // The tap keeps everything; draining moves the engine's own queues along.
        while self.connection.poll_read().is_some() {}
        self.shared.take()
    }

    /// Whether the peer has closed DTLS, which the engine does not announce. Worth asking after DTLS datagrams.
    pub(crate) fn poll_peer_closed(&mut self) -> Option<Event> {
        if !self.connected || self.closed {
            return None;
        }
        let id = self.connection.get_receivers().next()?;
        let receiver = self.connection.rtp_receiver(id)?;
        let state = receiver.transport()?.state();
        let gone = matches!(
            state,
            RTCDtlsTransportState::Closed | RTCDtlsTransportState::Failed
        );
        self.closed |= gone;
        gone.then_some(Event::Closed { by_peer: true })
    }

    /// Whether SRTP has authenticated media or reports since this was last asked.
    pub(crate) fn take_authentic(&mut self) -> bool {
        self.shared.take_authentic()
    }

    /// Asks for packets again.
    pub(crate) fn send_nack(&mut self, ssrc: u32, sequences: &[u16]) {
        self.shared.queue_nack(ssrc, sequences);
    }

    /// Asks for a keyframe.
    pub(crate) fn send_pli(&mut self, ssrc: u32) {
        self.shared.queue_pli(ssrc);
    }

    /// A packet to a subscriber as it goes onto the wire, cut off `arena`; none before the handshake is over and when its
    /// keys are not known: then it is for [`Self::send_media`].
    pub(crate) fn seal(&mut self, packet: &Outgoing, arena: &mut BytesMut) -> Option<BytesMut> {
        self.sealer.as_mut()?.seal(packet, arena)
    }

    /// Sends a packet to a subscriber; [`Self::poll_transmit`] has it.
    pub(crate) fn send_media(&mut self, now: Instant, packet: Outgoing) {
        self.shared.queue_media(now, outlet::rtp(packet));
    }

    /// Sends a sender report to a subscriber.
    pub(crate) fn send_report(&mut self, now: Instant, report: Report) {
        self.shared.queue_media(now, outlet::rtcp(report));
    }

    /// Tells the peer that it is over; [`Self::poll_transmit`] has the farewell.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        let _ = self.connection.close();
    }

    fn note_state(&mut self, state: RTCPeerConnectionState) -> Option<Event> {
        let up = state == RTCPeerConnectionState::Connected;
        let down = matches!(
            state,
            RTCPeerConnectionState::Failed | RTCPeerConnectionState::Closed
        );
        if up && !self.connected {
            self.connected = true;
            let keys = self.provider.take();
            let sealer =
                keys.and_then(|(suite, master)| Sealer::new(self.provider.inner(), suite, &master));
            self.sealer = sealer.filter(|_| self.plays);
            return Some(Event::Connected);
        }
        if down && !self.closed {
            self.closed = true;
            return Some(Event::Closed { by_peer: false });
        }
        None
    }

    fn negotiate(&mut self, now: Instant, offer: &Offer) -> Result<Credentials, EngineError> {
        let description =
            RTCSessionDescription::offer(offer::render(offer)).map_err(failed("offer"))?;
        self.connection
            .set_remote_description(now, description)
            .map_err(failed("offer"))?;
        let answer = self
            .connection
            .create_answer(None)
            .map_err(failed("answer"))?;
        let credentials = offer::credentials(&answer.sdp)
            .ok_or("it has no credentials")
            .map_err(failed("answer"))?;
        self.connection
            .set_local_description(now, answer)
            .map_err(failed("answer"))?;
        Ok(credentials)
    }

    fn add_candidate(&mut self, address: SocketAddr) -> Result<(), EngineError> {
        let config = CandidateHostConfig {
            base_config: CandidateConfig {
                network: "udp".to_owned(),
                address: address.ip().to_string(),
                port: address.port(),
                component: 1,
                ..CandidateConfig::default()
            },
            ..CandidateHostConfig::default()
        };
        let candidate = config.new_candidate_host().map_err(failed("candidate"))?;
        let candidate = RTCIceCandidate::from(&candidate)
            .to_json()
            .map_err(failed("candidate"))?;
        self.connection
            .add_local_candidate(candidate)
            .map_err(failed("candidate"))
    }
}

fn interceptors(offer: &Offer, shared: &Arc<Shared>) -> Registry {
    let slot = Slot::from(Slot::ReceiverReport.slot());
    let shared = Arc::clone(shared);
    match offer.direction {
        Direction::Publish => Registry::new().with(slot, Tap::new(offer, shared)),
        Direction::Play => Registry::new().with(slot, Outlet::new(shared)),
    }
}

/// Our address in the family of `remote`.
fn local_for(remote: SocketAddr) -> SocketAddr {
    match remote {
        SocketAddr::V4(_) => LOCAL_V4,
        SocketAddr::V6(_) => LOCAL_V6,
    }
}
