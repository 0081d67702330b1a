//! The `anchornet` command: parses the command line and starts the part that it names.

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Parser;
use server::cli::{Cli, Command, Healthcheck, Node, Token};
use server::config::{self, Config};
use server::run::Parts;
use server::{client, clock, logs, rlive, run, splice_lab};
use signaling::auth::{Claims, Signer};

const ANCHOR: Parts = Parts {
    anchor: true,
    origin: false,
};
const ORIGIN: Parts = Parts {
    anchor: false,
    origin: true,
};
const BOTH: Parts = Parts {
    anchor: true,
    origin: true,
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match dispatch(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("anchornet: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Run(node) => serve(&node, BOTH),
        Command::Anchor(node) => serve(&node, ANCHOR),
        Command::Origin(node) => serve(&node, ORIGIN),
        Command::Publish(args) => {
            logs::start(&config::Log {
                filter: "warn".into(),
                ..config::Log::default()
            })?;
            runtime()?.block_on(client::publish(args))
        }
        Command::Relay(args) => {
            logs::start(&config::Log::default())?;
            runtime()?.block_on(rlive::relay(args))
        }
        Command::RelayKey(args) => {
            let config = load(&args.node)?;
            print(&format!("{}\n", rlive::relay_key(&config, args.id)?))
        }
        Command::Scheduler(args) => {
            let config = load(&args.node)?;
            logs::start(&config.log)?;
            runtime()?.block_on(rlive::scheduler(args, &config))
        }
        Command::Play(args) => {
            logs::start(&config::Log {
                filter: "warn".into(),
                ..config::Log::default()
            })?;
            runtime()?.block_on(rlive::play(args))
        }
        Command::SpliceLab(args) => print(&splice_lab::run(&args)?),
        Command::CheckConfig(node) => check_config(&node),
        Command::ExampleConfig => print(config::EXAMPLE),
        Command::Token(token) => mint(&token),
        Command::Healthcheck(check) => runtime()?.block_on(healthcheck(&check)),
    }
}

fn load(node: &Node) -> anyhow::Result<Config> {
    config::load(node.config.as_deref(), &node.overrides, |name| {
        std::env::var(name).ok()
    })
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")
}

fn serve(node: &Node, parts: Parts) -> anyhow::Result<()> {
    let config = load(node)?;
    logs::start(&config.log)?;
    runtime()?.block_on(run::run(config, parts))
}

fn check_config(node: &Node) -> anyhow::Result<()> {
    let config = load(node)?;
    config.validate(BOTH.ports())?;
    let auth = if config.has_auth() {
        "tokens are checked"
    } else {
        "no tokens: loopback only"
    };
    let registry = if config.registry.redis_url.is_empty() {
        "in memory"
    } else {
        "Redis"
    };
    let auto = if config.auto_create() {
        "created by publishing"
    } else {
        "created by the API or at the console, with a token of the scope admin"
    };
    let rtmp = if config.rtmp_ingest.enabled {
        config.rtmp_ingest.listen.to_string()
    } else {
        "closed".to_owned()
    };
    print(&format!(
        "The configuration is valid.\n  HTTP      {}\n  WebRTC    {}\n  RTMP      {rtmp}\n  origin    {}\n  access    {auth}\n  registry  {registry}\n  channels  {auto}\n",
        config.http.listen, config.webrtc.listen, config.rtmp.listen
    ))
}

fn mint(token: &Token) -> anyhow::Result<()> {
    let config = load(&token.node)?;
    if config.auth.secret.is_empty() {
        bail!(
            "no secret is set: give it in ANCHORNET_AUTH_SECRET or in the file named by --config"
        );
    }
    let scopes: Vec<serde_json::Value> = token
        .scope
        .iter()
        .map(|scope| scope.as_str().into())
        .collect();
    let claims: Claims = serde_json::from_value(serde_json::json!({
        "scope": scopes,
        "channel": token.channel,
        "participant": token.participant,
        "exp": clock::wall_ms() / 1_000 + token.ttl_s,
    }))?;
    if claims.scope.len() != token.scope.len() {
        bail!(
            "unknown scope in {:?}: the scopes are publish, view, control and admin",
            token.scope
        );
    }
    let signed = Signer::secret(&config.auth.secret)?.sign(&claims)?;
    print(&format!("{signed}\n"))
}

async fn healthcheck(check: &Healthcheck) -> anyhow::Result<()> {
    let client = reqwest::Client::builder()
        .timeout(std::time::Duration::from_secs(2))
        .build()?;
    let response = client.get(&check.url).send().await?;
    if !response.status().is_success() {
        bail!("{} answers {}", check.url, response.status());
    }
    Ok(())
}

/// Standard output is the result of these commands.
fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}
