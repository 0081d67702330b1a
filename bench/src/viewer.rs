//! Viewers by HTTP-FLV: as many as the bench asks for, each a task that walks over the tags without keeping them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::source::{NUMBER_AT, SendTimes};

const READ_BYTES: usize = 128 << 10;
/// Bytes of a tag that are looked at: its header (11) and the number of the picture.
const HEAD_BYTES: usize = 11 + NUMBER_AT + 8;

/// A picture that has arrived completely.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Picture {
    pub(crate) timestamp_ms: u32,
    pub(crate) keyframe: bool,
    /// The number that the bench's own source draws in; meaningless for other sources.
    pub(crate) number: u64,
}

/// A tag that has arrived completely.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unit {
    Picture(Picture),
    Sound { timestamp_ms: u32 },
}

impl Unit {
    fn picture(self) -> Option<Picture> {
        match self {
            Self::Picture(picture) => Some(picture),
            Self::Sound { .. } => None,
        }
    }
}

/// What one viewer has seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// From connect to the first keyframe.
    pub(crate) first: Option<Duration>,
    /// Pictures while counting was on.
    pub(crate) pictures: u64,
    /// How long each of them took, in microseconds.
    pub(crate) latencies_us: Vec<u64>,
}

impl Seen {
    /// Notes a picture of the bench's own source.
    pub(crate) fn note(&mut self, picture: Picture, begun: Instant, now: Instant, watch: &Watch) {
        if self.first.is_none() && picture.keyframe {
            self.first = Some(now.duration_since(begun));
        }
        if watch.counting.load(Relaxed) {
            self.pictures += 1;
            if let Some(age) = watch.times.age(picture.number, now) {
                self.latencies_us
                    .push(u64::try_from(age.as_micros()).unwrap_or(u64::MAX));
            }
        }
    }
}

/// What all viewers of one measurement share.
#[derive(Clone)]
pub(crate) struct Watch {
    pub(crate) times: SendTimes,
    /// Whether pictures count now.
    pub(crate) counting: Arc<AtomicBool>,
    /// Tells viewers to leave.
    pub(crate) over: tokio::sync::watch::Receiver<bool>,
}

/// Watches `path` on `port` until the measurement is over.
pub(crate) async fn watch_flv(port: u16, path: String, watch: Watch) -> anyhow::Result<Seen> {
    let begun = Instant::now();
    let mut seen = Seen::default();
    let mut over = watch.over.clone();
    let mut stream = FlvStream::open(loopback(port), &path).await?;
    loop {
        let note = |unit: Unit| {
            if let Some(picture) = unit.picture() {
                seen.note(picture, begun, Instant::now(), &watch);
            }
        };
        let read = tokio::select! {
            read = stream.read(note) => Some(read?),
            _ = over.wait_for(|over| *over) => None,
        };
        let Some(read) = read else { return Ok(seen) };
        anyhow::ensure!(read, "the server closed the connection of a viewer");
    }
}

/// Pictures of `path` with their wall-clock time of arrival, for `duration`.
pub(crate) async fn record_flv(
    port: u16,
    path: &str,
    duration: Duration,
) -> anyhow::Result<Vec<(Picture, SystemTime)>> {
    let mut stream = FlvStream::open(loopback(port), path).await?;
    let mut pictures = Vec::new();
    let recording = async {
        let mut note = |unit: Unit| {
            if let Some(picture) = unit.picture() {
                pictures.push((picture, SystemTime::now()));
            }
        };
        while stream.read(&mut note).await? {}
        anyhow::Ok(())
    };
    if let Ok(ended) = tokio::time::timeout(duration, recording).await {
        ended?;
    }
    Ok(pictures)
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// One HTTP-FLV connection.
pub(crate) struct FlvStream {
    socket: TcpStream,
    buffer: Vec<u8>,
    chunks: Chunks,
    walker: Walker,
}

impl FlvStream {
    /// Connects; an error unless the server has the stream.
    pub(crate) async fn open(server: SocketAddr, path: &str) -> anyhow::Result<Self> {
        let mut socket = TcpStream::connect(server).await?;
        socket.set_nodelay(true)?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {server}\r\nAccept: */*\r\n\r\n");
        socket.write_all(request.as_bytes()).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.read_u8().await.context("no answer to a viewer")?);
            anyhow::ensure!(head.len() < 16_384, "an endless answer");
        }
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let status = head.lines().next().unwrap_or_default();
        anyhow::ensure!(status.contains(" 200"), "{path}: {status}");
        let chunked = head.contains("transfer-encoding: chunked");
        Ok(Self {
            socket,
            buffer: vec![0; READ_BYTES],
            chunks: Chunks {
                chunked,
                left: 0,
                size_line: Vec::new(),
            },
            walker: Walker::default(),
        })
    }

    /// Reads once; false at the end.
    pub(crate) async fn read(&mut self, mut on_unit: impl FnMut(Unit)) -> anyhow::Result<bool> {
        let length = self.socket.read(&mut self.buffer).await?;
        let data = self.buffer.get(..length).unwrap_or_default();
        let walker = &mut self.walker;
        self.chunks
            .split(data, |part| walker.walk(part, &mut on_unit));
        Ok(length > 0)
    }
}

/// HTTP/1.1 chunked coding (RFC 9112 §7.1), undone in place.
struct Chunks {
    chunked: bool,
    left: usize,
    size_line: Vec<u8>,
}

impl Chunks {
    fn split(&mut self, mut data: &[u8], mut on_part: impl FnMut(&[u8])) {
        if !self.chunked {
            on_part(data);
            return;
        }
        while let Some(byte) = data.first() {
            if self.left > 0 {
                let (part, rest) = data.split_at(self.left.min(data.len()));
                self.left -= part.len();
                on_part(part);
                data = rest;
                continue;
            }
            // the line ends of the chunk before and of the size line itself are skipped alike
            if *byte == b'\n' && !self.size_line.is_empty() {
                let text = String::from_utf8_lossy(&self.size_line);
                self.left = usize::from_str_radix(text.trim(), 16).unwrap_or(0);
                self.size_line.clear();
            } else if !matches!(byte, b'\r' | b'\n') {
                self.size_line.push(*byte);
            }
            data = data.get(1..).unwrap_or_default();
        }
    }
}

/// Walks over FLV tags, looking only at their heads.
struct Walker {
    head: Vec<u8>,
    skip: usize,
    /// What is being skipped over.
    current: Option<Unit>,
}

impl Default for Walker {
    fn default() -> Self {
        // the file header and the first "previous tag size"
        Self {
            head: Vec::with_capacity(HEAD_BYTES),
            skip: 13,
            current: None,
        }
    }
}

impl Walker {
    fn walk(&mut self, mut data: &[u8], on_unit: &mut impl FnMut(Unit)) {
        loop {
            let (skipped, rest) = data.split_at(self.skip.min(data.len()));
            self.skip -= skipped.len();
            data = rest;
            if self.skip > 0 {
                return;
            }
            if let Some(unit) = self.current.take() {
                on_unit(unit);
            }
            if data.is_empty() {
                return;
            }
            let wanted = match self.head.get(..4) {
                Some(&[_, a, b, c]) => HEAD_BYTES.min(11 + be(&[a, b, c])),
                _ => 4,
            };
            let (part, rest) = data.split_at((wanted - self.head.len()).min(data.len()));
            self.head.extend_from_slice(part);
            data = rest;
            if wanted > 4 && self.head.len() == wanted {
                self.finish_head();
            }
        }
    }

    fn finish_head(&mut self) {
        if let [kind, a, b, c, d, e, f, g, _, _, _, body @ ..] = &self.head[..] {
            self.skip = be(&[*a, *b, *c]) - body.len() + 4;
            let timestamp_ms = u32::try_from(be(&[*g, *d, *e, *f])).unwrap_or(0);
            // AVC or AAC, and media rather than a sequence header
            self.current = match (*kind, body) {
                (9, [frame, 1, ..]) if frame & 0x0f == 7 => Some(Unit::Picture(Picture {
                    timestamp_ms,
                    keyframe: frame >> 4 == 1,
                    number: number(body),
                })),
                (8, [format, 1, ..]) if format >> 4 == 10 => Some(Unit::Sound { timestamp_ms }),
                _ => None,
            };
        }
        self.head.clear();
    }
}

/// The number that the source has put into the body of a video tag.
pub(crate) fn number(body: &[u8]) -> u64 {
    let bytes = body.get(NUMBER_AT..NUMBER_AT + 8);
    bytes.map_or(u64::MAX, |bytes| {
        bytes
            .iter()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    })
}

fn be(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .fold(0, |sum, byte| sum << 8 | usize::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use media::flv::{Tag, TagKind, file_header};

    #[test]
    fn pictures_are_found_however_the_bytes_are_cut() {
        let mut file = BytesMut::from(&file_header(true, true)[..]);
        for n in 0_u8..5 {
            let mut body = vec![
                if n == 0 { 0x17 } else { 0x27 },
                1,
                0,
                0,
                0,
                0,
                0,
                0,
                9,
                0x65,
            ];
            body.extend([0, 0, 0, 0, 0, 0, 0, n]);
            body.resize(100, 7);
            let tag = |kind, body: Vec<u8>| Tag {
                kind,
                timestamp_ms: u32::from(n) * 33,
                body: body.into(),
            };
            tag(TagKind::Video, body).write(&mut file);
            tag(TagKind::Audio, vec![0xaf, 1, 2]).write(&mut file);
        }
        for step in [1, 2, 7, 64, 10_000] {
            let (mut chunks, mut walker) = (
                Chunks {
                    chunked: true,
                    left: 0,
                    size_line: Vec::new(),
                },
                Walker::default(),
            );
            let mut seen = Vec::new();
            for part in file.chunks(50) {
                let mut coded = format!("{:x}\r\n", part.len()).into_bytes();
                coded.extend_from_slice(part);
                coded.extend_from_slice(b"\r\n");
                for piece in coded.chunks(step) {
                    chunks.split(piece, |part| walker.walk(part, &mut |unit| seen.push(unit)));
                }
            }
            assert_eq!(seen.len(), 10, "pictures and sounds");
            let seen: Vec<Picture> = seen.into_iter().filter_map(Unit::picture).collect();
            let numbers: Vec<u64> = seen.iter().map(|picture| picture.number).collect();
            assert_eq!(numbers, [0, 1, 2, 3, 4], "in pieces of {step}");
            assert!(seen[0].keyframe && !seen[1].keyframe && seen[4].timestamp_ms == 132);
        }
    }
}
