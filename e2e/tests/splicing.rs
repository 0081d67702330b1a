//! Joints of AAC bitstreams, over encoders that we did not write: nobody hears where.
//!
//! `ANCHORNET_SPLICES=1000` tries that many joints each way instead of a handful per case.

#![expect(clippy::unwrap_used, reason = "a test may fail on the spot")]

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use bytes::Bytes;
use cdn_publisher::audio::lab::judge::{Reference, Verdict, judge};
use cdn_publisher::audio::lab::{
    Frame, Joint, Settings, Side, Spliced, Stream, Techniques, UNIT, Wish, adts, join_naively,
    rescale, sounds, splice,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const SLOTS: usize = 560;
/// The first and last slots are left alone: encoders begin and end there.
const MARGIN: usize = 24;
/// Slots between two wishes: enough for the most tries.
const PART: usize = 56;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoder {
    Fdk,
    Ffmpeg,
    Voaacenc,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Material {
    Speech,
    Music,
    /// A voice alone, which goes over to the voice and music.
    VoiceToMix,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Case {
    encoder: Encoder,
    material: Material,
    settings: Settings,
}

impl Case {
    fn all() -> Vec<Self> {
        let mut cases = Vec::new();
        for encoder in [Encoder::Fdk, Encoder::Ffmpeg, Encoder::Voaacenc] {
            for material in [Material::Speech, Material::Music, Material::VoiceToMix] {
                for sample_rate_hz in [48_000, 44_100] {
                    for channels in [2, 1] {
                        cases.push(Self::new(encoder, material, sample_rate_hz, channels));
                    }
                }
            }
        }
        cases
    }

    fn new(encoder: Encoder, material: Material, sample_rate_hz: u32, channels: u8) -> Self {
        let settings = Settings {
            sample_rate_hz,
            channels,
            bitrate_bps: 64_000 * u32::from(channels),
        };
        Self {
            encoder,
            material,
            settings,
        }
    }

    fn name(self) -> String {
        let Settings {
            sample_rate_hz,
            channels,
            ..
        } = self.settings;
        format!(
            "{:?}, {:?}, {sample_rate_hz} Hz, {channels} ch",
            self.encoder, self.material
        )
    }

    fn host_sound(self, seed: u64) -> Vec<Frame> {
        let rate = self.settings.sample_rate_hz;
        let mut sound = match self.material {
            Material::Speech | Material::VoiceToMix => sounds::speech(seed, rate, SLOTS * UNIT),
            Material::Music => sounds::music(seed, rate, SLOTS * UNIT),
        };
        if self.settings.channels == 1 {
            for frame in &mut sound {
                *frame = [f32::midpoint(frame[0], frame[1]); 2];
            }
        }
        sound
    }

    fn guest_sound(self, seed: u64) -> Vec<Frame> {
        match self.material {
            Material::Speech | Material::Music => vec![[0.0; 2]; SLOTS * UNIT],
            Material::VoiceToMix => {
                let music = Self {
                    material: Material::Music,
                    ..self
                };
                music.host_sound(seed + 1_000)
            }
        }
    }

    /// What this case's encoder makes of a sound: decoded, it lies where the sound lies.
    fn encode(self, sound: &[Frame]) -> anyhow::Result<Stream> {
        match self.encoder {
            Encoder::Fdk => Ok(Stream::encode(sound, self.settings)?),
            Encoder::Ffmpeg => external(ffmpeg(self.settings), 1_024, sound, self.settings),
            Encoder::Voaacenc => external(voaacenc(self.settings), 1_600, sound, self.settings),
        }
    }
}

fn ffmpeg(settings: Settings) -> Command {
    let mut command = Command::new("ffmpeg");
    let (rate, channels) = (
        settings.sample_rate_hz.to_string(),
        settings.channels.to_string(),
    );
    let bitrate = settings.bitrate_bps.to_string();
    command
        .args([
            "-v", "error", "-f", "s16le", "-ar", &rate, "-ac", &channels, "-i", "-",
        ])
        .args(["-c:a", "aac", "-b:a", &bitrate, "-f", "adts", "-"]);
    command
}

fn voaacenc(settings: Settings) -> Command {
    let mut command = Command::new("gst-launch-1.0");
    command.args([
        "-q",
        "fdsrc",
        "fd=0",
        "!",
        "rawaudioparse",
        "format=pcm",
        "pcm-format=s16le",
    ]);
    command.args([
        format!("sample-rate={}", settings.sample_rate_hz),
        format!("num-channels={}", settings.channels),
        "!".to_owned(),
        "voaacenc".to_owned(),
        format!("bitrate={}", settings.bitrate_bps),
    ]);
    command.args(["!", "audio/mpeg,stream-format=adts", "!", "fdsink", "fd=1"]);
    command
}

/// Encodes by a program from standard input to ADTS on standard output. `delay` is the encoder's, in samples.
fn external(
    mut program: Command,
    delay: usize,
    sound: &[Frame],
    settings: Settings,
) -> anyhow::Result<Stream> {
    let late = delay.div_ceil(UNIT);
    let ahead = late * UNIT - delay;
    let mut pcm = Vec::new();
    let lead = vec![[0.0; 2]; ahead];
    let tail = vec![[0.0; 2]; 4 * UNIT];
    for frame in lead.iter().chain(sound).chain(&tail) {
        for value in frame.iter().take(usize::from(settings.channels)) {
            #[expect(clippy::cast_possible_truncation, reason = "`as` saturates")]
            pcm.extend((value.round() as i16).to_le_bytes());
        }
    }
    let mut child = program
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().context("a pipe")?;
    let writer = std::thread::spawn(move || stdin.write_all(&pcm));
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{program:?} failed");
    let _ = writer.join();
    let mut stream = adts::read(&Bytes::from(output.stdout))?;
    stream.units.drain(..late);
    stream.units.truncate(sound.len() / UNIT);
    Ok(stream)
}

fn channel(sound: &[Frame], side: usize) -> Vec<f64> {
    sound
        .iter()
        .map(|frame| f64::from(frame[side]) / 32_768.0)
        .collect()
}

fn plus(a: &[Frame], b: &[Frame], share: impl Fn(i64) -> f32) -> Vec<Frame> {
    let mixed = a.iter().zip(b).enumerate().map(|(n, (a, b))| {
        let share = share(i64::try_from(n).unwrap());
        [a[0] + share * b[0], a[1] + share * b[1]]
    });
    mixed.collect()
}

/// Everything that a judgement needs of one run.
struct Run {
    case: Case,
    ideal: Vec<Frame>,
    plain: Vec<Vec<Frame>>,
    /// The host's own stream: never joined either, where it alone is heard.
    host: Vec<Frame>,
    heard: Vec<Frame>,
    spliced: Spliced,
}

/// Goes to and fro at random slots.
fn wishes(rng: &mut StdRng) -> Vec<Wish> {
    let mut at = MARGIN + rng.random_range(0..PART / 2);
    let mut wishes = Vec::new();
    for side in [Side::Bus, Side::Host].into_iter().cycle() {
        wishes.push(Wish { slot: at, side });
        at += PART + rng.random_range(0..PART / 4);
        if at + PART > SLOTS {
            return wishes;
        }
    }
    wishes
}

fn run(case: Case, seed: u64, techniques: Techniques) -> anyhow::Result<Run> {
    let kind = 10_000 * case.encoder as u64 + 1_000 * case.material as u64;
    let mut rng = StdRng::seed_from_u64(seed + kind);
    let (voice, guest) = (case.host_sound(seed), case.guest_sound(seed));
    let host = case.encode(&voice)?;
    let mix = plus(&host.decode()?, &guest, |_| 1.0);
    let spliced = splice(&host, &mix, case.settings, &wishes(&mut rng), techniques)?;
    let ideal = plus(&voice, &guest, |n| spliced.share(n));
    let plain = [case.encode(&ideal)?, Stream::encode(&ideal, case.settings)?];
    Ok(Run {
        case,
        plain: plain.iter().map(Stream::decode).collect::<Result<_, _>>()?,
        heard: spliced.stream.decode()?,
        host: host.decode()?,
        ideal,
        spliced,
    })
}

impl Run {
    /// The worse of the two sides, at the block where the two encoders add up.
    fn judge(&self, heard: &[Frame], joint: &Joint) -> Verdict {
        let at = usize::try_from(joint.slot).unwrap() * UNIT + UNIT / 2;
        // More than the judge looks at.
        let from = at.saturating_sub(64 * UNIT);
        let part = |sound: &[Frame], side| {
            let to = (at + 64 * UNIT).min(sound.len());
            channel(&sound[from..to], side)
        };
        let side = |side| {
            let mut plain: Vec<_> = self.plain.iter().map(|plain| part(plain, side)).collect();
            if joint.to == Side::Host {
                plain.push(part(&self.host, side));
            }
            let reference = Reference {
                rate_hz: self.case.settings.sample_rate_hz,
                ideal: &part(&self.ideal, side),
                plain: &plain,
            };
            judge(reference, &part(heard, side), at - from)
        };
        let sides = (0..usize::from(self.case.settings.channels)).map(side);
        sides
            .max_by(|a, b| a.missed_by_db().total_cmp(&b.missed_by_db()))
            .unwrap()
    }
}

/// The results of many joints in one direction.
#[derive(Clone, Debug, Default)]
struct Tally {
    joints: usize,
    passed: usize,
    tries: Vec<u32>,
    missed_db: Vec<f64>,
    excess_db: Vec<f64>,
    snr_loss_db: Vec<f64>,
}

impl Tally {
    fn add(&mut self, joint: &Joint, verdict: &Verdict) {
        self.joints += 1;
        let missed = verdict.missed_by_db();
        if missed == 0.0 {
            self.passed += 1;
        } else {
            self.missed_db.push(missed);
        }
        self.tries.push(joint.tries);
        self.excess_db.push(verdict.excess_db);
        self.snr_loss_db.push(verdict.snr_loss_db);
    }

    fn merge(&mut self, other: &Self) {
        self.joints += other.joints;
        self.passed += other.passed;
        self.tries.extend(&other.tries);
        self.missed_db.extend(&other.missed_db);
        self.excess_db.extend(&other.excess_db);
        self.snr_loss_db.extend(&other.snr_loss_db);
    }

    fn line(&self, name: &str) -> String {
        let range = |values: &[f64]| {
            let mut values = values.to_vec();
            values.sort_by(f64::total_cmp);
            let median = values.get(values.len() / 2).copied().unwrap_or(f64::NAN);
            format!(
                "{median:.1} / {:.1}",
                values.last().copied().unwrap_or(f64::NAN)
            )
        };
        let mut tries = self.tries.clone();
        tries.sort_unstable();
        let median = tries.get(tries.len() / 2).copied().unwrap_or_default();
        format!(
            "| {name} | {} of {} | {} | {} | {median} / {} |",
            self.passed,
            self.joints,
            range(&self.excess_db),
            range(&self.snr_loss_db),
            tries.last().copied().unwrap_or_default(),
        )
    }
}

fn tally(
    cases: &[Case],
    wanted: usize,
    techniques: Techniques,
) -> anyhow::Result<[Vec<(Case, Tally)>; 2]> {
    let mut all = [Vec::new(), Vec::new()];
    for case in cases {
        let mut tallies = [Tally::default(), Tally::default()];
        let mut seed = 1;
        while tallies.iter().any(|tally| tally.joints < wanted) && seed < 1_000 {
            let run = run(*case, seed, techniques)?;
            for joint in &run.spliced.joints {
                let tally = &mut tallies[usize::from(joint.to == Side::Host)];
                let verdict = run.judge(&run.heard, joint);
                if verdict.missed_by_db() > 0.0 && techniques == Techniques::default() {
                    eprintln!("{case:?} seed {seed}: {joint:?} {:?}", verdict.faults());
                }
                tally.add(joint, &verdict);
            }
            seed += 1;
        }
        for (all, tally) in all.iter_mut().zip(tallies) {
            eprintln!("{}", tally.line(&case.name()));
            all.push((*case, tally));
        }
    }
    Ok(all)
}

fn sum(tallies: &[(Case, Tally)]) -> Tally {
    let mut sum = Tally::default();
    tallies.iter().for_each(|(_, tally)| sum.merge(tally));
    sum
}

#[test]
fn joints_between_real_encoders_cannot_be_heard() -> anyhow::Result<()> {
    let total: Option<usize> = std::env::var("ANCHORNET_SPLICES")
        .ok()
        .and_then(|n| n.parse().ok());
    let mut cases = Case::all();
    if total.is_none() {
        // Each encoder, material, rate and channel count, in a third of the combinations.
        let mut n = 0;
        cases.retain(|_| {
            n += 1;
            n % 3 == 1
        });
    }
    let each = total.map_or(3, |total| total.div_ceil(cases.len()));
    let [to_bus, to_host] = tally(&cases, each, Techniques::default())?;
    for (direction, tallies) in [("host to bus", &to_bus), ("bus to host", &to_host)] {
        let mut table =
            format!("\n{direction}: joints, excess dB (median / max), SNR loss dB, tries\n");
        for (case, tally) in tallies {
            writeln!(table, "{}", tally.line(&case.name()))?;
        }
        let sum = sum(tallies);
        writeln!(table, "{}", sum.line("all"))?;
        println!("{table}");
        assert!(sum.joints - sum.passed <= 1 + sum.joints / 200, "{table}");
        assert!(
            sum.missed_db.iter().all(|missed| *missed <= 3.0),
            "{table} {:?}",
            sum.missed_db
        );
    }
    Ok(())
}

#[test]
fn the_judge_passes_what_was_never_joined_and_nothing_that_was_joined_naively() -> anyhow::Result<()>
{
    for encoder in [Encoder::Fdk, Encoder::Ffmpeg, Encoder::Voaacenc] {
        for material in [Material::Speech, Material::Music] {
            let case = Case::new(encoder, material, 48_000, 2);
            let run = run(case, 77, Techniques::default())?;
            let host = case.encode(&run.ideal)?;
            let shifted = Stream::encode(&run.ideal[1..], case.settings)?;
            for joint in run.spliced.joints.iter().take(4) {
                let at = usize::try_from(joint.slot)?;
                for plain in &run.plain {
                    let verdict = run.judge(plain, joint);
                    assert!(verdict.faults().is_empty(), "{case:?} at {at}: {verdict:?}");
                }
                let join = |at: usize| -> anyhow::Result<Vec<Frame>> {
                    let units = [&host.units[..at], &shifted.units[at..]].concat();
                    let config = host.config.clone();
                    Ok(Stream { config, units }.decode()?)
                };
                let naive = join_naively(&host, &run.ideal, case.settings, at)?.decode()?;
                for (name, heard) in [("naive", &naive), ("one sample off", &join(at)?)] {
                    let verdict = run.judge(heard, joint);
                    assert!(
                        !verdict.faults().is_empty(),
                        "{name}, {case:?} at {at}: {verdict:?}"
                    );
                }
            }
        }
    }
    Ok(())
}

/// Of joints to the bus, with and without one technique.
fn passed(case: Case, techniques: Techniques) -> anyhow::Result<(usize, usize)> {
    let [to_bus, _] = tally(&[case], 8, techniques)?;
    let sum = sum(&to_bus);
    Ok((sum.passed, sum.joints))
}

#[test]
fn without_priming_every_joint_is_heard() -> anyhow::Result<()> {
    let case = Case::new(Encoder::Fdk, Material::Music, 48_000, 2);
    let without = Techniques {
        priming: false,
        ..Techniques::default()
    };
    let (with, joints) = passed(case, Techniques::default())?;
    assert_eq!(with, joints);
    let (without, joints) = passed(case, without)?;
    println!("without priming {without} of {joints} pass");
    assert_eq!(without, 0);
    Ok(())
}

#[test]
fn without_the_duplicated_block_a_new_voice_leaves_an_alias() -> anyhow::Result<()> {
    let case = Case::new(Encoder::Fdk, Material::VoiceToMix, 48_000, 2);
    let without = Techniques {
        duplicate: false,
        ..Techniques::default()
    };
    let (with, joints) = passed(case, Techniques::default())?;
    assert!(with + 1 >= joints);
    let (without, joints) = passed(case, without)?;
    println!("without the duplicated block {without} of {joints} pass");
    assert!(without * 2 <= joints);
    Ok(())
}

#[test]
fn where_windows_do_not_meet_the_joint_is_heard() -> anyhow::Result<()> {
    let mut case = Case::new(Encoder::Ffmpeg, Material::Speech, 48_000, 2);
    // Little noise of its own, that a joint could hide in.
    case.settings.bitrate_bps = 320_000;
    let unchecked = Techniques {
        window: false,
        ..Techniques::default()
    };
    for techniques in [Techniques::default(), unchecked] {
        let (mut joints, mut passed) = (0, 0);
        for seed in 1..=2 {
            let run = run(case, seed, techniques)?;
            let own = |joint: &&Joint| joint.is_clean() == techniques.window;
            for joint in run.spliced.joints.iter().filter(own) {
                let verdict = run.judge(&run.heard, joint);
                joints += 1;
                passed += usize::from(verdict.faults().is_empty());
            }
        }
        println!("{techniques:?}: {passed} of {joints} pass");
        assert!(joints >= 4);
        if techniques.window {
            assert!(passed + 1 >= joints);
        } else {
            assert!(passed * 4 <= joints * 3);
        }
    }
    Ok(())
}

#[test]
fn without_rescaling_a_host_off_the_grid_jumps() -> anyhow::Result<()> {
    for (encoder, off) in [(Encoder::Fdk, 301), (Encoder::Voaacenc, 37)] {
        let case = Case::new(encoder, Material::Music, 48_000, 2);
        let host = case.encode(&case.host_sound(5))?;
        let (meant, sound) = (case.host_sound(5), host.decode()?);
        // On the bus the host is heard `off` samples late.
        let late = |sound: &[Frame]| [&vec![[0.0; 2]; off], &sound[..SLOTS * UNIT - off]].concat();
        let begin = 60 * UNIT;
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let slid = |sound: &[Frame]| {
            let (mut slid, done) = rescale(&late(sound), begin, off as f64);
            slid.resize(SLOTS * UNIT, [0.0; 2]);
            (slid, done)
        };
        let (mix, done) = slid(&sound);
        for (mix, ideal, passes) in [
            (mix, slid(&meant).0, true),
            (late(&sound), late(&meant), false),
        ] {
            let wishes = [
                Wish {
                    slot: 0,
                    side: Side::Bus,
                },
                Wish {
                    slot: done.div_ceil(UNIT),
                    side: Side::Host,
                },
            ];
            let spliced = splice(&host, &mix, case.settings, &wishes, Techniques::default())?;
            let joint = *spliced.joints.last().context("a joint")?;
            let plain = [
                case.encode(&ideal)?.decode()?,
                Stream::encode(&ideal, case.settings)?.decode()?,
            ];
            let run = Run {
                case,
                ideal,
                plain: plain.to_vec(),
                heard: spliced.stream.decode()?,
                // Where the host would have to be heard.
                host: mix,
                spliced,
            };
            let verdict = run.judge(&run.heard, &joint);
            assert_eq!(
                verdict.faults().is_empty(),
                passes,
                "{encoder:?}: {verdict:?}"
            );
        }
    }
    Ok(())
}

/// Decodes ADTS by a program to stereo of single precision.
fn decoded_by(program: &mut Command, adts: Vec<u8>) -> anyhow::Result<Vec<Frame>> {
    let mut child = program
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().context("a pipe")?;
    let writer = std::thread::spawn(move || stdin.write_all(&adts));
    let output = child.wait_with_output()?;
    // Who reads a file does not read this.
    let _ = writer.join();
    let complaints = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success() && complaints.is_empty(),
        "{program:?}: {complaints}"
    );
    let (frames, _) = output.stdout.as_chunks::<8>();
    let value = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().unwrap()) * 32_768.0;
    Ok(frames
        .iter()
        .map(|frame| [value(&frame[..4]), value(&frame[4..])])
        .collect())
}

#[test]
fn decoders_of_four_families_take_the_joints_without_a_word_and_agree() -> anyhow::Result<()> {
    for encoder in [Encoder::Fdk, Encoder::Voaacenc] {
        let case = Case::new(encoder, Material::VoiceToMix, 48_000, 2);
        let run = run(case, 3, Techniques::default())?;
        assert!(run.spliced.joints.len() >= 4);
        let file = adts::write(&run.spliced.stream)?;
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg
            .args(["-v", "error", "-xerror", "-err_detect", "explode"])
            .args([
                "-flags2",
                "skip_manual",
                "-f",
                "aac",
                "-i",
                "-",
                "-f",
                "f32le",
                "-",
            ]);
        let mut faad = Command::new("gst-launch-1.0");
        faad.args("-q fdsrc fd=0 ! aacparse ! faad ! audioconvert ! audio/x-raw,format=F32LE ! fdsink fd=1".split(' '));
        let stored = tempfile::NamedTempFile::new()?;
        std::fs::write(stored.path(), &file)?;
        let mut chromium = Command::new("node");
        chromium
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/browser/decode.mjs"))
            .arg(stored.path())
            .arg("48000");
        for mut decoder in [ffmpeg, faad, chromium] {
            let other = decoded_by(&mut decoder, file.clone())?;
            // Some do not give the first block, which no other precedes.
            let missing = run.heard.len() - other.len();
            assert!(
                missing <= 2 * UNIT,
                "{decoder:?} leaves {missing} samples out"
            );
            for joint in &run.spliced.joints {
                let from = usize::try_from(joint.slot)? * UNIT - 2 * UNIT;
                let (mut signal, mut noise) = (1.0, 1e-3);
                for at in from..from + 4 * UNIT {
                    for (a, b) in run.heard[at].iter().zip(other[at - missing]) {
                        signal += f64::from(*a).powi(2);
                        noise += f64::from(a - b).powi(2);
                    }
                }
                let snr = 10.0 * (signal / noise).log10();
                // Ours gives whole 16-bit samples: in a pause that is most of the difference.
                let rounding = noise / (4.0 * 2.0 * UNIT as f64) < 0.5;
                assert!(
                    snr > 50.0 || rounding,
                    "{decoder:?} differs at {joint:?}: {snr:.1} dB"
                );
            }
        }
    }
    Ok(())
}
