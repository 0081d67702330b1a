//! The shared registry against a real Redis that is killed, frozen and cut off.
#![expect(clippy::unwrap_used, reason = "these are tests, helpers included")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use server::clock;
use server::registry::redis::{RedisRegistry, Settings};
use server::registry::{Claim, Health, Lost, NodeRecord, Registry};
use tokio::sync::watch;

const TTL: Duration = Duration::from_millis(2_000);
/// Generous: on a busy machine a slow answer is not an outage.
const CALL: Duration = Duration::from_millis(1_000);
/// Longer than anything here takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);

/// A redis-server of our own, without persistence.
struct Redis {
    child: Child,
    port: u16,
}

impl Redis {
    fn start() -> Self {
        #[expect(clippy::disallowed_methods, reason = "asks the system for a free port")]
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        Self::start_on(port)
    }

    fn start_on(port: u16) -> Self {
        let mut child = Command::new("redis-server")
            .args([
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
                "--daemonize",
                "no",
            ])
            .args(["--port", &port.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines
            .by_ref()
            .map_while(Result::ok)
            .any(|line| line.contains("Ready to accept"));
        assert!(ready, "redis-server did not start on port {port}");
        // Nobody reads on: a full pipe would block the server.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, port }
    }

    /// Kills the server and forgets all that it held.
    fn kill(mut self) -> u16 {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.port
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([name, &pid])
                .status()
                .unwrap()
                .success()
        );
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn join(port: u16, id: &str) -> RedisRegistry {
    let settings = Settings {
        url: format!("redis://127.0.0.1:{port}/"),
        key_prefix: "test:".into(),
        lease_ttl: TTL,
        call_timeout: CALL,
    };
    let node = NodeRecord {
        id: id.into(),
        url: format!("http://{id}:8080"),
        roles: vec!["anchor".into()],
        version: "0".into(),
        started_at_ms: 1,
        seen_at_ms: 1,
        channels: 0,
        sessions: 0,
    };
    RedisRegistry::start(settings, node).await.unwrap()
}

/// Asks again until `condition` holds: the registry has no events for these.
async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut condition: impl FnMut() -> F,
) -> T {
    let asking = async {
        loop {
            if let Some(found) = condition().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"))
}

async fn healthy(registry: &RedisRegistry, wanted: bool) {
    eventually("the health changes", async || {
        ((registry.health() == Health::Ok) == wanted).then_some(())
    })
    .await;
}

async fn owner(registry: &RedisRegistry, channel: &str) -> Option<String> {
    registry.owner(channel).await.map(|node| node.id)
}

fn owned_by(claim: Claim) -> Result<u64, String> {
    match claim {
        Claim::Owned { epoch_ms } => Ok(epoch_ms),
        Claim::OwnedBy(node) => Err(node.url),
    }
}

#[tokio::test]
async fn a_channel_has_one_owner_and_its_epoch_moves_with_it() {
    let redis = Redis::start();
    let (a, b) = (join(redis.port, "a").await, join(redis.port, "b").await);
    assert_eq!(owner(&b, "x").await, None);
    assert_eq!(owned_by(a.claim("x", 1000).await), Ok(1000));
    assert_eq!(
        owned_by(a.claim("x", 2000).await),
        Ok(1000),
        "again is the same"
    );
    assert_eq!(
        owned_by(b.claim("x", 3000).await),
        Err("http://a:8080".into())
    );
    assert_eq!(owner(&b, "x").await.as_deref(), Some("a"));
    assert_eq!(owned_by(b.claim("y", 4000).await), Ok(4000));
    a.release("x").await;
    assert_eq!(owner(&b, "x").await, None);
    assert_eq!(owned_by(b.claim("x", 5000).await), Ok(1000));
    b.release("y").await;
    a.release("x").await;
    assert_eq!(
        owner(&a, "x").await.as_deref(),
        Some("b"),
        "only the owner can release"
    );
}

#[tokio::test]
async fn nodes_know_each_other() {
    let redis = Redis::start();
    let (a, b) = (join(redis.port, "a").await, join(redis.port, "b").await);
    b.report(3, 7);
    let record = eventually("b is seen by a, busy", async || {
        a.nodes()
            .await
            .into_iter()
            .find(|node| node.id == "b" && node.channels == 3)
    })
    .await;
    assert_eq!((record.url.as_str(), record.sessions), ("http://b:8080", 7));
    b.leave().await;
    eventually("b is gone", async || {
        (a.nodes().await.len() == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_restarted_node_has_its_channels_back_at_once() {
    let redis = Redis::start();
    let a = join(redis.port, "a").await;
    assert_eq!(owned_by(a.claim("x", 1000).await), Ok(1000));
    drop(a);
    let again = join(redis.port, "a").await;
    assert_eq!(
        owned_by(again.claim("x", 9000).await),
        Ok(1000),
        "the timeline carries on"
    );
}

#[tokio::test]
async fn a_dead_nodes_channels_are_free_when_its_lease_ends_and_not_before() {
    let redis = Redis::start();
    let (a, b) = (join(redis.port, "a").await, join(redis.port, "b").await);
    assert_eq!(owned_by(a.claim("x", 1000).await), Ok(1000));
    // Renewing keeps it for longer than one lease.
    let until = clock::now() + TTL * 2;
    while clock::now() < until {
        assert!(owned_by(b.claim("x", 2000).await).is_err());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(a);
    assert!(owned_by(b.claim("x", 2000).await).is_err());
    let epoch_ms = eventually("the lease ends", async || {
        owned_by(b.claim("x", 2000).await).ok()
    })
    .await;
    assert_eq!(epoch_ms, 1000);
}

#[tokio::test]
async fn losing_redis_ends_nothing_and_leases_are_back_with_it() {
    let redis = Redis::start();
    let (a, b) = (join(redis.port, "a").await, join(redis.port, "b").await);
    assert_eq!(owned_by(a.claim("x", 1000).await), Ok(1000));
    assert!(owned_by(b.claim("x", 1000).await).is_err());
    assert_eq!(a.nodes().await.len(), 2);
    let port = redis.kill();
    healthy(&a, false).await;
    healthy(&b, false).await;
    let asked = clock::now();
    assert_eq!(owned_by(a.claim("x", 2000).await), Ok(1000), "kept");
    assert_eq!(
        owned_by(a.claim("new", 2000).await),
        Ok(2000),
        "granted locally"
    );
    assert_eq!(
        owned_by(b.claim("x", 2000).await),
        Err("http://a:8080".into()),
        "remembered"
    );
    assert_eq!(owner(&b, "x").await.as_deref(), Some("a"));
    assert_eq!(a.nodes().await.len(), 2);
    assert!(asked.elapsed() < CALL, "local answers do not wait");

    let redis = Redis::start_on(port);
    healthy(&a, true).await;
    healthy(&b, true).await;
    let c = join(redis.port, "c").await;
    for channel in ["x", "new"] {
        eventually("the lease is asserted again", async || {
            (owner(&c, channel).await.as_deref() == Some("a")).then_some(())
        })
        .await;
    }
    drop(a);
    let epoch_ms = eventually("x is free", async || {
        owned_by(c.claim("x", 9000).await).ok()
    })
    .await;
    assert_eq!(epoch_ms, 1000, "the epoch survived a Redis that forgot it");
}

#[tokio::test]
async fn of_two_claims_without_redis_the_older_one_wins() {
    let redis = Redis::start();
    let (a, b) = (join(redis.port, "a").await, join(redis.port, "b").await);
    assert_eq!(owned_by(a.claim("x", 1000).await), Ok(1000));
    let port = redis.kill();
    healthy(&a, false).await;
    healthy(&b, false).await;
    assert_eq!(
        owned_by(b.claim("x", 2000).await),
        Ok(2000),
        "it never heard of a's claim"
    );
    let redis = Redis::start_on(port);
    let lost = tokio::time::timeout(PATIENCE, b.lost()).await.unwrap();
    assert_eq!(
        lost,
        Lost {
            channel: "x".into(),
            owner: "a".into()
        }
    );
    b.release("x").await;
    assert_eq!(
        owner(&b, "x").await.as_deref(),
        Some("a"),
        "the loser's release changes nothing"
    );
    let c = join(redis.port, "c").await;
    assert_eq!(
        owned_by(c.claim("x", 3000).await),
        Err("http://a:8080".into())
    );
}

#[tokio::test]
async fn who_let_its_lease_run_out_loses_to_who_took_the_channel_by_the_rules() {
    let redis = Redis::start();
    let link = Link::to(redis.port).await;
    let (a, b) = (join(link.port, "a").await, join(redis.port, "b").await);
    assert_eq!(owned_by(a.claim("x", 1000).await), Ok(1000));
    link.cut();
    healthy(&a, false).await;
    eventually("a's lease ends", async || {
        owned_by(b.claim("x", 2000).await).ok()
    })
    .await;
    assert_eq!(
        owned_by(a.claim("x", 3000).await),
        Ok(1000),
        "a goes on, it cannot know"
    );
    link.mend();
    let lost = tokio::time::timeout(PATIENCE, a.lost()).await.unwrap();
    assert_eq!(
        lost,
        Lost {
            channel: "x".into(),
            owner: "b".into()
        }
    );
    assert_eq!(owner(&a, "x").await.as_deref(), Some("b"));
    assert_eq!(owner(&b, "x").await.as_deref(), Some("b"));
}

#[tokio::test]
async fn a_release_during_an_outage_is_made_up_for() {
    let redis = Redis::start();
    let link = Link::to(redis.port).await;
    let (a, b) = (join(link.port, "a").await, join(redis.port, "b").await);
    assert_eq!(owned_by(a.claim("x", 1000).await), Ok(1000));
    assert_eq!(owned_by(a.claim("y", 1000).await), Ok(1000));
    link.cut();
    healthy(&a, false).await;
    a.release("x").await;
    assert_eq!(owner(&a, "x").await, None);
    link.mend();
    healthy(&a, true).await;
    assert_eq!(owned_by(b.claim("x", 2000).await), Ok(1000));
    assert!(owned_by(b.claim("y", 2000).await).is_err());
}

#[tokio::test]
async fn a_frozen_redis_costs_one_timeout() {
    let redis = Redis::start();
    let a = join(redis.port, "a").await;
    redis.signal("-STOP");
    let asked = clock::now();
    assert_eq!(owned_by(a.claim("x", 1000).await), Ok(1000));
    let waited = asked.elapsed();
    assert!(waited < CALL * 5, "{waited:?}");
    assert!(matches!(a.health(), Health::Degraded(_)));
    redis.signal("-CONT");
    healthy(&a, true).await;
    let b = join(redis.port, "b").await;
    eventually("the local claim is asserted", async || {
        (owner(&b, "x").await.as_deref() == Some("a")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_node_may_start_before_redis() {
    let port = Redis::start().kill();
    let started: Instant = clock::now();
    let a = join(port, "a").await;
    assert!(started.elapsed() < CALL * 5);
    assert!(matches!(a.health(), Health::Degraded(_)));
    assert_eq!(owned_by(a.claim("x", 1000).await), Ok(1000));
    let _redis = Redis::start_on(port);
    healthy(&a, true).await;
}

#[tokio::test]
async fn a_bad_address_is_refused_at_once() {
    let settings = Settings {
        url: "http://nowhere".into(),
        key_prefix: String::new(),
        lease_ttl: TTL,
        call_timeout: CALL,
    };
    let node = join(Redis::start().kill(), "a")
        .await
        .nodes()
        .await
        .remove(0);
    assert!(RedisRegistry::start(settings, node).await.is_err());
}

/// A TCP connection to Redis that can be cut and mended, both ways at once.
struct Link {
    port: u16,
    up: Arc<watch::Sender<bool>>,
}

impl Link {
    async fn to(redis: u16) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "a proxy between a node and Redis"
        )]
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let up = Arc::new(watch::channel(true).0);
        let state = Arc::clone(&up);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut up = state.subscribe();
                if !*up.borrow() {
                    continue;
                }
                tokio::spawn(async move {
                    #[expect(
                        clippy::disallowed_methods,
                        reason = "a proxy between a node and Redis"
                    )]
                    let mut far = tokio::net::TcpStream::connect(("127.0.0.1", redis))
                        .await
                        .unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = up.wait_for(|up| !up) => {}
                    }
                });
            }
        });
        Self { port, up }
    }

    fn cut(&self) {
        self.up.send_replace(false);
    }

    fn mend(&self) {
        self.up.send_replace(true);
    }
}
