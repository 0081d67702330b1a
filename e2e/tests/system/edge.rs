//! Weak relays in trouble, and relays that mean harm: what players give is the origin's stream.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::capture::FlvViewer;
use e2e::run::anchor::{Anchor, Options};
use e2e::run::process::{Process, report};
use e2e::run::relay::Link;
use e2e::run::rlive::{Player, Relay, Scheduler};
use e2e::run::{eventually, ports, tools};
use media::ticket::Key;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rlive::wire::control::Subscribe;
use rlive::wire::{Keys, Kind, data};
use serde_json::Value;
use tokio::net::UdpSocket;

use crate::relays::{compare, live, media, more_pictures, play, relayed, relays_of};
use crate::support::SOON;

const SEED: u64 = 20_260;
/// What eight relays can send, in megabits per second, and what their paths lose of a hundred datagrams.
const RATES_MBPS: [u64; 8] = [5, 8, 10, 15, 20, 30, 40, 50];
const LOSSES_PERCENT: [u16; 8] = [1, 0, 5, 0, 2, 1, 0, 3];
/// Round trips, in milliseconds.
const TRIPS_MS: [u32; 8] = [10, 50, 20, 40, 30, 60, 24, 16];
/// Who has fallen back twice within a minute trusts relays again after ten seconds.
const PATIENCE: Duration = Duration::from_secs(30);
/// What may come twice within the first quarter of a minute, of everything. Most of it is the start, which the origin gives
/// while relays begin, and the move away from the dead relay: some 30 kB, 6 % of so short a show.
const TWICE_PERCENT: u64 = 10;

fn count(stats: &Value, what: &str) -> u64 {
    stats[what].as_u64().unwrap_or_default()
}

/// What came twice of what came, in percent.
fn twice_percent(stats: &Value) -> u64 {
    let all = count(stats, "relay_bytes") + count(stats, "origin_bytes");
    100 * count(stats, "duplicate_bytes") / all.max(1)
}

struct Show {
    anchor: Anchor,
    origin: FlvViewer,
    relays: Vec<Relay>,
    players: Vec<(Player, FlvViewer)>,
}

impl Show {
    fn path(at: usize) -> Link {
        Link {
            rate_bps: Some(RATES_MBPS[at] * 1_000_000),
            ..Link::of(TRIPS_MS[at], LOSSES_PERCENT[at])
        }
    }

    /// Relays that some player uses, in an order that the seed has chosen.
    fn used(&self, random: &mut StdRng) -> anyhow::Result<Vec<usize>> {
        let mut used = Vec::new();
        for (player, _) in &self.players {
            used.extend(relays_of(&player.stats()?));
        }
        let is_used = |at: &usize| used.contains(&self.relays[*at].address.to_string());
        let mut found: Vec<usize> = (0..self.relays.len()).filter(is_used).collect();
        found.shuffle(random);
        Ok(found)
    }

    /// Waits until all substreams of all players come from relays, but not from this one.
    async fn settled(&self, but: Option<usize>) -> anyhow::Result<Vec<Value>> {
        eventually("every substream from a relay", PATIENCE, async || {
            let mut all = Vec::new();
            for (player, _) in &self.players {
                let stats = player.stats()?;
                let avoided = but.is_none_or(|at| {
                    let address = self.relays[at].address.to_string();
                    !relays_of(&stats).contains(&address)
                });
                let calm = stats["fallback"] == false;
                ensure!(relayed(&stats) == 4 && avoided && calm, "{stats}");
                all.push(stats);
            }
            Ok(all)
        })
        .await
    }

    async fn watch(&self, pictures: usize) -> anyhow::Result<()> {
        let (_, watched) = self.players.first().context("a player")?;
        more_pictures(watched, pictures).await
    }

    /// Everything that every player has given so far is what the origin has given.
    fn compare(&self) -> anyhow::Result<usize> {
        let mut compared = 0;
        for (_, watched) in &self.players {
            compared += compare(&media(watched), &media(&self.origin))?;
        }
        Ok(compared)
    }

    async fn trouble(&mut self) -> anyhow::Result<()> {
        let mut random = StdRng::seed_from_u64(SEED);
        self.settled(None).await?;
        self.watch(90).await?;

        // One is killed: nobody notices, and hardly anything comes twice.
        let victim = *self.used(&mut random)?.first().context("nobody is used")?;
        self.relays[victim].process.kill().await?;
        let stats = self.settled(Some(victim)).await?;
        self.watch(60).await?;
        for stats in &stats {
            ensure!(stats["stalls"] == 0, "one dead relay: {stats}");
            ensure!(twice_percent(stats) <= TWICE_PERCENT, "{stats}");
        }
        let at_once = self.compare()?;

        // One is cut off and another throttled for a while, at a moment that the seed has chosen.
        let used = self.used(&mut random)?;
        let [cut, slow] = used.get(..2).context("two in use")? else {
            unreachable!("a slice of two")
        };
        let dead = Link {
            lost_per_mille: 1_000,
            ..Self::path(*cut)
        };
        tokio::time::sleep(Duration::from_millis(random.random_range(0..500))).await;
        self.relays[*cut].set_path(dead);
        self.relays[*slow].set_path(Link::limited(150, TRIPS_MS[*slow]));
        self.watch(90).await?;
        self.relays[*cut].set_path(Self::path(*cut));
        self.relays[*slow].set_path(Self::path(*slow));
        self.settled(None).await?;

        // All are cut off for a second: everybody falls back to the origin, and comes back.
        for relay in &self.relays {
            relay.set_path(dead);
        }
        tokio::time::sleep(Duration::from_millis(1_000)).await;
        for (at, relay) in self.relays.iter().enumerate() {
            relay.set_path(Self::path(at));
        }
        let fallen = eventually("a fallback", SOON, async || {
            let mut fallen = 0;
            for (player, _) in &self.players {
                fallen += count(&player.stats()?, "fallbacks").min(1);
            }
            ensure!(fallen == 3, "{fallen} of three");
            Ok(fallen)
        })
        .await?;
        let stats = self.settled(None).await?;
        let compared = self.compare()?;
        ensure!(compared > at_once, "{compared} tags after {at_once}");
        for stats in &stats {
            ensure!(
                stats["skips"] == 0 && stats["forged_frames"] == 0,
                "{stats}"
            );
        }
        report(&format!(
            "{compared} tags alike, {fallen} fell back and returned: {}",
            stats
                .iter()
                .map(Value::to_string)
                .collect::<Vec<_>>()
                .join("\n")
        ));
        Ok(())
    }
}

/// Eight relays of 5 to 50 Mb/s with losses and delays, three players. Relays are killed, cut off and throttled; the media of
/// all players is the origin's byte by byte, nobody stalls with one relay dead, and fallback and return work.
#[tokio::test]
async fn weak_relays_in_trouble_carry_the_origins_stream() -> anyhow::Result<()> {
    let scheduler = Scheduler::start(SocketAddr::from((Ipv4Addr::LOCALHOST, ports::free()?)))?;
    let url = format!("scheduler_url = \"{}\"", scheduler.url(""));
    let anchor = Anchor::start_with(Options::default().set("origin.substreams", url)).await?;
    let (_host, origin) = live(&anchor).await?;
    let relays = Relay::start(&anchor, Some(&scheduler), 8, 0)?;
    for (at, relay) in relays.iter().enumerate() {
        relay.set_path(Show::path(at));
    }
    crate::relays::knows(&scheduler, 8).await?;
    let mut players = Vec::new();
    for _ in 0..3 {
        players.push(play(&anchor).await?);
    }
    let mut show = Show {
        anchor,
        origin,
        relays,
        players,
    };
    let outcome = show.trouble().await;
    if outcome.is_err() {
        for (player, _) in &show.players {
            report(&player.process.tail());
        }
        report(&scheduler.process.tail());
        show.relays.iter().for_each(|r| report(&r.process.tail()));
    }
    outcome?;

    // The console shows them, to who may see nodes.
    let seen: Value = reqwest::get(show.anchor.url("/api/v1/relays"))
        .await?
        .error_for_status()?
        .json()
        .await?;
    ensure!(seen["scheduled"] == true, "{seen}");
    let shown = seen["relays"].as_array().map_or(0, Vec::len);
    ensure!((7..=8).contains(&shown), "{seen}");
    let serves = |relay: &Value| relay["serves"][0]["stream"] == "demo";
    let all = seen["relays"].as_array().context("relays")?;
    ensure!(all.iter().any(serves), "{seen}");
    let open = reqwest::get(scheduler.url("/v1/relays")).await?;
    ensure!(open.status() == 401, "without a ticket: {}", open.status());
    Ok(())
}

/// The relay that means harm.
const INSIDER: u64 = 0xbad;

/// A relay with good keys between its players and an honest one: it changes one byte of every twentieth packet.
struct Insider {
    _honest: Process,
    address: SocketAddr,
    spoiled: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Insider {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Insider {
    #[expect(clippy::disallowed_methods, reason = "the shell of the tests")]
    async fn start(anchor: &Anchor, scheduler: &Scheduler) -> anyhow::Result<Self> {
        let front = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = front.local_addr()?;
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, ports::free()?));
        // Without a secret, keys follow from the id alone.
        let key = Key::of_relay(&[], INSIDER);
        let mut command = Command::new(tools::anchornet()?);
        command
            .args(["relay", "--origin", &anchor.url("")])
            .args(["--id", &format!("{INSIDER:x}"), "--key", &key.to_hex()])
            .args(["--listen", &listen.to_string()])
            .args(["--advertise", &address.to_string()])
            .args(["--scheduler", &scheduler.address.to_string()])
            .env_remove("RUST_LOG");
        let honest = Process::start("insider", &mut command)?;
        let spoiled = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(meddle(front, listen, key, Arc::clone(&spoiled)));
        Ok(Self {
            _honest: honest,
            address,
            spoiled,
            task,
        })
    }
}

/// The way back to one player.
struct Back {
    front: Arc<UdpSocket>,
    player: SocketAddr,
    keys: Arc<std::sync::Mutex<Vec<Keys>>>,
    spoiled: Arc<AtomicU64>,
}

impl Back {
    async fn run(self, socket: Arc<UdpSocket>) {
        let mut buffer = [0; 2_048];
        let mut packets = 0_u64;
        while let Ok(length) = socket.recv(&mut buffer).await {
            packets += 1;
            let bytes = &buffer[..length];
            let changed = self.keys.lock().ok().and_then(|keys| spoil(bytes, &keys));
            let changed = changed.filter(|_| packets.is_multiple_of(20));
            self.spoiled
                .fetch_add(u64::from(changed.is_some()), Ordering::Relaxed);
            let bytes = changed.as_deref().unwrap_or(bytes);
            let _ = self.front.send_to(bytes, self.player).await;
        }
    }
}

/// Passes datagrams on in both directions, each player by a socket of its own.
#[expect(clippy::disallowed_methods, reason = "the shell of the tests")]
async fn meddle(front: UdpSocket, relay: SocketAddr, key: Key, spoiled: Arc<AtomicU64>) {
    let front = Arc::new(front);
    let mut flows: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let keys: Arc<std::sync::Mutex<Vec<Keys>>> = Arc::default();
    let mut buffer = [0; 2_048];
    loop {
        let Ok((length, player)) = front.recv_from(&mut buffer).await else {
            continue;
        };
        let bytes = &buffer[..length];
        if let Ok(asked) = Subscribe::read(bytes)
            && let Ok(mut keys) = keys.lock()
        {
            keys.push(Keys::new(&key.of_session(&asked.ticket)));
        }
        let known = flows.get(&player).cloned();
        let socket = match known {
            Some(socket) => socket,
            None => {
                let Ok(socket) = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await else {
                    continue;
                };
                let socket = Arc::new(socket);
                flows.insert(player, Arc::clone(&socket));
                let back = Back {
                    front: Arc::clone(&front),
                    player,
                    keys: Arc::clone(&keys),
                    spoiled: Arc::clone(&spoiled),
                };
                tokio::spawn(back.run(Arc::clone(&socket)));
                socket
            }
        };
        let _ = socket.send_to(bytes, relay).await;
    }
}

/// A packet of a frame with one byte changed, and a MAC that is right.
fn spoil(bytes: &[u8], keys: &[Keys]) -> Option<Vec<u8>> {
    if Kind::of(bytes) != Some(Kind::Data) {
        return None;
    }
    let found = keys
        .iter()
        .find_map(|keys| Some((data::read(bytes, keys).ok()?, keys)));
    let (packet, keys) = found?;
    let before = packet.chain.split_last()?.1;
    let mut payload = packet.payload.to_vec();
    *payload.last_mut()? ^= 1;
    Some(match &packet.signature {
        Some(signature) => data::write_signed(&packet.head, before, signature, &payload, keys),
        None => data::write(&packet.head, before, &payload, keys),
    })
}

/// A relay with good keys changes a byte now and then. It is found by the origin's signature, left and reported; nobody
/// sees anything of it.
#[tokio::test]
async fn a_relay_that_changes_frames_is_found_and_left() -> anyhow::Result<()> {
    let scheduler = Scheduler::start(SocketAddr::from((Ipv4Addr::LOCALHOST, ports::free()?)))?;
    let url = format!("scheduler_url = \"{}\"", scheduler.url(""));
    let anchor = Anchor::start_with(Options::default().set("origin.substreams", url)).await?;
    let (_host, origin) = live(&anchor).await?;
    // The others are farther, so that it is used.
    let relays = Relay::start(&anchor, Some(&scheduler), 2, 0)?;
    relays
        .iter()
        .for_each(|relay| relay.set_path(Link::of(120, 0)));
    let insider = Insider::start(&anchor, &scheduler).await?;
    crate::relays::knows(&scheduler, 3).await?;
    let (player, watched) = play(&anchor).await?;
    let stats = eventually("a forgery", SOON, async || {
        let stats = player.stats()?;
        let left = !relays_of(&stats).contains(&insider.address.to_string());
        let found = count(&stats, "forged_frames") > 0;
        ensure!(found && left && relayed(&stats) == 4, "{stats}");
        Ok(stats)
    })
    .await?;
    more_pictures(&watched, 60).await?;
    let compared = compare(&media(&watched), &media(&origin))?;
    eventually("a report of it", SOON, async || {
        let state = scheduler.state().await?;
        ensure!(count(&state, "reported") >= 1, "{state}");
        Ok(())
    })
    .await?;
    for what in ["stalls", "skips"] {
        ensure!(stats[what] == 0, "{what}: {stats}");
    }
    let spoiled = insider.spoiled.load(Ordering::Relaxed);
    report(&format!(
        "{compared} tags alike, {spoiled} packets spoiled: {stats}"
    ));
    Ok(())
}
