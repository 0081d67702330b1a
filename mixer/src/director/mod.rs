//! Who is in the picture and what their tiles show. Decides; draws nothing, knows no clock but program time.
//!
//! The shell tells it what the anchor says ([`Director::handle`]) and which pictures were decoded
//! ([`Director::decoded`]), and asks for each output picture what it is made of ([`Director::plan`]).
//!
//! Invariants:
//! - A plan names only inputs that were added and not removed, each at most once (custom layouts: as often as given).
//! - What a tile shows follows from the capture times of pictures alone, so that the same streams give the same mix.

mod speaker;

use std::collections::BTreeMap;
use std::sync::Arc;

use media::link::{Configure, InputState, LayoutName, Level, MAX_INPUTS, Scene};

use crate::layout::{Animation, Moving, Rect, Size, Tile, arrange};
use speaker::Speaker;

/// A picture older than this is not live any more, in nanoseconds: half a second.
const LIVE_NS: i64 = 500_000_000;

/// A decoder whose newest picture is at most this much older than what is composed keeps up, in nanoseconds: 100 ms.
const CAUGHT_UP_NS: i64 = 100_000_000;

/// What the anchor says, as far as it concerns the picture.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// A new input with its name.
    Add(u32, String),
    /// The end of an input.
    Remove(u32),
    /// What the picture is made of.
    Scene(Scene),
    /// How loud the inputs are.
    Levels(Vec<Level>),
}

/// Why a command was not followed. The picture stays as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The number is in use.
    #[error("input {0} exists already: remove it first, or choose another number")]
    Exists(u32),
    /// There is no such input.
    #[error("input {0} does not exist: add it first")]
    Unknown(u32),
    /// Too many inputs.
    #[error("a mixer takes at most {MAX_INPUTS} inputs: remove one first")]
    TooMany,
    /// An input is in the scene twice.
    #[error("input {0} is in the scene's order twice")]
    Twice(u32),
}

/// What one output picture is made of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Tiles, later ones in front.
    pub tiles: Vec<PlanTile>,
    /// Nobody is in: the slate is shown.
    pub slate: bool,
    /// Everybody in the scene can be seen as they were then. Before that, there are holes that are the mixer's, not
    /// theirs.
    pub caught_up: bool,
}

/// A tile of a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanTile {
    /// Whose it is.
    pub input: u32,
    /// Where it lies.
    pub tile: Tile,
    /// 0 is invisible, 1 is opaque.
    pub opacity: f64,
    /// Where it comes to rest.
    pub settled: Rect,
    /// The input's picture is shown; else its placeholder.
    pub picture: bool,
    /// The name of the participant.
    pub name: Arc<str>,
}

impl PlanTile {
    /// Where it lies.
    #[must_use]
    pub fn rect(&self) -> Rect {
        self.tile.rect
    }
}

#[derive(Debug)]
struct Input {
    name: Arc<str>,
    /// Capture time of the newest decoded picture.
    newest_ns: Option<i64>,
    /// The first picture after a silence, and the last before it. Pictures are decoded some time before they are shown.
    resumed_ns: i64,
    before_ns: Option<i64>,
}

/// The state machine.
#[derive(Debug)]
pub struct Director {
    picture: Size,
    hold_ns: i64,
    frame_ns: i64,
    transition_ns: i64,
    inputs: BTreeMap<u32, Input>,
    scene: Scene,
    /// A scene has come.
    directed: bool,
    speaker: Speaker,
    animation: Animation,
}

impl Director {
    /// A director of an empty scene.
    #[must_use]
    pub fn new(config: &Configure) -> Self {
        Self {
            picture: Size {
                width: config.width,
                height: config.height,
            },
            hold_ns: i64::from(config.hold_ms) * 1_000_000,
            frame_ns: i64::from(config.frame_rate.den) * 1_000_000_000
                / i64::from(config.frame_rate.num.max(1)),
            transition_ns: i64::from(config.layout_transition_ms) * 1_000_000,
            inputs: BTreeMap::new(),
            scene: Scene::default(),
            directed: false,
            speaker: Speaker::default(),
            animation: Animation::default(),
        }
    }

    /// Follows a command at a program time.
    ///
    /// # Errors
    /// When the command contradicts what there is; nothing changes then.
    pub fn handle(&mut self, now_ns: i64, command: Command) -> Result<(), Error> {
        match command {
            Command::Add(input, name) => self.add(input, &name)?,
            Command::Remove(input) => {
                self.inputs.remove(&input).ok_or(Error::Unknown(input))?;
                self.animation.forget(input);
            }
            Command::Scene(scene) => {
                if scene.order.len() > MAX_INPUTS {
                    return Err(Error::TooMany);
                }
                for (at, input) in scene.order.iter().enumerate() {
                    if scene.order.iter().take(at).any(|earlier| earlier == input) {
                        return Err(Error::Twice(*input));
                    }
                }
                self.scene = scene;
                self.directed = true;
            }
            Command::Levels(levels) => self.speaker.hear(now_ns, &levels, &self.scene.order),
        }
        self.arrange(now_ns);
        Ok(())
    }

    fn add(&mut self, input: u32, name: &str) -> Result<(), Error> {
        if self.inputs.contains_key(&input) {
            return Err(Error::Exists(input));
        }
        if self.inputs.len() >= MAX_INPUTS {
            return Err(Error::TooMany);
        }
        let entry = Input {
            name: Arc::from(name),
            newest_ns: None,
            resumed_ns: i64::MIN,
            before_ns: None,
        };
        self.inputs.insert(input, entry);
        Ok(())
    }

    /// A picture of an input was decoded; `pts_ns` is its capture time.
    pub fn decoded(&mut self, input: u32, pts_ns: i64) {
        let Some(entry) = self.inputs.get_mut(&input) else {
            return;
        };
        let silence_ns = entry
            .newest_ns
            .map_or(i64::MAX, |newest| pts_ns.saturating_sub(newest));
        if silence_ns >= self.hold_ns {
            entry.before_ns = entry.newest_ns;
            entry.resumed_ns = pts_ns;
        }
        entry.newest_ns = entry.newest_ns.max(Some(pts_ns));
    }

    /// What the picture of a program time is made of.
    #[must_use]
    pub fn plan(&self, at_ns: i64) -> Plan {
        let tile = |moving: Moving| {
            let input = moving.tile.input;
            let entry = self.inputs.get(&input)?;
            let state = self.state_of(entry, at_ns);
            Some(PlanTile {
                input,
                tile: moving.tile,
                opacity: moving.opacity,
                settled: moving.settled,
                picture: matches!(state, InputState::Live | InputState::Held),
                name: Arc::clone(&entry.name),
            })
        };
        let tiles: Vec<PlanTile> = self
            .animation
            .at(at_ns)
            .into_iter()
            .filter_map(tile)
            .collect();
        Plan {
            slate: tiles.is_empty(),
            caught_up: self.has_caught_up(at_ns),
            tiles,
        }
    }

    fn has_caught_up(&self, at_ns: i64) -> bool {
        let seen = |input: &u32| {
            let newest = self
                .inputs
                .get(input)
                .and_then(|entry| self.newest_seen(entry, at_ns));
            newest.is_some_and(|newest| newest.saturating_add(CAUGHT_UP_NS) >= at_ns)
        };
        self.directed && self.scene.order.iter().all(seen)
    }

    /// What the tile of an input shows at a program time; `None` when there is no such input.
    #[must_use]
    pub fn state(&self, input: u32, at_ns: i64) -> Option<InputState> {
        let entry = self.inputs.get(&input)?;
        Some(self.state_of(entry, at_ns))
    }

    /// The inputs there are.
    pub fn inputs(&self) -> impl Iterator<Item = u32> + '_ {
        self.inputs.keys().copied()
    }

    /// The active speaker.
    #[must_use]
    pub fn speaker(&self) -> Option<u32> {
        self.speaker.current()
    }

    /// The scene that is followed.
    #[must_use]
    pub fn scene(&self) -> &Scene {
        &self.scene
    }

    /// The newest decoded picture, but before the first after a silence the last before it.
    fn newest_seen(&self, input: &Input, at_ns: i64) -> Option<i64> {
        // The picture of T is captured before T + one frame.
        if at_ns.saturating_add(self.frame_ns) > input.resumed_ns {
            input.newest_ns
        } else {
            input.before_ns
        }
    }

    fn state_of(&self, input: &Input, at_ns: i64) -> InputState {
        match self.newest_seen(input, at_ns) {
            None => InputState::Waiting,
            Some(newest) => match at_ns.saturating_sub(newest) {
                age if age < LIVE_NS => InputState::Live,
                age if age < self.hold_ns => InputState::Held,
                _ => InputState::Placeholder,
            },
        }
    }

    fn arrange(&mut self, now_ns: i64) {
        let in_picture: Vec<u32> = self
            .scene
            .order
            .iter()
            .copied()
            .filter(|input| self.inputs.contains_key(input))
            .collect();
        let speaker = match self.scene.layout.name {
            LayoutName::Speaker => self.speaker.current(),
            LayoutName::Grid | LayoutName::SideBySide | LayoutName::Pip | LayoutName::Custom => {
                None
            }
        };
        let tiles = arrange(&self.scene.layout, &in_picture, speaker, self.picture);
        let transition_ns = if self.scene.at_once {
            0
        } else {
            self.transition_ns
        };
        self.animation.head_for(tiles, now_ns, transition_ns);
    }
}

#[cfg(test)]
mod tests;
