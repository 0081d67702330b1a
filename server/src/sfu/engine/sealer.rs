//! Media of a subscriber, encrypted as it is written (SRTP, RFC 3711 and RFC 7714), without a way through the engine.
//!
//! The engine passes every packet through eight handlers, with a queue and an allocation at most of them; forwarding to many is made of
//! nothing else. Here a packet is written once, where it is sent from, and encrypted in place. Reports stay the engine's:
//! SRTCP counts for itself.
//!
//! Invariant: packets of a stream are numbered by sequence number and rollovers (RFC 3711 §3.3.1); at most [`MAX_STREAMS`]
//! streams are known, which is more than a subscriber has.

use bytes::{BufMut, BytesMut};
use rtc::crypto::{AeadCipher, HmacAlgorithm, Mac, RTCCrypto, StreamCipher};

use super::keys::{Label, Master, Suite};
use crate::sfu::packet::Outgoing;

/// Pictures, sound, and retransmissions of both.
const MAX_STREAMS: usize = 4;
/// Bytes of an RTP header without extension.
const HEADER: usize = 12;
/// Bytes of a header extension with one number in it.
const EXTENSION: usize = 8;
/// What encryption adds at most.
const TAG: usize = 16;
/// Bytes of the tag of HMAC-SHA1 that are sent.
const SHORT_TAG: usize = 10;
/// Bytes of a whole one, and of its key.
const SHA1: usize = 20;
/// Profiles of header extensions with ids of four and of eight bits (RFC 8285 §4.2, §4.3).
const ONE_BYTE: u16 = 0xbede;
const TWO_BYTES: u16 = 0x1000;

/// Encrypts.
enum Cipher {
    Counter {
        cipher: Box<dyn StreamCipher>,
        mac: Box<dyn Mac>,
        salt: [u8; 14],
    },
    Gcm {
        cipher: Box<dyn AeadCipher>,
        salt: [u8; 12],
    },
}

/// Where a stream is: its highest packet index.
#[derive(Clone, Copy, Debug)]
struct Position {
    ssrc: u32,
    highest: u64,
}

/// The way out of one session.
pub(super) struct Sealer {
    cipher: Cipher,
    positions: Vec<Position>,
}

impl Sealer {
    /// With this master key; none when the provider cannot.
    pub(super) fn new(crypto: &dyn RTCCrypto, suite: Suite, master: &Master) -> Option<Self> {
        let cipher = match suite {
            Suite::Counter(algorithm) => {
                let key = master.derive(crypto, Label::Encryption, master.key_len())?;
                let authentication = master.derive(crypto, Label::Authentication, SHA1)?;
                let salt = master.derive(crypto, Label::Salt, 14)?;
                Cipher::Counter {
                    cipher: crypto.new_stream_cipher(algorithm, &key).ok()?,
                    mac: crypto.new_hmac(HmacAlgorithm::Sha1, &authentication).ok()?,
                    salt: salt.try_into().ok()?,
                }
            }
            Suite::Gcm(algorithm) => {
                let key = master.derive(crypto, Label::Encryption, master.key_len())?;
                let salt = master.derive(crypto, Label::Salt, 12)?;
                Cipher::Gcm {
                    cipher: crypto.new_aead(algorithm, &key).ok()?,
                    salt: salt.try_into().ok()?,
                }
            }
        };
        Some(Self {
            cipher,
            positions: Vec::new(),
        })
    }

    /// The packet as it goes onto the wire, cut off the front of `arena`, which is empty again; none when it cannot be sent.
    pub(super) fn seal(&mut self, packet: &Outgoing, arena: &mut BytesMut) -> Option<BytesMut> {
        let rollovers = self.rollovers(packet.ssrc, packet.sequence)?;
        arena.clear();
        arena.reserve(HEADER + EXTENSION + packet.payload.len() + TAG);
        let header = write(packet, arena);
        let (head, body) = arena.split_at_mut_checked(header)?;
        let sealed = match &mut self.cipher {
            Cipher::Gcm { cipher, salt } => {
                // RFC 7714 §8.1: two zeros, SSRC, rollovers and sequence number, with the salt over it.
                let mut nonce = [0; 12];
                put(&mut nonce, 2, &packet.ssrc.to_be_bytes());
                put(&mut nonce, 6, &rollovers.to_be_bytes());
                put(&mut nonce, 10, &packet.sequence.to_be_bytes());
                mask(&mut nonce, salt);
                let mut tag = [0; TAG];
                let sealed = cipher.seal_in_place(&nonce, head, body, &mut tag);
                arena.put_slice(&tag);
                sealed
            }
            Cipher::Counter { cipher, mac, salt } => {
                // RFC 3711 §4.1.1: SSRC at byte 4, the index of 48 bits at byte 8, the salt over it.
                let mut counter = [0; 16];
                put(&mut counter, 4, &packet.ssrc.to_be_bytes());
                put(&mut counter, 8, &rollovers.to_be_bytes());
                put(&mut counter, 12, &packet.sequence.to_be_bytes());
                mask(&mut counter, salt);
                let mut tag = [0; SHA1];
                let sealed = cipher
                    .apply_keystream(&counter, body)
                    .and_then(|()| mac.sign(&[head, body, &rollovers.to_be_bytes()], &mut tag));
                arena.put_slice(tag.get(..SHORT_TAG)?);
                sealed
            }
        };
        let datagram = arena.split();
        sealed.is_ok().then_some(datagram)
    }

    /// How often the stream's sequence numbers have wrapped at this packet, which may be a repetition.
    fn rollovers(&mut self, ssrc: u32, sequence: u16) -> Option<u32> {
        let held = self.positions.iter_mut().find(|held| held.ssrc == ssrc);
        let Some(held) = held else {
            if self.positions.len() >= MAX_STREAMS {
                return None;
            }
            let highest = u64::from(sequence);
            self.positions.push(Position { ssrc, highest });
            return Some(0);
        };
        let [.., high, low] = held.highest.to_be_bytes();
        let ahead = sequence.wrapping_sub(u16::from_be_bytes([high, low]));
        let index = held
            .highest
            .checked_add_signed(ahead.cast_signed().into())?;
        held.highest = held.highest.max(index);
        u32::try_from(index >> 16).ok()
    }
}

/// Writes a packet; the length of its header.
fn write(packet: &Outgoing, to: &mut BytesMut) -> usize {
    let has_extension = packet.transport.is_some();
    to.put_u8(0x80 | u8::from(has_extension) << 4);
    to.put_u8(u8::from(packet.marker) << 7 | packet.payload_type & 0x7f);
    to.put_u16(packet.sequence);
    to.put_u32(packet.timestamp);
    to.put_u32(packet.ssrc);
    if let Some((id, number)) = packet.transport {
        let [high, low] = number.to_be_bytes();
        if (1..15).contains(&id) {
            to.put_u16(ONE_BYTE);
            to.put_u16(1);
            to.put_slice(&[id << 4 | 1, high, low, 0]);
        } else {
            to.put_u16(TWO_BYTES);
            to.put_u16(1);
            to.put_slice(&[id, 2, high, low]);
        }
    }
    to.put_slice(&packet.payload);
    HEADER + if has_extension { EXTENSION } else { 0 }
}

/// Writes `bytes` at `at`.
fn put(to: &mut [u8], at: usize, bytes: &[u8]) {
    let room = to.iter_mut().skip(at);
    room.zip(bytes).for_each(|(to, from)| *to = *from);
}

fn mask(bytes: &mut [u8], salt: &[u8]) {
    bytes
        .iter_mut()
        .zip(salt)
        .for_each(|(byte, salt)| *byte ^= salt);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sfu::engine::keys::Provider;
    use bytes::Bytes;
    use proptest::prelude::*;
    use rtc::crypto::{RTCCryptoProvider, default_provider};
    use rtc::srtp::context::Context;
    use rtc::srtp::protection_profile::ProtectionProfile;

    const PROFILES: [ProtectionProfile; 3] = [
        ProtectionProfile::AeadAes128Gcm,
        ProtectionProfile::AeadAes256Gcm,
        ProtectionProfile::Aes128CmHmacSha1_80,
    ];

    /// A sealer with the keys that a context of the engine was made of, and one to decrypt with.
    fn pair(profile: ProtectionProfile) -> (Sealer, Context) {
        let key: Vec<u8> = (1..).step_by(7).take(profile.key_len()).collect();
        let salt: Vec<u8> = (100..).take(profile.salt_len()).collect();
        let provider = Provider::new(default_provider().expect("a provider"));
        let context = || {
            Context::new(&key, &salt, profile, None, None, provider.crypto()).expect("a context")
        };
        context();
        let (suite, master) = provider.take().expect("seen");
        let sealer = Sealer::new(provider.inner(), suite, &master).expect("made");
        (sealer, context())
    }

    fn packet(ssrc: u32, sequence: u16, transport: Option<(u8, u16)>, payload: &[u8]) -> Outgoing {
        Outgoing {
            ssrc,
            payload_type: 102,
            sequence,
            timestamp: 3_000_000_000,
            marker: sequence.is_multiple_of(3),
            payload: Bytes::copy_from_slice(payload),
            transport,
        }
    }

    #[test]
    fn another_way_of_deriving_keys_is_noticed() {
        let provider = Provider::new(default_provider().expect("a provider"));
        let crypto: &dyn RTCCrypto = &provider;
        crypto
            .block_encrypt(
                rtc::crypto::BlockCipherAlgorithm::Aes128,
                &[1; 16],
                &mut [2; 16],
            )
            .expect("encrypted");
        crypto
            .new_aead(rtc::crypto::AeadAlgorithm::Aes128Gcm, &[3; 16])
            .expect("a cipher");
        assert!(provider.take().is_none());
    }

    proptest! {
        /// The engine's own SRTP decrypts what was sealed, over wraps of sequence numbers, and finds every field.
        #[test]
        fn the_engine_opens_what_was_sealed(
            profile in 0_usize..3,
            first in 0_u16..0x8000,
            steps in proptest::collection::vec((1_u16..20_000, any::<Option<(u8, u16)>>()), 1..20),
            payload in proptest::collection::vec(any::<u8>(), 0..1_300),
        ) {
            let (mut sealer, mut other) = pair(PROFILES[profile]);
            let mut arena = BytesMut::new();
            let mut sequence = first;
            for (step, transport) in steps {
                let transport = transport.filter(|(id, _)| (1..15).contains(id) || *id > 15);
                let sent = packet(7, sequence, transport, &payload);
                let datagram = sealer.seal(&sent, &mut arena).expect("sealed");
                let opened = other.decrypt_rtp(&datagram).expect("opened");
                let rtp = <rtc::rtp::Packet as rtc::shared::marshal::Unmarshal>::unmarshal(&mut opened.freeze()).expect("RTP");
                prop_assert_eq!(rtp.payload, sent.payload);
                prop_assert_eq!(rtp.header.sequence_number, sequence);
                prop_assert_eq!((rtp.header.timestamp, rtp.header.marker), (sent.timestamp, sent.marker));
                let extension = transport.map(|(id, number)| (id, number.to_be_bytes().to_vec()));
                let found = rtp.header.extensions.first().map(|found| (found.id, found.payload.to_vec()));
                prop_assert_eq!(found, extension);
                sequence = sequence.wrapping_add(step);
            }
        }

        /// What was sealed one after the other lies in one piece.
        #[test]
        fn datagrams_lie_side_by_side(sizes in proptest::collection::vec(0_usize..1_200, 2..20)) {
            let (mut sealer, _) = pair(PROFILES[0]);
            let mut arena = BytesMut::with_capacity(64_000);
            let mut end = None;
            for (number, size) in (0..).zip(sizes) {
                let datagram = sealer.seal(&packet(7, number, None, &vec![0; size]), &mut arena).expect("sealed");
                let range = datagram.as_ptr_range();
                prop_assert!(end.is_none_or(|end| end == range.start));
                end = Some(range.end);
            }
        }
    }
}
