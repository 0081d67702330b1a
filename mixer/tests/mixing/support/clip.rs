//! Coded clips with known content, and what became of them.
//!
//! A frame is one colour with its number drawn into the top: a row of blocks, light for 1, and below it the same
//! row inverted, so that a wrong reading is noticed.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::thread;

use bytes::Bytes;
use media::h264::{self, annexb_nals, nal_type, nal_unit_type};

/// Bits of a frame number.
const BITS: usize = 10;

/// A colour in Y, Cb, Cr.
pub(crate) type Colour = [u8; 3];

pub(crate) const RED: Colour = [81, 90, 240];
pub(crate) const GREEN: Colour = [145, 54, 34];
pub(crate) const BLUE: Colour = [60, 212, 114];

/// A coded clip: one picture per entry.
pub(crate) struct Clip {
    pub(crate) config: h264::Config,
    /// Whether it is an IDR, and its bytes in AVCC form.
    pub(crate) pictures: Vec<(bool, Bytes)>,
}

/// Draws `frames` numbered frames and codes them, with an IDR every `gop` frames.
pub(crate) fn clip(width: usize, height: usize, colour: Colour, frames: usize, gop: usize) -> Clip {
    let raw = (0..frames).flat_map(|number| draw(width, height, colour, number));
    let size = format!("{width}x{height}");
    let params = format!(
        "keyint={gop}:min-keyint={gop}:scenecut=0:bframes=0:slices=1:sliced-threads=0:colorprim=bt709:transfer=bt709:colormatrix=bt709"
    );
    let coded = ffmpeg(
        &[
            "-f",
            "rawvideo",
            "-pix_fmt",
            "yuv420p",
            "-s",
            &size,
            "-r",
            "30",
            "-i",
            "-",
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-tune",
            "zerolatency",
            "-profile:v",
            "baseline",
            "-x264-params",
            &params,
            "-f",
            "h264",
            "-",
        ],
        raw.collect(),
    );
    let mut sets = (None, None);
    let mut pictures = Vec::new();
    for nal in annexb_nals(&coded) {
        match nal_unit_type(nal) {
            nal_type::SPS => sets.0 = Some(Bytes::copy_from_slice(nal)),
            nal_type::PPS => sets.1 = Some(Bytes::copy_from_slice(nal)),
            kind @ (nal_type::SLICE | nal_type::IDR) => {
                pictures.push((kind == nal_type::IDR, h264::to_avcc([nal])));
            }
            _ => {}
        }
    }
    let (Some(sps), Some(pps)) = sets else {
        panic!("no parameter sets in the clip");
    };
    assert_eq!(pictures.len(), frames, "one slice per picture");
    Clip {
        config: h264::Config::new(sps, vec![pps]).expect("valid parameter sets"),
        pictures,
    }
}

fn draw(width: usize, height: usize, colour: Colour, number: usize) -> Vec<u8> {
    let mut luma = vec![colour[0]; width * height];
    let block = width / BITS;
    for row in 0..2 {
        for bit in 0..BITS {
            let one = (number >> bit & 1 == 1) != (row == 1);
            for y in row * height / 8..(row + 1) * height / 8 {
                luma[y * width + bit * block..][..block].fill(if one { 220 } else { 30 });
            }
        }
    }
    luma.extend(std::iter::repeat_n(colour[1], width * height / 4));
    luma.extend(std::iter::repeat_n(colour[2], width * height / 4));
    luma
}

/// A decoded output picture.
pub(crate) struct Frame {
    width: usize,
    height: usize,
    data: Vec<u8>,
}

/// A place in a frame.
#[derive(Clone, Copy)]
pub(crate) struct Area {
    pub(crate) x: usize,
    pub(crate) y: usize,
    pub(crate) width: usize,
    pub(crate) height: usize,
}

impl Frame {
    /// The number drawn into a clip's frame that fills `area`; `None` when there is none.
    pub(crate) fn number(&self, area: Area) -> Option<usize> {
        let mut number = 0;
        for bit in 0..BITS {
            let x = area.x + area.width * (2 * bit + 1) / (2 * BITS);
            let at = |eighth: usize| {
                self.data[(area.y + area.height * (2 * eighth + 1) / 16) * self.width + x] > 128
            };
            if at(0) == at(1) {
                return None;
            }
            number |= usize::from(at(0)) << bit;
        }
        Some(number)
    }

    /// The colour in the middle of the lower half of an area.
    pub(crate) fn colour(&self, area: Area) -> Colour {
        self.pixel(area.x + area.width / 2, area.y + area.height * 7 / 10)
    }

    /// The colour of a pixel.
    pub(crate) fn pixel(&self, x: usize, y: usize) -> Colour {
        let luma = self.width * self.height;
        let chroma = y / 2 * (self.width / 2) + x / 2;
        [
            self.data[y * self.width + x],
            self.data[luma + chroma],
            self.data[luma + luma / 4 + chroma],
        ]
    }
}

/// Whether two colours are the same but for coding and scaling.
pub(crate) fn near(a: Colour, b: Colour) -> bool {
    a.iter().zip(b).all(|(a, b)| a.abs_diff(b) < 24)
}

/// Decodes coded pictures; fails when the decoder complains.
pub(crate) fn decode<'a>(
    config: &h264::Config,
    pictures: impl IntoIterator<Item = &'a Bytes>,
) -> Vec<Frame> {
    let mut stream = Vec::new();
    let mut put = |nal: &[u8]| {
        stream.extend_from_slice(&[0, 0, 0, 1]);
        stream.extend_from_slice(nal);
    };
    put(&config.sps);
    config.pps.iter().for_each(|pps| put(pps));
    for picture in pictures {
        for nal in h264::avcc_nals(picture) {
            put(&nal.expect("AVCC"));
        }
    }
    let raw = ffmpeg(
        &[
            "-xerror",
            "-f",
            "h264",
            "-i",
            "-",
            "-fps_mode",
            "passthrough",
            "-f",
            "rawvideo",
            "-pix_fmt",
            "yuv420p",
            "-",
        ],
        stream,
    );
    let (width, height) = (config.width as usize, config.height as usize);
    let frame = |data: &[u8]| Frame {
        width,
        height,
        data: data.to_vec(),
    };
    raw.chunks_exact(width * height * 3 / 2)
        .map(frame)
        .collect()
}

fn ffmpeg(arguments: &[&str], input: Vec<u8>) -> Vec<u8> {
    let mut child = Command::new("ffmpeg")
        .args(["-hide_banner", "-loglevel", "error"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("ffmpeg is installed");
    let mut stdin = child.stdin.take().expect("piped");
    let feeding = thread::spawn(move || stdin.write_all(&input));
    let mut output = Vec::new();
    child
        .stdout
        .take()
        .expect("piped")
        .read_to_end(&mut output)
        .expect("readable");
    let _ = feeding.join();
    assert!(child.wait().expect("waited").success(), "ffmpeg failed");
    output
}
