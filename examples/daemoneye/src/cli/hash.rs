//! `daemoneye-cli hash`: one `VERIFY_EXECUTABLE` task.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context, bail};

use crate::client::Daemon;
use crate::proto::{DetectionTask, HashCheck, ProcessMonitorClient, TaskType};
use crate::settings::Settings;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The file
    path: PathBuf,
    /// The SHA-256 that it should have; another is an error
    #[arg(long, value_name = "SHA256")]
    expect: Option<String>,
}

pub(super) async fn run(args: Args, settings: &Settings) -> anyhow::Result<()> {
    let daemon = Daemon::procmond(settings);
    let monitor = ProcessMonitorClient::new(daemon.connect().await?);
    let path = std::path::absolute(&args.path)?;
    let check = HashCheck {
        executable_path: path.to_str().context("the path is not UTF-8; rename the file")?.into(),
        expected_hash: args.expect.unwrap_or_default(),
        hash_algorithm: "sha256".into(),
    };
    let task = DetectionTask {
        task_id: "cli-hash".into(),
        task_type: TaskType::VerifyExecutable.into(),
        hash_check: Some(check),
        ..Default::default()
    };
    let result = monitor.execute_task(task).await.map_err(|error| daemon.explain(&error))?.into_inner();
    if let Some(error) = result.error_message {
        bail!(error);
    }
    let hash = result.hash_result.context("procmond sent no hash; is it another version?")?;
    writeln!(io::stdout().lock(), "{}  {}", hash.hash_value, args.path.display())?;
    Ok(())
}
