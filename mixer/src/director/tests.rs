use media::link::{Layout, Level};
use proptest::prelude::*;

use super::*;

const MS: i64 = 1_000_000;

fn director() -> Director {
    Director::new(&Configure::default())
}

fn scene(order: &[u32]) -> Command {
    Command::Scene(Scene {
        order: order.to_vec(),
        ..Scene::default()
    })
}

fn add(director: &mut Director, input: u32) {
    let name = format!("guest {input}");
    director
        .handle(0, Command::Add(input, name))
        .expect("a new number");
}

fn shown(plan: &Plan) -> Vec<(u32, bool)> {
    plan.tiles
        .iter()
        .map(|tile| (tile.input, tile.picture))
        .collect()
}

#[test]
fn nobody_in_is_the_slate() {
    let mut director = director();
    assert!(director.plan(0).slate);
    add(&mut director, 1);
    assert!(director.plan(0).slate, "not in the scene");
    director.handle(0, scene(&[1])).expect("valid");
    assert!(!director.plan(0).slate);
    director.handle(0, Command::Remove(1)).expect("known");
    assert!(director.plan(0).slate);
}

#[test]
fn a_stalled_input_is_held_then_replaced_then_back() {
    let mut director = director();
    add(&mut director, 1);
    director.handle(0, scene(&[1])).expect("valid");
    assert_eq!(
        shown(&director.plan(0)),
        [(1, false)],
        "nothing to show yet"
    );
    director.decoded(1, 1_000 * MS);
    let at = |ms: i64| (director.state(1, ms * MS), shown(&director.plan(ms * MS)));
    assert_eq!(at(1_400), (Some(InputState::Live), vec![(1, true)]));
    assert_eq!(at(2_900), (Some(InputState::Held), vec![(1, true)]));
    assert_eq!(at(3_000), (Some(InputState::Placeholder), vec![(1, false)]));
    director.decoded(1, 5_000 * MS);
    assert_eq!(shown(&director.plan(5_000 * MS)), [(1, true)]);
}

#[test]
fn a_picture_decoded_ahead_of_its_time_does_not_end_the_placeholder() {
    let mut director = director();
    add(&mut director, 1);
    director.handle(0, scene(&[1])).expect("valid");
    for start_ms in [1_000, 9_000] {
        for ms in (start_ms..start_ms + 1_000).step_by(33) {
            director.decoded(1, ms * MS);
        }
        let at = |ms: i64| shown(&director.plan((start_ms + ms) * MS));
        assert_eq!(at(-100), [(1, false)], "nothing of that time to show");
        assert_eq!(at(-33), [(1, true)], "the first picture is of this frame");
        assert_eq!(at(900), [(1, true)]);
        assert_eq!(at(4_000), [(1, false)]);
    }
}

#[test]
fn everybody_is_there_once_all_can_be_seen() {
    let mut director = director();
    let caught_up = |director: &Director, ms: i64| director.plan(ms * MS).caught_up;
    assert!(!caught_up(&director, 0), "no scene yet");
    add(&mut director, 1);
    add(&mut director, 2);
    director.handle(0, scene(&[1, 2])).expect("valid");
    director.decoded(1, 1_000 * MS);
    assert!(!caught_up(&director, 1_000), "one is missing");
    director.decoded(2, 700 * MS);
    assert!(!caught_up(&director, 1_000), "one is late");
    director.decoded(2, 950 * MS);
    assert!(caught_up(&director, 1_000));
    assert!(!caught_up(&director, 900), "one begins later");
    director.handle(0, scene(&[])).expect("valid");
    assert!(caught_up(&director, 9_000), "nobody to wait for");
}

#[test]
fn a_scene_may_name_inputs_that_come_later() {
    let mut director = director();
    director.handle(0, scene(&[1, 2])).expect("valid");
    add(&mut director, 2);
    assert_eq!(shown(&director.plan(0)), [(2, false)]);
}

#[test]
fn contradictions_change_nothing() {
    let mut director = director();
    add(&mut director, 1);
    director.handle(0, scene(&[1])).expect("valid");
    let before = director.plan(MS);
    let twice = Command::Add(1, "again".into());
    assert_eq!(director.handle(0, twice), Err(Error::Exists(1)));
    assert_eq!(
        director.handle(0, Command::Remove(9)),
        Err(Error::Unknown(9))
    );
    assert_eq!(director.handle(0, scene(&[1, 1])), Err(Error::Twice(1)));
    let crowd: Vec<u32> = (0..17).collect();
    assert_eq!(director.handle(0, scene(&crowd)), Err(Error::TooMany));
    assert_eq!(director.plan(MS), before);
    for input in 2..=16 {
        add(&mut director, input);
    }
    let more = Command::Add(99, String::new());
    assert_eq!(director.handle(0, more), Err(Error::TooMany));
}

#[test]
fn the_speaker_layout_follows_the_voice() {
    let mut director = director();
    add(&mut director, 1);
    add(&mut director, 2);
    let speaker = Scene {
        layout: Layout {
            name: LayoutName::Speaker,
            tiles: Vec::new(),
        },
        order: vec![1, 2],
        ..Scene::default()
    };
    director.handle(0, Command::Scene(speaker)).expect("valid");
    let levels = vec![Level {
        input: 2,
        dbfs: -10.0,
    }];
    director
        .handle(1_000 * MS, Command::Levels(levels))
        .expect("valid");
    let plan = director.plan(2_000 * MS);
    let widest = plan.tiles.iter().max_by_key(|tile| tile.rect().width);
    assert_eq!(widest.map(|tile| tile.input), Some(2));
}

fn command() -> impl Strategy<Value = Command> {
    let level = (0u32..20, any::<f32>()).prop_map(|(input, dbfs)| Level { input, dbfs });
    let names = vec![
        LayoutName::Grid,
        LayoutName::SideBySide,
        LayoutName::Speaker,
        LayoutName::Pip,
        LayoutName::Custom,
    ];
    let order = proptest::collection::vec(0u32..20, 0..18);
    prop_oneof![
        (0u32..20).prop_map(|input| Command::Add(input, "somebody".into())),
        (0u32..20).prop_map(Command::Remove),
        (proptest::sample::select(names), order).prop_map(|(name, order)| {
            Command::Scene(Scene {
                layout: Layout {
                    name,
                    tiles: Vec::new(),
                },
                order,
                ..Scene::default()
            })
        }),
        proptest::collection::vec(level, 0..5).prop_map(Command::Levels),
    ]
}

proptest! {
    #[test]
    fn plans_name_inputs_that_exist_once_and_inside(
        steps in proptest::collection::vec((command(), 0u32..20, 0i64..400), 1..60),
    ) {
        let mut director = director();
        let mut now = 0;
        for (command, decoded, pause_ms) in steps {
            now += pause_ms * MS;
            let _ = director.handle(now, command);
            director.decoded(decoded, now);
            let plan = director.plan(now + 100 * MS);
            let known: Vec<u32> = director.inputs().collect();
            let mut seen = Vec::new();
            for tile in &plan.tiles {
                prop_assert!(known.contains(&tile.input));
                prop_assert!(!seen.contains(&tile.input));
                seen.push(tile.input);
                let rect = tile.rect();
                prop_assert!(rect.x + rect.width <= 1280 && rect.y + rect.height <= 720);
                prop_assert!((0.0..=1.0).contains(&tile.opacity));
            }
            prop_assert_eq!(plan.slate, plan.tiles.is_empty());
        }
    }
}
