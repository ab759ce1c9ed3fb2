//! The roles that connect, and one that only listens.

use std::env::Args;
use std::error::Error;
use std::os::unix::fs::PermissionsExt as _;

use ipc_runtime::{Channel, IpcConfig, IpcError};
use ipc_tests::actor::{ActorClient, Nothing};
use ipc_tests::raw::RawPeer;
use tokio::io::AsyncReadExt as _;

use crate::unix::{next, say};

type Outcome = Result<(), Box<dyn Error>>;

/// `call ENDPOINT`: asks the server who is calling. Says `handler …` and `layer …`, or `error …`.
pub(crate) async fn call(mut args: Args) -> Outcome {
    let config = IpcConfig { endpoint_path: next(&mut args)?, ..IpcConfig::default() };
    match ask(&config).await {
        Ok(answer) => say(answer),
        Err(error) => say(format_args!("error {:?}, sent: {}: {error}", error.code(), error.request_sent())),
    }
    Ok(())
}

async fn ask(config: &IpcConfig) -> Result<String, IpcError> {
    let actor = ActorClient::new(Channel::connect(config).await?);
    let answer = actor.who_am_i(Nothing {}).await?;
    let layer = answer.metadata().get("layer-saw").unwrap_or_default().to_owned();
    Ok(format!("handler {:?}\nlayer {layer}", answer.into_inner()))
}

/// `listen ENDPOINT`: listens where anybody may connect, until it is killed. Says `ready`, and how many bytes came over
/// each connection.
pub(crate) async fn listen(mut args: Args) -> Outcome {
    let path: String = next(&mut args)?;
    let listener = tokio::net::UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666))?;
    say("ready");
    loop {
        let (mut stream, _) = listener.accept().await?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await?;
        say(bytes.len());
    }
}

/// `be-silent ENDPOINT`: connects, says nothing, and says the number of the status that it is sent away with.
pub(crate) async fn be_silent(mut args: Args) -> Outcome {
    let mut peer = RawPeer::connect(next::<String>(&mut args)?).await;
    let (_, go_away) = peer.go_away().await;
    let status = go_away.status.unwrap_or_default();
    peer.ends().await;
    say(format_args!("{} {}", status.code, status.message));
    Ok(())
}

/// `path-for-user APP SERVER`: says where a user's server is.
pub(crate) fn path_for_user(mut args: Args) -> Outcome {
    let (app, server): (String, String) = (next(&mut args)?, next(&mut args)?);
    say(IpcConfig::for_user(&app, &server)?.endpoint_path);
    Ok(())
}
