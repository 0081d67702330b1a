//! From the colours of one standard to those of another, on luma and colour differences as they are stored.

use super::Target;

/// Parts of the stored values' difference are counted in this.
const ONE: f64 = 256.0;

/// What is added to each value, in 256ths of the colour differences. Limited range in both standards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matrix {
    luma: [i16; 2],
    cb: [i16; 2],
    cr: [i16; 2],
}

impl Matrix {
    /// From ITU-R BT.601 to BT.709 (luma coefficients of BT.601-7 §2.5.1 and BT.709-6 §3.2).
    #[must_use]
    pub fn bt601_to_bt709() -> Self {
        Self::between((0.299, 0.114), (0.2126, 0.0722))
    }

    /// From the luma coefficients of red and blue to others.
    fn between(from: (f64, f64), to: (f64, f64)) -> Self {
        // A colour difference alone, as red, green and blue without luma, seen by the other standard
        let seen = |cb: f64, cr: f64| {
            let (red, blue) = (2.0 * (1.0 - from.0) * cr, 2.0 * (1.0 - from.1) * cb);
            let green = -(from.0 * red + from.1 * blue) / (1.0 - from.0 - from.1);
            let luma = to.0 * red + (1.0 - to.0 - to.1) * green + to.1 * blue;
            let difference = |colour: f64, own: f64| (colour - luma) / (2.0 * (1.0 - own));
            // Luma has 219 steps where differences have 224
            (
                luma * 219.0 / 224.0,
                difference(blue, to.1),
                difference(red, to.0),
            )
        };
        let (of_cb, of_cr) = (seen(1.0, 0.0), seen(0.0, 1.0));
        Self {
            luma: [units(of_cb.0), units(of_cr.0)],
            cb: [units(of_cb.1 - 1.0), units(of_cr.1)],
            cr: [units(of_cb.2), units(of_cr.2 - 1.0)],
        }
    }

    /// Changes a picture whose colour differences have `width` columns.
    pub(super) fn apply(&self, width: usize, y: Target<'_>, cb: Target<'_>, cr: Target<'_>) {
        let mut added = vec![0; width];
        let pairs = y.0.chunks_mut(y.1.max(1) * 2);
        let differences =
            cb.0.chunks_mut(cb.1.max(1))
                .zip(cr.0.chunks_mut(cr.1.max(1)));
        for (pair, (cb, cr)) in pairs.zip(differences) {
            for ((cb, cr), added) in cb.iter_mut().zip(cr.iter_mut()).zip(&mut added) {
                let centred = [i16::from(*cb) - 128, i16::from(*cr) - 128];
                *added = change(self.luma, centred);
                *cb = clamped(i16::from(*cb) + change(self.cb, centred));
                *cr = clamped(i16::from(*cr) + change(self.cr, centred));
            }
            for line in pair.chunks_mut(y.1.max(1)) {
                for (pixels, added) in line.as_chunks_mut::<2>().0.iter_mut().zip(&added) {
                    *pixels = pixels.map(|pixel| clamped(i16::from(pixel) + added));
                }
            }
        }
    }
}

/// At most 128 times a little more than one in 256ths: 16 bits hold it.
fn change([of_cb, of_cr]: [i16; 2], [cb, cr]: [i16; 2]) -> i16 {
    let sum = of_cb.wrapping_mul(cb).wrapping_add(of_cr.wrapping_mul(cr));
    sum.wrapping_add(128) >> 8
}

fn clamped(value: i16) -> u8 {
    u8::try_from(value.clamp(0, 255)).unwrap_or_default()
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "coefficients are below one"
)]
fn units(part: f64) -> i16 {
    (part * ONE).round() as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Luma and colour differences of a colour, limited range.
    fn stored([r, g, b]: [f64; 3], (kr, kb): (f64, f64)) -> [f64; 3] {
        let y = kr * r + (1.0 - kr - kb) * g + kb * b;
        [
            16.0 + 219.0 * y,
            128.0 + 224.0 * (b - y) / (2.0 * (1.0 - kb)),
            128.0 + 224.0 * (r - y) / (2.0 * (1.0 - kr)),
        ]
    }

    #[test]
    fn colours_stay_the_same_colours() {
        let steps = [0.0, 0.25, 0.6, 1.0];
        for r in steps {
            for g in steps {
                for b in steps {
                    #[expect(
                        clippy::cast_possible_truncation,
                        clippy::cast_sign_loss,
                        reason = "limited range"
                    )]
                    let before = stored([r, g, b], (0.299, 0.114)).map(|v| v.round() as u8);
                    let wanted = stored([r, g, b], (0.2126, 0.0722));
                    let [y, cb, cr] = before;
                    let (mut y, mut cb, mut cr) = ([y; 4], [cb], [cr]);
                    Matrix::bt601_to_bt709().apply(1, (&mut y, 2), (&mut cb, 1), (&mut cr, 1));
                    for (found, wanted) in [y[0], cb[0], cr[0]].into_iter().zip(wanted) {
                        assert!(
                            (f64::from(found) - wanted).abs() <= 1.7,
                            "{r} {g} {b}: {found} for {wanted}"
                        );
                    }
                    assert_eq!(y, [y[0]; 4]);
                }
            }
        }
    }
}
