//! One mixer and the bytes to and from it. A shell: what to say, and what a silence means, is decided elsewhere.
//!
//! The link to a child process is a Unix socket pair, of which the child finds its end on its standard input; to a mixer on another
//! machine it is a TCP connection, with proof of a shared secret (`docs/link.md`). Bounds: [`MAX_QUEUED`] messages wait to be
//! sent; when they are full the mixer does not read any more, and the caller is told to give it up. What the mixer
//! sends waits in the socket while the channel is busy.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use aws_lc_rs::hmac;
use bytes::BytesMut;
use media::link::{Decoder, FromMixer, Message, PING_INTERVAL_MS, ToMixer, VERSION};
use media::{AccessUnit, Clock, Timestamp};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;

use crate::clock;

/// Most messages waiting to be sent: several seconds of every input.
const MAX_QUEUED: usize = 2_048;
/// Messages written in one go.
const BATCH: usize = 64;

/// How long a mixer on another machine may take to answer a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

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
    /// None when it is on another machine.
    pid: Option<u32>,
    messages: mpsc::Sender<ToMixer>,
    /// Dropped with this: the task must hear of it also while it waits for a mixer that does not read.
    _wanted: oneshot::Sender<()>,
}

/// What to run, and what time it is there.
#[derive(Clone, Debug)]
pub struct Start {
    /// What the mixer is.
    pub place: Place,
    /// Number of this run.
    pub run: Run,
    /// The anchor's clock.
    pub clock: Clock,
    /// Program time zero on it.
    pub epoch: Timestamp,
}

/// Where a mixer runs.
#[derive(Clone, Debug)]
pub enum Place {
    /// A child of this process: the program; see [`find`].
    Here(PathBuf),
    /// Another machine.
    There {
        /// `host:port`.
        address: String,
        /// What both must know, when it asks.
        secret: Option<String>,
    },
}

impl Process {
    /// Starts a mixer, or connects to one. It has been greeted and knows the time; [`Event`]s go to `events` until
    /// [`Event::Ended`].
    ///
    /// # Errors
    /// When the program cannot be run.
    pub fn start(start: Start, events: mpsc::Sender<(Run, Event)>) -> io::Result<Self> {
        match start.place.clone() {
            Place::Here(program) => Self::here(start, &program, events),
            Place::There { address, secret } => Ok(Self::there(start, address, secret, events)),
        }
    }

    fn there(
        start: Start,
        address: String,
        secret: Option<String>,
        events: mpsc::Sender<(Run, Event)>,
    ) -> Self {
        let (messages, queue) = mpsc::channel(MAX_QUEUED);
        let (wanted, mut unwanted) = oneshot::channel();
        let run = start.run;
        tokio::spawn(async move {
            let connecting = tokio::time::timeout(CONNECT_TIMEOUT, connect(&address, secret));
            let connected = tokio::select! {
                connected = connecting => connected,
                _ = &mut unwanted => return,
            };
            let why = match connected {
                Ok(Ok(link)) => converse(start, link, queue, unwanted, &events).await,
                Ok(Err(why)) => format!("{address}: {why}"),
                Err(_) => format!("{address} does not answer"),
            };
            let _ = events.send((run, Event::Ended(why))).await;
        });
        Self {
            run,
            pid: None,
            messages,
            _wanted: wanted,
        }
    }

    fn here(start: Start, program: &Path, events: mpsc::Sender<(Run, Event)>) -> io::Result<Self> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let ours = UnixStream::from_std(ours)?;
        let mut child = Command::new(program)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", program.display()))
            })?;
        let (messages, queue) = mpsc::channel(MAX_QUEUED);
        let (wanted, unwanted) = oneshot::channel();
        let process = Self {
            run: start.run,
            pid: child.id(),
            messages,
            _wanted: wanted,
        };
        tokio::spawn(async move {
            let run = start.run;
            let why = converse(start, ours, queue, unwanted, &events).await;
            let why = end(&mut child, why).await;
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

    /// The operating system's number of the process; `None` on another machine.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.pid
    }
}

/// Connects to a mixer on another machine, and proves to know its secret if there is one.
async fn connect(address: &str, secret: Option<String>) -> Result<TcpStream, String> {
    #[expect(clippy::disallowed_methods, reason = "this is the shell of the link")]
    let mut link = TcpStream::connect(address)
        .await
        .map_err(|error| error.to_string())?;
    let _ = link.set_nodelay(true);
    let Some(secret) = secret else {
        return Ok(link);
    };
    let mut decoder = Decoder::<FromMixer>::new();
    let nonce = loop {
        match decoder.next_message().map_err(|error| error.to_string())? {
            Some(FromMixer::Challenge { nonce }) => break nonce,
            Some(FromMixer::Error { message }) => return Err(message),
            Some(_) => return Err("it asks for no secret: is this the mixer?".to_owned()),
            None => {}
        }
        let read = link.read_buf(decoder.buffer()).await;
        if read.map_err(|error| error.to_string())? == 0 {
            return Err("it closed the connection".to_owned());
        }
    };
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let mac = hmac::sign(&key, nonce.as_bytes());
    let mac = mac.as_ref().iter().map(|byte| format!("{byte:02x}"));
    let mut out = BytesMut::new();
    encode(&ToMixer::Authenticate { mac: mac.collect() }, &mut out);
    let sent = link.write_all_buf(&mut out).await;
    sent.map_err(|error| error.to_string())?;
    Ok(link)
}

/// Talks to the mixer until one side ends. Returns why it is over.
async fn converse(
    start: Start,
    link: impl AsyncRead + AsyncWrite,
    mut queue: mpsc::Receiver<ToMixer>,
    unwanted: oneshot::Receiver<()>,
    events: &mpsc::Sender<(Run, Event)>,
) -> String {
    let (mut reader, mut writer) = tokio::io::split(link);
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
        let mut complaint = String::new();
        loop {
            match reader.read_buf(decoder.buffer()).await {
                Ok(0) => return format!("it closed the link{complaint}"),
                Ok(_) => {}
                Err(error) => return format!("the link broke: {error}"),
            }
            loop {
                match decoder.next_message() {
                    Ok(Some(FromMixer::Challenge { .. })) => {
                        return "it asks for a secret: set mixer.secret_env".to_owned();
                    }
                    Ok(Some(message)) => {
                        if let FromMixer::Error { message } = &message {
                            complaint = format!(": {message}");
                        }
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
    tokio::select! {
        why = writing => why,
        why = reading => why,
        _ = unwanted => UNWANTED.to_owned(),
    }
}

/// Ends the process, and adds how it ended to why.
async fn end(child: &mut Child, why: String) -> String {
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
