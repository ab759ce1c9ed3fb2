//! The role of a server that wants what others want.

use std::env::Args;
use std::error::Error;
use std::fs::File;

use ipc_runtime::{IpcConfig, Server};
use ipc_tests::actor::{ActorServer, Handlers};
use rustix::fs::FlockOperation;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::sync::oneshot;

use crate::unix::{next, say};

/// `race ENDPOINT GATE`: for each line of its input, waits until nobody has the gate locked, binds, and says `won` or
/// `lost …`. Who has won serves until the next line, and says `left` when it has stopped.
pub(crate) async fn run(mut args: Args) -> Result<(), Box<dyn Error>> {
    let config = IpcConfig { endpoint_path: next(&mut args)?, ..IpcConfig::default() };
    let gate = File::open(next::<String>(&mut args)?)?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while lines.next_line().await?.is_some() {
        rustix::fs::flock(&gate, FlockOperation::LockShared)?;
        rustix::fs::flock(&gate, FlockOperation::Unlock)?;
        let builder = Server::builder().add_service(ActorServer::new(Handlers::default()));
        match builder.bind(&config).await {
            Ok(server) => {
                let (stop, stopped) = oneshot::channel::<()>();
                let serving = tokio::spawn(server.serve_with_shutdown(stopped));
                say("won");
                lines.next_line().await?;
                drop(stop);
                serving.await??;
                say("left");
            }
            Err(error) => say(format_args!("lost {error}")),
        }
    }
    Ok(())
}
