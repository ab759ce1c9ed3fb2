//! Asks the daemons; see `daemoneye::cli`.

use std::process::ExitCode;

use clap::Parser;
use daemoneye::{cli, daemon};

#[tokio::main]
async fn main() -> ExitCode {
    let args = cli::Args::parse();
    daemon::start_logging("warn");
    match cli::run(args).await {
        Ok(status) => status,
        Err(error) => {
            eprintln!("daemoneye-cli: {error}");
            ExitCode::FAILURE
        }
    }
}
