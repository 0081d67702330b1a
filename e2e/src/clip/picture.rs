//! Drawing frames and reading their number back.

/// Bits of a frame number in the picture.
pub const CODE_BITS: usize = 20;

/// Width and height in luma samples; both even.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureSize {
    /// Luma samples per line.
    pub width: usize,
    /// Lines.
    pub height: usize,
}

/// Side of one square of the code: the code spans the width.
#[must_use]
pub fn code_square(width: usize) -> usize {
    width / (2 * CODE_BITS) * 2
}

const WHITE: u8 = 235;
const BLACK: u8 = 16;

/// Draws frame `number` in 4:2:0: luma, then the two chroma planes.
#[must_use]
pub fn draw(size: PictureSize, fps: u32, number: u32) -> Vec<u8> {
    let PictureSize { width, height } = size;
    let square = code_square(width);
    let mut luma = vec![0u8; width * height];
    let shift = usize::try_from(number).unwrap_or_default() * 3;
    for (y, line) in luma.chunks_exact_mut(width).enumerate() {
        for (x, sample) in line.iter_mut().enumerate() {
            *sample = texture((x + shift) / 8, y / 8);
        }
    }
    for bit in 0..CODE_BITS {
        let one = number >> (CODE_BITS - 1 - bit) & 1 == 1;
        let (top, bottom) = if one { (WHITE, BLACK) } else { (BLACK, WHITE) };
        for y in 0..2 * square {
            let start = y * width + bit * square;
            luma[start..start + square].fill(if y < square { top } else { bottom });
        }
    }
    let flash = if number % fps < 2 { WHITE } else { BLACK };
    luma[(height - square) * width..].fill(flash);
    let chroma = width * height / 4;
    luma.extend(std::iter::repeat_n(110, chroma));
    luma.extend(std::iter::repeat_n(140, chroma));
    luma
}

/// A gray level between 60 and 180 for each block, by an integer hash.
fn texture(x: usize, y: usize) -> u8 {
    let mut hash = (x as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ (y as u64).wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
    hash ^= hash >> 29;
    hash = hash.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    u8::try_from(60 + (hash >> 32) % 120).unwrap_or(120)
}

/// The frame number in a luma plane; `None` when the check row disagrees.
#[must_use]
pub fn read_code(luma: &[u8], width: usize) -> Option<u32> {
    let square = code_square(width);
    let at = |row: usize, bit: usize| {
        let y = row * square + square / 2;
        luma.get(y * width + bit * square + square / 2)
            .map(|sample| *sample > 128)
    };
    let mut number = 0;
    for bit in 0..CODE_BITS {
        let (top, bottom) = (at(0, bit)?, at(1, bit)?);
        if top == bottom {
            return None;
        }
        number = number << 1 | u32::from(top);
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: PictureSize = PictureSize {
        width: 640,
        height: 360,
    };

    #[test]
    fn numbers_are_read_back() {
        for number in [0, 1, 29, 30, 12_345, (1 << CODE_BITS) - 1] {
            let frame = draw(SIZE, 30, number);
            assert_eq!(frame.len(), 640 * 360 * 3 / 2);
            assert_eq!(read_code(&frame, SIZE.width), Some(number));
        }
    }

    #[test]
    fn a_damaged_code_is_not_a_number() {
        let mut frame = draw(SIZE, 30, 77);
        let square = code_square(SIZE.width);
        for y in 0..square {
            frame[y * SIZE.width..][..square].fill(WHITE);
        }
        assert_eq!(read_code(&frame, SIZE.width), None);
    }
}
