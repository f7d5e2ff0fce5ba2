//! The channels besides webhooks: chats, PagerDuty, and e-mail at a real mail server.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use super::{AlertFile, ask, received};
use crate::support::process::Process;
use crate::support::receiver::Receiver;
use crate::support::store::Store;
use crate::support::tls::Authority;
use crate::support::{eventually, find_program};

/// The folder in which `tests/run.sh` installs the mail server.
const INSTALLED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/mail");

const RULE: &str = "alerts:\n  quota: { when: threshold, percent: [80%], summary: see <the> wiki }";

#[tokio::test]
async fn chats_and_pagerduty_get_what_they_expect() {
    let receivers =
        [Receiver::start(&[]).await, Receiver::start(&[]).await, Receiver::start(&[]).await];
    let file = AlertFile::new("alerts: {}");
    let (url, key) = (file.beside("url"), file.beside("key"));
    fs::write(&url, format!("{}\n", receivers[0].url())).unwrap();
    fs::write(&key, "R0UT1NG\n").unwrap();
    let private = "allow_private_addresses: true";
    file.edit(&format!(
        "channels:\n  slack: {{ type: slack, url_file: {}, {private} }}\n  \
         discord: {{ type: discord, url: '{}', {private} }}\n  \
         pager: {{ type: pagerduty, url: '{}', secret_file: {}, {private} }}\n{RULE}",
        url.display(),
        receivers[1].url(),
        receivers[2].url(),
        key.display()
    ));
    let tollgate = file.serve(&Store::Embedded).await;
    ask(&tollgate, "@everyone<&>", 8).await;
    let slack = received(&receivers[0], 1).await[0].json();
    let text = slack["text"].as_str().unwrap();
    assert!(
        text.starts_with("[FIRING] warning: @everyone&lt;&amp;&gt; has used 80% of daily"),
        "{text}"
    );
    assert!(text.contains("see &lt;the&gt; wiki"), "{text}");
    let discord = received(&receivers[1], 1).await[0].json();
    assert!(
        discord["content"].as_str().unwrap().contains("@everyone<&> has used 80%"),
        "{discord}"
    );
    assert_eq!(discord["allowed_mentions"]["parse"], Value::Array(Vec::new()));
    let event = received(&receivers[2], 1).await[0].json();
    assert_eq!(
        (&event["routing_key"], &event["event_action"]),
        (&"R0UT1NG".into(), &"trigger".into())
    );
    assert_eq!(event["payload"]["severity"], "warning");
    assert!(event["dedup_key"].as_str().unwrap().len() == 16, "{event}");
}

#[tokio::test]
async fn templates_make_the_texts_and_one_that_fails_loses_nothing() {
    let receivers =
        [Receiver::start(&[]).await, Receiver::start(&[]).await, Receiver::start(&[]).await];
    let private = "allow_private_addresses: true";
    let text = format!(
        "channels:\n  slack: {{ type: slack, url: '{}', {private}, title: '<https://wiki.example|{{{{ alert.labels.caller }}}}>',\n    \
         text: '{{{{ alert.rule|upper }}}} at {{{{ alert.labels.percent }}}} %' }}\n  \
         hook: {{ type: webhook, url: '{}', {private}, title: 'quota of {{{{ alert.labels.caller }}}}', text: '{{{{ firing }}}}' }}\n  \
         broken: {{ type: discord, url: '{}', {private}, title: '{{{{ alert.labels.percent + 1 if alert.labels.percent == \"80\" }}}}' }}\n{RULE}",
        receivers[0].url(),
        receivers[1].url(),
        receivers[2].url(),
    );
    let tollgate = AlertFile::new(&text).serve(&Store::Embedded).await;
    ask(&tollgate, "<!here> & co", 8).await;
    let slack = received(&receivers[0], 1).await[0].json();
    assert_eq!(slack["text"], "<https://wiki.example|&lt;!here&gt; &amp; co>\nQUOTA at 80 %");
    let event = received(&receivers[1], 1).await[0].json();
    assert_eq!(event["type"], "dev.tollgate.quota.threshold.v1");
    assert_eq!(event["data"]["title"], "quota of <!here> & co");
    assert_eq!((&event["data"]["summary"], &event["data"]["rule"]), (&"1".into(), &"quota".into()));
    let discord = received(&receivers[2], 1).await[0].json();
    let content = discord["content"].as_str().unwrap();
    assert!(content.starts_with("[FIRING] warning: <!here> & co has used 80%"), "{content}");
    eventually("the failure in the log", async || {
        tollgate.output().contains("a template failed; the standard text is sent").then_some(())
    })
    .await;
}

#[tokio::test]
async fn mails_are_sent_over_starttls_and_over_tls_with_a_login() {
    let (Some(python), true) =
        (find_program("python3", "PYTHON", None), PathBuf::from(INSTALLED).is_dir())
    else {
        assert!(std::env::var_os("CI").is_none(), "run tests/run.sh --install");
        return;
    };
    for mode in ["starttls", "always"] {
        let file = AlertFile::new("alerts: {}");
        let authority = Authority::new();
        let certificate = authority.sign_for("localhost");
        let write = |name: &str, text: &str| {
            let path = file.beside(name);
            fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let (cert, key) =
            (write("cert.pem", &certificate.pem), write("key.pem", &certificate.key_pem));
        let (ca, password) = (write("ca.pem", authority.pem()), write("password", "secret\n"));
        let mut command = Command::new(&python);
        let port = crate::support::ports::free_port().to_string();
        command.env("PYTHONPATH", INSTALLED).arg("tests/gateway/alerts/mail_server.py");
        command.args([cert.as_str(), &key, &port, mode]);
        let server = Process::start("mail server", &mut command);
        eventually("the mail server", async || server.output().contains("port ").then_some(()))
            .await;
        file.edit(&format!(
            "channels:\n  mail: {{ type: email, host: localhost, port: {port}, tls: {mode}, user: toll, \
             secret_file: {password}, ca_file: {ca}, from: 'Tollgate <tollgate@example.com>', \
             to: [ops@example.com, eve@example.com], allow_private_addresses: true }}\n{RULE}"
        ));
        let tollgate = file.serve(&Store::Embedded).await;
        ask(&tollgate, "ann", 8).await;
        check_mail(&server).await;
    }
}

/// Checks the mail that a server got.
async fn check_mail(server: &Process) {
    let mail = eventually("a mail", async || {
        let output = server.output();
        output.lines().find_map(|line| serde_json::from_str::<Value>(line).ok())
    })
    .await;
    assert_eq!((&mail["tls"], &mail["user"]), (&true.into(), &"toll".into()));
    assert_eq!(mail["from"], "tollgate@example.com");
    assert_eq!(mail["to"], serde_json::json!(["ops@example.com", "eve@example.com"]));
    let text = mail["text"].as_str().unwrap();
    assert!(text.contains("Subject: [FIRING] warning: ann has used 80% of daily"), "{text}");
    assert!(text.contains("Message-ID: <ntf_") && text.contains("see <the> wiki"), "{text}");
}
