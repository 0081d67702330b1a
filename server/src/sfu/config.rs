//! What an operator may choose about WebRTC, with safe defaults.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Settings of the ingest. Every limit exists so that a hostile peer costs a bounded amount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The one UDP socket of all sessions; with several threads, that of the first. Port 0 takes a free one.
    pub bind: SocketAddr,
    /// Media threads, each with a port of its own, the next ones after that of `bind`. Each takes its share of the limits on
    /// sessions and connections below.
    pub threads: usize,
    /// ICE over TCP on the same port number, for networks that let no UDP through.
    pub tcp: bool,
    /// Connections of ICE over TCP; beyond it strangers among them are given up, then new ones refused.
    pub max_tcp_connections: usize,
    /// Addresses advertised as ICE candidates; empty: the bound address, or every interface of its family
    /// when bound to an unspecified address.
    pub external_ips: Vec<IpAddr>,
    /// Live and half-open sessions together; beyond it offers are refused with [`super::OfferError::Full`].
    pub max_sessions: usize,
    /// Sessions that have been answered but are not connected yet; beyond it the oldest one is given up.
    pub max_half_open: usize,
    /// Subscribers of one channel's participants together; beyond it offers are refused with
    /// [`super::OfferError::ChannelFull`].
    pub max_subscribers_per_channel: usize,
    /// Viewers of one channel's program; beyond it offers are refused with [`super::OfferError::ChannelFull`].
    pub max_viewers_per_channel: usize,
    /// How long subscribers wait for a participant whose connection broke, before they are closed.
    pub stream_resume_timeout_ms: u64,
    /// How long a session may stay half-open.
    pub half_open_timeout_ms: u64,
    /// How long a connected session may be silent (neither STUN, DTLS nor media) before it is closed.
    pub session_timeout_ms: u64,
    /// A keyframe is requested this often, so that viewers can join; 0 turns the schedule off.
    pub keyframe_interval_ms: u64,
    /// Shortest time between two keyframe requests, whatever asks for them.
    pub keyframe_min_interval_ms: u64,
    /// Longest SDP offer or fragment.
    pub max_sdp_bytes: usize,
    /// Requested kernel buffer, each direction; the kernel may grant less.
    pub socket_buffer_bytes: usize,
    /// Where Chromium starts its bandwidth estimate, so that the picture is sharp at once.
    pub start_bitrate_kbps: u32,
    /// The most that a publisher is asked to send; who ignores it for long is sent away (`policer`).
    pub max_bitrate_kbps: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 8189)),
            threads: 1,
            tcp: true,
            max_tcp_connections: 500,
            external_ips: Vec::new(),
            max_sessions: 500,
            max_half_open: 200,
            max_subscribers_per_channel: 256,
            max_viewers_per_channel: 200,
            stream_resume_timeout_ms: 10_000,
            half_open_timeout_ms: 15_000,
            session_timeout_ms: 10_000,
            keyframe_interval_ms: 2_000,
            keyframe_min_interval_ms: 500,
            max_sdp_bytes: 64 << 10,
            socket_buffer_bytes: 4 << 20,
            start_bitrate_kbps: 2_500,
            max_bitrate_kbps: 8_000,
        }
    }
}
