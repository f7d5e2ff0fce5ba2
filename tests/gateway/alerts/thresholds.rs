//! Thresholds of quotas: each is told once, whatever the number of sidecars, with a signature.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

use super::{AlertFile, ask, received};
use crate::support::receiver::{Received, Receiver};
use crate::support::store::Store;

/// Whether the signature of a request is valid under the secret, computed by another library than Tollgate's.
fn is_signed(received: &Received, secret: &str) -> bool {
    let secret = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
    let (id, at) = (received.header("webhook-id"), received.header("webhook-timestamp"));
    let signed = [format!("{id}.{at}.").as_bytes(), &received.body].concat();
    received.header("webhook-signature").split(' ').any(|signature| {
        let signature = STANDARD.decode(signature.strip_prefix("v1,").unwrap()).unwrap();
        hmac::verify(&key, &signed, &signature).is_ok()
    })
}

#[tokio::test]
async fn each_threshold_is_notified_once_by_a_fleet() {
    for store in Store::every() {
        let receiver = Receiver::start(&[]).await;
        let file = AlertFile::new("alerts: {}");
        let (one, other) = (
            format!("whsec_{}", STANDARD.encode([1; 32])),
            format!("whsec_{}", STANDARD.encode([2; 32])),
        );
        let secrets = file.beside("secrets");
        fs::write(&secrets, format!("{one}\n{other}\n")).unwrap();
        file.edit(&format!(
            "channels:\n  hook: {{ type: webhook, url: '{}', secret_file: {}, allow_private_addresses: true }}\n\
             alerts:\n  quota: {{ when: threshold, percent: [80%, 100%], severity: error, summary: see the wiki }}",
            receiver.url(),
            secrets.display()
        ));
        let number = if matches!(store, Store::Embedded) { 1 } else { 3 };
        let mut sidecars = Vec::new();
        for _ in 0..number {
            sidecars.push(file.serve(&store).await);
        }
        for index in 0..12 {
            ask(&sidecars[index % number], "ann", 1).await;
        }
        // What comes later than another one that was sent after it would have come by then.
        ask(&sidecars[0], "bob", 8).await;
        let all = received(&receiver, 3).await;
        for (index, sidecar) in sidecars.iter().enumerate() {
            ask(sidecar, &format!("last{index}"), 8).await;
        }
        let last = received(&receiver, 3 + number).await;
        assert_eq!(last.len(), 3 + number, "{last:?}");
        let mut told: Vec<String> = all[..3]
            .iter()
            .map(|one| {
                format!("{} {}", one.json()["subject"], one.json()["data"]["labels"]["percent"])
            })
            .collect();
        told.sort();
        assert_eq!(told, [r#""ann" "100""#, r#""ann" "80""#, r#""bob" "80""#]);
        for one_of in &last {
            assert!(is_signed(one_of, &one) && is_signed(one_of, &other), "{one_of:?}");
            let wrong = format!("whsec_{}", STANDARD.encode([3; 32]));
            assert!(!is_signed(one_of, &wrong));
            let event = one_of.json();
            assert_eq!(event["specversion"], "1.0");
            assert_eq!(event["type"], "dev.tollgate.quota.threshold.v1");
            assert_eq!(event["id"], one_of.header("webhook-id"));
            assert_eq!(event["data"]["labels"]["limit"], "daily");
            assert_eq!(event["data"]["severity"], "error");
            assert_eq!(event["data"]["summary"], "see the wiki");
            assert_eq!(one_of.path, "/hook?a=b");
            assert!(one_of.header("content-type").starts_with("application/cloudevents+json"));
        }
    }
}
