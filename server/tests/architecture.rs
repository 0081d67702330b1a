//! The shape of the house, asserted: who may import whom, and where each vendor's crate may appear.
//!
//! `media ← {signaling, cdn-publisher, origin, rlive} ← server`, and `media ← mixer`, a program of its own; siblings meet only in `media` types; `e2e` and `bench`
//! may see everything. A vendor's crate stays behind its fence, so that it can be replaced in one place.

#![expect(clippy::expect_used, reason = "a test may fail on the spot")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, MetadataCommand, Package};

/// Crates of the workspace and the crates of the workspace that each may depend on.
const EDGES: &[(&str, &[&str])] = &[
    ("media", &[]),
    ("signaling", &["media"]),
    ("cdn-publisher", &["media"]),
    ("origin", &["media"]),
    ("rlive", &["media"]),
    ("mixer", &["media"]),
    (
        "server",
        &["media", "signaling", "cdn-publisher", "origin", "rlive"],
    ),
    (
        "e2e",
        &[
            "media",
            "signaling",
            "cdn-publisher",
            "origin",
            "rlive",
            "server",
        ],
    ),
    (
        "bench",
        &[
            "media",
            "signaling",
            "cdn-publisher",
            "origin",
            "rlive",
            "server",
            "e2e",
        ],
    ),
];

/// One vendor: the dependencies it consists of (by prefix of the package name) and the places that may name them.
struct Fence {
    vendor: &'static str,
    owns: fn(package: &str) -> bool,
    /// Path prefixes relative to the workspace; `*/` stands for any folder.
    inside: &'static [&'static str],
}

const FENCES: &[Fence] = &[
    Fence {
        vendor: "webrtc-rs, the sans-IO core",
        owns: |package| package == "rtc" || package.starts_with("rtc-"),
        inside: &["server/src/sfu/engine", "server/src/client/peer"],
    },
    Fence {
        vendor: "webrtc-rs, the async client",
        owns: |package| package == "webrtc" || package.starts_with("webrtc-"),
        inside: &["server/src/client/"],
    },
    Fence {
        vendor: "RTMP sessions",
        owns: |package| package == "rml_rtmp" || package == "rml_amf0",
        inside: &["*/rtmp"],
    },
    Fence {
        vendor: "AAC encoder",
        owns: |package| package.starts_with("fdk-aac"),
        inside: &["cdn-publisher/src/audio/codec"],
    },
    Fence {
        vendor: "Opus codec",
        owns: |package| package == "opus",
        inside: &["cdn-publisher/src/audio/codec", "server/src/client/"],
    },
    Fence {
        vendor: "Redis client",
        owns: |package| package == "redis",
        inside: &["server/src/registry/redis"],
    },
    Fence {
        vendor: "fonts and image files",
        owns: |package| ["cosmic-text", "dejavu", "image"].contains(&package),
        inside: &["mixer/src/paint/"],
    },
    Fence {
        vendor: "GStreamer",
        owns: |package| package.starts_with("gstreamer"),
        inside: &["mixer/src/pipeline/"],
    },
];

/// Crates without fences: they look at the system from outside.
const OBSERVERS: &[&str] = &["e2e", "bench"];

fn workspace() -> (PathBuf, Vec<Package>) {
    let metadata = MetadataCommand::new()
        .manifest_path(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .no_deps()
        .exec()
        .expect("cargo metadata runs");
    (
        metadata.workspace_root.into_std_path_buf(),
        metadata.packages,
    )
}

#[test]
fn crates_depend_only_downwards() {
    let (_, packages) = workspace();
    let allowed: BTreeMap<&str, &[&str]> = EDGES.iter().copied().collect();
    let ours: BTreeSet<&str> = packages
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    for package in &packages {
        let name = package.name.as_str();
        let allowed = allowed
            .get(name)
            .unwrap_or_else(|| panic!("crate `{name}` has no place yet: give it one in EDGES"));
        for dependency in package.dependencies.iter().map(|d| d.name.as_str()) {
            assert!(
                !ours.contains(dependency) || allowed.contains(&dependency),
                "`{name}` may not depend on `{dependency}`; it may depend on {allowed:?}"
            );
        }
    }
}

#[test]
fn vendors_stay_behind_their_fences() {
    let (root, packages) = workspace();
    let mut breaches = Vec::new();
    for package in packages
        .iter()
        .filter(|package| !OBSERVERS.contains(&package.name.as_str()))
    {
        let folder = package.manifest_path.parent().expect("a folder");
        let files = rust_files(&folder.join("src").into_std_path_buf());
        let vendors = package
            .dependencies
            .iter()
            .filter(|dependency| dependency.kind == DependencyKind::Normal)
            .map(|dependency| dependency.name.as_str());
        for vendor in vendors {
            let Some(fence) = FENCES.iter().find(|fence| (fence.owns)(vendor)) else {
                continue;
            };
            for file in &files {
                let path = file.strip_prefix(&root).expect("in the workspace");
                let path = path.to_str().expect("UTF-8");
                let text = fs::read_to_string(file).expect("readable");
                if names_crate(&text, &vendor.replace('-', "_")) && !is_inside(path, fence.inside) {
                    breaches.push(format!("{path} uses `{vendor}` ({})", fence.vendor));
                }
            }
        }
    }
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

/// The paths of the workspace that a fence encloses start with one of `inside`.
fn is_inside(path: &str, inside: &[&str]) -> bool {
    inside.iter().any(|place| match place.strip_prefix('*') {
        Some(anywhere) => path.contains(anywhere),
        None => path.starts_with(place),
    })
}

/// Whether code (comments aside) has a path that begins with the crate `name`: `name::…` or `use name`.
///
/// Our own `media` has modules with the names of codecs: a file that imports such a module means that one.
fn names_crate(text: &str, name: &str) -> bool {
    let code: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect();
    let is_ident = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let imported = code.split("use media::").skip(1).any(|rest| {
        let list = rest.split(';').next().unwrap_or_default();
        list.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .any(|word| word == name)
    });
    code.match_indices(name).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + name.len()..]);
        let whole = !before.bytes().next_back().is_some_and(is_ident)
            && !after.bytes().next().is_some_and(is_ident);
        let absolute = before.ends_with("use ::") || before.ends_with(" ::");
        let root = absolute || (!before.ends_with("::") && !imported);
        whole && root && (after.starts_with("::") || before.ends_with("use "))
    })
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

#[test]
fn the_scanner_sees_what_it_should() {
    assert!(names_crate("use rtc::sdp;", "rtc"));
    assert!(names_crate("let x = rtc::new();", "rtc"));
    assert!(names_crate(
        "use ::opus::Decoder;\nuse media::opus;",
        "opus"
    ));
    assert!(!names_crate("// rtc::new() is elsewhere", "rtc"));
    assert!(!names_crate("use webrtc::api;", "rtc"));
    assert!(!names_crate("use crate::redis::Lease;", "redis"));
    assert!(!names_crate(
        "use media::{aac, opus};\nopus::Config::parse()",
        "opus"
    ));
    assert!(is_inside("origin/src/rtmp/session.rs", &["*/rtmp"]));
    assert!(is_inside(
        "server/src/sfu/engine.rs",
        &["server/src/sfu/engine"]
    ));
    assert!(!is_inside(
        "server/src/sfu/mod.rs",
        &["server/src/sfu/engine"]
    ));
}
