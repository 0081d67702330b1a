//! Relays by what they serve and where they are, from which some can be drawn without looking at all.
//!
//! A request is answered from the most exact set first, and then from ever wider ones ([`Place::levels`]): relays that have
//! the substream and are in the player's network, in its region, anywhere; then relays that would have to ask the origin
//! for it, again from near to far. Putting a relay in or out costs one step for each of its sets, whatever their size.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Names a set of relays; what is `None` is any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Place {
    /// Stream and substream that they have.
    pub(super) serves: Option<(u32, u8)>,
    pub(super) network: Option<u64>,
    pub(super) region: Option<u32>,
}

impl Place {
    /// The sets in which to look for a player, the most exact first. Each is looked at when those before did not suffice.
    pub(super) fn levels(serves: (u32, u8), network: u64, region: u32) -> [Self; 6] {
        let has = Self {
            serves: Some(serves),
            ..Self::default()
        };
        let any = Self::default();
        let near = |place: Self| Self {
            network: Some(network),
            ..place
        };
        let around = |place: Self| Self {
            region: Some(region),
            ..place
        };
        [near(has), around(has), has, near(any), around(any), any]
    }

    /// The sets that a relay belongs to.
    pub(super) fn of(
        served: impl Iterator<Item = (u32, u8)>,
        network: u64,
        region: u32,
    ) -> impl Iterator<Item = Self> {
        let serves = served.map(Some).chain([None]);
        serves.flat_map(move |serves| {
            let wide = Self {
                serves,
                ..Self::default()
            };
            let near = Self {
                network: Some(network),
                ..wide
            };
            let around = Self {
                region: Some(region),
                ..wide
            };
            [near, around, wide]
        })
    }
}

/// Members that can be drawn by number.
#[derive(Debug, Default)]
struct Set {
    members: Vec<u64>,
    position: HashMap<u64, usize>,
}

impl Set {
    fn insert(&mut self, id: u64) {
        if let Entry::Vacant(place) = self.position.entry(id) {
            place.insert(self.members.len());
            self.members.push(id);
        }
    }

    fn remove(&mut self, id: u64) {
        let Some(at) = self.position.remove(&id) else {
            return;
        };
        if at >= self.members.len() {
            return;
        }
        self.members.swap_remove(at);
        if let Some(moved) = self.members.get(at) {
            self.position.insert(*moved, at);
        }
    }
}

/// All sets.
#[derive(Debug, Default)]
pub(super) struct Index {
    sets: HashMap<Place, Set>,
}

impl Index {
    pub(super) fn insert(&mut self, place: Place, id: u64) {
        self.sets.entry(place).or_default().insert(id);
    }

    pub(super) fn remove(&mut self, place: Place, id: u64) {
        if let Some(set) = self.sets.get_mut(&place) {
            set.remove(id);
            if set.members.is_empty() {
                self.sets.remove(&place);
            }
        }
    }

    pub(super) fn members(&self, place: &Place) -> &[u64] {
        self.sets
            .get(place)
            .map(|set| set.members.as_slice())
            .unwrap_or_default()
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn sets_are_sets(steps in proptest::collection::vec((any::<bool>(), 0..12_u64), 0..200)) {
            let (mut set, mut model) = (Set::default(), BTreeSet::new());
            for (insert, id) in steps {
                if insert {
                    set.insert(id);
                    model.insert(id);
                } else {
                    set.remove(id);
                    model.remove(&id);
                }
                let mut members = set.members.clone();
                members.sort_unstable();
                prop_assert_eq!(members, model.iter().copied().collect::<Vec<_>>());
                for (at, id) in set.members.iter().enumerate() {
                    prop_assert_eq!(set.position.get(id), Some(&at));
                }
            }
        }
    }

    /// Every level is a part of a later one of the same kind, and a relay that has the substream is in all that fit.
    #[test]
    fn wider_levels_contain_narrower_ones() {
        let mut index = Index::default();
        for id in 0..200_u64 {
            let (network, region) = (id % 7, u32::try_from(id % 3).expect("small"));
            let served = (id.is_multiple_of(2)).then_some((9, 1));
            for place in Place::of(served.into_iter(), network, region) {
                index.insert(place, id);
            }
        }
        let levels = Place::levels((9, 1), 4, 2);
        let sizes = levels.map(|place| index.members(&place).len());
        let has = |place: &Place, id: &u64| index.members(place).contains(id);
        for (narrow, wide) in [(0, 2), (1, 2), (2, 5), (3, 5), (4, 5)] {
            assert!(sizes[narrow] > 0);
            for id in index.members(&levels[narrow]) {
                assert!(has(&levels[wide], id), "{id} is missing in {wide}");
            }
        }
        assert_eq!((sizes[2], sizes[5]), (100, 200));
    }
}
