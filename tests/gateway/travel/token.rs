//! Signed tokens, and the identity provider with their public keys.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::routing::get;
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Lifetime of a token in seconds: longer than a test takes.
const LIFETIME_S: u64 = 600;

/// Issues tokens.
pub struct Issuer {
    key: EcdsaKeyPair,
    random: SystemRandom,
}

/// Serves an issuer's public key.
pub struct Identity {
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Issuer {
    /// An issuer with a key of its own.
    pub fn new() -> Self {
        let (random, algorithm) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap();
        Self { key, random }
    }

    /// A token with these claims on top of the usual ones; a claim that is null is left out.
    pub fn token(&self, claims: &Value) -> String {
        let signed = unsigned("ES256", claims);
        let signature = self.key.sign(&self.random, signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// The public key, as a JSON Web Key Set.
    fn keys(&self) -> Value {
        let [_, point @ ..] = self.key.public_key().as_ref() else { panic!("a key has bytes") };
        let (x, y) = point.split_at(point.len() / 2);
        let [x, y] = [x, y].map(|half| URL_SAFE_NO_PAD.encode(half));
        json!({ "keys": [{ "kty": "EC", "crv": "P-256", "alg": "ES256", "kid": "one", "x": x, "y": y }] })
    }
}

impl Identity {
    /// Starts the provider of an issuer.
    pub async fn start(issuer: &Issuer) -> Self {
        let keys = issuer.keys();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/jwks.json", get(async move || Json(keys.clone())));
        let task = tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
        Self { address, task }
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An unsigned token.
pub fn unsigned_token(claims: &Value) -> String {
    format!("{}.", unsigned("none", claims))
}

fn unsigned(algorithm: &str, claims: &Value) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut all = json!({
        "iss": "https://identity.example.com",
        "aud": "travel",
        "exp": now + LIFETIME_S,
    });
    let all = all.as_object_mut().unwrap();
    for (name, value) in claims.as_object().unwrap() {
        all.insert(name.clone(), value.clone());
    }
    all.retain(|_, value| !value.is_null());
    let head = json!({ "alg": algorithm, "typ": "JWT", "kid": "one" });
    let encode = |value: String| URL_SAFE_NO_PAD.encode(value);
    format!("{}.{}", encode(head.to_string()), encode(json!(all).to_string()))
}
