//! Outages of Redis: they are told while it is away, and what was open before is not told again.

use super::{AlertFile, ask, received};
use crate::support::receiver::Receiver;
use crate::support::redis::Server;
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;

const PRIVATE: &str = "allow_private_addresses: true";

#[tokio::test]
async fn an_outage_of_redis_is_told_and_resolves_and_nothing_is_told_twice() {
    let Some(server) = Server::start(&[]) else { return };
    let receiver = Receiver::start(&[]).await;
    let file = AlertFile::new(&format!(
        "channels:\n  hook: {{ type: webhook, url: '{}', {PRIVATE} }}\n\
         alerts:\n  down: {{ when: store_down, severity: critical }}\n  idle: {{ when: queue, below: 1 }}\n  \
         quota: {{ when: threshold, percent: [80%] }}",
        receiver.url()
    ));
    let store = Store::Redis(server);
    let tollgate: Tollgate = file.serve(&store).await;
    let Store::Redis(mut server) = store else { unreachable!("it was put there") };
    assert_eq!(received(&receiver, 1).await[0].json()["data"]["rule"], "idle");
    server.kill();
    let down = received(&receiver, 2).await[1].json();
    assert_eq!(down["type"], "dev.tollgate.alert.firing.v1");
    assert_eq!(
        (&down["data"]["rule"], &down["data"]["severity"]),
        (&"down".into(), &"critical".into())
    );
    server.launch();
    let up = received(&receiver, 3).await[2].json();
    assert_eq!(
        (&up["type"], &up["data"]["rule"]),
        (&"dev.tollgate.alert.resolved.v1".into(), &"down".into())
    );
    assert_eq!(down["data"]["alert"], up["data"]["alert"]);
    // The book of the outage has gone to Redis, and the idle queue was told before.
    ask(&tollgate, "ann", 8).await;
    let last = received(&receiver, 4).await;
    assert_eq!((last[3].json()["data"]["rule"].as_str(), last.len()), (Some("quota"), 4));
}
