//! The thread on which captions, discs, backgrounds and slates are made, so that neither pictures nor messages wait for
//! them.

use std::fs::File;
use std::io::Read;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::Context;
use media::link::{Configure, FromMixer};

use super::io::Writer;
use crate::layout::Size;
use crate::paint::{Artist, Frame, MAX_FILE_BYTES, MAX_PIECES, Order, Painter, Picture};

/// The painter, and the way to its artist. Orders beyond the pieces that there can be are refused and given again.
pub(super) struct Easel {
    painter: Arc<Mutex<Painter>>,
    orders: SyncSender<Order>,
}

impl Easel {
    pub(super) fn start(config: &Configure, writer: &Arc<Writer>) -> anyhow::Result<Self> {
        let painter = Arc::new(Mutex::new(Painter::new(config)));
        let (orders, waiting) = sync_channel(MAX_PIECES + 1);
        let artist = Artist::new(Size {
            width: config.width,
            height: config.height,
        });
        let (board, writer) = (Arc::clone(&painter), Arc::clone(writer));
        thread::Builder::new()
            .name("artist".into())
            .spawn(move || work(artist, &waiting, &board, &writer))
            .context("the artist's thread")?;
        Ok(Self { painter, orders })
    }

    /// Works with the painter, and passes on what it orders.
    fn with<T>(&self, work: impl FnOnce(&mut Painter) -> T) -> T {
        let mut painter = lock(&self.painter);
        let result = work(&mut painter);
        while let Some(order) = painter.poll_output() {
            if let Err(refused) = self.orders.try_send(order) {
                let (std::sync::mpsc::TrySendError::Full(order)
                | std::sync::mpsc::TrySendError::Disconnected(order)) = refused;
                painter.refused(order);
                break;
            }
        }
        result
    }

    pub(super) fn follow(&self, scene: &media::link::Scene) {
        self.with(|painter| painter.follow(scene));
    }

    /// Draws on a frame; false while something is still being made.
    pub(super) fn paint(&self, plan: &crate::director::Plan, frame: &mut Frame<'_>) -> bool {
        self.with(|painter| painter.paint(plan, frame))
    }

    pub(super) fn take_background(&self) -> Option<Picture> {
        lock(&self.painter).take_background()
    }
}

fn lock(painter: &Mutex<Painter>) -> MutexGuard<'_, Painter> {
    painter.lock().unwrap_or_else(PoisonError::into_inner)
}

fn work(mut artist: Artist, orders: &Receiver<Order>, painter: &Mutex<Painter>, writer: &Writer) {
    while let Ok(order) = orders.recv() {
        let (made, problems) = artist.make(order, read);
        lock(painter).handle(made);
        for message in problems {
            tracing::warn!("{message}");
            writer.send(FromMixer::Error { message });
        }
    }
}

/// The bytes of a file that somebody wants to be seen.
fn read(path: &str) -> Result<Vec<u8>, String> {
    let text = |error: std::io::Error| error.to_string();
    // Opening a pipe would wait for its other end.
    if !std::fs::metadata(path).map_err(text)?.is_file() {
        return Err("it is no file".into());
    }
    let mut bytes = Vec::new();
    File::open(path)
        .map_err(text)?
        .take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(text)?;
    match u64::try_from(bytes.len()) {
        Ok(..=MAX_FILE_BYTES) => Ok(bytes),
        _ => Err(format!("it is larger than {MAX_FILE_BYTES} bytes")),
    }
}
