//! Relays by what they serve and where they are, from which some can be drawn without looking at all.
//!
//! A request is answered from the most exact set first, and then from ever wider ones ([`Level`]): relays that have the
//! substream and are in the player's network, in its region, anywhere; then relays that would have to ask the origin for it,
//! again from near to far. Most substreams are had by a few relays: those are looked through. Only a large set is kept by
//! network and region too ([`LARGE`]).
//!
//! Invariants: a relay is in the sets of its network, of its region and of all, and in those of what it serves, as long as
//! it is listed; it knows its place in the first three.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;

use super::nodes::{NONE, Nodes, Slot};

/// A set of more than this is kept by network and region too; one of less than half not any more.
const LARGE: usize = 128;

/// Where to look for a player, the most exact first. Each is looked at when those before did not suffice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// Has it, same network.
    HasNear,
    /// Has it, same region.
    HasAround,
    /// Has it.
    Has,
    /// Same network.
    Near,
    /// Same region.
    Around,
    /// Any.
    Any,
}

impl Level {
    pub(super) const ALL: [Self; 6] = [
        Self::HasNear,
        Self::HasAround,
        Self::Has,
        Self::Near,
        Self::Around,
        Self::Any,
    ];
}

/// The network that an address is in: its first 16 bits, or 32 of IPv6. A stand-in for the prefix that is announced by
/// BGP, which a scheduler would need a table for.
pub(super) fn network_of(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(ip) => u64::from(ip.to_bits() >> 16),
        IpAddr::V6(ip) => {
            let high = u64::try_from(ip.to_bits() >> 96).unwrap_or_default();
            high | (1 << 32)
        }
    }
}

/// Who is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) what: (u32, u8),
    pub(super) network: u64,
    pub(super) region: u32,
}

/// Relays that have one substream.
#[derive(Debug, Default)]
struct Serving {
    members: Vec<Slot>,
    apart: Option<Box<Apart>>,
}

/// The same relays by where they are.
#[derive(Debug, Default)]
struct Apart {
    networks: HashMap<u64, Vec<Slot>>,
    regions: HashMap<u32, Vec<Slot>>,
}

fn take_out<K: Hash + Eq>(sets: &mut HashMap<K, Vec<Slot>>, key: K, slot: Slot) {
    if let Some(members) = sets.get_mut(&key) {
        members.retain(|member| *member != slot);
        if members.is_empty() {
            sets.remove(&key);
        }
    }
}

impl Serving {
    fn insert(&mut self, slot: Slot, nodes: &Nodes) {
        self.members.push(slot);
        if let Some(apart) = &mut self.apart {
            apart.insert(slot, nodes);
        } else if self.members.len() > LARGE {
            let mut apart = Box::<Apart>::default();
            self.members
                .iter()
                .for_each(|slot| apart.insert(*slot, nodes));
            self.apart = Some(apart);
        }
    }

    fn remove(&mut self, slot: Slot, nodes: &Nodes) {
        if let Some(at) = self.members.iter().position(|member| *member == slot) {
            self.members.swap_remove(at);
        }
        if self.members.len() < LARGE / 2 {
            self.apart = None;
        }
        if let (Some(apart), Some(node)) = (&mut self.apart, nodes.get(slot)) {
            take_out(&mut apart.networks, network_of(node.ip()), slot);
            take_out(&mut apart.regions, node.region, slot);
        }
    }
}

impl Apart {
    fn insert(&mut self, slot: Slot, nodes: &Nodes) {
        if let Some(node) = nodes.get(slot) {
            let network = self.networks.entry(network_of(node.ip()));
            network.or_default().push(slot);
            self.regions.entry(node.region).or_default().push(slot);
        }
    }
}

/// All sets.
#[derive(Debug, Default)]
pub(super) struct Index {
    serving: HashMap<(u32, u8), Serving>,
    networks: HashMap<u64, Vec<Slot>>,
    regions: HashMap<u32, Vec<Slot>>,
    all: Vec<Slot>,
}

impl Index {
    /// Puts a relay into all its sets.
    pub(super) fn list(&mut self, slot: Slot, nodes: &mut Nodes) {
        let Some(node) = nodes.get_mut(slot).filter(|node| !node.listed) else {
            return;
        };
        node.listed = true;
        let network = self.networks.entry(network_of(node.ip())).or_default();
        let region = self.regions.entry(node.region).or_default();
        for (place, set) in node.places.iter_mut().zip([network, region, &mut self.all]) {
            *place = u32::try_from(set.len()).unwrap_or(NONE);
            set.push(slot);
        }
        for what in whats(slot, nodes) {
            self.serve(slot, what, nodes);
        }
    }

    /// Takes a relay out of all its sets; it must be as it was when it was put in.
    pub(super) fn delist(&mut self, slot: Slot, nodes: &mut Nodes) {
        let Some(node) = nodes.get_mut(slot).filter(|node| node.listed) else {
            return;
        };
        node.listed = false;
        let (network, region) = (network_of(node.ip()), node.region);
        let places = std::mem::replace(&mut node.places, [NONE; 3]);
        for what in whats(slot, nodes) {
            self.serve_not(slot, what, nodes);
        }
        let sets = [
            self.networks.get_mut(&network),
            self.regions.get_mut(&region),
            Some(&mut self.all),
        ];
        for ((which, place), set) in places.into_iter().enumerate().zip(sets) {
            let (Some(set), Ok(at)) = (set, usize::try_from(place)) else {
                continue;
            };
            if at >= set.len() {
                continue;
            }
            set.swap_remove(at);
            let moved = set.get(at).and_then(|moved| nodes.get_mut(*moved));
            if let Some(moved) = moved.and_then(|moved| moved.places.get_mut(which)) {
                *moved = place;
            }
        }
        if self.networks.get(&network).is_some_and(Vec::is_empty) {
            self.networks.remove(&network);
        }
        if self.regions.get(&region).is_some_and(Vec::is_empty) {
            self.regions.remove(&region);
        }
    }

    /// A listed relay has a substream from now on.
    pub(super) fn serve(&mut self, slot: Slot, what: (u32, u8), nodes: &Nodes) {
        self.serving.entry(what).or_default().insert(slot, nodes);
    }

    /// It has it no more.
    pub(super) fn serve_not(&mut self, slot: Slot, what: (u32, u8), nodes: &Nodes) {
        if let Some(serving) = self.serving.get_mut(&what) {
            serving.remove(slot, nodes);
            if serving.members.is_empty() {
                self.serving.remove(&what);
            }
        }
    }

    /// The relays that have a substream.
    pub(super) fn serving(&self, what: (u32, u8)) -> &[Slot] {
        let serving = self.serving.get(&what);
        serving.map_or(&[], |serving| &serving.members)
    }

    /// The relays of a level; those that had to be looked for are put into `found`.
    pub(super) fn members<'a>(
        &'a self,
        level: Level,
        wanted: &Wanted,
        nodes: &Nodes,
        found: &'a mut Vec<Slot>,
    ) -> &'a [Slot] {
        let serving = self.serving.get(&wanted.what);
        let of = |set: Option<&'a Vec<Slot>>| set.map(Vec::as_slice).unwrap_or_default();
        let small = match (level, serving) {
            (Level::Near, _) => return of(self.networks.get(&wanted.network)),
            (Level::Around, _) => return of(self.regions.get(&wanted.region)),
            (Level::Any, _) => return &self.all,
            (_, None) => return &[],
            (Level::Has, Some(serving)) => return &serving.members,
            (_, Some(serving)) => match (&serving.apart, level) {
                (Some(apart), Level::HasNear) => return of(apart.networks.get(&wanted.network)),
                (Some(apart), _) => return of(apart.regions.get(&wanted.region)),
                (None, _) => &serving.members,
            },
        };
        let there = |slot: &&Slot| {
            nodes.get(**slot).is_some_and(|node| match level {
                Level::HasNear | Level::Near => network_of(node.ip()) == wanted.network,
                Level::HasAround | Level::Around => node.region == wanted.region,
                Level::Has | Level::Any => true,
            })
        };
        found.clear();
        found.extend(small.iter().filter(there));
        found
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.serving.is_empty()
            && self.networks.is_empty()
            && self.regions.is_empty()
            && self.all.is_empty()
    }
}

/// What a relay serves.
fn whats(slot: Slot, nodes: &Nodes) -> Vec<(u32, u8)> {
    let node = nodes.get(slot);
    node.map(|node| node.served.iter().map(|known| known.what()).collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::SocketAddr;

    use proptest::prelude::*;

    use super::super::nodes::{Known, Node};
    use super::*;

    fn node(id: u8) -> Node {
        let mut node = Node::new(id.into(), SocketAddr::from(([10, id % 7, 0, id], 1)));
        node.region = u32::from(id % 3);
        let known = |stream| Known {
            named_ms: 0,
            stream,
            substream: 1,
        };
        node.served = (0..u32::from(id % 4)).map(known).collect();
        node
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        /// Small sets and large: each level has who belongs there, and nobody else.
        #[test]
        fn levels_have_who_belongs_there(steps in proptest::collection::vec((any::<bool>(), any::<u8>()), 0..700)) {
            let (mut index, mut nodes, mut model) = (Index::default(), Nodes::default(), BTreeSet::new());
            for (insert, id) in steps {
                match (insert, nodes.find(id.into())) {
                    (true, None) => {
                        let slot = nodes.insert(node(id));
                        index.list(slot, &mut nodes);
                        model.insert(id);
                    }
                    (false, Some(slot)) => {
                        index.delist(slot, &mut nodes);
                        nodes.remove(slot);
                        model.remove(&id);
                    }
                    _ => {}
                }
            }
            let wanted = Wanted { what: (0, 1), network: network_of(IpAddr::from([10, 4, 0, 0])), region: 2 };
            let mut scratch = Vec::new();
            for level in Level::ALL {
                let belongs = |id: &&u8| {
                    let (has, near, around) = (!(**id).is_multiple_of(4), **id % 7 == 4, **id % 3 == 2);
                    match level {
                        Level::HasNear => has && near,
                        Level::HasAround => has && around,
                        Level::Has => has,
                        Level::Near => near,
                        Level::Around => around,
                        Level::Any => true,
                    }
                };
                let expected: Vec<u64> = model.iter().filter(belongs).map(|id| u64::from(*id)).collect();
                let found = index.members(level, &wanted, &nodes, &mut scratch);
                let mut found: Vec<u64> = found.iter().filter_map(|slot| nodes.get(*slot)).map(|n| n.id).collect();
                found.sort_unstable();
                prop_assert_eq!(found, expected, "{:?}", level);
            }
            for id in model {
                let slot = nodes.find(id.into()).expect("known");
                index.delist(slot, &mut nodes);
                nodes.remove(slot);
            }
            prop_assert!(index.is_empty());
        }
    }
}
