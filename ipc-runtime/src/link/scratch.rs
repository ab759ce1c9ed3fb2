//! Buffers for encoding messages before the connection's lock is taken.
//!
//! Users' code runs here. It may be slow, panic, or make calls itself. Small messages are encoded into a buffer of the
//! thread and then copied, so a call allocates nothing for them.

use std::cell::Cell;

use bytes::BytesMut;

use crate::error::IpcError;
use crate::protocol::queue::{INLINE_BYTES, Payload};
use crate::protocol::spare::Spare;

/// How many bytes envelope and header may add to a message without metadata.
const ENVELOPE_BYTES: usize = 256;

thread_local! {
    static SCRATCH: Cell<BytesMut> = Cell::default();
    static LARGE: Cell<Spare> = Cell::default();
}

/// Lets `write` encode about `length` bytes, and passes them to `then`.
///
/// # Errors
///
/// Those of `write`. `then` is not called in this case.
pub(crate) fn encode<R>(
    length: usize,
    write: impl FnOnce(&mut BytesMut) -> Result<(), IpcError>,
    then: impl FnOnce(Payload<'_>) -> R,
) -> Result<R, IpcError> {
    if length > INLINE_BYTES - ENVELOPE_BYTES {
        let mut spare = LARGE.try_with(Cell::take).unwrap_or_default();
        // Else `write` reserves what it needs once it has judged the length.
        let mut buffer = spare.take(length + ENVELOPE_BYTES).unwrap_or_default();
        write(&mut buffer)?;
        let room = buffer.capacity();
        let frame = buffer.freeze();
        spare.keep(&frame, room);
        _ = LARGE.try_with(|place| place.set(spare));
        return Ok(then(Payload::Large(frame)));
    }
    // Taken out, so that code in `write` that comes back here finds an empty one.
    let mut scratch = SCRATCH.try_with(Cell::take).unwrap_or_default();
    scratch.clear();
    write(&mut scratch)?;
    if scratch.len() > INLINE_BYTES {
        return Ok(then(Payload::Large(scratch.freeze())));
    }
    let result = then(Payload::Small(&scratch));
    _ = SCRATCH.try_with(|place| place.set(scratch));
    Ok(result)
}
