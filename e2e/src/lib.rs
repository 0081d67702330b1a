//! Whole-system tests: real publishers, real players, and the means to judge what comes out.
//!
//! - [`clip`] makes media with known content: a frame number and a flash in the picture, a tone and beeps in the sound.
//! - [`run`] starts things and stops them: the server, ffmpeg, Chromium, nginx, Redis.
//! - [`capture`] records what a viewer gets, with arrival times.
//! - [`analysis`] measures it: timestamps, coded pictures, frame numbers, clicks and gaps, A/V offset, splices.
//!
//! This crate looks at the system from outside. Its tests run one at a time (see `.config/nextest.toml`), wait for
//! events with deadlines, and use free ports on loopback only.

pub mod analysis;
pub mod capture;
pub mod clip;
pub mod interop;
pub mod run;

use std::path::{Path, PathBuf};

/// The top folder of the workspace.
#[must_use]
pub fn workspace() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// A folder under `target/` that survives between runs: generated clips live there.
///
/// # Errors
/// When it cannot be created.
pub fn cache_folder() -> std::io::Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace().join("target"), PathBuf::from);
    let folder = target.join("e2e");
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}
