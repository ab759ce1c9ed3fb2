//! Old and new programs together.

use ipc_runtime::codegen::{Method, ServerCall, Service};
use ipc_runtime::{Channel, Code, PeerInfo, Request, Response, Schema, Server};
use ipc_tests::raw::soon;
use ipc_tests::setup::{failed, place};

const NAME: &str = "test.schema.v1.Clock";

/// The service as it was: one method, and a schema of its time.
struct Old<const FINGERPRINT: u64>;

impl<const FINGERPRINT: u64> Service for Old<FINGERPRINT> {
    const NAME: &'static str = NAME;
    const METHODS: &'static [&'static str] = &["Now"];
    const FINGERPRINT: u64 = FINGERPRINT;

    fn dispatch(&self, method: usize, call: ServerCall) {
        match method {
            // Answers with what the handler knows of the caller.
            0 => call.unary(|request: Request<String>| async move {
                let version = request.peer_info().map(|peer| peer.version.clone());
                Ok(Response::new(version.unwrap_or_default()))
            }),
            _ => call.unimplemented(),
        }
    }
}

/// A method that came later, called by a client with this schema.
fn later(fingerprint: u64) -> Method {
    Schema::new(NAME, fingerprint).method("/test.schema.v1.Clock/Later")
}

/// What a client learns of a server with this fingerprint, and how it fails there.
async fn meet(server: impl Service, client: u64) -> (PeerInfo, String) {
    let (config, _directory) = place();
    let server = Server::builder().add_service(server).peer_version("server 1.2.3").bind(&config).await;
    let serving = tokio::spawn(server.expect("the path").serve());
    let channel = Channel::builder(&config).peer_version("client 4.5.6").build().expect("settings");
    assert_eq!(channel.peer_info(), None);
    let now =
        channel.unary::<_, String>(Method::new("/test.schema.v1.Clock/Now"), Request::new(String::new()));
    assert_eq!(soon("an answer", now).await.expect("an answer").into_inner(), "client 4.5.6");
    let peer = channel.peer_info().expect("a connection");
    let call = channel.unary::<_, String>(later(client), Request::new(String::new()));
    let error = failed(soon("an answer", call).await, Code::Unimplemented, false);
    serving.abort();
    (peer, error.to_string())
}

#[tokio::test]
async fn a_client_learns_whether_the_servers_schema_is_its_own() {
    let (peer, _) = meet(Old::<7>, 7).await;
    assert_eq!(peer.version, "server 1.2.3");
    assert_eq!(peer.services().collect::<Vec<_>>(), [NAME]);
    assert_eq!(peer.fingerprint(NAME), Some(7));
    assert_eq!(peer.has_schema(Schema::new(NAME, 7)), Some(true));
    assert_eq!(peer.has_schema(Schema::new(NAME, 8)), Some(false));
    // Not known on either side, or not served at all.
    assert_eq!(peer.has_schema(Schema::new(NAME, 0)), None);
    assert_eq!(peer.has_schema(Schema::new("test.schema.v1.Other", 7)), None);
    let (peer, _) = meet(Old::<0>, 7).await;
    assert_eq!((peer.fingerprint(NAME), peer.has_schema(Schema::new(NAME, 7))), (None, None));
}

#[tokio::test]
async fn unimplemented_by_a_server_of_another_schema_says_so() {
    let plain = "UNIMPLEMENTED: service test.schema.v1.Clock has no method at /test.schema.v1.Clock/Later";
    let (_, error) = meet(Old::<7>, 8).await;
    let expected = format!(
        "{plain}; the server was built from another schema of {NAME} and may be older than this client"
    );
    assert_eq!(error, expected);
    // Where the schemas are the same, or one is not known, there is nothing to say.
    for (_, error) in [meet(Old::<7>, 7).await, meet(Old::<7>, 0).await, meet(Old::<0>, 8).await] {
        assert_eq!(error, plain);
    }
}
