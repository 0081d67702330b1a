//! Rows: what was measured, against which bar, and beside which peer. Misses are printed as such.

use std::path::Path;

use serde::Serialize;

use crate::stats::ratio;

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    /// What was measured.
    pub(crate) what: String,
    /// Whose figure it is.
    pub(crate) system: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) measured: f64,
    /// The most that is allowed (or the least, with `at_least`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bar: Option<f64>,
    pub(crate) at_least: bool,
    /// Where the figure lies with 95 % confidence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) interval: Option<[f64; 2]>,
    /// The same figure of each peer in this run, and ours divided by it.
    pub(crate) peers: Vec<Peer>,
}

/// A peer's figure.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) measured: f64,
    pub(crate) ratio: f64,
    /// Where the ratio lies with 95 % confidence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) interval: Option<[f64; 2]>,
}

impl Row {
    /// A figure of ours without a bar.
    pub(crate) fn new(what: impl Into<String>, measured: f64, unit: &'static str) -> Self {
        Self::of("AnchorNet", what, measured, unit)
    }

    /// A figure of another system, without a bar.
    pub(crate) fn of(
        system: &'static str,
        what: impl Into<String>,
        measured: f64,
        unit: &'static str,
    ) -> Self {
        Self {
            what: what.into(),
            system,
            unit,
            measured,
            bar: None,
            at_least: false,
            interval: None,
            peers: Vec::new(),
        }
    }

    /// At most this much.
    pub(crate) fn at_most(mut self, bar: f64) -> Self {
        self.bar = Some(bar);
        self
    }

    /// At least this much.
    pub(crate) fn at_least(mut self, bar: f64) -> Self {
        self.bar = Some(bar);
        self.at_least = true;
        self
    }

    /// Beside a peer.
    pub(crate) fn beside(mut self, name: &'static str, measured: f64) -> Self {
        self.peers.push(Peer {
            name,
            measured,
            ratio: self.measured / measured,
            interval: None,
        });
        self
    }

    /// Beside a peer that was measured as often, each time under the same conditions.
    pub(crate) fn beside_each(mut self, name: &'static str, ours: &[f64], theirs: &[f64]) -> Self {
        let pairs: Vec<(f64, f64)> = ours.iter().copied().zip(theirs.iter().copied()).collect();
        let ratio = ratio(&pairs);
        let count = u32::try_from(theirs.len()).unwrap_or(u32::MAX);
        self.peers.push(Peer {
            name,
            measured: theirs.iter().fold(0.0, |sum, value| sum + value) / f64::from(count),
            ratio: ratio.map_or(f64::NAN, |ratio| ratio.value),
            interval: ratio.map(|ratio| [ratio.low, ratio.high]),
        });
        self
    }

    /// With the interval of its confidence.
    pub(crate) fn within(mut self, low: f64, high: f64) -> Self {
        self.interval = Some([low, high]);
        self
    }

    /// Whether the bar is met; `None` without one.
    pub(crate) fn passes(&self) -> Option<bool> {
        let bar = self.bar?;
        Some(if self.at_least {
            self.measured >= bar
        } else {
            self.measured <= bar
        })
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:.2} ", self.name, self.measured)?;
        match (self.ratio.is_finite(), self.interval) {
            (false, _) => write!(f, "(-)"),
            (true, None) => write!(f, "({:.2}x)", self.ratio),
            (true, Some([low, high])) => write!(f, "({:.2}x, {low:.2} to {high:.2})", self.ratio),
        }
    }
}

/// The table as text.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut out = format!(
        "{:<58} {:>10} {:>12} {:<6} {}\n",
        "", "bar", "measured", "", "peers in this run (ours / theirs)"
    );
    for row in rows {
        let bar = row.bar.map_or(String::new(), |bar| {
            format!("{} {bar:.2}", if row.at_least { ">=" } else { "<=" })
        });
        let verdict = match row.passes() {
            Some(true) => "pass",
            Some(false) => "MISS",
            None => "",
        };
        let mut notes: Vec<String> = row.peers.iter().map(Peer::to_string).collect();
        if let Some([low, high]) = row.interval {
            notes.push(format!("95 % CI {low:.2} to {high:.2}"));
        }
        if row.system != "AnchorNet" {
            notes.push(format!("({})", row.system));
        }
        let measured = format!("{:.2} {}", row.measured, row.unit);
        out += &format!(
            "{:<58} {bar:>10} {measured:>12} {verdict:<6} {}\n",
            row.what,
            notes.join("  ")
        );
    }
    out
}

/// Writes the rows as JSON.
pub(crate) fn write(rows: &[Row], path: &Path) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    Ok(std::fs::write(path, serde_json::to_vec_pretty(rows)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misses_are_called_misses() {
        let rows = [
            Row::new("a", 2.0, "ms").at_most(1.0).beside("xiu", 4.0),
            Row::new("b", 2.0, "").at_least(1.0),
        ];
        let text = table(&rows);
        assert!(
            text.contains("MISS") && text.contains("pass") && text.contains("(0.50x)"),
            "{text}"
        );
    }
}
