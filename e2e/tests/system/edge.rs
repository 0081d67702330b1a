//! Weak relays in trouble, and relays that mean harm: what players give is the origin's stream.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::capture::FlvViewer;
use e2e::run::anchor::{Anchor, Options};
use e2e::run::process::report;
use e2e::run::relay::Link;
use e2e::run::rlive::{Player, Relay, Scheduler};
use e2e::run::{eventually, ports};
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value;

use crate::relays::{compare, live, media, more_pictures, play, relayed, relays_of};
use crate::support::SOON;

const SEED: u64 = 20_260;
/// What eight relays can send, in megabits per second, and what their paths lose of a hundred datagrams.
const RATES_MBPS: [u64; 8] = [5, 8, 10, 15, 20, 30, 40, 50];
const LOSSES_PERCENT: [u16; 8] = [1, 0, 5, 0, 2, 1, 0, 3];
/// Round trips, in milliseconds.
const TRIPS_MS: [u32; 8] = [10, 50, 20, 40, 30, 60, 24, 16];
/// What may come twice, in hundredths of what comes.
const TWICE_PERCENT: u64 = 3;

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
        eventually("every substream from a relay", SOON, async || {
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
