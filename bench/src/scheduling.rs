//! The scheduler with a million relays: what one costs in memory, how fast it answers in process, and by HTTP while
//! heartbeats come in.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use media::ticket::{Key, Ticket, to_hex};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use rlive::scheduler::{self, Config, Request, Scheduler};
use rlive::wire::heartbeat::{Heartbeat, Served, stream_tag};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio_util::sync::CancellationToken;

use crate::report::Row;

const SECRET: &[u8] = b"bench";
/// Streams, of which the first are the most popular (Zipf's law).
const STREAMS: u32 = 100_000;
/// Networks and regions that relays and players are in.
const NETWORKS: u32 = 2_000;
const REGIONS: u32 = 30;
/// Substreams that a relay serves, on average.
const SERVED: f64 = 2.0;
/// Connections of the HTTP clients.
const CONNECTIONS: usize = 32;
/// Heartbeats in a second during the HTTP measurement: those of 200,000 relays that are idle.
const HEARTBEATS: u32 = 20_000;

struct World {
    random: StdRng,
    wall_s: u32,
    names: Vec<String>,
}

fn unix_s() -> u32 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    u32::try_from(now.unwrap_or_default().as_secs()).unwrap_or(u32::MAX)
}

fn byte(number: u32) -> u8 {
    u8::try_from(number & 0xff).unwrap_or_default()
}

fn float(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

fn address(network: u32, host: u32) -> IpAddr {
    let [a, b] = [byte(network >> 8), byte(network)];
    IpAddr::from([11 + a, b, byte(host >> 8), byte(host)])
}

impl World {
    fn new() -> Self {
        Self {
            random: StdRng::seed_from_u64(1),
            wall_s: unix_s(),
            names: (0..STREAMS).map(|n| format!("stream{n}")).collect(),
        }
    }

    /// A stream by its popularity: Zipf's law with exponent one, by the inverse of its distribution.
    fn stream(&mut self) -> usize {
        let u: f64 = self.random.random();
        let rank = (u * f64::from(STREAMS).ln()).exp();
        let rank = u32::try_from(Duration::from_secs_f64(rank).as_secs()).unwrap_or(1);
        usize::try_from(rank.clamp(1, STREAMS) - 1).unwrap_or_default()
    }

    fn heartbeat(&mut self, relay: u32, seq: u32) -> Vec<u8> {
        let id = u64::from(relay);
        let mut served = Vec::new();
        while served.len() < 14 && self.random.random_bool(SERVED / (1.0 + SERVED)) {
            let stream = self.stream();
            served.push(Served {
                stream: stream_tag(self.names.get(stream).map_or("", String::as_str)),
                substream: self.random.random_range(0..4),
                players: 10,
            });
        }
        let network = relay % NETWORKS;
        let heartbeat = Heartbeat {
            relay: id,
            wall_s: self.wall_s,
            seq,
            address: SocketAddr::new(address(network, relay / NETWORKS), 4_000),
            region: network % REGIONS + 1,
            capacity_kbps: 20_000,
            used_kbps: self.random.random_range(0..20_000),
            sessions: 3,
            max_sessions: 30,
            cpu: 10,
            leaving: false,
            asks: false,
            expansion: 0,
            memory: 0,
            served,
        };
        heartbeat.write(&Heartbeat::key(&Key::of_relay(SECRET, id)))
    }
}

/// Memory of this process, in bytes.
fn resident() -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u32 = text.split_whitespace().nth(1).context("statm")?.parse()?;
    Ok(f64::from(pages) * 4_096.0)
}

/// What one of a sorted list is.
fn at(sorted: &[Duration], part: f64) -> Duration {
    let index = float(sorted.len()) * part;
    let index = usize::try_from(Duration::from_secs_f64(index).as_secs()).unwrap_or_default();
    sorted
        .get(index.min(sorted.len() - 1))
        .copied()
        .unwrap_or_default()
}

fn us(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

pub(crate) async fn rows(quick: bool) -> anyhow::Result<Vec<Row>> {
    let relays: u32 = if quick { 50_000 } else { 1_000_000 };
    let mut rows = in_process(relays, if quick { 20_000 } else { 200_000 })?;
    let (relays, time) = match quick {
        true => (20_000, Duration::from_secs(3)),
        false => (200_000, Duration::from_secs(15)),
    };
    rows.extend(by_http(relays, time).await?);
    Ok(rows)
}

fn in_process(relays: u32, requests: usize) -> anyhow::Result<Vec<Row>> {
    let mut world = World::new();
    let mut scheduler = Scheduler::new(
        Config::default(),
        SECRET.to_vec(),
        std::collections::HashSet::new(),
        [7; 32],
    );
    let start = Instant::now();
    let before = resident()?;
    let mut spent = Duration::ZERO;
    for relay in 0..relays {
        let datagram = world.heartbeat(relay, 1);
        let began = Instant::now();
        scheduler.handle(start, world.wall_s, &datagram);
        spent += began.elapsed();
    }
    anyhow::ensure!(
        scheduler.counters().relays == usize::try_from(relays)?,
        "all are known"
    );
    let first = f64::from(relays) / spent.as_secs_f64();
    let each = (resident()? - before) / f64::from(relays);
    // Heartbeats of relays that are known and say something new.
    let again = relays / 5;
    let mut spent = Duration::ZERO;
    for relay in 0..again {
        let datagram = world.heartbeat(relay * 5, 2);
        let began = Instant::now();
        scheduler.handle(start + Duration::from_secs(5), world.wall_s, &datagram);
        spent += began.elapsed();
    }
    let later = f64::from(again) / spent.as_secs_f64();
    let mut took = Vec::with_capacity(requests);
    let mut found = 0;
    for n in 0..requests {
        let stream = world.stream();
        let network = world.random.random_range(0..NETWORKS);
        let name = world.names.get(stream).cloned().unwrap_or_default();
        let failed = [world.random.random_range(0..u64::from(relays))];
        let request = Request {
            stream: &name,
            substreams: 4,
            address: address(network, 40_000 + u32::try_from(n % 1_000)?),
            region: network % REGIONS + 1,
            count: 3,
            failed: failed.get(..usize::from(n % 10 == 0)).unwrap_or_default(),
        };
        let began = Instant::now();
        let answer = scheduler.recommend(start + Duration::from_secs(6), &request);
        took.push(began.elapsed());
        found += answer.iter().map(Vec::len).sum::<usize>();
    }
    let total: Duration = took.iter().sum();
    took.sort_unstable();
    let title = |what: &str| format!("scheduler, {relays} relays: {what}");
    Ok(vec![
        Row::new(title("memory of each"), each, "B").at_most(250.0),
        Row::new(title("new heartbeats in a second of one core"), first, ""),
        Row::new(
            title("further heartbeats in a second of one core"),
            later,
            "",
        ),
        Row::new(
            title("recommendations in a second of one core"),
            float(requests) / total.as_secs_f64(),
            "",
        )
        .at_least(50_000.0),
        Row::new(title("a recommendation, p50"), us(at(&took, 0.5)), "us"),
        Row::new(title("a recommendation, p99"), us(at(&took, 0.99)), "us").at_most(200.0),
        Row::new(
            title("relays recommended of 12 asked for"),
            float(found) / float(requests),
            "",
        ),
    ])
}

async fn by_http(relays: u32, time: Duration) -> anyhow::Result<Vec<Row>> {
    // A port that is free for both.
    let listen = std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
    let stop = CancellationToken::new();
    let options = scheduler::Options {
        listen,
        secret: SECRET.to_vec(),
        revoked: std::collections::HashSet::new(),
        config: Config::default(),
    };
    let running = tokio::spawn(scheduler::run(options, stop.clone()));
    let mut world = World::new();
    let socket = UdpSocket::bind(("127.0.0.1", 0)).await?;
    socket.connect(listen).await?;
    tokio::time::sleep(Duration::from_millis(200)).await;
    // All of them, at twice the rate that follows.
    for relay in 0..relays {
        let _ = socket.send(&world.heartbeat(relay, 1)).await;
        if relay % 400 == 399 {
            tokio::time::sleep(Duration::from_millis(8)).await;
        }
    }
    let names = world.names.clone();
    let beating = {
        let stop = stop.clone();
        std::thread::spawn(move || beat(world, listen, relays, &stop))
    };
    tokio::time::sleep(Duration::from_secs(1)).await;
    let until = Instant::now() + time;
    let clients = (0..CONNECTIONS).map(|n| tokio::spawn(client(listen, names.clone(), n, until)));
    let clients: Vec<_> = clients.collect();
    let mut took = Vec::new();
    for client in clients {
        took.extend(client.await??);
    }
    stop.cancel();
    let beats = beating
        .join()
        .map_err(|_| anyhow::anyhow!("the heartbeats failed"))?;
    running.await??;
    anyhow::ensure!(!took.is_empty(), "no answer");
    took.sort_unstable();
    let title = |what: &str| format!("scheduler by HTTP, {relays} relays: {what}");
    Ok(vec![
        Row::new(
            title("answers in a second"),
            float(took.len()) / time.as_secs_f64(),
            "",
        )
        .at_least(10_000.0),
        Row::new(title("an answer, p50"), us(at(&took, 0.5)) / 1_000.0, "ms"),
        Row::new(title("an answer, p90"), us(at(&took, 0.9)) / 1_000.0, "ms").at_most(10.0),
        Row::new(title("an answer, p99"), us(at(&took, 0.99)) / 1_000.0, "ms"),
        Row::new(title("heartbeats in a second meanwhile"), beats, ""),
    ])
}

/// Heartbeats in an even stream, from a thread of its own: how many in a second.
fn beat(mut world: World, to: SocketAddr, relays: u32, stop: &CancellationToken) -> f64 {
    let Ok(socket) = std::net::UdpSocket::bind(("127.0.0.1", 0)) else {
        return 0.0;
    };
    let began = Instant::now();
    let (mut sent, mut seq) = (0_u32, 2);
    while !stop.is_cancelled() {
        world.wall_s = unix_s();
        let due = began.elapsed().as_secs_f64() * f64::from(HEARTBEATS);
        while f64::from(sent) < due {
            let datagram = world.heartbeat(sent % relays, seq);
            let _ = socket.send_to(&datagram, to);
            sent += 1;
            seq += u32::from(sent % relays == 0);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    f64::from(sent) / began.elapsed().as_secs_f64()
}

/// One connection that asks, waits for the answer, and asks again.
async fn client(
    to: SocketAddr,
    names: Vec<String>,
    n: usize,
    until: Instant,
) -> anyhow::Result<Vec<Duration>> {
    let mut connection = TcpStream::connect(to).await?;
    connection.set_nodelay(true)?;
    let key = Key::of_scheduler(SECRET);
    let requests: Vec<String> = names
        .iter()
        .skip(n)
        .step_by(CONNECTIONS)
        .take(64)
        .map(|stream| {
            let ticket = Ticket {
                stream: stream.clone(),
                expires_s: unix_s() + 600,
                max_kbps: 20_000,
                nonce: 1,
            };
            let ticket = to_hex(&ticket.seal(&key));
            let body = format!(r#"{{"stream":"{stream}","substreams":4,"region":"r","count":3}}"#);
            format!(
                "POST /v1/recommend HTTP/1.1\r\nhost: scheduler\r\nauthorization: Ticket {ticket}\r\n\
                 content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
        })
        .collect();
    let (mut took, mut buffer) = (Vec::new(), Vec::with_capacity(16 << 10));
    for request in requests.iter().cycle() {
        let began = Instant::now();
        if began >= until {
            break;
        }
        connection.write_all(request.as_bytes()).await?;
        buffer.clear();
        while !is_whole(&buffer)? {
            anyhow::ensure!(connection.read_buf(&mut buffer).await? > 0, "closed");
        }
        took.push(began.elapsed());
    }
    Ok(took)
}

/// Whether an answer has come to its end.
fn is_whole(bytes: &[u8]) -> anyhow::Result<bool> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(false);
    };
    let head = std::str::from_utf8(bytes.get(..end).unwrap_or_default())?;
    anyhow::ensure!(head.starts_with("HTTP/1.1 200"), "{head}");
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .context("a length")?;
    Ok(bytes.len() >= end + 4 + length.parse::<usize>()?)
}
