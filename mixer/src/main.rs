//! The `anchornet-mixer` command.

use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Parser;
use mixer::cli::Cli;
use mixer::{listen, session};
use socket2::{Socket, Type};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_logs();
    let result = if cli.encoders {
        print_encoders()
    } else if let Some(address) = cli.listen {
        listen::listen(address, cli.secret_env.as_deref(), cli.max_mixers)
    } else {
        link_on_stdin().and_then(session::serve)
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("anchornet-mixer: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Standard input, where it is a stream socket.
fn link_on_stdin() -> anyhow::Result<Socket> {
    const HELP: &str = "standard input is not a link: an anchor starts this program by itself. \
        To let anchors on other machines use this one, see `anchornet-mixer --help`";
    let stdin = std::io::stdin();
    let Ok(descriptor) = stdin.as_fd().try_clone_to_owned() else {
        bail!(HELP);
    };
    let socket = Socket::from(descriptor);
    match socket.r#type() {
        Ok(Type::STREAM) => Ok(socket),
        _ => bail!(HELP),
    }
}

fn print_encoders() -> anyhow::Result<()> {
    let (version, encoders) = session::about()?;
    let list = match encoders.is_empty() {
        true => "none: install gstreamer1.0-plugins-ugly (x264enc) or -bad (openh264enc)".into(),
        false => encoders.join(", "),
    };
    use std::io::Write;
    writeln!(std::io::stdout(), "{version}\nH.264 encoders: {list}").context("standard output")
}

fn start_logs() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .with_writer(std::io::stderr)
        .init();
}
