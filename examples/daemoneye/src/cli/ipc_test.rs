//! `daemoneye-cli ipc test`: round trips of every payload size, checked and measured.

use std::io::{self, Write};

use anyhow::anyhow;
use bytes::Bytes;
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use ipc_runtime::IpcError;

use crate::client::Daemon;
use crate::human;
use crate::latency::{Latency, concurrent, sequential};
use crate::proto::{DiagnosticsClient, EchoMessage};
use crate::settings::Settings;
use crate::tables;

/// What the largest frame must hold beside the payload: its envelope, the method's name, the deadline.
const ENVELOPE_BYTES: usize = 128;

/// How many calls are under way at once in the last measurement.
const AT_ONCE: u64 = 16;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Which daemon to test
    #[arg(long, value_enum, default_value_t = Of::Procmond)]
    of: Of,
    /// How many calls of each payload size
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    calls: u64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Of {
    Procmond,
    Agent,
}

pub(super) async fn run(args: &Args, settings: &Settings) -> anyhow::Result<()> {
    let daemon = match args.of {
        Of::Procmond => Daemon::procmond(settings),
        Of::Agent => Daemon::agent(settings),
    };
    let echo = DiagnosticsClient::new(daemon.connect_now().await?);
    let sizes = payload_sizes(daemon.config.max_frame_bytes);
    let progress = progress_bar(args.calls * (sizes.len() as u64 + 1));
    let mut rows = Vec::new();
    for size in &sizes {
        let mut name = human::bytes(*size as u64);
        if sizes.last() == Some(size) {
            name.push_str(" (max)");
        }
        progress.set_message(name.clone());
        let measured = measure(&echo, args.calls, *size, &progress).await;
        rows.push((name, measured.map_err(|error| explain(error, &daemon))?));
    }
    progress.set_message(format!("{AT_ONCE} at once"));
    let measured = measure_at_once(&echo, args.calls).await;
    rows.push((format!("0 B, {AT_ONCE} at once"), measured.map_err(|error| explain(error, &daemon))?));
    progress.finish_and_clear();

    let mut out = io::stdout().lock();
    let calls: u64 = rows.iter().map(|(_, latency)| latency.calls()).sum();
    writeln!(out, "{}", tables::latencies("Payload", &rows))?;
    let (program, endpoint) = (daemon.program, &daemon.config.endpoint_path);
    let (count, crc) = (human::count(calls), daemon.config.crc32_variant);
    writeln!(
        out,
        "ok: {count} round trips to {program} at {endpoint} came back as they were sent ({crc} checksums)"
    )?;
    Ok(())
}

/// Powers between nothing and the largest payload that a frame holds.
fn payload_sizes(max_frame_bytes: usize) -> Vec<usize> {
    let max = max_frame_bytes.saturating_sub(ENVELOPE_BYTES);
    let mut sizes: Vec<usize> =
        [0, 1, 64, 1024, 16 * 1024, 64 * 1024, 256 * 1024, 1024 * 1024, 16 * 1024 * 1024]
            .into_iter()
            .filter(|size| *size < max)
            .collect();
    sizes.push(max);
    sizes
}

#[derive(Debug, thiserror::Error)]
enum TestError {
    #[error(transparent)]
    Ipc(#[from] IpcError),
    #[error("a payload of {sent} bytes came back different ({received} bytes)")]
    Different { sent: usize, received: usize },
}

fn explain(error: TestError, daemon: &Daemon) -> anyhow::Error {
    match error {
        TestError::Ipc(error) => daemon.explain(&error).into(),
        TestError::Different { .. } => {
            anyhow!("{} at {}: {error}", daemon.program, daemon.config.endpoint_path)
        }
    }
}

async fn measure(
    echo: &DiagnosticsClient,
    calls: u64,
    size: usize,
    progress: &ProgressBar,
) -> Result<Latency, TestError> {
    let payload = payload(size);
    sequential(calls, async || round_trip(echo, payload.clone()).await, || progress.inc(1)).await
}

async fn measure_at_once(echo: &DiagnosticsClient, calls: u64) -> Result<Latency, TestError> {
    let echo = echo.clone();
    let call = move || {
        let echo = echo.clone();
        async move { round_trip(&echo, Bytes::new()).await }
    };
    concurrent(calls, AT_ONCE, call).await
}

async fn round_trip(echo: &DiagnosticsClient, payload: Bytes) -> Result<usize, TestError> {
    let received = echo.echo(EchoMessage { payload: payload.clone() }).await?.into_inner().payload;
    if received == payload {
        Ok(received.len())
    } else {
        Err(TestError::Different { sent: payload.len(), received: received.len() })
    }
}

/// Bytes without a pattern that a mistake could repeat (Knuth's MMIX generator).
fn payload(size: usize) -> Bytes {
    let mut state = 1_u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(size).collect()
}

/// On standard error, and only where that is a terminal.
fn progress_bar(calls: u64) -> ProgressBar {
    let bar = ProgressBar::new(calls);
    if let Ok(style) = ProgressStyle::with_template("{bar:32} {percent:>3}% {msg}") {
        bar.set_style(style);
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_go_from_nothing_to_the_largest_that_fits() {
        assert_eq!(payload_sizes(4096), [0, 1, 64, 1024, 3968]);
        assert_eq!(payload_sizes(1024 + 128), [0, 1, 64, 1024]);
        assert_eq!(payload_sizes(1024 * 1024).last(), Some(&(1024 * 1024 - 128)));
    }

    #[test]
    fn payloads_have_their_size_and_many_values() {
        assert!(payload(0).is_empty());
        let payload = payload(4096);
        assert_eq!(payload.len(), 4096);
        assert!((0..=255).all(|byte| payload.contains(&byte)));
    }
}
