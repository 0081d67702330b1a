//! What the player asks the origin for.

use std::net::SocketAddr;

use media::substream::{Entry, MAX_SUBSTREAMS};
use media::ticket::{Key, from_hex};
use reqwest::header::AUTHORIZATION;
use reqwest::{Client, RequestBuilder, Url};
use serde::Deserialize;
use tracing::debug;

use super::super::{From, MAX_RELAYS, RelayInfo};
use crate::http;
use crate::scheduler::{Answer, MAX_FAILED, Question};

/// Headers asked for at a time.
const MAX_HEADERS: usize = 512;
/// Relays asked for, for each substream.
const CANDIDATES: usize = 3;

pub(super) struct Origin {
    client: Client,
    /// The URL of the stream without `.flv`.
    base: String,
    name: String,
    region: String,
    token: Option<String>,
}

#[derive(Deserialize)]
struct Meta {
    substreams: u8,
    relays: Vec<RelayMeta>,
    scheduler: Option<SchedulerMeta>,
}

#[derive(Deserialize)]
struct SchedulerMeta {
    url: String,
    ticket: String,
}

/// A relay as origin and scheduler name it.
#[derive(Deserialize)]
struct RelayMeta {
    id: String,
    address: SocketAddr,
    ticket: String,
    key: String,
}

impl RelayMeta {
    fn read(&self, mask: u64) -> Option<RelayInfo> {
        Some(RelayInfo {
            id: u64::from_str_radix(&self.id, 16).ok()?,
            address: self.address,
            mask,
            ticket: from_hex(&self.ticket)?,
            key: Key::from_hex(&self.key)?,
        })
    }
}

/// Each relay once, with the substreams that it is recommended for; those first that are first for some substream.
fn merge(substreams: &[Vec<RelayMeta>]) -> Vec<RelayInfo> {
    let mut merged: Vec<RelayInfo> = Vec::new();
    let longest = substreams.iter().map(Vec::len).max().unwrap_or_default();
    for rank in 0..longest {
        for (index, relays) in (0..u32::from(MAX_SUBSTREAMS)).zip(substreams) {
            let Some(info) = relays.get(rank).and_then(|relay| relay.read(1 << index)) else {
                continue;
            };
            if let Some(known) = merged.iter_mut().find(|known| known.id == info.id) {
                known.mask |= info.mask;
            } else if merged.len() < MAX_RELAYS {
                merged.push(info);
            }
        }
    }
    merged
}

impl Origin {
    /// The origin of an HTTP-FLV URL, and the name of the stream.
    pub(super) fn new(client: Client, url: &str, region: String) -> Result<(Self, String), String> {
        let mut parsed = Url::parse(url).map_err(|error| format!("{url}: {error}"))?;
        let token = parsed
            .query_pairs()
            .find(|(name, _)| name == "token")
            .map(|(_, value)| value.into_owned());
        parsed.set_query(None);
        let base = parsed
            .as_str()
            .strip_suffix(".flv")
            .ok_or_else(|| format!("{url}: the URL of a stream ends with .flv"))?
            .to_owned();
        let name = base.rsplit('/').next().unwrap_or_default().to_owned();
        let origin = Self {
            client,
            base,
            name: name.clone(),
            region,
            token,
        };
        Ok((origin, name))
    }

    pub(super) fn feed(&self, mask: u64, from: From) -> RequestBuilder {
        let from = match from {
            From::Gop => "gop".to_owned(),
            From::After(entry) => entry.to_hex(),
        };
        self.get(&format!("sub?mask={mask:x}&from={from}"))
    }

    pub(super) fn frames(&self, names: &[(u32, u32)]) -> RequestBuilder {
        let body: Vec<u8> = names
            .iter()
            .flat_map(|(dts, crc)| [dts.to_be_bytes(), crc.to_be_bytes()])
            .flatten()
            .collect();
        let request = self.client.post(format!("{}/frames", self.base));
        self.with_token(request).body(body)
    }

    pub(super) fn headers(&self, after: &Entry) -> RequestBuilder {
        self.get(&format!(
            "headers?after={}&max={MAX_HEADERS}",
            after.to_hex()
        ))
    }

    /// The relays that the scheduler recommends, or the origin where there is none; none when nobody answers.
    pub(super) async fn relays(&self, failed: &[u64]) -> Vec<RelayInfo> {
        let meta = match http::json::<Meta>(self.get("meta")).await {
            Ok(meta) => meta,
            Err(error) => {
                debug!(%error, "no relays");
                return Vec::new();
            }
        };
        if let Some(scheduler) = &meta.scheduler {
            match self.scheduled(scheduler, meta.substreams, failed).await {
                Ok(relays) if !relays.is_empty() => return relays,
                Ok(_) => debug!("the scheduler knows no relay"),
                Err(error) => debug!(%error, "the scheduler does not answer"),
            }
        }
        let any = |relay: &RelayMeta| relay.read(u64::MAX);
        meta.relays
            .iter()
            .take(MAX_RELAYS)
            .filter_map(any)
            .collect()
    }

    async fn scheduled(
        &self,
        scheduler: &SchedulerMeta,
        substreams: u8,
        failed: &[u64],
    ) -> Result<Vec<RelayInfo>, http::Error> {
        let question = Question {
            stream: self.name.clone(),
            substreams,
            region: self.region.clone(),
            count: CANDIDATES,
            failed: failed
                .iter()
                .take(MAX_FAILED)
                .map(|id| format!("{id:x}"))
                .collect(),
        };
        let url = format!("{}/v1/recommend", scheduler.url.trim_end_matches('/'));
        let ticket = format!("Ticket {}", scheduler.ticket);
        let request = self.client.post(url).header(AUTHORIZATION, ticket);
        let answer: Answer<RelayMeta> = http::json(request.json(&question)).await?;
        Ok(merge(&answer.substreams))
    }

    fn get(&self, what: &str) -> RequestBuilder {
        self.with_token(self.client.get(format!("{}/{what}", self.base)))
    }

    fn with_token(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }
}
