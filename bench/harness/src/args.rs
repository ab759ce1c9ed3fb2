//! What a contestant's program is told on its command line.

use crate::stats::enable_syscalls;
use crate::*;
use std::time::Duration;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    Server,
    Client,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Workload {
    Echo,
    List,
    Stream,
}

#[derive(Clone, Debug)]
pub struct Args {
    pub mode: Mode,
    pub sock: PathBuf,
    /// false: current_thread
    pub multi: bool,
    pub workers: usize,
    pub workload: Workload,
    /// echo: payload bytes; list: records; stream: bytes per message
    pub size: u32,
    /// stream: messages per stream
    pub count: u32,
    pub conns: usize,
    /// in-flight calls per connection
    pub inflight: usize,
    /// echo: calls of `beside_size` bytes in flight on the first connection that are not measured
    pub beside: usize,
    pub beside_size: u32,
    pub warm: Duration,
    pub measure: Duration,
    pub syscalls: bool,
}

pub fn parse_args() -> Result<Args> {
    let mut it = std::env::args().skip(1);
    let mode = match it.next().as_deref() {
        Some("server") => Mode::Server,
        Some("client") => Mode::Client,
        _ => bail!(
            "usage: PEER server|client --sock PATH [--rt mt|ct] [--workload echo|list|stream] [--size N] [--count N] [--conns N] [--inflight N] [--beside N] [--beside-size N] [--warm-ms N] [--measure-ms N] [--workers N] [--syscalls]"
        ),
    };
    let mut a = Args {
        mode,
        sock: PathBuf::new(),
        multi: true,
        workers: 2,
        workload: Workload::Echo,
        size: 64,
        count: 1000,
        conns: 1,
        inflight: 1,
        beside: 0,
        beside_size: 0,
        warm: Duration::from_millis(150),
        measure: Duration::from_millis(500),
        syscalls: false,
    };
    while let Some(k) = it.next() {
        if k == "--syscalls" {
            a.syscalls = true;
            continue;
        }
        let v = it.next().with_context(|| format!("{k} needs a value"))?;
        match k.as_str() {
            "--sock" => a.sock = v.into(),
            "--rt" => a.multi = v == "mt",
            "--workers" => a.workers = v.parse()?,
            "--workload" => {
                a.workload = match v.as_str() {
                    "echo" => Workload::Echo,
                    "list" => Workload::List,
                    "stream" => Workload::Stream,
                    _ => bail!("workload {v}"),
                }
            }
            "--size" => a.size = v.parse()?,
            "--count" => a.count = v.parse()?,
            "--conns" => a.conns = v.parse()?,
            "--inflight" => a.inflight = v.parse()?,
            "--beside" => a.beside = v.parse()?,
            "--beside-size" => a.beside_size = v.parse()?,
            "--warm-ms" => a.warm = Duration::from_millis(v.parse()?),
            "--measure-ms" => a.measure = Duration::from_millis(v.parse()?),
            _ => bail!("unknown flag {k}"),
        }
    }
    ensure!(!a.sock.as_os_str().is_empty(), "--sock is required");
    if a.syscalls {
        // Before any other thread exists: later threads inherit the counters.
        enable_syscalls();
    }
    Ok(a)
}
