//! The origin's signature under a frame and its place, for who gets it from somebody who is not trusted.
//!
//! Each life of a stream has an Ed25519 key (RFC 8032) that follows from the origin's secret, the stream's name and its
//! epoch; so a signature says which stream it belongs to without naming it. What is signed: the entries of the
//! predecessors that fit beside the signature ([`Header::signed_predecessors`]), the frame's own, and the SHA-256 of its
//! bytes.
//!
//! Invariants: who has the public key and takes only what is signed gets the origin's frames in the origin's order or
//! nothing; CRCs need not be hard to forge for that.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

use super::{CHAIN_LENGTH, Entry, Header, PACKET_PAYLOAD_BYTES};
use crate::ticket::Key;

/// Bytes of a signature.
pub const SIGNATURE_BYTES: usize = 64;
/// Bytes of a public key.
pub const PUBLIC_KEY_BYTES: usize = 32;
/// What a datagram of 1200 bytes has for predecessors and payload, less head (36), signature (64) and MAC (8).
const ROOM: usize = 1_092;

/// A signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature(pub [u8; SIGNATURE_BYTES]);

/// What signatures are checked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey(pub [u8; PUBLIC_KEY_BYTES]);

/// Signs the frames of one life of a stream.
#[derive(Debug)]
pub struct Signer {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl Header {
    /// Predecessors that are signed with a frame: as many as fit into its last packet, between 1 and [`CHAIN_LENGTH`].
    #[must_use]
    pub fn signed_predecessors(self) -> usize {
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        let before = usize::from(self.packets().saturating_sub(1)) * PACKET_PAYLOAD_BYTES;
        let room = ROOM.saturating_sub(size.saturating_sub(before));
        (room / Entry::BYTES).clamp(1, CHAIN_LENGTH)
    }
}

impl Signer {
    /// The signer of a stream's life; `None` never happens with seeds of this length.
    #[must_use]
    pub fn of_stream(secret: &[u8], stream: &str, epoch: u16) -> Option<Self> {
        let seed = Key::of_stream(secret, stream, epoch);
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_bytes()).ok()?;
        let public = PublicKey(pair.public_key().as_ref().try_into().ok()?);
        Some(Self { pair, public })
    }

    /// The key that players check with.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// Signs a frame behind its predecessors, oldest first; those count that [`Header::signed_predecessors`] says.
    #[must_use]
    pub fn sign(&self, before: &[Entry], entry: &Entry, body: &[u8]) -> Signature {
        let skip = before
            .len()
            .saturating_sub(entry.header.signed_predecessors());
        let before = before.get(skip..).unwrap_or_default();
        let signature = self.pair.sign(&message(before, entry, body));
        let mut out = [0; SIGNATURE_BYTES];
        for (to, from) in out.iter_mut().zip(signature.as_ref()) {
            *to = *from;
        }
        Signature(out)
    }
}

impl PublicKey {
    /// Whether the origin has signed a frame with exactly these predecessors.
    #[must_use]
    pub fn verifies(
        &self,
        before: &[Entry],
        entry: &Entry,
        body: &[u8],
        signature: &Signature,
    ) -> bool {
        let key = UnparsedPublicKey::new(&ED25519, self.0);
        key.verify(&message(before, entry, body), &signature.0)
            .is_ok()
    }
}

/// What is signed.
fn message(before: &[Entry], entry: &Entry, body: &[u8]) -> Vec<u8> {
    let mut out = b"anchornet frame 1".to_vec();
    out.push(u8::try_from(before.len()).unwrap_or(u8::MAX));
    before.iter().for_each(|entry| entry.write(&mut out));
    entry.write(&mut out);
    out.extend_from_slice(digest(&SHA256, body).as_ref());
    out
}
