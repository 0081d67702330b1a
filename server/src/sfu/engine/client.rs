//! What the publisher and the subscriber of the tests have in common: a peer connection without HTTP and without a socket.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::BytesMut;
use rtc::interceptor::Registry;
use rtc::peer_connection::configuration::media_engine::MediaEngine;
use rtc::peer_connection::event::RTCPeerConnectionEvent;
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::peer_connection::state::RTCPeerConnectionState;
use rtc::peer_connection::transport::{CandidateConfig, CandidateHostConfig, RTCIceCandidate};
use rtc::peer_connection::{RTCPeerConnection, RTCPeerConnectionBuilder};
use rtc::sansio::Protocol;
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};

/// One side of a connection, at an address that it believes to have.
pub(crate) struct Client {
    pub(super) connection: RTCPeerConnection,
    local: SocketAddr,
    pub(crate) connected: bool,
    pub(crate) closed: bool,
}

impl Client {
    /// A client at `local` with what `add` puts into its connection, and its offer.
    pub(super) fn offer<T>(
        now: Instant,
        local: SocketAddr,
        (engine, registry): (MediaEngine, Registry),
        add: impl FnOnce(&mut RTCPeerConnection) -> T,
    ) -> (Self, T, String) {
        let mut connection = RTCPeerConnectionBuilder::new()
            .with_media_engine(engine)
            .with_interceptor_registry(registry)
            .build(now)
            .expect("peer connection");
        let added = add(&mut connection);
        let offer = connection.create_offer(None).expect("offer");
        connection
            .set_local_description(now, offer.clone())
            .expect("own offer");
        let config = CandidateHostConfig {
            base_config: CandidateConfig {
                network: "udp".to_owned(),
                address: local.ip().to_string(),
                port: local.port(),
                component: 1,
                ..CandidateConfig::default()
            },
            ..CandidateHostConfig::default()
        };
        let candidate = config.new_candidate_host().expect("candidate");
        let candidate = RTCIceCandidate::from(&candidate).to_json().expect("json");
        connection
            .add_local_candidate(candidate)
            .expect("candidate");
        let client = Self {
            connection,
            local,
            connected: false,
            closed: false,
        };
        (client, added, offer.sdp)
    }

    pub(crate) fn accept_answer(&mut self, now: Instant, answer: String) {
        let answer = RTCSessionDescription::answer(answer).expect("answer");
        self.connection
            .set_remote_description(now, answer)
            .expect("answer is taken");
    }

    pub(crate) fn handle_datagram(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        let _ = self.connection.handle_read(TaggedBytesMut {
            now,
            transport: TransportContext {
                local_addr: self.local,
                peer_addr: from,
                ecn: None,
                transport_protocol: TransportProtocol::UDP,
            },
            message: BytesMut::from(datagram),
        });
        self.note_events();
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.connection.poll_timeout().is_some_and(|at| at <= now) {
            let _ = self.connection.handle_timeout(now);
        }
        self.note_events();
    }

    pub(crate) fn poll_transmit(&mut self) -> Option<(SocketAddr, BytesMut)> {
        let out = self.connection.poll_write()?;
        Some((out.transport.peer_addr, out.message))
    }

    pub(crate) fn close(&mut self) {
        let _ = self.connection.close();
    }

    fn note_events(&mut self) {
        while let Some(event) = self.connection.poll_event() {
            if let RTCPeerConnectionEvent::OnConnectionStateChangeEvent(state) = event {
                self.connected = state == RTCPeerConnectionState::Connected;
                self.closed |= state == RTCPeerConnectionState::Closed;
            }
        }
        while self.connection.poll_read().is_some() {}
    }
}
