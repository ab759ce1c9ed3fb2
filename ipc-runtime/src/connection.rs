//! One connection, the same for both sides: the write queue, the driver that reads, and each call's state.
//!
//! It knows frames, call ids and credit. It must not know methods, services, or why anybody calls.

pub(crate) mod alarm;
pub(crate) mod batch;
pub(crate) mod call;
pub(crate) mod clock;
pub(crate) mod driver;
pub(crate) mod handshake;
pub(crate) mod ids;
pub(crate) mod writer;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::Instant;

use self::alarm::Alarm;
use self::handshake::Agreed;
use self::writer::{BoxedWrite, Class, Refusal, Writer};
use crate::config::Crc32Variant;
use crate::error::IpcError;
use crate::status::Status;
use crate::wire::encode::Encoder;
use crate::wire::{Body, Credit};

/// What both sides of a connection share with its calls.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) writer: Writer,
    pub(crate) encoder: Encoder,
    pub(crate) variant: Crc32Variant,
    /// The largest frame this side accepts.
    pub(crate) max_frame_bytes: usize,
    pub(crate) read_timeout: Duration,
    pub(crate) write_timeout: Duration,
    /// The credit each call starts with: what this side gives and what it gets.
    pub(crate) window: u64,
    pub(crate) peer_window: u64,
    pub(crate) alarm: Alarm,
    /// No new calls are made on it; it ends when the side says so.
    pub(crate) winding_up: AtomicBool,
    nonce: AtomicU64,
}

impl Connection {
    pub(crate) fn new(output: BoxedWrite, agreed: &Agreed) -> Self {
        Self {
            writer: Writer::new(output),
            encoder: Encoder::new(agreed.variant, agreed.send_limit),
            variant: agreed.variant,
            max_frame_bytes: agreed.max_frame_bytes,
            read_timeout: agreed.read_timeout,
            write_timeout: agreed.write_timeout,
            window: agreed.window,
            peer_window: agreed.peer_window,
            alarm: Alarm::new(),
            winding_up: AtomicBool::new(false),
            nonce: AtomicU64::new(0),
        }
    }

    pub(crate) fn call_state(&self, deadline: Option<Instant>) -> call::CallState {
        call::CallState::new(self.window, self.peer_window, deadline)
    }

    /// From now on the driver asks whether the connection shall end; it may have to be woken for that.
    pub(crate) fn wind_up(&self) {
        self.winding_up.store(true, Ordering::Release);
    }

    pub(crate) fn next_nonce(&self) -> u64 {
        self.nonce.fetch_add(1, Ordering::Relaxed)
    }

    /// Appends a small frame, for the driver to write with the rest of its turn. A connection that has ended
    /// needs none any more.
    pub(crate) fn queue(&self, class: Class, call_id: u64, body: Body) {
        let name = body.name();
        match self.writer.append(class, |buffer, _| self.encoder.put(buffer, call_id, body)) {
            Ok(_) | Err(Refusal::Ended | Refusal::Full) => {}
            Err(Refusal::Frame(error)) => tracing::error!(%error, name, "control frame not sent"),
        }
    }

    /// Appends a small frame and writes it.
    pub(crate) fn send(&self, class: Class, call_id: u64, body: Body) {
        self.queue(class, call_id, body);
        self.writer.flush();
    }

    /// Gives credit back for what the application took.
    pub(crate) fn grant(&self, call_id: u64, amount: u64) {
        if amount > 0 {
            self.send(Class::Control, call_id, Body::Credit(Credit { amount }));
        }
    }

    /// Appends the frame after which nothing more is said.
    pub(crate) fn queue_last_go_away(&self, last_call_id: u64, status: &Status) {
        let last =
            self.writer.append_last(|buffer| self.encoder.put_go_away(buffer, last_call_id, status, 0));
        if let Err(error) = last {
            tracing::error!(%error, "GoAway not sent");
        }
    }

    /// Appends a frame of a call once there is room, and writes it. Returns the offset of its end.
    ///
    /// `write` may run again after it was refused room; it must change nothing unless it appends.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, nothing was appended.
    pub(crate) async fn send_call(
        &self,
        write: impl FnMut(&mut BytesMut, u64) -> Result<(), IpcError>,
    ) -> Result<u64, Refusal> {
        let sent = self.append_call(write).await;
        self.writer.flush();
        sent
    }

    /// As [`send_call`](Self::send_call), but leaves the frame to a later flush, so that several leave together.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, nothing was appended.
    pub(crate) async fn append_call(
        &self,
        mut write: impl FnMut(&mut BytesMut, u64) -> Result<(), IpcError>,
    ) -> Result<u64, Refusal> {
        match self.writer.append(Class::Call, &mut write) {
            Err(Refusal::Full) => self.writer.append_in_line(write).await,
            other => other,
        }
    }
}
