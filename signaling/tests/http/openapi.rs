//! The OpenAPI document: complete, and changed only on purpose.

use super::fake::Surface;

#[tokio::test]
async fn every_route_of_the_contract_is_documented() {
    let document = Surface::open().get("/api/v1/openapi.json").await.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    for (path, methods) in [
        ("/whip/{channel}", "post"),
        ("/whip/{channel}/sessions/{session}", "patch delete"),
        ("/whep/{channel}", "post"),
        ("/whep/{channel}/{participant}", "post"),
        ("/whep/{channel}/sessions/{session}", "patch delete"),
        ("/api/v1/channels", "get post"),
        ("/api/v1/channels/{id}", "get patch delete"),
        ("/api/v1/channels/{id}/mode", "put"),
        ("/api/v1/channels/{id}/layout", "put"),
        ("/api/v1/channels/{id}/slate", "put"),
        ("/api/v1/channels/{id}/pictures/{place}", "put get delete"),
        ("/api/v1/channels/{id}/switches", "get"),
        ("/api/v1/channels/{id}/participants", "get"),
        ("/api/v1/channels/{id}/participants/{pid}", "patch delete"),
        ("/api/v1/channels/{id}/invites", "post"),
        ("/api/v1/channels/{id}/links", "get post"),
        ("/api/v1/channels/{id}/links/{other}", "delete"),
        ("/api/v1/channels/{id}/destinations", "get put"),
        ("/api/v1/channels/{id}/stats", "get"),
        ("/api/v1/nodes", "get"),
        ("/api/v1/relays", "get"),
        ("/api/v1/events", "get"),
        ("/live/{channel}.flv", "get"),
        ("/live/{channel}/index.m3u8", "get"),
        ("/healthz", "get"),
        ("/readyz", "get"),
        ("/metrics", "get"),
    ] {
        for method in methods.split(' ') {
            let operation = &document["paths"][path][method];
            assert!(operation.is_object(), "{method} {path}");
            assert!(
                operation["responses"]["default"]["content"]["application/problem+json"]
                    .is_object()
            );
        }
    }
}

#[test]
fn every_reference_is_defined() {
    let text = signaling::openapi_document();
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    let parts = text.split("\"#/components/schemas/").skip(1);
    for name in parts.filter_map(|rest| rest.split('"').next()) {
        assert!(
            document["components"]["schemas"][name].is_object(),
            "{name}"
        );
    }
}

#[test]
fn the_document_changes_only_on_purpose() {
    insta::assert_snapshot!("openapi", signaling::openapi_document());
}
