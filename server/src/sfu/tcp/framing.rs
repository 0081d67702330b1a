//! Datagrams in a stream of bytes (RFC 4571 §2): two bytes of length, then the datagram.
//!
//! Invariants: what one peer sends costs at most [`MAX_FRAME`] and one read of memory; any bytes give datagrams or an
//! error; after an error the stream has no meaning any more.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The longest datagram that is taken. Those of WebRTC keep below an Ethernet frame; what is longer is not WebRTC.
pub(super) const MAX_FRAME: usize = 4_096;

/// A length that is out of the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {0} bytes")]
pub(super) struct TooLong(pub(super) usize);

/// Takes a stream apart.
#[derive(Debug, Default)]
pub(super) struct Deframer {
    buffer: BytesMut,
}

impl Deframer {
    /// Where the next bytes of the stream go.
    pub(super) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next datagram that is complete. Empty ones, which keep a connection alive, are left out.
    ///
    /// # Errors
    /// [`TooLong`], and the same again from then on.
    pub(super) fn pop(&mut self) -> Result<Option<Bytes>, TooLong> {
        while let Some((&[high, low], rest)) = self.buffer.split_first_chunk::<2>() {
            let length = usize::from(u16::from_be_bytes([high, low]));
            if length > MAX_FRAME {
                return Err(TooLong(length));
            }
            if rest.len() < length {
                return Ok(None);
            }
            self.buffer.advance(2);
            if length > 0 {
                return Ok(Some(self.buffer.split_to(length).freeze()));
            }
        }
        Ok(None)
    }
}

/// Appends a datagram to what is to be written; false when it is too long, which nothing that is sent here is.
pub(super) fn frame(datagram: &[u8], out: &mut BytesMut) -> bool {
    let Ok(length) = u16::try_from(datagram.len()) else {
        return false;
    };
    out.reserve(2 + datagram.len());
    out.put_u16(length);
    out.put_slice(datagram);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn drain(deframer: &mut Deframer) -> Result<Vec<Bytes>, TooLong> {
        let mut out = Vec::new();
        while let Some(datagram) = deframer.pop()? {
            out.push(datagram);
        }
        Ok(out)
    }

    #[test]
    fn what_is_no_framing_is_told() {
        let mut deframer = Deframer::default();
        deframer.buffer().put_slice(b"GET / HTTP/1.1\r\n");
        assert_eq!(deframer.pop(), Err(TooLong(0x4745)));
        assert_eq!(deframer.pop(), Err(TooLong(0x4745)));
    }

    proptest! {
        /// Datagrams come out as they went in, however the stream is cut into reads.
        #[test]
        fn round_trip(
            datagrams in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..1_500), 0..12),
            cuts in proptest::collection::vec(1_usize..700, 1..60),
        ) {
            let mut stream = BytesMut::new();
            for datagram in &datagrams {
                prop_assert!(frame(datagram, &mut stream));
            }
            let (mut deframer, mut out) = (Deframer::default(), Vec::new());
            let mut cuts = cuts.into_iter().cycle();
            while !stream.is_empty() {
                let cut = cuts.next().unwrap_or(1).min(stream.len());
                deframer.buffer().put_slice(&stream.split_to(cut));
                out.extend(drain(&mut deframer).expect("no frame is too long"));
            }
            let expected: Vec<&[u8]> = datagrams.iter().map(Vec::as_slice).filter(|sent| !sent.is_empty()).collect();
            prop_assert_eq!(out, expected);
        }

        /// Noise gives datagrams within the bound or an error, and never more than came.
        #[test]
        fn noise_is_survived(reads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..3_000), 0..8)) {
            let mut deframer = Deframer::default();
            let (mut came, mut went) = (0, 0);
            for read in reads {
                came += read.len();
                deframer.buffer().put_slice(&read);
                let Ok(datagrams) = drain(&mut deframer) else { return Ok(()) };
                for datagram in datagrams {
                    prop_assert!((1..=MAX_FRAME).contains(&datagram.len()));
                    went += 2 + datagram.len();
                }
                prop_assert!(deframer.buffer().len() < 2 + MAX_FRAME);
            }
            prop_assert!(went <= came);
        }
    }
}
