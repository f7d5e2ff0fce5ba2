//! API keys of HTTP/2 and gRPC clients.

use std::net::SocketAddr;

use axum::http::{HeaderMap, Request};
use serde_json::json;
use tokio::net::TcpStream;

use super::scene::{Keeper, POLICY};
use crate::support::store::Store;

/// Status and headers of the answer to a request over HTTP/2.
async fn ask(gateway: SocketAddr, headers: &[(&str, &str)]) -> (u16, HeaderMap) {
    let stream = TcpStream::connect(gateway).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let request = Request::post("http://gateway/shop.Hotels/Find");
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
}
