//! Who may connect, and to whom.

use ipc_runtime::{Channel, Code, IpcConfig, Server};
use ipc_tests::actor::{ActorClient, ActorServer, Caller, Handlers, Nothing};
use ipc_tests::setup::place;
use ipc_tests::wire::code;

use crate::actors::{Actor, STRANGER, can_be_others, open_to_all, set_mode};

const FRIEND: u32 = 65_532;
const GROUP: u32 = 65_531;

/// A place that other users can reach as far as directories go.
fn open_place() -> (IpcConfig, tempfile::TempDir) {
    let (config, directory) = place();
    open_to_all(directory.path());
    (config, directory)
}

/// A server that anybody can connect to by the file system, and that admits these.
async fn server(config: &IpcConfig, options: &[&str]) -> Actor {
    Actor::serving_with(&config.endpoint_path, options).await
}

/// What a client learns that runs as this user.
async fn calls_as(config: &IpcConfig, uid: u32, gid: u32) -> (Caller, Vec<String>) {
    let mut client = Actor::start_as(uid, gid, ["call", &config.endpoint_path]);
    let first = client.line().await;
    let itself = Caller { pid: client.pid, uid, gid };
    let mut said = vec![first];
    said.extend(client.finish().await);
    (itself, said)
}

async fn is_served(config: &IpcConfig, uid: u32, gid: u32) {
    let (itself, said) = calls_as(config, uid, gid).await;
    assert_eq!(said, [format!("handler {itself:?}"), format!("layer {itself:?}")]);
}

async fn is_refused(config: &IpcConfig, uid: u32, gid: u32) {
    let (_, said) = calls_as(config, uid, gid).await;
    let words = format!(
        "error PermissionDenied, sent: false: PERMISSION_DENIED: refused by {}: this user may not connect",
        config.endpoint_path
    );
    assert_eq!(said, [words]);
}

/// A client that does not look who the server is, and never says anything: it is not waited for.
async fn is_sent_away(config: &IpcConfig, uid: u32, gid: u32) {
    let mut stranger = Actor::start_as(uid, gid, ["be-silent", &config.endpoint_path]);
    stranger.says(&format!("{} this user may not connect", code::PERMISSION_DENIED)).await;
}

#[tokio::test]
async fn handlers_and_layers_see_the_callers_pid_uid_and_gid() {
    let (config, _directory) = place();
    let server = server(&config, &[]).await;
    let mut client = Actor::start(["call", &config.endpoint_path]);
    let itself = Caller {
        pid: client.pid,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
    };
    client.says(&format!("handler {itself:?}")).await;
    client.says(&format!("layer {itself:?}")).await;
    // And the client the server's.
    let channel = Channel::connect(&config).await.expect("a server");
    let itself = Caller { pid: server.pid, ..itself };
    assert_eq!(Caller::of(channel.peer_info().as_ref()), itself);
}

#[tokio::test]
async fn by_default_the_file_system_keeps_other_users_out() {
    if !can_be_others() {
        return;
    }
    let (config, _directory) = open_place();
    let _server = server(&config, &[]).await;
    let (_, said) = calls_as(&config, STRANGER, STRANGER).await;
    let words = format!(
        "error Unavailable, sent: false: connecting to {}: Permission denied (os error 13); run as the server's user; or \
         have the server allow yours, at a path whose directories yours may enter",
        config.endpoint_path
    );
    assert_eq!(said, [words]);
}

#[tokio::test]
async fn by_default_other_users_are_refused_wherever_the_file_system_lets_them_through() {
    if !can_be_others() {
        return;
    }
    let (config, _directory) = open_place();
    let _server = server(&config, &[]).await;
    set_mode(config.endpoint_path.as_ref(), 0o666);
    is_refused(&config, STRANGER, STRANGER).await;
    // Not the group that counts either.
    is_refused(&config, STRANGER, 0).await;
}

#[tokio::test]
async fn a_stranger_is_refused_before_a_byte_is_read() {
    if !can_be_others() {
        return;
    }
    let (config, _directory) = open_place();
    let _server = server(&config, &["--allow-uid", &FRIEND.to_string()]).await;
    is_sent_away(&config, STRANGER, STRANGER).await;
    is_served(&config, FRIEND, FRIEND).await;
}

#[tokio::test]
async fn one_line_allows_a_user_or_a_group_and_root_always_may() {
    if !can_be_others() {
        return;
    }
    let (config, _directory) = open_place();
    let user = server(&config, &["--allow-uid", &FRIEND.to_string()]).await;
    is_served(&config, FRIEND, STRANGER).await;
    is_served(&config, 0, 0).await;
    is_refused(&config, STRANGER, FRIEND).await;
    user.finish().await;

    let group = server(&config, &["--allow-gid", &GROUP.to_string()]).await;
    is_served(&config, STRANGER, GROUP).await;
    is_refused(&config, GROUP, STRANGER).await;
    group.finish().await;
}

#[tokio::test]
async fn any_rule_can_allow() {
    if !can_be_others() {
        return;
    }
    let (config, _directory) = open_place();
    let builder = Server::builder()
        .add_service(ActorServer::new(Handlers::default()))
        // What a peer says of itself is not known yet.
        .allow(|peer| peer.uid == Some(FRIEND) && peer.gid == Some(GROUP) && peer.version.is_empty());
    let server = builder.bind(&config).await.expect("the path");
    let serving = tokio::spawn(server.serve());
    is_refused(&config, FRIEND, STRANGER).await;
    let (_, said) = calls_as(&config, FRIEND, GROUP).await;
    assert!(said[0].starts_with("handler Caller { pid: "), "{said:?}");
    serving.abort();
}

#[tokio::test]
async fn a_server_of_an_ordinary_user_serves_root_and_itself_and_nobody_else() {
    if !can_be_others() {
        return;
    }
    let (config, directory) = open_place();
    std::os::unix::fs::chown(directory.path(), Some(FRIEND), None).expect("root");
    let mut server = Actor::start_as(FRIEND, FRIEND, ["serve", &config.endpoint_path]);
    server.says("ready").await;
    is_served(&config, FRIEND, FRIEND).await;
    set_mode(config.endpoint_path.as_ref(), 0o666);
    is_sent_away(&config, STRANGER, FRIEND).await;
    // Root may connect to anybody's server, but takes none for its own unless told to.
    let channel = Channel::builder(&config).allow_uid(FRIEND).build().expect("settings");
    let caller = ActorClient::new(channel).who_am_i(Nothing {}).await.expect("an answer").into_inner();
    assert_eq!(caller, Caller { pid: std::process::id(), uid: 0, gid: 0 });
}

#[tokio::test]
async fn a_client_refuses_a_server_of_another_user_and_says_nothing_to_it() {
    if !can_be_others() {
        return;
    }
    let (config, directory) = open_place();
    std::os::unix::fs::chown(directory.path(), Some(STRANGER), None).expect("root");
    let mut imposter = Actor::start_as(STRANGER, STRANGER, ["listen", &config.endpoint_path]);
    imposter.says("ready").await;
    let error = Channel::connect(&config).await.expect_err("a refusal");
    assert_eq!((error.code(), error.request_sent()), (Code::PermissionDenied, false));
    assert_eq!(
        error.to_string(),
        format!(
            "connecting to {}: the server runs as user {STRANGER}, which this client does not accept; find out who \
             listens there; if it is right, allow it with ChannelBuilder::allow_uid",
            config.endpoint_path
        )
    );
    imposter.says("0").await;
    // Waiting would not help.
    let error =
        Channel::connect_or_wait(&config, std::time::Duration::from_secs(60)).await.expect_err("a refusal");
    assert!(error.to_string().contains(&format!("runs as user {STRANGER}")), "{error}");
}
