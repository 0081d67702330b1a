//! What lies behind the tiles, and the slate that stands where there are none: made once for a scene.

use std::io::Cursor;

use image::imageops::FilterType;
use image::{DynamicImage, ImageDecoder, ImageReader, Limits};
use media::link::{ImageRef, Scene, Slate};

use super::frame::{Colour, Picture, mix};
use super::sprite::{Drawing, Rgb, Sprite};
use super::text::{Style, Typesetter, clean, pixels};
use super::{Area, Window};
use crate::layout::Size;

/// No file of a picture is read beyond this, in bytes.
pub const MAX_FILE_BYTES: u64 = 32 << 20;

/// The largest width and height of a picture in a file.
const MAX_SIDE: u32 = 8_192;

/// The most memory that decoding one may take, in bytes.
const MAX_DECODED_BYTES: u64 = 256 << 20;

/// The most lines on a slate.
const SLATE_LINES: usize = 4;

/// What a scene wishes for behind and instead of tiles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    colour: Option<String>,
    image: Option<ImageRef>,
    slate: Option<Slate>,
}

impl From<&Scene> for Look {
    fn from(scene: &Scene) -> Self {
        Self {
            colour: scene.background.clone(),
            image: scene.background_image.clone(),
            slate: scene.slate.clone(),
        }
    }
}

/// A look, drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backdrop {
    /// Behind the tiles.
    pub background: Picture,
    /// Instead of tiles; `None`: the background alone.
    pub slate: Option<Picture>,
}

impl Backdrop {
    /// A black one.
    #[must_use]
    pub fn black(size: Size) -> Self {
        Self {
            background: Picture::plain(size, Colour::BLACK),
            slate: None,
        }
    }
}

/// Draws a look in a size. `read` gives the bytes of an image. What could not be done is said, and left out.
pub(super) fn draw(
    typesetter: &mut Typesetter,
    look: &Look,
    size: Size,
    read: impl Fn(&ImageRef) -> Result<Vec<u8>, String>,
) -> (Backdrop, Vec<String>) {
    let mut problems = Vec::new();
    let wanted = look.colour.as_deref().unwrap_or("#000000");
    let rgb = Colour::parse_rgb(wanted).unwrap_or_else(|| {
        problems.push(format!(
            "background: `{wanted}` is no colour like #101820; it is black"
        ));
        [0; 3]
    });
    let mut load = |what: &str, file: &Option<ImageRef>| {
        let file = file.as_ref()?;
        match read(file).and_then(|bytes| decode(&bytes)) {
            Ok(image) => Some(cover(image, size, rgb)),
            Err(why) => {
                problems.push(format!("{what} {file} cannot be shown: {why}"));
                None
            }
        }
    };
    let image = load("background image", &look.image);
    let front = look
        .slate
        .as_ref()
        .and_then(|slate| load("slate image", &slate.image));
    let background = image.as_ref().map_or_else(
        || Picture::plain(size, Colour::from_rgb(rgb)),
        |image| on_plain(image, size, rgb),
    );
    let slate = look.slate.as_ref().map(|slate| {
        let mut picture = front
            .as_ref()
            .map_or_else(|| background.clone(), |front| on_plain(front, size, rgb));
        let text = slate.text.as_deref().unwrap_or_default();
        let plain = (image.is_none() && front.is_none()).then_some(rgb);
        write(typesetter, &mut picture, text, plain);
        picture
    });
    (Backdrop { background, slate }, problems)
}

/// Decodes a PNG or a JPEG, the right way up, within bounds of memory.
fn decode(bytes: &[u8]) -> Result<DynamicImage, String> {
    let mut reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|error| error.to_string())?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    reader.limits(limits);
    let mut decoder = reader
        .into_decoder()
        .map_err(|error| format!("{error}; it can be a PNG or a JPEG"))?;
    let orientation = decoder.orientation().map_err(|error| error.to_string())?;
    let image = DynamicImage::from_decoder(decoder);
    let mut image = image.map_err(|error| error.to_string())?;
    image.apply_orientation(orientation);
    if image.width() == 0 || image.height() == 0 {
        return Err("it is empty".into());
    }
    Ok(image)
}

/// Scaled so that it covers a size; what is over is cut off at both sides. Transparent pixels show a colour.
fn cover(image: DynamicImage, size: Size, rgb: Rgb) -> Drawing {
    let image = image
        .resize_to_fill(size.width.max(1), size.height.max(1), FilterType::Triangle)
        .into_rgba8();
    Drawing::opaque(
        image.width(),
        image.pixels().map(|pixel| {
            let image::Rgba([red, green, blue, alpha]) = *pixel;
            let [under_red, under_green, under_blue] = rgb;
            [
                mix(under_red, red, alpha),
                mix(under_green, green, alpha),
                mix(under_blue, blue, alpha),
            ]
        }),
    )
}

fn on_plain(drawing: &Drawing, size: Size, rgb: Rgb) -> Picture {
    let mut picture = Picture::plain(size, Colour::from_rgb(rgb));
    if let Some(mut frame) = picture.frame() {
        let everything = Window::new(whole(size), []);
        Sprite::from(drawing).lay_on(&mut frame, (0, 0), &everything, 256);
    }
    picture
}

fn whole(size: Size) -> Area {
    let signed = |length: u32| i32::try_from(length).unwrap_or(i32::MAX);
    Area::at(0, 0, signed(size.width), signed(size.height))
}

/// Writes a text into the middle: on a bar, or straight on a plain colour.
fn write(typesetter: &mut Typesetter, picture: &mut Picture, text: &str, plain: Option<Rgb>) {
    let size = picture.size();
    let lines: Vec<String> = text
        .lines()
        .map(clean)
        .filter(|line| !line.is_empty())
        .take(SLATE_LINES)
        .collect();
    if lines.is_empty() {
        return;
    }
    let real = |length: u32| f32::from(u16::try_from(length).unwrap_or(u16::MAX));
    let Colour([luma, ..]) = plain.map_or(Colour::BLACK, Colour::from_rgb);
    let size_px = (real(size.height.min(size.width)) / 13.0).max(12.0);
    let style = Style {
        size_px,
        width_px: real(size.width) * 0.8,
        lines: SLATE_LINES,
        ink: if luma > 140 { [24; 3] } else { [245; 3] },
    };
    let text = typesetter.set(&lines.join("\n"), style).drawing;
    let padding = pixels(size_px * 0.6);
    let mut drawing = Drawing::new(text.width() + 2 * padding, text.height() + 2 * padding);
    if plain.is_none() {
        drawing.rounded(size_px * 0.35, [14, 17, 22], 0.62);
    }
    let inset = i32::try_from(padding).unwrap_or(0);
    drawing.lay(&text, inset, inset);
    let sprite = Sprite::from(&drawing);
    let area = whole(size);
    let middle = (
        (area.width() - sprite.width()) / 2,
        (area.height() - sprite.height()) / 2,
    );
    if let Some(mut frame) = picture.frame() {
        sprite.lay_on(&mut frame, middle, &Window::new(area, []), 256);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIZE: Size = Size {
        width: 160,
        height: 90,
    };

    fn none(_: &ImageRef) -> Result<Vec<u8>, String> {
        Err("no such file".into())
    }

    fn made(
        look: &Look,
        read: impl Fn(&ImageRef) -> Result<Vec<u8>, String>,
    ) -> (Backdrop, Vec<String>) {
        draw(&mut Typesetter::default(), look, SIZE, read)
    }

    fn png(width: u32, height: u32, pixel: impl Fn(u32, u32) -> [u8; 4]) -> Vec<u8> {
        let image = image::RgbaImage::from_fn(width, height, |x, y| image::Rgba(pixel(x, y)));
        let mut bytes = Cursor::new(Vec::new());
        image
            .write_to(&mut bytes, image::ImageFormat::Png)
            .expect("coded");
        bytes.into_inner()
    }

    fn colour(picture: &Picture, x: usize, y: usize) -> [u8; 3] {
        let [luma, cb, cr] = picture.planes();
        let chroma = y / 2 * 80 + x / 2;
        [luma[y * 160 + x], cb[chroma], cr[chroma]]
    }

    fn close(a: [u8; 3], b: [u8; 3]) -> bool {
        a.iter().zip(b).all(|(a, b)| a.abs_diff(b) <= 3)
    }

    #[test]
    fn colours_are_read() {
        assert_eq!(Colour::parse_rgb("#ff8000"), Some([255, 128, 0]));
        for wrong in [
            "", "#", "ff8000", "#ff80", "#ff80000", "#+f8000", "#ffé00", "red",
        ] {
            assert_eq!(Colour::parse_rgb(wrong), None, "{wrong}");
        }
        assert_eq!(Colour::from_rgb([255; 3]), Colour([235, 128, 128]));
        assert_eq!(Colour::from_rgb([0; 3]), Colour::BLACK);
        assert_eq!(Colour::from_rgb([255, 0, 0]), Colour([63, 102, 240]));
    }

    #[test]
    fn a_colour_fills() {
        let look = Look {
            colour: Some("#ff0000".into()),
            ..Look::default()
        };
        let (backdrop, problems) = made(&look, none);
        assert_eq!(
            backdrop.background,
            Picture::plain(SIZE, Colour([63, 102, 240]))
        );
        assert_eq!((backdrop.slate, problems.len()), (None, 0));
    }

    #[test]
    fn what_cannot_be_shown_is_told_and_leaves_it_plain() {
        let look = Look {
            colour: Some("red".into()),
            image: Some(ImageRef::File("a.png".into())),
            slate: Some(Slate {
                text: None,
                image: Some(ImageRef::Sent(7)),
            }),
        };
        let (backdrop, problems) = made(&look, none);
        assert_eq!(backdrop.background, Picture::plain(SIZE, Colour::BLACK));
        assert_eq!(backdrop.slate, Some(backdrop.background));
        assert_eq!(problems.len(), 3);
        assert!(problems[1].contains("a.png") && problems[1].contains("no such file"));
        let (_, problems) = made(&look, |_| Ok(b"GIF89a".to_vec()));
        assert!(problems[1].contains("PNG or a JPEG"), "{problems:?}");
    }

    #[test]
    fn an_image_covers_and_its_holes_show_the_colour() {
        // Twice as wide as the picture's shape: the outer quarters are cut off; the lower half is transparent.
        let bytes = png(320, 90, |x, y| match (x, y) {
            (_, 45..) => [0; 4],
            (80..240, _) => [0, 0, 255, 255],
            _ => [255, 0, 0, 255],
        });
        let look = Look {
            colour: Some("#ffffff".into()),
            image: Some(ImageRef::Sent(1)),
            slate: None,
        };
        let (backdrop, problems) = made(&look, |_| Ok(bytes.clone()));
        assert_eq!(problems, [""; 0]);
        let blue = Colour::from_rgb([0, 0, 255]).0;
        for x in [4, 80, 155] {
            assert!(close(colour(&backdrop.background, x, 20), blue), "{x}");
            assert!(close(colour(&backdrop.background, x, 70), [235, 128, 128]));
        }
    }

    #[test]
    fn a_slate_has_its_text_in_the_middle() {
        let look = |text: &str| Look {
            slate: Some(Slate {
                text: Some(text.into()),
                image: None,
            }),
            ..Look::default()
        };
        let bright = |text: &str| {
            let slate = made(&look(text), none).0.slate.expect("a slate");
            let lit = |(at, luma): (usize, &u8)| (*luma > 150).then_some((at % 160, at / 160));
            let lit: Vec<(usize, usize)> = slate.planes()[0]
                .iter()
                .enumerate()
                .filter_map(lit)
                .collect();
            lit
        };
        let lit = bright("Soon");
        assert!(lit.len() > 20, "{}", lit.len());
        assert!(
            lit.iter()
                .all(|(x, y)| (40..120).contains(x) && (30..60).contains(y))
        );
        let middle = lit.iter().map(|(x, _)| x).sum::<usize>() / lit.len();
        assert!((74..=86).contains(&middle), "{middle}");
        assert!(bright("<b>Soon</b>").len() > lit.len(), "no markup");
        assert_eq!(bright(" \n\u{7} "), []);
        bright(&"word ".repeat(5_000));
    }

    #[test]
    fn bombs_are_refused() {
        // A PNG that says that it is 100000 pixels wide and high.
        let mut bytes = png(1, 1, |_, _| [0; 4]);
        bytes[16..24].copy_from_slice(&[0, 1, 0x86, 0xa0, 0, 1, 0x86, 0xa0]);
        assert!(decode(&bytes).is_err());
    }

    proptest! {
        #[test]
        fn damaged_images_are_errors(cut in 0usize..200, at in 0usize..200, value in any::<u8>()) {
            let mut bytes = png(16, 16, |x, y| [u8::try_from(x * 16).unwrap(), u8::try_from(y * 16).unwrap(), 9, 255]);
            bytes.truncate(bytes.len().saturating_sub(cut));
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
            let _ = decode(&bytes);
        }

        #[test]
        fn bytes_that_are_no_images_survive(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&bytes);
        }
    }
}
