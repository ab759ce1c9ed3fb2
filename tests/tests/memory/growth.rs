//! Section 5: what a server charges for a request before it decodes it is at least what prost allocates for it.

use std::collections::HashMap;

use ipc_runtime::bench::estimate;
use prost::Message;

use crate::chance::{put_sized, run};
use crate::{Thing, alone, held};

/// The spare room of a list of numbers, as far as a server counts it.
const SPARE: usize = 16 * 1024;

/// Messages that know what they take that a server does not count.
trait Shape: Message + Default {
    /// Spare room in long lists of numbers.
    fn uncounted(&self) -> usize {
        0
    }
}

/// Everything that one message can hold many of.
#[derive(Clone, PartialEq, Message)]
struct Lists {
    #[prost(int64, repeated, tag = "1")]
    packed: Vec<i64>,
    #[prost(int64, repeated, packed = "false", tag = "2")]
    unpacked: Vec<i64>,
    #[prost(double, repeated, tag = "3")]
    doubles: Vec<f64>,
    #[prost(bool, repeated, tag = "4")]
    flags: Vec<bool>,
    #[prost(string, repeated, tag = "5")]
    texts: Vec<String>,
    #[prost(bytes = "vec", repeated, tag = "6")]
    blobs: Vec<Vec<u8>>,
    #[prost(uint32, repeated, tag = "7")]
    small: Vec<u32>,
    #[prost(message, repeated, tag = "8")]
    wide: Vec<Wide>,
    #[prost(group, repeated, tag = "9")]
    groups: Vec<Thing>,
    #[prost(message, optional, tag = "10")]
    open: Option<prost_types::Struct>,
    #[prost(string, tag = "11")]
    text: String,
}

fn spare<T>(list: &Vec<T>) -> usize {
    ((list.capacity() - list.len()) * size_of::<T>()).saturating_sub(SPARE)
}

impl Shape for Lists {
    fn uncounted(&self) -> usize {
        spare(&self.packed)
            + spare(&self.unpacked)
            + spare(&self.doubles)
            + spare(&self.flags)
            + spare(&self.small)
    }
}

/// 128 bytes and more in lists of its own.
#[derive(Clone, PartialEq, Message)]
struct Wide {
    #[prost(string, tag = "1")]
    a: String,
    #[prost(bytes = "vec", tag = "2")]
    b: Vec<u8>,
    #[prost(string, optional, tag = "3")]
    c: Option<String>,
    #[prost(string, tag = "4")]
    d: String,
    #[prost(string, tag = "5")]
    e: String,
    #[prost(uint64, tag = "6")]
    f: u64,
}

impl Shape for Wide {}

/// Itself in itself, in each way there is.
#[derive(Clone, PartialEq, Message)]
struct Tree {
    #[prost(message, repeated, tag = "1")]
    many: Vec<Tree>,
    #[prost(message, optional, boxed, tag = "2")]
    one: Option<Box<Tree>>,
    #[prost(oneof = "Either", tags = "3, 4, 5")]
    either: Option<Either>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Either {
    #[prost(message, tag = "3")]
    Tree(Box<Tree>),
    #[prost(string, tag = "4")]
    Text(String),
    #[prost(sint64, tag = "5")]
    Number(i64),
}

impl Shape for Tree {}

#[derive(Clone, PartialEq, Message)]
struct Maps {
    #[prost(message, repeated, tag = "1")]
    many: Vec<Map>,
    #[prost(map = "string, string", tag = "2")]
    texts: HashMap<String, String>,
    #[prost(map = "uint32, message", tag = "3")]
    things: HashMap<u32, Thing>,
    #[prost(map = "string, message", tag = "4")]
    nested: HashMap<String, Map>,
}

#[derive(Clone, PartialEq, Message)]
struct Map {
    #[prost(map = "string, string", tag = "1")]
    texts: HashMap<String, String>,
}

impl Shape for Maps {}

/// Decodes, and compares what that takes with what it was thought to take. Returns whether it was a message.
fn assert_counted<M: Shape>(bytes: &[u8]) -> bool {
    let (Ok(message), size) = held(|| M::decode(bytes)) else { return false };
    let taken = size - message.uncounted();
    let thought = usize::try_from(estimate(bytes)).unwrap();
    assert!(taken <= thought, "{} bytes took {taken}, thought to take {thought}", bytes.len());
    true
}

#[test]
fn messages_from_chance_take_no_more_than_was_thought() {
    assert_eq!((size_of::<Thing>(), size_of::<Wide>(), size_of::<Tree>()), (64, 128, 56));
    alone(async {
        run(600, |bytes| {
            _ = assert_counted::<Lists>(bytes);
            _ = assert_counted::<Wide>(bytes);
            _ = assert_counted::<Tree>(bytes);
            _ = assert_counted::<Maps>(bytes);
        });
    });
}

/// Numbers of things just above a power of two, where lists have the most room to spare.
const COUNTS: [usize; 10] = [1, 2, 4, 5, 9, 17, 129, 1025, 4097, 65_537];

#[test]
fn lists_with_the_most_room_to_spare_take_no_more_than_was_thought() {
    alone(async {
        for count in COUNTS {
            for length in 0..3 {
                let mut field = Vec::new();
                put_sized(&mut field, 5, &vec![b'x'; length]);
                assert!(assert_counted::<Lists>(&field.repeat(count)), "texts");
                field.clear();
                put_sized(&mut field, 6, &vec![b'x'; length]);
                assert!(assert_counted::<Lists>(&field.repeat(count)), "blobs");
            }
            for tag in [1, 4, 7] {
                let mut packed = Vec::new();
                put_sized(&mut packed, tag, &vec![1; count]);
                assert!(assert_counted::<Lists>(&packed), "packed");
            }
            let mut doubles = Vec::new();
            put_sized(&mut doubles, 3, &vec![1; 8 * count]);
            assert!(assert_counted::<Lists>(&doubles), "doubles");
            for field in [&[0x10, 1][..], &[0x08, 1], &[0x4b, 0x4c], &[0x0a, 1, 1]] {
                assert!(assert_counted::<Lists>(&field.repeat(count)), "numbers and groups");
            }
            if count >= 5 {
                assert!(assert_counted::<Lists>(&[0x42, 0].repeat(count)), "wide");
            }
            assert!(assert_counted::<Tree>(&[0x0a, 0].repeat(count)), "trees");
            assert!(assert_counted::<Tree>(&[0x0a, 2, 0x0a, 0].repeat(count)), "trees of one");
            assert!(assert_counted::<Maps>(&[0x0a, 2, 0x0a, 0].repeat(count)), "maps of one");
        }
    });
}

#[test]
fn maps_with_many_keys_take_no_more_than_was_thought() {
    alone(async {
        for count in COUNTS {
            let mut texts = Vec::new();
            let mut things = Vec::new();
            for key in 0..count {
                let text = prost::Message::encode_to_vec(&format!("{key:x}"));
                put_sized(&mut texts, 2, &text);
                let number = prost::Message::encode_to_vec(&u32::try_from(key).unwrap());
                put_sized(&mut things, 3, &number);
            }
            assert!(assert_counted::<Maps>(&texts), "texts");
            assert!(assert_counted::<Maps>(&things), "things");
        }
    });
}

#[test]
fn messages_in_messages_take_no_more_than_was_thought() {
    alone(async {
        for tag in [1, 2, 3] {
            let mut bytes = Vec::new();
            for depth in 1..99 {
                let inner = std::mem::take(&mut bytes);
                put_sized(&mut bytes, tag, &inner);
                assert!(assert_counted::<Tree>(&bytes), "{depth} deep by tag {tag}");
                assert!(assert_counted::<Tree>(&bytes.repeat(9)), "{depth} deep by tag {tag}, nine times");
            }
        }
    });
}
