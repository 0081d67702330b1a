//! Rows: what was measured, against which bar, and beside which peer. Misses are printed as such.

use std::path::Path;

use serde::Serialize;

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
    /// The same figure of each peer in this run, and ours divided by it.
    pub(crate) peers: Vec<Peer>,
}

/// A peer's figure.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) measured: f64,
    pub(crate) ratio: f64,
}

impl Row {
    /// A figure of ours without a bar.
    pub(crate) fn new(what: impl Into<String>, measured: f64, unit: &'static str) -> Self {
        Self {
            what: what.into(),
            system: "AnchorNet",
            unit,
            measured,
            bar: None,
            at_least: false,
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
        });
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
        let peers: Vec<String> = row
            .peers
            .iter()
            .map(|peer| format!("{} {:.2} ({:.2}x)", peer.name, peer.measured, peer.ratio))
            .collect();
        let measured = format!("{:.2} {}", row.measured, row.unit);
        out += &format!(
            "{:<58} {bar:>10} {measured:>12} {verdict:<6} {}\n",
            row.what,
            peers.join("  ")
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
