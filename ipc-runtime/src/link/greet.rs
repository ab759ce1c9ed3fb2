//! The Hellos on a stream: reads the peer's first frame, writes this side's Hello, and refuses.
//!
//! [`handshake`] knows what a Hello means. This module does not know the limits of connections.

use std::io;
use std::pin::pin;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use crate::error::IpcError;
use crate::protocol::encode::Encoder;
use crate::protocol::ending::Ending;
use crate::protocol::envelope::{self, Body};
use crate::protocol::frame::FrameReader;
use crate::protocol::handshake;
use crate::protocol::timers::{LINGER, later};
use crate::status::Status;
use crate::transport::{BoxedRead, BoxedWrite, ByteStream};

/// Writes all bytes.
///
/// # Errors
///
/// An error of the stream, or a timeout after `write_timeout`.
pub(crate) async fn write_all(
    output: &mut BoxedWrite,
    bytes: &[u8],
    write_timeout: Duration,
) -> Result<(), IpcError> {
    tokio::time::timeout(write_timeout, output.write_all(bytes)).await.map_err(|_| IpcError::Timeout)??;
    Ok(())
}

/// Reads the peer's first frame. Bytes after it stay in `reader`.
///
/// # Errors
///
/// Why the connection ends, and the `GoAway` for the peer.
pub(crate) async fn read_first(
    input: &mut BoxedRead,
    reader: &mut FrameReader,
    limit: Duration,
) -> Result<Body, Ending> {
    let deadline = Instant::from_std(later(Instant::now().into_std(), limit));
    let mut has_looked_again = false;
    loop {
        if let Some(frame) = reader.next().map_err(Ending::frame)? {
            let inbound = envelope::decode(frame, &mut |_| Ok(0)).map_err(Ending::frame)?;
            return handshake::first_body(inbound).map_err(Ending::breach);
        }
        // What has arrived is read before the time is judged: `timeout_at` polls the read first.
        let mut room = reader.room();
        let read = pin!(input.read_buf(&mut room));
        match tokio::time::timeout_at(deadline, read).await {
            Ok(Ok(0)) => return Err(Ending::silent(IpcError::PeerClosed)),
            Ok(Ok(read)) => reader.note_read(read),
            Ok(Err(error)) => return Err(Ending::silent(error.into())),
            // This process may have been stopped: then the runtime has not looked at the sockets yet.
            Err(_) if !has_looked_again => {
                has_looked_again = true;
                tokio::task::yield_now().await;
            }
            Err(_) => {
                let words = format!("no Hello within {} ms", limit.as_millis());
                let cause = io::Error::new(io::ErrorKind::TimedOut, words.clone());
                let go_away = Some(Status::deadline_exceeded(words));
                return Err(Ending { cause: IpcError::Io(cause), go_away });
            }
        }
    }
}

/// Says `GoAway` in place of a Hello or right after it. Then waits at most 1 s for the peer to read it.
pub(crate) async fn refuse(stream: ByteStream, encoder: &Encoder, status: &Status, retry_after: Duration) {
    let retry_after_ms = u32::try_from(retry_after.as_millis()).unwrap_or(u32::MAX);
    let mut frame = BytesMut::new();
    if let Err(error) = encoder.put_go_away(&mut frame, 0, status, retry_after_ms) {
        tracing::error!(%error, "GoAway not sent");
        return;
    }
    let ByteStream { mut input, mut output, .. } = stream;
    let farewell = async {
        if output.write_all(&frame).await.is_ok() && output.shutdown().await.is_ok() {
            let mut discarded = [0; 4096];
            while let Ok(1..) = input.read(&mut discarded).await {}
        }
    };
    _ = tokio::time::timeout(LINGER, farewell).await;
}
