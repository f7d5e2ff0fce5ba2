//! The files that pages load: compiled into the program, named by their content, and kept by browsers for good.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

/// Digits of a hash in a name.
const HASH_LEN: usize = 8;

/// A file.
#[derive(Debug)]
pub struct Asset {
    /// With a part of the hash of its content.
    pub name: String,
    content_type: &'static str,
    content: &'static str,
}

pub static STYLE: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("style", "css", "text/css; charset=utf-8", include_str!("assets/style.css"))
});

pub static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    let content = include_str!("assets/dashboard.js");
    Asset::new("dashboard", "js", "text/javascript; charset=utf-8", content)
});

pub static ICON: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("icon", "svg", "image/svg+xml", include_str!("assets/icon.svg")));

impl Asset {
    fn new(stem: &str, ending: &str, content_type: &'static str, content: &'static str) -> Self {
        let hash = Sha256::digest(content);
        let hash: String = hash[..HASH_LEN].iter().map(|byte| format!("{byte:02x}")).collect();
        Self { name: format!("{stem}-{hash}.{ending}"), content_type, content }
    }

    /// Its path.
    pub fn path(&self) -> String {
        format!("/dashboard/assets/{}", self.name)
    }
}

/// Serves a file.
pub async fn serve(Path(name): Path<String>) -> Response {
    let all = [&*STYLE, &*SCRIPT, &*ICON];
    let Some(asset) = all.into_iter().find(|asset| asset.name == name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let headers = [
        (header::CONTENT_TYPE, asset.content_type),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'"),
    ];
    (headers, asset.content).into_response()
}
