//! Coded and decoded pictures: slices to compare byte by byte, frame numbers to count.

use std::ops::RangeInclusive;

use anyhow::{Context, ensure};
use bytes::Bytes;
use media::h264::{annexb_nals, avcc_nals, nal_type, nal_unit_type};

use super::tracks::Unit;

/// The slices of one picture, in order.
pub type Slices = Vec<Bytes>;

fn is_slice(nal: &[u8]) -> bool {
    const CODED_SLICES: RangeInclusive<u8> = nal_type::SLICE..=nal_type::IDR;
    CODED_SLICES.contains(&nal_unit_type(nal))
}

/// The slices of recorded pictures.
///
/// # Errors
/// When an access unit is not AVCC.
pub fn slices(units: &[Unit]) -> anyhow::Result<Vec<Slices>> {
    let of = |unit: &Unit| -> anyhow::Result<Slices> {
        let nals = avcc_nals(&unit.data).collect::<Result<Vec<_>, _>>()?;
        Ok(nals.into_iter().filter(|nal| is_slice(nal)).collect())
    };
    units.iter().map(of).collect()
}

/// The slices of each picture of an Annex B stream. A picture begins with a slice whose `first_mb_in_slice` is 0.
#[must_use]
pub fn annexb_slices(stream: &[u8]) -> Vec<Slices> {
    let mut pictures: Vec<Slices> = Vec::new();
    for nal in annexb_nals(stream).filter(|nal| is_slice(nal)) {
        // ue(v) 0 is a single 1 bit (ITU-T H.264 §9.1).
        let begins = nal.get(1).is_some_and(|byte| byte & 0x80 != 0);
        if begins || pictures.is_empty() {
            pictures.push(Vec::new());
        }
        if let Some(picture) = pictures.last_mut() {
            picture.push(Bytes::copy_from_slice(nal));
        }
    }
    pictures
}

/// Fails unless `received` is a run of `sent` without a hole, byte by byte; `sent` starts over where it loops.
/// Returns the index in `sent` of the first picture received.
///
/// # Errors
/// With the first picture that is missing or changed.
pub fn is_contiguous_run(received: &[Slices], sent: &[Slices]) -> anyhow::Result<usize> {
    let first = received.first().context("no picture was received")?;
    let start = sent
        .iter()
        .position(|picture| picture == first)
        .context("the first picture was never sent")?;
    for (index, picture) in received.iter().enumerate() {
        let at = (start + index) % sent.len();
        if sent.get(at) == Some(picture) {
            continue;
        }
        let found = sent.iter().position(|other| other == picture);
        ensure!(
            found.is_none(),
            "picture {index} is number {found:?}, expected number {at}"
        );
        anyhow::bail!("picture {index} (number {at}) was changed on the way");
    }
    Ok(start)
}

/// What became of drawn frame numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Frames whose number could not be read.
    pub unreadable: usize,
    /// Numbers that were skipped.
    pub missed: u32,
    /// Frames with the number of the frame before.
    pub repeated: usize,
    /// Frames with a lower number than the frame before.
    pub backwards: usize,
}

/// Follows drawn frame numbers.
#[must_use]
pub fn follow(numbers: &[Option<u32>]) -> Numbers {
    let mut result = Numbers::default();
    let mut last: Option<u32> = None;
    for number in numbers {
        match (*number, last) {
            (None, _) => result.unreadable += 1,
            (Some(now), Some(before)) if now == before => result.repeated += 1,
            (Some(now), Some(before)) if now < before => result.backwards += 1,
            (Some(now), Some(before)) => result.missed += now - before - 1,
            (Some(_), None) => {}
        }
        last = number.or(last);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pictures(numbers: &[u8]) -> Vec<Slices> {
        numbers
            .iter()
            .map(|n| vec![Bytes::copy_from_slice(&[0x65, 0x80, *n])])
            .collect()
    }

    #[test]
    fn a_run_may_start_anywhere_and_wrap() {
        let sent = pictures(&[0, 1, 2, 3]);
        assert_eq!(
            is_contiguous_run(&pictures(&[2, 3, 0, 1]), &sent).unwrap(),
            2
        );
    }

    #[test]
    fn holes_and_changes_are_found() {
        let sent = pictures(&[0, 1, 2, 3]);
        assert!(is_contiguous_run(&pictures(&[0, 2]), &sent).is_err());
        assert!(is_contiguous_run(&pictures(&[0, 9]), &sent).is_err());
        assert!(is_contiguous_run(&[], &sent).is_err());
    }

    #[test]
    fn slices_of_one_picture_stay_together() {
        let stream = [
            0, 0, 1, 0x67, 1, 0, 0, 1, 0x65, 0x88, 5, 0, 0, 1, 0x65, 0x40, 6, 0, 0, 1, 0x41, 0x9a,
            7,
        ];
        let counts: Vec<usize> = annexb_slices(&stream).iter().map(Vec::len).collect();
        assert_eq!(counts, [2, 1]);
    }

    #[test]
    fn numbers_are_followed() {
        let seen = [Some(1), Some(2), Some(2), None, Some(5), Some(4)];
        let expected = Numbers {
            unreadable: 1,
            missed: 2,
            repeated: 1,
            backwards: 1,
        };
        assert_eq!(follow(&seen), expected);
    }
}
