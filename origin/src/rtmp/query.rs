//! The query of an RTMP URL: encoders hand on what follows `?` as a part of the stream's name or of the application.

use std::fmt;

/// Names and values in order, percent-decoded. What a query says may be secret: it does not reach the logs.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads `a=1&b=2`. Parts without `=` are left out.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
        Self(
            pairs
                .map(|(name, value)| (percent_decode(name), percent_decode(value)))
                .collect(),
        )
    }

    /// The first value of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut pairs = self.0.iter();
        pairs
            .find(|(held, _)| held == name)
            .map(|(_, value)| value.as_str())
    }

    /// The token: `token`, or `key` as other servers call it.
    #[must_use]
    pub fn token(&self) -> Option<&str> {
        self.get("token").or_else(|| self.get("key"))
    }

    /// Appends what counts less.
    pub(crate) fn extend(&mut self, other: &Self) {
        self.0.extend(other.0.iter().cloned());
    }
}

impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().map(|(name, _)| name);
        f.debug_list().entries(names).finish()
    }
}

/// Splits a name from its query.
pub(crate) fn split(name: &str) -> (&str, Query) {
    match name.split_once('?') {
        Some((name, query)) => (name, Query::parse(query)),
        None => (name, Query::default()),
    }
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let escaped = (*first == b'%')
            .then(|| tail.get(..2))
            .flatten()
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match escaped {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_are_decoded_and_the_first_counts() {
        let (name, mut query) = split("demo?token=a%2Fb%2b&role=host&x&token=c");
        query.extend(&Query::parse("role=guest&participant=ann"));
        assert_eq!(name, "demo");
        assert_eq!(query.token(), Some("a/b+"));
        assert_eq!(query.get("role"), Some("host"));
        assert_eq!(query.get("participant"), Some("ann"));
        assert_eq!(query.get("x"), None);
        assert_eq!(Query::parse("key=k").token(), Some("k"));
    }

    #[test]
    fn secrets_do_not_reach_the_logs() {
        assert_eq!(format!("{:?}", Query::parse("token=secret")), "[\"token\"]");
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "\\PC{0,60}") {
            let (name, _) = split(&text);
            prop_assert!(text.starts_with(name));
        }
    }
}
