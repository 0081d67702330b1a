//! Drives the real program over a socket pair, as an anchor would.

pub(crate) mod clip;

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use media::h264;
use media::link::{
    Configure, Decoder, FromMixer, Message, Picture, Scene, Stats, ToMixer, VERSION,
};

use clip::Clip;

/// Longer than anything takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// One picture of a clip, in nanoseconds.
pub(crate) const FRAME_NS: i64 = 1_000_000_000 / 30;

/// Program time of the moment the harness starts: not zero, so that mistakes show.
const EPOCH_NS: i64 = 7_000_000_000;

/// The anchor's clock.
#[derive(Clone, Copy)]
pub(crate) struct Now(Instant);

impl Now {
    pub(crate) fn program_ns(self) -> i64 {
        EPOCH_NS + i64::try_from(self.0.elapsed().as_nanos()).expect("fits")
    }
}

/// The writing end, shared by the test and the feeders.
#[derive(Clone)]
pub(crate) struct Anchor {
    socket: Arc<Mutex<UnixStream>>,
    pub(crate) now: Now,
}

impl Anchor {
    /// Writes a message; a mixer that has ended is noticed elsewhere.
    pub(crate) fn send(&self, message: &ToMixer) {
        let mut bytes = BytesMut::new();
        message.encode(&mut bytes).expect("within bounds");
        let _ = self.socket.lock().expect("not poisoned").write_all(&bytes);
    }

    pub(crate) fn scene(&self, order: &[u32]) {
        self.send(&ToMixer::Scene(Scene {
            order: order.to_vec(),
            ..Scene::default()
        }));
    }

    pub(crate) fn add(&self, input: u32, clip: &Clip) {
        let name = format!("Guest {input}");
        self.send(&ToMixer::Add { input, name });
        self.send(&ToMixer::VideoConfig {
            input,
            config: clip.config.clone(),
        });
    }

    /// Sends picture `number` of a clip (over and over) as captured at `pts_ns`.
    pub(crate) fn picture(&self, input: u32, clip: &Clip, number: usize, pts_ns: i64) {
        let (keyframe, data) = &clip.pictures[number % clip.pictures.len()];
        let unit = Picture {
            pts_ns,
            dts_ns: pts_ns,
            keyframe: *keyframe,
            discontinuity: false,
            data: data.clone(),
        };
        self.send(&ToMixer::Picture { input, unit });
    }
}

/// The real program with a link.
pub(crate) struct Mixer {
    child: Child,
    pub(crate) anchor: Anchor,
    from: Receiver<FromMixer>,
    stop: Vec<Sender<()>>,
    threads: Vec<JoinHandle<()>>,
    pub(crate) config: Option<h264::Config>,
    pub(crate) pictures: Vec<(Picture, i64)>,
    pub(crate) stats: Option<Stats>,
    pub(crate) errors: Vec<String>,
}

impl Mixer {
    /// Starts the program, greets it and pings it as the contract says.
    pub(crate) fn start() -> Self {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        let child = Command::new(env!("CARGO_BIN_EXE_anchornet-mixer"))
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()
            .expect("the program starts");
        #[expect(
            clippy::disallowed_methods,
            reason = "the anchor of these tests has a clock"
        )]
        let now = Now(Instant::now());
        let from = read(ours.try_clone().expect("a second handle"));
        let anchor = Anchor {
            socket: Arc::new(Mutex::new(ours)),
            now,
        };
        let mut mixer = Self {
            child,
            anchor,
            from,
            stop: Vec::new(),
            threads: Vec::new(),
            config: None,
            pictures: Vec::new(),
            stats: None,
            errors: Vec::new(),
        };
        mixer.anchor.send(&ToMixer::Hello { version: VERSION });
        let mut id = 0;
        mixer.every(Duration::from_millis(100), move |anchor| {
            id += 1;
            let program_ns = anchor.now.program_ns();
            anchor.send(&ToMixer::Ping { id, program_ns });
        });
        mixer.wait_for("hello", |message| {
            matches!(
                message,
                FromMixer::Hello {
                    version: VERSION,
                    ..
                }
            )
        });
        mixer.wait_for("pong", |message| matches!(message, FromMixer::Pong { .. }));
        mixer
    }

    /// Starts and configures a 640x360 mixer whose grid lies at phase zero.
    pub(crate) fn configured(change: impl FnOnce(&mut Configure)) -> Self {
        let mixer = Self::start();
        mixer.configure(change);
        mixer
    }

    /// Configures a 640x360 mixer whose grid lies at phase zero.
    pub(crate) fn configure(&self, change: impl FnOnce(&mut Configure)) {
        let mut config = Configure {
            width: 640,
            height: 360,
            bitrate_bps: 1_500_000,
            names: false,
            layout_transition_ms: 0,
            ..Configure::default()
        };
        change(&mut config);
        self.anchor.send(&ToMixer::Configure(config));
    }

    /// Runs `work` at once and at an interval until the mixer is dropped.
    fn every(&mut self, interval: Duration, mut work: impl FnMut(&Anchor) + Send + 'static) {
        let (stop, stopped) = channel();
        let anchor = self.anchor.clone();
        self.stop.push(stop);
        self.threads.push(thread::spawn(move || {
            loop {
                work(&anchor);
                if stopped.recv_timeout(interval) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        }));
    }

    /// Feeds a clip as a live input: picture n is captured at `n` frames plus `phase_ns` of program time and sent then.
    pub(crate) fn feed(&mut self, input: u32, clip: Arc<Clip>, phase_ns: i64) -> Arc<AtomicBool> {
        let stalled = Arc::new(AtomicBool::new(false));
        let (paused, mut next) = (Arc::clone(&stalled), None);
        self.every(Duration::from_millis(5), move |anchor| {
            let now_ns = anchor.now.program_ns();
            let newest = (now_ns - phase_ns) / FRAME_NS;
            let from = next.unwrap_or(newest - newest % 30);
            for number in from..=newest {
                next = Some(number + 1);
                if !paused.load(Ordering::Relaxed) {
                    let pts_ns = number * FRAME_NS + phase_ns;
                    anchor.picture(
                        input,
                        &clip,
                        usize::try_from(number).expect("positive"),
                        pts_ns,
                    );
                }
            }
        });
        stalled
    }

    /// Takes messages until one satisfies `wanted`.
    pub(crate) fn wait_for(&mut self, what: &str, wanted: impl Fn(&FromMixer) -> bool) {
        self.run_until(what, |_, message| wanted(message));
    }

    /// Takes messages until `done` says so.
    pub(crate) fn run_until(
        &mut self,
        what: &str,
        mut done: impl FnMut(&Self, &FromMixer) -> bool,
    ) {
        let deadline = self.anchor.now.0.elapsed() + PATIENCE;
        while self.anchor.now.0.elapsed() < deadline {
            let message = match self.from.recv_timeout(PATIENCE) {
                Ok(message) => message,
                Err(error) => panic!("no {what}: {error}; errors: {:?}", self.errors),
            };
            match &message {
                FromMixer::VideoConfig(config) => self.config = Some(config.clone()),
                FromMixer::Picture(unit) => {
                    self.pictures
                        .push((unit.clone(), self.anchor.now.program_ns()));
                }
                FromMixer::Stats(stats) => self.stats = Some(stats.clone()),
                FromMixer::Error { message } => self.errors.push(message.clone()),
                FromMixer::Challenge { .. } | FromMixer::Hello { .. } | FromMixer::Pong { .. } => {}
            }
            if done(self, &message) {
                return;
            }
        }
        panic!("no {what} within {PATIENCE:?}; errors: {:?}", self.errors);
    }

    /// Takes messages until `count` more pictures have come.
    pub(crate) fn pictures(&mut self, count: usize) {
        let target = self.pictures.len() + count;
        self.run_until(&format!("{count} pictures"), |mixer, _| {
            mixer.pictures.len() >= target
        });
    }

    /// Every picture lies one step behind the one before, the first is an IDR, and all decode.
    pub(crate) fn check_timeline(&self) -> Vec<clip::Frame> {
        let config = self.config.as_ref().expect("a configuration came first");
        assert!(self.pictures[0].0.keyframe, "the first picture is an IDR");
        for pair in self.pictures.windows(2) {
            let (before, after) = (&pair[0].0, &pair[1].0);
            let step = after.pts_ns - before.pts_ns;
            assert!(
                (step - FRAME_NS).abs() <= 1,
                "a step of {step} ns at {}",
                after.pts_ns
            );
            assert!(after.dts_ns > before.dts_ns, "DTS increase");
        }
        let first = self.pictures[0].0.pts_ns;
        let on_grid = first - first / FRAME_NS * FRAME_NS;
        assert!(on_grid < 1_000, "{first} is {on_grid} ns beside the grid");
        let frames = clip::decode(config, self.pictures.iter().map(|(unit, _)| &unit.data));
        assert_eq!(frames.len(), self.pictures.len(), "every picture decodes");
        frames
    }

    /// Waits for the program to end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        loop {
            match self.from.recv_timeout(PATIENCE) {
                Ok(FromMixer::Error { message }) => self.errors.push(message),
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("the program does not end"),
            }
        }
        self.child.wait().expect("waited")
    }

    /// Closes the anchor's end of the link.
    pub(crate) fn hang_up(&mut self) {
        let socket = self.anchor.socket.lock().expect("not poisoned");
        socket
            .shutdown(std::net::Shutdown::Both)
            .expect("still open");
    }
}

impl Drop for Mixer {
    fn drop(&mut self) {
        self.stop.clear();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(mut socket: UnixStream) -> Receiver<FromMixer> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut decoder = Decoder::<FromMixer>::new();
        let mut chunk = vec![0; 65_536];
        while let Ok(count @ 1..) = socket.read(&mut chunk) {
            decoder.feed(&chunk[..count]);
            while let Some(message) = decoder.next_message().expect("a mixer keeps the contract") {
                if sender.send(message).is_err() {
                    return;
                }
            }
        }
    });
    receiver
}
