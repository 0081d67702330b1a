//! Sequence numbers without their wrap (RFC 3550 §A.1).

/// Where a packet lies in its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extended {
    /// At this position.
    At(i64),
    /// So far from the newest packet that it is probably a stray; the next packet tells.
    Unlikely,
    /// Two packets in a row agree that the stream has moved: it starts over here.
    Restart(i64),
}

/// Extends 16-bit sequence numbers to 64 bits, relative to the newest one.
#[derive(Debug, Default)]
pub(super) struct Extend {
    newest: Option<i64>,
    /// The sequence number that would confirm a jump.
    expected_after_jump: Option<u16>,
}

impl Extend {
    /// The position of the packet with this sequence number.
    pub(super) fn place(&mut self, sequence: u16) -> Extended {
        let Some(newest) = self.newest else {
            // Start one wrap in, so that packets reordered before the first have non-negative positions.
            let first = i64::from(sequence) + (1 << 16);
            self.newest = Some(first);
            return Extended::At(first);
        };
        let [.., high, low] = newest.to_be_bytes();
        let ahead = sequence.wrapping_sub(u16::from_be_bytes([high, low]));
        let distance = i64::from(ahead.cast_signed());
        if distance.abs() >= super::WINDOW {
            return self.far(newest, sequence, distance);
        }
        self.expected_after_jump = None;
        let position = newest + distance;
        self.newest = Some(newest.max(position));
        Extended::At(position)
    }

    fn far(&mut self, newest: i64, sequence: u16, distance: i64) -> Extended {
        if self.expected_after_jump != Some(sequence) {
            self.expected_after_jump = Some(sequence.wrapping_add(1));
            return Extended::Unlikely;
        }
        self.expected_after_jump = None;
        // A jump back must not run into positions that were used before: move on by a wrap.
        let position = newest + distance + if distance < 0 { 1 << 16 } else { 0 };
        self.newest = Some(position);
        Extended::Restart(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wraps_forward_and_back() {
        let mut extend = Extend::default();
        let Extended::At(first) = extend.place(65_534) else {
            panic!("first is taken")
        };
        assert_eq!(extend.place(1), Extended::At(first + 3));
        assert_eq!(extend.place(65_535), Extended::At(first + 1));
        assert_eq!(extend.place(2), Extended::At(first + 4));
    }

    #[test]
    fn a_stray_is_dropped_and_a_jump_is_followed() {
        let mut extend = Extend::default();
        extend.place(100);
        assert_eq!(extend.place(40_000), Extended::Unlikely);
        assert!(matches!(extend.place(101), Extended::At(_)));
        assert_eq!(extend.place(40_000), Extended::Unlikely);
        assert!(matches!(extend.place(40_001), Extended::Restart(_)));
        assert!(matches!(extend.place(40_002), Extended::At(_)));
    }
}
