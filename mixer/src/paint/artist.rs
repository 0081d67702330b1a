//! Makes what the painter orders; this is what takes time.

use media::link::ImageRef;

use super::text::{Typesetter, clean};
use super::{Made, Order, Piece, Sprite, backdrop, badge};
use crate::layout::Size;

/// Sets text and reads pictures.
pub struct Artist {
    typesetter: Typesetter,
    size: Size,
}

impl Artist {
    /// An artist for output pictures of a size.
    #[must_use]
    pub fn new(size: Size) -> Self {
        Self {
            typesetter: Typesetter::default(),
            size,
        }
    }

    /// Makes what is ordered. `read` gives the bytes of an image, or says why not. Also gives what could not be done as
    /// ordered.
    pub fn make(
        &mut self,
        order: Order,
        read: impl Fn(&ImageRef) -> Result<Vec<u8>, String>,
    ) -> (Made, Vec<String>) {
        match order {
            Order::Piece(piece) => {
                let sprite = self.piece(&piece);
                (Made::Piece(piece, sprite), Vec::new())
            }
            Order::Backdrop(look) => {
                let (backdrop, problems) =
                    backdrop::draw(&mut self.typesetter, &look, self.size, read);
                (Made::Backdrop(look, backdrop), problems)
            }
        }
    }

    fn piece(&mut self, piece: &Piece) -> Sprite {
        let typesetter = &mut self.typesetter;
        match piece {
            Piece::Caption {
                name,
                font_px,
                width_px,
            } => {
                let name = clean(name);
                if name.is_empty() {
                    return Sprite::default();
                }
                badge::caption(typesetter, &name, *font_px, *width_px)
            }
            Piece::Disc { name, diameter_px } => {
                badge::disc(typesetter, &clean(name), *diameter_px)
            }
        }
    }
}
