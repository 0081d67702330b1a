//! Who speaks: the loudest, but not on the strength of a cough.

use media::link::Level;

/// Quieter than this is silence.
const SILENCE_DBFS: f32 = -50.0;

/// How much louder than the current speaker somebody must be.
const MARGIN_DB: f32 = 4.0;

/// For how long, in nanoseconds.
const PATIENCE_NS: i64 = 600_000_000;

/// How long a speaker stays at least, in nanoseconds.
const TENURE_NS: i64 = 2_000_000_000;

/// The active speaker.
#[derive(Debug, Default)]
pub(super) struct Speaker {
    current: Option<(u32, i64)>,
    /// Who is louder, and since when.
    challenger: Option<(u32, i64)>,
}

impl Speaker {
    pub(super) fn current(&self) -> Option<u32> {
        self.current.map(|(input, _)| input)
    }

    /// Takes new levels; only `eligible` inputs can be speaker.
    pub(super) fn hear(&mut self, now_ns: i64, levels: &[Level], eligible: &[u32]) {
        let level = |input: u32| {
            let heard = levels.iter().find(|level| level.input == input);
            heard.map_or(f32::NEG_INFINITY, |level| level.dbfs)
        };
        self.current = self.current.filter(|(input, _)| eligible.contains(input));
        let loudest = eligible
            .iter()
            .copied()
            .filter(|input| level(*input) > SILENCE_DBFS)
            .max_by(|a, b| level(*a).total_cmp(&level(*b)));
        let Some(loudest) = loudest else {
            self.challenger = None;
            return;
        };
        let Some((current, since_ns)) = self.current else {
            self.current = Some((loudest, now_ns));
            return;
        };
        let loud_enough = level(loudest) > level(current).max(SILENCE_DBFS) + MARGIN_DB;
        if loudest == current || !loud_enough {
            self.challenger = None;
            return;
        }
        let (challenger, louder_since_ns) = self
            .challenger
            .filter(|(input, _)| *input == loudest)
            .unwrap_or((loudest, now_ns));
        self.challenger = Some((challenger, louder_since_ns));
        if now_ns.saturating_sub(louder_since_ns) >= PATIENCE_NS
            && now_ns.saturating_sub(since_ns) >= TENURE_NS
        {
            self.current = Some((challenger, now_ns));
            self.challenger = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    fn hear(speaker: &mut Speaker, from_ms: i64, to_ms: i64, levels: &[(u32, f32)]) {
        let levels: Vec<Level> = levels
            .iter()
            .map(|(input, dbfs)| Level {
                input: *input,
                dbfs: *dbfs,
            })
            .collect();
        for at in (from_ms..to_ms).step_by(100) {
            speaker.hear(at * MS, &levels, &[1, 2]);
        }
    }

    #[test]
    fn the_first_voice_is_the_speaker() {
        let mut speaker = Speaker::default();
        hear(&mut speaker, 0, 100, &[(1, -60.0), (2, -20.0)]);
        assert_eq!(speaker.current(), Some(2));
    }

    #[test]
    fn a_cough_changes_nothing() {
        let mut speaker = Speaker::default();
        hear(&mut speaker, 0, 5_000, &[(1, -20.0), (2, -60.0)]);
        hear(&mut speaker, 5_000, 5_400, &[(1, -30.0), (2, -5.0)]);
        hear(&mut speaker, 5_400, 6_000, &[(1, -20.0), (2, -60.0)]);
        assert_eq!(speaker.current(), Some(1));
    }

    #[test]
    fn whoever_goes_on_gets_the_floor() {
        let mut speaker = Speaker::default();
        hear(&mut speaker, 0, 5_000, &[(1, -20.0), (2, -60.0)]);
        hear(&mut speaker, 5_000, 6_000, &[(1, -60.0), (2, -20.0)]);
        assert_eq!(speaker.current(), Some(2));
    }

    #[test]
    fn equals_do_not_flicker() {
        let mut speaker = Speaker::default();
        hear(&mut speaker, 0, 1_000, &[(1, -20.0)]);
        hear(&mut speaker, 1_000, 60_000, &[(1, -20.0), (2, -18.0)]);
        assert_eq!(speaker.current(), Some(1));
    }

    #[test]
    fn those_who_left_are_not_speaker() {
        let mut speaker = Speaker::default();
        hear(&mut speaker, 0, 1_000, &[(1, -20.0)]);
        speaker.hear(1_000 * MS, &[], &[2]);
        assert_eq!(speaker.current(), None);
    }
}
