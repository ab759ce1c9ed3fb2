//! Shows procmond at work; see `daemoneye::demo`.

use std::process::ExitCode;

use clap::Parser;
use daemoneye::{daemon, demo};

#[tokio::main]
async fn main() -> ExitCode {
    let args = demo::Args::parse();
    daemon::start_logging("warn");
    match demo::run(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}
