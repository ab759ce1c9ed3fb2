//! Serves this machine's processes; see `daemoneye::procmond`.

use std::process::ExitCode;

use clap::Parser;
use daemoneye::{daemon, procmond};

#[tokio::main]
async fn main() -> ExitCode {
    let args = procmond::Args::parse();
    daemon::start_logging("info");
    match procmond::run(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("procmond: {error}");
            ExitCode::FAILURE
        }
    }
}
