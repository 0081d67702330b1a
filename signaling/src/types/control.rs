//! Mode and layout: what feeds the program, and the report of a switch.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Invalid, ParticipantId, WallTime};

/// Most tiles of a layout.
const MAX_TILES: usize = 16;

/// What feeds the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The host alone.
    Solo,
    /// The mix of the participants.
    Collab,
}

/// `PUT …/mode`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ModeRequest {
    /// The mode to be in.
    pub mode: Mode,
    /// The layout of the mix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<LayoutName>,
    /// Who is in the mix, in the order of the tiles; everybody when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub participants: Option<Vec<ParticipantId>>,
}

/// What a switch did. `200` is answered when the first access unit of the new mode is published.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SwitchReport {
    /// The mode that the channel is in.
    pub mode: Mode,
    /// False when the channel was in that mode already; then `cut` and `splice` are null.
    pub changed: bool,
    /// When the request arrived.
    pub requested_at: WallTime,
    /// The video cut.
    #[schema(required)]
    pub cut: Option<Cut>,
    /// The audio splice.
    #[schema(required)]
    pub splice: Option<Splice>,
}

/// A switch that happened, as `GET …/switches` lists it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SwitchRecord {
    /// Its place among the switches of the channel, from 1 on.
    #[schema(minimum = 1)]
    pub number: u64,
    /// The mode that the channel was in from then on.
    pub mode: Mode,
    /// When it was asked for, or became necessary.
    pub requested_at: WallTime,
    /// The video cut; null when the program showed the right picture already, because the mixer had died.
    #[schema(required)]
    pub cut: Option<Cut>,
    /// The audio splice; null without a cut.
    #[schema(required)]
    pub splice: Option<Splice>,
}

impl SwitchRecord {
    /// Its key in a list: ascending as text too.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{:020}", self.number)
    }
}

/// Where the program changed its source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Cut {
    /// Decode time of the first picture of the new source, since the channel epoch.
    pub video_dts_ms: f64,
    /// Decode time of the first sound of the new source, since the channel epoch.
    pub audio_dts_ms: f64,
    /// From the request to the cut.
    pub waited_ms: f64,
}

/// How the sound was joined.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Splice {
    /// The method, for example `crossfade` or `bitstream`.
    #[schema(example = "crossfade")]
    pub method: String,
    /// Length of the fade.
    pub fade_ms: f64,
    /// Samples missing at the joint.
    pub gap_samples: u64,
    /// Samples heard twice at the joint.
    pub overlap_samples: u64,
}

/// The layouts that the mixer knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LayoutName {
    /// Equal tiles.
    Grid,
    /// Two halves.
    SideBySide,
    /// The one who speaks large, the others small.
    Speaker,
    /// The host full size, a guest in a corner.
    Pip,
    /// The tiles of the request.
    Custom,
}

/// One participant's place in the picture; fractions of its width and height.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Tile {
    /// Whose picture it is.
    pub participant: ParticipantId,
    /// Left edge, 0 to 1.
    #[schema(minimum = 0.0, maximum = 1.0)]
    pub x: f32,
    /// Upper edge, 0 to 1.
    #[schema(minimum = 0.0, maximum = 1.0)]
    pub y: f32,
    /// Width, above 0, at most 1.
    #[schema(exclusive_minimum = 0.0, maximum = 1.0)]
    pub width: f32,
    /// Height, above 0, at most 1.
    #[schema(exclusive_minimum = 0.0, maximum = 1.0)]
    pub height: f32,
}

/// `PUT …/layout`, and its answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Layout {
    /// Which layout.
    pub name: LayoutName,
    /// The tiles, back to front: needed for `custom`, not allowed for the others.
    #[serde(default)]
    #[schema(max_items = 16)]
    pub tiles: Vec<Tile>,
    /// Colour behind the tiles, `#rrggbb`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^#[0-9a-fA-F]{6}$")]
    pub background: Option<String>,
}

impl Layout {
    /// Checks what the types cannot say.
    pub fn validate(self) -> Result<Self, Invalid> {
        let custom = self.name == LayoutName::Custom;
        if custom == self.tiles.is_empty() {
            let reason = "must be given for the layout custom and only for it";
            return Err(Invalid::new("tiles", reason));
        }
        if self.tiles.len() > MAX_TILES {
            return Err(Invalid::new(
                "tiles",
                format!("must be at most {MAX_TILES}"),
            ));
        }
        for (at, tile) in self.tiles.iter().enumerate() {
            let inside = |from: f32, size: f32| from >= 0.0 && size > 0.0 && from + size <= 1.000_1;
            if !inside(tile.x, tile.width) || !inside(tile.y, tile.height) {
                let reason = "must lie inside the picture: x, y, width, height are fractions of it";
                return Err(Invalid::new(format!("tiles[{at}]"), reason));
            }
        }
        let hex = |text: &str| {
            let digits = text.strip_prefix('#').unwrap_or_default();
            digits.len() == 6 && digits.bytes().all(|b| b.is_ascii_hexdigit())
        };
        if self.background.as_deref().is_some_and(|text| !hex(text)) {
            return Err(Invalid::new("background", "must be a colour like #101820"));
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(json: serde_json::Value) -> Result<Layout, Invalid> {
        serde_json::from_value::<Layout>(json).unwrap().validate()
    }

    #[test]
    fn records_of_switches_sort_by_their_key() {
        let record = |number| SwitchRecord {
            number,
            mode: Mode::Solo,
            requested_at: WallTime::default(),
            cut: None,
            splice: None,
        };
        let keys = [9, 10, 99, 100, u64::MAX].map(|number| record(number).key());
        assert!(keys.is_sorted(), "{keys:?}");
    }

    #[test]
    fn layouts_are_checked() {
        use serde_json::json;
        assert!(layout(json!({"name": "grid"})).is_ok());
        let tile = |x: f32, width: f32| json!({"participant": "a", "x": x, "y": 0, "width": width, "height": 1});
        assert!(layout(json!({"name": "custom", "tiles": [tile(0.5, 0.5)]})).is_ok());
        let field = |json| layout(json).unwrap_err().field;
        assert_eq!(field(json!({"name": "custom"})), "tiles");
        assert_eq!(
            field(json!({"name": "grid", "tiles": [tile(0.0, 1.0)]})),
            "tiles"
        );
        assert_eq!(
            field(json!({"name": "custom", "tiles": [tile(0.6, 0.5)]})),
            "tiles[0]"
        );
        assert_eq!(
            field(json!({"name": "custom", "tiles": [tile(0.0, 0.0)]})),
            "tiles[0]"
        );
        assert_eq!(
            field(json!({"name": "pip", "background": "red"})),
            "background"
        );
    }
}
