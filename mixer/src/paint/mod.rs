//! What the mixer draws itself: names, placeholders, the slate, round corners. Pure: a plan and a frame in, pixels out.
//!
//! Whatever takes time (setting text, reading pictures) is made once, by an [`Artist`] on a thread of its own, and kept;
//! a frame only gets finished pieces laid on. What is not finished is left out, and nothing waits for it.
//!
//! ```text
//! plan, frame ─► Painter ─ Order ─► Artist
//!                   ▲                 │
//!                   └───── Made ──────┘
//! ```
//!
//! Invariants:
//! - A tile is drawn on inside its rectangle only, and never on a tile in front of it.
//! - At most [`MAX_PIECES`] pieces are kept; the one that was not used for longest gives way.

mod artist;
mod backdrop;
mod badge;
mod corner;
mod frame;
mod sprite;
mod text;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use media::link::{Configure, Scene};

pub use artist::Artist;
pub use backdrop::{Backdrop, Look, MAX_FILE_BYTES};
pub use frame::{Area, Colour, Frame, Picture, Window};
pub use sprite::Sprite;
pub use text::{clean, initials};

use crate::director::{Plan, PlanTile};
use crate::layout::{Rect, Size};
use corner::Corners;

/// The most pieces that are kept: caption and disc of sixteen participants, before and after a change of layout.
pub const MAX_PIECES: usize = 64;

/// The panel of a tile without a picture.
const PANEL: [u8; 3] = [34, 39, 48];

/// The roundest corners, as a part of the picture's height.
const ROUNDEST: u32 = 16;

/// A finished part of a tile.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Piece {
    /// A name on a bar.
    Caption {
        /// As it came.
        name: Arc<str>,
        /// The size of the font.
        font_px: u32,
        /// The widest bar.
        width_px: u32,
    },
    /// Initials in a disc.
    Disc {
        /// As it came.
        name: Arc<str>,
        /// The size of the disc.
        diameter_px: u32,
    },
}

impl Piece {
    /// Another size of the same.
    fn resembles(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Caption { name, .. }, Self::Caption { name: other, .. })
            | (Self::Disc { name, .. }, Self::Disc { name: other, .. }) => name == other,
            (Self::Caption { .. }, Self::Disc { .. })
            | (Self::Disc { .. }, Self::Caption { .. }) => false,
        }
    }
}

/// Something to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// A piece of a tile.
    Piece(Piece),
    /// What lies behind the tiles, and the slate.
    Backdrop(Look),
}

/// Something that has been made.
#[derive(Clone, Debug)]
pub enum Made {
    /// A piece of a tile.
    Piece(Piece, Sprite),
    /// What lies behind the tiles, and the slate.
    Backdrop(Look, Backdrop),
}

#[derive(Debug)]
struct Kept {
    sprite: Option<Arc<Sprite>>,
    /// The frame that used it last.
    used: u64,
}

/// Draws on frames.
#[derive(Debug)]
pub struct Painter {
    size: Size,
    names: bool,
    corners: Corners,
    panel: Colour,
    pieces: BTreeMap<Piece, Kept>,
    orders: VecDeque<Order>,
    look: Look,
    /// The look of the backdrop.
    drawn: Look,
    backdrop: Backdrop,
    /// The background has changed.
    fresh: bool,
    frames: u64,
}

impl Painter {
    /// A painter before the first scene: all is black.
    #[must_use]
    pub fn new(config: &Configure) -> Self {
        let size = Size {
            width: config.width,
            height: config.height,
        };
        let radius = config.corner_radius_px.min(size.height / ROUNDEST);
        Self {
            size,
            names: config.names,
            corners: Corners::new(radius),
            panel: Colour::from_rgb(PANEL),
            pieces: BTreeMap::new(),
            orders: VecDeque::new(),
            look: Look::default(),
            drawn: Look::default(),
            backdrop: Backdrop::black(size),
            fresh: true,
            frames: 0,
        }
    }

    /// Follows a scene. Until its background and slate are made, those before it stay.
    pub fn follow(&mut self, scene: &Scene) {
        let look = Look::from(scene);
        if look != self.look {
            self.look = look.clone();
            self.orders
                .retain(|order| !matches!(order, Order::Backdrop(_)));
            self.orders.push_back(Order::Backdrop(look));
        }
    }

    /// What is to be made.
    pub fn poll_output(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    /// Takes what has been made; what is not wanted any more is dropped.
    pub fn handle(&mut self, made: Made) {
        match made {
            Made::Piece(piece, sprite) => {
                if let Some(kept) = self.pieces.get_mut(&piece) {
                    kept.sprite = Some(Arc::new(sprite));
                }
            }
            Made::Backdrop(look, backdrop) => {
                if look == self.look {
                    self.fresh |= backdrop.background != self.backdrop.background;
                    self.drawn = look;
                    self.backdrop = backdrop;
                }
            }
        }
    }

    /// An order cannot be carried out now; it is given again when needed.
    pub fn refused(&mut self, order: Order) {
        match order {
            Order::Piece(piece) => {
                self.pieces.remove(&piece);
            }
            Order::Backdrop(look) => {
                if look == self.look {
                    self.orders.push_back(Order::Backdrop(look));
                }
            }
        }
    }

    /// The background, each time that it has changed; black at first.
    pub fn take_background(&mut self) -> Option<Picture> {
        std::mem::take(&mut self.fresh).then(|| self.backdrop.background.clone())
    }

    /// Draws on a frame that shows the background and the pictures of a plan. False while something is still being made.
    pub fn paint(&mut self, plan: &Plan, frame: &mut Frame<'_>) -> bool {
        self.frames += 1;
        let mut complete = self.drawn == self.look;
        if plan.slate {
            if let Some(slate) = &self.backdrop.slate {
                frame.copy(slate);
            }
            return complete;
        }
        for (at, tile) in plan.tiles.iter().enumerate() {
            let in_front = plan.tiles.iter().skip(at + 1);
            let window = Window::new(tile.rect().into(), in_front.map(|tile| tile.rect().into()));
            complete &= self.paint_tile(tile, frame, &window);
        }
        complete
    }

    fn paint_tile(&mut self, tile: &PlanTile, frame: &mut Frame<'_>, window: &Window) -> bool {
        let area = Area::from(tile.rect());
        let settled = size_of(tile.settled);
        let opacity = opacity(tile.opacity);
        let mut complete = true;
        let caption = badge::caption_size(settled, self.size);
        if !tile.picture {
            frame.fill(area, window, self.panel, opacity);
            let (diameter_px, lift_px) = badge::disc_size(settled, caption);
            let disc = Piece::Disc {
                name: Arc::clone(&tile.name),
                diameter_px,
            };
            let lift = i32::try_from(lift_px).unwrap_or(0);
            complete &= self.lay(&disc, frame, window, opacity, |disc| {
                let left = area.left + (area.width() - disc.width()) / 2;
                let top = area.top + (area.height() - disc.height()) / 2;
                (left, top - lift)
            });
        }
        // Who is missing is said in any case.
        if let Some(size) = caption.filter(|_| self.names || !tile.picture) {
            let caption = Piece::Caption {
                name: Arc::clone(&tile.name),
                font_px: size.font_px,
                width_px: size.width_px,
            };
            let margin = i32::try_from(size.margin_px).unwrap_or(0);
            complete &= self.lay(&caption, frame, window, opacity, |caption| {
                let top = area.bottom - margin - caption.height();
                (area.left + margin, top)
            });
        }
        if tile.tile.inset {
            self.corners.on_picture(frame, area, window, opacity);
        } else if size_of(tile.settled) != self.size {
            let background = &self.backdrop.background;
            self.corners.on_background(frame, area, window, background);
        }
        complete
    }

    /// Lays a piece on the frame: this one, else another size of it. False while this one is being made.
    fn lay(
        &mut self,
        piece: &Piece,
        frame: &mut Frame<'_>,
        window: &Window,
        opacity: u32,
        place: impl Fn(&Sprite) -> (i32, i32),
    ) -> bool {
        let ready = self.piece(piece);
        let complete = ready.is_some();
        if let Some(sprite) = ready.or_else(|| self.stand_in(piece)) {
            sprite.lay_on(frame, place(&sprite), window, opacity);
        }
        complete
    }

    fn piece(&mut self, piece: &Piece) -> Option<Arc<Sprite>> {
        if let Some(kept) = self.pieces.get_mut(piece) {
            kept.used = self.frames;
            return kept.sprite.clone();
        }
        if self.pieces.len() >= MAX_PIECES {
            let oldest = self.pieces.iter().min_by_key(|(_, kept)| kept.used);
            let oldest = oldest.filter(|(_, kept)| kept.used < self.frames)?;
            let oldest = oldest.0.clone();
            self.pieces.remove(&oldest);
        }
        let kept = Kept {
            sprite: None,
            used: self.frames,
        };
        self.pieces.insert(piece.clone(), kept);
        self.orders.push_back(Order::Piece(piece.clone()));
        None
    }

    fn stand_in(&self, piece: &Piece) -> Option<Arc<Sprite>> {
        let similar = self
            .pieces
            .iter()
            .filter(|(known, kept)| kept.sprite.is_some() && known.resembles(piece));
        let newest = similar.max_by_key(|(_, kept)| kept.used);
        newest.and_then(|(_, kept)| kept.sprite.clone())
    }
}

fn size_of(rect: Rect) -> Size {
    Size {
        width: rect.width,
        height: rect.height,
    }
}

/// 0 to 1 as 0 to 256.
fn opacity(value: f64) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped; a cast of NaN is 0"
    )]
    let opacity = (value.clamp(0.0, 1.0) * 256.0).round() as u32;
    opacity
}

#[cfg(test)]
mod tests;
