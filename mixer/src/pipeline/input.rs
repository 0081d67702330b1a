//! One participant's way into the picture: coded pictures in, a pad of the compositor out.
//!
//! Every input is a bin of its own, so that an error in it names it and ends nothing else. Pictures after a loss are held
//! back up to a keyframe; what the decoder cannot take in time is dropped the same way (at most [`MAX_WAITING`] wait).

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use media::h264;
use media::link::Picture;

use super::clock::{clock_time, nanos};
use super::slot::Slot;
use super::{Error, Shared};

/// The most coded pictures that wait for the decoder: eight seconds, a long group of pictures.
const MAX_WAITING: u64 = 240;

/// What decoders see is later than running time by this: times are unsigned, pictures may be older than the pipeline,
/// and two with the same time would be pulled apart.
const LEAD_NS: i64 = 3_600_000_000_000;

/// The elements in front of an input's pictures.
pub(super) const PARSER: &str = "h264parse";
pub(super) const DECODER: &str = "avdec_h264";

/// What the bin of input `n` is called, before its number.
const BIN: &str = "input-";

/// The input that an element belongs to.
pub(super) fn owner(element: &gst::Object) -> Option<u32> {
    let mut object = Some(element.clone());
    while let Some(current) = object {
        if let Some(number) = current.name().strip_prefix(BIN) {
            return number.parse().ok();
        }
        object = current.parent();
    }
    None
}

/// Counters of one input.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) received: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) late: AtomicU64,
    /// Capture time of the newest decoded picture.
    pub(crate) newest_ns: AtomicI64,
}

/// An input in the pipeline.
pub(super) struct Input {
    bin: gst::Bin,
    source: gst_app::AppSrc,
    config: Option<h264::Config>,
    /// Pictures pass; else a keyframe is waited for.
    open: bool,
    pub(super) counters: Arc<Counters>,
}

impl Input {
    /// Builds the input and links it to a new pad of the compositor, still invisible.
    pub(super) fn new(
        number: u32,
        pipeline: &gst::Pipeline,
        compositor: &gst::Element,
        shared: &Arc<Shared>,
    ) -> Result<Self, Error> {
        let source = gst_app::AppSrc::builder()
            .format(gst::Format::Time)
            .is_live(true)
            .do_timestamp(false)
            // Pictures may wait: without saying so, the compositor's latency would be impossible.
            .min_latency(0)
            .max_bytes(0)
            .build();
        let parser = super::make(PARSER)?;
        let decoder = super::make(DECODER)?;
        decoder.set_property("max-threads", 1i32);
        // Late pictures are decoded like others: the next ones refer to them.
        decoder.set_property("qos", false);
        super::set_str(&decoder, "std-compliance", "normal")?;
        let fitter = super::fitter::Fitter::new();

        let bin = gst::Bin::with_name(&format!("{BIN}{number}"));
        let chain = [source.upcast_ref(), &parser, &decoder, fitter.upcast_ref()];
        bin.add_many(chain).map_err(Error::build)?;
        gst::Element::link_many(chain).map_err(Error::build)?;
        let tail = super::static_pad(fitter.upcast_ref(), "src")?;
        let ghost = gst::GhostPad::with_target(&tail).map_err(Error::build)?;
        bin.add_pad(&ghost).map_err(Error::build)?;

        let counters = Arc::new(Counters::default());
        watch_decoded(&decoder, &source, number, shared, &counters)?;
        let pad = compositor
            .request_pad_simple("sink_%u")
            .ok_or(Error::Missing("a pad of the compositor"))?;
        let slot = Arc::new(Slot::new(pad.clone(), fitter));
        slot.watch_caps()?;
        pipeline.add(&bin).map_err(Error::build)?;
        ghost.link(&pad).map_err(Error::build)?;
        bin.sync_state_with_parent().map_err(Error::build)?;
        shared.slots().insert(number, slot);
        Ok(Self {
            bin,
            source,
            config: None,
            open: false,
            counters,
        })
    }

    /// A new codec configuration: the next picture is a keyframe that uses it.
    pub(super) fn configure(&mut self, config: h264::Config) {
        if self.config.as_ref() == Some(&config) {
            return;
        }
        let record = gst::Buffer::from_slice(config.to_avcc());
        let caps = gst::Caps::builder("video/x-h264")
            .field("stream-format", "avc")
            .field("alignment", "au")
            .field("codec_data", record)
            .build();
        self.source.set_caps(Some(&caps));
        self.config = Some(config);
        self.open = false;
    }

    /// Hands a picture to the decoder, or drops it.
    pub(super) fn push(&mut self, unit: Picture, shared: &Shared) {
        self.counters.received.fetch_add(1, Ordering::Relaxed);
        if unit.discontinuity && !unit.keyframe {
            self.open = false;
        }
        if unit.keyframe {
            self.open = self.config.is_some();
        }
        if self.open && self.source.current_level_buffers() >= MAX_WAITING {
            self.open = false;
        }
        if !self.open {
            self.counters.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut buffer = gst::Buffer::from_slice(unit.data);
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(decoder_time(shared.running(unit.pts_ns)));
            buffer.set_dts(decoder_time(shared.running(unit.dts_ns)));
            if !unit.keyframe {
                buffer.set_flags(gst::BufferFlags::DELTA_UNIT);
            }
            if unit.discontinuity {
                buffer.set_flags(gst::BufferFlags::DISCONT);
            }
        }
        // Refused only while the input is being taken down.
        let _ = self.source.push_buffer(buffer);
    }

    /// The configuration of the pictures to come.
    pub(super) fn config(&self) -> Option<h264::Config> {
        self.config.clone()
    }

    /// Takes the input out of the pipeline.
    pub(super) fn remove(
        self,
        number: u32,
        pipeline: &gst::Pipeline,
        compositor: &gst::Element,
        shared: &Shared,
    ) {
        let slot = shared.slots().remove(&number);
        // Releasing the pad first wakes a picture that waits in it for its time; only then can the bin stop.
        if let Some(slot) = slot {
            compositor.release_request_pad(&slot.pad);
        }
        self.bin.set_locked_state(true);
        let _ = self.bin.set_state(gst::State::Null);
        let _ = pipeline.remove(&self.bin);
    }
}

fn decoder_time(running_ns: i64) -> gst::ClockTime {
    clock_time(running_ns.saturating_add(LEAD_NS))
}

/// Reports decoded pictures, puts them back into running time, and takes their duration away: a picture is shown until the next one. Those whose time
/// has passed end here while newer ones wait: the compositor would show each of them for a frame.
fn watch_decoded(
    decoder: &gst::Element,
    source: &gst_app::AppSrc,
    number: u32,
    shared: &Arc<Shared>,
    counters: &Arc<Counters>,
) -> Result<(), Error> {
    let (shared, counters) = (Arc::clone(shared), Arc::clone(counters));
    let waiting = source.downgrade();
    let pad = super::static_pad(decoder, "src")?;
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if let Some(buffer) = info.buffer_mut() {
            if let Some(pts) = buffer.pts() {
                let running_ns = nanos(pts).saturating_sub(LEAD_NS);
                let program_ns = shared.program(running_ns);
                let shown_ns = shared.shown_from(program_ns);
                let shown = clock_time(shared.running(shown_ns));
                buffer.make_mut().set_pts(shown);
                counters.newest_ns.store(program_ns, Ordering::Relaxed);
                if shared.clock.program_ns() > program_ns.saturating_add(shared.latency_ns) {
                    counters.late.fetch_add(1, Ordering::Relaxed);
                }
                shared.stage.decoded(number, program_ns);
                let newer_wait = waiting
                    .upgrade()
                    .is_some_and(|source| source.current_level_buffers() > 0);
                if newer_wait && shown_ns < shared.next_ns.load(Ordering::Relaxed) {
                    return gst::PadProbeReturn::Drop;
                }
            }
            buffer.make_mut().set_duration(gst::ClockTime::NONE);
        }
        gst::PadProbeReturn::Ok
    })
    .ok_or(Error::Missing("a probe on the decoder"))?;
    Ok(())
}
