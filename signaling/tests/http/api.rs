//! The control API: statuses, fields at fault, pagination, operations.

use signaling::Config;
use signaling::types::{Check, CheckStatus};

use super::fake::Surface;

#[tokio::test]
async fn channels_live_and_die() {
    let surface = Surface::open();
    let created = surface
        .json(
            "POST",
            "/api/v1/channels",
            r#"{"id":"x","destinations":[{"url":"rtmp://h/a/k"}]}"#,
        )
        .await;
    assert_eq!(
        (created.status, created.header("location")),
        (201, "/api/v1/channels/x")
    );
    assert_eq!(created.json()["playback"]["hls"], "/live/x/index.m3u8");
    assert_eq!(
        surface.get("/api/v1/channels/a").await.json()["mode"],
        "solo"
    );
    surface.get("/api/v1/channels/nope").await.problem(404);
    assert_eq!(
        surface
            .json("PATCH", "/api/v1/channels/a", r#"{"title":"T"}"#)
            .await
            .status,
        200
    );
    assert_eq!(
        surface
            .ask("DELETE", "/api/v1/channels/a", &[], "")
            .await
            .status,
        204
    );
    let log = surface.backend.log();
    assert!(
        log[0].contains("destination-1") && !log[0].contains("/k"),
        "{log:?}"
    );
}

#[tokio::test]
async fn lists_are_pages() {
    let surface = Surface::open();
    let first = surface.get("/api/v1/channels?limit=2").await.json();
    assert_eq!(first["items"].as_array().unwrap().len(), 2);
    assert_eq!(first["next"], "b");
    let rest = surface.get("/api/v1/channels?limit=2&after=b").await.json();
    assert_eq!(rest["items"][0]["id"], "c");
    assert!(rest.get("next").is_none());
    let first = surface.get("/api/v1/channels/a/switches?limit=2").await;
    let next = first.json()["next"].as_str().unwrap().to_owned();
    let rest = surface
        .get(&format!("/api/v1/channels/a/switches?after={next}"))
        .await
        .json();
    assert_eq!(first.json()["items"][1]["number"], 10);
    assert_eq!(rest["items"][0]["number"], 11);
    for list in [
        "/api/v1/nodes",
        "/api/v1/channels/a/participants",
        "/api/v1/channels/a/switches",
        "/api/v1/channels/a/destinations",
    ] {
        assert!(surface.get(list).await.json()["items"].is_array(), "{list}");
    }
    for bad in ["limit=0", "limit=501", "limit=x", "limit=-1"] {
        let answer = surface.get(&format!("/api/v1/channels?{bad}")).await;
        assert_eq!(answer.problem(400).as_deref(), Some("limit"), "{bad}");
    }
}

#[tokio::test]
async fn bodies_that_are_wrong_name_the_field() {
    let surface = Surface::open();
    let url = r#"{"url":"rtmp://h/a/k"}"#;
    let cases = [
        (
            "POST",
            "/api/v1/channels",
            r#"{"id":"a b"}"#.to_owned(),
            Some("id"),
        ),
        ("POST", "/api/v1/channels", "{}".to_owned(), Some("id")),
        (
            "POST",
            "/api/v1/channels",
            r#"{"id":"a","color":1}"#.to_owned(),
            Some("color"),
        ),
        (
            "POST",
            "/api/v1/channels",
            format!(r#"{{"id":"a","title":"{}"}}"#, "x".repeat(201)),
            Some("title"),
        ),
        (
            "POST",
            "/api/v1/channels",
            r#"{"id":"a","destinations":[{"url":"http://h/a"}]}"#.to_owned(),
            Some("destinations[0].url"),
        ),
        (
            "PUT",
            "/api/v1/channels/a/destinations",
            r#"[{"url":"http://h/a"}]"#.to_owned(),
            Some("[0].url"),
        ),
        (
            "PUT",
            "/api/v1/channels/a/destinations",
            format!("[{}]", [url; 17].join(",")),
            Some("destinations"),
        ),
        (
            "PUT",
            "/api/v1/channels/a/destinations",
            "{}".to_owned(),
            None,
        ),
        (
            "PUT",
            "/api/v1/channels/a/mode",
            r#"{"mode":"both"}"#.to_owned(),
            Some("mode"),
        ),
        (
            "PUT",
            "/api/v1/channels/a/mode",
            r#"{"mode":"solo","layout":"grid"}"#.to_owned(),
            Some("layout"),
        ),
        (
            "PUT",
            "/api/v1/channels/a/mode",
            r#"{"mode":"collab","participants":["x","x"]}"#.to_owned(),
            Some("participants"),
        ),
        (
            "PUT",
            "/api/v1/channels/a/layout",
            r#"{"name":"custom"}"#.to_owned(),
            Some("tiles"),
        ),
        (
            "PUT",
            "/api/v1/channels/a/slate",
            format!(r#"{{"text":"{}"}}"#, "x".repeat(201)),
            Some("text"),
        ),
        (
            "PATCH",
            "/api/v1/channels/a/participants/p",
            r#"{"volume":9}"#.to_owned(),
            Some("volume"),
        ),
        (
            "PATCH",
            "/api/v1/channels/a/participants/p",
            r#"{"volume":"loud"}"#.to_owned(),
            Some("volume"),
        ),
    ];
    for (method, at, body, field) in cases {
        let answer = surface.json(method, at, &body).await;
        assert_eq!(
            answer.problem(422).as_deref(),
            field,
            "{method} {at} {body}: {}",
            answer.body
        );
    }
    assert!(surface.backend.log().is_empty());
}

#[tokio::test]
async fn what_is_not_json_is_400_and_what_is_not_said_to_be_json_415() {
    let surface = Surface::new(Config {
        max_json_bytes: 100,
        ..Config::default()
    });
    for body in ["", "{", "nonsense", r#"{"id":"a"} trailing"#] {
        surface
            .json("POST", "/api/v1/channels", body)
            .await
            .problem(400);
    }
    surface
        .ask("POST", "/api/v1/channels", &[], r#"{"id":"a"}"#)
        .await
        .problem(415);
    surface
        .json("POST", "/api/v1/channels", &" ".repeat(101))
        .await
        .problem(413);
    assert!(surface.backend.log().is_empty());
}

#[tokio::test]
async fn modes_destinations_and_participants_reach_the_backend() {
    let surface = Surface::open();
    let report = surface
        .json(
            "PUT",
            "/api/v1/channels/a/mode",
            r#"{"mode":"collab","participants":["x","y"]}"#,
        )
        .await;
    assert_eq!(report.status, 200);
    let report = report.json();
    assert_eq!(
        (&report["mode"], &report["changed"], &report["cut"]),
        (&"collab".into(), &false.into(), &().into())
    );
    let set = surface
        .json(
            "PUT",
            "/api/v1/channels/a/destinations",
            r#"[{"url":"rtmps://h/a/k","name":"cdn"}]"#,
        )
        .await;
    assert_eq!(set.status, 200);
    assert!(set.json()["items"].is_array());
    assert_eq!(
        surface
            .ask("DELETE", "/api/v1/channels/a/participants/bob", &[], "")
            .await
            .status,
        204
    );
    assert_eq!(
        surface.get("/api/v1/channels/a/stats").await.json()["program"]["audio_level"]["rms_dbfs"],
        -100.0
    );
    assert!(surface.backend.log().contains(&"kick bob".to_owned()));
}

#[tokio::test]
async fn channels_are_linked_and_parted() {
    let surface = Surface::open();
    let path = "/api/v1/channels/a/links";
    let linked = surface.json("POST", path, r#"{"channel":"b"}"#).await;
    assert_eq!(
        (linked.status, &linked.json()["channel"]),
        (201, &"b".into())
    );
    let own = surface.json("POST", path, r#"{"channel":"a"}"#).await;
    assert_eq!(own.problem(422).as_deref(), Some("channel"));
    let bad = surface.json("POST", path, r#"{"channel":"a b"}"#).await;
    assert_eq!(bad.problem(422).as_deref(), Some("channel"));
    let list = surface.get(path).await.json();
    assert_eq!(list["items"][0]["state"], "live");
    let parted = surface
        .ask("DELETE", "/api/v1/channels/a/links/b", &[], "")
        .await;
    assert_eq!(parted.status, 204);
    assert_eq!(surface.backend.log(), ["link a b", "links", "unlink a b"]);
}

#[tokio::test]
async fn later_parts_of_the_contract_say_so() {
    let surface = Surface::open();
    surface
        .json("PUT", "/api/v1/channels/a/layout", r#"{"name":"grid"}"#)
        .await
        .problem(501);
    surface
        .json(
            "PATCH",
            "/api/v1/channels/a/participants/p",
            r#"{"muted":true}"#,
        )
        .await
        .problem(501);
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems() {
    let surface = Surface::open();
    for at in [
        "/nope",
        "/api/v1/nope",
        "/api/v2/channels",
        "/live/x.flv",
        "/whip/",
        "/index.html",
    ] {
        surface.get(at).await.problem(404);
    }
    let answer = surface.ask("DELETE", "/api/v1/channels", &[], "").await;
    answer.problem(405);
    assert!(answer.header("allow").contains("GET"));
    assert_eq!(
        surface
            .get("/api/v1/channels/a")
            .await
            .header("x-request-id")
            .len(),
        32
    );
}

#[tokio::test]
async fn readiness_is_degraded_before_it_is_lost() {
    let surface = Surface::open();
    assert_eq!(surface.get("/healthz").await.json()["status"], "ok");
    let check = |status| {
        let check = Check {
            name: "registry".into(),
            status,
            detail: "redis is away".into(),
        };
        *surface.backend.readiness.lock().unwrap() = vec![check];
        surface.get("/readyz")
    };
    let ready = check(CheckStatus::Ok).await;
    assert_eq!(
        (ready.status, &ready.json()["status"]),
        (200, &"ready".into())
    );
    let degraded = check(CheckStatus::Degraded).await;
    assert_eq!(
        (
            degraded.status,
            &degraded.json()["status"],
            &degraded.json()["ready"]
        ),
        (200, &"degraded".into(), &true.into())
    );
    let lost = check(CheckStatus::Failed).await;
    assert_eq!((lost.status, &lost.json()["ready"]), (503, &false.into()));
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    let answer = Surface::open().get("/metrics").await;
    assert_eq!(
        answer.header("content-type"),
        "text/plain; version=0.0.4; charset=utf-8"
    );
    assert_eq!(answer.body, "anchornet_up 1\n");
}

#[tokio::test]
async fn playback_is_sent_to_a_separate_origin() {
    let config = Config {
        playback_redirect: Some("http://origin:8081".to_owned()),
        ..Config::default()
    };
    let surface = Surface::new(config);
    for at in ["/live/demo.flv?token=x", "/live/demo/index.m3u8"] {
        let answer = surface.get(at).await;
        assert_eq!(
            (answer.status, answer.header("location")),
            (307, format!("http://origin:8081{at}").as_str())
        );
    }
}
