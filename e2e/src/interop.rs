//! What clients of independent make can do with a node, written down by the tests that try it.
//!
//! A test opens a [`Case`], which says "failed" until the test says otherwise: a test that ends early is a failed case. The
//! cases of one run are files in `target/e2e/interop`; [`page`] makes a table of them.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// Which way the media goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Direction {
    /// To the node, by WHIP.
    Publish,
    /// From the node, by WHEP.
    Play,
}

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// As it should.
    Works,
    /// Not as it should, or not to the end.
    Failed,
    /// The client cannot, and is told so.
    Cannot,
    /// Not tried here.
    NotTried,
}

/// One client, one direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its name.
    pub client: String,
    /// What it calls itself; empty when nobody asked.
    pub version: String,
    /// Which way.
    pub direction: Direction,
    /// How it went.
    pub outcome: Outcome,
    /// What was looked at, or why there was nothing to look at.
    pub detail: String,
}

/// A case that is being tried.
#[derive(Debug)]
pub struct Case {
    record: Record,
    file: PathBuf,
}

impl Case {
    /// A case of `client`, failed so far.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub fn begin(
        client: &str,
        version: impl Into<String>,
        direction: Direction,
    ) -> anyhow::Result<Self> {
        let file = folder()?.join(format!("{client}-{direction:?}.json"));
        let record = Record {
            client: client.to_owned(),
            version: version.into(),
            direction,
            outcome: Outcome::Failed,
            detail: "the test did not come to its end".to_owned(),
        };
        let case = Self { record, file };
        case.write()?;
        Ok(case)
    }

    /// The version, where it is known only now.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub fn of_version(mut self, version: &str) -> anyhow::Result<Self> {
        version.clone_into(&mut self.record.version);
        self.write()?;
        Ok(self)
    }

    /// Ends it; `detail` completes the sentence "works: …", "cannot: …".
    ///
    /// # Errors
    /// When it cannot be written down.
    pub fn end(mut self, outcome: Outcome, detail: impl Into<String>) -> anyhow::Result<()> {
        self.record.outcome = outcome;
        self.record.detail = detail.into();
        self.write()
    }

    fn write(&self) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(&self.record)?;
        fs::write(&self.file, text).with_context(|| self.file.display().to_string())
    }
}

fn folder() -> anyhow::Result<PathBuf> {
    let folder = crate::cache_folder()?.join("interop");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Of the words with which a program says its version, the first with a digit and a dot; empty when there is none.
#[must_use]
pub fn version(program: &Path, argument: &str) -> String {
    let output = Command::new(program).arg(argument).output();
    let output = output.map(|output| output.stdout).unwrap_or_default();
    let said = String::from_utf8_lossy(&output);
    let mut words = said.lines().next().unwrap_or_default().split_whitespace();
    let is_number =
        |word: &&str| word.contains('.') && word.contains(|of: char| of.is_ascii_digit());
    words.find(is_number).unwrap_or_default().to_owned()
}

/// Every case that was written down, by client.
///
/// # Errors
/// When one cannot be read.
pub fn records() -> anyhow::Result<Vec<Record>> {
    let mut records: Vec<Record> = Vec::new();
    for entry in fs::read_dir(folder()?)? {
        let file = entry?.path();
        let text = fs::read_to_string(&file)?;
        records.push(serde_json::from_str(&text).with_context(|| file.display().to_string())?);
    }
    records.sort_by(|a, b| {
        let key = |record: &Record| (record.client.to_lowercase(), record.direction);
        key(a).cmp(&key(b))
    });
    Ok(records)
}

/// Forgets the cases of earlier runs.
///
/// # Errors
/// When they cannot be removed.
pub fn forget() -> anyhow::Result<()> {
    fs::remove_dir_all(folder()?).context("the cases of the last run")
}

/// The matrix as Markdown.
#[must_use]
pub fn page(records: &[Record], system: &str) -> String {
    let mut text = format!(
        "# Clients\n\nWritten by `make interop` from what its tests found, on {system}; not by hand. Each client is of another make \
         than the\nnode's own WebRTC stack. Media is H.264 and Opus, over UDP on one machine; *publish* is WHIP (RFC 9725), *play* \
         is WHEP.\n\n| client | version | publish | play |\n|---|---|---|---|\n"
    );
    let mut clients: Vec<&str> = Vec::new();
    for record in records {
        if clients.last() != Some(&record.client.as_str()) {
            clients.push(&record.client);
        }
    }
    let of = |client: &str, direction| {
        let mut all = records.iter();
        all.find(|record| record.client == client && record.direction == direction)
    };
    for client in &clients {
        let word = |direction| of(client, direction).map_or("–", |record| word(record.outcome));
        let mut own = records.iter().filter(|record| record.client == *client);
        let version = own.find_map(|record| Some(&*record.version).filter(|text| !text.is_empty()));
        let (publish, play) = (word(Direction::Publish), word(Direction::Play));
        let _ = writeln!(
            text,
            "| {client} | {} | {publish} | {play} |",
            version.unwrap_or("–")
        );
    }
    text.push_str("\n## What was looked at\n\n");
    for record in records {
        let Record {
            client,
            direction,
            outcome,
            detail,
            ..
        } = record;
        let direction = match direction {
            Direction::Publish => "publishes",
            Direction::Play => "plays",
        };
        let _ = writeln!(
            text,
            "- **{client} {direction}:** {}: {detail}.",
            word(*outcome)
        );
    }
    text
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Works => "works",
        Outcome::Failed => "**fails**",
        Outcome::Cannot => "cannot",
        Outcome::NotTried => "not tried",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_one_line_with_both_directions() {
        let record = |client: &str, version: &str, direction, outcome| Record {
            client: client.to_owned(),
            version: version.to_owned(),
            direction,
            outcome,
            detail: "seen".to_owned(),
        };
        let records = [
            record("aiortc", "1.2", Direction::Publish, Outcome::Works),
            record("aiortc", "", Direction::Play, Outcome::Failed),
            record("ffmpeg", "", Direction::Play, Outcome::Cannot),
        ];
        let page = page(&records, "a machine");
        assert!(
            page.contains("| aiortc | 1.2 | works | **fails** |\n| ffmpeg | – | – | cannot |\n"),
            "{page}"
        );
        assert!(page.contains("- **aiortc plays:** **fails**: seen.\n"));
    }
}
