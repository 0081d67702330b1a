//! What the player asks the origin for.

use std::net::SocketAddr;

use media::substream::Entry;
use media::ticket::{Key, from_hex};
use reqwest::{Client, RequestBuilder, Url};
use serde::Deserialize;
use tracing::debug;

use super::super::{From, MAX_RELAYS, RelayInfo};
use crate::http;

/// Headers asked for at a time.
const MAX_HEADERS: usize = 512;

pub(super) struct Origin {
    client: Client,
    /// The URL of the stream without `.flv`.
    base: String,
    token: Option<String>,
}

#[derive(Deserialize)]
struct Meta {
    relays: Vec<RelayMeta>,
}

#[derive(Deserialize)]
struct RelayMeta {
    address: SocketAddr,
    ticket: String,
    key: String,
}

impl Origin {
    /// The origin of an HTTP-FLV URL, and the name of the stream.
    pub(super) fn new(client: Client, url: &str) -> Result<(Self, String), String> {
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

    /// The relays that the origin recommends; none when it does not answer.
    pub(super) async fn relays(&self) -> Vec<RelayInfo> {
        let body = match http::bytes(self.get("meta")).await {
            Ok(body) => body,
            Err(error) => {
                debug!(%error, "no relays");
                return Vec::new();
            }
        };
        let meta: Result<Meta, _> = serde_json::from_slice(&body);
        let relays = meta.map(|meta| meta.relays).unwrap_or_default();
        let read = |relay: &RelayMeta| {
            Some(RelayInfo {
                address: relay.address,
                ticket: from_hex(&relay.ticket)?,
                key: Key::from_hex(&relay.key)?,
            })
        };
        relays.iter().take(MAX_RELAYS).filter_map(read).collect()
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
