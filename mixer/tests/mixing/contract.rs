//! How a link begins and ends.

use std::process::{Command, Stdio};

use media::link::{Configure, FromMixer, ToMixer};

use super::support::Mixer;

#[test]
fn the_process_ends_with_the_link() {
    let mut mixer = Mixer::configured(|_| {});
    mixer.pictures(5);
    mixer.hang_up();
    assert!(mixer.ended().success());
}

#[test]
fn bye_ends_the_process() {
    let mut mixer = Mixer::configured(|_| {});
    mixer.pictures(5);
    mixer.anchor.send(&ToMixer::Bye);
    assert!(mixer.ended().success());
}

#[test]
fn breaches_are_answered_and_end_the_process() {
    let breaches: [(&str, Vec<ToMixer>); 4] = [
        ("another version", vec![ToMixer::Hello { version: 999 }]),
        ("configured first", vec![ToMixer::Keyframe]),
        (
            "even",
            vec![ToMixer::Configure(Configure {
                width: 641,
                ..Configure::default()
            })],
        ),
        (
            "configured already",
            vec![
                ToMixer::Configure(Configure::default()),
                ToMixer::Configure(Configure::default()),
            ],
        ),
    ];
    for (what, messages) in breaches {
        let mut mixer = Mixer::start();
        messages
            .iter()
            .for_each(|message| mixer.anchor.send(message));
        assert!(!mixer.ended().success(), "{what}");
        let told = mixer.errors.join("; ");
        let word = what.replace("another version", "version 999");
        assert!(told.contains(&word), "{what}: {told}");
    }
}

#[test]
fn an_encoder_that_is_not_there_is_named_with_those_that_are() {
    let mut mixer = Mixer::configured(|config| config.encoder = Some("magicenc".into()));
    assert!(!mixer.ended().success());
    let told = mixer.errors.join("; ");
    assert!(
        told.contains("magicenc") && told.contains("x264enc"),
        "{told}"
    );
}

#[test]
fn contradictions_are_told_and_change_nothing() {
    let mut mixer = Mixer::configured(|_| {});
    mixer.anchor.send(&ToMixer::Remove { input: 9 });
    mixer.wait_for("complaint", |message| {
        matches!(message, FromMixer::Error { .. })
    });
    assert!(
        mixer.errors[0].contains("input 9 does not exist"),
        "{:?}",
        mixer.errors
    );
    mixer.pictures(5);
}

#[test]
fn standard_input_must_be_a_link() {
    let output = Command::new(env!("CARGO_BIN_EXE_anchornet-mixer"))
        .stdin(Stdio::null())
        .output()
        .expect("the program starts");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("--help"), "{said}");
}
