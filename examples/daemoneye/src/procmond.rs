//! procmond: serves this machine's processes.

use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::stream::{self, Stream, StreamExt, TryStreamExt};
use ipc_runtime::{IpcConfig, Request, Response, Server, Status};
use tokio::sync::watch;

use crate::daemon::{self, Echo, Vitals};
use crate::platform::StopRequest;
use crate::processes::{Matcher, ProcessTable, events, listing};
use crate::proto::health::State;
use crate::proto::{
    DetectionResult, DetectionTask, DiagnosticsServer, GetHealthRequest, Health, ListProcessesRequest,
    ListProcessesResponse, ProcessEvent, ProcessFilter, ProcessMonitor, ProcessMonitorServer,
    WatchProcessesRequest,
};
use crate::settings::Flags;
use crate::tasks::Tasks;

/// The program's name.
pub const PROGRAM: &str = "procmond";

/// What an answer's envelope and status can take of a frame beside the message.
const ENVELOPE_BYTES: usize = 512;

/// Serves this machine's processes to local clients.
#[derive(Debug, clap::Parser)]
#[command(name = PROGRAM, version)]
pub struct Args {
    #[command(flatten)]
    flags: Flags,
    /// Also stop when standard input ends, for a parent process that wants to take this one along
    #[arg(long)]
    until_stdin_closes: bool,
}

/// Serves until it is asked to stop.
///
/// # Errors
///
/// When the settings, the process list or the endpoint can't be used; the error says what to do.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let settings = args.flags.settings()?;
    // Before anyone can know that it runs: a request to stop must not be lost.
    let stop = StopRequest::listen(args.until_stdin_closes)?;
    let (running, stopping) = watch::channel(());
    let monitor = Monitor::new(ProcessTable::open()?, &settings.ipc, stopping);
    let server = Server::builder()
        .peer_version(daemon::VERSION)
        .add_service(ProcessMonitorServer::new(monitor))
        .add_service(DiagnosticsServer::new(Echo))
        .bind(&settings.ipc)
        .await?;
    daemon::announce(&settings.ipc.endpoint_path)?;
    let stopped = async {
        stop.requested().await;
        // Watches have no end of their own and would have to be cut.
        drop(running);
    };
    server.serve_with_shutdown(stopped).await?;
    Ok(())
}

/// The service of `procmond`.
pub struct Monitor {
    table: ProcessTable,
    tasks: Tasks,
    vitals: Vitals,
    max_answer_bytes: usize,
    /// Closed when the daemon stops.
    stopping: watch::Receiver<()>,
    lists_served: AtomicU64,
    watches_begun: AtomicU64,
    tasks_done: AtomicU64,
    tasks_failed: AtomicU64,
}

impl Monitor {
    /// A service over `table` whose answers fit the frames of `config`, and whose watches end when the sender
    /// of `stopping` is dropped.
    #[must_use]
    pub fn new(table: ProcessTable, config: &IpcConfig, stopping: watch::Receiver<()>) -> Self {
        let max_answer_bytes = config.max_frame_bytes.saturating_sub(ENVELOPE_BYTES);
        Self {
            tasks: Tasks::new(table.clone(), max_answer_bytes),
            table,
            vitals: Vitals::new(PROGRAM, &config.endpoint_path),
            max_answer_bytes,
            stopping,
            lists_served: AtomicU64::new(0),
            watches_begun: AtomicU64::new(0),
            tasks_done: AtomicU64::new(0),
            tasks_failed: AtomicU64::new(0),
        }
    }
}

fn matcher(filter: Option<ProcessFilter>) -> Result<Matcher, Status> {
    Matcher::new(&filter.unwrap_or_default()).map_err(|error| Status::invalid_argument(error.to_string()))
}

impl ProcessMonitor for Monitor {
    async fn get_health(&self, _request: Request<GetHealthRequest>) -> Result<Response<Health>, Status> {
        let counters = [
            ("lists served", &self.lists_served),
            ("watches begun", &self.watches_begun),
            ("tasks done", &self.tasks_done),
            ("tasks failed", &self.tasks_failed),
        ]
        .map(|(name, counter)| (name, counter.load(Ordering::Relaxed)));
        Ok(Response::new(self.vitals.health(State::Serving, String::new(), &counters)))
    }

    async fn list_processes(
        &self,
        request: Request<ListProcessesRequest>,
    ) -> Result<Response<ListProcessesResponse>, Status> {
        let ListProcessesRequest { filter, after_pid, page_size } = request.into_inner();
        let matcher = matcher(filter)?;
        let snapshot = self.table.snapshot().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let count = if page_size == 0 { usize::MAX } else { page_size as usize };
        self.lists_served.fetch_add(1, Ordering::Relaxed);
        Ok(Response::new(listing::page(&snapshot, &matcher, after_pid, count, self.max_answer_bytes)))
    }

    async fn watch_processes(
        &self,
        request: Request<WatchProcessesRequest>,
    ) -> Result<Response<impl Stream<Item = Result<ProcessEvent, Status>> + Send + 'static>, Status> {
        let matcher = matcher(request.into_inner().filter)?;
        self.watches_begun.fetch_add(1, Ordering::Relaxed);
        let mut stopping = self.stopping.clone();
        let events = events::watch(self.table.clone(), matcher)
            .map_err(|error| Status::unavailable(error.to_string()))
            .take_until(async move { stopping.changed().await })
            .chain(stream::once(async { Err(Status::unavailable("procmond is stopping")) }));
        Ok(Response::new(events))
    }

    async fn execute_task(
        &self,
        request: Request<DetectionTask>,
    ) -> Result<Response<DetectionResult>, Status> {
        let result = self.tasks.execute(request.into_inner()).await;
        let counter = if result.success { &self.tasks_done } else { &self.tasks_failed };
        counter.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(
            task = result.task_id,
            success = result.success,
            error = result.error_message,
            "task"
        );
        Ok(Response::new(result))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ipc_runtime::{Channel, Code};

    use super::*;
    use crate::client::all_processes;
    use crate::proto::ProcessMonitorClient;
    use crate::proto::process_event::Kind;

    /// A client of a monitor whose frames are as small as they may be, over memory.
    fn monitor() -> (ProcessMonitorClient, ProcessTable, watch::Sender<()>) {
        let table = ProcessTable::with_max_age(Duration::from_secs(3600)).unwrap();
        let config = IpcConfig { max_frame_bytes: 4096, ..Default::default() };
        let (running, stopping) = watch::channel(());
        let monitor = ProcessMonitorServer::new(Monitor::new(table.clone(), &config, stopping));
        let channel = Channel::in_memory(Server::builder().add_service(monitor));
        (ProcessMonitorClient::new(channel), table, running)
    }

    #[tokio::test]
    async fn all_pages_together_are_all_processes() {
        let (client, table, _running) = monitor();
        let processes =
            all_processes(&client, ProcessFilter::default(), Duration::from_secs(60)).await.unwrap();
        assert_eq!(processes[..], table.snapshot().await.unwrap()[..]);

        let health = client.get_health(GetHealthRequest {}).await.unwrap().into_inner();
        assert_eq!((health.program.as_str(), health.state()), ("procmond", State::Serving));
        let bytes: usize = processes.iter().map(prost::Message::encoded_len).sum();
        let lists = health.counters.iter().find(|counter| counter.name == "lists served").unwrap().value;
        assert!(lists >= bytes.div_ceil(4096) as u64, "{bytes} bytes came in {lists} pages");
    }

    #[tokio::test]
    async fn a_filter_that_means_nothing_is_an_invalid_argument() {
        let (client, ..) = monitor();
        let filter = ProcessFilter { executable_pattern: Some("[".into()), ..Default::default() };
        let request = ListProcessesRequest { filter: Some(filter.clone()), ..Default::default() };
        let listed = client.list_processes(request).await.unwrap_err();
        let watched =
            client.watch_processes(WatchProcessesRequest { filter: Some(filter) }).await.unwrap_err();
        assert_eq!((listed.code(), watched.code()), (Code::InvalidArgument, Code::InvalidArgument));
        assert_eq!(listed.to_string(), watched.to_string());
    }

    #[tokio::test]
    async fn a_watch_begins_with_what_runs_and_ends_when_the_daemon_stops() {
        let (client, table, running) = monitor();
        let mut events = client.watch_processes(WatchProcessesRequest::default()).await.unwrap().into_inner();
        for process in table.snapshot().await.unwrap().iter() {
            let event = events.message().await.unwrap().unwrap();
            assert_eq!((event.kind(), event.process.as_ref()), (Kind::Running, Some(process)));
        }
        assert_eq!(events.message().await.unwrap().unwrap().kind(), Kind::Complete);
        drop(running);
        let end = events.message().await.unwrap_err();
        assert_eq!((end.code(), end.message()), (Code::Unavailable, "procmond is stopping"));
    }
}
