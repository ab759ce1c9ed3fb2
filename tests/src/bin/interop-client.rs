//! Runs gRPC's interoperability cases against a server and prints how each came out.

#![expect(clippy::print_stdout, reason = "the outcomes are what the program is for")]

use std::process::ExitCode;

use clap::Parser;
use ipc_runtime::Channel;
use ipc_tests::interop::args::Endpoint;
use ipc_tests::interop::cases::{Case, Failure};

/// Runs gRPC's interoperability cases against a server
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    endpoint: Endpoint,
    /// The one case to run; all 15 without it
    #[arg(long, value_enum, value_name = "NAME")]
    case: Option<Case>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let cases = args.case.as_ref().map_or(Case::all(), std::slice::from_ref);
    // Connected first, so that the case of the short timeout times out in a call and not while connecting.
    let connected = Channel::connect(&args.endpoint.config()).await.map_err(Failure::from);
    let mut exit = ExitCode::SUCCESS;
    for case in cases {
        let outcome = match &connected {
            Ok(channel) => case.run(channel).await,
            Err(why) => Err(why.clone()),
        };
        match outcome {
            Ok(()) => println!("ok {case}"),
            Err(why) => {
                println!("FAIL {case}: {why}");
                exit = ExitCode::FAILURE;
            }
        }
    }
    exit
}
