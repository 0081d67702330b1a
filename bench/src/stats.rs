//! Figures of many trials in few numbers.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// Samples drawn for an interval.
const RESAMPLES: usize = 2_000;

/// A ratio of two sums, with the interval that holds it with 95 % confidence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ratio {
    pub(crate) value: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// The sum of the first of each pair divided by the sum of the second, with its percentile bootstrap over the pairs
/// (Efron). `None` when the second sum is zero: there is nothing to compare with.
pub(crate) fn ratio(pairs: &[(f64, f64)]) -> Option<Ratio> {
    let of = |chosen: &mut dyn Iterator<Item = &(f64, f64)>| {
        let (ours, theirs) = chosen.fold((0.0, 0.0), |(a, b), (x, y)| (a + x, b + y));
        (theirs > 0.0).then(|| ours / theirs)
    };
    let value = of(&mut pairs.iter())?;
    let mut dice = StdRng::seed_from_u64(1);
    let mut drawn: Vec<f64> = (0..RESAMPLES)
        .filter_map(|_| {
            let mut sample =
                (0..pairs.len()).filter_map(|_| pairs.get(dice.random_range(0..pairs.len())));
            of(&mut sample)
        })
        .collect();
    Some(Ratio {
        value,
        low: quantile(&mut drawn, 0.025),
        high: quantile(&mut drawn, 0.975),
    })
}

/// The value below which a share of the values lies; not a number when there are none.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "an index between zero and the length"
)]
pub(crate) fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let index = (values.len().saturating_sub(1)) as f64 * share;
    values
        .get(index.round() as usize)
        .copied()
        .unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_holds_the_ratio_and_narrows_with_more_trials() {
        let pairs = |count: usize| -> Vec<(f64, f64)> {
            (0..count)
                .map(|n| ((n % 3) as f64, 4.0 + (n % 5) as f64))
                .collect()
        };
        let (few, many) = (ratio(&pairs(15)).unwrap(), ratio(&pairs(1_500)).unwrap());
        for found in [few, many] {
            assert!((found.value - 1.0 / 6.0).abs() < 1e-9);
            assert!(found.low <= found.value && found.value <= found.high);
        }
        assert!(many.high - many.low < (few.high - few.low) / 5.0);
    }

    #[test]
    fn nothing_cannot_be_compared_with_nothing() {
        assert_eq!(ratio(&[(0.0, 0.0), (1.0, 0.0)]), None);
        assert_eq!(ratio(&[]), None);
        let none = ratio(&[(0.0, 5.0), (0.0, 2.0)]).unwrap();
        assert_eq!((none.value, none.low, none.high), (0.0, 0.0, 0.0));
    }

    #[test]
    fn quantiles() {
        let mut values = [5.0, 1.0, 3.0, 2.0, 4.0];
        assert_eq!(quantile(&mut values, 0.5), 3.0);
        assert_eq!(quantile(&mut values, 1.0), 5.0);
        assert!(quantile(&mut [], 0.5).is_nan());
    }
}
