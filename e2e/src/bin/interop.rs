//! Writes docs/interop.md from the cases of the last run. With `--forget` it removes them instead, before a run.

use std::fs;

use anyhow::{Context as _, ensure};
use e2e::interop::{Outcome, forget, page, records};

fn main() -> anyhow::Result<()> {
    if std::env::args().nth(1).as_deref() == Some("--forget") {
        return forget();
    }
    let records = records()?;
    ensure!(!records.is_empty(), "no case was tried: run `make interop`");
    let os = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = os
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="));
    let system = name.unwrap_or("an unknown system").trim_matches('"');
    let file = e2e::workspace().join("docs/interop.md");
    fs::write(&file, page(&records, system)).with_context(|| file.display().to_string())?;
    let failed = records
        .iter()
        .filter(|record| record.outcome == Outcome::Failed);
    ensure!(
        failed.count() == 0,
        "some cases failed: see {}",
        file.display()
    );
    Ok(())
}
