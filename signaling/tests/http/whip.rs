//! WHIP and WHEP as RFC 9725 and the published contract say.

use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use signaling::Config;
use signaling::backend::Error;
use signaling::types::{Invalid, Role};
use std::net::SocketAddr;

use super::fake::{Fake, OFFER, Surface, errors, request};

const FRAGMENT: (&str, &str) = ("content-type", "application/trickle-ice-sdpfrag");

#[tokio::test]
async fn an_offer_is_answered_with_everything_a_client_needs() {
    let surface = Surface::open();
    let answer = surface
        .offer("/whip/demo?participant=alice&role=guest")
        .await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.body, "v=0\r\nanswer");
    assert_eq!(answer.header("content-type"), "application/sdp");
    assert_eq!(answer.header("location"), "/whip/demo/sessions/s1");
    assert_eq!(answer.header("etag"), "\"e1\"");
    assert_eq!(
        answer.header("accept-patch"),
        "application/trickle-ice-sdpfrag"
    );
    assert_eq!(answer.header("x-participant"), "alice");
    let links: Vec<_> = answer
        .headers
        .get_all("link")
        .iter()
        .map(|link| link.to_str().unwrap())
        .collect();
    assert_eq!(
        links,
        [
            "<stun:stun.example:3478>; rel=\"ice-server\"",
            "<turn:turn.example>; rel=\"ice-server\"; username=\"u\"; credential=\"p\\\"q\"; credential-type=\"password\"",
        ]
    );
    let exposed = answer.header("access-control-expose-headers");
    for name in ["Location", "ETag", "Link"] {
        assert!(exposed.contains(name), "{exposed}");
    }
    let asked = surface.backend.published.lock().unwrap().clone().unwrap();
    assert_eq!(asked.role, Some(Role::Guest));
    assert_eq!(asked.offer, OFFER);
}

#[tokio::test]
async fn media_types_may_have_parameters_and_must_be_there() {
    let surface = Surface::open();
    for (kind, status) in [
        ("application/sdp; charset=utf-8", 201),
        ("Application/SDP", 201),
        ("application/json", 415),
        ("application/sdpx", 415),
        ("", 415),
    ] {
        let answer = surface
            .ask("POST", "/whip/demo", &[("content-type", kind)], OFFER)
            .await;
        assert_eq!(answer.status, status, "{kind:?}");
    }
    surface
        .ask("POST", "/whip/demo", &[], OFFER)
        .await
        .problem(415);
}

#[tokio::test]
async fn bad_offers_are_refused_before_the_backend() {
    let config = Config {
        max_sdp_bytes: 1000,
        ..Config::default()
    };
    let surface = Surface::new(config);
    let sdp = [("content-type", "application/sdp")];
    surface
        .ask("POST", "/whip/demo", &sdp, "")
        .await
        .problem(400);
    surface
        .ask("POST", "/whip/demo", &sdp, "hello")
        .await
        .problem(400);
    surface
        .ask(
            "POST",
            "/whip/demo",
            &sdp,
            &format!("v=0{}", "x".repeat(1000)),
        )
        .await
        .problem(413);
    let not_utf8 = Request::post("/whip/demo").header("content-type", "application/sdp");
    surface
        .send(not_utf8.body(Body::from(vec![0xff; 10])).unwrap())
        .await
        .problem(400);
    // Without a length, the limit bites while reading.
    let chunks =
        futures_util::stream::iter((0..50).map(|_| Ok::<_, std::io::Error>(vec![b'v'; 100])));
    let endless = Request::post("/whip/demo").header("content-type", "application/sdp");
    surface
        .send(endless.body(Body::from_stream(chunks)).unwrap())
        .await
        .problem(413);
    assert!(surface.backend.log().is_empty());
}

#[tokio::test]
async fn identifiers_and_roles_are_parsed() {
    let surface = Surface::open();
    let field = |answer: super::fake::Answer| answer.problem(400).unwrap();
    assert_eq!(field(surface.offer("/whip/de.mo").await), "channel");
    assert_eq!(
        field(surface.offer(&format!("/whip/{}", "x".repeat(65))).await),
        "channel"
    );
    assert_eq!(
        field(surface.offer("/whip/demo?participant=a%20b").await),
        "participant"
    );
    assert_eq!(field(surface.offer("/whip/demo?role=king").await), "role");
    assert!(surface.backend.log().is_empty());
}

#[tokio::test]
async fn every_error_of_the_backend_has_its_status() {
    let surface = Surface::open();
    for (error, status) in errors() {
        surface.backend.fail(error.clone());
        let answer = surface.offer("/whip/demo").await;
        let field = answer.problem(status.as_u16());
        let by_field = matches!(error, Error::Malformed(_) | Error::Unprocessable(_));
        assert_eq!(field.is_some(), by_field, "{error:?}");
        let retry = matches!(
            error,
            Error::TooManyRequests { .. } | Error::Unavailable { .. }
        );
        assert_eq!(answer.header("retry-after"), if retry { "3" } else { "" });
        assert_eq!(answer.header("www-authenticate") == "Bearer", status == 401);
        assert!(!answer.body.contains("secret"), "{}", answer.body);
        assert_eq!(answer.header("access-control-allow-origin"), "*");
    }
}

#[tokio::test]
async fn another_nodes_channel_is_a_redirect_there() {
    let surface = Surface::open();
    let elsewhere = || Error::OwnedElsewhere {
        base_url: "http://b:8080/".to_owned(),
    };
    surface.backend.fail(elsewhere());
    let answer = surface.offer("/whip/demo?participant=alice").await;
    answer.problem(307);
    assert_eq!(
        answer.header("location"),
        "http://b:8080/whip/demo?participant=alice"
    );
    surface.backend.fail(elsewhere());
    // Browsers drop the header on the way to another host.
    let headers = [
        ("content-type", "application/sdp"),
        ("authorization", "Bearer t.o.k"),
    ];
    let answer = surface
        .ask("POST", "/whip/demo?participant=alice", &headers, OFFER)
        .await;
    assert_eq!(
        answer.header("location"),
        "http://b:8080/whip/demo?participant=alice&token=t.o.k"
    );
    surface.backend.fail(elsewhere());
    let answer = surface
        .json("PUT", "/api/v1/channels/demo/mode", r#"{"mode":"solo"}"#)
        .await;
    answer.problem(307);
    assert_eq!(
        answer.header("location"),
        "http://b:8080/api/v1/channels/demo/mode"
    );
    surface.backend.fail(Error::OwnedElsewhere {
        base_url: "http://b\n".to_owned(),
    });
    surface.offer("/whip/demo").await.problem(502);
}

#[tokio::test]
async fn candidates_and_restarts_need_the_entity_tag() {
    let surface = Surface::open();
    let at = "/whip/demo/sessions/s1";
    let patch = |tag: &'static str, body: &'static str| {
        let request = request("PATCH", at, &[FRAGMENT, ("if-match", tag)], body);
        surface.send(request)
    };
    let field = surface
        .ask("PATCH", at, &[FRAGMENT], "a=candidate:1")
        .await
        .problem(428);
    assert_eq!(field.as_deref(), Some("If-Match"));
    patch("\"old\"", "a=candidate:1").await.problem(412);
    let trickled = patch("\"e1\"", "a=candidate:1").await;
    assert_eq!((trickled.status, trickled.body.as_str()), (204, ""));
    let restarted = patch("*", "a=ice-ufrag:x").await;
    assert_eq!(restarted.status, 200);
    assert_eq!(restarted.header("etag"), "\"e2\"");
    assert_eq!(restarted.header("content-type"), FRAGMENT.1);
    assert_eq!(restarted.body, "a=ice-ufrag:new\r\n");
    assert_eq!(
        surface.backend.log(),
        [
            "patch s1 Some(\"old\")",
            "patch s1 Some(\"e1\")",
            "patch s1 None"
        ]
    );
    surface
        .ask("PATCH", at, &[("content-type", "application/sdp")], "x")
        .await
        .problem(415);
    surface
        .ask("PATCH", "/whip/demo/sessions/a.b", &[FRAGMENT], "x")
        .await
        .problem(404);
}

#[tokio::test]
async fn sessions_end_by_delete() {
    let surface = Surface::open();
    assert_eq!(
        surface
            .ask("DELETE", "/whip/demo/sessions/s1", &[], "")
            .await
            .status,
        200
    );
    assert_eq!(
        surface
            .ask("DELETE", "/whep/demo/sessions/s2", &[], "")
            .await
            .status,
        200
    );
    assert_eq!(
        surface.backend.log(),
        ["delete demo s1 Publish", "delete demo s2 Play"]
    );
    surface.backend.fail(Error::NotFound("session"));
    surface
        .ask("DELETE", "/whip/demo/sessions/s1", &[], "")
        .await
        .problem(404);
}

#[tokio::test]
async fn other_methods_are_405() {
    let surface = Surface::open();
    for (method, at) in [
        ("GET", "/whip/demo"),
        ("PUT", "/whip/demo"),
        ("GET", "/whip/demo/sessions/s1"),
        ("POST", "/whip/demo/sessions/s1"),
        ("GET", "/whep/demo"),
    ] {
        let answer = surface.ask(method, at, &[], "").await;
        answer.problem(405);
        assert!(answer.header("allow").contains(if at.contains("sessions") {
            "DELETE"
        } else {
            "POST"
        }));
    }
}

#[tokio::test]
async fn preflights_are_answered() {
    let surface = Surface::open();
    for method in ["POST", "PATCH", "DELETE"] {
        for at in [
            "/whip/demo",
            "/whip/demo/sessions/s1",
            "/whep/demo",
            "/whep/demo/alice",
        ] {
            let headers = [
                ("origin", "https://studio.example"),
                ("access-control-request-method", method),
                (
                    "access-control-request-headers",
                    "authorization,content-type,if-match",
                ),
            ];
            let answer = surface.ask("OPTIONS", at, &headers, "").await;
            assert_eq!(answer.status, 204);
            assert_eq!(answer.header("access-control-allow-origin"), "*");
            assert!(
                answer
                    .header("access-control-allow-methods")
                    .contains(method)
            );
            let allowed = answer
                .header("access-control-allow-headers")
                .to_ascii_lowercase();
            for name in ["authorization", "content-type", "if-match"] {
                assert!(allowed.contains(name), "{allowed}");
            }
            assert_eq!(answer.header("accept-post"), "application/sdp");
        }
    }
}

#[tokio::test]
async fn without_tokens_foreign_pages_cannot_control() {
    let surface = Surface::open();
    let preflight = |origin: &'static str| {
        let headers = [("origin", origin), ("access-control-request-method", "PUT")];
        surface.send(request(
            "OPTIONS",
            "/api/v1/channels/demo/destinations",
            &headers,
            "",
        ))
    };
    for evil in [
        "https://evil.example",
        "null",
        "http://localhost.evil.example",
        "http://127.0.0.1.evil.example",
    ] {
        assert_eq!(
            preflight(evil).await.header("access-control-allow-origin"),
            "",
            "{evil}"
        );
    }
    for own in [
        "http://localhost:5173",
        "http://127.0.0.1:8080",
        "http://[::1]:8080",
    ] {
        assert_eq!(
            preflight(own).await.header("access-control-allow-origin"),
            own
        );
    }
}

#[tokio::test]
async fn sessions_are_limited_per_address() {
    let config = Config {
        session_burst: 2,
        session_rate_per_s: 0.5,
        ..Config::default()
    };
    let surface = Surface::new(config);
    let from = |ip: &str| {
        let mut request = request(
            "POST",
            "/whip/demo",
            &[("content-type", "application/sdp")],
            OFFER,
        );
        let peer: SocketAddr = format!("{ip}:4000").parse().unwrap();
        request.extensions_mut().insert(ConnectInfo(peer));
        surface.send(request)
    };
    assert_eq!(from("192.0.2.1").await.status, 201);
    assert_eq!(from("192.0.2.1").await.status, 201);
    let refused = from("192.0.2.1").await;
    refused.problem(429);
    assert_eq!(refused.header("retry-after"), "2");
    assert_eq!(from("192.0.2.2").await.status, 201);
}

#[tokio::test]
async fn behind_a_proxy_the_last_forwarded_address_counts() {
    let config = Config {
        session_burst: 1,
        trust_forwarded_for: true,
        ..Config::default()
    };
    let surface = Surface::new(config);
    let via = |list: &'static str| {
        let headers = [
            ("content-type", "application/sdp"),
            ("x-forwarded-for", list),
        ];
        surface.send(request("POST", "/whip/demo", &headers, OFFER))
    };
    assert_eq!(via("198.51.100.7, 192.0.2.1").await.status, 201);
    assert_eq!(
        via("198.51.100.8, 192.0.2.1").await.status,
        429,
        "the first entries are the client's claim"
    );
    assert_eq!(via("192.0.2.2").await.status, 201);
}

#[tokio::test]
async fn whep_plays_the_program_or_a_participant() {
    let surface = Surface::open();
    let program = surface.offer("/whep/demo").await;
    assert_eq!(
        (program.status, program.header("location")),
        (201, "/whep/demo/sessions/s1")
    );
    assert_eq!(surface.offer("/whep/demo/alice").await.status, 201);
    // A participant may be called like a path segment.
    assert_eq!(surface.offer("/whep/demo/sessions").await.status, 201);
    assert_eq!(
        surface.backend.log(),
        ["play demo program", "play demo alice", "play demo sessions"]
    );
}

#[tokio::test]
async fn a_session_whose_answer_nobody_heard_is_closed() {
    let gate = std::sync::Arc::new(tokio::sync::Notify::new());
    let fake = Fake {
        slow: Some(gate.clone()),
        ..Fake::default()
    };
    let config = Config {
        request_timeout: Duration::from_millis(20),
        ..Config::default()
    };
    let surface = Surface::with(fake, config);
    surface.offer("/whip/demo").await.problem(504);
    gate.notify_one();
    while surface.backend.log().len() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        surface.backend.log(),
        ["publish demo", "delete demo s1 Publish"]
    );
}

#[tokio::test]
async fn unsupported_offers_say_which_part() {
    let surface = Surface::open();
    surface.backend.fail(Error::Unprocessable(Invalid::new(
        "offer",
        "no H.264 in the offer",
    )));
    let answer = surface.offer("/whip/demo").await;
    assert_eq!(answer.problem(422).as_deref(), Some("offer"));
    assert_eq!(answer.json()["detail"], "no H.264 in the offer");
}
