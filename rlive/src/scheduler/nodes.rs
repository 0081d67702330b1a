//! Relays as a scheduler remembers them: a million of them in 250 MB.
//!
//! Each has a *slot*, by which sets name it; a table of open addressing finds the slot of an id, and a list goes through all
//! slots from who has been silent longest to who has been heard last. Times are milliseconds of a clock of its own that
//! wraps after 49 days: nobody stays silent for so long.
//!
//! Invariants: a slot that is free is in no set, in no list and in no table.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

/// Names a relay within the scheduler.
pub(super) type Slot = u32;
/// No slot, and no place in a set.
pub(super) const NONE: u32 = u32::MAX;

/// A substream that a relay has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// When it was named last.
    pub(super) named_ms: u32,
    /// Its stream.
    pub(super) stream: u32,
    /// Which of it.
    pub(super) substream: u8,
}

impl Known {
    pub(super) fn what(&self) -> (u32, u8) {
        (self.stream, self.substream)
    }
}

/// What players have said against a relay. Most are spoken well of, and have none.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    pub(super) failures: f32,
    pub(super) failed_at: Option<Instant>,
    pub(super) reporters: Vec<(Instant, u64)>,
    pub(super) blocks: u32,
    pub(super) blocked_until: Option<Instant>,
}

/// A relay.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: u64,
    ip: [u8; 16],
    port: u16,
    /// Sessions promised since the last heartbeat.
    pub(super) promised: u16,
    pub(super) max_sessions: u16,
    /// As its last heartbeat says.
    pub(super) sessions: u16,
    pub(super) used_kbps: u32,
    pub(super) capacity_kbps: u32,
    pub(super) expansion: u8,
    pub(super) leaving: bool,
    /// It is in the sets.
    pub(super) listed: bool,
    pub(super) region: u32,
    pub(super) heard_ms: u32,
    pub(super) stamp: (u32, u32),
    pub(super) load: f32,
    /// Where it is in the sets of its network, of its region and of all.
    pub(super) places: [u32; 3],
    older: Slot,
    newer: Slot,
    pub(super) served: Box<[Known]>,
    pub(super) trouble: Option<Box<Trouble>>,
}

impl Node {
    pub(super) fn new(id: u64, address: SocketAddr) -> Self {
        let mut node = Self {
            id,
            ip: [0; 16],
            port: 0,
            promised: 0,
            max_sessions: 1,
            sessions: 0,
            used_kbps: 0,
            capacity_kbps: 0,
            expansion: 0,
            leaving: false,
            listed: false,
            region: 0,
            heard_ms: 0,
            stamp: (0, 0),
            load: 0.0,
            places: [NONE; 3],
            older: NONE,
            newer: NONE,
            served: Box::default(),
            trouble: None,
        };
        node.set_address(address);
        node
    }

    pub(super) fn set_address(&mut self, address: SocketAddr) {
        let ip = match address.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        self.ip = ip.octets();
        self.port = address.port();
    }

    pub(super) fn ip(&self) -> IpAddr {
        Ipv6Addr::from(self.ip).to_canonical()
    }

    pub(super) fn address(&self) -> SocketAddr {
        SocketAddr::new(self.ip(), self.port)
    }

    pub(super) fn load(&self) -> f32 {
        self.load + f32::from(self.promised) / f32::from(self.max_sessions.max(1))
    }

    pub(super) fn has_room(&self) -> bool {
        !self.leaving && self.load() < 1.0
    }

    pub(super) fn serves(&self, what: (u32, u8)) -> bool {
        self.served.iter().any(|known| known.what() == what)
    }

    pub(super) fn is_blocked(&self, now: Instant) -> bool {
        let trouble = self.trouble.as_ref();
        trouble.is_some_and(|t| t.blocked_until.is_some_and(|until| until > now))
    }

    /// Failures that still count, of which each counts half after a while.
    pub(super) fn failures(&self, now: Instant, half: Duration) -> f32 {
        let Some(trouble) = &self.trouble else {
            return 0.0;
        };
        let age = trouble
            .failed_at
            .map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        trouble.failures * 0.5_f32.powf(age.as_secs_f32() / half.as_secs_f32())
    }
}

/// All relays.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    slots: Vec<Option<Node>>,
    free: Vec<Slot>,
    table: Vec<Slot>,
    oldest: Option<Slot>,
    newest: Option<Slot>,
}

fn index(slot: u32) -> usize {
    usize::try_from(slot).unwrap_or(usize::MAX)
}

/// The finaliser of MurmurHash3: ids may be small numbers in a row.
fn mix(id: u64) -> usize {
    let mut hash = id;
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    usize::try_from((hash ^ (hash >> 33)) & 0xffff_ffff).unwrap_or_default()
}

impl Nodes {
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&Node> {
        self.slots.get(index(slot))?.as_ref()
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut Node> {
        self.slots.get_mut(index(slot))?.as_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Node> {
        self.slots.iter().flatten()
    }

    /// The slot of an id.
    pub(super) fn find(&self, id: u64) -> Option<Slot> {
        let at = self.probe(id)?;
        self.table.get(at).copied()
    }

    /// Where the table has an id.
    fn probe(&self, id: u64) -> Option<usize> {
        let last = self.table.len().checked_sub(1)?;
        let mut at = mix(id) & last;
        loop {
            let slot = *self.table.get(at)?;
            if slot == NONE {
                return None;
            }
            if self.get(slot).is_some_and(|node| node.id == id) {
                return Some(at);
            }
            at = (at + 1) & last;
        }
    }

    /// Takes a relay that is not known; it has been heard last.
    pub(super) fn insert(&mut self, node: Node) -> Slot {
        let id = node.id;
        let slot = match self.free.pop() {
            Some(slot) => {
                if let Some(place) = self.slots.get_mut(index(slot)) {
                    *place = Some(node);
                }
                slot
            }
            None => {
                self.slots.push(Some(node));
                u32::try_from(self.slots.len() - 1).unwrap_or(NONE)
            }
        };
        if 2 * self.slots.len() > self.table.len() {
            self.grow();
        } else {
            self.enter(id, slot);
        }
        self.append(slot);
        slot
    }

    pub(super) fn remove(&mut self, slot: Slot) {
        self.unlink(slot);
        let Some(id) = self.get(slot).map(|node| node.id) else {
            return;
        };
        if let Some(at) = self.probe(id) {
            self.strike(at);
        }
        if let Some(place) = self.slots.get_mut(index(slot)) {
            *place = None;
        }
        self.free.push(slot);
    }

    fn enter(&mut self, id: u64, slot: Slot) {
        let Some(last) = self.table.len().checked_sub(1) else {
            return;
        };
        let mut at = mix(id) & last;
        while self.table.get(at).is_some_and(|slot| *slot != NONE) {
            at = (at + 1) & last;
        }
        if let Some(place) = self.table.get_mut(at) {
            *place = slot;
        }
    }

    /// Takes an entry out, and closes the gap: what was put behind it because it was in the way moves up.
    fn strike(&mut self, at: usize) {
        let last = self.table.len() - 1;
        let (mut hole, mut next) = (at, at);
        loop {
            next = (next + 1) & last;
            let slot = self.table.get(next).copied().unwrap_or(NONE);
            if slot == NONE {
                break;
            }
            let home = self.get(slot).map_or(next, |node| mix(node.id) & last);
            // It may move when its home is not between the hole and itself.
            if next.wrapping_sub(home) & last >= next.wrapping_sub(hole) & last {
                if let Some(place) = self.table.get_mut(hole) {
                    *place = slot;
                }
                hole = next;
            }
        }
        if let Some(place) = self.table.get_mut(hole) {
            *place = NONE;
        }
    }

    fn grow(&mut self) {
        let size = (2 * self.slots.len()).next_power_of_two().max(16);
        self.table = vec![NONE; size];
        for at in 0..self.slots.len() {
            let slot = u32::try_from(at).unwrap_or(NONE);
            if let Some(id) = self.get(slot).map(|node| node.id) {
                self.enter(id, slot);
            }
        }
    }

    /// Who has been silent longest.
    pub(super) fn oldest(&self) -> Option<Slot> {
        self.oldest
    }

    /// A relay has been heard.
    pub(super) fn touch(&mut self, slot: Slot) {
        self.unlink(slot);
        self.append(slot);
    }

    fn append(&mut self, slot: Slot) {
        let before = self.newest.replace(slot);
        if let Some(node) = self.get_mut(slot) {
            (node.older, node.newer) = (before.unwrap_or(NONE), NONE);
        }
        match before.and_then(|before| self.get_mut(before)) {
            Some(before) => before.newer = slot,
            None => self.oldest = Some(slot),
        }
    }

    fn unlink(&mut self, slot: Slot) {
        let Some((older, newer)) = self.get(slot).map(|node| (node.older, node.newer)) else {
            return;
        };
        match self.get_mut(older) {
            Some(node) => node.newer = newer,
            None => self.oldest = Some(newer).filter(|slot| *slot != NONE),
        }
        match self.get_mut(newer) {
            Some(node) => node.older = older,
            None => self.newest = Some(older).filter(|slot| *slot != NONE),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_relay_takes_little() {
        assert!(
            size_of::<Option<Node>>() <= 112,
            "{}",
            size_of::<Option<Node>>()
        );
        assert_eq!(size_of::<Known>(), 12);
    }

    proptest! {
        /// As a list of ids in the order in which they were heard.
        #[test]
        fn slots_are_found_and_kept_in_order(steps in proptest::collection::vec((0..3_u8, 0..40_u64), 0..300)) {
            let address = SocketAddr::from(([10, 0, 0, 1], 1));
            let (mut nodes, mut model) = (Nodes::default(), VecDeque::new());
            for (what, id) in steps {
                // Ids that meet in the table, too.
                let id = id % 7 + (id << 40);
                match (what, nodes.find(id)) {
                    (0, Some(slot)) => {
                        nodes.remove(slot);
                        model.retain(|other| *other != id);
                    }
                    (_, Some(slot)) => {
                        nodes.touch(slot);
                        model.retain(|other| *other != id);
                        model.push_back(id);
                    }
                    (_, None) => {
                        let slot = nodes.insert(Node::new(id, address));
                        prop_assert_eq!(nodes.get(slot).map(|n| n.id), Some(id));
                        model.push_back(id);
                    }
                }
                prop_assert_eq!(nodes.len(), model.len());
                let mut found = Vec::new();
                let mut at = nodes.oldest();
                while let Some(node) = at.and_then(|slot| nodes.get(slot)) {
                    found.push(node.id);
                    prop_assert_eq!(nodes.find(node.id), at);
                    at = Some(node.newer).filter(|slot| *slot != NONE);
                }
                prop_assert_eq!(found, Vec::from(model.clone()));
            }
        }
    }
}
