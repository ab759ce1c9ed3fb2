//! The settings of one simulation: small limits and short times, so that they are met.

use std::time::Duration;

use ipc_runtime::{Channel, ChannelBuilder, IpcConfig, Server, ServerBuilder};

use super::random::Random;

#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    /// In milliseconds.
    pub(super) read_timeout: u64,
    pub(super) write_timeout: u64,
    max_frame_bytes: usize,
    max_connections: usize,
    max_concurrent_calls: u32,
    max_total_calls: usize,
    max_request_bytes: u64,
    client_credit: u64,
    server_credit: u64,
    pub(super) drain_timeout: Duration,
    pub(super) channels: usize,
    pub(super) runtimes: usize,
}

impl Settings {
    pub(super) fn draw(random: &mut Random) -> Self {
        Self {
            // A third of it is whole milliseconds, too: runtimes round the rest as their clocks happen to stand.
            read_timeout: random.pick(&[450, 1500, 6000]),
            write_timeout: random.pick(&[200, 1000, 3000]),
            max_frame_bytes: random.pick(&[4096, 65_536, 1 << 20]),
            max_connections: random.pick(&[1, 2, 16]),
            max_concurrent_calls: random.pick(&[1, 4, 64]),
            max_total_calls: random.pick(&[3, usize::MAX, usize::MAX]),
            max_request_bytes: random.pick(&[2000, 1 << 24]),
            client_credit: random.pick(&[0, 100, 5000, 1 << 20]),
            server_credit: random.pick(&[0, 100, 5000, 1 << 20]),
            drain_timeout: random.millis(50, 1500),
            channels: random.between(1, 3),
            runtimes: random.pick(&[1, 2, 3]),
        }
    }

    pub(super) fn config(&self) -> IpcConfig {
        IpcConfig {
            read_timeout_ms: self.read_timeout,
            write_timeout_ms: self.write_timeout,
            max_frame_bytes: self.max_frame_bytes,
            max_connections: self.max_connections,
            ..IpcConfig::default()
        }
    }

    pub(super) fn hello_timeout(&self) -> Duration {
        Duration::from_millis(self.read_timeout.min(5000))
    }

    pub(super) fn server(&self) -> ServerBuilder {
        Server::builder()
            .max_concurrent_calls(self.max_concurrent_calls)
            .max_total_calls(self.max_total_calls)
            .max_request_bytes(self.max_request_bytes)
            .initial_credit(self.server_credit)
            .drain_timeout(self.drain_timeout)
    }

    pub(super) fn channel(&self) -> ChannelBuilder {
        Channel::builder(&self.config()).initial_credit(self.client_credit)
    }
}
