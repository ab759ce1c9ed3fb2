//! The cases, and how each is run on a channel.
//!
//! A case says what gRPC's description of it asks for and nothing more, so that it holds against any server.

mod ending;
mod messages;
mod metadata;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use clap::ValueEnum;
use ipc_runtime::{Channel, Code, IpcError, Status};

use super::proto::{Payload, PayloadType, TestServiceClient};

/// How long a case may take; none comes near it unless the server never answers.
const LIMIT: Duration = Duration::from_secs(120);

/// A case, named as gRPC's descriptions name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
#[expect(
    missing_docs,
    reason = "gRPC's interop-test-descriptions.md says what each is; clap would print it here"
)]
pub enum Case {
    EmptyUnary,
    LargeUnary,
    ClientStreaming,
    ServerStreaming,
    PingPong,
    EmptyStream,
    CustomMetadata,
    StatusCodeAndMessage,
    SpecialStatusMessage,
    UnimplementedMethod,
    UnimplementedService,
    CancelAfterBegin,
    CancelAfterFirstResponse,
    TimeoutOnSleepingServer,
    ConcurrentLargeUnary,
}

impl Case {
    /// All of them, in the order in which they run.
    #[must_use]
    pub fn all() -> &'static [Self] {
        Self::value_variants()
    }

    /// Runs the case.
    ///
    /// # Errors
    ///
    /// What did not come out as the case demands.
    pub async fn run(self, channel: &Channel) -> Result<(), Failure> {
        tokio::time::timeout(LIMIT, self.run_unlimited(channel))
            .await
            .unwrap_or_else(|_| Err(Failure(format!("not over after {} s", LIMIT.as_secs()))))
    }

    async fn run_unlimited(self, channel: &Channel) -> Result<(), Failure> {
        let client = TestServiceClient::new(channel.clone());
        match self {
            Self::EmptyUnary => messages::empty_unary(&client).await,
            Self::LargeUnary => messages::large_unary(&client).await,
            Self::ClientStreaming => messages::client_streaming(&client).await,
            Self::ServerStreaming => messages::server_streaming(&client).await,
            Self::PingPong => messages::ping_pong(&client).await,
            Self::EmptyStream => messages::empty_stream(&client).await,
            Self::ConcurrentLargeUnary => messages::concurrent_large_unary(&client).await,
            Self::CustomMetadata => metadata::custom_metadata(&client).await,
            Self::StatusCodeAndMessage => ending::status_code_and_message(&client).await,
            Self::SpecialStatusMessage => ending::special_status_message(&client).await,
            Self::UnimplementedMethod => ending::unimplemented_method(&client).await,
            Self::UnimplementedService => ending::unimplemented_service(channel).await,
            Self::CancelAfterBegin => ending::cancel_after_begin(&client).await,
            Self::CancelAfterFirstResponse => ending::cancel_after_first_response(&client).await,
            Self::TimeoutOnSleepingServer => ending::timeout_on_sleeping_server(&client).await,
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", clap::builder::PossibleValue::get_name))
    }
}

/// Why a case failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure(String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

impl From<IpcError> for Failure {
    fn from(error: IpcError) -> Self {
        match error {
            IpcError::Status(status) => status.into(),
            error => Self(format!("{}: {error}", error.code())),
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self(status.to_string())
    }
}

/// Compares what came with what must come.
fn expect<T: PartialEq + fmt::Debug>(what: &str, came: &T, wanted: &T) -> Result<(), Failure> {
    if came == wanted {
        return Ok(());
    }
    Err(Failure(format!("{what}: {came:?} came, not {wanted:?}")))
}

/// Takes the error of a call that must fail with `code`.
fn expect_error<T>(outcome: Result<T, IpcError>, code: Code) -> Result<IpcError, Failure> {
    match outcome {
        Ok(_) => Err(Failure(format!("the call succeeded and did not end with {code}"))),
        Err(error) if error.code() == code => Ok(error),
        Err(error) => Err(Failure(format!("not {code} but {}", Failure::from(error)))),
    }
}

/// As many zeros, in a payload.
fn zeros(size: usize) -> Payload {
    Payload { r#type: PayloadType::Compressable.into(), body: Bytes::from(vec![0; size]) }
}

/// Checks that this is a payload of as many zeros.
fn expect_zeros(payload: Option<&Payload>, size: i32) -> Result<(), Failure> {
    let Some(payload) = payload else { return Err(Failure("an answer came without a payload".to_owned())) };
    expect("payload type", &payload.r#type, &PayloadType::Compressable.into())?;
    expect("payload size", &i32::try_from(payload.body.len()).ok(), &Some(size))?;
    expect("payload of zeros", &payload.body.iter().all(|byte| *byte == 0), &true)
}
