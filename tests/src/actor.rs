//! The service of `proto/test/actor.proto`: what the `actor` program serves, and tests call.

use std::fs::File;
use std::io::Write as _;
use std::sync::Mutex;
use std::time::Duration;

use ipc_runtime::{CallContext, Next, PeerInfo, Request, Response, ServerLayer, Status};

mod generated {
    ipc_runtime::include_proto!("test.actor.v1");
}

pub use generated::*;

impl Caller {
    /// Whom a peer is said to be.
    #[must_use]
    pub fn of(peer: Option<&PeerInfo>) -> Self {
        let peer = peer.cloned().unwrap_or_default();
        Self {
            pid: peer.pid.unwrap_or_default(),
            uid: peer.uid.unwrap_or_default(),
            gid: peer.gid.unwrap_or_default(),
        }
    }
}

/// The handlers.
#[derive(Debug, Default)]
pub struct Handlers {
    ledger: Option<Ledger>,
}

#[derive(Debug)]
struct Ledger {
    file: Mutex<File>,
    /// Told the number of a call that is held for a second or longer.
    holding: fn(u64),
}

impl Handlers {
    /// Handlers that write into this file, opened for appending, and tell of calls that they hold for long.
    #[must_use]
    pub const fn with_ledger(file: File, holding: fn(u64)) -> Self {
        Self { ledger: Some(Ledger { file: Mutex::new(file), holding }) }
    }

    async fn put(&self, entry: &Entry) -> Result<Response<Nothing>, Status> {
        let ledger = self.ledger.as_ref().ok_or_else(|| Status::failed_precondition("no ledger here"))?;
        let written = match ledger.file.lock() {
            Ok(mut file) => file.write_all(&entry.number.to_le_bytes()),
            Err(_) => return Err(Status::internal("a handler panicked")),
        };
        written.map_err(|error| Status::internal(error.to_string()))?;
        if entry.hold_us >= 1_000_000 {
            (ledger.holding)(entry.number);
        }
        if entry.hold_us > 0 {
            tokio::time::sleep(Duration::from_micros(entry.hold_us.into())).await;
        }
        Ok(Nothing {}.into())
    }
}

impl Actor for Handlers {
    async fn who_am_i(&self, request: Request<Nothing>) -> Result<Response<Caller>, Status> {
        Ok(Caller::of(request.peer_info()).into())
    }

    async fn put(&self, request: Request<Entry>) -> Result<Response<Nothing>, Status> {
        self.put(request.get_ref()).await
    }

    async fn put_again(&self, request: Request<Entry>) -> Result<Response<Nothing>, Status> {
        self.put(request.get_ref()).await
    }
}

/// Answers with metadata `layer-saw`: whom it takes for the caller.
#[derive(Debug)]
pub struct SaysWhoCalls;

impl ServerLayer for SaysWhoCalls {
    async fn call(&self, call: &mut CallContext, next: Next<'_, Status>) -> Result<(), Status> {
        let caller = Caller::of(call.peer());
        next.run(call).await?;
        call.response_metadata_mut().insert("layer-saw", format!("{caller:?}"))?;
        Ok(())
    }
}
