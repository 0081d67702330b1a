//! A process with its output kept, stopped when dropped.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow};
use rustix::process::{Pid, Signal, kill_process_group};

use super::eventually;

/// Lines of output kept for failure messages and for [`Process::output`].
const KEPT_LINES: usize = 20_000;

/// A child in a process group of its own. Dropping it kills the group, and shows its last lines when the test fails.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    output: Arc<Mutex<Vec<String>>>,
}

impl Process {
    /// Starts `command`; its two outputs are collected line by line.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(name: &str, command: &mut Command) -> anyhow::Result<Self> {
        use std::os::unix::process::CommandExt as _;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let output = Arc::default();
        if let Some(stdout) = child.stdout.take() {
            collect(stdout, Arc::clone(&output));
        }
        if let Some(stderr) = child.stderr.take() {
            collect(stderr, Arc::clone(&output));
        }
        Ok(Self {
            name: name.to_owned(),
            child,
            output,
        })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All lines so far, of both outputs.
    #[must_use]
    pub fn output(&self) -> Vec<String> {
        self.output
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Sends a signal to the process and its children.
    ///
    /// # Errors
    /// When it has already ended and was waited for.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = i32::try_from(self.id())
            .ok()
            .and_then(Pid::from_raw)
            .context("a process id")?;
        kill_process_group(pid, signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// Its exit status once it has ended; `None` while it runs.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// When it still runs after `limit`; the message ends with its last lines.
    pub async fn end(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        let name = self.name.clone();
        let ended = eventually("end of the process", limit, async || {
            self.child.try_wait()?.ok_or_else(|| anyhow!("{name} runs"))
        })
        .await;
        ended.map_err(|error| error.context(self.tail()))
    }

    /// Asks it to end and waits; kills it after `limit`, which is an error.
    ///
    /// # Errors
    /// When it had to be killed.
    pub async fn stop(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        if let Some(status) = self.ended()? {
            return Ok(status);
        }
        self.signal(Signal::TERM)?;
        self.end(limit).await
    }

    /// Kills it without warning, as a crash or a pulled plug would.
    ///
    /// # Errors
    /// When it had already ended.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::KILL)?;
        self.end(Duration::from_secs(5)).await?;
        Ok(())
    }

    /// Its last lines, for failure messages.
    #[must_use]
    pub fn tail(&self) -> String {
        let lines = self.output();
        let last = lines.len().saturating_sub(40);
        format!(
            "last lines of {}:\n{}",
            self.name,
            lines.get(last..).unwrap_or_default().join("\n")
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.signal(Signal::KILL);
            let _ = self.child.wait();
        }
        if thread::panicking() {
            report(&self.tail());
        }
    }
}

/// Tests that end by an error do not panic: they call this to show the logs of what they ran.
#[expect(
    clippy::print_stderr,
    reason = "the test runner shows it with the failure"
)]
pub fn report(text: &str) {
    eprintln!("{text}\n");
}

fn collect(stream: impl Read + Send + 'static, output: Arc<Mutex<Vec<String>>>) {
    thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            let mut lines = output.lock().unwrap_or_else(PoisonError::into_inner);
            if lines.len() < KEPT_LINES {
                lines.push(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
        }
    });
}
