//! One mixer process and the bytes to and from it. A shell: what to say, and what a silence means, is decided elsewhere.
//!
//! The link is a Unix socket pair; the child finds its end on its standard input. Bounds: [`MAX_QUEUED`] messages wait to be
//! sent; when they are full the mixer does not read any more, and the caller is told to give it up. What the mixer
//! sends waits in the socket while the channel is busy.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use bytes::BytesMut;
use media::link::{Decoder, FromMixer, Message, PING_INTERVAL_MS, ToMixer, VERSION};
use media::{AccessUnit, Clock, Timestamp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;

use crate::clock;

/// Most messages waiting to be sent: several seconds of every input.
const MAX_QUEUED: usize = 2_048;
/// Messages written in one go.
const BATCH: usize = 64;

const UNWANTED: &str = "it is not needed any more";

/// Which run of the process an event belongs to: events of an earlier one may still be on their way.
pub type Run = u64;

/// What a process says.
#[derive(Debug)]
pub enum Event {
    /// A message of the link.
    Said(FromMixer),
    /// A picture of another channel's mixer, with its time on the anchor's clock.
    Lent(AccessUnit),
    /// It is over, and why.
    Ended(String),
}

/// A running mixer. Dropping it kills the process.
#[derive(Debug)]
pub struct Process {
    run: Run,
    pid: u32,
    messages: mpsc::Sender<ToMixer>,
    /// Dropped with this: the task must hear of it also while it waits for a mixer that does not read.
    _wanted: oneshot::Sender<()>,
}

/// What to run, and what time it is there.
#[derive(Clone, Debug)]
pub struct Start {
    /// The program; see [`find`].
    pub command: PathBuf,
    /// Number of this run.
    pub run: Run,
    /// The anchor's clock.
    pub clock: Clock,
    /// Program time zero on it.
    pub epoch: Timestamp,
}

impl Process {
    /// Starts a mixer. It has been greeted and knows the time; [`Event`]s go to `events` until [`Event::Ended`].
    ///
    /// # Errors
    /// When the program cannot be run.
    pub fn start(start: Start, events: mpsc::Sender<(Run, Event)>) -> io::Result<Self> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let ours = UnixStream::from_std(ours)?;
        let child = Command::new(&start.command)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| {
                let program = start.command.display();
                io::Error::new(error.kind(), format!("{program}: {error}"))
            })?;
        let (messages, queue) = mpsc::channel(MAX_QUEUED);
        let (wanted, unwanted) = oneshot::channel();
        let process = Self {
            run: start.run,
            pid: child.id().unwrap_or_default(),
            messages,
            _wanted: wanted,
        };
        tokio::spawn(async move {
            let run = start.run;
            let why = converse(start, child, ours, queue, unwanted, &events).await;
            let _ = events.send((run, Event::Ended(why))).await;
        });
        Ok(process)
    }

    /// Says something. False when it has stopped listening: give it up then.
    pub fn say(&self, message: ToMixer) -> bool {
        self.messages.try_send(message).is_ok()
    }

    /// Which run this is.
    #[must_use]
    pub fn run(&self) -> Run {
        self.run
    }

    /// The operating system's number of the process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }
}

/// Talks to the process until one side ends. Returns why it is over.
async fn converse(
    start: Start,
    mut child: Child,
    link: UnixStream,
    mut queue: mpsc::Receiver<ToMixer>,
    unwanted: oneshot::Receiver<()>,
    events: &mpsc::Sender<(Run, Event)>,
) -> String {
    let (mut reader, mut writer) = link.into_split();
    let writing = async {
        let mut ping = tokio::time::interval(Duration::from_millis(PING_INTERVAL_MS));
        ping.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut out = BytesMut::new();
        let mut batch = Vec::with_capacity(BATCH);
        let mut pings = 0;
        encode(&ToMixer::Hello { version: VERSION }, &mut out);
        loop {
            tokio::select! {
                biased;
                _ = ping.tick() => {
                    let now = start.clock.timestamp(clock::now());
                    let program_ns = now.as_nanos().saturating_sub(start.epoch.as_nanos());
                    encode(&ToMixer::Ping { id: pings, program_ns }, &mut out);
                    pings += 1;
                }
                taken = queue.recv_many(&mut batch, BATCH) => {
                    if taken == 0 {
                        return UNWANTED.to_owned();
                    }
                    for message in batch.drain(..) {
                        encode(&message, &mut out);
                    }
                }
            }
            if let Err(error) = writer.write_all_buf(&mut out).await {
                return format!("the link broke: {error}");
            }
        }
    };
    let reading = async {
        let mut decoder = Decoder::<FromMixer>::new();
        loop {
            match reader.read_buf(decoder.buffer()).await {
                Ok(0) => return "it closed the link".to_owned(),
                Ok(_) => {}
                Err(error) => return format!("the link broke: {error}"),
            }
            loop {
                match decoder.next_message() {
                    Ok(Some(message)) => {
                        if events
                            .send((start.run, Event::Said(message)))
                            .await
                            .is_err()
                        {
                            return UNWANTED.to_owned();
                        }
                    }
                    Ok(None) => break,
                    Err(error) => {
                        return format!("it does not keep to the link's contract: {error}");
                    }
                }
            }
        }
    };
    let why = tokio::select! {
        why = writing => why,
        why = reading => why,
        _ = unwanted => UNWANTED.to_owned(),
    };
    // A process that is stopped (SIGSTOP) hears nothing but this.
    let _ = child.start_kill();
    match child.wait().await {
        Ok(status) if !status.success() && status.code().is_some() => format!("{why}; {status}"),
        _ => why,
    }
}

fn encode(message: &ToMixer, out: &mut BytesMut) {
    if let Err(error) = message.encode(out) {
        tracing::warn!(%error, "a message to the mixer is too large and was left out");
    }
}

/// The mixer's program: `configured`, else `anchornet-mixer` beside this program, else in `PATH`.
#[must_use]
pub fn find(configured: &Path) -> PathBuf {
    const NAME: &str = "anchornet-mixer";
    if !configured.as_os_str().is_empty() {
        return configured.to_owned();
    }
    let beside = std::env::current_exe()
        .ok()
        .and_then(|own| Some(own.parent()?.join(NAME)));
    beside
        .filter(|path| path.exists())
        .unwrap_or_else(|| PathBuf::from(NAME))
}
