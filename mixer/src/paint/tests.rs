use media::link::{Fit, Slate};
use proptest::prelude::*;

use super::*;
use crate::layout::Tile;

const WIDE: Size = Size {
    width: 640,
    height: 360,
};
const GREEN: Colour = Colour([145, 54, 34]);

fn config() -> Configure {
    Configure {
        width: WIDE.width,
        height: WIDE.height,
        ..Configure::default()
    }
}

fn tile(input: u32, rect: [u32; 4], name: &str) -> PlanTile {
    let [x, y, width, height] = rect;
    let rect = Rect {
        x,
        y,
        width,
        height,
    };
    PlanTile {
        input,
        tile: Tile {
            input,
            rect,
            fit: Fit::Cover,
            inset: false,
        },
        opacity: 1.0,
        settled: rect,
        picture: true,
        name: Arc::from(name),
    }
}

fn plan(tiles: Vec<PlanTile>) -> Plan {
    Plan {
        slate: tiles.is_empty(),
        caught_up: true,
        tiles,
    }
}

/// Makes everything that is ordered, as the artist's thread would.
fn make_all(painter: &mut Painter) -> usize {
    let mut artist = Artist::new(WIDE);
    let mut count = 0;
    while let Some(order) = painter.poll_output() {
        let (made, _) = artist.make(order, |_| Err("no files here".into()));
        painter.handle(made);
        count += 1;
    }
    count
}

fn paint(painter: &mut Painter, plan: &Plan) -> (Picture, bool) {
    let mut picture = Picture::plain(WIDE, GREEN);
    let mut frame = picture.frame().expect("a frame");
    let complete = painter.paint(plan, &mut frame);
    (picture, complete)
}

/// Paints twice: the first time finds out what is to be made.
fn painted(config: &Configure, plan: &Plan) -> Picture {
    let mut painter = Painter::new(config);
    paint(&mut painter, plan);
    make_all(&mut painter);
    let (picture, complete) = paint(&mut painter, plan);
    assert!(complete, "nothing is left to be made");
    picture
}

/// Where luma is not what it was.
fn touched(picture: &Picture) -> Vec<(u32, u32)> {
    let pixels = picture.planes()[0].iter().zip(0u32..);
    pixels
        .filter(|(luma, _)| **luma != GREEN.0[0])
        .map(|(_, at)| (at % WIDE.width, at / WIDE.width))
        .collect()
}

fn luma(picture: &Picture, x: usize, y: usize) -> u8 {
    picture.planes()[0][y * 640 + x]
}

#[test]
fn a_caption_lies_at_the_foot_of_its_tile_and_nowhere_else() {
    let place = [100, 40, 300, 200];
    let picture = painted(&config(), &plan(vec![tile(1, place, "Ada Lovelace")]));
    let seen = touched(&picture);
    assert!(seen.len() > 500, "{}", seen.len());
    for (x, y) in seen {
        assert!(
            (100..300).contains(&x) && (200..240).contains(&y),
            "{x} {y}"
        );
    }
    let text = picture.planes()[0].iter().filter(|luma| **luma > 200);
    assert!(text.count() > 40, "light letters");
    let bare = Configure {
        names: false,
        ..config()
    };
    let picture = painted(&bare, &plan(vec![tile(1, place, "Ada Lovelace")]));
    assert_eq!(touched(&picture), []);
    let nameless = painted(&config(), &plan(vec![tile(1, place, " \u{202e}")]));
    assert_eq!(touched(&nameless), []);
}

#[test]
fn a_placeholder_covers_its_tile_but_not_those_in_front() {
    let mut lower = tile(1, [0, 0, 640, 360], "Ada Lovelace");
    lower.picture = false;
    let upper = tile(2, [400, 200, 160, 90], "");
    let picture = painted(&config(), &plan(vec![lower, upper]));
    let panel = Colour::from_rgb(PANEL).0[0];
    assert_eq!(luma(&picture, 2, 2), panel);
    assert_eq!(luma(&picture, 399, 240), panel);
    assert_eq!(luma(&picture, 400, 240), GREEN.0[0]);
    assert_eq!(luma(&picture, 559, 289), GREEN.0[0]);
    assert_eq!(luma(&picture, 560, 289), panel);
    let disc = luma(&picture, 320, 120);
    assert!(disc > panel + 20, "{disc}");
}

#[test]
fn captions_follow_a_tile_on_its_way_without_being_made_again() {
    let mut painter = Painter::new(&config());
    let mut moving = tile(1, [0, 0, 300, 200], "Ada");
    moving.settled = tile(1, [300, 100, 320, 180], "Ada").settled;
    paint(&mut painter, &plan(vec![moving.clone()]));
    assert_eq!(make_all(&mut painter), 1);
    for step in 0..20 {
        moving.tile.rect.x = step * 10;
        moving.tile.rect.width = 300 + step * 2;
        let (picture, complete) = paint(&mut painter, &plan(vec![moving.clone()]));
        assert!(complete && make_all(&mut painter) == 0, "step {step}");
        let left = touched(&picture).into_iter().map(|(x, _)| x).min();
        assert!(left.is_some_and(|left| left.abs_diff(step * 10) < 16));
    }
}

#[test]
fn another_size_stands_in_while_the_right_one_is_made() {
    let mut painter = Painter::new(&config());
    paint(&mut painter, &plan(vec![tile(1, [0, 0, 300, 200], "Ada")]));
    make_all(&mut painter);
    let wide = plan(vec![tile(1, [0, 0, 640, 360], "Ada")]);
    let (picture, complete) = paint(&mut painter, &wide);
    assert!(!complete && !touched(&picture).is_empty());
}

#[test]
fn the_slate_replaces_everything_and_the_background_changes_once() {
    let mut painter = Painter::new(&config());
    assert!(painter.take_background().is_some(), "black at first");
    let scene = Scene {
        background: Some("#ffffff".into()),
        slate: Some(Slate {
            text: Some("Soon".into()),
            image: None,
        }),
        ..Scene::default()
    };
    painter.follow(&scene);
    let (before, complete) = paint(&mut painter, &plan(Vec::new()));
    assert!(!complete && touched(&before).is_empty());
    make_all(&mut painter);
    assert!(painter.take_background().is_some());
    assert!(painter.take_background().is_none());
    let (slate, complete) = paint(&mut painter, &plan(Vec::new()));
    assert!(complete);
    assert_eq!(luma(&slate, 0, 0), 235);
    assert!(slate.planes()[0].iter().filter(|luma| **luma < 60).count() > 100);
    painter.follow(&scene);
    assert_eq!(painter.poll_output(), None, "the same look");
    let plain = Scene::default();
    painter.follow(&scene);
    painter.follow(&plain);
    let stale = Made::Backdrop(Look::from(&scene), Backdrop::black(WIDE));
    painter.handle(stale);
    assert!(
        !paint(&mut painter, &plan(Vec::new())).1,
        "still to be made"
    );
}

#[test]
fn refused_orders_are_given_again() {
    let mut painter = Painter::new(&config());
    let one = plan(vec![tile(1, [0, 0, 300, 200], "Ada")]);
    paint(&mut painter, &one);
    let order = painter.poll_output().expect("a caption");
    painter.refused(order.clone());
    assert_eq!(painter.poll_output(), None);
    paint(&mut painter, &one);
    assert_eq!(painter.poll_output(), Some(order));
    painter.follow(&Scene {
        background: Some("#112233".into()),
        ..Scene::default()
    });
    let order = painter.poll_output().expect("a backdrop");
    painter.refused(order.clone());
    assert_eq!(painter.poll_output(), Some(order));
}

#[test]
fn corners_are_cut_except_of_a_tile_that_fills_the_picture() {
    let round = Configure {
        names: false,
        corner_radius_px: 12,
        ..config()
    };
    let picture = painted(&round, &plan(vec![tile(1, [100, 40, 300, 200], "")]));
    assert_eq!(luma(&picture, 100, 40), 16, "the background is black");
    assert_eq!(luma(&picture, 399, 239), 16);
    assert_eq!(luma(&picture, 112, 40), GREEN.0[0]);
    let whole = painted(&round, &plan(vec![tile(1, [0, 0, 640, 360], "")]));
    assert_eq!(touched(&whole), []);
}

fn any_tile() -> impl Strategy<Value = PlanTile> {
    let edge = |most: u32| (0..most / 2).prop_map(|half| half * 2);
    let rect = (edge(900), edge(600), edge(900), edge(600));
    let names =
        proptest::sample::select(vec!["", "Ada", "\u{202e}x", "A very long name of somebody"]);
    let seen = (any::<bool>(), any::<bool>(), -0.5f64..1.5);
    (rect.clone(), rect, names, seen, 0u32..4).prop_map(
        |((x, y, width, height), (_, _, w, h), name, (picture, inset, opacity), input)| {
            let mut tile = tile(input, [x, y, width, height], name);
            tile.settled.width = w;
            tile.settled.height = h;
            tile.tile.inset = inset;
            tile.picture = picture;
            tile.opacity = opacity;
            tile
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn tiles_anywhere_are_painted_inside_themselves(
        tiles in proptest::collection::vec(any_tile(), 1..4),
        radius in 0u32..40,
    ) {
        let config = Configure { corner_radius_px: radius, ..config() };
        let mut painter = Painter::new(&config);
        let plan = plan(tiles);
        paint(&mut painter, &plan);
        make_all(&mut painter);
        let (picture, _) = paint(&mut painter, &plan);
        for (x, y) in touched(&picture) {
            let inside = plan.tiles.iter().any(|tile| {
                let rect = tile.rect();
                (rect.x..rect.x + rect.width).contains(&x) && (rect.y..rect.y + rect.height).contains(&y)
            });
            prop_assert!(inside, "{x} {y} in {plan:?}");
        }
    }

    #[test]
    fn pieces_are_bounded(sizes in proptest::collection::vec((50u32..320, 50u32..180), 200)) {
        let mut painter = Painter::new(&config());
        for (width, height) in sizes {
            paint(&mut painter, &plan(vec![tile(1, [0, 0, width * 2, height * 2], "Ada")]));
            prop_assert!(painter.pieces.len() <= MAX_PIECES);
        }
    }

    #[test]
    fn drawing_stays_inside_window_and_picture(
        area in (-90i32..700, -90i32..400, -40i32..800, -40i32..500),
        open in (-90i32..700, -90i32..400, 0i32..800, 0i32..500),
        hole in (-90i32..700, -90i32..400, -9i32..300, -9i32..300),
        opacity in 1u32..=256,
        padding in 0usize..5,
    ) {
        let even = |(left, top, width, height): (i32, i32, i32, i32)| {
            Area::at(left & !1, top & !1, width & !1, height & !1)
        };
        let (area, open, hole) = (even(area), even(open), even(hole));
        let size = Size { width: 64, height: 36 };
        // Bytes between the lines must stay as they are.
        let mut planes = [vec![9u8; (64 + padding) * 36], vec![9u8; (32 + padding) * 18], vec![9u8; (32 + padding) * 18]];
        {
            let [y, cb, cr] = &mut planes;
            let planes = [(y.as_mut_slice(), 64 + padding), (cb.as_mut_slice(), 32 + padding), (cr.as_mut_slice(), 32 + padding)];
            let mut frame = Frame::new(size, planes).expect("fits");
            frame.fill(area, &Window::new(open, [hole]), Colour([209; 3]), opacity);
        }
        for (at, value) in (0i32..).zip(&planes[0]) {
            let stride = 64 + i32::try_from(padding).unwrap();
            let (x, y) = (at % stride, at / stride);
            let within = |area: Area| (area.left..area.right).contains(&x) && (area.top..area.bottom).contains(&y);
            let open = within(area) && within(open) && !within(hole) && x < 64;
            prop_assert_eq!(*value != 9, open, "{} {}", x, y);
        }
    }
}

#[test]
fn frames_that_do_not_fit_are_refused() {
    let mut small = vec![0u8; 10];
    let (mut cb, mut cr) = (vec![0u8; 100], vec![0u8; 100]);
    let size = Size {
        width: 16,
        height: 4,
    };
    assert!(Frame::new(size, [(&mut small, 16), (&mut cb, 8), (&mut cr, 8)]).is_none());
}
