//! Destination URLs: `rtmp[s]://host[:port]/application/stream[?query]`.
//!
//! The application is the path without its last segment; the last segment, with the query, is the stream key. Everything
//! behind the application is a credential and is never shown.

use crate::Error;

const DEFAULT_PORT: u16 = 1935;
const DEFAULT_TLS_PORT: u16 = 443;

/// A destination URL, taken apart.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct RtmpUrl {
    pub(crate) tls: bool,
    /// Name or address, without the brackets of IPv6.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) app: String,
    /// Stream key and query.
    pub(crate) key: String,
    authority: String,
}

impl std::fmt::Debug for RtmpUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.redacted())
    }
}

impl std::fmt::Display for RtmpUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.redacted())
    }
}

impl RtmpUrl {
    /// # Errors
    /// [`Error::Url`] with the rule that is broken.
    pub(crate) fn parse(url: &str) -> Result<Self, Error> {
        let bad = |why| Error::Url { why };
        let (scheme, rest) = url
            .split_once("://")
            .ok_or(bad("it must start with rtmp:// or rtmps://"))?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "rtmp" => false,
            "rtmps" => true,
            _ => return Err(bad("it must start with rtmp:// or rtmps://")),
        };
        if url.len() > 2_048 || url.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(bad("it is too long or holds blanks"));
        }
        let (before_query, query) = match rest.split_once('?') {
            Some((before, query)) => (before, Some(query)),
            None => (rest, None),
        };
        let (authority, path) = before_query
            .split_once('/')
            .ok_or(bad("the application is missing"))?;
        if authority.contains('@') {
            return Err(bad("user names before the host are not supported"));
        }
        let (host, port) = split_port(authority).ok_or(bad("the port is not a number"))?;
        if host.is_empty() {
            return Err(bad("the host is missing"));
        }
        let (app, name) = path
            .rsplit_once('/')
            .ok_or(bad("the stream key is missing"))?;
        if app.is_empty() || name.is_empty() {
            return Err(bad("application and stream key must not be empty"));
        }
        let default = if tls { DEFAULT_TLS_PORT } else { DEFAULT_PORT };
        Ok(Self {
            tls,
            host: host.to_owned(),
            port: port.unwrap_or(default),
            app: app.to_owned(),
            key: query.map_or_else(|| name.to_owned(), |query| format!("{name}?{query}")),
            authority: authority.to_owned(),
        })
    }

    /// The URL of the application, as `connect` names it.
    pub(crate) fn tc_url(&self) -> String {
        let scheme = if self.tls { "rtmps" } else { "rtmp" };
        format!("{scheme}://{}/{}", self.authority, self.app)
    }

    /// What may be shown and logged.
    pub(crate) fn redacted(&self) -> String {
        format!("{}/***", self.tc_url())
    }
}

fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            (host, after.strip_prefix(':'))
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    match port {
        None => Some((host, None)),
        Some(port) => Some((host, Some(port.parse().ok()?))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn application_key_and_query() {
        let url = RtmpUrl::parse("rtmps://a.example:4443/live2/x/abc?token=s3cret&v=1").unwrap();
        assert_eq!((url.tls, url.port), (true, 4_443));
        assert_eq!(
            (url.app.as_str(), url.key.as_str()),
            ("live2/x", "abc?token=s3cret&v=1")
        );
        assert_eq!(url.tc_url(), "rtmps://a.example:4443/live2/x");
        assert!(!format!("{url:?} {}", url.redacted()).contains("s3cret"));
        assert!(!url.redacted().contains("abc"));
    }

    #[test]
    fn default_ports_and_ipv6() {
        assert_eq!(RtmpUrl::parse("rtmp://h/live/k").unwrap().port, 1_935);
        assert_eq!(RtmpUrl::parse("rtmps://h/live/k").unwrap().port, 443);
        let url = RtmpUrl::parse("rtmp://[::1]:21100/live/k").unwrap();
        assert_eq!((url.host.as_str(), url.port), ("::1", 21_100));
        assert_eq!(url.tc_url(), "rtmp://[::1]:21100/live");
    }

    #[test]
    fn unusable_urls_are_refused_without_repeating_them() {
        for url in [
            "http://h/live/k",
            "rtmp://h",
            "rtmp://h/live",
            "rtmp:///live/k",
            "rtmp://h:99999/live/k",
            "rtmp://u:p@h/live/k",
            "rtmp://h//k",
            "rtmp://h/live/",
            "rtmp://h/live/a b",
            "",
        ] {
            let error = RtmpUrl::parse(url).unwrap_err().to_string();
            assert!(
                !error.contains("k?") && error.starts_with("destination URL"),
                "{error}"
            );
        }
    }

    proptest! {
        #[test]
        fn parse_is_total(url in "(rtmps?://)?.{0,60}") {
            let _ = RtmpUrl::parse(&url);
        }
    }
}
