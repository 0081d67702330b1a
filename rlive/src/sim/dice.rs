//! Random numbers of many distributions, from seeds.
//!
//! Every entity has a generator of its own, named by numbers: what one draws does not depend on what happens to others,
//! so arms of one seed meet the same network.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// A generator.
#[derive(Debug, Clone)]
pub(super) struct Dice(StdRng);

impl Dice {
    /// The generator of this name.
    pub(super) fn new(seed: u64, name: &[u64]) -> Self {
        let mut state = seed;
        for part in name {
            state = mix(state ^ mix(*part));
        }
        Self(StdRng::seed_from_u64(state))
    }

    /// A seed for a machine.
    pub(super) fn seed(&mut self) -> [u8; 32] {
        self.0.random()
    }

    /// Between 0 and 1.
    pub(super) fn unit(&mut self) -> f64 {
        self.0.random()
    }

    pub(super) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    pub(super) fn between(&mut self, least: f64, most: f64) -> f64 {
        least + (most - least) * self.unit()
    }

    pub(super) fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }

    /// Box and Muller's.
    pub(super) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    pub(super) fn log_normal(&mut self, median: f64, sigma: f64) -> f64 {
        median * (sigma * self.normal()).exp()
    }

    pub(super) fn weibull(&mut self, median: f64, shape: f64) -> f64 {
        let scale = median / std::f64::consts::LN_2.powf(1.0 / shape);
        scale * (-(1.0 - self.unit()).ln()).powf(1.0 / shape)
    }

    /// Beta, by sums of exponentials: `alpha` and `beta` are rounded to whole numbers, one at least.
    pub(super) fn beta(&mut self, alpha: f64, beta: f64) -> f64 {
        let mut gamma = |shape: f64| {
            let mut sum = 0.0;
            let mut left = shape.round().max(1.0);
            while left >= 1.0 {
                sum += self.exponential(1.0);
                left -= 1.0;
            }
            sum
        };
        let (a, b) = (gamma(alpha), gamma(beta));
        a / (a + b)
    }
}

/// The finaliser of SplitMix64.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_have_their_medians_and_means() {
        let mut dice = Dice::new(1, &[2]);
        let mut draw = |of: &mut dyn FnMut(&mut Dice) -> f64| {
            let mut values: Vec<f64> = (0..20_000).map(|_| of(&mut dice)).collect();
            values.sort_by(f64::total_cmp);
            let mean = values.iter().sum::<f64>() / 20_000.0;
            (values[10_000], mean)
        };
        let near = |a: f64, b: f64| assert!((a / b - 1.0).abs() < 0.05, "{a} is not {b}");
        near(draw(&mut |d| d.log_normal(71.1, 0.6)).0, 71.1);
        near(draw(&mut |d| d.weibull(24.0, 0.6)).0, 24.0);
        near(draw(&mut |d| d.exponential(3.0)).1, 3.0);
        near(draw(&mut |d| d.beta(5.0, 2.0)).1, 5.0 / 7.0);
        assert_ne!(Dice::new(1, &[2]).unit(), Dice::new(1, &[3]).unit());
    }
}
