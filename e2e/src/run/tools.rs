//! Where the tools of the tests are. `make test` installs them.

use std::path::PathBuf;

use anyhow::Context;

/// ffmpeg 9: the first release line with a WHIP muxer.
///
/// # Errors
/// When it is not installed.
pub fn ffmpeg9() -> anyhow::Result<PathBuf> {
    ours("tools/bin/ffmpeg9")
}

/// Python with aiortc.
///
/// # Errors
/// When it is not installed.
pub fn python() -> anyhow::Result<PathBuf> {
    ours("venv/bin/python")
}

/// A tool of this checkout.
fn ours(path: &str) -> anyhow::Result<PathBuf> {
    let file = crate::workspace().join(".cache").join(path);
    anyhow::ensure!(
        file.exists(),
        "{} is missing: run `make test`, or `deploy/scripts/install test`",
        file.display()
    );
    Ok(file)
}

/// A tool of the system.
///
/// # Errors
/// When it is not in `PATH` or in the system's folders for daemons.
pub fn system(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .with_context(|| {
            format!("{name} is missing: run `make test`, or `deploy/scripts/install test`")
        })
}

/// The server: `ANCHORNET_BIN`, or the binary of the profile that this test was built with.
///
/// # Errors
/// When it has not been built.
pub fn anchornet() -> anyhow::Result<PathBuf> {
    if let Some(file) = std::env::var_os("ANCHORNET_BIN") {
        return Ok(file.into());
    }
    // target/{profile}/deps/test-hash → target/{profile}/anchornet
    let test = std::env::current_exe()?;
    let file = test
        .ancestors()
        .skip(1)
        .map(|folder| folder.join("anchornet"))
        .find(|file| file.is_file());
    file.context("anchornet is not built: `cargo build -p server`, or set ANCHORNET_BIN")
}
