//! The element that brings decoded pictures to their tile: cuts, scales, and changes the colour matrix to the output's.
//!
//! What arrives at the compositor then only has to be copied. While a tile moves its pictures are only cut to its shape and
//! the compositor scales them, since their size changes with each picture of the output.

use gstreamer as gst;
use gstreamer::glib;
use gstreamer_base as gst_base;
use gstreamer_video as gst_video;

use crate::layout::{Rect, Size};

glib::wrapper! {
    /// See the module's documentation.
    pub struct Fitter(ObjectSubclass<imp::Fitter>)
        @extends gst_video::VideoFilter, gst_base::BaseTransform, gst::Element, gst::Object;
}

/// What of a picture is shown, and how large.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wish {
    /// In the pixels of the input; even.
    pub(super) window: Rect,
    /// In pixels of the output; even.
    pub(super) size: Size,
}

impl Fitter {
    pub(super) fn new() -> Self {
        glib::Object::new()
    }

    /// From the next picture on; `None`: the whole picture in its own size.
    pub(super) fn wish(&self, wish: Option<Wish>) {
        use gst_base::prelude::BaseTransformExt as _;
        use gst_base::subclass::prelude::ObjectSubclassIsExt as _;
        if self.imp().wish(wish) {
            self.reconfigure_src();
        }
    }
}

mod imp {
    use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

    use gst_base::prelude::BaseTransformExt as _;
    use gst_base::subclass::prelude::*;
    use gst_video::prelude::*;
    use gst_video::subclass::prelude::*;
    use gst_video::{VideoColorMatrix, VideoColorRange, VideoFormat, VideoFrameRef, VideoInfo};
    use gstreamer as gst;
    use gstreamer::glib;
    use gstreamer_base as gst_base;
    use gstreamer_video as gst_video;

    use super::Wish;
    use crate::fit::{self, Matrix};
    use crate::layout::{Rect, Size};

    /// The fitter of the sizes that were agreed on, and how much of a picture it reads.
    struct Agreed {
        fitter: fit::Fitter,
        input: Size,
    }

    #[derive(Default)]
    struct State {
        wish: Option<Wish>,
        agreed: Option<Agreed>,
    }

    #[derive(Default)]
    pub struct Fitter(Mutex<State>);

    impl Fitter {
        fn state(&self) -> MutexGuard<'_, State> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }

        /// True when that is something else than before.
        pub(super) fn wish(&self, wish: Option<Wish>) -> bool {
            std::mem::replace(&mut self.state().wish, wish) != wish
        }
    }

    /// The colour matrix that pictures come with, where this element can make the output's of it: of everything else the
    /// compositor takes care.
    fn known_matrix(info: &VideoInfo) -> Option<VideoColorMatrix> {
        let (matrix, range) = (info.colorimetry().matrix(), info.colorimetry().range());
        let known = [VideoColorMatrix::Bt601, VideoColorMatrix::Bt709].contains(&matrix);
        (known && range == VideoColorRange::Range16_235).then_some(matrix)
    }

    fn size_of(info: &VideoInfo) -> Size {
        Size {
            width: info.width(),
            height: info.height(),
        }
    }

    #[glib::object_subclass]
    impl ObjectSubclass for Fitter {
        const NAME: &'static str = "AnchornetFitter";
        type Type = super::Fitter;
        type ParentType = gst_video::VideoFilter;
    }

    impl ObjectImpl for Fitter {}
    impl GstObjectImpl for Fitter {}

    impl ElementImpl for Fitter {
        fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
            static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
                gst::subclass::ElementMetadata::new(
                    "Tile fitter",
                    "Filter/Video/Scaler",
                    "Cuts, scales and recolours pictures for their tile",
                    "AnchorNet",
                )
            });
            Some(&METADATA)
        }

        fn pad_templates() -> &'static [gst::PadTemplate] {
            static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
                let caps = gst_video::VideoCapsBuilder::new()
                    .format(VideoFormat::I420)
                    .build();
                let pads = [
                    ("sink", gst::PadDirection::Sink),
                    ("src", gst::PadDirection::Src),
                ];
                pads.into_iter()
                    .filter_map(|(name, direction)| {
                        gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &caps).ok()
                    })
                    .collect()
            });
            &TEMPLATES
        }
    }

    impl BaseTransformImpl for Fitter {
        const MODE: gst_base::subclass::BaseTransformMode =
            gst_base::subclass::BaseTransformMode::NeverInPlace;
        const PASSTHROUGH_ON_SAME_CAPS: bool = false;
        const TRANSFORM_IP_ON_PASSTHROUGH: bool = false;

        fn transform_caps(
            &self,
            direction: gst::PadDirection,
            caps: &gst::Caps,
            filter: Option<&gst::Caps>,
        ) -> Option<gst::Caps> {
            let wish = self.state().wish;
            let mut caps = caps.clone();
            for structure in caps.make_mut().iter_mut() {
                if direction == gst::PadDirection::Src {
                    // Any size and any colours can become these
                    structure.remove_fields([
                        "width",
                        "height",
                        "colorimetry",
                        "pixel-aspect-ratio",
                        "chroma-site",
                    ]);
                    continue;
                }
                if let Some(wish) = wish {
                    let signed = |length: u32| i32::try_from(length).unwrap_or(i32::MAX);
                    structure.set("width", signed(wish.size.width));
                    structure.set("height", signed(wish.size.height));
                    structure.set("pixel-aspect-ratio", gst::Fraction::new(1, 1));
                }
            }
            if direction == gst::PadDirection::Sink && caps.is_fixed() {
                // Said in the output's own words: any difference costs the compositor a conversion
                let known =
                    VideoInfo::from_caps(&caps).is_ok_and(|info| known_matrix(&info).is_some());
                for structure in caps.make_mut().iter_mut().filter(|_| known) {
                    structure.set("colorimetry", "bt709");
                    structure.set("chroma-site", "mpeg2");
                }
            }
            match filter {
                Some(filter) => {
                    Some(filter.intersect_with_mode(&caps, gst::CapsIntersectMode::First))
                }
                None => Some(caps),
            }
        }
    }

    impl VideoFilterImpl for Fitter {
        fn set_info(
            &self,
            _: &gst::Caps,
            from: &VideoInfo,
            _: &gst::Caps,
            to: &VideoInfo,
        ) -> Result<(), gst::LoggableError> {
            let (input, output) = (size_of(from), size_of(to));
            let whole = Rect {
                x: 0,
                y: 0,
                width: input.width,
                height: input.height,
            };
            let mut state = self.state();
            // A wish may be for pictures of another size, before or after these
            let inside = |window: &Rect| {
                window.x + window.width <= input.width && window.y + window.height <= input.height
            };
            let window = state.wish.map(|wish| wish.window).filter(inside);
            let window = window.unwrap_or(whole);
            let bt601 = Some(VideoColorMatrix::Bt601);
            let recolours = known_matrix(from) == bt601 && known_matrix(to) != bt601;
            let nothing = window == whole && input == output && !recolours;
            let matrix = recolours.then(Matrix::bt601_to_bt709);
            let fitter = fit::Fitter::new(window, output, matrix);
            state.agreed = Some(Agreed { fitter, input });
            drop(state);
            self.obj().set_passthrough(nothing);
            Ok(())
        }

        fn transform_frame(
            &self,
            from: &VideoFrameRef<&gst::BufferRef>,
            to: &mut VideoFrameRef<&mut gst::BufferRef>,
        ) -> Result<gst::FlowSuccess, gst::FlowError> {
            let mut state = self.state();
            let Some(agreed) = state.agreed.as_mut() else {
                return Err(gst::FlowError::NotNegotiated);
            };
            if agreed.input != size_of(from.info()) {
                return Err(gst::FlowError::NotNegotiated);
            }
            let steps = |strides: &[i32]| {
                let step = |at: usize| strides.get(at).and_then(|step| usize::try_from(*step).ok());
                Some([step(0)?, step(1)?, step(2)?])
            };
            let (Some(in_steps), Some(out_steps)) =
                (steps(from.plane_stride()), steps(to.plane_stride()))
            else {
                return Err(gst::FlowError::NotSupported);
            };
            let [y, cb, cr, _] = from.planes_data();
            let [to_y, to_cb, to_cr, _] = to.planes_data_mut();
            let [y_step, cb_step, cr_step] = in_steps;
            let from = [(y, y_step), (cb, cb_step), (cr, cr_step)];
            let [y_step, cb_step, cr_step] = out_steps;
            let to = [(to_y, y_step), (to_cb, cb_step), (to_cr, cr_step)];
            agreed.fitter.fit(from, to);
            Ok(gst::FlowSuccess::Ok)
        }
    }
}
