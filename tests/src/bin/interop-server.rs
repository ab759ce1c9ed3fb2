//! Serves gRPC's interoperability service until it is told to end.

#![expect(clippy::print_stdout, reason = "who started it waits for the line that says it is ready")]

use std::io::Write as _;
use std::time::Duration;

use clap::Parser;
use ipc_runtime::{IpcConfig, Server, ServerBuilder};
use ipc_tests::interop::args::Endpoint;
use ipc_tests::interop::proto::TestServiceServer;
use ipc_tests::interop::service::Interop;

/// Serves grpc.testing.TestService until SIGTERM, Ctrl-C or, if asked to, the end of standard input
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    endpoint: Endpoint,
    /// How many clients it serves at once
    #[arg(long, value_name = "N")]
    max_connections: Option<usize>,
    /// The largest frame it sends or accepts, in bytes
    #[arg(long, value_name = "N")]
    max_frame_bytes: Option<usize>,
    /// How long it waits for what must come, in milliseconds
    #[arg(long, value_name = "N")]
    read_timeout_ms: Option<u64>,
    /// How long a write may make no progress, in milliseconds
    #[arg(long, value_name = "N")]
    write_timeout_ms: Option<u64>,
    /// How long calls may run on after it is told to end, in milliseconds
    #[arg(long, value_name = "N")]
    drain_ms: Option<u64>,
    /// Also end when standard input does: on Windows one program can't send another a signal
    #[arg(long)]
    until_stdin_closes: bool,
}

impl Args {
    fn config(&self) -> IpcConfig {
        let config = self.endpoint.config();
        IpcConfig {
            max_connections: self.max_connections.unwrap_or(config.max_connections),
            max_frame_bytes: self.max_frame_bytes.unwrap_or(config.max_frame_bytes),
            read_timeout_ms: self.read_timeout_ms.unwrap_or(config.read_timeout_ms),
            write_timeout_ms: self.write_timeout_ms.unwrap_or(config.write_timeout_ms),
            ..config
        }
    }

    fn server(&self) -> ServerBuilder {
        let server = Server::builder().add_service(TestServiceServer::new(Interop));
        match self.drain_ms {
            Some(drain) => server.drain_timeout(Duration::from_millis(drain)),
            None => server,
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    // Before anyone can know that it runs, so that no signal finds it unprepared.
    let told_to_end = told_to_end(args.until_stdin_closes)?;
    let server = args.server().bind(&args.config()).await?;
    println!("listening on {}", server.endpoint());
    std::io::stdout().flush()?;
    let shutdown = server.serve_with_shutdown(told_to_end).await?;
    println!("ended; calls cut: {}", shutdown.calls_cut);
    Ok(())
}

fn told_to_end(until_stdin_closes: bool) -> std::io::Result<impl Future<Output = ()>> {
    let signal = signal()?;
    Ok(async move {
        tokio::select! {
            () = signal => {}
            () = end_of_stdin(), if until_stdin_closes => {}
        }
    })
}

/// On a thread of its own: tokio's standard input would keep the program from ending.
async fn end_of_stdin() {
    let (ended, end) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        drop(ended);
    });
    _ = end.await;
}

#[cfg(unix)]
fn signal() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

#[cfg(windows)]
fn signal() -> std::io::Result<impl Future<Output = ()>> {
    let mut interrupt = tokio::signal::windows::ctrl_c()?;
    Ok(async move { _ = interrupt.recv().await })
}
