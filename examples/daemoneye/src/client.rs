//! Reaching a daemon: [`Daemon`] knows its endpoint and explains failures; [`all_processes`] reads pages.
//!
//! It must not print.

use std::time::Duration;

use ipc_runtime::{Channel, IpcConfig, IpcError, Request};

use crate::diagnosis::{Diagnosis, Target, diagnose};
use crate::platform::{self, EndpointFile};
use crate::proto::{ListProcessesRequest, ProcessFilter, ProcessMonitorClient, ProcessRecord};
use crate::settings::Settings;
use crate::{agent, procmond};

/// A daemon as its clients see it.
#[derive(Clone, Debug)]
pub struct Daemon {
    /// Its program's name.
    pub program: &'static str,
    /// Its endpoint, with this side's limits.
    pub config: IpcConfig,
    flag: &'static str,
}

impl Daemon {
    /// procmond, where the settings say.
    #[must_use]
    pub fn procmond(settings: &Settings) -> Self {
        Self { program: procmond::PROGRAM, config: settings.ipc.clone(), flag: "--endpoint" }
    }

    /// The agent, where the settings say.
    #[must_use]
    pub fn agent(settings: &Settings) -> Self {
        Self { program: agent::PROGRAM, config: settings.agent_ipc(), flag: "--agent-endpoint" }
    }

    /// A connection to the daemon.
    ///
    /// # Errors
    ///
    /// Why there is none, and what to do.
    pub async fn connect(&self) -> Result<Channel, Diagnosis> {
        Channel::connect(&self.config).await.map_err(|error| self.explain(&error))
    }

    /// A connection to the daemon now: one that is full is not asked again.
    ///
    /// # Errors
    ///
    /// Why there is none, and what to do.
    pub async fn connect_now(&self) -> Result<Channel, Diagnosis> {
        let connected = Channel::builder(&self.config).wait_for_ready(false).connect().await;
        connected.map_err(|error| self.explain(&error))
    }

    /// What stands at the daemon's endpoint.
    #[must_use]
    pub fn endpoint_file(&self) -> EndpointFile {
        EndpointFile::look(&self.config.endpoint_path)
    }

    /// Why a call or a connection failed, and what to do.
    #[must_use]
    pub fn explain(&self, error: &IpcError) -> Diagnosis {
        let user = platform::current_user();
        let target = Target {
            program: self.program,
            endpoint: &self.config.endpoint_path,
            flag: self.flag,
            crc: self.config.crc32_variant,
            user: &user,
        };
        diagnose(error, target, &self.endpoint_file())
    }
}

/// All processes that `filter` means, read page by page, each page within `timeout`.
///
/// # Errors
///
/// Those of the calls.
pub async fn all_processes(
    monitor: &ProcessMonitorClient,
    filter: ProcessFilter,
    timeout: Duration,
) -> Result<Vec<ProcessRecord>, IpcError> {
    let mut processes: Vec<ProcessRecord> = Vec::new();
    loop {
        let after_pid = processes.last().map_or(0, |process| process.pid);
        let request = ListProcessesRequest { filter: Some(filter.clone()), after_pid, page_size: 0 };
        let page = monitor.list_processes(Request::new(request).with_timeout(timeout)).await?.into_inner();
        let more = page.more && !page.processes.is_empty();
        processes.extend(page.processes);
        if !more {
            return Ok(processes);
        }
    }
}
