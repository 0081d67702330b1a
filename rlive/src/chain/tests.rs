//! The chain against the truth, under any order, loss and repetition, and beside the paper's form.

use proptest::prelude::*;

use media::substream::{CHAIN_LENGTH, HashVersion, Sequencer, Split};

use super::paper::PaperChain;
use super::*;

/// The frames of a stream of pictures, `fps` per second.
fn stream(frames: u32, fps: u32) -> Vec<Entry> {
    let mut sequencer = Sequencer::default();
    (0..frames)
        .map(|n| {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&(n * 1_000 / fps).to_be_bytes());
            bytes[8..12].copy_from_slice(&(n * 7 % 3_000).to_be_bytes());
            let entry = Entry::read(&mut &bytes[..]).expect("valid");
            sequencer.next(entry.header)
        })
        .collect()
}

/// The local chain that comes with frame `n`.
fn local(truth: &[Entry], n: usize) -> &[Entry] {
    &truth[n.saturating_sub(CHAIN_LENGTH)..=n]
}

fn drain(chain: &mut Chain) -> Vec<Entry> {
    std::iter::from_fn(|| chain.poll_linked()).collect()
}

#[expect(clippy::disallowed_methods, reason = "any instant will do in a test")]
fn now() -> Instant {
    Instant::now()
}

proptest! {
    /// Any arrivals, in any order, some lost, some twice: what comes out is the truth from its beginning, without gaps.
    #[test]
    fn the_output_is_a_piece_of_the_truth(
        count in 10..80_usize,
        arrivals in proptest::collection::vec(any::<proptest::sample::Index>(), 0..200),
        strangers in proptest::collection::vec(any::<proptest::sample::Index>(), 0..20),
    ) {
        let truth = stream(80, 30);
        let (now, mut chain) = (now(), Chain::default());
        chain.seed(&truth[..2]);
        for (turn, arrival) in arrivals.iter().enumerate() {
            let n = arrival.index(count).max(2);
            chain.offer(now, local(&truth, n));
            // Forged: an entry in the middle is another one.
            if let Some(stranger) = strangers.get(turn) {
                let mut forged = local(&truth, n).to_vec();
                let at = stranger.index(forged.len());
                forged[at].crc ^= 1;
                let _ = chain.offer(now, &forged);
            }
        }
        let out = drain(&mut chain);
        prop_assert_eq!(&out[..], &truth[2..2 + out.len()]);
    }

    /// With everything received, in any order, everything is linked.
    #[test]
    fn nothing_is_missing_when_nothing_was_lost(order in Just((2..60_usize).collect::<Vec<_>>()).prop_shuffle()) {
        let truth = stream(60, 25);
        let (now, mut chain) = (now(), Chain::default());
        chain.seed(&truth[..2]);
        for n in order {
            chain.offer(now, local(&truth, n));
        }
        prop_assert_eq!(&drain(&mut chain)[..], &truth[2..]);
        prop_assert_eq!(chain.stuck_since(), None);
    }
}

#[test]
fn outcomes_say_what_happened() {
    let truth = stream(40, 30);
    let (now, mut chain) = (now(), Chain::default());
    assert_eq!(chain.offer(now, local(&truth, 3)), Outcome::Parked);
    chain.seed(&truth[..2]);
    // What came before the beginning was known has not been in vain.
    assert_eq!(chain.tail(), Some(truth[3]));
    assert_eq!(chain.offer(now, local(&truth, 3)), Outcome::Stale);
    assert_eq!(chain.offer(now, &[]), Outcome::Stale);
    assert_eq!(chain.offer(now, local(&truth, 6)), Outcome::Linked(3));
    assert_eq!(chain.offer(now, local(&truth, 20)), Outcome::Parked);
    assert_eq!(chain.stuck_since(), Some(now));
    let mut forged = local(&truth, 8).to_vec();
    forged[4].header.size += 1;
    assert_eq!(chain.offer(now, &forged), Outcome::Linked(1));
    assert_eq!(
        chain.offer(now, &[truth[7], forged[4]]),
        Outcome::Corrupt(forged[4])
    );
    // Headers from elsewhere close the gap, and what waited follows.
    assert_eq!(chain.offer(now, &truth[7..17]), Outcome::Linked(13));
    assert_eq!(chain.tail(), Some(truth[20]));
    chain.offer(now, local(&truth, 39));
    chain.forget(now + PATIENCE);
    assert_eq!(chain.stuck_since(), None);
}

#[test]
fn a_stream_can_be_followed_from_its_first_frame() {
    let truth = stream(10, 30);
    let (now, mut chain) = (now(), Chain::default());
    chain.seed(&[]);
    assert_eq!(chain.offer(now, local(&truth, 4)), Outcome::Linked(5));
}

/// Frames of substreams whose relay is dead never come. Gives how many frames each form of the chain has linked after
/// `frames`: the paper's, ours alone, and ours with headers from the origin when it is stuck.
fn with_dead(split: Split, dead: u64, frames: u32) -> [usize; 3] {
    let truth = stream(frames, 30);
    let mut at = now();
    let (mut paper, mut alone, mut helped) =
        (PaperChain::default(), Chain::default(), Chain::default());
    paper.seed(&truth[..2]);
    alone.seed(&truth[..2]);
    helped.seed(&truth[..2]);
    let (mut alone_linked, mut helped_linked) = (0, 0);
    for n in 2..truth.len() {
        at += Duration::from_millis(33);
        if dead & (1 << split.substream(&truth[n].header)) != 0 {
            continue;
        }
        paper.receive(local(&truth, n), truth[n]);
        alone.offer(at, local(&truth, n));
        helped.offer(at, local(&truth, n));
        let stuck = helped
            .stuck_since()
            .is_some_and(|since| at - since > Duration::from_millis(80));
        if stuck {
            let tail = helped.tail().expect("seeded");
            let from = truth.iter().position(|e| *e == tail).expect("the truth");
            helped.offer(at, &truth[from..=n]);
        }
        alone_linked += drain(&mut alone).len();
        helped_linked += drain(&mut helped).len();
    }
    [paper.linked.len() - 2, alone_linked, helped_linked]
}

/// The hole that the paper leaves: with one substream of four dead its chain stops at the first missing frame; ours goes
/// on until more frames in a row are lost than a local chain names; with headers from the origin it never stops.
#[test]
fn one_dead_substream_of_four_does_not_freeze_the_order() {
    let split = Split::new(HashVersion::Mixed, 4).expect("in range");
    for dead in 0..4 {
        let [paper, alone, helped] = with_dead(split, 1 << dead, 2_000);
        assert!(
            paper < 10,
            "substream {dead} dead: the paper's form linked {paper}"
        );
        assert!((100..1_000).contains(&alone), "{alone}");
        assert!(helped > 1_980, "{helped}");
    }
    let [_, alone, helped] = with_dead(split, 0b0111, 2_000);
    assert!(alone < 20, "three dead: {alone}");
    assert!(helped > 1_900, "{helped}");
}
