//! Which substream a frame belongs to: a function of its header, so that nobody has to be told.

use super::Header;
use crate::Error;

/// The most substreams that a stream can have: masks have 64 bits, and nobody needs more than a handful.
pub const MAX_SUBSTREAMS: u8 = 32;

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

/// How the substream is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HashVersion {
    /// FNV-1a of the decoding time, as in the RLIVE paper (§6). Its low bits depend on the low bits of the time alone: at
    /// 25 pictures per second and four substreams, a dozen frames in a row fall into one.
    Paper,
    /// FNV-1a of decoding time and track, its bits mixed by the finaliser of MurmurHash3.
    Mixed,
}

impl HashVersion {
    /// The number in metadata and feeds.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Paper => 1,
            Self::Mixed => 2,
        }
    }

    /// The version of a number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Paper),
            2 => Some(Self::Mixed),
            _ => None,
        }
    }
}

/// The partition of a stream's frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Split {
    hash: HashVersion,
    substreams: u8,
}

/// Four substreams, mixed.
impl Default for Split {
    fn default() -> Self {
        Self {
            hash: HashVersion::Mixed,
            substreams: 4,
        }
    }
}

impl Split {
    /// A partition into `substreams`.
    ///
    /// # Errors
    /// [`Error::Invalid`] unless there are 1 to [`MAX_SUBSTREAMS`].
    pub fn new(hash: HashVersion, substreams: u8) -> Result<Self, Error> {
        if !(1..=MAX_SUBSTREAMS).contains(&substreams) {
            return Err(Error::Invalid {
                what: "split",
                why: "a stream has between 1 and 32 substreams",
            });
        }
        Ok(Self { hash, substreams })
    }

    /// How it is computed.
    #[must_use]
    pub fn hash(self) -> HashVersion {
        self.hash
    }

    /// How many parts there are.
    #[must_use]
    pub fn substreams(self) -> u8 {
        self.substreams
    }

    /// The set of all substreams, one bit each.
    #[must_use]
    pub fn all(self) -> u64 {
        (1 << self.substreams) - 1
    }

    /// The substream of a frame, below [`Split::substreams`].
    #[must_use]
    pub fn substream(self, header: &Header) -> u8 {
        let time = u64::from(header.dts_ms).to_be_bytes();
        let hash = match self.hash {
            HashVersion::Paper => fnv1a(FNV_OFFSET, &time),
            HashVersion::Mixed => mix(fnv1a(fnv1a(FNV_OFFSET, &time), &[header.kind.track()])),
        };
        u8::try_from(hash % u64::from(self.substreams)).unwrap_or_default()
    }
}

fn fnv1a(seed: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(seed, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME)
    })
}

/// fmix64 of MurmurHash3: every bit of the input changes every bit of the output with probability near one half.
fn mix(mut hash: u64) -> u64 {
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}
