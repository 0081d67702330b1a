//! Text into pixels: names as people write them, in any script that there is a font for.
//!
//! A font is part of the program, so that Latin, Greek, Cyrillic, Arabic and Hebrew look the same on every machine. The
//! fonts of the system are looked for only once something has no glyph in it, which may take a moment.
//!
//! Invariant: text is only ever text. What comes from outside goes through [`clean`] and is never read as markup.

use std::sync::Arc;

use cosmic_text::fontdb::{Database, Source};
use cosmic_text::{
    Align, Attrs, Buffer, Color, Ellipsize, EllipsizeHeightLimit, Family, FontSystem, Metrics,
    Shaping, SwashCache, Weight, Wrap,
};
use unicode_segmentation::UnicodeSegmentation;

use super::sprite::{Drawing, MAX_SIDE, Rgb};

/// No text is longer than this, in characters; what is over is cut off. No tile has room for more.
const MAX_CHARS: usize = 160;

/// Distance of lines, as a multiple of the size.
const LEADING: f32 = 1.3;

/// The middle of capital letters above the line that letters stand on, as a part of the size.
pub(super) const MIDDLE: f32 = 0.36;

/// How a text is set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    /// The size of the font in pixels.
    pub(super) size_px: f32,
    /// Lines are no wider than this; what is over is ellipsised.
    pub(super) width_px: f32,
    /// The most lines.
    pub(super) lines: usize,
    pub(super) ink: Rgb,
}

/// Text that has been set: just as wide as it is.
#[derive(Clone, Debug)]
pub(super) struct Text {
    pub(super) drawing: Drawing,
    /// Where the letters of the first line stand, from the top.
    pub(super) baseline_px: f32,
}

/// Sets text. Keeps fonts; keeps no text.
pub(super) struct Typesetter {
    fonts: FontSystem,
    /// The fonts of the system have been looked for.
    searched: bool,
}

impl Default for Typesetter {
    fn default() -> Self {
        let mut fonts = Database::new();
        fonts.load_font_source(Source::Binary(Arc::new(dejavu::sans::bold())));
        Self {
            fonts: FontSystem::new_with_locale_and_db("en-US".into(), fonts),
            searched: false,
        }
    }
}

impl Typesetter {
    /// Sets a cleaned text. Several lines stand centred.
    pub(super) fn set(&mut self, text: &str, style: Style) -> Text {
        let mut buffer = self.shape(text, style);
        let unknown = |buffer: &Buffer| {
            let mut runs = buffer.layout_runs();
            runs.any(|run| run.glyphs.iter().any(|glyph| glyph.glyph_id == 0))
        };
        if !self.searched && unknown(&buffer) {
            self.searched = true;
            self.fonts.db_mut().load_system_fonts();
            buffer = self.shape(text, style);
        }
        self.draw(&buffer, style)
    }

    fn shape(&mut self, text: &str, style: Style) -> Buffer {
        let line_px = style.size_px * LEADING;
        let mut buffer = Buffer::new(&mut self.fonts, Metrics::new(style.size_px, line_px));
        buffer.set_wrap(if style.lines > 1 {
            Wrap::WordOrGlyph
        } else {
            Wrap::None
        });
        let limit = EllipsizeHeightLimit::Lines(style.lines);
        buffer.set_ellipsize(Ellipsize::End(limit));
        buffer.set_size(Some(style.width_px), None);
        let attributes = Attrs::new()
            .family(Family::Name("DejaVu Sans"))
            .weight(Weight::BOLD);
        buffer.set_text(text, &attributes, Shaping::Advanced, Some(Align::Left));
        buffer.shape_until_scroll(&mut self.fonts, false);
        buffer
    }

    fn draw(&mut self, buffer: &Buffer, style: Style) -> Text {
        let runs = || buffer.layout_runs().take(style.lines);
        // Where the ink of a line begins and ends.
        let extent = |run: &cosmic_text::LayoutRun<'_>| {
            let from = run.glyphs.iter().map(|glyph| glyph.x).reduce(f32::min);
            let ends = run.glyphs.iter().map(|glyph| glyph.x + glyph.w);
            (from.unwrap_or(0.0), ends.reduce(f32::max).unwrap_or(0.0))
        };
        let widths = runs().map(|run| extent(&run)).map(|(from, to)| to - from);
        let width = widths.fold(0.0, f32::max).min(style.width_px);
        let bottom = runs().map(|run| run.line_top + run.line_height);
        let height = bottom.fold(0.0, f32::max);
        let mut drawing = Drawing::new(pixels(width), pixels(height));
        let [red, green, blue] = style.ink;
        let mut glyphs = SwashCache::new();
        for run in runs() {
            let (from, to) = extent(&run);
            let shift = (width - (to - from)) / 2.0 - from;
            for glyph in run.glyphs {
                let placed = glyph.physical((shift, run.line_y), 1.0);
                let ink = Color::rgb(red, green, blue);
                glyphs.with_pixels(&mut self.fonts, placed.cache_key, ink, |x, y, colour| {
                    let (red, green, blue, alpha) = colour.as_rgba_tuple();
                    let (x, y) = (placed.x.saturating_add(x), placed.y.saturating_add(y));
                    drawing.dot(x, y, [red, green, blue], alpha);
                });
            }
        }
        let first = runs().next();
        Text {
            drawing,
            baseline_px: first.map_or(0.0, |run| run.line_y),
        }
    }
}

/// Whole pixels, at most [`MAX_SIDE`].
pub(super) fn pixels(length: f32) -> usize {
    let most = f32::from(u16::try_from(MAX_SIDE).unwrap_or(u16::MAX));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped; a cast of NaN is 0"
    )]
    let pixels = length.ceil().clamp(0.0, most) as usize;
    pixels
}

/// A text without what is not to be seen: control characters, direction overrides, runs of blanks. At most [`MAX_CHARS`].
#[must_use]
pub fn clean(text: &str) -> String {
    let seen = text.chars().filter(|c| !is_hidden(*c));
    let plain: String = seen
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_CHARS * 2)
        .collect();
    let words: Vec<&str> = plain.split_whitespace().collect();
    words.join(" ").chars().take(MAX_CHARS).collect()
}

/// Characters that steer how others are shown. Joiners stay: scripts need them.
fn is_hidden(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// One or two letters that stand for a cleaned name; a question mark for a name without letters and digits.
#[must_use]
pub fn initials(name: &str) -> String {
    let letter = |word: &str| {
        word.graphemes(true)
            .find(|cluster| cluster.chars().next().is_some_and(char::is_alphanumeric))
            // Letters with a tower of marks are reduced to the letter.
            .map(|cluster| cluster.chars().take(3).collect::<String>().to_uppercase())
    };
    let separators = |c: char| c.is_whitespace() || "-_.@,/".contains(c);
    let letters: Vec<String> = name.split(separators).filter_map(letter).collect();
    match letters.as_slice() {
        [] => "?".into(),
        [only] => only.clone(),
        [first, .., last] => format!("{first}{last}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STYLE: Style = Style {
        size_px: 20.0,
        width_px: 200.0,
        lines: 1,
        ink: [255; 3],
    };

    #[test]
    fn initials_are_first_letters() {
        let cases = [
            ("Ada Lovelace", "AL"),
            ("guest-1", "G1"),
            ("host", "H"),
            ("Mary Ann van Dyke", "MD"),
            ("  ", "?"),
            ("", "?"),
            ("\u{1f600}", "?"),
            ("(Zoë) ß", "ZSS"),
            ("李 小龙", "李小"),
        ];
        for (name, expected) in cases {
            assert_eq!(initials(&clean(name)), expected, "{name:?}");
        }
    }

    #[test]
    fn what_steers_is_taken_out() {
        assert_eq!(clean("  a\u{202e}b\t\n c\u{0} "), "ab c");
        assert_eq!(clean("<b>&amp;</b>"), "<b>&amp;</b>");
        assert_eq!(clean(&"x".repeat(10_000)).len(), MAX_CHARS);
    }

    #[test]
    fn long_lines_are_ellipsised() {
        let mut typesetter = Typesetter::default();
        let short = typesetter.set("Ada", STYLE).drawing;
        assert!((20..80).contains(&short.width()), "{}", short.width());
        let long = typesetter.set(&"Ada Lovelace ".repeat(9), STYLE).drawing;
        assert!((150..=200).contains(&long.width()), "{}", long.width());
        assert_eq!(long.height(), short.height());
        let cut = typesetter.shape(&"Ada Lovelace ".repeat(9), STYLE);
        let last = cut
            .layout_runs()
            .flat_map(|run| run.glyphs.last().map(|g| g.glyph_id));
        let dots = typesetter.shape("\u{2026}", STYLE);
        let dots = dots
            .layout_runs()
            .flat_map(|run| run.glyphs.last().map(|g| g.glyph_id));
        assert_eq!(last.collect::<Vec<_>>(), dots.collect::<Vec<_>>());
    }

    #[test]
    fn scripts_are_shaped() {
        let mut typesetter = Typesetter::default();
        // Arabic letters join: another form than each of them alone.
        let joined = typesetter.set("سلام", STYLE).drawing.width();
        let apart = typesetter.set("س ل ا م", STYLE).drawing.width();
        assert!(joined < apart, "{joined} {apart}");
    }

    #[test]
    fn hostile_names_are_set() {
        let mut typesetter = Typesetter::default();
        let zalgo = format!("a{}", "\u{301}".repeat(500));
        for name in [
            "",
            " ",
            "\u{0}\u{7}\u{1b}[31m",
            "\u{202e}evil\u{202c}",
            "<span size='99999'>x</span>",
            "👩‍👩‍👧‍👦 family 🇪🇺",
            "עברית and English",
            "नमस्ते",
            "日本語",
            "\u{10ffff}\u{e000}\u{fffd}",
            &zalgo,
            &"w".repeat(10_000),
        ] {
            let text = typesetter.set(&clean(name), STYLE);
            assert!(text.drawing.width() <= 200, "{name:?}");
            assert!(text.drawing.height() <= 30, "{name:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn any_name_survives(name in any::<String>(), size in 1u16..60, width in 0u16..400, lines in 1usize..4) {
            let mut typesetter = Typesetter { searched: true, ..Typesetter::default() };
            let style = Style { size_px: size.into(), width_px: width.into(), lines, ink: [0; 3] };
            let text = typesetter.set(&clean(&name), style);
            prop_assert!(text.drawing.width() <= usize::from(width));
            prop_assert!(!initials(&clean(&name)).is_empty());
        }
    }
}
