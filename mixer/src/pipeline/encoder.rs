//! The H.264 encoders that a mixer can use, and how each is told what is wanted.

use gstreamer as gst;
use gstreamer::prelude::*;
use media::link::{Configure, Profile};

use super::Error;
use crate::grid::Grid;

/// Elements by preference. Software first: it gives an IDR on demand in the next picture on every machine, and its
/// cost is known. Hardware is used where there is nothing else or where the configuration names it.
const KNOWN: &[&str] = &[
    "x264enc",
    "openh264enc",
    "vah264enc",
    "nvh264enc",
    "qsvh264enc",
    "vaapih264enc",
    "v4l2h264enc",
];

/// Up to this many pixels per second (720p60) one thread keeps up, and costs least.
const PIXELS_PER_THREAD: u64 = 1280 * 720 * 60;

/// The encoders that are installed, best first.
pub(crate) fn available() -> Vec<&'static str> {
    let installed = |name: &&str| gst::ElementFactory::find(name).is_some();
    KNOWN.iter().copied().filter(installed).collect()
}

/// The encoder for a configuration.
pub(super) fn build(config: &Configure, grid: &Grid) -> Result<gst::Element, Error> {
    let available = available();
    let name = match &config.encoder {
        None => available.first().copied().ok_or_else(|| Error::Encoder {
            name: "any".into(),
            known: KNOWN.join(", "),
        })?,
        Some(wanted) => available
            .iter()
            .copied()
            .find(|name| name == wanted)
            .ok_or_else(|| Error::Encoder {
                name: wanted.clone(),
                known: available.join(", "),
            })?,
    };
    let element = super::make(name)?;
    let interval = grid.frames_in(config.keyframe_interval_ms);
    let kbps = (config.bitrate_bps / 1_000).max(1);
    match name {
        "x264enc" => {
            let speed = config.speed.as_deref().unwrap_or("superfast");
            super::set_str(&element, "speed-preset", speed)?;
            super::set_str(&element, "tune", "zerolatency")?;
            element.set_property("bitrate", kbps);
            element.set_property("key-int-max", interval);
            element.set_property("bframes", 0u32);
            element.set_property("threads", threads(config));
            element.set_property("aud", false);
        }
        "openh264enc" => {
            let speed = config.speed.as_deref().unwrap_or("low");
            super::set_str(&element, "complexity", speed)?;
            super::set_str(&element, "rate-control", "bitrate")?;
            element.set_property("bitrate", config.bitrate_bps);
            element.set_property("gop-size", interval);
            element.set_property("multi-thread", threads(config));
        }
        // Hardware: what all of them have under one name, where they have it.
        _ => {
            for (property, value) in [
                ("bitrate", kbps),
                ("key-int-max", interval),
                ("gop-size", interval),
                ("bframes", 0),
                ("b-frames", 0),
            ] {
                if element.find_property(property).is_some() {
                    super::set_str(&element, property, &value.to_string())?;
                }
            }
        }
    }
    Ok(element)
}

/// The caps that make an encoder write the profile.
pub(super) fn profile_caps(profile: Profile) -> gst::Caps {
    let name = match profile {
        Profile::ConstrainedBaseline => "constrained-baseline",
        Profile::Main => "main",
        Profile::High => "high",
    };
    gst::Caps::builder("video/x-h264")
        .field("profile", name)
        .build()
}

fn threads(config: &Configure) -> u32 {
    let rate = u64::from(config.frame_rate.num) / u64::from(config.frame_rate.den.max(1));
    let pixels = u64::from(config.width) * u64::from(config.height) * rate;
    u32::try_from(pixels.div_ceil(PIXELS_PER_THREAD)).unwrap_or(1)
}
