//! Settings of the mixer and of switches.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::channel::switch::Prewarm;

/// What the program needs behind the mixer, in ms: the picture's way through the link, and the AAC encoder's look-ahead.
const MARGIN_MS: u64 = 64;

/// The mixer, and switches between solo and collab.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mixer {
    /// The program; empty: `anchornet-mixer` beside `anchornet`, else in PATH.
    pub command: PathBuf,
    /// `host:port` of an `anchornet-mixer --listen` on another machine; empty: a process on this one.
    pub address: String,
    /// The environment variable with the secret of that mixer; empty: it asks for none.
    pub secret_env: String,
    /// When a mixer runs before a switch needs it.
    pub prewarm: Prewarm,
    /// A switch that takes longer fails, and the picture that is there stays.
    pub switch_timeout_ms: u64,
    /// From the start of a mixer to its first picture.
    pub start_timeout_ms: u64,
    /// A mixer without a picture for so long is replaced; the host is shown meanwhile.
    pub stall_timeout_ms: u64,
    /// From capture to composition, constant; at least 64 ms less than `program.delay_ms`.
    pub latency_ms: u32,
    /// H.264 encoder by the name of its GStreamer element; empty: the best there is.
    pub encoder: String,
    /// Speed preset in the words of the encoder; empty: a sensible one.
    pub speed: String,
    /// Bit rate of the mix.
    pub bitrate_kbps: u32,
    /// Longest distance of keyframes in the mix.
    pub keyframe_interval_ms: u32,
    /// How long tiles travel from one layout to the next; 0: they jump.
    pub layout_transition_ms: u32,
    /// How long the last picture of a silent participant is held before its placeholder.
    pub hold_ms: u32,
    /// Names in the tiles.
    pub names: bool,
    /// Radius of the corners of tiles; 0: plain.
    pub corner_radius_px: u32,
    /// Colour behind the tiles, `#rrggbb`; empty: black.
    pub background: String,
    /// Picture behind the tiles: a file on the mixer's machine.
    pub background_image: String,
    /// The host is replaced by the slate after so long without a picture; 0: never.
    pub slate_after_ms: u64,
    /// What the slate says.
    pub slate_text: String,
    /// Picture of the slate: a file on the mixer's machine.
    pub slate_image: String,
}

impl Default for Mixer {
    fn default() -> Self {
        Self {
            command: PathBuf::new(),
            address: String::new(),
            secret_env: String::new(),
            prewarm: Prewarm::default(),
            switch_timeout_ms: 5_000,
            start_timeout_ms: 5_000,
            stall_timeout_ms: 500,
            latency_ms: 180,
            encoder: String::new(),
            speed: String::new(),
            bitrate_kbps: 2_500,
            keyframe_interval_ms: 2_000,
            layout_transition_ms: 300,
            hold_ms: 2_000,
            names: true,
            corner_radius_px: 0,
            background: String::new(),
            background_image: String::new(),
            slate_after_ms: 2_000,
            slate_text: "Back in a moment".into(),
            slate_image: String::new(),
        }
    }
}

impl Mixer {
    /// Checks what types cannot express.
    ///
    /// # Errors
    /// The setting at fault, and the remedy.
    pub fn validate(&self, delay_ms: u64) -> Result<(), (&'static str, String)> {
        if u64::from(self.latency_ms) + MARGIN_MS > delay_ms {
            let problem = format!(
                "the mix would be later than the program: it must be at most {} with program.delay_ms = {delay_ms}",
                delay_ms.saturating_sub(MARGIN_MS)
            );
            return Err(("mixer.latency_ms", problem));
        }
        let port = self.address.rsplit_once(':').map(|(_, port)| port);
        if !self.address.is_empty() && port.is_none_or(|port| port.parse::<u16>().is_err()) {
            let problem = "it must be host:port, as in 10.0.0.7:9710, or empty".into();
            return Err(("mixer.address", problem));
        }
        if !self.secret_env.is_empty() && std::env::var_os(&self.secret_env).is_none() {
            let problem = format!("there is no environment variable {}", self.secret_env);
            return Err(("mixer.secret_env", problem));
        }
        if !(100..=100_000).contains(&self.bitrate_kbps) {
            let problem = "it must be between 100 and 100000".into();
            return Err(("mixer.bitrate_kbps", problem));
        }
        let is_colour = |text: &str| {
            text.strip_prefix('#').is_some_and(|digits| {
                digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
            })
        };
        if !self.background.is_empty() && !is_colour(&self.background) {
            let problem = "it must be a colour like #101820, or empty".into();
            return Err(("mixer.background", problem));
        }
        let zero = [
            ("mixer.switch_timeout_ms", self.switch_timeout_ms == 0),
            ("mixer.start_timeout_ms", self.start_timeout_ms == 0),
            ("mixer.stall_timeout_ms", self.stall_timeout_ms == 0),
            ("mixer.keyframe_interval_ms", self.keyframe_interval_ms == 0),
        ];
        match zero.iter().find(|(_, zero)| *zero) {
            Some((key, _)) => Err((key, "it must be greater than zero".into())),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mix_must_be_in_time() {
        assert_eq!(Mixer::default().validate(300), Ok(()));
        let (key, problem) = Mixer::default().validate(200).expect_err("too late");
        assert_eq!(key, "mixer.latency_ms");
        assert!(problem.contains("136"), "{problem}");
    }

    #[test]
    fn the_background_must_be_a_colour() {
        for (text, valid) in [
            ("", true),
            ("#10182f", true),
            ("red", false),
            ("#10182", false),
        ] {
            let mixer = Mixer {
                background: text.into(),
                ..Mixer::default()
            };
            assert_eq!(mixer.validate(300).is_ok(), valid, "{text}");
        }
    }
}
