//! API keys of HTTP/2 and gRPC clients, and of websockets.

use std::net::SocketAddr;

use axum::http::{HeaderMap, Request};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::scene::{Keeper, POLICY};
use crate::support::store::Store;

/// Status and headers of the answer to a request over HTTP/2.
async fn ask(gateway: SocketAddr, headers: &[(&str, &str)]) -> (u16, HeaderMap) {
    ask_on(gateway, "/shop.Hotels/Find", headers).await
}

/// The same on a path.
async fn ask_on(gateway: SocketAddr, path: &str, headers: &[(&str, &str)]) -> (u16, HeaderMap) {
    let stream = TcpStream::connect(gateway).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let request = Request::post(format!("http://gateway{path}"));
    let request =
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let (answer, _) = client.send_request(request.body(()).unwrap(), true).unwrap();
    let (head, _) = answer.await.unwrap().into_parts();
    (head.status.as_u16(), head.headers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_2_and_grpc_clients_are_told_in_their_own_way() {
    let keeper = Keeper::start(POLICY, &Store::Embedded, &[]).await;
    let Some(gateway) = keeper.gateway().await else { return };
    let address = gateway.caller.address();
    let (key, _) = keeper.create(&json!({ "caller": "acme", "tier": "premium" })).await;
    let (grpc, key) = (("content-type", "application/grpc"), ("x-api-key", key.as_str()));
    assert_eq!(ask(address, &[key]).await.0, 200);
    assert_eq!(ask(address, &[]).await.0, 401);
    assert_eq!(ask(address, &[key, grpc]).await.0, 200);
    let (status, headers) = ask(address, &[grpc]).await;
    // The gRPC status for a missing authentication.
    assert_eq!((status, headers["grpc-status"].to_str().unwrap()), (200, "16"), "{headers:?}");
    // Another tier than it needs, and a limit of its own that is reached: the statuses that Envoy makes of 403 and 429.
    let form = json!({ "caller": "acme", "scopes": ["hotels:read"], "limits": ["1/hour"] });
    let (own, _) = keeper.create(&form).await;
    let own = ("x-api-key", own.as_str());
    for (path, expected) in
        [("/amadeus/Find", "7"), ("/shop.Hotels/Find", "0"), ("/shop.Hotels/Find", "14")]
    {
        let (status, headers) = ask_on(address, path, &[own, grpc]).await;
        let code = headers.get("grpc-status").map_or("0", |code| code.to_str().unwrap());
        assert_eq!((status, code), (200, expected), "{path}: {headers:?}");
    }
}

/// The head of the answer to a request for a websocket, and the connection.
async fn upgrade(gateway: SocketAddr, key: &str) -> (String, TcpStream) {
    let mut stream = TcpStream::connect(gateway).await.unwrap();
    let request = format!(
        "GET /chat HTTP/1.1\r\nhost: gateway\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         x-caller: root\r\n{key}\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    (String::from_utf8(head).unwrap(), stream)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_opens_with_an_api_key_alone() {
    let keeper = Keeper::start(POLICY, &Store::Embedded, &[]).await;
    let Some(gateway) = keeper.gateway().await else { return };
    let address = gateway.caller.address();
    let (key, id) = keeper.create(&json!({ "caller": "acme", "tier": "premium" })).await;
    let header = format!("x-api-key: {key}\r\n");
    let (head, mut stream) = upgrade(address, &header).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.contains("x-caller: acme\r\n"), "{head}");
    stream.write_all(b"hello").await.unwrap();
    let mut back = [0; 5];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"hello");
    for wrong in ["", "x-api-key: tg_wrong\r\n"] {
        let (head, _) = upgrade(address, wrong).await;
        assert!(head.starts_with("HTTP/1.1 401 "), "{head}");
        assert!(head.contains("content-type: application/problem+json\r\n"), "{head}");
    }
    // An open websocket outlives its API key: only new requests are checked.
    keeper.call("DELETE", &format!("/{id}"), &serde_json::Value::Null).await;
    let (head, _) = upgrade(address, &header).await;
    assert!(head.starts_with("HTTP/1.1 401 "), "{head}");
    stream.write_all(b"still").await.unwrap();
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!((&back, gateway.upstream.served()), (b"still", 1));
}
