//! `src/grpc/descriptors.bin`, which reflection serves, comes from the descriptors that envoy-types is generated from.
//!
//! After an update of envoy-types, or for another service, write it anew:
//! `UPDATE_EXPECTED=1 cargo test --locked --test tests -- descriptors`

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::{env, fs};

use prost::Message;
use prost::encoding::{DecodeContext, decode_key, skip_field};
use prost_types::FileDescriptorProto;

const COMMITTED: &str = "src/grpc/descriptors.bin";

/// The files whose services are served; reflection lists every service that it has a descriptor of.
const SERVED: &[&str] = &["envoy/service/ratelimit/v3/rls.proto"];

/// The field of a `FileDescriptorProto` that holds comments and positions, most of its bytes.
const SOURCE_CODE_INFO: u32 = 9;

/// A `FileDescriptorSet` whose files stay encoded: prost would drop custom options, such as rules of validation.
#[derive(Clone, PartialEq, Message)]
struct EncodedFiles {
    #[prost(bytes = "vec", repeated, tag = "1")]
    file: Vec<Vec<u8>>,
}

#[test]
fn the_descriptors_of_reflection_are_those_of_envoy_types() {
    let expected = descriptors_of(SERVED).encode_to_vec();
    if env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(COMMITTED, &expected).unwrap();
    }
    let committed = fs::read(COMMITTED).unwrap_or_default();
    assert!(
        committed == expected,
        "{COMMITTED} differs from envoy-types; check what changed there, and set UPDATE_EXPECTED=1 to rewrite it"
    );
}

/// The descriptors of `roots` and of all that they import, in the order of their paths.
fn descriptors_of(roots: &[&str]) -> EncodedFiles {
    let source = envoy_types().join("src/generated/types.bin");
    let whole = fs::read(&source).unwrap_or_else(|error| panic!("{}: {error}", source.display()));
    let files: BTreeMap<String, (Vec<String>, Vec<u8>)> = EncodedFiles::decode(whole.as_slice())
        .unwrap()
        .file
        .into_iter()
        .map(|encoded| {
            let file = FileDescriptorProto::decode(encoded.as_slice()).unwrap();
            (file.name().to_owned(), (file.dependency, encoded))
        })
        .collect();
    let mut wanted = BTreeSet::new();
    let mut left: Vec<&str> = roots.to_vec();
    while let Some(path) = left.pop() {
        if wanted.insert(path) {
            left.extend(files[path].0.iter().map(String::as_str));
        }
    }
    EncodedFiles { file: wanted.iter().map(|path| without_source(&files[*path].1)).collect() }
}

/// The same descriptor without comments and positions.
fn without_source(file: &[u8]) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut rest = file;
    while !rest.is_empty() {
        let field = rest;
        let (tag, wire_type) = decode_key(&mut rest).unwrap();
        skip_field(wire_type, tag, &mut rest, DecodeContext::default()).unwrap();
        if tag != SOURCE_CODE_INFO {
            kept.extend_from_slice(&field[..field.len() - rest.len()]);
        }
    }
    kept
}

/// Where cargo keeps the sources of envoy-types. `cargo metadata` can't be asked: it wants crates that a fresh machine
/// has not downloaded, such as those of other platforms.
fn envoy_types() -> PathBuf {
    let lock = fs::read_to_string("Cargo.lock").unwrap();
    let (_, package) = lock.split_once("name = \"envoy-types\"\nversion = \"").unwrap();
    let (version, _) = package.split_once('"').unwrap();
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.unwrap_or_else(|| env::home_dir().unwrap().join(".cargo"));
    let registries = fs::read_dir(home.join("registry/src")).unwrap();
    let mut folders =
        registries.map(|registry| registry.unwrap().path().join(format!("envoy-types-{version}")));
    folders.find(|folder| folder.is_dir()).unwrap_or_else(|| {
        panic!("envoy-types {version} is not in {}: run `cargo fetch`", home.display())
    })
}
