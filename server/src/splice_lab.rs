//! `anchornet splice-lab`: joins two AAC files as the program would, and shows what is to be heard of it.
//!
//! A thin shell around the splicer's own workbench ([`cdn_publisher::audio::lab`]): it reads and writes files, and prints.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use bytes::Bytes;
use cdn_publisher::audio::lab::experiment::{Experiment, Judged};
use cdn_publisher::audio::lab::file::{self, Container};
use cdn_publisher::audio::lab::{
    Frame, Settings, Side, Stream, Techniques, UNIT, Wish, picture, sounds,
};
use rand::Rng;
use serde::Serialize;

/// Seconds of the made-up sounds.
const DEMO_SECONDS: usize = 8;

/// What to join, and where.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct SpliceLabArgs {
    /// The host: AAC-LC in ADTS (.aac) or FLV. Its units are used as they are. `demo` for a made-up voice.
    #[arg(value_name = "HOST|demo")]
    pub host: String,
    /// What is heard instead, once the splice is made: another such file, of the same sampling rate. `demo` for made-up
    /// music.
    #[arg(value_name = "MIX|demo")]
    pub mix: String,
    /// Leave the host at so many seconds. Default: somewhere in the middle.
    #[arg(long, value_name = "SECONDS")]
    pub at: Option<f64>,
    /// Return to the host at so many seconds. Default: two seconds later; `never` to stay.
    #[arg(long, value_name = "SECONDS|never")]
    pub back: Option<String>,
    /// Mix the second sound under the host's instead of replacing it: what a guest who joins in is.
    #[arg(long)]
    pub together: bool,
    /// Bit rate of the new encoder. Default: 64 per channel.
    #[arg(long, value_name = "KBPS")]
    pub kbps: Option<u32>,
    /// Write the joined stream here, as .aac or .flv.
    #[arg(long, short, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Write a picture (SVG) of the first joint here: waveforms and error, naive against spliced.
    #[arg(long, value_name = "FILE")]
    pub picture: Option<PathBuf>,
    /// Write a picture of the return to the host here.
    #[arg(long, value_name = "FILE")]
    pub picture_back: Option<PathBuf>,
    /// Leave a technique out, to hear what it is for; may be repeated.
    #[arg(long, value_name = "TECHNIQUE", value_parser = ["priming", "duplicate", "window"])]
    pub without: Vec<String>,
    /// Print the figures as JSON.
    #[arg(long)]
    pub json: bool,
}

const EXAMPLES: &str = "\
Examples:
  anchornet splice-lab demo demo --out joint.flv --picture joint.svg
  anchornet splice-lab host.aac music.aac --together --at 4.2 --back 7 --out joint.aac
  anchornet splice-lab host.aac other.aac --without priming --out heard.aac

Files of your own become ADTS by
  ffmpeg -i FILE -vn -c:a copy host.aac              when they hold AAC already
  ffmpeg -i FILE -vn -ar 48000 -ac 2 -c:a aac host.aac    otherwise

The figures, for each joint: samples of silence; drift in samples; the worst 5 ms of error above what
the encoder does anyway (at most 9 dB); the loudest click above 8 kHz (at most 6 dB); and the loss of
signal-to-noise ratio (at most 6 dB). What they mean is in docs/splicing.md.";

#[derive(Serialize)]
struct Figures<'a> {
    sample_rate_hz: u32,
    channels: u8,
    joints: &'a [Judged],
}

/// Runs the command; the result is what it prints.
///
/// # Errors
/// When a file cannot be read, is no AAC that can be spliced, or cannot be written.
pub fn run(args: &SpliceLabArgs) -> anyhow::Result<String> {
    let host = host(&args.host, args.kbps)?;
    let settings = settings(&host, args.kbps);
    let sound = host.decode()?;
    let seconds = |seconds: f64| samples(seconds * f64::from(settings.sample_rate_hz)) / UNIT;
    let mix = mix(args, &host, &sound)?;
    let slots = host.units.len();
    let at = match args.at {
        Some(at) => seconds(at),
        None => rand::rng().random_range(slots / 3..=slots / 2),
    };
    let back = match args.back.as_deref() {
        None => Some(at + seconds(2.0)),
        Some("never") => None,
        Some(text) => Some(seconds(
            text.parse().context("--back takes seconds or `never`")?,
        )),
    };
    if at < 8 || at + 8 > slots || back.is_some_and(|back| back <= at) {
        bail!(
            "the host is {:.1} s long: the joint must lie inside it, and the way back after the joint",
            (slots * UNIT) as f64 / f64::from(settings.sample_rate_hz)
        );
    }
    let mut wishes = vec![Wish {
        slot: at,
        side: Side::Bus,
    }];
    wishes.extend(back.map(|slot| Wish {
        slot,
        side: Side::Host,
    }));
    let without = |name: &str| args.without.iter().any(|technique| technique == name);
    let techniques = Techniques {
        priming: !without("priming"),
        duplicate: !without("duplicate"),
        window: !without("window"),
    };
    let experiment = Experiment::run(&host, &mix, settings, &wishes, techniques)?;
    save(args, &experiment)?;
    if args.json {
        return Ok(serde_json::to_string_pretty(&Figures {
            sample_rate_hz: settings.sample_rate_hz,
            channels: settings.channels,
            joints: &experiment.joints,
        })? + "\n");
    }
    Ok(table(&experiment.joints))
}

fn host(name: &str, kbps: Option<u32>) -> anyhow::Result<Stream> {
    if name != "demo" {
        return load(Path::new(name));
    }
    let settings = Settings {
        sample_rate_hz: 48_000,
        channels: 2,
        bitrate_bps: kbps.unwrap_or(128) * 1_000,
    };
    let voice = sounds::speech(1, 48_000, DEMO_SECONDS * 48_000);
    Ok(Stream::encode(&voice, settings)?)
}

fn mix(args: &SpliceLabArgs, host: &Stream, sound: &[Frame]) -> anyhow::Result<Vec<Frame>> {
    let other = if args.mix == "demo" {
        sounds::music(2, host.config.sample_rate_hz, sound.len())
    } else {
        let other = load(Path::new(&args.mix))?;
        if other.config.sample_rate_hz != host.config.sample_rate_hz {
            bail!(
                "{} has {} Hz and {} has {}: give both the same rate, for example with ffmpeg -i {} -ar {} -c:a aac other.aac",
                args.host,
                host.config.sample_rate_hz,
                args.mix,
                other.config.sample_rate_hz,
                args.mix,
                host.config.sample_rate_hz
            );
        }
        other.decode()?
    };
    if !args.together {
        return Ok(other);
    }
    let guest = other.into_iter().chain(std::iter::repeat([0.0; 2]));
    let both = sound.iter().zip(guest);
    Ok(both.map(|(a, b)| [a[0] + b[0], a[1] + b[1]]).collect())
}

fn settings(host: &Stream, kbps: Option<u32>) -> Settings {
    let channels = host.config.channels;
    Settings {
        sample_rate_hz: host.config.sample_rate_hz,
        channels,
        bitrate_bps: kbps.unwrap_or(64 * u32::from(channels)) * 1_000,
    }
}

fn load(path: &Path) -> anyhow::Result<Stream> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    file::read(&Bytes::from(bytes)).with_context(|| path.display().to_string())
}

fn save(args: &SpliceLabArgs, experiment: &Experiment) -> anyhow::Result<()> {
    if let Some(path) = &args.out {
        let container = match path.extension().and_then(|extension| extension.to_str()) {
            Some("aac") => Container::Adts,
            Some("flv") => Container::Flv,
            _ => bail!("{}: the result is written as .aac or .flv", path.display()),
        };
        write(path, &file::write(&experiment.spliced.stream, container)?)?;
    }
    for (path, side) in [(&args.picture, Side::Bus), (&args.picture_back, Side::Host)] {
        let joint = experiment
            .joints
            .iter()
            .find(|judged| judged.joint.to == side);
        match (path, joint) {
            (Some(path), Some(judged)) => {
                write(path, picture::svg(experiment, &judged.joint).as_bytes())?;
            }
            (Some(path), None) => bail!("{}: there was no such joint", path.display()),
            (None, _) => {}
        }
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

fn table(joints: &[Judged]) -> String {
    let mut out = String::new();
    for judged in joints {
        let direction = match judged.joint.to {
            Side::Bus => "host → mix",
            Side::Host => "mix → host",
        };
        // Writing to a string does not fail.
        let _ = writeln!(
            out,
            "{:8.3} s  {direction}  {:?} after {} slots that did not fit: {}",
            judged.at_s,
            judged.joint.method,
            judged.joint.tries,
            if judged.faults.is_empty() {
                "nothing to be heard".to_owned()
            } else {
                judged.faults.join(", ")
            },
        );
        for (name, verdict) in [
            ("spliced", Some(&judged.verdict)),
            ("naive", judged.naive.as_ref()),
        ] {
            let Some(verdict) = verdict else { continue };
            let drift = verdict
                .drift_samples
                .map_or("not found".to_owned(), |drift| drift.to_string());
            let _ = writeln!(
                out,
                "    {name:8}silent {:5}   drift {drift:>9}   error {:+6.1} dB   click {:+6.1} dB   SNR loss {:+6.1} dB",
                verdict.silent_samples, verdict.excess_db, verdict.click_db, verdict.snr_loss_db,
            );
        }
    }
    if joints.is_empty() {
        out.push_str("No joint was made: is the host long enough?\n");
    }
    out
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates"
)]
fn samples(count: f64) -> usize {
    count as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> SpliceLabArgs {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: SpliceLabArgs,
        }
        let line: Line = clap::Parser::parse_from(line.split(' '));
        line.args
    }

    #[test]
    fn the_demonstration_writes_everything_and_hears_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let line = format!(
            "x demo demo --together --at 3 --out {} --picture {} --json",
            path("joint.flv").display(),
            path("joint.svg").display()
        );
        let figures: serde_json::Value = serde_json::from_str(&run(&args(&line)).unwrap()).unwrap();
        let joints = figures["joints"].as_array().unwrap();
        assert_eq!(joints.len(), 2, "{figures}");
        for joint in joints {
            assert_eq!(joint["method"], "spliced", "{joint}");
            assert_eq!(joint["faults"].as_array().unwrap().len(), 0, "{joint}");
        }
        assert!(
            std::fs::read_to_string(path("joint.svg"))
                .unwrap()
                .starts_with("<svg")
        );
        // What was written is a host again.
        let again = format!("x {} demo --at 1 --back never", path("joint.flv").display());
        assert!(run(&args(&again)).unwrap().contains("host → mix"));
    }

    #[test]
    fn refusals_say_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("host.m4a");
        std::fs::write(&file, b"\0\0\0\x20ftypM4A ").unwrap();
        let refused = |line: &str| format!("{:#}", run(&args(line)).unwrap_err());
        assert!(refused(&format!("x {} demo", file.display())).contains("ffmpeg -i"));
        assert!(refused("x demo demo --at 100").contains("8.0 s long"));
        assert!(refused("x demo demo --at 3 --out joint.mp4").contains(".aac or .flv"));
    }
}
