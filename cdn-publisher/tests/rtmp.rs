//! The publisher against servers that others wrote: nginx with its RTMP module, and the same behind TLS.
//!
//! Needs `nginx`, `libnginx-mod-rtmp`, `ffmpeg` and `openssl` of Debian 12; without nginx and its module the tests say so
//! and pass.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "a test that opens sockets and waits for other processes"
)]

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cdn_publisher::{Destination, DestinationState, DestinationStatus, Publisher, PublisherConfig};
use media::AccessUnit;
use media::flv::{Demuxer, Item, Reader};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

const MODULE: &str = "/usr/lib/nginx/modules/ngx_rtmp_module.so";

/// How much faster than time the media are published.
const SPEED: u32 = 4;

/// A process that ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn nginx_is_missing() -> bool {
    let missing = !Path::new(MODULE).exists();
    if missing {
        println!("skipped: {MODULE} is not installed");
    }
    missing
}

/// nginx recording everything that is published to `live` into `dir`; `closed` refuses everybody.
async fn nginx(dir: &Path, port: u16) -> Process {
    let config = format!(
        "load_module {MODULE};\nuser root;\nmaster_process off;\ndaemon off;\npid nginx.pid;\nerror_log error.log;\n\
         events {{}}\nrtmp {{ server {{ listen 127.0.0.1:{port}; chunk_size 4096;\n\
         application live {{ live on; record all; record_path {dir}; record_unique on; }}\n\
         application closed {{ live on; deny publish all; }} }} }}\n",
        dir = dir.display()
    );
    let file = dir.join("nginx.conf");
    std::fs::write(&file, config).unwrap();
    let child = Command::new("/usr/sbin/nginx")
        .arg("-p")
        .arg(dir)
        .arg("-c")
        .arg(&file)
        .stderr(Stdio::null())
        .spawn();
    let process = Process(child.unwrap());
    until(|| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()).await;
    process
}

/// Waits for a condition that other processes bring about.
async fn until(mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(20), "waited in vain");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Twelve seconds of picture (30 per second, an IDR twice a second) and sound.
fn media(dir: &Path) -> Vec<AccessUnit> {
    let file = dir.join("source.flv");
    let status = Command::new("ffmpeg")
        .args([
            "-v",
            "error",
            "-f",
            "lavfi",
            "-i",
            "testsrc2=s=640x360:r=30",
        ])
        .args([
            "-f",
            "lavfi",
            "-i",
            "sine=440:sample_rate=48000",
            "-t",
            "12",
            "-ac",
            "2",
        ])
        .args([
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-tune",
            "zerolatency",
            "-g",
            "15",
        ])
        .args(["-c:a", "aac", "-y"])
        .arg(&file)
        .status();
    assert!(status.unwrap().success());
    let (mut reader, mut demuxer) = (Reader::default(), Demuxer::default());
    reader.push(&std::fs::read(&file).unwrap());
    let mut units = Vec::new();
    while let Some(item) = reader.next_item().unwrap() {
        if let Item::Tag(tag) = item {
            units.extend(demuxer.push(&tag).unwrap());
        }
    }
    assert!(units.len() > 800);
    units
}

/// Sends the units between these times at [`SPEED`].
async fn play(publisher: &Publisher, units: &[AccessUnit], from_ms: i64, to_ms: i64) {
    let start = tokio::time::Instant::now();
    for unit in units {
        let at = unit.dts.as_millis();
        if (from_ms..to_ms).contains(&at) {
            let due = Duration::from_millis(u64::try_from(at - from_ms).unwrap());
            tokio::time::sleep_until(start + due / SPEED).await;
            publisher.send(unit.clone());
        }
    }
}

fn destination(name: &str, url: String) -> Destination {
    Destination {
        name: name.to_owned(),
        url,
    }
}

fn config() -> PublisherConfig {
    PublisherConfig {
        backoff_min: Duration::from_millis(100),
        ..PublisherConfig::default()
    }
}

fn of(publisher: &Publisher, name: &str) -> DestinationStatus {
    let mut status = publisher.status().into_iter();
    status.find(|status| status.name == name).unwrap()
}

async fn until_publishing(publisher: &Publisher, name: &str) {
    until(|| of(publisher, name).state == DestinationState::Publishing).await;
}

/// What a recording holds: (kind, dts in milliseconds, keyframe); it decodes without errors and its times increase.
fn packets(file: &Path) -> Vec<(char, i64, bool)> {
    let decoded = Command::new("ffmpeg")
        .args(["-v", "error", "-xerror", "-i"])
        .arg(file)
        .args(["-f", "null", "-"])
        .output()
        .unwrap();
    let complaints = String::from_utf8_lossy(&decoded.stderr).into_owned();
    assert!(
        decoded.status.success() && complaints.is_empty(),
        "{complaints}"
    );
    let (mut reader, mut demuxer) = (Reader::default(), Demuxer::default());
    reader.push(&std::fs::read(file).unwrap());
    let mut packets = Vec::new();
    while let Some(item) = reader.next_item().unwrap() {
        let Item::Tag(tag) = item else { continue };
        if let Some(unit) = demuxer.push(&tag).unwrap() {
            let kind = match unit.kind() {
                media::Kind::Audio => 'a',
                media::Kind::Video => 'v',
            };
            packets.push((kind, unit.dts.as_millis(), unit.keyframe));
        }
    }
    for kind in ['a', 'v'] {
        let times: Vec<i64> = packets
            .iter()
            .filter(|p| p.0 == kind)
            .map(|p| p.1)
            .collect();
        assert!(
            times.windows(2).all(|pair| pair[0] < pair[1]),
            "{kind} {times:?}"
        );
    }
    packets
}

/// Recordings in a folder, oldest first.
fn recordings(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .filter(|path| path.extension().is_some_and(|e| e == "flv"))
        .filter(|path| !path.ends_with("source.flv"))
        .collect();
    files.sort_by_key(|path| path.metadata().unwrap().modified().unwrap());
    files
}

/// DTS in milliseconds and keyframe flag of the first pictures that a player of `url` gets.
async fn first_pictures(url: String) -> Vec<(i64, bool)> {
    let output = tokio::process::Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-select_streams",
            "v",
            "-read_intervals",
            "%+#8",
        ])
        .args([
            "-show_entries",
            "packet=dts_time,flags",
            "-of",
            "csv=p=0",
            "-fflags",
            "nobuffer",
        ])
        .arg(url)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(20), output)
        .await
        .unwrap();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    let lines = text.lines().filter_map(|line| {
        let (time, flags) = line.split_once(',')?;
        let ms = (time.parse::<f64>().ok()? * 1_000.0).round();
        Some((ms as i64, flags.starts_with('K')))
    });
    lines.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_resumes_at_a_keyframe_on_the_same_timeline_while_the_other_sees_nothing() {
    if nginx_is_missing() {
        return;
    }
    let (source, first, second) = (scratch(), scratch(), scratch());
    let units = media(source.path());
    let ports = [free_port(), free_port()];
    let steady = nginx(first.path(), ports[0]).await;
    let victim = nginx(second.path(), ports[1]).await;
    let publisher = Publisher::start("test".to_owned(), config());
    let url = |port: u16| format!("rtmp://127.0.0.1:{port}/live/key?token=s3cret");
    publisher.set_destinations(vec![
        destination("steady", url(ports[0])),
        destination("victim", url(ports[1])),
    ]);
    until_publishing(&publisher, "steady").await;
    until_publishing(&publisher, "victim").await;
    play(&publisher, &units, 0, 4_000).await;
    let sent = of(&publisher, "victim").bytes_sent;
    assert!(sent > 100_000, "{sent}");

    drop(victim);
    play(&publisher, &units, 4_000, 6_200).await;
    let down = of(&publisher, "victim");
    assert_ne!(down.state, DestinationState::Publishing);
    assert!(
        down.last_error.is_some() && !down.url.contains("s3cret"),
        "{down:?}"
    );
    let victim = nginx(second.path(), ports[1]).await;
    until_publishing(&publisher, "victim").await;
    let player = tokio::spawn(first_pictures(format!(
        "rtmp://127.0.0.1:{}/live/key",
        ports[1]
    )));
    play(&publisher, &units, 6_200, 12_000).await;
    assert_eq!(of(&publisher, "victim").connections, 2);
    assert_eq!(of(&publisher, "steady").connections, 1);
    assert_eq!(of(&publisher, "steady").dropped_units, 0);
    publisher.shutdown(Duration::from_secs(2)).await;
    drop((steady, victim));

    // Players see the program's own timeline: what they get after the restart is later than all before it.
    let seen = player.await.unwrap();
    assert!(seen.len() >= 8, "{seen:?}");
    assert!(seen[0].0 > 5_900, "{seen:?}");
    assert!(seen.windows(2).all(|pair| pair[0].0 < pair[1].0));
    let steady = packets(&recordings(first.path())[0]);
    assert_eq!(steady.iter().filter(|p| p.0 == 'v').count(), 360);
    let files = recordings(second.path());
    assert_eq!(files.len(), 2, "{files:?}");
    let resumed = packets(&files[1]);
    let (_, _, starts_with_keyframe) = *resumed.iter().find(|p| p.0 == 'v').unwrap();
    assert!(starts_with_keyframe);
    assert!(resumed.len() > 250, "{}", resumed.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_refuses_is_reported_and_left_alone() {
    if nginx_is_missing() {
        return;
    }
    let dir = scratch();
    let port = free_port();
    let _nginx = nginx(dir.path(), port).await;
    let publisher = Publisher::start("test".to_owned(), config());
    publisher.set_destinations(vec![
        destination("closed", format!("rtmp://127.0.0.1:{port}/closed/key")),
        destination("nowhere", format!("rtmp://127.0.0.1:{port}/nowhere/key")),
        destination("wrong", "http://127.0.0.1/live/key".to_owned()),
    ]);
    until(|| of(&publisher, "closed").state == DestinationState::Refused).await;
    let status = of(&publisher, "closed");
    let wait = status
        .next_attempt_at
        .unwrap()
        .duration_since(std::time::SystemTime::now());
    assert!(wait.unwrap() > Duration::from_secs(200), "{status:?}");
    assert!(status.attempts <= 3, "{status:?}");
    // nginx hangs up on an unknown application without a word; that is not distinguishable from a crash.
    until(|| of(&publisher, "nowhere").last_error.is_some()).await;
    assert_eq!(of(&publisher, "wrong").state, DestinationState::Closed);
    // Another URL is tried at once.
    let better = destination("closed", format!("rtmp://127.0.0.1:{port}/live/key"));
    publisher.set_destinations(vec![better]);
    until_publishing(&publisher, "closed").await;
    publisher.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rtmps_reaches_the_server_and_an_unknown_certificate_does_not() {
    if nginx_is_missing() {
        return;
    }
    let dir = scratch();
    let units = media(dir.path());
    let port = free_port();
    let nginx = nginx(dir.path(), port).await;
    let tls_port = tls_front(dir.path(), port).await;
    let url = format!("rtmps://localhost:{tls_port}/live/key");
    let stranger = Publisher::start("test".to_owned(), config());
    stranger.set_destinations(vec![destination("tls", url.clone())]);
    until(|| of(&stranger, "tls").last_error.is_some()).await;
    let error = of(&stranger, "tls").last_error.unwrap();
    assert!(error.contains("certificate"), "{error}");
    stranger.shutdown(Duration::ZERO).await;

    let trusting = PublisherConfig {
        extra_ca_file: Some(dir.path().join("ca.pem")),
        ..config()
    };
    let publisher = Publisher::start("test".to_owned(), trusting);
    publisher.set_destinations(vec![destination("tls", url)]);
    until_publishing(&publisher, "tls").await;
    play(&publisher, &units, 0, 4_000).await;
    publisher.shutdown(Duration::from_secs(2)).await;
    assert_eq!(of(&publisher, "tls").state, DestinationState::Closed);
    drop(nginx);
    let recorded = packets(&recordings(dir.path())[0]);
    assert_eq!(recorded.iter().filter(|p| p.0 == 'v').count(), 120);
}

#[tokio::test]
async fn a_server_that_reads_nothing_is_given_up_and_holds_nobody_up() {
    let dir = scratch();
    let units = media(dir.path());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let silent = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    let config = PublisherConfig {
        handshake_timeout: Duration::from_millis(300),
        ..config()
    };
    let publisher = Publisher::start("test".to_owned(), config);
    publisher.set_destinations(vec![destination(
        "silent",
        format!("rtmp://127.0.0.1:{port}/live/key"),
    )]);
    let start = Instant::now();
    for unit in &units {
        publisher.send(unit.clone());
    }
    assert!(start.elapsed() < Duration::from_secs(1));
    until(|| of(&publisher, "silent").attempts >= 2).await;
    let status = of(&publisher, "silent");
    assert!(status.last_error.unwrap().contains("permission"));
    assert!(status.queued_bytes < 1 << 20);
    publisher.shutdown(Duration::from_millis(100)).await;
    silent.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_reading_is_given_up_while_the_other_sees_nothing() {
    if nginx_is_missing() {
        return;
    }
    let (source, first, second) = (scratch(), scratch(), scratch());
    let units = media(source.path());
    let ports = [free_port(), free_port()];
    let steady = nginx(first.path(), ports[0]).await;
    let frozen = nginx(second.path(), ports[1]).await;
    let config = PublisherConfig {
        write_timeout: Duration::from_millis(500),
        ..config()
    };
    let publisher = Publisher::start("test".to_owned(), config);
    let url = |port: u16| format!("rtmp://127.0.0.1:{port}/live/key");
    publisher.set_destinations(vec![
        destination("steady", url(ports[0])),
        destination("frozen", url(ports[1])),
    ]);
    until_publishing(&publisher, "steady").await;
    until_publishing(&publisher, "frozen").await;
    play(&publisher, &units, 0, 2_000).await;
    let pid = frozen.0.id().to_string();
    let stopped = Command::new("kill").args(["-STOP", &pid]).status();
    assert!(stopped.unwrap().success());
    // More than the sockets' buffers hold: pictures of almost a megabyte, which is the most that nginx takes.
    let big = units
        .iter()
        .find(|unit| unit.kind() == media::Kind::Video && unit.keyframe);
    let big = big.unwrap();
    for n in 1..=30 {
        let mut unit = big.clone();
        unit.dts = media::Timestamp::from_millis(2_000 + n * 30);
        unit.pts = unit.dts;
        let filler = vec![0x0c; 900_000];
        unit.data = media::h264::to_avcc([filler.as_slice()]);
        publisher.send(unit);
        let room = || of(&publisher, "steady").queued_bytes < 4 << 20;
        until(room).await;
    }
    until(|| of(&publisher, "frozen").state != DestinationState::Publishing).await;
    let error = of(&publisher, "frozen").last_error.unwrap();
    assert!(error.contains("it took no byte for 500 ms"), "{error}");
    let steady_status = of(&publisher, "steady");
    assert_eq!(
        (steady_status.connections, steady_status.dropped_units),
        (1, 0)
    );
    publisher.shutdown(Duration::from_secs(1)).await;
    drop((steady, frozen));
}

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// Terminates TLS for `localhost` in front of `port`, with a certificate of `ca.pem` in `dir`.
async fn tls_front(dir: &Path, port: u16) -> u16 {
    let openssl = |args: &str| {
        let status = Command::new("openssl")
            .args(args.split(' '))
            .current_dir(dir)
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .status();
        assert!(status.unwrap().success(), "openssl {args}");
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!(
        "req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=test-ca"
    ));
    openssl(&format!(
        "req {key} -keyout leaf.key -out leaf.csr -subj /CN=localhost"
    ));
    std::fs::write(dir.join("leaf.ext"), "subjectAltName=DNS:localhost\n").unwrap();
    openssl(
        "x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out leaf.pem -days 2 -extfile leaf.ext",
    );
    let certificate = CertificateDer::from_pem_file(dir.join("leaf.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(dir.join("leaf.key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("localhost:0").await.unwrap();
    let tls_port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut outside) = acceptor.accept(stream).await else {
                    return;
                };
                let inside = tokio::net::TcpStream::connect(("127.0.0.1", port)).await;
                let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside.unwrap()).await;
            });
        }
    });
    tls_port
}
