//! Algorithm 1 as the paper prints it (§5.2), to compare with: a frame is linked only when its data is there too, and a
//! failure forgets what was not linked yet.

use std::collections::HashSet;

use media::substream::{Entry, chain_crc};

#[derive(Default)]
pub(super) struct PaperChain {
    pub(super) linked: Vec<Entry>,
    pub(super) data: HashSet<Entry>,
    parked: Vec<Vec<Entry>>,
}

impl PaperChain {
    pub(super) fn seed(&mut self, prior: &[Entry]) {
        self.linked = prior.to_vec();
        self.data.extend(prior);
    }

    pub(super) fn receive(&mut self, local: &[Entry], data: Entry) {
        self.data.insert(data);
        if !self.try_match(local) {
            self.parked.push(local.to_vec());
        }
        loop {
            let before = self.linked.len();
            let mut parked = std::mem::take(&mut self.parked);
            parked.retain(|local| !self.try_match(local));
            self.parked = parked;
            if self.linked.len() == before {
                break;
            }
        }
    }

    fn try_match(&mut self, local: &[Entry]) -> bool {
        let Some(at) = local.iter().position(|e| self.linked.last() == Some(e)) else {
            return false;
        };
        for entry in &local[at + 1..] {
            let count = self.linked.len();
            let back = |n| count.checked_sub(n).map(|i| self.linked[i].header);
            let follows = chain_crc([back(2), back(1)], entry.header) == entry.crc;
            if !follows || !self.data.contains(entry) {
                return false;
            }
            self.linked.push(*entry);
        }
        true
    }
}
