//! The handshake and the messages of a session.
//!
//! A player subscribes with a ticket and gets a cookie, which it has to send back from the same address: before that the
//! relay keeps nothing and sends 36 bytes for 1200. What a player sends in a session is numbered, so that it cannot be
//! played again ([`Replay`]).

use bytes::{Buf, BufMut};
use media::ticket::MAX_TICKET_BYTES;

use super::{Direction, Error, Keys, Kind, MAC_BYTES, MAX_DATAGRAM_BYTES, take};

/// Bytes of a cookie.
pub const COOKIE_BYTES: usize = 24;
/// Frames that one NACK can name.
pub const MAX_NACKS: usize = 64;

/// Proof that an address can receive.
pub type Cookie = [u8; COOKIE_BYTES];

/// A player asks a relay for substreams. Always 1200 bytes, so that no answer is larger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// Names this attempt; the answers repeat it.
    pub nonce: u64,
    /// The substreams, one bit each.
    pub mask: u64,
    /// The cookie of the challenge; zeros at first.
    pub cookie: Cookie,
    /// The sealed ticket.
    pub ticket: Vec<u8>,
}

const SUBSCRIBE_FIXED: usize = 4 + 8 + 8 + COOKIE_BYTES;

impl Subscribe {
    /// The datagram.
    #[must_use]
    pub fn write(&self, keys: &Keys) -> Vec<u8> {
        let mut out = Vec::with_capacity(MAX_DATAGRAM_BYTES);
        let ticket = self.ticket.get(..MAX_TICKET_BYTES).unwrap_or(&self.ticket);
        out.put_u8(Kind::Subscribe.byte());
        out.put_u8(0);
        out.put_u16(u16::try_from(ticket.len()).unwrap_or_default());
        out.put_u64(self.nonce);
        out.put_u64(self.mask);
        out.put_slice(&self.cookie);
        out.put_slice(ticket);
        out.resize(MAX_DATAGRAM_BYTES - MAC_BYTES, 0);
        keys.seal(Direction::Up, &mut out);
        out
    }

    /// Reads it. The MAC is not checked: its key follows from the ticket.
    ///
    /// # Errors
    /// [`Error`].
    pub fn read(datagram: &[u8]) -> Result<Self, Error> {
        if datagram.len() != MAX_DATAGRAM_BYTES {
            return Err(Error::Invalid("a subscription has 1200 bytes"));
        }
        let mut body = datagram;
        body.advance(2);
        let ticket_bytes = usize::from(body.try_get_u16()?);
        let nonce = body.try_get_u64()?;
        let mask = body.try_get_u64()?;
        let cookie = take(&mut body)?;
        let ticket = body.get(..ticket_bytes).unwrap_or_default();
        if ticket_bytes > MAX_TICKET_BYTES || ticket.is_empty() {
            return Err(Error::Invalid("the ticket has an impossible length"));
        }
        Ok(Self {
            nonce,
            mask,
            cookie,
            ticket: ticket.to_vec(),
        })
    }
}

const _: () = assert!(SUBSCRIBE_FIXED + MAX_TICKET_BYTES + MAC_BYTES <= MAX_DATAGRAM_BYTES);

/// The answer to a subscription without a good cookie.
#[must_use]
pub fn write_challenge(nonce: u64, cookie: &Cookie) -> Vec<u8> {
    let mut out = vec![Kind::Challenge.byte(), 0, 0, 0];
    out.put_u64(nonce);
    out.put_slice(cookie);
    out
}

/// Reads a challenge: nonce and cookie.
///
/// # Errors
/// [`Error::Truncated`].
pub fn read_challenge(datagram: &[u8]) -> Result<(u64, Cookie), Error> {
    let mut body = datagram.get(4..).ok_or(Error::Truncated)?;
    Ok((body.try_get_u64()?, take(&mut body)?))
}

/// The session is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accept {
    /// Of the subscription.
    pub nonce: u64,
    /// The session.
    pub conn: u32,
    /// The substreams that will be sent.
    pub mask: u64,
    /// The session ends when no report has come for so long, in milliseconds.
    pub lease_ms: u16,
}

impl Accept {
    /// The datagram.
    #[must_use]
    pub fn write(&self, keys: &Keys) -> Vec<u8> {
        let mut out = vec![Kind::Accept.byte(), 0];
        out.put_u16(self.lease_ms);
        out.put_u64(self.nonce);
        out.put_u32(self.conn);
        out.put_u64(self.mask);
        keys.seal(Direction::Down, &mut out);
        out
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`Error`].
    pub fn read(datagram: &[u8], keys: &Keys) -> Result<Self, Error> {
        let mut body = keys.open(Direction::Down, datagram)?;
        body.try_get_u16()?;
        Ok(Self {
            lease_ms: body.try_get_u16()?,
            nonce: body.try_get_u64()?,
            conn: body.try_get_u32()?,
            mask: body.try_get_u64()?,
        })
    }
}

/// Why a relay does not take a player, or lets one go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It has no room.
    Full,
    /// The ticket is not good.
    Ticket,
    /// It cannot get the stream.
    NoStream,
    /// It is being shut down.
    Leaving,
    /// Nothing was heard for the length of the lease.
    Silence,
}

impl Reason {
    const ALL: [Self; 5] = [
        Self::Full,
        Self::Ticket,
        Self::NoStream,
        Self::Leaving,
        Self::Silence,
    ];

    fn number(self) -> u8 {
        match self {
            Self::Full => 0,
            Self::Ticket => 1,
            Self::NoStream => 2,
            Self::Leaving => 3,
            Self::Silence => 4,
        }
    }

    fn from_number(number: u8) -> Result<Self, Error> {
        let found = Self::ALL.iter().find(|reason| reason.number() == number);
        found.copied().ok_or(Error::Invalid("no such reason"))
    }
}

/// A refusal. It has no MAC, as there may be no key; who does not know the nonce cannot make one.
#[must_use]
pub fn write_refuse(nonce: u64, reason: Reason) -> Vec<u8> {
    let mut out = vec![Kind::Refuse.byte(), reason.number(), 0, 0];
    out.put_u64(nonce);
    out
}

/// Reads a refusal.
///
/// # Errors
/// [`Error`].
pub fn read_refuse(datagram: &[u8]) -> Result<(u64, Reason), Error> {
    let mut body = datagram.get(1..).ok_or(Error::Truncated)?;
    let reason = Reason::from_number(body.try_get_u8()?)?;
    body.try_get_u16()?;
    Ok((body.try_get_u64()?, reason))
}

/// Packets of one frame that are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The frame's decoding time.
    pub dts_ms: u32,
    /// The frame's CRC.
    pub crc: u32,
    /// The packet of bit 0.
    pub base: u16,
    /// Those from `base` on that are missing.
    pub mask: u32,
}

/// How one substream fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fare {
    /// The substream.
    pub substream: u8,
    /// The newest packet.
    pub pseq: u32,
    /// Packets lost since the last report.
    pub lost: u16,
}

/// What a player says in a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Send these again.
    Nack(Vec<Missing>),
    /// I am here.
    Report {
        /// The player's clock in milliseconds, modulo 2¹⁶; it comes back in the answer.
        player_ms: u16,
        /// What is buffered, in milliseconds.
        buffer_ms: u16,
        /// Each substream of the session.
        fares: Vec<Fare>,
    },
    /// I am leaving.
    Bye,
}

impl Message {
    /// The datagram with number `seq` of session `conn`.
    #[must_use]
    pub fn write(&self, conn: u32, seq: u32, keys: &Keys) -> Vec<u8> {
        let kind = match self {
            Self::Nack(_) => Kind::Nack,
            Self::Report { .. } => Kind::Report,
            Self::Bye => Kind::Bye,
        };
        let mut out = vec![kind.byte(), 0, 0, 0];
        out.put_u32(conn);
        out.put_u32(seq);
        match self {
            Self::Nack(missing) => {
                for missing in missing.iter().take(MAX_NACKS) {
                    out.put_u32(missing.dts_ms);
                    out.put_u32(missing.crc);
                    out.put_u16(missing.base);
                    out.put_u32(missing.mask);
                }
            }
            Self::Report {
                player_ms,
                buffer_ms,
                fares,
            } => {
                out.put_u16(*player_ms);
                out.put_u16(*buffer_ms);
                for fare in fares.iter().take(MAX_NACKS) {
                    out.put_u8(fare.substream);
                    out.put_u32(fare.pseq);
                    out.put_u16(fare.lost);
                }
            }
            Self::Bye => {}
        }
        keys.seal(Direction::Up, &mut out);
        out
    }

    /// Reads a message: its number and what it says.
    ///
    /// # Errors
    /// [`Error`].
    pub fn read(datagram: &[u8], keys: &Keys) -> Result<(u32, Self), Error> {
        let kind = Kind::of(datagram).ok_or(Error::Invalid("no such message"))?;
        let mut body = keys.open(Direction::Up, datagram)?;
        body = body.get(8..).ok_or(Error::Truncated)?;
        let seq = body.try_get_u32()?;
        let message = match kind {
            Kind::Nack => {
                if !body.len().is_multiple_of(14) || body.len() > MAX_NACKS * 14 {
                    return Err(Error::Invalid("a NACK of impossible length"));
                }
                let mut missing = Vec::with_capacity(body.len() / 14);
                while body.has_remaining() {
                    missing.push(Missing {
                        dts_ms: body.try_get_u32()?,
                        crc: body.try_get_u32()?,
                        base: body.try_get_u16()?,
                        mask: body.try_get_u32()?,
                    });
                }
                Self::Nack(missing)
            }
            Kind::Report => {
                let player_ms = body.try_get_u16()?;
                let buffer_ms = body.try_get_u16()?;
                if !body.len().is_multiple_of(7) || body.len() > MAX_NACKS * 7 {
                    return Err(Error::Invalid("a report of impossible length"));
                }
                let mut fares = Vec::with_capacity(body.len() / 7);
                while body.has_remaining() {
                    fares.push(Fare {
                        substream: body.try_get_u8()?,
                        pseq: body.try_get_u32()?,
                        lost: body.try_get_u16()?,
                    });
                }
                Self::Report {
                    player_ms,
                    buffer_ms,
                    fares,
                }
            }
            Kind::Bye => Self::Bye,
            Kind::Data
            | Kind::Subscribe
            | Kind::Challenge
            | Kind::Accept
            | Kind::Refuse
            | Kind::Heartbeat
            | Kind::Advice
            | Kind::Pong
            | Kind::Suggest
            | Kind::Where
            | Kind::Seen
            | Kind::Punch => return Err(Error::Invalid("not a message of a player")),
        };
        Ok((seq, message))
    }
}

/// The answer to a report.
#[must_use]
pub fn write_pong(conn: u32, player_ms: u16, keys: &Keys) -> Vec<u8> {
    let mut out = vec![Kind::Pong.byte(), 0];
    out.put_u16(player_ms);
    out.put_u32(conn);
    keys.seal(Direction::Down, &mut out);
    out
}

/// Reads a pong: the player's clock, as it was in the report.
///
/// # Errors
/// [`Error`].
pub fn read_pong(datagram: &[u8], keys: &Keys) -> Result<u16, Error> {
    let mut body = keys.open(Direction::Down, datagram)?;
    body.try_get_u16()?;
    Ok(body.try_get_u16()?)
}

/// Why a relay suggests to go elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advised {
    /// Others have the substream and room: here it is brought for a few.
    Cost,
    /// The player loses more than others here do.
    Quality,
    /// The relay is going to leave.
    Leaving,
}

/// A suggestion.
#[must_use]
pub fn write_suggest(conn: u32, advised: Advised, keys: &Keys) -> Vec<u8> {
    let number = match advised {
        Advised::Cost => 0,
        Advised::Quality => 1,
        Advised::Leaving => 2,
    };
    let mut out = vec![Kind::Suggest.byte(), number, 0, 0];
    out.put_u32(conn);
    keys.seal(Direction::Down, &mut out);
    out
}

/// Reads a suggestion.
///
/// # Errors
/// [`Error`].
pub fn read_suggest(datagram: &[u8], keys: &Keys) -> Result<Advised, Error> {
    let mut body = keys.open(Direction::Down, datagram)?;
    body.try_get_u8()?;
    match body.try_get_u8()? {
        0 => Ok(Advised::Cost),
        1 => Ok(Advised::Quality),
        2 => Ok(Advised::Leaving),
        _ => Err(Error::Invalid("no such suggestion")),
    }
}

/// The relay ends the session.
#[must_use]
pub fn write_bye(conn: u32, reason: Reason, keys: &Keys) -> Vec<u8> {
    let mut out = vec![Kind::Bye.byte(), reason.number(), 0, 0];
    out.put_u32(conn);
    keys.seal(Direction::Down, &mut out);
    out
}

/// Reads the end of a session.
///
/// # Errors
/// [`Error`].
pub fn read_bye(datagram: &[u8], keys: &Keys) -> Result<Reason, Error> {
    let mut body = keys.open(Direction::Down, datagram)?;
    body.try_get_u8()?;
    Reason::from_number(body.try_get_u8()?)
}

/// Which numbers have been seen: a window of 64 below the newest, as in RFC 4303 §3.4.3.
#[derive(Clone, Copy, Debug, Default)]
pub struct Replay {
    newest: Option<u32>,
    seen: u64,
}

impl Replay {
    /// Whether a number is new; it counts as seen from now on.
    pub fn is_new(&mut self, seq: u32) -> bool {
        let Some(newest) = self.newest else {
            *self = Self {
                newest: Some(seq),
                seen: 1,
            };
            return true;
        };
        if let Some(ahead) = seq.checked_sub(newest).filter(|ahead| *ahead > 0) {
            self.seen = self.seen.checked_shl(ahead).unwrap_or_default() | 1;
            self.newest = Some(seq);
            return true;
        }
        let bit = 1_u64.checked_shl(newest - seq).unwrap_or_default();
        let new = bit != 0 && self.seen & bit == 0;
        self.seen |= bit;
        new
    }
}
