//! A message whose implementation is wrong fails its own call and no other.

use bytes::{Buf, BufMut};
use ipc_runtime::codegen::Method;
use ipc_runtime::{Channel, Code, IpcError, Request, Response, Server, Status, ipc_service};
use ipc_tests::probe::{Controls, Handlers, ProbeClient, ProbeServer};
use ipc_tests::raw::soon;
use ipc_tests::setup::{Real, done, failed, place, text};
use prost::DecodeError;
use prost::encoding::{DecodeContext, WireType, skip_field};

/// A message that does not do as [`prost::Message`] says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Wrong {
    /// What it says of itself.
    said: usize,
    /// What it writes.
    written: usize,
    /// Whether it panics after that.
    panics: bool,
}

impl prost::Message for Wrong {
    fn encode_raw(&self, buffer: &mut impl BufMut) {
        buffer.put_bytes(0x08, self.written);
        assert!(!self.panics, "as the test wants it");
    }

    fn encoded_len(&self) -> usize {
        self.said
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buffer: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        skip_field(wire_type, tag, buffer, context)
    }

    fn clear(&mut self) {}
}

/// What a message can do wrong.
const WAYS: [Wrong; 6] = [
    Wrong { said: 100, written: 0, panics: true },
    Wrong { said: 100, written: 50, panics: true },
    Wrong { said: 100, written: 50, panics: false },
    Wrong { said: 0, written: 50, panics: false },
    Wrong { said: 50, written: 100, panics: false },
    Wrong { said: 1 << 40, written: 50, panics: false },
];

/// Answers with wrong messages.
#[ipc_service(package = "test.faults.v1")]
trait Liar {
    /// In the way of this number.
    async fn lie(&self, way: Request<u32>) -> Result<Response<Wrong>, Status>;
}

struct Lies;

impl Liar for Lies {
    async fn lie(&self, way: Request<u32>) -> Result<Response<Wrong>, Status> {
        Ok(WAYS[usize::try_from(way.into_inner()).unwrap_or_default()].into())
    }
}

#[tokio::test]
async fn a_request_that_panics_or_lies_while_it_is_encoded_damages_no_other_call() {
    for wrong in WAYS {
        let real = Real::start().await;
        let channel = Channel::new(&real.config).unwrap();
        let client = ProbeClient::new(channel.clone());
        let innocent = tokio::spawn({
            let client = client.clone();
            async move { client.hold(text(4)).await }
        });
        real.probe.started("Hold").await;
        let call = tokio::spawn({
            let channel = channel.clone();
            async move {
                let method = Method::new("/test.probe.v1.Probe/Echo");
                let outcome: Result<Response<Wrong>, IpcError> =
                    channel.unary(method, Request::new(wrong)).await;
                outcome.map(drop)
            }
        });
        let outcome = soon("the end of a wrong call", call).await;
        if wrong.panics {
            assert!(!matches!(outcome, Ok(Ok(()))), "{wrong:?}");
        }
        soon("a call afterwards", client.echo(text(4))).await.unwrap();
        real.probe.release(1);
        done(innocent).await.unwrap();
        assert_eq!(real.tables.connections(), 1, "the same connection all the time");
    }
}

#[tokio::test]
async fn an_answer_that_panics_or_lies_while_it_is_encoded_damages_no_other_call() {
    for (way, wrong) in (0..).zip(WAYS) {
        let (config, _directory) = place();
        let probe = Controls::default();
        let builder = Server::builder()
            .add_service(ProbeServer::new(Handlers(probe.clone())))
            .add_service(LiarServer::new(Lies));
        let serving = tokio::spawn(builder.bind(&config).await.unwrap().serve());
        let channel = Channel::new(&config).unwrap();
        let client = ProbeClient::new(channel.clone());
        let innocent = tokio::spawn({
            let client = client.clone();
            async move { client.hold(text(4)).await }
        });
        probe.started("Hold").await;
        let outcome = soon("the end of a wrong call", LiarClient::new(channel.clone()).lie(way)).await;
        if wrong.panics {
            failed(outcome, Code::Internal, true);
        }
        soon("a call afterwards", client.echo(text(4))).await.unwrap();
        probe.release(1);
        done(innocent).await.unwrap();
        serving.abort();
    }
}
