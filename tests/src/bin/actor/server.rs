//! The roles that listen.

use std::env::Args;
use std::error::Error;
use std::fs::OpenOptions;

use ipc_runtime::{Channel, IpcConfig, Server, ServerBuilder};
use ipc_tests::actor::{ActorServer, Handlers, SaysWhoCalls};
use tokio::io::AsyncReadExt as _;

use crate::unix::{next, say};

type Outcome = Result<(), Box<dyn Error>>;

fn builder(handlers: Handlers) -> ServerBuilder {
    Server::builder().add_service(ActorServer::new(handlers)).layer(SaysWhoCalls)
}

/// The end of what the test has to say.
async fn told_to_stop() {
    let mut rest = Vec::new();
    _ = tokio::io::stdin().read_to_end(&mut rest).await;
}

/// `serve ENDPOINT [--allow-uid UID] [--allow-gid GID] [--connections N] [--read-timeout MS] [--ledger FILE] [--log]`: serves
/// until its input ends. Says `ready` or `error …`, `holding N` for a call that is held long, and `stopped`. Logs to its error output, if asked to.
pub(crate) async fn serve(mut args: Args) -> Outcome {
    let mut config = IpcConfig { endpoint_path: next(&mut args)?, ..IpcConfig::default() };
    let mut handlers = Handlers::default();
    let mut allow: Vec<Box<dyn FnOnce(ServerBuilder) -> ServerBuilder>> = Vec::new();
    while let Some(option) = args.next() {
        match option.as_str() {
            "--allow-uid" => {
                let uid = next(&mut args)?;
                allow.push(Box::new(move |builder| builder.allow_uid(uid)));
            }
            "--allow-gid" => {
                let gid = next(&mut args)?;
                allow.push(Box::new(move |builder| builder.allow_gid(gid)));
            }
            "--log" => tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init(),
            "--connections" => config.max_connections = next(&mut args)?,
            "--read-timeout" => config.read_timeout_ms = next(&mut args)?,
            "--ledger" => {
                let path: String = next(&mut args)?;
                handlers = Handlers::with_ledger(
                    OpenOptions::new().create(true).append(true).open(path)?,
                    |number| say(format_args!("holding {number}")),
                );
            }
            _ => return Err(format!("no such option: {option}").into()),
        }
    }
    let builder = allow.into_iter().fold(builder(handlers), |builder, allow| allow(builder));
    match builder.bind(&config).await {
        Ok(server) => {
            say("ready");
            server.serve_with_shutdown(told_to_stop()).await?;
            say("stopped");
        }
        Err(error) => say(format_args!("error {error}")),
    }
    Ok(())
}

/// `serve-activated`: serves on the socket that it is given as by systemd, until it is killed. Says whether there is
/// one.
pub(crate) async fn serve_activated(_: Args) -> Outcome {
    #[cfg(target_os = "linux")]
    match Server::from_activation(builder(Handlers::default()), &IpcConfig::default()) {
        Ok(Some(server)) => {
            say("activated");
            server.serve().await?;
        }
        Ok(None) => say("not activated"),
        Err(error) => say(format_args!("error {error}")),
    }
    Ok(())
}

/// `flicker ENDPOINT TIMES`: binds and gives up again. Says `done`.
pub(crate) async fn flicker(mut args: Args) -> Outcome {
    let config = IpcConfig { endpoint_path: next(&mut args)?, ..IpcConfig::default() };
    let times: u32 = next(&mut args)?;
    for _ in 0..times {
        drop(builder(Handlers::default()).bind(&config).await?);
    }
    say("done");
    Ok(())
}

/// `serve-and-list-descriptors ENDPOINT`: serves, is a client of itself, and says how many descriptors it has; then which
/// ones a program that it starts has.
pub(crate) async fn list_descriptors(mut args: Args) -> Outcome {
    let config = IpcConfig { endpoint_path: next(&mut args)?, ..IpcConfig::default() };
    let server = builder(Handlers::default()).bind(&config).await?;
    let serving = tokio::spawn(server.serve());
    let channel = Channel::connect(&config).await?;
    say(std::fs::read_dir("/dev/fd")?.count());
    say(child_descriptors().await?);
    drop(channel);
    serving.abort();
    Ok(())
}

/// The descriptors of a program that is started here.
async fn child_descriptors() -> Result<String, Box<dyn Error>> {
    let child = tokio::process::Command::new("/bin/sh").args(["-c", "echo /dev/fd/*"]).output().await?;
    Ok(String::from_utf8(child.stdout)?.trim().to_owned())
}

/// `take-and-list-descriptors`: takes the socket that it is given as by systemd, and says which descriptors a program has
/// that it starts.
pub(crate) async fn take_and_list_descriptors(_: Args) -> Outcome {
    #[cfg(target_os = "linux")]
    let _server =
        Server::from_activation(builder(Handlers::default()), &IpcConfig::default())?.ok_or("no socket")?;
    say(child_descriptors().await?);
    Ok(())
}
