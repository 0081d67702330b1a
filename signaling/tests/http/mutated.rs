//! Inputs that nobody meant: whatever comes, the answer is a status of the contract and errors are problems.

use axum::body::Body;
use axum::http::Request;
use proptest::prelude::*;
use signaling::Config;

use super::fake::{OFFER, Surface};

fn answer_is_sound(request: Request<Body>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let surface = Surface::new(Config {
            session_burst: 0,
            ..Config::default()
        });
        let what = format!("{request:?}");
        let answer = surface.send(request).await;
        assert_ne!(answer.status, 500, "{what}: {}", answer.body);
        if answer.status >= 400 && !answer.header("content-type").starts_with("text/html") {
            answer.problem(answer.status);
        }
    });
}

fn mutated(text: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    (changes, any::<prop::sample::Index>()).prop_map(move |(changes, end)| {
        let mut bytes = text.as_bytes().to_vec();
        for (at, to) in changes {
            let at = at.index(bytes.len());
            bytes[at] = to;
        }
        bytes.truncate(end.index(bytes.len() + 1));
        bytes
    })
}

fn header_value() -> impl Strategy<Value = String> {
    "[ -~]{0,40}"
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn offers(body in mutated(OFFER), channel in "[a-zA-Z0-9_%-]{1,70}", query in "[a-z=&%0-9]{0,30}") {
        let target = format!("/whip/{channel}?{query}");
        prop_assume!(target.parse::<axum::http::Uri>().is_ok());
        let request = Request::post(target).header("content-type", "application/sdp");
        answer_is_sound(request.body(Body::from(body)).unwrap());
    }

    #[test]
    fn json(
        at in prop::sample::select(vec![
            ("POST", "/api/v1/channels"),
            ("PATCH", "/api/v1/channels/a"),
            ("PUT", "/api/v1/channels/a/mode"),
            ("PUT", "/api/v1/channels/a/layout"),
            ("PUT", "/api/v1/channels/a/slate"),
            ("PUT", "/api/v1/channels/a/destinations"),
            ("PATCH", "/api/v1/channels/a/participants/p"),
            ("POST", "/api/v1/channels/a/links"),
        ]),
        body in prop_oneof![
            mutated(r#"{"id":"a","title":"t","destinations":[{"url":"rtmp://h/a/k","name":"n"}]}"#),
            mutated(r#"{"name":"custom","tiles":[{"participant":"a","x":0,"y":0,"width":1,"height":1}]}"#),
            mutated(r#"[{"url":"rtmps://user:pw@[::1]:443/a/k?x=1","name":"n"}]"#),
            mutated(r#"{"mode":"collab","layout":"grid","participants":["a","b"]}"#),
            mutated(r#"{"channel":"b"}"#),
            mutated(r#"{"text":"Back soon\nat 12"}"#),
            mutated(r#"{"muted":true,"volume":1e38,"on_program":false}"#),
        ],
    ) {
        let request = Request::builder().method(at.0).uri(at.1).header("content-type", "application/json");
        answer_is_sound(request.body(Body::from(body)).unwrap());
    }

    #[test]
    fn headers(
        kind in header_value(), tag in header_value(), authorization in header_value(),
        origin in header_value(), forwarded in header_value(), length in header_value(),
        method in prop::sample::select(vec!["GET", "POST", "PATCH", "PUT", "DELETE", "OPTIONS", "TRACE", "X"]),
        at in prop::sample::select(vec!["/whip/a", "/whip/a/sessions/s", "/whep/a/b", "/api/v1/channels", "/", "/x"]),
    ) {
        let request = Request::builder()
            .method(method)
            .uri(at)
            .header("content-type", kind)
            .header("if-match", tag)
            .header("authorization", authorization)
            .header("origin", origin)
            .header("x-forwarded-for", forwarded)
            .header("content-length", length);
        answer_is_sound(request.body(Body::from("v=0")).unwrap());
    }
}
