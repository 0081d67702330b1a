//! Links by TCP: checks who calls and starts a mixer process for each connection.
//!
//! The secret is shown to be known without being sent (`docs/link.md`). A connection becomes a child's standard input, so
//! one that crashes takes no other with it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use aws_lc_rs::{hmac, rand};
use bytes::{Bytes, BytesMut};
use media::link::{FromMixer, MAX_CONTROL_BYTES, Message, ToMixer, VERSION};

/// How long a caller may take to prove that it knows the secret.
const PATIENCE: Duration = Duration::from_secs(5);

/// Callers that are being checked at a time; further ones are closed.
const MAX_UNCHECKED: usize = 16;

/// The largest answer to a challenge.
const MAX_ANSWER_BYTES: usize = 1_024;

/// Takes links at `address` until the process ends.
///
/// # Errors
/// When the address cannot be bound, or is open to others without a secret.
pub fn listen(
    address: SocketAddr,
    secret_env: Option<&str>,
    max_mixers: usize,
) -> anyhow::Result<()> {
    let secret = secret_env.map(secret).transpose()?;
    if secret.is_none() && !address.ip().is_loopback() {
        bail!(
            "{address} is open to other machines, and no secret is asked for: name the environment variable that holds \
             one by --secret-env, or listen on 127.0.0.1"
        );
    }
    #[expect(clippy::disallowed_methods, reason = "this is the shell that listens")]
    let listener =
        TcpListener::bind(address).with_context(|| format!("cannot listen at {address}"))?;
    let local = listener
        .local_addr()
        .context("the listener has no address")?;
    tracing::info!(%local, "taking links");
    let house = Arc::new(House {
        key: secret.map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes())),
        max_mixers,
        tenants: Mutex::default(),
    });
    for caller in listener.incoming() {
        match caller {
            Ok(stream) => house.receive(stream),
            Err(error) => tracing::warn!(%error, "a connection could not be taken"),
        }
    }
    Ok(())
}

fn secret(name: &str) -> anyhow::Result<String> {
    const SHORTEST: usize = 16;
    let secret = std::env::var(name)
        .with_context(|| format!("--secret-env {name}: there is no such environment variable"))?;
    if secret.len() < SHORTEST {
        bail!(
            "the secret in {name} has fewer than {SHORTEST} characters: make one with `openssl rand -hex 32`"
        );
    }
    Ok(secret)
}

struct House {
    key: Option<hmac::Key>,
    max_mixers: usize,
    tenants: Mutex<Tenants>,
}

#[derive(Default)]
struct Tenants {
    mixers: Vec<Child>,
    unchecked: usize,
}

impl House {
    fn receive(self: &Arc<Self>, stream: TcpStream) {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        tenants
            .mixers
            .retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        if tenants.mixers.len() + tenants.unchecked >= self.max_mixers
            || tenants.unchecked >= MAX_UNCHECKED
        {
            drop(tenants);
            refuse(
                stream,
                "all mixers of this machine are taken: see --max-mixers",
            );
            return;
        }
        tenants.unchecked += 1;
        drop(tenants);
        let house = Arc::clone(self);
        let work = move || {
            let admitted = house.admit(stream);
            let mut tenants = house.tenants.lock().unwrap_or_else(PoisonError::into_inner);
            tenants.unchecked -= 1;
            match admitted {
                Ok(child) => tenants.mixers.push(child),
                Err(error) => tracing::warn!("a caller was turned away: {error:#}"),
            }
        };
        if let Err(error) = thread::Builder::new().name("admit".into()).spawn(work) {
            tracing::warn!(%error, "no thread for a caller");
            let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
            tenants.unchecked -= 1;
        }
    }

    fn admit(&self, mut stream: TcpStream) -> anyhow::Result<Child> {
        let peer = stream.peer_addr().context("the caller has gone")?;
        stream.set_nodelay(true).context("the caller has gone")?;
        if let Some(key) = &self.key
            && let Err(error) = challenge(&mut stream, key)
        {
            refuse(stream, "the secret is wrong or missing");
            return Err(error.context(peer));
        }
        let own = std::env::current_exe().context("this program cannot find itself")?;
        let child = Command::new(own)
            .stdin(Stdio::from(OwnedFd::from(stream)))
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start a mixer")?;
        tracing::info!(%peer, pid = child.id(), "a mixer starts");
        Ok(child)
    }
}

/// Has the caller prove that it knows the secret. Reads exactly its answer: what follows is the mixer's.
fn challenge(stream: &mut TcpStream, key: &hmac::Key) -> anyhow::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut random = [0u8; 16];
    rand::fill(&mut random).context("no randomness")?;
    let nonce = hex(&random);
    write(
        stream,
        &FromMixer::Challenge {
            nonce: nonce.clone(),
        },
    )?;
    let mut length = [0u8; 4];
    stream.read_exact(&mut length).context("no answer")?;
    let length = usize::try_from(u32::from_be_bytes(length))?;
    if length > MAX_ANSWER_BYTES.min(MAX_CONTROL_BYTES) {
        bail!("the answer to the challenge is too long");
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).context("no answer")?;
    let ToMixer::Authenticate { mac } = ToMixer::from_body(Bytes::from(body))? else {
        bail!("the first message must be authenticate");
    };
    let mac = unhex(&mac).context("the answer is not hexadecimal")?;
    hmac::verify(key, nonce.as_bytes(), &mac).context("the secret is wrong")?;
    stream.set_read_timeout(None)?;
    stream.set_write_timeout(None)?;
    Ok(())
}

/// Says why, and closes.
fn refuse(mut stream: TcpStream, why: &str) {
    let _ = stream.set_write_timeout(Some(PATIENCE));
    let _ = write(
        &mut stream,
        &FromMixer::Error {
            message: format!("{why} (link version {VERSION})"),
        },
    );
}

fn write(stream: &mut TcpStream, message: &FromMixer) -> anyhow::Result<()> {
    let mut bytes = BytesMut::new();
    message.encode(&mut bytes)?;
    stream.write_all(&bytes).context("the caller has gone")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len() / 2)
        .map(|at| u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn hexadecimal_round_trips(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(unhex(&hex(&bytes)), Some(bytes));
        }

        #[test]
        fn unhex_is_total(text in ".*") {
            let _ = unhex(&text);
        }
    }
}
