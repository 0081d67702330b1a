//! The registry that nodes share: leases in Redis. The only module that knows the `redis` crate.
//!
//! Keys, all below a prefix: `node:<id>` the node's record, with a life of its own; `nodes` the ids of all nodes ever
//! heard of; `lease:<channel>` = `<term> <since_ms> <node>`, alive while it is renewed; `channel:<channel>` = `{epoch,
//! term}`, kept for a day so that timestamps carry on when a channel moves or its node restarts.
//!
//! Who has a channel:
//! - A claim takes a channel that nobody holds, or whose holder has vanished, and raises its term by one.
//! - Without Redis a claim is granted locally under term 0, unless the last that was known is that another node has
//!   the channel. The show goes on; two nodes may then have the same channel.
//! - Renewing asserts a lease against whatever Redis holds. The higher term wins: who got the channel by the rules
//!   after another one's lease ran out keeps it. Among equal terms the one who has had it for longer wins: after Redis
//!   came back empty, the holder from before the outage outranks a claim made in the confusion, in whatever order
//!   they come back. The loser is told by [`Registry::lost`] and ends its channel.
//!
//! Scripts make each decision atomic. They name keys that they compute (`node:<id>`), so this wants one Redis, with or
//! without replicas, not a Redis Cluster. Every call ends within the call timeout; while Redis is known to be away
//! calls answer from local knowledge at once, and only the renewals probe.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::lease::{Input, Lease, Machine, Output, Renewal};
use super::{Claim, Health, Lost, NodeRecord, Registry};
use crate::clock;

/// How long a channel's epoch outlives its last renewal.
const KEEP_MS: u64 = 24 * 3600 * 1000;
/// How long a channel's epoch outlives its release: long enough for viewers who still wait for it.
const KEEP_RELEASED_MS: u64 = 10 * 60 * 1000;
/// Leases asserted in one round trip.
const BATCH: usize = 64;
/// Channels of other nodes remembered for the time without Redis; all are forgotten beyond.
const MAX_ELSEWHERE: usize = 4096;

/// Keys: lease, channel. Arguments: node, since, epoch, lease ttl, epoch ttl, prefix of node records.
const CLAIM: &str = r"
local held = redis.call('GET', KEYS[1])
if held then
  local holder = string.match(held, '^%d+ %d+ (.+)$')
  if holder and holder ~= ARGV[1] then
    local record = redis.call('GET', ARGV[6] .. holder)
    if record then return {'other', record, ''} end
  end
end
local term = string.format('%.0f', redis.call('HINCRBY', KEYS[2], 'term', 1))
redis.call('HSETNX', KEYS[2], 'epoch', ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[5])
redis.call('SET', KEYS[1], term .. ' ' .. ARGV[2] .. ' ' .. ARGV[1], 'PX', ARGV[4])
return {'mine', redis.call('HGET', KEYS[2], 'epoch'), term}
";

/// Keys: lease, channel. Arguments: node, term, since, epoch, lease ttl, epoch ttl.
const ASSERT: &str = r"
local term, since = tonumber(ARGV[2]), tonumber(ARGV[3])
local held = redis.call('GET', KEYS[1])
local t, s, holder
if held then t, s, holder = string.match(held, '^(%d+) (%d+) (.+)$') end
local own_epoch = true
if holder then
  t, s = tonumber(t), tonumber(s)
  if holder == ARGV[1] then
    term = math.max(term, t)
    own_epoch = false
  elseif t > term or (t == term and (s < since or (s == since and holder < ARGV[1]))) then
    return {'other', holder}
  end
else
  local known = tonumber(redis.call('HGET', KEYS[2], 'term') or '0') or 0
  if known > term then term = known + 1 end
end
local text = string.format('%.0f', term)
redis.call('SET', KEYS[1], text .. ' ' .. ARGV[3] .. ' ' .. ARGV[1], 'PX', ARGV[5])
redis.call('HSET', KEYS[2], 'term', text)
if own_epoch then redis.call('HSET', KEYS[2], 'epoch', ARGV[4]) else redis.call('HSETNX', KEYS[2], 'epoch', ARGV[4]) end
redis.call('PEXPIRE', KEYS[2], ARGV[6])
return {'mine', text}
";

/// Keys: lease, channel. Arguments: node, epoch ttl.
const RELEASE: &str = r"
local held = redis.call('GET', KEYS[1])
if held and string.match(held, '^%d+ %d+ (.+)$') ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return 1
";

/// How to reach and use Redis.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `redis://[user:password@]host[:port][/db]`.
    pub url: String,
    /// Prefix of all keys.
    pub key_prefix: String,
    /// How long a lease outlives its last renewal.
    pub lease_ttl: Duration,
    /// The longest that a call may take.
    pub call_timeout: Duration,
}

/// Leases shared by nodes.
pub struct RedisRegistry {
    inner: Arc<Inner>,
    /// Ends the renewals.
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

struct Inner {
    connection: ConnectionManager,
    settings: Settings,
    state: Mutex<State>,
    /// The machine's next timeout may have changed.
    changed: Notify,
    /// There may be a lost channel.
    lost: Notify,
}

struct State {
    machine: Machine,
    node: NodeRecord,
    nodes: Vec<NodeRecord>,
    elsewhere: HashMap<String, NodeRecord>,
    lost: VecDeque<(String, String)>,
}

impl RedisRegistry {
    /// Announces `node` and begins to renew. Redis may be away: then the registry starts degraded.
    ///
    /// # Errors
    /// When the URL cannot be used.
    pub async fn start(settings: Settings, node: NodeRecord) -> Result<Self, redis::RedisError> {
        let client = redis::Client::open(settings.url.as_str())?;
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(settings.call_timeout))
            .set_response_timeout(Some(settings.call_timeout))
            .set_min_delay(Duration::from_millis(50))
            .set_max_delay(settings.call_timeout)
            .set_number_of_retries(1);
        let state = State {
            machine: Machine::new(clock::now(), settings.lease_ttl),
            nodes: Vec::new(),
            node,
            elsewhere: HashMap::new(),
            lost: VecDeque::new(),
        };
        let inner = Arc::new(Inner {
            connection: ConnectionManager::new_lazy_with_config(client, config)?,
            settings,
            state: Mutex::new(state),
            changed: Notify::new(),
            lost: Notify::new(),
        });
        metrics::gauge!("anchornet_registry_reachable").set(1.0);
        inner.renew_if_due().await;
        let stop = CancellationToken::new();
        let renewals = Arc::clone(&inner);
        tokio::spawn(
            stop.clone()
                .run_until_cancelled_owned(async move { renewals.run().await }),
        );
        Ok(Self {
            inner,
            _stop_on_drop: stop.clone().drop_guard(),
            stop,
        })
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key(&self, kind: &str, id: &str) -> String {
        format!("{}{kind}:{id}", self.settings.key_prefix)
    }

    fn ttl_ms(&self) -> u64 {
        u64::try_from(self.settings.lease_ttl.as_millis()).unwrap_or(u64::MAX)
    }

    /// Feeds the machine and does what it says, renewals apart: those are returned.
    fn feed(&self, input: Option<Input>) -> Option<(Vec<Lease>, Vec<String>)> {
        let mut renewal = None;
        let now = clock::now();
        let mut state = self.state();
        match input {
            Some(input) => state.machine.handle(now, input),
            None => state.machine.handle_timeout(now),
        }
        while let Some(output) = state.machine.poll_output() {
            match output {
                Output::Renew { leases, releases } => renewal = Some((leases, releases)),
                Output::Lost { channel, node } => {
                    metrics::counter!("anchornet_registry_lost_channels_total").increment(1);
                    tracing::warn!(channel, owner = node, "another node has the channel");
                    state.lost.push_back((channel, node));
                    self.lost.notify_one();
                }
                Output::Health(Health::Ok) => {
                    metrics::gauge!("anchornet_registry_reachable").set(1.0);
                    tracing::info!("the registry is reachable");
                }
                Output::Health(Health::Degraded(why)) => {
                    metrics::gauge!("anchornet_registry_reachable").set(0.0);
                    tracing::warn!(why, "the registry is unreachable: working on local state");
                }
            }
        }
        self.changed.notify_one();
        renewal
    }

    async fn run(&self) {
        loop {
            let due = self.state().machine.poll_timeout();
            let sleep = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = sleep => self.renew_if_due().await,
                () = self.changed.notified() => {}
            }
        }
    }

    async fn renew_if_due(&self) {
        let Some((leases, releases)) = self.feed(None) else {
            return;
        };
        let input = match self.renew(leases, &releases).await {
            Ok(renewals) => Input::Renewed(renewals),
            Err(why) => Input::RenewFailed(why),
        };
        self.feed(Some(input));
    }

    /// One round: the node's record, the leases, the releases, then who else is there.
    async fn renew(&self, leases: Vec<Lease>, releases: &[String]) -> Result<Vec<Renewal>, String> {
        let mut announce = redis::pipe();
        self.announce(&mut announce);
        for channel in releases {
            self.release_command(&mut announce, channel);
        }
        self.query::<()>(&announce).await?;
        let mut renewals = Vec::with_capacity(leases.len());
        for batch in leases.chunks(BATCH) {
            let mut pipe = redis::pipe();
            for lease in batch {
                self.assert_command(&mut pipe, lease);
            }
            let answers: Vec<(String, String)> = self.query(&pipe).await?;
            for (lease, (verdict, detail)) in batch.iter().zip(answers) {
                let outcome = match verdict.as_str() {
                    "mine" => Ok(detail.parse().unwrap_or(lease.term)),
                    _ => Err(detail),
                };
                let lease = lease.clone();
                renewals.push(Renewal { lease, outcome });
            }
        }
        let nodes = self.read_nodes().await?;
        self.state().nodes = nodes;
        Ok(renewals)
    }

    /// The node's record as it is now, with the time of this renewal.
    fn record(&self) -> NodeRecord {
        let mut node = self.state().node.clone();
        node.seen_at_ms = clock::wall_ms();
        node
    }

    fn announce(&self, pipe: &mut redis::Pipeline) {
        let node = self.record();
        let text = serde_json::to_string(&node).unwrap_or_default();
        let set = pipe.cmd("SET").arg(self.key("node", &node.id));
        set.arg(text).arg("PX").arg(self.ttl_ms()).ignore();
        let all = format!("{}nodes", self.settings.key_prefix);
        pipe.cmd("SADD").arg(all).arg(&node.id).ignore();
    }

    fn script<'a>(
        &self,
        pipe: &'a mut redis::Pipeline,
        script: &str,
        channel: &str,
    ) -> &'a mut redis::Pipeline {
        let (lease, record) = (self.key("lease", channel), self.key("channel", channel));
        pipe.cmd("EVAL").arg(script).arg(2).arg(lease).arg(record)
    }

    fn release_command(&self, pipe: &mut redis::Pipeline, channel: &str) {
        let node = self.state().node.id.clone();
        self.script(pipe, RELEASE, channel)
            .arg(node)
            .arg(KEEP_RELEASED_MS)
            .ignore();
    }

    fn assert_command(&self, pipe: &mut redis::Pipeline, lease: &Lease) {
        let node = self.state().node.id.clone();
        let command = self.script(pipe, ASSERT, &lease.channel).arg(node);
        let command = command
            .arg(lease.term)
            .arg(lease.since_ms)
            .arg(lease.epoch_ms);
        command.arg(self.ttl_ms()).arg(KEEP_MS);
    }

    /// Every live node; ids without a record are taken off the list.
    async fn read_nodes(&self) -> Result<Vec<NodeRecord>, String> {
        let all = format!("{}nodes", self.settings.key_prefix);
        let mut pipe = redis::pipe();
        pipe.cmd("SMEMBERS").arg(&all);
        let (ids,): (Vec<String>,) = self.query(&pipe).await?;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipe = redis::pipe();
        pipe.cmd("MGET").arg(
            ids.iter()
                .map(|id| self.key("node", id))
                .collect::<Vec<_>>(),
        );
        let (records,): (Vec<Option<String>>,) = self.query(&pipe).await?;
        let gone: Vec<&String> = ids
            .iter()
            .zip(&records)
            .filter(|(_, record)| record.is_none())
            .map(|(id, _)| id)
            .collect();
        if !gone.is_empty() {
            let mut pipe = redis::pipe();
            pipe.cmd("SREM").arg(&all).arg(gone).ignore();
            self.query::<()>(&pipe).await?;
        }
        let records = records.into_iter().flatten();
        Ok(records
            .filter_map(|text| serde_json::from_str(&text).ok())
            .collect())
    }

    /// Every live node, or those of the last renewal while Redis is away.
    async fn live_nodes(&self) -> Vec<NodeRecord> {
        if *self.state().machine.health() == Health::Ok {
            match self.read_nodes().await {
                Ok(nodes) => self.state().nodes = nodes,
                Err(why) => drop(self.feed(Some(Input::CallFailed(why)))),
            }
        }
        self.state().nodes.clone()
    }

    /// One round trip, bounded in time.
    async fn query<T: redis::FromRedisValue>(&self, pipe: &redis::Pipeline) -> Result<T, String> {
        let mut connection = self.connection.clone();
        let answered = tokio::time::timeout(
            self.settings.call_timeout,
            pipe.query_async(&mut connection),
        );
        match answered.await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err(format!(
                "no answer within {} ms",
                self.settings.call_timeout.as_millis()
            )),
        }
    }

    /// A round trip outside of renewals; `None` when Redis is away, which it may be found to be.
    async fn call<T: redis::FromRedisValue>(&self, pipe: &redis::Pipeline) -> Option<T> {
        if *self.state().machine.health() != Health::Ok {
            return None;
        }
        match self.query(pipe).await {
            Ok(answer) => Some(answer),
            Err(why) => {
                self.feed(Some(Input::CallFailed(why)));
                None
            }
        }
    }

    fn remember(&self, channel: &str, owner: Option<&NodeRecord>) {
        let mut state = self.state();
        match owner {
            Some(owner) => {
                if state.elsewhere.len() >= MAX_ELSEWHERE {
                    state.elsewhere.clear();
                }
                state.elsewhere.insert(channel.to_owned(), owner.clone());
            }
            None => drop(state.elsewhere.remove(channel)),
        }
    }

    fn hold(&self, channel: &str, term: u64, since_ms: u64, epoch_ms: u64) -> Claim {
        let lease = Lease {
            channel: channel.to_owned(),
            term,
            since_ms,
            epoch_ms,
        };
        self.feed(Some(Input::Held(lease)));
        Claim::Owned { epoch_ms }
    }
}

#[async_trait]
impl Registry for RedisRegistry {
    async fn claim(&self, channel: &str, epoch_ms: u64) -> Claim {
        let inner = &self.inner;
        if let Some(lease) = inner.state().machine.lease(channel) {
            return Claim::Owned {
                epoch_ms: lease.epoch_ms,
            };
        }
        let since_ms = clock::wall_ms();
        let mut pipe = redis::pipe();
        inner.announce(&mut pipe);
        let node = inner.state().node.id.clone();
        let command = inner
            .script(&mut pipe, CLAIM, channel)
            .arg(node)
            .arg(since_ms)
            .arg(epoch_ms);
        command
            .arg(inner.ttl_ms())
            .arg(KEEP_MS)
            .arg(inner.key("node", ""));
        let Some(((verdict, detail, term),)) =
            inner.call::<((String, String, String),)>(&pipe).await
        else {
            let known = inner.state().elsewhere.get(channel).cloned();
            return match known {
                Some(owner) => Claim::OwnedBy(owner),
                None => inner.hold(channel, 0, since_ms, epoch_ms),
            };
        };
        if verdict != "mine"
            && let Ok(owner) = serde_json::from_str::<NodeRecord>(&detail)
        {
            inner.remember(channel, Some(&owner));
            return Claim::OwnedBy(owner);
        }
        inner.remember(channel, None);
        let epoch_ms = detail.parse().unwrap_or(epoch_ms);
        inner.hold(channel, term.parse().unwrap_or(0), since_ms, epoch_ms)
    }

    async fn release(&self, channel: &str) {
        let inner = &self.inner;
        if inner.state().machine.lease(channel).is_none() {
            return;
        }
        inner.feed(Some(Input::Released(channel.to_owned())));
        let mut pipe = redis::pipe();
        inner.release_command(&mut pipe, channel);
        if inner.call::<()>(&pipe).await.is_some() {
            inner.feed(Some(Input::ReleaseDone(channel.to_owned())));
        }
    }

    async fn owner(&self, channel: &str) -> Option<NodeRecord> {
        let inner = &self.inner;
        if inner.state().machine.lease(channel).is_some() {
            return Some(inner.record());
        }
        let mut pipe = redis::pipe();
        pipe.cmd("GET").arg(inner.key("lease", channel));
        let Some((held,)) = inner.call::<(Option<String>,)>(&pipe).await else {
            return inner.state().elsewhere.get(channel).cloned();
        };
        let holder = held.as_deref().and_then(|held| held.splitn(3, ' ').nth(2));
        let owner = match holder {
            Some(holder) => {
                let mut pipe = redis::pipe();
                pipe.cmd("GET").arg(inner.key("node", holder));
                let (record,) = inner
                    .call::<(Option<String>,)>(&pipe)
                    .await
                    .unwrap_or_default();
                record.and_then(|text| serde_json::from_str(&text).ok())
            }
            None => None,
        };
        inner.remember(channel, owner.as_ref());
        owner
    }

    async fn nodes(&self) -> Vec<NodeRecord> {
        let own = self.inner.record();
        let mut nodes = self.inner.live_nodes().await;
        nodes.retain(|node| node.id != own.id);
        nodes.push(own);
        nodes.sort_by(|a, b| a.id.cmp(&b.id));
        nodes
    }

    fn report(&self, channels: u32, sessions: u32) {
        let mut state = self.inner.state();
        (state.node.channels, state.node.sessions) = (channels, sessions);
    }

    fn health(&self) -> Health {
        self.inner.state().machine.health().clone()
    }

    async fn lost(&self) -> Lost {
        loop {
            let next = self.inner.state().lost.pop_front();
            if let Some((channel, owner)) = next {
                return Lost { channel, owner };
            }
            self.inner.lost.notified().await;
        }
    }

    async fn leave(&self) {
        let inner = &self.inner;
        self.stop.cancel();
        let channels: Vec<String> = inner
            .state()
            .machine
            .leases()
            .map(|lease| lease.channel.clone())
            .collect();
        let mut pipe = redis::pipe();
        for channel in channels {
            inner.release_command(&mut pipe, &channel);
            inner.feed(Some(Input::Released(channel)));
        }
        let node = inner.state().node.id.clone();
        pipe.cmd("DEL").arg(inner.key("node", &node)).ignore();
        let all = format!("{}nodes", inner.settings.key_prefix);
        pipe.cmd("SREM").arg(all).arg(&node).ignore();
        let _ = inner.call::<()>(&pipe).await;
    }
}
