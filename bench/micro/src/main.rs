//! Micro-benchmarks of what is this project's alone: frames, envelopes, checksums, the router. `./bench.py micro` runs
//! them; `cargo run --release -p micro -- --bench NAME` some of them.

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ipc_runtime::bench::{Envelopes, Routes, decode};
use ipc_runtime::codegen::{ServerCall, Service};
use ipc_runtime::{Crc32Variant, FrameCodec};

const SIZES: [usize; 4] = [64, 4 * 1024, 64 * 1024, 1024 * 1024];
const LIMIT: usize = 2 * 1024 * 1024;
const PATH: &str = "/bench.v1.Bench/Echo";

fn message(size: usize) -> Bytes {
    (0..=u8::MAX).cycle().take(size).collect()
}

fn checksums(c: &mut Criterion) {
    for variant in [Crc32Variant::Ieee, Crc32Variant::Castagnoli] {
        let mut group = c.benchmark_group(format!("checksum {variant}"));
        for size in SIZES {
            let bytes = message(size);
            group.throughput(Throughput::Bytes(size as u64));
            group.bench_function(BenchmarkId::from_parameter(size), |b| {
                b.iter(|| variant.checksum(black_box(&bytes)));
            });
        }
    }
}

/// A frame around a bare message, the checksum included.
fn frames(c: &mut Criterion) {
    let codec = FrameCodec::new(Crc32Variant::Ieee, LIMIT);
    let mut encode = c.benchmark_group("frame encode");
    let mut buffer = BytesMut::with_capacity(LIMIT);
    for size in SIZES {
        let bytes = message(size);
        encode.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter(|| {
                buffer.clear();
                codec.encode(black_box(&bytes), &mut buffer)
            });
        });
    }
    drop(encode);
    let mut decode = c.benchmark_group("frame decode");
    for size in SIZES {
        let mut frame = BytesMut::new();
        _ = codec.encode(&message(size), &mut frame);
        decode.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter_batched_ref(|| frame.clone(), |frame| codec.decode_frame(frame), BatchSize::LargeInput);
        });
    }
}

type Write = fn(&Envelopes, &mut BytesMut, &Bytes);

/// Whole frames of a call with a message of 64 bytes, in place; and what a frame's message says, both ways.
fn envelopes(c: &mut Criterion) {
    let (envelopes, bytes) = (Envelopes::new(Crc32Variant::Ieee, LIMIT), message(64));
    let mut buffer = BytesMut::with_capacity(4096);
    let kinds: [(&str, Write); 3] = [
        ("open", |e, buffer, bytes| e.open(buffer, 300, PATH, 30_000_000, bytes)),
        ("item", |e, buffer, bytes| e.item(buffer, 300, bytes)),
        ("close", |e, buffer, bytes| e.close(buffer, 300, bytes)),
    ];
    let codec = FrameCodec::new(Crc32Variant::Ieee, LIMIT);
    for (name, write) in kinds {
        c.bench_function(&format!("envelope encode/{name}"), |b| {
            b.iter(|| {
                buffer.clear();
                write(&envelopes, &mut buffer, black_box(&bytes));
            });
        });
        buffer.clear();
        write(&envelopes, &mut buffer, &bytes);
        let Ok(Some(frame)) = codec.decode_frame(&mut buffer) else { continue };
        c.bench_function(&format!("envelope decode/{name}"), |b| {
            b.iter(|| decode(black_box(&frame)));
        });
    }
}

/// A service with ten methods that nobody calls.
struct Ten<const NUMBER: usize>;

impl<const NUMBER: usize> Service for Ten<NUMBER> {
    const NAME: &'static str = ["bench.v1.Bench", "bench.v1.Second", "bench.v1.Third"][NUMBER];
    const METHODS: &'static [&'static str] =
        &["Echo", "List", "Watch", "Start", "Stop", "Pause", "Resume", "Kill", "Rename", "Describe"];

    fn dispatch(&self, _: usize, call: ServerCall) {
        call.unimplemented();
    }
}

fn router(c: &mut Criterion) {
    let routes = Routes::default().with(Ten::<0>).with(Ten::<1>).with(Ten::<2>);
    for (name, path) in [("one of 30 methods", PATH), ("no such method", "/bench.v1.Bench/Nothing")] {
        c.bench_function(&format!("router/{name}"), |b| {
            b.iter(|| routes.has(black_box(path)));
        });
    }
}

criterion_group!(ours, checksums, frames, envelopes, router);
criterion_main!(ours);
