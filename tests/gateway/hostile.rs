//! Hostile input on the ports and in the files: each gets an answer or an error, and Tollgate continues.

use axum::http::Request;
use bytes::Bytes;
use http_body_util::Full;
use prost::Message;
use tonic::Code;

use crate::support::client::{Http, request};
use crate::support::eventually;
use crate::support::http2::{Connection, framed, framed_bytes};
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;

const POLICY: &str = "{domain: shop, descriptors: [{key: user, limits: [1000/day]}]}";

const GZIP: [(&str, &[u8]); 1] = [("grpc-encoding", b"gzip")];

/// Whether one hit of alice's passes, and her remaining hits.
async fn left_to_alice(connection: &mut Connection, headers: &[(&str, &[u8])]) -> u32 {
    let ask = framed(&request("shop", &[&[("user", "alice")]]));
    let reported = connection.send(ask, true, headers).await.reported().await;
    reported.verdict.unwrap_or_else(|| panic!("{} {}", reported.code, reported.text)).statuses[0]
        .limit_remaining
}

#[tokio::test]
async fn a_message_that_should_not_be_is_refused_and_the_next_one_is_answered() {
    let tollgate = Tollgate::serve(POLICY, &Store::Embedded).await;
    let mut connection = Connection::open(tollgate.grpc_address).await;
    let before = tollgate.memory_peak();
    let mut left = 1_000;
    let mut check = async |body: Bytes, headers: &[(&str, &[u8])], code: Code, text: &str| {
        // With an incomplete message the stream stays open.
        let reported = connection.send(body, true, headers).await.reported().await;
        assert!(
            reported.code == code && reported.text.contains(text),
            "{reported:?} and not {code} {text}"
        );
        left -= 1;
        assert_eq!(left_to_alice(&mut connection, &[]).await, left, "after {text}");
    };
    let megabytes = "x".repeat(4 * 1024 * 1024);
    let large = framed(&request("shop", &[&[("user", &megabytes)]]));
    check(large, &[], Code::OutOfRange, "too large").await;
    let entries = vec![("user", "alice"); 5_000];
    let many = framed(&request("shop", &[&entries]));
    check(many, &[], Code::InvalidArgument, "entries").await;
    let descriptors: Vec<&[(&str, &str)]> = vec![&[("user", "alice")]; 5_000];
    let many = framed(&request("shop", &descriptors));
    check(many, &[], Code::InvalidArgument, "descriptors").await;
    // As many empty entries as fit, which are much larger when decoded.
    let mut message = request("shop", &[&[]]).encode_to_vec();
    message.truncate(message.len() - 2);
    let empty = b"\x0a\x00".repeat(130_000);
    message.extend([0x12, 0xa0, 0xef, 0x0f]);
    message.extend(empty);
    check(framed_bytes(0, &message), &[], Code::InvalidArgument, "entries").await;
    check(framed_bytes(0, b"\x0a\x02\xff\xfe"), &[], Code::InvalidArgument, "descriptor").await;
    check(framed_bytes(0, &[0xff; 64]), &[], Code::Internal, "").await;
    check(framed_bytes(9, b""), &[], Code::Internal, "flag").await;
    let bomb = framed_bytes(1, b"\x1f\x8b\x08 a bomb, if anybody unpacked it");
    check(bomb.clone(), &GZIP, Code::Unimplemented, "gzip").await;
    check(bomb, &[], Code::Internal, "compressed").await;
    let twice = [framed_bytes(0, b""), framed_bytes(0, b"")].concat();
    check(twice.into(), &[], Code::InvalidArgument, "after the message").await;
    check(Bytes::from_static(b"\0\0"), &[], Code::Internal, "").await;
    assert_eq!(left_to_alice(&mut connection, &[("x-bytes", b"\xff\xfe\x80")]).await, left - 1);
    let metrics = metrics(&tollgate).await;
    // An empty one came when the connection was opened.
    for (reason, count) in [
        ("too_large", 1),
        ("undecidable", 5),
        ("malformed", 5),
        ("compressed", 1),
        ("unknown_method", 0),
    ] {
        let line = format!("{{port=\"grpc\",reason=\"{reason}\"}} {count}\n");
        assert!(
            metrics.contains(&format!("tollgate_invalid_requests_total{line}")),
            "{line}{metrics}"
        );
    }
    let lines = tollgate.output();
    let lines = lines.lines().filter(|line| line.contains("invalid request; Envoy"));
    let lines: Vec<&str> = lines.collect();
    assert!(lines[0].contains("error=Missing request message"), "{lines:?}");
    let peak = tollgate.memory_peak();
    assert!(peak - before <= 64 * 1024 * 1024, "{before} and then {peak}");
}

async fn metrics(tollgate: &Tollgate) -> String {
    let url = format!("http://{}/metrics", tollgate.http_address);
    String::from_utf8(Http::new().get(&url, &[]).await.body.to_vec()).unwrap()
}

/// A request of the domain `shop` for one hit of a user with a name of any bytes.
fn asks_for(user: &[u8]) -> Bytes {
    let mut message = b"\x0a\x04shop".to_vec();
    let mut field = |len: usize, tag: u8| {
        message.push(tag);
        assert!(len < 128, "a length of one byte");
        message.push(u8::try_from(len).unwrap());
    };
    field(user.len() + 10, 0x12);
    field(user.len() + 8, 0x0a);
    message.extend(b"\x0a\x04user\x12");
    message.push(u8::try_from(user.len()).unwrap());
    message.extend(user);
    framed_bytes(0, &message)
}

#[tokio::test]
async fn whatever_bytes_name_a_user_the_user_has_a_limit_of_its_own() {
    const POLICY: &str = "{domain: shop, descriptors: [{key: user, limits: [2/day]}, {key: \"user\", value: \"pre*\", limits: [1/day]}]}";
    // Texts that an escape or a replacement could confuse.
    let users: [&[u8]; 9] = [
        b"k",
        b"k\xff",
        b"k\xfe",
        "k\u{fffd}".as_bytes(),
        "k\u{10ffff}ff".as_bytes(),
        "k\u{10ffff}".as_bytes(),
        br"k\xff",
        b"k\0",
        b"k\xed\xa0\x80",
    ];
    for store in Store::every() {
        let tollgate = Tollgate::serve(POLICY, &store).await;
        let mut connection = Connection::open(tollgate.grpc_address).await;
        let mut ask = async |user: &[u8]| {
            let reported = connection.send(asks_for(user), true, &[]).await.reported().await;
            reported
                .verdict
                .unwrap_or_else(|| panic!("{user:?}: {} {}", reported.code, reported.text))
                .overall_code
        };
        for user in users {
            assert_eq!([ask(user).await, ask(user).await, ask(user).await], [1, 1, 2], "{user:?}");
        }
        // The valid part still matches.
        assert_eq!([ask(b"pre\xff").await, ask(b"pre\xff").await], [1, 2]);
        // Both encodings share one counter.
        let url = format!("http://{}/json", tollgate.http_address);
        let start = br#"{"domain":"shop","descriptors":[{"entries":[{"key":"user","value":""#;
        let body = [start.as_slice(), b"k\xff", br#""}]}]}"#].concat();
        let ask = Request::post(&url).body(Full::from(body)).unwrap();
        assert_eq!(Http::new().send(ask).await.status, 429);
    }
}

/// A caller may fill the same header of 60 KiB into the descriptors of many actions.
#[tokio::test]
async fn a_caller_can_not_make_a_message_too_large() {
    const POLICY: &str = "{domain: shop, descriptors: [{key: user, limits: [1/day]}]}";
    let tollgate = Tollgate::serve(POLICY, &Store::Embedded).await;
    let mut connection = Connection::open(tollgate.grpc_address).await;
    let user = "x".repeat(60 * 1024);
    let entries = [("user", user.as_str())];
    let descriptors: Vec<&[(&str, &str)]> = vec![&entries; 16];
    for code in [2, 2] {
        let reported = connection.send(framed(&request("shop", &descriptors)), true, &[]).await;
        let reported = reported.reported().await;
        assert_eq!(
            reported.verdict.unwrap_or_else(|| panic!("{}", reported.text)).overall_code,
            code
        );
    }
}

#[tokio::test]
async fn json_that_is_nested_without_end_is_refused() {
    let tollgate = Tollgate::serve(POLICY, &Store::Embedded).await;
    let url = format!("http://{}/json", tollgate.http_address);
    for text in ["[", "{\"domain\":", "{\"descriptors\":["] {
        let answer = Http::new().post(&url, &[], &text.repeat(10_000)).await;
        assert_eq!(answer.status, 400, "{text}");
    }
    let large = format!("\"{}\"", "x".repeat(300 * 1024));
    assert_eq!(Http::new().post(&url, &[], &large).await.status, 413);
    assert_eq!(Http::new().post(&url, &[], "{}").await.status, 400);
    let metrics = metrics(&tollgate).await;
    for (reason, count) in [("too_large", 1), ("undecidable", 1), ("malformed", 3)] {
        let line = format!("{{port=\"http\",reason=\"{reason}\"}} {count}\n");
        assert!(
            metrics.contains(&format!("tollgate_invalid_requests_total{line}")),
            "{line}{metrics}"
        );
    }
    let whole = r#"{"domain":"shop","descriptors":[{"entries":[{"key":"user","value":"alice"}]}]}"#;
    assert_eq!(Http::new().post(&url, &[], whole).await.status, 200);
}

#[tokio::test]
async fn bombs_in_policies_change_nothing() {
    let tollgate = Tollgate::serve(POLICY, &Store::Embedded).await;
    let mut connection = Connection::open(tollgate.grpc_address).await;
    let url = format!("http://{}/metrics", tollgate.http_address);
    let laughs: String = (1..9)
        .map(|level| {
            format!("a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 9].join(", "))
        })
        .collect();
    let bombs = [
        format!("a0: &a0 [lol]\n{laughs}"),
        "[".repeat(100_000),
        format!("{}x", "- ".repeat(100_000)),
    ];
    for (index, bomb) in bombs.iter().enumerate() {
        tollgate.edit(bomb);
        let reported = format!("tollgate_reloads_total{{result=\"error\"}} {}\n", index + 1);
        eventually(&reported, async || {
            let metrics = Http::new().get(&url, &[]).await.body;
            String::from_utf8_lossy(&metrics).contains(&reported).then_some(())
        })
        .await;
        assert_eq!(left_to_alice(&mut connection, &[]).await, 999 - u32::try_from(index).unwrap());
    }
    let peak = tollgate.memory_peak();
    assert!(peak <= 128 * 1024 * 1024, "{peak}");
}
