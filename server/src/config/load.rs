//! Reading a configuration: file, then environment, then command line.

use std::path::Path;

use anyhow::{Context, bail};
use toml::{Table, Value};

use super::Config;

/// Every setting with its default and what it means.
pub const EXAMPLE: &str = include_str!("../../../deploy/anchornet.example.toml");

/// Environment variables that set one key each: secrets do not belong into files.
const ENVIRONMENT: [(&str, &str); 6] = [
    ("ANCHORNET_AUTH_SECRET", "auth.secret"),
    ("ANCHORNET_REDIS_URL", "registry.redis_url"),
    ("ANCHORNET_PUBLIC_URL", "node.public_url"),
    ("ANCHORNET_PLAYBACK_URL", "channels.playback_url"),
    ("ANCHORNET_TURN_CREDENTIAL", "webrtc.turn_credential"),
    ("ANCHORNET_TURN_SECRET", "webrtc.turn_secret"),
];

/// Reads `path` if given, then the environment through `env`, then `overrides` of the form `key=value`.
///
/// # Errors
/// Unreadable or malformed files, unknown keys, values of a wrong type: each with where it came from.
pub fn load(
    path: Option<&Path>,
    overrides: &[String],
    env: impl Fn(&str) -> Option<String>,
) -> anyhow::Result<Config> {
    let mut table = match path {
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            // Deserialised once as it stands, so that an error names the line of the file.
            toml::from_str::<Config>(&text).with_context(|| format!("in {}", path.display()))?;
            text.parse::<Table>()
                .with_context(|| format!("in {}", path.display()))?
        }
        None => Table::new(),
    };
    for (name, key) in ENVIRONMENT {
        if let Some(value) = env(name).filter(|value| !value.is_empty()) {
            set(&mut table, key, Value::String(value)).with_context(|| format!("in {name}"))?;
        }
    }
    for pair in overrides {
        let Some((key, value)) = pair.split_once('=') else {
            bail!("--set {pair}: expected KEY=VALUE, as in --set http.listen=127.0.0.1:9000");
        };
        set(&mut table, key.trim(), parse_value(value.trim()))
            .with_context(|| format!("in --set {pair}"))?;
    }
    table
        .try_into::<Config>()
        .context("in the settings from file, environment and --set together")
}

/// A TOML value, or the text itself where it is none: `--set log.filter=debug` needs no quotes.
fn parse_value(text: &str) -> Value {
    format!("value = {text}")
        .parse::<Table>()
        .ok()
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(text.to_owned()))
}

fn set(table: &mut Table, key: &str, value: Value) -> anyhow::Result<()> {
    match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value);
            Ok(())
        }
        Some((section, rest)) => {
            let entry = table
                .entry(section)
                .or_insert_with(|| Value::Table(Table::new()));
            match entry {
                Value::Table(inner) => set(inner, rest, value),
                Value::String(_)
                | Value::Integer(_)
                | Value::Float(_)
                | Value::Boolean(_)
                | Value::Datetime(_)
                | Value::Array(_) => bail!("{section} is a value, not a section"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_env(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn the_example_is_the_default_and_complete() {
        let example: Config = toml::from_str(EXAMPLE).expect("valid");
        assert_eq!(example, Config::default());
        let keys = |text: &str| -> Vec<String> {
            let table: Table = text.parse().expect("TOML");
            let mut keys = Vec::new();
            collect_keys(&table, "", &mut keys);
            keys.sort();
            keys
        };
        let all = toml::to_string(&Config::default()).expect("serialises");
        // Optional settings without a value are shown in the example as comments.
        assert_eq!(keys(EXAMPLE), keys(&all));
    }

    fn collect_keys(table: &Table, prefix: &str, keys: &mut Vec<String>) {
        for (key, value) in table {
            let path = format!("{prefix}{key}");
            match value.as_table() {
                Some(inner) => collect_keys(inner, &format!("{path}."), keys),
                None => keys.push(path),
            }
        }
    }

    #[test]
    fn later_sources_win() {
        let dir = tempfile::tempdir().expect("scratch");
        let file = dir.path().join("a.toml");
        std::fs::write(
            &file,
            "[http]\nlisten = '127.0.0.1:1000'\n[auth]\nsecret = 'from the file'\n",
        )
        .expect("written");
        let env = |name: &str| {
            (name == "ANCHORNET_AUTH_SECRET").then(|| "from the environment".to_owned())
        };
        let overrides = [
            "http.listen=127.0.0.1:2000".to_owned(),
            "channels.max_channels=7".to_owned(),
        ];
        let config = load(Some(&file), &overrides, env).expect("valid");
        assert_eq!(config.http.listen.port(), 2000);
        assert_eq!(config.channels.max_channels, 7);
        assert_eq!(config.auth.secret, "from the environment");
    }

    #[test]
    fn mistakes_are_named() {
        let dir = tempfile::tempdir().expect("scratch");
        let file = dir.path().join("a.toml");
        std::fs::write(&file, "[http]\nlissten = '127.0.0.1:1'\n").expect("written");
        let error = format!("{:#}", load(Some(&file), &[], no_env).expect_err("typo"));
        assert!(
            error.contains("lissten") && error.contains("a.toml"),
            "{error}"
        );
        let error = format!(
            "{:#}",
            load(None, &["http.listen".into()], no_env).expect_err("no value")
        );
        assert!(error.contains("KEY=VALUE"), "{error}");
        let error = format!(
            "{:#}",
            load(None, &["http.listen=5".into()], no_env).expect_err("no address")
        );
        assert!(error.contains("listen"), "{error}");
    }
}
