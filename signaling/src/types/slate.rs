//! The slate and the pictures of a channel: what stands for a host who is away, and what lies behind the tiles.

use bytes::Bytes;
use media::{StillFormat, StillHead};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Invalid;

/// Longest text of a slate, in characters.
const MAX_TEXT: usize = 200;
/// Most lines of it.
const MAX_LINES: usize = 4;
/// The widest and highest picture, in pixels: a mixer decodes it whole.
const MAX_SIDE: u32 = 4_096;

/// What the program shows while the host is away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Slate {
    /// What it says; empty: nothing. Absent: what the node's configuration says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The picture that was uploaded for it. Absent: the node's, else what lies behind the tiles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picture: Option<Still>,
    /// The picture that was uploaded for behind the tiles, and behind the slate when it has none. Absent: the node's, else the
    /// layout's colour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub background: Option<Still>,
}

/// `PUT …/slate`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SlateRequest {
    /// At most 200 characters in at most four lines; empty: no text. Null or absent: what the node's configuration says.
    #[serde(default)]
    #[schema(max_length = 200)]
    pub text: Option<String>,
}

impl SlateRequest {
    /// Checks what the types cannot say.
    pub fn validate(self) -> Result<Self, Invalid> {
        let text = self.text.as_deref().unwrap_or_default();
        let strange = |c: char| c.is_control() && c != '\n';
        if text.chars().count() > MAX_TEXT || text.lines().count() > MAX_LINES {
            let reason = format!("must be at most {MAX_TEXT} characters in {MAX_LINES} lines");
            return Err(Invalid::new("text", reason));
        }
        if text.chars().any(strange) {
            return Err(Invalid::new("text", "must not have control characters"));
        }
        Ok(self)
    }
}

/// Which picture of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PicturePlace {
    /// On the slate.
    Slate,
    /// Behind the tiles.
    Background,
}

impl PicturePlace {
    /// As it stands in a path.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "slate" => Some(Self::Slate),
            "background" => Some(Self::Background),
            _ => None,
        }
    }
}

/// A picture that was uploaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Still {
    /// `image/png` or `image/jpeg`.
    #[schema(example = "image/png")]
    pub media_type: String,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Size of the file.
    pub bytes: u32,
}

/// A picture file whose head has been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// What it is.
    pub still: Still,
    /// The file.
    pub data: Bytes,
}

impl Upload {
    /// Checks the head of a file.
    pub fn new(data: Bytes) -> Result<Self, Invalid> {
        let invalid = |reason: String| Invalid::new("body", reason);
        let head = StillHead::read(&data).map_err(|error| invalid(error.to_string()))?;
        let StillHead {
            format,
            width,
            height,
        } = head;
        if width > MAX_SIDE || height > MAX_SIDE {
            return Err(invalid(format!(
                "the picture has {width}x{height} pixels: at most {MAX_SIDE} each way are possible"
            )));
        }
        let still = Still {
            media_type: StillFormat::media_type(format).to_owned(),
            width,
            height,
            bytes: u32::try_from(data.len()).unwrap_or(u32::MAX),
        };
        Ok(Self { still, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png(width: u32, height: u32) -> Bytes {
        let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
        bytes.extend(width.to_be_bytes());
        bytes.extend(height.to_be_bytes());
        bytes.into()
    }

    #[test]
    fn texts_are_bounded() {
        let check = |text: String| SlateRequest { text: Some(text) }.validate().is_ok();
        assert!(SlateRequest::default().validate().is_ok());
        assert!(check(String::new()) && check("Back soon\nat 12:30".into()));
        assert!(check("é".repeat(200)) && !check("é".repeat(201)));
        assert!(!check("a\nb\nc\nd\ne".into()) && !check("bell\u{7}".into()));
    }

    #[test]
    fn pictures_are_bounded() {
        let upload = Upload::new(png(4_096, 720)).unwrap();
        assert_eq!(
            (upload.still.media_type.as_str(), upload.still.bytes),
            ("image/png", 24)
        );
        assert!(
            Upload::new(png(4_097, 10))
                .unwrap_err()
                .reason
                .contains("4097x10")
        );
        assert!(Upload::new(png(0, 10)).is_err());
        assert!(Upload::new(Bytes::from_static(b"GIF89a")).is_err());
    }
}
