//! A joint, drawn: what is heard around it, and how much of that is error, naive against ours.

use std::fmt::Write;

use super::experiment::{Experiment, channel};
use super::{Joint, Side, UNIT};

const WIDTH: usize = 720;
const WAVE_HEIGHT: f64 = 90.0;
const ERROR_HEIGHT: f64 = 170.0;
const LEFT: f64 = 46.0;
/// Samples per column.
const COLUMN: usize = 8;
/// Error is averaged over this many samples: 1.3 ms at 48 kHz.
const ERROR_WINDOW: usize = 64;
const FLOOR_DB: f64 = -100.0;

/// An SVG of 120 ms around a joint. Above, the waveforms of the left channel; below, the energy of the error of the naive
/// joint, of ours, and of an encode without any joint.
#[must_use]
pub fn svg(experiment: &Experiment, joint: &Joint) -> String {
    let block = Experiment::block_start(joint);
    let from = block.saturating_sub(WIDTH * COLUMN / 2 - UNIT / 2);
    let line = |sound| channel(sound, 0);
    let (ideal, heard) = (line(&experiment.ideal), line(&experiment.heard));
    let (naive, plain) = (line(&experiment.naive), line(&experiment.plain));
    let ms = |sample: usize| sample as f64 * 1_000.0 / f64::from(experiment.rate_hz());
    let x = |sample: usize| LEFT + (sample.saturating_sub(from)) as f64 / COLUMN as f64;
    let width = LEFT + WIDTH as f64 + 10.0;
    // The naive joint is one to the bus.
    let has_naive = joint.to == Side::Bus;
    let waves = if has_naive { 3.0 } else { 2.0 };
    let height = waves * (WAVE_HEIGHT + 18.0) + ERROR_HEIGHT + 76.0;
    let mut out = String::new();
    let mut put = |text: std::fmt::Arguments<'_>| {
        // Writing to a string does not fail.
        let _ = out.write_fmt(text);
        out.push('\n');
    };
    put(format_args!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"11\">\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\
         <rect x=\"{:.1}\" y=\"16\" width=\"{:.1}\" height=\"{:.1}\" fill=\"#f3ecd8\"/>",
        x(block),
        UNIT as f64 / COLUMN as f64,
        height - 60.0,
    ));
    let peak = cut(&ideal, from)
        .iter()
        .fold(0.02f64, |peak, v| peak.max(v.abs()));
    let mut top = 16.0;
    let mut waves = vec![
        ("as it should be", "#777", &ideal),
        ("spliced", "#1f618d", &heard),
    ];
    let mut errors = vec![("#bbb", &plain), ("#1f618d", &heard)];
    if has_naive {
        waves.insert(1, ("naive joint", "#c0392b", &naive));
        errors.insert(1, ("#c0392b", &naive));
    }
    for (name, colour, samples) in waves {
        put(format_args!(
            "<text x=\"{LEFT}\" y=\"{:.0}\" fill=\"{colour}\">{name}</text><path fill=\"none\" stroke=\"{colour}\" stroke-width=\"0.8\" d=\"{}\"/>",
            top + 10.0,
            wave(cut(samples, from), top + 16.0, peak),
        ));
        top += WAVE_HEIGHT + 18.0;
    }
    let y = |db: f64| top + 16.0 + ERROR_HEIGHT * (db.clamp(FLOOR_DB, 0.0) / FLOOR_DB);
    for db in [0.0, -20.0, -40.0, -60.0, -80.0, FLOOR_DB] {
        put(format_args!(
            "<path stroke=\"#ddd\" d=\"M{LEFT} {0:.1}h{WIDTH}\"/><text x=\"{1}\" y=\"{2:.1}\" text-anchor=\"end\" fill=\"#555\">{db} dB</text>",
            y(db),
            LEFT - 4.0,
            y(db) + 4.0,
        ));
    }
    for (colour, samples) in errors {
        let points = error(cut(&ideal, from), cut(samples, from));
        let mut path = String::new();
        for (n, db) in points.iter().enumerate() {
            let at = LEFT + ((n * ERROR_WINDOW + ERROR_WINDOW / 2) / COLUMN) as f64;
            let _ = write!(
                path,
                "{}{at:.0} {:.1}",
                if n == 0 { 'M' } else { 'L' },
                y(*db)
            );
        }
        put(format_args!(
            "<path fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.3\" d=\"{path}\"/>"
        ));
    }
    put(format_args!(
        "<text x=\"{LEFT}\" y=\"{:.0}\">Energy of the error: {}<tspan fill=\"#1f618d\">spliced</tspan>, <tspan fill=\"#999\">never joined</tspan></text>",
        top + 10.0,
        if has_naive {
            "<tspan fill=\"#c0392b\">naive</tspan>, "
        } else {
            ""
        },
    ));
    let bottom = height - 26.0;
    for offset in [-40i32, -20, 0, 20, 40] {
        let at = x(block) + f64::from(offset) / ms(COLUMN);
        put(format_args!(
            "<text x=\"{at:.0}\" y=\"{bottom:.0}\" text-anchor=\"middle\" fill=\"#555\">{offset} ms</text>"
        ));
    }
    put(format_args!(
        "<text x=\"{LEFT}\" y=\"{:.0}\" fill=\"#555\">Shaded: the block in which both encoders add up, {:.3} s into the stream.</text></svg>",
        height - 8.0,
        ms(block) / 1_000.0,
    ));
    out
}

fn cut(samples: &[f64], from: usize) -> &[f64] {
    let to = (from + WIDTH * COLUMN).min(samples.len());
    samples.get(from..to).unwrap_or_default()
}

/// Least and greatest sample of each column.
fn wave(samples: &[f64], top: f64, peak: f64) -> String {
    let mut path = String::new();
    let y = |value: f64| top + (WAVE_HEIGHT - 16.0) * (0.5 - 0.5 * (value / peak).clamp(-1.0, 1.0));
    for (n, column) in samples.chunks(COLUMN).enumerate() {
        let low = column.iter().copied().fold(f64::INFINITY, f64::min);
        let high = column.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let at = LEFT + n as f64;
        let first = if n == 0 { 'M' } else { 'L' };
        let _ = write!(path, "{first}{at:.0} {:.1}V{:.1}", y(high), y(low));
    }
    path
}

/// In decibels below full scale, one value per window.
fn error(ideal: &[f64], samples: &[f64]) -> Vec<f64> {
    let pairs: Vec<f64> = ideal
        .iter()
        .zip(samples)
        .map(|(a, b)| (a - b).powi(2))
        .collect();
    let mean = |window: &[f64]| window.iter().sum::<f64>() / window.len() as f64;
    pairs
        .chunks(ERROR_WINDOW)
        .map(|window| 10.0 * mean(window).max(1e-12).log10())
        .collect()
}
