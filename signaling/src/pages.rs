//! The pages inside the binary: console, studio, player, and their files.
//!
//! In debug builds the files are read from `web/dist` at run time, in release builds they are compiled in.
//! File names below `assets/` carry a hash of their content, so they are cached for ever; pages never are.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

use crate::api::App;
use crate::problem::Problem;

#[derive(rust_embed::Embed)]
#[folder = "../web/dist"]
#[allow_missing = true]
struct Files;

const NOT_BUILT: &str = "<!doctype html><meta charset=utf-8><title>AnchorNet</title>\
<h1>The pages are not built</h1>\
<p>This binary was made without its pages. Run <code>make web</code> and build again.</p>\
<p>The server works: <a href=/readyz>readiness</a>, <a href=/api/v1/channels>channels</a>, \
<a href=/api/v1/openapi.json>API</a>.</p>\n";

/// The console.
pub(crate) async fn console(State(app): State<App>) -> Response {
    page(&app, "index.html")
}

/// The broadcaster's page.
pub(crate) async fn studio(State(app): State<App>) -> Response {
    page(&app, "studio.html")
}

/// The viewer's page.
pub(crate) async fn watch(State(app): State<App>) -> Response {
    page(&app, "watch.html")
}

fn page(app: &App, name: &str) -> Response {
    let (status, html) = match Files::get(name) {
        Some(file) => (StatusCode::OK, file.data.into_owned()),
        None => (
            StatusCode::SERVICE_UNAVAILABLE,
            NOT_BUILT.as_bytes().to_vec(),
        ),
    };
    let mut response = (status, html).into_response();
    let headers = response.headers_mut();
    let fixed = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // The address may hold a token.
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let permissions =
        HeaderValue::from_static("camera=(self), microphone=(self), display-capture=(self)");
    headers.insert("permissions-policy", permissions);
    if let Ok(policy) = HeaderValue::from_str(&content_security_policy(app.connect_sources())) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

/// Nothing from other hosts; players decode in workers made from blobs and feed media from blobs.
fn content_security_policy(connect: impl Iterator<Item = String>) -> String {
    let connect = connect.fold(String::new(), |list, source| list + " " + &source);
    format!(
        "default-src 'self'; script-src 'self' blob:; worker-src 'self' blob:; style-src 'self'; \
         img-src 'self' data: blob:; font-src 'self' data:; media-src 'self' blob:; connect-src 'self' blob: data:{connect}; \
         object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'"
    )
}

/// A file of `web/dist`, if `uri` is one.
pub(crate) fn file(uri: &Uri, headers: &HeaderMap) -> Option<Response> {
    let path = uri.path().strip_prefix('/')?;
    if path.ends_with(".html")
        || path
            .split('/')
            .any(|part| part.is_empty() || part.starts_with('.'))
    {
        return None;
    }
    let file = Files::get(path)?;
    let etag = file
        .metadata
        .sha256_hash()
        .iter()
        .take(16)
        .fold(String::from("\""), |hex, byte| hex + &format!("{byte:02x}"))
        + "\"";
    let immutable = path.starts_with("assets/");
    let cache = if immutable {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    let known = headers
        .get(header::IF_NONE_MATCH)
        .is_some_and(|value| value.as_bytes() == etag.as_bytes());
    let mut response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        file.data.into_owned().into_response()
    };
    let out = response.headers_mut();
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    out.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    if let Ok(kind) = HeaderValue::from_str(file.metadata.mimetype()) {
        out.insert(header::CONTENT_TYPE, kind);
    }
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        out.insert(header::ETAG, etag);
    }
    Some(response)
}

/// What no route took: a file, or a problem.
pub(crate) async fn file_or_not_found(
    method: axum::http::Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let reads = method == axum::http::Method::GET || method == axum::http::Method::HEAD;
    if let Some(response) = reads.then(|| file(&uri, &headers)).flatten() {
        return response;
    }
    Problem::new(
        StatusCode::NOT_FOUND,
        format!("nothing is served at {}", uri.path()),
    )
    .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_cannot_leave_the_folder() {
        for bad in [
            "/../Cargo.toml",
            "/assets/../../Cargo.toml",
            "/.git/config",
            "//etc/passwd",
            "/assets//x",
        ] {
            assert!(
                file(&Uri::from_static(bad), &HeaderMap::new()).is_none(),
                "{bad}"
            );
        }
    }

    #[test]
    fn the_policy_names_no_other_host_by_itself() {
        let policy = content_security_policy(std::iter::empty());
        assert!(!policy.contains("http") && !policy.contains('*') && !policy.contains("unsafe"));
        let policy = content_security_policy(["http://b:8080".to_owned()].into_iter());
        assert!(policy.contains("data: http://b:8080;"), "{policy}");
    }
}
