//! What the mixer draws itself, as decoded from its output.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use media::link::{ImageRef, Layout, LayoutName, Scene, Slate, ToMixer};

use super::support::Mixer;
use super::support::clip::{Area, Colour, Frame, GREEN, RED, clip, near};

/// The tiles of a grid of two in 640x360.
const LEFT: Area = Area {
    x: 6,
    y: 92,
    width: 312,
    height: 176,
};
const RIGHT: Area = Area { x: 322, ..LEFT };

/// The panel of a placeholder, #222730.
const PANEL: Colour = [49, 131, 125];

/// The lower half of a tile: the upper one shows the clip's number.
fn lower(tile: Area) -> Area {
    Area {
        y: tile.y + tile.height / 2,
        height: tile.height / 2,
        ..tile
    }
}

/// How many pixels of an area are bright as letters are.
fn letters(frame: &Frame, area: Area) -> usize {
    (area.y..area.y + area.height)
        .flat_map(|y| (area.x..area.x + area.width).map(move |x| (x, y)))
        .filter(|(x, y)| frame.pixel(*x, *y)[0] > 190)
        .count()
}

fn last(mixer: &Mixer) -> Frame {
    mixer.check_timeline().pop().expect("pictures")
}

fn scene(mixer: &Mixer, scene: Scene) {
    mixer.anchor.send(&ToMixer::Scene(scene));
}

fn by_path(path: &Path) -> ImageRef {
    ImageRef::File(path.to_str().expect("UTF-8").into())
}

/// A picture file of one colour.
fn image(path: &Path, colour: &str) {
    let source = format!("color={colour}:size=64x64");
    let status = Command::new("ffmpeg")
        .args(["-loglevel", "error", "-f", "lavfi", "-i", &source])
        .args(["-frames:v", "1"])
        .arg(path)
        .status();
    assert!(status.expect("ffmpeg is installed").success());
}

#[test]
fn names_stand_at_the_foot_of_their_tiles() {
    let red = Arc::new(clip(640, 360, RED, 300, 15));
    let mut mixer = Mixer::configured(|config| config.names = true);
    mixer.anchor.add(1, &red);
    mixer.anchor.add(2, &red);
    mixer.anchor.scene(&[1, 2]);
    mixer.feed(1, Arc::clone(&red), 0);
    mixer.feed(2, red, 0);
    mixer.pictures(40);
    let frame = last(&mixer);
    for tile in [LEFT, RIGHT] {
        let found = letters(&frame, lower(tile));
        assert!(found > 60, "{found} bright pixels");
        let foot = Area {
            y: tile.y + tile.height - 40,
            height: 40,
            width: 110,
            ..tile
        };
        assert_eq!(letters(&frame, foot), found, "all of them in the corner");
        let bar = frame.pixel(tile.x + 8, tile.y + tile.height - 14);
        assert!(bar[0] < RED[0] - 20, "a darker bar: {bar:?}");
        let beside = frame.pixel(tile.x + 200, tile.y + tile.height - 14);
        assert!(near(beside, RED), "{beside:?}");
    }
    let outside = [
        Area {
            x: 0,
            y: 0,
            width: 640,
            height: 88,
        },
        Area {
            x: 0,
            y: 272,
            width: 640,
            height: 88,
        },
        Area {
            x: 319,
            y: 0,
            width: 2,
            height: 360,
        },
    ];
    for area in outside {
        assert_eq!(letters(&frame, area), 0, "nothing beside the tiles");
    }
    assert_eq!(mixer.errors, [""; 0]);
}

#[test]
fn who_has_no_picture_has_a_placeholder() {
    let red = Arc::new(clip(640, 360, RED, 300, 15));
    let green = Arc::new(clip(320, 180, GREEN, 300, 15));
    let mut mixer = Mixer::configured(|config| config.hold_ms = 700);
    mixer.anchor.add(1, &red);
    mixer.anchor.add(2, &green);
    mixer.anchor.scene(&[1, 2]);
    mixer.feed(1, red, 0);
    mixer.pictures(30);
    let stalled = mixer.feed(2, green, 0);
    mixer.pictures(50);
    stalled.store(true, Ordering::Relaxed);
    mixer.pictures(60);
    stalled.store(false, Ordering::Relaxed);
    mixer.pictures(50);

    // Of each picture: the panel, the disc on it, or the participant. Never a hole.
    let shown = |frame: &Frame| {
        let corner = frame.pixel(RIGHT.x + RIGHT.width - 20, RIGHT.y + RIGHT.height - 20);
        let disc = frame.pixel(RIGHT.x + RIGHT.width / 2, RIGHT.y + RIGHT.height / 2 - 24);
        match () {
            () if near(corner, PANEL) && disc[0] > PANEL[0] + 15 => "placeholder",
            () if near(corner, GREEN) => "picture",
            () => panic!("neither placeholder nor picture: {corner:?} {disc:?}"),
        }
    };
    let mut seen: Vec<&str> = mixer.check_timeline().iter().map(shown).collect();
    seen.dedup();
    let expected = ["placeholder", "picture", "placeholder", "picture"];
    assert_eq!(seen, expected);
    let frames = mixer.check_timeline();
    let name = letters(&frames[20], lower(RIGHT));
    assert!(name > 60, "the name, though names are off: {name}");
    assert!(
        frames
            .iter()
            .skip(20)
            .all(|frame| near(frame.colour(LEFT), RED))
    );
    assert_eq!(mixer.errors, [""; 0]);
}

#[test]
fn without_inputs_the_slate_is_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("slate.jpg");
    image(&file, "0x00a000");
    let red = Arc::new(clip(640, 360, RED, 300, 15));
    let mut mixer = Mixer::configured(|_| {});
    let wanted = |image: Option<ImageRef>| Scene {
        background: Some("#204060".into()),
        slate: Some(Slate {
            text: Some("Back in a moment".into()),
            image,
        }),
        ..Scene::default()
    };
    scene(&mixer, wanted(None));
    mixer.pictures(20);
    scene(&mixer, wanted(Some(by_path(&file))));
    mixer.pictures(40);
    mixer.anchor.add(1, &red);
    mixer.feed(1, red, 0);
    let on_air = Scene {
        order: vec![1],
        ..wanted(Some(by_path(&file)))
    };
    scene(&mixer, on_air);
    mixer.pictures(40);
    let frames = mixer.check_timeline();
    let middle = Area {
        x: 150,
        y: 150,
        width: 340,
        height: 60,
    };
    let whole = Area {
        x: 0,
        y: 0,
        width: 640,
        height: 360,
    };
    for (at, colour) in [(15, [66, 144, 114]), (55, [113, 71, 66])] {
        for (x, y) in [(4, 4), (630, 4), (4, 350), (320, 100)] {
            let pixel = frames[at].pixel(x, y);
            assert!(near(pixel, colour), "picture {at}: {pixel:?} at {x} {y}");
        }
        let text = letters(&frames[at], middle);
        assert!(text > 300, "picture {at}: {text} bright pixels");
        assert_eq!(text, letters(&frames[at], whole), "all in the middle");
    }
    let live = frames.last().expect("pictures");
    assert!(near(live.colour(whole), RED) && letters(live, lower(whole)) == 0);
    assert_eq!(mixer.errors, [""; 0]);
}

#[test]
fn images_that_were_sent_are_shown_and_the_newest_are_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut mixer = Mixer::configured(|_| {});
    let slate = |number| Scene {
        slate: Some(Slate {
            text: None,
            image: Some(ImageRef::Sent(number)),
        }),
        ..Scene::default()
    };
    for (number, colour) in (1..).zip(["0x00a000", "red", "blue", "white", "black"]) {
        let file = folder.path().join(format!("{number}.png"));
        image(&file, colour);
        let data = std::fs::read(file).expect("a file").into();
        mixer.anchor.send(&ToMixer::Image { number, data });
    }
    scene(&mixer, slate(4));
    let white = [235, 128, 128];
    let shown = (0..10).any(|_| {
        mixer.pictures(30);
        near(last(&mixer).pixel(300, 100), white)
    });
    assert!(shown, "{:?}", last(&mixer).pixel(300, 100));
    assert_eq!(mixer.errors, [""; 0]);
    // Five came, four are kept
    scene(&mixer, slate(1));
    let told = (0..10).any(|_| {
        mixer.pictures(30);
        mixer.errors.iter().any(|error| error.contains("image 1"))
    });
    assert!(told, "{:?}", mixer.errors);
}

#[test]
fn the_background_is_a_colour_or_a_picture_and_shows_in_round_corners() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("background.png");
    image(&file, "0xffffff");
    let red = Arc::new(clip(640, 360, RED, 300, 15));
    let mut mixer = Mixer::configured(|config| config.corner_radius_px = 12);
    mixer.anchor.add(1, &red);
    mixer.anchor.add(2, &red);
    mixer.feed(1, Arc::clone(&red), 0);
    mixer.feed(2, red, 0);
    let wanted = |name, colour: &str, file: Option<&Path>| Scene {
        layout: Layout {
            name,
            tiles: Vec::new(),
        },
        order: vec![1, 2],
        background: Some(colour.into()),
        background_image: file.map(by_path),
        ..Scene::default()
    };
    scene(&mixer, wanted(LayoutName::Grid, "#204060", None));
    mixer.pictures(40);
    scene(&mixer, wanted(LayoutName::Grid, "#204060", Some(&file)));
    mixer.pictures(30);
    let missing = folder.path().join("missing.png");
    scene(&mixer, wanted(LayoutName::Grid, "#204060", Some(&missing)));
    mixer.pictures(30);
    assert_eq!(mixer.errors.len(), 1, "{:?}", mixer.errors);
    assert!(
        mixer.errors[0].contains("missing.png"),
        "{:?}",
        mixer.errors
    );
    scene(&mixer, wanted(LayoutName::Pip, "dark", None));
    mixer.pictures(30);
    assert_eq!(mixer.errors.len(), 2, "{:?}", mixer.errors);

    let frames = mixer.check_timeline();
    let (colour, white) = ([66, 144, 114], [235, 128, 128]);
    for (at, background) in [(35, colour), (65, white), (95, colour)] {
        let frame = &frames[at];
        assert!(near(frame.pixel(320, 40), background), "picture {at}");
        for tile in [LEFT, RIGHT] {
            let (right, bottom) = (tile.x + tile.width - 1, tile.y + tile.height - 1);
            for (x, y) in [(tile.x, bottom), (right, bottom)] {
                let pixel = frame.pixel(x, y);
                assert!(near(pixel, background), "picture {at}, {x} {y}: {pixel:?}");
            }
            let inner = frame.pixel(tile.x + 12, bottom - 12);
            assert!(near(inner, RED), "picture {at}: {inner:?}");
        }
    }
    // Of pip: the large tile fills the picture and is square; the small one has a light border.
    let pip = frames.last().expect("pictures");
    assert!(near(pip.pixel(1, 358), RED));
    let (border, within) = (pip.pixel(550, 262), pip.pixel(550, 300));
    assert!(border[0] > RED[0] + 40, "{border:?}");
    assert!(near(within, RED), "{within:?}");
}
