//! The task of one destination: runs its machine, one connection at a time.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use media::Track;
use tokio::sync::Notify;

use super::connection::{self, now};
use super::destination::{Failure, Input, Machine, Output};
use super::queue::Item;
use super::{Destination, PublisherConfig};
use crate::rtmp::url::RtmpUrl;

/// The tracks of the program so far: audio, video.
pub(crate) type Tracks = Arc<Mutex<[Option<Arc<Track>>; 2]>>;

/// What the task, its connection and the publisher's handles share. Locks are held for moments, never over an await.
#[derive(Debug)]
pub(crate) struct Shared {
    channel: Arc<str>,
    pub(crate) destination: Destination,
    machine: Mutex<Machine>,
    /// There is something for the connection to send.
    item: Notify,
    /// There is something for the task to look at.
    control: Notify,
    tracks: Tracks,
    extra_ca_file: Option<PathBuf>,
}

impl Shared {
    pub(crate) fn new(
        channel: Arc<str>,
        destination: Destination,
        config: &PublisherConfig,
        tracks: Tracks,
    ) -> Self {
        Self {
            channel,
            destination,
            machine: Mutex::new(Machine::new(config.clone(), rand::random())),
            item: Notify::new(),
            control: Notify::new(),
            tracks,
            extra_ca_file: config.extra_ca_file.clone(),
        }
    }

    pub(crate) fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A unit of the program.
    pub(crate) fn send(&self, item: Item) {
        let dropped = {
            let mut machine = self.machine();
            let before = machine.dropped_units();
            machine.handle(now(), Input::Item(item));
            machine.dropped_units() - before
        };
        if dropped > 0 {
            metrics::counter!("anchornet_publisher_dropped_units_total").increment(dropped);
        }
        self.item.notify_one();
    }

    /// The destination is to end.
    pub(crate) fn shut_down(&self, deadline: Instant) {
        self.handle(Input::Shutdown { deadline });
        self.item.notify_one();
        self.control.notify_one();
    }

    pub(crate) fn handle(&self, input: Input) {
        if let Input::Sent { bytes, .. } = input {
            metrics::counter!("anchornet_publisher_sent_bytes_total").increment(bytes as u64);
        }
        self.machine().handle(now(), input);
    }

    /// Returns after [`Shared::send`].
    pub(crate) async fn item(&self) {
        self.item.notified().await;
    }

    pub(crate) fn next_item(&self) -> Option<Item> {
        self.machine().next_item()
    }

    pub(crate) fn is_drained(&self) -> bool {
        self.machine().is_drained()
    }

    pub(crate) fn tracks(&self) -> [Option<Arc<Track>>; 2] {
        self.tracks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn extra_ca_file(&self) -> Option<PathBuf> {
        self.extra_ca_file.clone()
    }

    pub(crate) fn channel(&self) -> &str {
        &self.channel
    }

    pub(crate) fn name(&self) -> &str {
        &self.destination.name
    }
}

/// Runs until the machine is closed.
pub(crate) async fn run(shared: Arc<Shared>, url: RtmpUrl) {
    shared.handle(Input::Start);
    loop {
        let output = shared.machine().poll_output();
        if shared.machine().is_closed() {
            return;
        }
        if output == Some(Output::Connect) {
            let ended = tokio::select! {
                ended = connection::run(&shared, &url, rand::random()) => Some(ended),
                () = closing(&shared) => None,
            };
            report(&shared, &url, ended);
        } else {
            wait(&shared).await;
        }
    }
}

/// Tells the machine and the log how a connection ended. `None`: the machine ended it.
fn report(shared: &Shared, url: &RtmpUrl, ended: Option<Option<Failure>>) {
    match ended {
        Some(Some(failure)) => shared.handle(Input::Failed(failure)),
        Some(None) => shared.handle(Input::Finished),
        None => {}
    }
    let mut machine = shared.machine();
    // The connection is gone already.
    if machine.poll_output() == Some(Output::Connect) {
        machine.handle(
            now(),
            Input::Failed(Failure::Broken("interrupted".to_owned())),
        );
        machine.poll_output();
    }
    let (channel, destination) = (shared.channel(), shared.name());
    if machine.is_closed() {
        tracing::info!(channel, destination, %url, "destination closed");
    } else {
        let error = machine.last_error.as_deref().unwrap_or_default();
        let state = machine.state();
        tracing::warn!(channel, destination, %url, ?state, error, "destination failed");
        metrics::counter!("anchornet_publisher_failures_total").increment(1);
    }
}

/// Returns when the machine wants the connection closed.
async fn closing(shared: &Shared) {
    loop {
        if shared.machine().poll_output() == Some(Output::Close) {
            return;
        }
        wait(shared).await;
    }
}

/// Waits for the machine's timeout or a call from outside.
async fn wait(shared: &Shared) {
    /// Connections move timeouts without a word; they are noticed at least this late.
    const TICK: Duration = Duration::from_secs(1);
    let tick = now() + TICK;
    let due = shared.machine().poll_timeout();
    let until = due.map_or(tick, |due| due.min(tick));
    tokio::select! {
        () = shared.control.notified() => {}
        () = tokio::time::sleep_until(until.into()) => {}
    }
    shared.machine().handle_timeout(now());
}
