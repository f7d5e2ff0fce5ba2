//! What nobody sends who means well, on the ports and in the files: an answer or an error, and Tollgate goes on.

use bytes::Bytes;
use prost::Message;
use tonic::Code;

use crate::support::client::Http;
use crate::support::client::request;
use crate::support::eventually;
use crate::support::http2::Connection;
use crate::support::http2::framed;
use crate::support::http2::framed_bytes;
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;

const POLICY: &str = "{domain: shop, descriptors: [{key: user, limits: [1000/day]}]}";

const GZIP: [(&str, &[u8]); 1] = [("grpc-encoding", b"gzip")];

/// Whether one hit of alice's passes, and how many are left to her.
async fn left_to_alice(connection: &mut Connection, headers: &[(&str, &[u8])]) -> u32 {
    let ask = framed(&request("shop", &[&[("user", "alice")]]));
    let told = connection.send(ask, true, headers).await.told().await;
    told.verdict.unwrap_or_else(|| panic!("{} {}", told.code, told.text)).statuses[0]
        .limit_remaining
}

#[tokio::test]
async fn a_message_that_should_not_be_is_refused_and_the_next_one_is_answered() {
    let tollgate = Tollgate::serve(POLICY, &Store::Embedded).await;
    let mut connection = Connection::open(tollgate.grpc_address).await;
    let before = tollgate.memory_peak();
    let mut left = 1_000;
    let mut check = async |body: Bytes, headers: &[(&str, &[u8])], code: Code, text: &str| {
        // With one that is not whole the stream stays open.
        let told = connection.send(body, true, headers).await.told().await;
        assert!(told.code == code && told.text.contains(text), "{told:?} and not {code} {text}");
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
    // As many empty entries as fit, which are much larger once they are read.
    let mut message = request("shop", &[&[]]).encode_to_vec();
    message.truncate(message.len() - 2);
    let empty = b"\x0a\x00".repeat(130_000);
    message.extend([0x12, 0xa0, 0xef, 0x0f]);
    message.extend(empty);
    check(framed_bytes(0, &message), &[], Code::InvalidArgument, "entries").await;
    check(framed_bytes(0, b"\x0a\x02\xff\xfe"), &[], Code::Internal, "UTF-8").await;
    check(framed_bytes(0, &[0xff; 64]), &[], Code::Internal, "").await;
    check(framed_bytes(9, b""), &[], Code::Internal, "flag").await;
    let bomb = framed_bytes(1, b"\x1f\x8b\x08 a bomb, if anybody unpacked it");
    check(bomb.clone(), &GZIP, Code::Unimplemented, "gzip").await;
    check(bomb, &[], Code::Internal, "compressed").await;
    let twice = [framed_bytes(0, b""), framed_bytes(0, b"")].concat();
    check(twice.into(), &[], Code::InvalidArgument, "after the message").await;
    check(Bytes::from_static(b"\0\0"), &[], Code::Internal, "").await;
    assert_eq!(left_to_alice(&mut connection, &[("x-bytes", b"\xff\xfe\x80")]).await, left - 1);
    let peak = tollgate.memory_peak();
    assert!(peak - before <= 64 * 1024 * 1024, "{before} and then {peak}");
}

#[tokio::test]
async fn json_that_is_nested_without_end_is_refused() {
    let tollgate = Tollgate::serve(POLICY, &Store::Embedded).await;
    let url = format!("http://{}/json", tollgate.http_address);
    for text in ["[", "{\"domain\":", "{\"descriptors\":["] {
        let answer = Http::new().post(&url, &[], &text.repeat(10_000)).await;
        assert_eq!(answer.status, 400, "{text}");
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
        let told = format!("tollgate_reloads_total{{result=\"error\"}} {}\n", index + 1);
        eventually(&told, async || {
            let metrics = Http::new().get(&url, &[]).await.body;
            String::from_utf8_lossy(&metrics).contains(&told).then_some(())
        })
        .await;
        assert_eq!(left_to_alice(&mut connection, &[]).await, 999 - u32::try_from(index).unwrap());
    }
    let peak = tollgate.memory_peak();
    assert!(peak <= 128 * 1024 * 1024, "{peak}");
}
