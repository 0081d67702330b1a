//! What a relay has, and how much of it is used: bandwidth, processor, memory, sessions.
//!
//! Machines differ in what they have least of: one in ten is full at a tenth of its bandwidth. So how full a relay is says
//! its scarcest part, and beyond [`FULL`] of any of them nobody else is taken. Processor and memory are the process's own:
//! what neighbours do is not the relay's to judge.

use std::time::{Duration, Instant};

/// Beyond this part of anything, nobody else is taken.
const FULL: f32 = 0.95;
/// Rates are measured over this time.
const MEASURE: Duration = Duration::from_secs(1);
/// Ticks of a second in which Linux counts a process's time (`sysconf(_SC_CLK_TCK)` on every architecture of ours).
const TICKS_PER_S: u64 = 100;

/// Parts that are used, each 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Of what it can send; 0 when that is unknown.
    pub bandwidth: f32,
    /// Of one core.
    pub cpu: f32,
    /// Of the memory that it could have.
    pub memory: f32,
    /// Of the sessions that it takes.
    pub sessions: f32,
}

impl Usage {
    /// How full it is: by what it has least of.
    #[must_use]
    pub fn load(&self) -> f32 {
        let most = self.bandwidth.max(self.cpu).max(self.memory);
        most.max(self.sessions).clamp(0.0, 1.0)
    }

    /// Whether anybody else would be too much.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let most = self.bandwidth.max(self.cpu).max(self.memory);
        most >= FULL || self.sessions >= 1.0
    }
}

/// What a machine says about its process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Time that it has run, in [`TICKS_PER_S`].
    pub ticks: u64,
    /// Its memory, in kibibytes.
    pub resident_kib: u64,
    /// What else it could have, in kibibytes.
    pub available_kib: u64,
}

impl Process {
    /// Reads `/proc/self/stat`, `/proc/self/status` and `/proc/meminfo` (proc(5)); what is not there is 0.
    #[must_use]
    pub fn parse(stat: &str, status: &str, meminfo: &str) -> Self {
        // The name, in parentheses, may have anything in it.
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let times = fields.split_whitespace().skip(11).take(2);
        let kib = |text: &str, name: &str| -> Option<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        Self {
            ticks: times.filter_map(|ticks| ticks.parse::<u64>().ok()).sum(),
            resident_kib: kib(status, "VmRSS:").unwrap_or_default(),
            available_kib: kib(meminfo, "MemAvailable:").unwrap_or_default(),
        }
    }
}

fn part(used: u64, of: u64) -> f32 {
    if of == 0 {
        return 0.0;
    }
    let permille = used.saturating_mul(1_000) / of;
    f32::from(u16::try_from(permille).unwrap_or(u16::MAX)) / 1_000.0
}

/// Measures what is used.
#[derive(Debug)]
pub(super) struct Meter {
    capacity_kbps: u32,
    used_kbps: u32,
    sent: (u64, Instant),
    ticks: Option<(u64, Instant)>,
    usage: Usage,
}

impl Meter {
    pub(super) fn new(now: Instant, capacity_kbps: u32) -> Self {
        Self {
            capacity_kbps,
            used_kbps: 0,
            sent: (0, now),
            ticks: None,
            usage: Usage::default(),
        }
    }

    /// So many bytes have been sent since the start.
    pub(super) fn sent(&mut self, now: Instant, bytes: u64) {
        let (before, at) = self.sent;
        let passed = now.saturating_duration_since(at);
        if passed < MEASURE {
            return;
        }
        self.sent = (bytes, now);
        let ms = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX).max(1);
        let kbps = bytes.saturating_sub(before).saturating_mul(8) / ms;
        self.used_kbps = u32::try_from(kbps).unwrap_or(u32::MAX);
        self.usage.bandwidth = part(kbps, self.capacity_kbps.into());
    }

    /// The process is like this now.
    pub(super) fn process(&mut self, now: Instant, process: Process) {
        if let Some((ticks, at)) = self.ticks.replace((process.ticks, now)) {
            let passed = now.saturating_duration_since(at);
            let ms = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
            let used = process.ticks.saturating_sub(ticks) * 1_000;
            self.usage.cpu = part(used, ms * TICKS_PER_S);
        }
        let could = process.resident_kib + process.available_kib;
        self.usage.memory = part(process.resident_kib, could);
    }

    pub(super) fn usage(&self, sessions: usize, of: usize) -> Usage {
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        Usage {
            sessions: if of == 0 {
                1.0
            } else {
                part(count(sessions), count(of))
            },
            ..self.usage
        }
    }

    #[cfg(test)]
    fn used_kbps(&self) -> u32 {
        self.used_kbps
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do in a test")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_scarcest_part_says_how_full_it_is() {
        let now = Instant::now();
        let mut meter = Meter::new(now, 10_000);
        assert!(!meter.usage(0, 10).is_full());
        meter.sent(now + Duration::from_secs(2), 250_000);
        assert_eq!(meter.used_kbps(), 1_000);
        let usage = meter.usage(5, 10);
        assert!((usage.load() - 0.5).abs() < 0.01, "{usage:?}");
        meter.sent(now + Duration::from_secs(3), 250_000 + 1_200_000);
        let usage = meter.usage(5, 10);
        assert!((usage.load() - 0.96).abs() < 0.01, "{usage:?}");
        assert!(usage.is_full());
        meter.sent(now + Duration::from_secs(4), 250_000 + 1_200_000);
        let process = |ticks, resident_kib| Process {
            ticks,
            resident_kib,
            available_kib: 1_000,
        };
        meter.process(now, process(100, 10));
        meter.process(now + Duration::from_secs(2), process(292, 9_000));
        let usage = meter.usage(1, 10);
        assert!(
            (usage.cpu - 0.96).abs() < 0.01 && usage.is_full(),
            "{usage:?}"
        );
        assert!((usage.memory - 0.9).abs() < 0.01, "{usage:?}");
        assert!(meter.usage(0, 0).is_full());
    }

    #[test]
    fn what_linux_says_is_read() {
        let stat = "1234 (a (strange) name) S 1 2 3 4 5 6 7 8 9 10 25 17 0 0 20 0";
        let status = "Name:\trelay\nVmRSS:\t   2048 kB\n";
        let meminfo = "MemTotal: 9 kB\nMemAvailable:    4096 kB\n";
        let process = Process::parse(stat, status, meminfo);
        let expected = Process {
            ticks: 42,
            resident_kib: 2_048,
            available_kib: 4_096,
        };
        assert_eq!(process, expected);
    }

    proptest! {
        #[test]
        fn any_text_is_survived(stat in ".{0,80}", status in "(VmRSS:)?.{0,40}", ticks in any::<u64>()) {
            let process = Process::parse(&stat, &status, &status);
            let now = Instant::now();
            let mut meter = Meter::new(now, 1);
            meter.process(now, process);
            meter.process(now + MEASURE, Process { ticks: ticks / 2_000, ..process });
            let load = meter.usage(1, 2).load();
            prop_assert!((0.0..=1.0).contains(&load));
        }
    }
}
