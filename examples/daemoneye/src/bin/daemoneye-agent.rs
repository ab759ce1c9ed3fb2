//! Runs detection rules over what procmond sees; see `daemoneye::agent`.

use std::process::ExitCode;

use clap::Parser;
use daemoneye::{agent, daemon};

#[tokio::main]
async fn main() -> ExitCode {
    let args = agent::Args::parse();
    daemon::start_logging("info");
    match agent::run(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("daemoneye-agent: {error}");
            ExitCode::FAILURE
        }
    }
}
