//! Section 2: frames.

use ipc_tests::raw::RawPeer;
use ipc_tests::setup::Real;
use ipc_tests::wire;

#[tokio::test]
async fn smoke() {
    let real = Real::start().await;
    let mut raw: RawPeer = real.raw().await;
    raw.send(1, wire::open("Echo", ipc_tests::probe::note(3))).await;
    assert_eq!(raw.answered(1).await, ipc_tests::probe::note(3));
}
