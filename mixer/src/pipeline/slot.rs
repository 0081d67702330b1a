//! An input's pad of the compositor: follows the tiles of the plan.

use std::sync::{Mutex, MutexGuard, PoisonError};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_video as gst_video;
use media::link::Fit;

use super::Error;
use super::fitter::{Fitter, Wish};
use crate::director::PlanTile;
use crate::layout::{Rect, Size, contain, cut};

/// Where a pad draws: its rectangle, opacity and depth.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Placement {
    rect: Rect,
    opacity: f64,
    depth: u32,
}

#[derive(Debug, Default)]
struct State {
    /// The size of the input's pictures.
    picture: Size,
    /// How the plan wants it.
    shape: Option<Shape>,
    placement: Placement,
}

/// What a tile asks of the pictures in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    rect: Rect,
    fit: Fit,
    /// It does not move.
    rests: bool,
}

/// The pad and the fitter in front of it.
pub(super) struct Slot {
    pub(super) pad: gst::Pad,
    fitter: Fitter,
    state: Mutex<State>,
}

impl Slot {
    pub(super) fn new(pad: gst::Pad, fitter: Fitter) -> Self {
        pad.set_property("alpha", 0.0f64);
        Self {
            pad,
            fitter,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows the size of the input's pictures.
    pub(super) fn watch_caps(self: &std::sync::Arc<Self>) -> Result<(), Error> {
        let slot = std::sync::Arc::downgrade(self);
        let pad = super::static_pad(self.fitter.upcast_ref(), "sink")?;
        pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
            let video = info.event().and_then(|event| {
                let gst::EventView::Caps(caps) = event.view() else {
                    return None;
                };
                gst_video::VideoInfo::from_caps(caps.caps()).ok()
            });
            if let (Some(video), Some(slot)) = (video, slot.upgrade()) {
                slot.resized(Size {
                    width: video.width(),
                    height: video.height(),
                });
            }
            gst::PadProbeReturn::Ok
        })
        .ok_or(Error::Missing("a probe on the fitter"))?;
        Ok(())
    }

    fn resized(&self, picture: Size) {
        let mut state = self.state();
        state.picture = picture;
        self.fit(&mut state);
    }

    /// Shows the input as the plan says; `None` hides it.
    pub(super) fn place(&self, tile: Option<(&PlanTile, u32)>) {
        let mut state = self.state();
        let Some((plan, depth)) = tile.filter(|(plan, _)| plan.picture) else {
            let hidden = Placement {
                opacity: 0.0,
                ..state.placement
            };
            self.apply(&mut state, hidden);
            return;
        };
        state.shape = Some(Shape {
            rect: plan.tile.rect,
            fit: plan.tile.fit,
            rests: plan.tile.rect == plan.settled,
        });
        self.fit(&mut state);
        let rect = match plan.tile.fit {
            Fit::Cover => plan.tile.rect,
            Fit::Contain => contain(state.picture, plan.tile.rect),
        };
        let placement = Placement {
            rect,
            opacity: plan.opacity,
            depth,
        };
        self.apply(&mut state, placement);
    }

    /// Cuts the pictures to the shape of the tile, and brings them to its size once that does not change.
    fn fit(&self, state: &mut State) {
        let (picture, shape) = (state.picture, state.shape);
        let wish = shape
            .filter(|_| picture.width > 1 && picture.height > 1)
            .map(|shape| {
                let tile = Size {
                    width: shape.rect.width,
                    height: shape.rect.height,
                };
                let all = Rect {
                    x: 0,
                    y: 0,
                    width: picture.width & !1,
                    height: picture.height & !1,
                };
                let (window, size) = match shape.fit {
                    Fit::Cover => (cut(picture, tile, shape.rests), tile),
                    Fit::Contain => {
                        let inner = contain(picture, shape.rect);
                        let size = Size {
                            width: inner.width,
                            height: inner.height,
                        };
                        (all, size)
                    }
                };
                let own = Size {
                    width: window.width,
                    height: window.height,
                };
                Wish {
                    window,
                    size: if shape.rests { size } else { own },
                }
            });
        self.fitter.wish(wish);
    }

    fn apply(&self, state: &mut State, next: Placement) {
        let before = std::mem::replace(&mut state.placement, next);
        if next == before {
            return;
        }
        let signed = |value: u32| i32::try_from(value).unwrap_or(i32::MAX);
        if next.rect != before.rect {
            self.pad.set_properties(&[
                ("xpos", &signed(next.rect.x)),
                ("ypos", &signed(next.rect.y)),
                ("width", &signed(next.rect.width)),
                ("height", &signed(next.rect.height)),
            ]);
        }
        if next.depth != before.depth {
            self.pad.set_property("zorder", next.depth);
        }
        self.pad.set_property("alpha", next.opacity);
    }
}
