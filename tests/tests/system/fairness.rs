//! A handler that computes holds its thread and nothing else: the other calls of its connection are answered meanwhile.

use ipc_tests::feed::Feed;
use ipc_tests::probe::{Sizes, note};
use ipc_tests::raw::soon;
use ipc_tests::setup::{Real, done, text};
use ipc_tests::wire;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_computes_stalls_no_other_call_of_its_connection() {
    let real = Real::start().await;
    let client = real.client();
    let computing = client.clone();
    let computing = tokio::spawn(async move { computing.compute(text(1)).await });
    real.probe.started("Compute").await;
    for size in 0..100 {
        let echoed = soon("a unary call", client.echo(text(size * 1000))).await.unwrap();
        assert_eq!(echoed.into_inner(), text(size * 1000));
    }
    let total = soon("a streamed request", client.sum(Feed::of(vec![text(50_000); 100]))).await.unwrap();
    assert_eq!(total.into_inner().notes, 100);
    let sizes = Sizes { notes: 100, bytes: 50_000, ..Sizes::default() };
    let mut counted = soon("a stream", client.count(sizes)).await.unwrap().into_inner();
    real.probe.started("Count").await;
    for _ in 0..100 {
        assert!(soon("a note", counted.message()).await.unwrap().is_some());
    }
    assert_eq!(soon("the stream's end", counted.message()).await.unwrap(), None);
    real.probe.finished("Count").await;
    real.probe.release(1);
    real.probe.finished("Compute").await;
    assert_eq!(done(computing).await.unwrap().into_inner(), text(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_arrive_together_with_one_that_computes_are_answered_before_it() {
    let real = Real::start().await;
    let mut raw = real.raw().await;
    for round in 0..100 {
        let ids: Vec<u64> = (1..=3).map(|call| 3 * round + call).collect();
        let computes = ids[usize::try_from(round % 3).unwrap()];
        let method = |id| if id == computes { "Compute" } else { "Echo" };
        raw.send_all(ids.iter().map(|&id| (id, wire::open(method(id), note(1))))).await;
        real.probe.started("Compute").await;
        let mut answered = vec![raw.close().await.0, raw.close().await.0];
        answered.sort_unstable();
        let others: Vec<u64> = ids.into_iter().filter(|&id| id != computes).collect();
        assert_eq!(answered, others);
        real.probe.release(1);
        raw.answered(computes).await;
        real.probe.finished("Compute").await;
    }
}
