//! What a peer names: methods and metadata keys. Whatever it is, the answer to it is short.

use super::{Source, run};
use crate::codegen::{ServerCall, Service};
use crate::metadata::Metadata;
use crate::server::router::Router;
use crate::text::ByteStr;

const CORPUS: &str = include_str!("../../../testdata/fuzz/paths.txt");

/// The most that an answer quotes of a name, with every character escaped.
const SHORT: usize = 4096;

struct Known;

impl Service for Known {
    const NAME: &'static str = "a.B";
    const METHODS: &'static [&'static str] = &["C", "D"];

    fn dispatch(&self, _: usize, _: ServerCall) {}
}

/// Pieces of names, some of them long.
fn name(source: &mut Source<'_>) -> Vec<u8> {
    let mut name = Vec::new();
    while !source.is_empty() {
        let pieces: [&[u8]; 8] =
            [b"/", b"a.B", b"/a.B/", b"C", b"\0", "\u{10ffff}".as_bytes(), &[0xff], b"\x1b["];
        match source.below(10) {
            8 => name.push(source.byte()),
            9 => name.extend(source.pick(&pieces).repeat(source.below(256) * 16)),
            piece => name.extend(pieces[piece]),
        }
    }
    name
}

fn judge_path(path: &[u8]) {
    let mut router = Router::default();
    router.add(Known);
    let known: [&[u8]; 2] = [b"/a.B/C", b"/a.B/D"];
    for mut last in [0, 1, usize::MAX] {
        match router.find(path, &mut last) {
            Ok(route) => assert_eq!((path, last), (known[route], route)),
            Err(status) => {
                assert!(!known.contains(&path));
                assert!(status.message().len() < SHORT, "{} bytes", status.message().len());
            }
        }
    }
}

fn judge_key(key: &[u8]) {
    let Some(key) = ByteStr::from_utf8(key.to_vec().into()) else { return };
    let is_right = !key.as_str().is_empty()
        && key.as_str().chars().all(|c| matches!(c, '0'..='9' | 'a'..='z' | '_' | '.' | '-'));
    let mut metadata = Metadata::new();
    metadata.push_unchecked("right".into(), bytes::Bytes::new());
    metadata.push_unchecked(key, bytes::Bytes::new());
    match metadata.first_bad_key() {
        None => assert!(is_right),
        Some(why) => {
            assert!(!is_right);
            assert!(why.len() < SHORT, "{} bytes", why.len());
        }
    }
}

#[test]
fn any_name_is_judged_in_few_words() {
    run(CORPUS, 2_000, 40, |input| {
        for name in [input.to_vec(), name(&mut Source(input))] {
            judge_path(&name);
            judge_key(&name);
        }
    });
}
