//! The pictures' way through GStreamer: decoders, one compositor, one encoder. Executes plans; decides nothing.
//!
//! ```text
//! appsrc ! h264parse ! avdec_h264 ! fitter ─┐   (one per input)
//! appsrc ! imagefreeze (background) ────────┴─► compositor ─► painter ─► queue ! encoder ! h264parse ! appsink
//! ```
//!
//! Time: the pipeline runs on a clock that shows program time, so that "now" and capture times meet without conversion.
//! Running time zero is the first output picture: what was captured before counts as captured then, and the newest of
//! that is shown. Decoders see later times (see `input`). Output timestamps are put back on the exact grid, and from there to
//! where the host's pictures are ([`Shift`]); inputs are moved by as much the other way.
//!
//! Invariants:
//! - The background is a live source that never ends: it starts the compositor's timeline, and keeps it going when there
//!   is nothing else.
//! - I420 in the output's colours throughout: every other format costs more than all the rest together.
//! - Pictures of a tile at rest come to the compositor in its size, since it scales at several times the cost.
//! - An input that fails is reported and replaced; only an error outside the inputs ends the mixer.
//! - Nothing is dropped behind the compositor, so the grid has no holes: an encoder that does not keep up makes the output
//!   late, which is counted and told. The queue in front of it holds at most [`MAX_RAW`] pictures.

mod clock;
mod encoder;
mod fitter;
mod input;
mod slot;

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;
use gstreamer_video::prelude::*;
use media::h264;
use media::link::{Configure, InputStats, Picture};

pub(crate) use clock::ProgramClock;
use clock::nanos;

use crate::director::Plan;
use crate::follow::Shift;
use crate::grid::Grid;
use crate::layout::Size;
use crate::paint::{self, Frame};

/// The most raw pictures that wait for the encoder.
const MAX_RAW: u32 = 4;

/// How long the first picture may take, on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(5);

/// When the first picture is due: what the background needs to get to the compositor, several times over.
const DUE_IN_NS: i64 = 50_000_000;

/// What is allowed for between the latest moment of composing and the output, before a picture counts as late.
const LATE_NS: i64 = 50_000_000;

/// Why a pipeline cannot be built or goes on no longer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A part of GStreamer is not installed.
    #[error(
        "GStreamer has no element `{0}`: install the package that brings it (see `anchornet-mixer --help`)"
    )]
    NoElement(&'static str),
    /// The encoder is not installed.
    #[error("encoder `{name}` is not available; it can be one of: {known}")]
    Encoder {
        /// As configured.
        name: String,
        /// What there is.
        known: String,
    },
    /// A setting has a value that the element does not know.
    #[error("`{value}` is no value of `{property}` of {element}")]
    Property {
        /// The element.
        element: String,
        /// The property.
        property: String,
        /// The value.
        value: String,
    },
    /// The configuration makes no picture.
    #[error("the configuration is not possible: {0}")]
    Config(&'static str),
    /// GStreamer gave nothing where there must be something.
    #[error("GStreamer did not give {0}")]
    Missing(&'static str),
    /// An element refused.
    #[error("the pipeline cannot be built: {0}")]
    Build(String),
}

impl Error {
    fn build(error: impl std::fmt::Display) -> Self {
        Self::Build(error.to_string())
    }
}

/// What the pipeline gives.
#[derive(Debug)]
pub(crate) enum Output {
    /// Codec configuration of the pictures to come.
    Config(h264::Config),
    /// A coded picture.
    Picture(Picture),
}

/// What failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// One input; it must be replaced.
    Input(u32, String),
    /// The whole pipeline.
    Pipeline(String),
}

/// What the pipeline asks and tells, from its own threads.
pub(crate) trait Stage: Send + Sync {
    /// What the picture of a program time is made of.
    fn plan(&self, at_ns: i64) -> Plan;
    /// Draws on the composed picture of a plan and a program time. True from the first picture on that may be shown.
    fn paint(&self, plan: &Plan, at_ns: i64, frame: &mut Frame<'_>) -> bool;
    /// An input's picture was decoded.
    fn decoded(&self, input: u32, pts_ns: i64);
    /// Output, in order.
    fn output(&self, output: Output);
    /// Something failed.
    fn failed(&self, failure: Failure);
}

/// What the threads of a pipeline share.
pub(super) struct Shared {
    stage: Arc<dyn Stage>,
    clock: ProgramClock,
    grid: Grid,
    /// How far the output lies beside the grid.
    shift: Mutex<Shift>,
    /// Program time of running time zero.
    origin_ns: i64,
    latency_ns: i64,
    slots: Mutex<BTreeMap<u32, Arc<slot::Slot>>>,
    /// What the picture that is composed next is made of.
    staged: Mutex<Plan>,
    frames: AtomicU64,
    late: AtomicU64,
    /// When the newest pictures were composed: number on the grid, own clock.
    composed: Mutex<Vec<(i64, i64)>>,
    encode_ns: AtomicU64,
    /// Program time of the picture that is composed next.
    next_ns: AtomicI64,
    latency_changed: AtomicBool,
    /// A picture has been composed that may be shown.
    open: AtomicBool,
}

impl Shared {
    fn slots(&self) -> MutexGuard<'_, BTreeMap<u32, Arc<slot::Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Running time of a program time; negative before the first output picture.
    fn running(&self, program_ns: i64) -> i64 {
        program_ns.saturating_sub(self.origin_ns)
    }

    fn shift(&self) -> MutexGuard<'_, Shift> {
        self.shift.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time on the grid from which on a picture that was captured then is shown. The compositor takes for an output
    /// picture what begins before that ends; half a frame later, this is what was captured next to the output's time.
    fn shown_from(&self, captured_ns: i64) -> i64 {
        let half_ns = self.grid.frame_ns() / 2;
        captured_ns.saturating_add(half_ns - self.shift().now_ns())
    }

    /// Program time of a running time.
    fn program(&self, running_ns: i64) -> i64 {
        running_ns.saturating_add(self.origin_ns)
    }

    /// A picture has been composed: prepares the next.
    fn composed(&self, number: i64) {
        let mut composed = self.composed.lock().unwrap_or_else(PoisonError::into_inner);
        if composed.len() > usize::try_from(MAX_RAW).unwrap_or(0) {
            composed.remove(0);
        }
        composed.push((number, self.clock.mixer_ns()));
        drop(composed);
        let next_ns = self.grid.time(number + 1);
        self.next_ns.store(next_ns, Ordering::Relaxed);
        self.stage_picture(next_ns);
    }

    /// Puts the inputs where the plan for a program time wants them.
    fn stage_picture(&self, at_ns: i64) {
        let plan = self.stage.plan(at_ns);
        for (input, slot) in self.slots().iter() {
            let found = plan
                .tiles
                .iter()
                .zip(1u32..)
                .find(|(tile, _)| tile.input == *input);
            slot.place(found);
        }
        *self.staged.lock().unwrap_or_else(PoisonError::into_inner) = plan;
    }

    /// Draws on a composed picture. One that cannot be written to stays as it is. True when it is the first that may be shown.
    fn paint(&self, number: i64, buffer: &mut gst::BufferRef, info: &gst_video::VideoInfo) -> bool {
        let Ok(mut picture) = gst_video::VideoFrameRef::from_buffer_ref_writable(buffer, info)
        else {
            return false;
        };
        let strides: Vec<usize> = picture
            .plane_stride()
            .iter()
            .map(|stride| usize::try_from(*stride).unwrap_or(0))
            .collect();
        let size = Size {
            width: info.width(),
            height: info.height(),
        };
        let ([y, cb, cr, _], [y_stride, cb_stride, cr_stride]) =
            (picture.planes_data_mut(), strides.as_slice())
        else {
            return false;
        };
        let planes = [(y, *y_stride), (cb, *cb_stride), (cr, *cr_stride)];
        let Some(mut frame) = Frame::new(size, planes) else {
            return false;
        };
        let plan = self.staged.lock().unwrap_or_else(PoisonError::into_inner);
        let may_be_shown = self.stage.paint(&plan, self.grid.time(number), &mut frame);
        may_be_shown && !self.open.swap(true, Ordering::Relaxed)
    }

    /// A picture leaves the encoder.
    fn encoded(&self, number: i64) {
        self.frames.fetch_add(1, Ordering::Relaxed);
        let allowed = self
            .grid
            .time(number)
            .saturating_add(self.latency_ns + LATE_NS);
        if self.clock.program_ns() > allowed {
            self.late.fetch_add(1, Ordering::Relaxed);
        }
        let composed = self.composed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, at)) = composed.iter().find(|(n, _)| *n == number) {
            let took = self.clock.mixer_ns().saturating_sub(*at);
            self.encode_ns
                .store(u64::try_from(took).unwrap_or(0), Ordering::Relaxed);
        }
    }
}

/// Loads GStreamer. Needed before anything else here; cheap when done before.
pub(crate) fn init() -> Result<(), Error> {
    gst::init().map_err(Error::build)
}

/// Loads what decodes inputs, on a thread of its own: libavcodec takes as long as all the rest of the start.
pub(crate) fn load_decoders() {
    let load = || {
        for name in [input::DECODER, input::PARSER] {
            // One that is missing is named when an input is made.
            let _ = gst::ElementFactory::find(name).map(|factory| factory.load());
        }
    };
    let _ = std::thread::Builder::new()
        .name("load".to_owned())
        .spawn(load);
}

/// The version of GStreamer and the encoders that it has, best first.
pub(crate) fn about() -> (String, Vec<&'static str>) {
    (gst::version_string().to_string(), encoder::available())
}

/// A running mixer.
pub(crate) struct Pipeline {
    pipeline: gst::Pipeline,
    compositor: gst::Element,
    encoder: gst::Element,
    background: gst_app::AppSrc,
    inputs: BTreeMap<u32, input::Input>,
    shared: Arc<Shared>,
    info: gst_video::VideoInfo,
}

impl Pipeline {
    /// Builds the pipeline and starts it. The clock must be calibrated.
    pub(crate) fn start(
        config: &Configure,
        clock: &ProgramClock,
        stage: &Arc<dyn Stage>,
    ) -> Result<Self, Error> {
        let latency_ns = i64::from(config.latency_ms) * 1_000_000;
        // The sooner its first picture is due, the sooner the mix can be shown; the background must be there by then.
        for due_in_ns in [DUE_IN_NS.min(latency_ns), latency_ns, 4 * latency_ns] {
            if let Some(started) = Self::attempt(config, clock, Arc::clone(stage), due_in_ns)? {
                return Ok(started);
            }
        }
        Err(Error::Missing("a first picture in time"))
    }

    /// Starts a pipeline whose first picture is due after this time; `None` when the background was not there by then.
    fn attempt(
        config: &Configure,
        clock: &ProgramClock,
        stage: Arc<dyn Stage>,
        due_in_ns: i64,
    ) -> Result<Option<Self>, Error> {
        let grid = Grid::new(config.phase_ns, config.frame_rate)
            .ok_or(Error::Config("the frame rate has a zero"))?;
        let info = video_info(config)?;
        let latency_ns = i64::from(config.latency_ms) * 1_000_000;
        // What is composed now was captured a latency ago.
        let first_ns = clock.program_ns() + due_in_ns - latency_ns;
        let origin_ns = grid.time(grid.at_or_after(first_ns));
        let shared = Arc::new(Shared {
            stage,
            clock: clock.clone(),
            grid,
            shift: Mutex::new(Shift::new(grid.frame_ns())),
            origin_ns,
            latency_ns,
            slots: Mutex::default(),
            staged: Mutex::new(Plan {
                slate: true,
                ..Plan::default()
            }),
            frames: AtomicU64::new(0),
            late: AtomicU64::new(0),
            composed: Mutex::default(),
            encode_ns: AtomicU64::new(0),
            next_ns: AtomicI64::new(origin_ns),
            latency_changed: AtomicBool::new(false),
            open: AtomicBool::new(false),
        });
        let pipeline = gst::Pipeline::new();
        watch_bus(&pipeline, &shared)?;

        let compositor = compositor(&shared, &info)?;
        let encoder = encoder::build(config, &grid)?;
        let background = link_all(&pipeline, &compositor, &encoder, &info, config, &shared)?;
        let running = first_picture(&compositor)?;

        pipeline.use_clock(Some(clock.gst()));
        pipeline.set_start_time(gst::ClockTime::NONE);
        pipeline.set_base_time(ProgramClock::shown_at(origin_ns));
        let started = Self {
            pipeline,
            compositor,
            encoder,
            background,
            inputs: BTreeMap::new(),
            shared,
            info,
        };
        let black = paint::Picture::plain(
            Size {
                width: config.width,
                height: config.height,
            },
            paint::Colour::BLACK,
        );
        started.set_background(&black)?;
        started
            .pipeline
            .set_state(gst::State::Playing)
            .map_err(Error::build)?;
        // Until the background has told the compositor that it is live, it would wait for an input that says nothing.
        let is_running = running
            .recv_timeout(START_TIMEOUT)
            .map_err(|_| Error::Missing("a first picture"))?;
        Ok(is_running.then_some(started))
    }

    /// Adds an input; it is shown once a plan names it.
    pub(crate) fn add(&mut self, number: u32) -> Result<(), Error> {
        let input = input::Input::new(number, &self.pipeline, &self.compositor, &self.shared)?;
        self.inputs.insert(number, input);
        Ok(())
    }

    /// Removes an input, if there is such a one.
    pub(crate) fn remove(&mut self, number: u32) {
        if let Some(input) = self.inputs.remove(&number) {
            input.remove(number, &self.pipeline, &self.compositor, &self.shared);
        }
    }

    /// Puts a new input in the place of a failed one.
    pub(crate) fn replace(&mut self, number: u32) -> Result<(), Error> {
        let config = self.inputs.get(&number).and_then(input::Input::config);
        self.remove(number);
        self.add(number)?;
        if let Some(config) = config {
            self.configure(number, config);
        }
        Ok(())
    }

    /// The codec configuration of an input.
    pub(crate) fn configure(&mut self, number: u32, config: h264::Config) {
        if let Some(input) = self.inputs.get_mut(&number) {
            input.configure(config);
        }
    }

    /// A coded picture of an input.
    pub(crate) fn push(&mut self, number: u32, unit: Picture) {
        if let Some(input) = self.inputs.get_mut(&number) {
            input.push(unit, &self.shared);
        }
    }

    /// Makes the next output picture an IDR.
    pub(crate) fn keyframe(&self) {
        let event = gst_video::UpstreamForceKeyUnitEvent::builder()
            .all_headers(true)
            .build();
        self.encoder.send_event(event);
    }

    /// Moves the output to where pictures lie that include this time.
    pub(crate) fn follow(&self, phase_ns: i64) {
        let grid = self.shared.grid;
        let nearest_ns = grid.time(grid.nearest(phase_ns));
        let beside_ns = phase_ns.saturating_sub(nearest_ns);
        self.shared.shift().aim(beside_ns);
    }

    /// Answers what elements have asked for since the last time.
    pub(crate) fn look_after(&self) {
        if self.shared.latency_changed.swap(false, Ordering::Relaxed) {
            // Until this is done, the compositor does not know that a new input is live, and would wait for it.
            let _ = self.pipeline.recalculate_latency();
        }
    }

    /// Puts a picture of the output's size behind the tiles.
    pub(crate) fn set_background(&self, picture: &paint::Picture) -> Result<(), Error> {
        let mut buffer = gst::Buffer::with_size(self.info.size()).map_err(Error::build)?;
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(gst::ClockTime::ZERO);
            let mut bytes = buffer.map_writable().map_err(Error::build)?;
            let widths = [1, 2, 2].map(|part| picture.size().width / part);
            let places = self.info.offset().iter().zip(self.info.stride());
            for ((plane, width), (offset, stride)) in
                picture.planes().into_iter().zip(widths).zip(places)
            {
                let stride = usize::try_from(*stride).unwrap_or(0).max(1);
                let width = usize::try_from(width).unwrap_or(0).max(1);
                let rows = bytes.get_mut(*offset..).unwrap_or_default();
                for (row, from) in rows.chunks_mut(stride).zip(plane.chunks(width)) {
                    if let Some(row) = row.get_mut(..from.len()) {
                        row.copy_from_slice(from);
                    }
                }
            }
        }
        // Refused only while the mixer ends.
        let _ = self.background.push_buffer(buffer);
        Ok(())
    }

    /// Output pictures so far, late ones among them, and the time in the encoder in milliseconds.
    pub(crate) fn output_stats(&self) -> (u64, u64, f32) {
        let encode = Duration::from_nanos(self.shared.encode_ns.load(Ordering::Relaxed));
        (
            self.shared.frames.load(Ordering::Relaxed),
            self.shared.late.load(Ordering::Relaxed),
            encode.as_secs_f32() * 1_000.0,
        )
    }

    /// The counters of an input, without its state.
    pub(crate) fn input_stats(&self, number: u32) -> Option<InputStats> {
        let counters = &self.inputs.get(&number)?.counters;
        Some(InputStats {
            input: number,
            state: media::link::InputState::default(),
            pictures: counters.received.load(Ordering::Relaxed),
            late_pictures: counters.late.load(Ordering::Relaxed),
            dropped_pictures: counters.dropped.load(Ordering::Relaxed),
        })
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        for number in self.inputs.keys().copied().collect::<Vec<_>>() {
            self.remove(number);
        }
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

fn video_info(config: &Configure) -> Result<gst_video::VideoInfo, Error> {
    // Smaller than this, sixteen tiles have no room.
    let side = |length: u32| (128..=4096).contains(&length) && length.is_multiple_of(2);
    if !side(config.width) || !side(config.height) {
        return Err(Error::Config("width and height must be even, 128 to 4096"));
    }
    let rate = config.frame_rate;
    if u64::from(rate.num) > 120 * u64::from(rate.den) || rate.num < rate.den {
        return Err(Error::Config("the frame rate must be 1 to 120"));
    }
    let whole =
        |value: u32| i32::try_from(value).map_err(|_| Error::Config("the frame rate is too fine"));
    gst_video::VideoInfo::builder(gst_video::VideoFormat::I420, config.width, config.height)
        .fps(gst::Fraction::new(whole(rate.num)?, whole(rate.den)?))
        .par(gst::Fraction::new(1, 1))
        .colorimetry(&gst_video::VideoColorimetry::from_str("bt709").map_err(Error::build)?)
        .chroma_site(gst_video::VideoChromaSite::MPEG2)
        .build()
        .map_err(Error::build)
}

/// The compositor: live, and on time whatever its inputs do.
fn compositor(shared: &Arc<Shared>, info: &gst_video::VideoInfo) -> Result<gst::Element, Error> {
    // The background comes one frame late, as live sources do; that is part of the latency.
    let frame_ns = shared.grid.frame_ns();
    let margin_ns = shared.latency_ns.saturating_sub(frame_ns).max(0);
    let element = gst::ElementFactory::make("compositor")
        .property("latency", u64::try_from(margin_ns).unwrap_or(0))
        .property("min-upstream-latency", u64::try_from(frame_ns).unwrap_or(0))
        .property("ignore-inactive-pads", true)
        .property("max-threads", 1u32)
        .property_from_str("background", "black")
        .build()
        .map_err(|_| Error::NoElement("compositor"))?;
    let (shared, video) = (Arc::clone(shared), info.clone());
    static_pad(&element, "src")?
        .add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            if let Some(buffer) = info.buffer_mut()
                && let Some(pts) = buffer.pts()
            {
                let number = shared.grid.nearest(shared.program(nanos(pts)));
                if shared.paint(number, buffer.make_mut(), &video) {
                    // Ahead of this very picture.
                    pad.push_event(
                        gst_video::DownstreamForceKeyUnitEvent::builder()
                            .all_headers(true)
                            .build(),
                    );
                }
                shared.composed(number);
            }
            gst::PadProbeReturn::Ok
        })
        .ok_or(Error::Missing("a probe on the compositor"))?;
    Ok(element)
}

/// Hears of the first composed picture; `false` when the compositor has ended instead, for want of the background.
fn first_picture(compositor: &gst::Element) -> Result<Receiver<bool>, Error> {
    let (sender, receiver) = sync_channel(1);
    let begins = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
    static_pad(compositor, "src")?
        .add_probe(begins, move |_, info| {
            let event = info.event().map(|event| event.type_());
            match event {
                None => {
                    let _ = sender.try_send(true);
                    gst::PadProbeReturn::Remove
                }
                Some(gst::EventType::Eos) => {
                    let _ = sender.try_send(false);
                    gst::PadProbeReturn::Remove
                }
                Some(_) => gst::PadProbeReturn::Ok,
            }
        })
        .ok_or(Error::Missing("a probe on the compositor"))?;
    Ok(receiver)
}

/// Adds and links everything but the inputs; gives the background's source.
fn link_all(
    pipeline: &gst::Pipeline,
    compositor: &gst::Element,
    encoder: &gst::Element,
    info: &gst_video::VideoInfo,
    config: &Configure,
    shared: &Arc<Shared>,
) -> Result<gst_app::AppSrc, Error> {
    let caps = info.to_caps().map_err(Error::build)?;
    let background = gst_app::AppSrc::builder()
        .format(gst::Format::Time)
        .caps(&caps)
        .build();
    let freeze = make("imagefreeze")?;
    freeze.set_property("is-live", true);
    freeze.set_property("allow-replace", true);
    let rate = caps_filter(&caps)?;
    let composed = caps_filter(&caps)?;
    let queue = make("queue")?;
    queue.set_property("max-size-buffers", MAX_RAW);
    queue.set_property("max-size-bytes", 0u32);
    queue.set_property("max-size-time", 0u64);
    let profile = caps_filter(&encoder::profile_caps(config.profile))?;
    let parser = make("h264parse")?;
    let sink = sink(shared);

    let still = [background.upcast_ref(), &freeze, &rate];
    let coded = [
        &composed,
        &queue,
        encoder,
        &profile,
        &parser,
        sink.upcast_ref(),
    ];
    pipeline.add(compositor).map_err(Error::build)?;
    pipeline.add_many(still).map_err(Error::build)?;
    pipeline.add_many(coded).map_err(Error::build)?;
    gst::Element::link_many(still).map_err(Error::build)?;
    gst::Element::link_many(coded).map_err(Error::build)?;
    gst::Element::link_many([&rate, compositor, &composed]).map_err(Error::build)?;
    Ok(background)
}

fn sink(shared: &Arc<Shared>) -> gst_app::AppSink {
    let caps = gst::Caps::builder("video/x-h264")
        .field("stream-format", "avc")
        .field("alignment", "au")
        .build();
    let sink = gst_app::AppSink::builder().sync(false).caps(&caps).build();
    let shared = Arc::clone(shared);
    let mut known: Option<Bytes> = None;
    sink.set_callbacks(
        gst_app::AppSinkCallbacks::builder()
            .new_sample(move |sink| {
                let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                match take(&sample, &shared, &mut known) {
                    Ok(()) => Ok(gst::FlowSuccess::Ok),
                    Err(error) => {
                        shared.stage.failed(Failure::Pipeline(error.to_string()));
                        Err(gst::FlowError::Error)
                    }
                }
            })
            .build(),
    );
    sink
}

/// Hands a coded picture out, its configuration before it when that changed.
fn take(sample: &gst::Sample, shared: &Shared, known: &mut Option<Bytes>) -> Result<(), Error> {
    let buffer = sample.buffer().ok_or(Error::Missing("a coded picture"))?;
    let record = sample
        .caps()
        .and_then(|caps| caps.structure(0)?.get::<gst::Buffer>("codec_data").ok())
        .ok_or(Error::Missing("the output's codec configuration"))?;
    let record = Bytes::copy_from_slice(&record.map_readable().map_err(Error::build)?);
    if known.as_ref() != Some(&record) {
        let config = h264::Config::from_avcc(&record).map_err(Error::build)?;
        shared.stage.output(Output::Config(config));
        *known = Some(record);
    }
    let pts = buffer.pts().ok_or(Error::Missing("a timestamp"))?;
    // The encoder shifts its timestamps and says so in the segment.
    let running = sample
        .segment()
        .and_then(|segment| segment.downcast_ref::<gst::ClockTime>())
        .and_then(|segment| segment.to_running_time(pts))
        .ok_or(Error::Missing("a running time"))?;
    let number = shared.grid.nearest(shared.program(nanos(running)));
    shared.encoded(number);
    let pts_ns = shared.grid.time(number) + shared.shift().step();
    shared.stage.output(Output::Picture(Picture {
        pts_ns,
        dts_ns: pts_ns,
        keyframe: !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT),
        discontinuity: false,
        data: Bytes::copy_from_slice(&buffer.map_readable().map_err(Error::build)?),
    }));
    Ok(())
}

/// Reports errors, from whichever thread they come.
fn watch_bus(pipeline: &gst::Pipeline, shared: &Arc<Shared>) -> Result<(), Error> {
    let bus = pipeline.bus().ok_or(Error::Missing("a bus"))?;
    let shared = Arc::clone(shared);
    bus.set_sync_handler(move |_, message| {
        let place = message.src().map(|source| source.path_string());
        let place = place.as_deref().unwrap_or_default();
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "the kinds of messages are GStreamer's"
        )]
        match message.view() {
            gst::MessageView::Error(error) => {
                let text = format!("{place}: {}", error.error());
                let failure = match message.src().and_then(input::owner) {
                    Some(input) => Failure::Input(input, text),
                    None => Failure::Pipeline(text),
                };
                shared.stage.failed(failure);
            }
            gst::MessageView::Latency(_) => shared.latency_changed.store(true, Ordering::Relaxed),
            gst::MessageView::Warning(warning) => {
                tracing::warn!(place, "{}", warning.error());
            }
            _ => {}
        }
        gst::BusSyncReply::Drop
    });
    Ok(())
}

fn make(name: &'static str) -> Result<gst::Element, Error> {
    gst::ElementFactory::make(name)
        .build()
        .map_err(|_| Error::NoElement(name))
}

fn caps_filter(caps: &gst::Caps) -> Result<gst::Element, Error> {
    let filter = make("capsfilter")?;
    filter.set_property("caps", caps);
    Ok(filter)
}

fn static_pad(element: &gst::Element, name: &'static str) -> Result<gst::Pad, Error> {
    element.static_pad(name).ok_or(Error::Missing("a pad"))
}

/// Sets a property from its text; unlike GStreamer's own way, a value that does not fit is an error.
fn set_str(element: &gst::Element, property: &str, value: &str) -> Result<(), Error> {
    let refused = || Error::Property {
        element: element.name().to_string(),
        property: property.to_owned(),
        value: value.to_owned(),
    };
    let spec = element.find_property(property).ok_or_else(refused)?;
    let parsed = gst::glib::Value::deserialize_with_pspec(value, &spec).map_err(|_| refused())?;
    element.set_property_from_value(property, &parsed);
    Ok(())
}
