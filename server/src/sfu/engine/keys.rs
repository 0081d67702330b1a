//! The keys of a session's outgoing SRTP, so that media can be encrypted beside the engine (`sealer`).
//!
//! The engine does not export them, but has all its cryptography done by a provider of ours. Session keys are derived from
//! the master key by a block cipher (RFC 3711 §4.3.3), so the provider sees the master key and salt in the first block that
//! it is asked to encrypt, which is for the direction out. The session key that the engine uses next tells which cipher was
//! negotiated, and must be the one that follows from what was seen: otherwise nothing is known, and media goes through the
//! engine.

use std::sync::{Arc, Mutex, PoisonError};

use rtc::crypto::{
    ActiveKeyExchange, AeadAlgorithm, AeadCipher, BlockCipherAlgorithm, CbcAlgorithm, CbcCipher,
    CryptoAlgorithm, CryptoError, HashAlgorithm, HmacAlgorithm, KeyExchangeAlgorithm, Mac,
    PublicKey, RTCCrypto, RTCCryptoProvider, RTCRandom, SignatureScheme, SigningKey, StreamCipher,
    StreamCipherAlgorithm,
};

/// Bytes of a block of AES.
const BLOCK: usize = 16;
/// Where the label stands in the block that session keys are made of.
const LABEL_AT: usize = 7;

/// How media is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Suite {
    /// AES in counter mode with HMAC-SHA1, tags of 80 bits (RFC 3711).
    Counter(StreamCipherAlgorithm),
    /// AES-GCM (RFC 7714).
    Gcm(AeadAlgorithm),
}

/// What a session key is for (RFC 3711 §4.3.1).
#[derive(Clone, Copy, Debug)]
pub(super) enum Label {
    Encryption = 0,
    Authentication = 1,
    Salt = 2,
}

/// The master key of a direction.
#[derive(Clone)]
pub(super) struct Master {
    algorithm: BlockCipherAlgorithm,
    key: Vec<u8>,
    salt: [u8; BLOCK],
}

impl Master {
    /// Its bytes; session keys for encryption have as many.
    pub(super) fn key_len(&self) -> usize {
        self.key.len()
    }

    /// `length` bytes of a session key.
    pub(super) fn derive(
        &self,
        crypto: &dyn RTCCrypto,
        label: Label,
        length: usize,
    ) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(length + BLOCK);
        let mut number = 0_u16;
        while out.len() < length {
            let mut block = self.salt;
            *block.get_mut(LABEL_AT)? ^= label as u8;
            *block.last_chunk_mut()? = number.to_be_bytes();
            crypto
                .block_encrypt(self.algorithm, &self.key, &mut block)
                .ok()?;
            out.extend_from_slice(&block);
            number += 1;
        }
        out.truncate(length);
        Some(out)
    }
}

#[derive(Default)]
struct Seen {
    master: Option<Master>,
    /// What came of it; none inside when the engine does it in another way than is known here.
    result: Option<Option<(Suite, Master)>>,
}

/// The engine's cryptography, for one session.
pub(super) struct Provider {
    inner: Arc<dyn RTCCryptoProvider>,
    seen: Mutex<Seen>,
}

impl Provider {
    /// Has everything done by `inner`.
    pub(super) fn new(inner: Arc<dyn RTCCryptoProvider>) -> Self {
        Self {
            inner,
            seen: Mutex::default(),
        }
    }

    /// How media goes out and its master key, once, when the handshake is over.
    pub(super) fn take(&self) -> Option<(Suite, Master)> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.master = None;
        // Nothing is looked at any more.
        seen.result.replace(None).flatten()
    }

    /// What does it.
    pub(super) fn inner(&self) -> &dyn RTCCrypto {
        self.inner.crypto()
    }

    fn note_block(&self, algorithm: BlockCipherAlgorithm, key: &[u8], block: &[u8]) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.result.is_some() || seen.master.is_some() {
            return;
        }
        if let Ok(salt) = block.try_into() {
            // The label of the first block is 0.
            seen.master = Some(Master {
                algorithm,
                key: key.to_vec(),
                salt,
            });
        }
    }

    fn note_cipher(&self, suite: Suite, key: &[u8]) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.result.is_some() {
            return;
        }
        // Without one it is a cipher of the handshake.
        if let Some(master) = seen.master.take() {
            let derived = master.derive(self.inner(), Label::Encryption, key.len());
            let is_known = derived.is_some_and(|derived| derived == key);
            seen.result = Some(is_known.then_some((suite, master)));
        }
    }
}

impl RTCCryptoProvider for Provider {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn crypto(&self) -> &dyn RTCCrypto {
        self
    }

    fn random(&self) -> &dyn RTCRandom {
        self.inner.random()
    }
}

impl RTCCrypto for Provider {
    fn supports(&self, algorithm: CryptoAlgorithm) -> bool {
        self.inner().supports(algorithm)
    }

    fn hash(&self, algorithm: HashAlgorithm, data: &[u8]) -> Result<Vec<u8>, CryptoError> {
        self.inner().hash(algorithm, data)
    }

    fn block_encrypt(
        &self,
        algorithm: BlockCipherAlgorithm,
        key: &[u8],
        block: &mut [u8],
    ) -> Result<(), CryptoError> {
        self.note_block(algorithm, key, block);
        self.inner().block_encrypt(algorithm, key, block)
    }

    fn new_hmac(&self, algorithm: HmacAlgorithm, key: &[u8]) -> Result<Box<dyn Mac>, CryptoError> {
        self.inner().new_hmac(algorithm, key)
    }

    fn new_stream_cipher(
        &self,
        algorithm: StreamCipherAlgorithm,
        key: &[u8],
    ) -> Result<Box<dyn StreamCipher>, CryptoError> {
        self.note_cipher(Suite::Counter(algorithm), key);
        self.inner().new_stream_cipher(algorithm, key)
    }

    fn new_aead(
        &self,
        algorithm: AeadAlgorithm,
        key: &[u8],
    ) -> Result<Box<dyn AeadCipher>, CryptoError> {
        self.note_cipher(Suite::Gcm(algorithm), key);
        self.inner().new_aead(algorithm, key)
    }

    fn new_cbc(
        &self,
        algorithm: CbcAlgorithm,
        key: &[u8],
    ) -> Result<Box<dyn CbcCipher>, CryptoError> {
        self.inner().new_cbc(algorithm, key)
    }

    fn start_key_exchange(
        &self,
        algorithm: KeyExchangeAlgorithm,
    ) -> Result<Box<dyn ActiveKeyExchange>, CryptoError> {
        self.inner().start_key_exchange(algorithm)
    }

    fn generate_signing_key(
        &self,
        scheme: SignatureScheme,
    ) -> Result<Arc<dyn SigningKey>, CryptoError> {
        self.inner().generate_signing_key(scheme)
    }

    fn import_signing_key(
        &self,
        scheme: SignatureScheme,
        pkcs8_der: &[u8],
    ) -> Result<Arc<dyn SigningKey>, CryptoError> {
        self.inner().import_signing_key(scheme, pkcs8_der)
    }

    fn verify_signature(
        &self,
        scheme: SignatureScheme,
        public_key: PublicKey<'_>,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), CryptoError> {
        self.inner()
            .verify_signature(scheme, public_key, message, signature)
    }
}
