//! The REST API of an anchor, as far as the bench calls it.

use std::time::{Duration, Instant};

use anyhow::Context;
use reqwest::Method;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(10);

/// What a switch told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Switched {
    /// From the request to its answer, here.
    pub(crate) answered_ms: f64,
    /// From the request to the cut, as reported.
    pub(crate) waited_ms: f64,
    /// The first picture of the new mode, in program time.
    pub(crate) video_dts_ms: f64,
}

/// One channel of one anchor.
#[derive(Clone)]
pub(crate) struct Channel {
    client: reqwest::Client,
    url: String,
    token: Option<String>,
}

impl Channel {
    /// Creates a channel. `server` is `http://ADDRESS:PORT`.
    pub(crate) async fn create(
        server: &str,
        token: Option<&str>,
        id: &str,
        destinations: &[&str],
    ) -> anyhow::Result<Self> {
        let channel = Self {
            client: reqwest::Client::new(),
            url: format!("{server}/api/v1/channels"),
            token: token.map(str::to_owned),
        };
        let body = json!({ "id": id, "destinations": named(destinations) });
        let (status, answer) = channel.send(Method::POST, "", &body).await?;
        anyhow::ensure!(status == 201, "no channel: {status} {answer}");
        let url = format!("{}/{id}", channel.url);
        Ok(Self { url, ..channel })
    }

    async fn send(&self, method: Method, path: &str, body: &Value) -> anyhow::Result<(u16, Value)> {
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if !body.is_null() {
            request = request.json(body);
        }
        let answer = request.send().await?;
        let status = answer.status().as_u16();
        Ok((status, answer.json().await.unwrap_or(Value::Null)))
    }

    /// Pushes the program there, and nowhere else.
    pub(crate) async fn push_to(&self, destinations: &[&str]) -> anyhow::Result<()> {
        let body = named(destinations);
        let (status, answer) = self.send(Method::PUT, "/destinations", &body).await?;
        anyhow::ensure!(status == 200, "no destination: {status} {answer}");
        Ok(())
    }

    /// Waits until so many participants are live.
    pub(crate) async fn await_live(&self, count: usize) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let (_, page) = self
                .send(Method::GET, "/participants", &Value::Null)
                .await?;
            let items = page.get("items").and_then(Value::as_array);
            let states = items.into_iter().flatten().map(|item| item.get("state"));
            let live = states.filter(|state| state.is_some_and(|state| state == "live"));
            if live.count() == count {
                return Ok(());
            }
            let late = begun.elapsed() > PATIENCE;
            anyhow::ensure!(!late, "{count} participants do not come: {page}");
            tokio::time::sleep(POLL).await;
        }
    }

    /// Switches the mode; asks again while the anchor says that it cannot yet.
    pub(crate) async fn switch(&self, mode: &str) -> anyhow::Result<Switched> {
        let begun = Instant::now();
        loop {
            let asked = Instant::now();
            let body = json!({ "mode": mode });
            let (status, report) = self.send(Method::PUT, "/mode", &body).await?;
            if status == 200 {
                let cut = |field| {
                    let cut = report.get("cut").and_then(|cut| cut.get(field));
                    cut.and_then(Value::as_f64).context("no cut in the report")
                };
                return Ok(Switched {
                    answered_ms: asked.elapsed().as_secs_f64() * 1_000.0,
                    waited_ms: cut("waited_ms")?,
                    video_dts_ms: cut("video_dts_ms")?,
                });
            }
            let late = begun.elapsed() > PATIENCE;
            anyhow::ensure!(!late, "no switch to {mode}: {status} {report}");
            tokio::time::sleep(POLL).await;
        }
    }
}

fn named(destinations: &[&str]) -> Value {
    let one =
        |(number, url): (usize, &&str)| json!({ "name": format!("cdn-{number}"), "url": url });
    destinations.iter().enumerate().map(one).collect()
}
