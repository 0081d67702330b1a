//! The reader and the writer of a link: bytes on one side, messages on the other.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context;
use bytes::BytesMut;
use media::link::{ABANDONED_AFTER_MS, Decoder, FromMixer, Message, ToMixer};
use socket2::Socket;

use crate::outbox::{Outbox, Pushed};
use crate::pipeline::ProgramClock;

/// How much is read at once.
const CHUNK_BYTES: usize = 64 << 10;

/// What the reader has to say.
pub(super) enum Arrival {
    /// A message, and when it came by the mixer's clock.
    Message(ToMixer, i64),
    /// The anchor has closed the link.
    End,
    /// The link cannot be read any more.
    Broken(String),
}

/// Starts the reader. It ends with the link, or when nobody listens any more.
pub(super) fn read(
    mut socket: Socket,
    clock: ProgramClock,
    to: SyncSender<Arrival>,
) -> anyhow::Result<()> {
    socket
        .set_read_timeout(Some(Duration::from_millis(ABANDONED_AFTER_MS)))
        .context("the link's socket")?;
    let work = move || {
        let mut decoder = Decoder::<ToMixer>::new();
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let arrival = match socket.read(&mut chunk) {
                Ok(0) => Arrival::End,
                Ok(count) => {
                    decoder.feed(chunk.get(..count).unwrap_or_default());
                    match forward(&mut decoder, clock.mixer_ns(), &to) {
                        Ok(true) => continue,
                        Ok(false) => return,
                        Err(error) => Arrival::Broken(error.to_string()),
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) if is_timeout(&error) => {
                    Arrival::Broken(format!("nothing came for {ABANDONED_AFTER_MS} ms"))
                }
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Arrival::End,
                Err(error) => Arrival::Broken(error.to_string()),
            };
            let _ = to.send(arrival);
            return;
        }
    };
    thread::Builder::new()
        .name("link-read".into())
        .spawn(work)
        .context("cannot start a thread")?;
    Ok(())
}

/// Hands on what is complete; `false` when nobody listens.
fn forward(
    decoder: &mut Decoder<ToMixer>,
    at_ns: i64,
    to: &SyncSender<Arrival>,
) -> Result<bool, media::Error> {
    while let Some(message) = decoder.next_message()? {
        if to.send(Arrival::Message(message, at_ns)).is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
    )
}

/// The way to the anchor, shared by all threads. Sending never blocks.
pub(super) struct Writer {
    queue: Mutex<Queue>,
    wake: Condvar,
    broken: AtomicBool,
    keyframe: AtomicBool,
}

#[derive(Default)]
struct Queue {
    outbox: Outbox,
    closed: bool,
}

impl Writer {
    /// Starts the writer. Its thread ends after [`close`](Self::close), or when the anchor does not read.
    pub(super) fn start(mut socket: Socket) -> anyhow::Result<(Arc<Self>, JoinHandle<()>)> {
        socket
            .set_write_timeout(Some(Duration::from_millis(ABANDONED_AFTER_MS)))
            .context("the link's socket")?;
        let writer = Arc::new(Self {
            queue: Mutex::default(),
            wake: Condvar::new(),
            broken: AtomicBool::new(false),
            keyframe: AtomicBool::new(false),
        });
        let shared = Arc::clone(&writer);
        let work = move || {
            let mut bytes = BytesMut::new();
            while let Some(message) = shared.next() {
                bytes.clear();
                let written = match message.encode(&mut bytes) {
                    Ok(()) => socket.write_all(&bytes).map_err(|error| error.to_string()),
                    Err(error) => Err(error.to_string()),
                };
                if let Err(error) = written {
                    tracing::debug!(error, "the link cannot be written");
                    shared.broken.store(true, Ordering::Relaxed);
                    return;
                }
            }
        };
        let thread = thread::Builder::new()
            .name("link-write".into())
            .spawn(work)
            .context("cannot start a thread")?;
        Ok((writer, thread))
    }

    /// Queues a message, or drops it as the outbox says.
    pub(super) fn send(&self, message: FromMixer) {
        let pushed = self.queue().outbox.push(message);
        match pushed {
            Pushed::Queued => self.wake.notify_one(),
            Pushed::Dropped => {}
            Pushed::NeedsKeyframe => self.keyframe.store(true, Ordering::Relaxed),
            Pushed::Abandoned => self.broken.store(true, Ordering::Relaxed),
        }
    }

    /// Whether the anchor has stopped reading.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// The next picture shall be a keyframe.
    pub(super) fn request_keyframe(&self) {
        self.keyframe.store(true, Ordering::Relaxed);
    }

    /// Whether an IDR is needed after dropped pictures; asked once.
    pub(super) fn take_keyframe_request(&self) -> bool {
        self.keyframe.swap(false, Ordering::Relaxed)
    }

    /// What is queued is still written, then the thread ends.
    pub(super) fn close(&self) {
        self.queue().closed = true;
        self.wake.notify_one();
    }

    fn next(&self) -> Option<FromMixer> {
        let mut queue = self.queue();
        loop {
            if let Some(message) = queue.outbox.pop() {
                return Some(message);
            }
            if queue.closed {
                return None;
            }
            queue = self
                .wake
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
