//! Fuzz tests of all code that reads a peer's bytes, with random inputs and a corpus.
//!
//! Each test takes plain bytes. A test that needs structured input builds it from the bytes with a [`Source`]. A normal run
//! uses the corpus in `testdata/fuzz` and a fixed number of inputs that are always the same. With `FUZZ_SECONDS` in the
//! environment, each test runs for that time, each time with other inputs. An input that fails is made smaller and shown
//! in the format of the corpus.

mod connections;
mod envelopes;
mod frames;
mod grammar;
mod hellos;
mod paths;

use std::fmt;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

/// One input, shown in the format of the corpus.
#[derive(Clone)]
struct Input(Vec<u8>);

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Tests a corpus, and then `cases` inputs of up to `length` bytes, or as many as there is time for.
fn run(corpus: &str, cases: u32, length: usize, judge: impl Fn(&[u8])) {
    let known: Vec<Vec<u8>> = corpus.lines().filter_map(bytes_of).collect();
    for input in &known {
        judge(input);
    }
    let inputs = inputs(known, length);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let time =
        std::env::var("FUZZ_SECONDS").ok().map(|seconds| seconds.parse().expect("FUZZ_SECONDS is a number"));
    let Some(time) = time.map(Duration::from_secs) else {
        let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        return run_once(TestRunner::new_with_rng(config, rng), &inputs, &judge);
    };
    let began = Instant::now();
    while began.elapsed() < time {
        run_once(TestRunner::new(config.clone()), &inputs, &judge);
    }
}

fn run_once(mut runner: TestRunner, inputs: &impl Strategy<Value = Input>, judge: &impl Fn(&[u8])) {
    let ran = runner.run(inputs, |input| {
        judge(&input.0);
        Ok::<(), TestCaseError>(())
    });
    match ran {
        Ok(()) => {}
        Err(TestError::Fail(why, input)) => panic!("{why}\nname-of-the-trap: {input:?}"),
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
}

/// A line of a corpus is a name, a colon, and bytes in hexadecimal.
fn bytes_of(line: &str) -> Option<Vec<u8>> {
    let (_, hex) = line.split_once(": ")?;
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal bytes");
    Some((0..hex.len()).step_by(2).map(byte).collect())
}

/// How an input of the corpus is changed.
#[derive(Clone, Debug)]
enum Edit {
    Put(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Repeat(Index, usize),
    CutOff(Index),
}

fn inputs(known: Vec<Vec<u8>>, length: usize) -> impl Strategy<Value = Input> {
    let byte =
        prop_oneof![3 => any::<u8>(), 1 => 0_u8..16, 1 => prop::sample::select(vec![0x7f, 0x80, 0xff])];
    let edit = prop_oneof![
        4 => (any::<Index>(), byte.clone()).prop_map(|(at, byte)| Edit::Put(at, byte)),
        2 => (any::<Index>(), prop::collection::vec(byte.clone(), 1..8)).prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        2 => (any::<Index>(), 1_usize..16).prop_map(|(at, count)| Edit::Remove(at, count)),
        1 => (any::<Index>(), 1_usize..64).prop_map(|(at, count)| Edit::Repeat(at, count)),
        1 => any::<Index>().prop_map(Edit::CutOff),
    ];
    let has_corpus = !known.is_empty();
    let changed = (any::<Index>(), prop::collection::vec(edit, 0..5)).prop_map(move |(which, edits)| {
        let known = if known.is_empty() { Vec::new() } else { known[which.index(known.len())].clone() };
        Input(edits.into_iter().fold(known, apply))
    });
    prop_oneof![
        1 => prop::collection::vec(byte, 0..length).prop_map(Input),
        u32::from(has_corpus) => changed,
    ]
}

fn apply(mut bytes: Vec<u8>, edit: Edit) -> Vec<u8> {
    let end = bytes.len();
    let place = |at: Index| at.index(end + 1);
    let behind = |at: usize, count: usize| end.min(at + count);
    match edit {
        Edit::Put(at, byte) => {
            let at = place(at);
            bytes.splice(at..behind(at, 1), [byte]);
        }
        Edit::Insert(at, more) => {
            let at = place(at);
            bytes.splice(at..at, more);
        }
        Edit::Remove(at, count) => {
            let at = place(at);
            bytes.drain(at..behind(at, count));
        }
        Edit::Repeat(at, count) => {
            let at = place(at);
            bytes.extend_from_within(at..behind(at, count));
        }
        Edit::CutOff(at) => bytes.truncate(place(at)),
    }
    bytes
}

/// Makes decisions from an input's bytes. At the end of the input, all are 0.
struct Source<'a>(&'a [u8]);

impl Source<'_> {
    const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        byte
    }

    /// A number below `count`.
    fn below(&mut self, count: usize) -> usize {
        usize::from(self.byte()) % count
    }

    /// Whether a rare event happens. Never at the end of the input.
    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == count - 1
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn number(&mut self) -> u64 {
        let bytes: [u8; 8] = std::array::from_fn(|_| self.byte());
        u64::from_le_bytes(bytes)
    }
}
