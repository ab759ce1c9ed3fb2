//! A driver that is polled by hand: what it does at each turn, and when it is woken.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio::time::Instant;

use super::*;
use crate::config::Crc32Variant;
use crate::metadata::Metadata;
use crate::protocol::caller::Opening;
use crate::protocol::encode::{Encode as _, Encoder};
use crate::protocol::envelope::wire::{Nonce, WireBody};
use crate::protocol::handshake::{CallLimits, Role, Terms};
use crate::protocol::queue::Payload;
use crate::sync::lock;
use crate::transport::BoxedWrite;

const MAX_FRAME: usize = 1024 * 1024;
const ENCODER: Encoder = Encoder::new(Crc32Variant::Ieee, MAX_FRAME);

struct Nobody;

impl Host for Nobody {
    fn resolve(&mut self, _: &[u8]) -> Target {
        Ok(0)
    }

    fn on_arrivals(&mut self, _: &mut Vec<Arrival>) {}

    fn on_closed(&mut self) {}

    fn on_written(&mut self) -> bool {
        true
    }
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A driver, and the other end of its stream, which holds so many bytes each way.
fn driver(capacity: usize) -> (Driver<Nobody>, DuplexStream) {
    let (own, other) = tokio::io::duplex(capacity);
    let (input, output) = tokio::io::split(own);
    (driver_of(Box::new(input), Box::new(output)), other)
}

fn driver_of(input: BoxedRead, output: BoxedWrite) -> Driver<Nobody> {
    let limits = CallLimits { calls: 100, request_bytes: 1024 * 1024 };
    let terms = Terms {
        role: Role::Client,
        variant: Crc32Variant::Ieee,
        max_frame_bytes: MAX_FRAME,
        send_limit: MAX_FRAME,
        window: 64 * 1024,
        peer_window: 64 * 1024,
        own_limits: limits,
        peer_limits: limits,
        read_timeout: Duration::from_secs(30),
        write_timeout: Duration::from_secs(30),
    };
    let link = Arc::new(Link::new(output, terms));
    let reader = FrameReader::new(FrameCodec::new(Crc32Variant::Ieee, MAX_FRAME));
    Driver::new(Nobody, link, input, reader)
}

/// Polls the driver until it is not woken at once; returns how often.
fn turns(driver: &mut Driver<Nobody>, woken: &Arc<Woken>) -> usize {
    const MANY: usize = 100;
    let waker = Waker::from(Arc::clone(woken));
    woken.0.store(true, Ordering::Relaxed);
    (0..MANY)
        .find(|_| {
            if !woken.0.swap(false, Ordering::Relaxed) {
                return true;
            }
            assert!(driver.poll(&mut Context::from_waker(&waker)).is_pending());
            false
        })
        .unwrap_or(MANY)
}

/// Opens a call from outside the driver.
fn open(link: &Link) {
    let message = "longer than two pieces of what the stream holds at once".to_owned();
    let length = message.length();
    let mut rest = BytesMut::new();
    ENCODER.put_open_rest(&mut rest, &Metadata::new(), Some((&message, length))).expect("it fits");
    let opening = Opening {
        method: "a.B/C",
        rest: Payload::Small(&rest),
        sum: None,
        request_bytes: length as u64,
        deadline: None,
        reader: None,
    };
    let now = Instant::now().into_std();
    link.update(now, |core, now| core.open(now, opening)).expect("it takes calls");
}

fn pings(count: u64) -> BytesMut {
    let mut pings = BytesMut::new();
    for nonce in 0..count {
        ENCODER.put(&mut pings, 0, WireBody::Ping(Nonce { nonce })).expect("a Ping fits");
    }
    pings
}

#[tokio::test(start_paused = true)]
async fn each_time_that_something_is_due_the_sockets_are_looked_at_again() {
    let (mut driver, mut other) = driver(1024);
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    assert_eq!(turns(&mut driver, &woken), 1);
    tokio::time::sleep(Duration::from_secs(10)).await;
    // A Ping is due. Before it is sent, something arrives: it is not due any more.
    assert!(driver.poll(&mut Context::from_waker(&waker)).is_pending());
    other.write_all(&pings(1)).await.expect("room");
    assert!(driver.poll(&mut Context::from_waker(&waker)).is_pending());
    assert!(!driver.has_looked_again);
}

#[tokio::test(start_paused = true)]
async fn a_timer_is_set_although_the_budget_of_the_task_is_used_up() {
    let (mut driver, _other) = driver(16);
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    poll_fn(|cx| {
        while tokio::task::coop::has_budget_remaining() {
            assert!(pin!(tokio::task::coop::consume_budget()).poll(cx).is_ready());
        }
        assert!(driver.poll(&mut Context::from_waker(&waker)).is_pending());
        Poll::Ready(())
    })
    .await;
    // With a new budget.
    tokio::task::yield_now().await;
    assert_eq!(turns(&mut driver, &woken), 1);
    // A Ping is due.
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(woken.0.load(Ordering::Relaxed), "the timer did not wake the driver");
}

#[tokio::test(start_paused = true)]
async fn a_full_transport_does_not_wake_the_driver() {
    let (mut driver, mut other) = driver(16);
    let woken = Arc::new(Woken::default());
    open(&driver.link);
    assert_eq!(turns(&mut driver, &woken), 1);
    other.read_exact(&mut [0; 16]).await.expect("what was written");
    assert!(woken.0.load(Ordering::Relaxed), "the driver was not told of room");
    assert_eq!(turns(&mut driver, &woken), 1);
}

#[tokio::test(start_paused = true)]
async fn a_driver_reads_on_once_many_replies_are_written() {
    let (mut driver, mut other) = driver(64 * 1024);
    let woken = Arc::new(Woken::default());
    let length = pings(1).len();
    for _ in 0..2 {
        // More than may wait to be answered, in more than one step.
        let sent = pings(80);
        other.write_all(&sent).await.expect("room");
        assert!(turns(&mut driver, &woken) < 10);
        let mut pongs = vec![0; 80 * length];
        other.read_exact(&mut pongs).await.expect("80 Pongs");
        woken.0.store(false, Ordering::Relaxed);
    }
    other.write_all(&pings(1)).await.expect("room");
    assert!(woken.0.load(Ordering::Relaxed), "the driver does not wait for input");
}

/// Is full at the first write. Before the writer gets to know that, there is room again, and the driver has had its turn.
struct EarlyRoom {
    driver: Arc<Mutex<Option<Driver<Nobody>>>>,
    woken: Arc<Woken>,
    was_full: bool,
    written: Arc<AtomicUsize>,
}

impl AsyncWrite for EarlyRoom {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if std::mem::replace(&mut self.was_full, true) {
            self.written.fetch_add(bytes.len(), Ordering::Relaxed);
            return Poll::Ready(Ok(bytes.len()));
        }
        if let Some(driver) = lock(&self.driver).as_mut() {
            turns(driver, &self.woken);
        }
        // Whoever is told has been told.
        assert!(cx.waker().will_wake(&Waker::from(Arc::clone(&self.woken))));
        Poll::Pending
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn room_that_comes_while_another_thread_still_writes_is_used() {
    let woken = Arc::new(Woken::default());
    let place = Arc::new(Mutex::new(None));
    let written = Arc::new(AtomicUsize::new(0));
    let output = EarlyRoom {
        driver: Arc::clone(&place),
        woken: Arc::clone(&woken),
        was_full: false,
        written: Arc::clone(&written),
    };
    let (_other, input) = tokio::io::duplex(16);
    let mut driver = driver_of(Box::new(input), Box::new(output));
    let link = Arc::clone(&driver.link);
    assert_eq!(turns(&mut driver, &woken), 1);
    *lock(&place) = Some(driver);
    open(&link);
    let driver = lock(&place).take();
    assert!(woken.0.load(Ordering::Relaxed), "the driver's turn came too early, and no other comes");
    turns(&mut driver.expect("the driver"), &woken);
    assert!(written.load(Ordering::Relaxed) > 0);
}
