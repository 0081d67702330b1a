//! What the picture is made of: who is in it, where, and on what background.

use serde::{Deserialize, Serialize};

/// The whole wish of the anchor for the picture. A scene replaces the one before it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scene {
    /// How the participants are arranged.
    #[serde(default)]
    pub layout: Layout,
    /// The inputs that are in the picture, in order; the host first. At most [`MAX_INPUTS`](super::MAX_INPUTS).
    #[serde(default)]
    pub order: Vec<u32>,
    /// Colour behind the tiles, `#rrggbb`; black when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub background: Option<String>,
    /// A picture behind the tiles, scaled to cover.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub background_image: Option<ImageRef>,
    /// What is shown while `order` is empty; the background alone when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slate: Option<Slate>,
    /// Without a transition: nobody sees the mix yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub at_once: bool,
}

/// An arrangement of tiles.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layout {
    /// Which arrangement.
    #[serde(default)]
    pub name: LayoutName,
    /// The tiles of [`LayoutName::Custom`], later ones in front; other layouts ignore them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tiles: Vec<Tile>,
}

/// The arrangements that a mixer knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LayoutName {
    /// Tiles of one size, 1 to 16.
    #[default]
    Grid,
    /// Columns of full height.
    SideBySide,
    /// The active speaker large, the others in a strip.
    Speaker,
    /// The first input fills the picture, the others lie small in its corner.
    Pip,
    /// Tiles as given.
    Custom,
}

/// A place in the picture for one input, in fractions of its width and height from the top left.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tile {
    /// The input it shows.
    pub input: u32,
    /// Left edge, 0 to 1.
    pub x: f32,
    /// Top edge, 0 to 1.
    pub y: f32,
    /// Width, 0 to 1.
    pub width: f32,
    /// Height, 0 to 1.
    pub height: f32,
    /// What happens when the input has another shape than the tile.
    #[serde(default)]
    pub fit: Fit,
}

/// How a picture is fitted into a tile of another shape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fit {
    /// Fill the tile and cut off what is over.
    #[default]
    Cover,
    /// Show everything, with background at two sides.
    Contain,
}

/// The picture of an empty scene.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slate {
    /// A line of text in the middle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// A picture, scaled to cover.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageRef>,
}

/// Where a picture is to be found: a PNG or a JPEG.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ImageRef {
    /// An image that came by [`ToMixer::Image`](super::ToMixer::Image), by its number.
    Sent(u32),
    /// A file on the mixer's machine.
    File(String),
}

impl std::fmt::Display for ImageRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sent(number) => write!(f, "image {number}"),
            Self::File(path) => write!(f, "`{path}`"),
        }
    }
}
