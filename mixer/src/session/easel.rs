//! The thread on which captions, discs, backgrounds and slates are made, so that neither pictures nor messages wait for
//! them.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::Context;
use bytes::Bytes;
use media::link::{Configure, FromMixer, ImageRef, MAX_IMAGES};

use super::io::Writer;
use crate::layout::Size;
use crate::paint::{Artist, Frame, MAX_FILE_BYTES, MAX_PIECES, Order, Painter, Picture};

/// The painter, and the way to its artist. Orders beyond the pieces that there can be are refused and given again.
pub(super) struct Easel {
    painter: Arc<Mutex<Painter>>,
    orders: SyncSender<Order>,
    images: Arc<Images>,
}

/// The newest images that came on the link; the oldest gives way.
#[derive(Debug, Default)]
struct Images(Mutex<VecDeque<(u32, Bytes)>>);

impl Images {
    fn lock(&self) -> MutexGuard<'_, VecDeque<(u32, Bytes)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, number: u32, data: Bytes) {
        let mut images = self.lock();
        images.truncate(MAX_IMAGES - 1);
        images.push_front((number, data));
    }

    fn read(&self, image: &ImageRef) -> Result<Vec<u8>, String> {
        match image {
            ImageRef::File(path) => read(path),
            ImageRef::Sent(number) => {
                let images = self.lock();
                let found = images.iter().find(|(known, _)| known == number);
                let (_, data) = found.ok_or("it has not been sent")?;
                Ok(data.to_vec())
            }
        }
    }
}

impl Easel {
    pub(super) fn start(config: &Configure, writer: &Arc<Writer>) -> anyhow::Result<Self> {
        let painter = Arc::new(Mutex::new(Painter::new(config)));
        let (orders, waiting) = sync_channel(MAX_PIECES + 1);
        let artist = Artist::new(Size {
            width: config.width,
            height: config.height,
        });
        let images = Arc::new(Images::default());
        let (board, writer) = (Arc::clone(&painter), Arc::clone(writer));
        let gallery = Arc::clone(&images);
        thread::Builder::new()
            .name("artist".into())
            .spawn(move || work(artist, &waiting, &board, &gallery, &writer))
            .context("the artist's thread")?;
        Ok(Self {
            painter,
            orders,
            images,
        })
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

    /// Keeps an image for scenes to come.
    pub(super) fn keep(&self, number: u32, data: Bytes) {
        self.images.keep(number, data);
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

fn work(
    mut artist: Artist,
    orders: &Receiver<Order>,
    painter: &Mutex<Painter>,
    images: &Images,
    writer: &Writer,
) {
    while let Ok(order) = orders.recv() {
        let (made, problems) = artist.make(order, |image| images.read(image));
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
