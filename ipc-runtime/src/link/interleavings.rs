//! Tests threads that use one connection, with many thread schedules: senders, the driver, and the other end of the socket.
//!
//! The lock, the protocol core and the driver are the real ones. The socket is a [`Socket`], and tasks run on shuttle's
//! threads. Whenever every thread is idle, [`Model::settle`] checks what must then be true.

mod socket;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{BufMut as _, BytesMut};
use prost::Message as _;
use shuttle::sync::Mutex;
use tokio::time::Instant;

use self::socket::Socket;
use super::Link;
use super::batch::id_of;
use super::driver::{Driver, Host};
use super::reader::{CallReader, Received};
use crate::config::Crc32Variant;
use crate::error::IpcError;
use crate::interleavings::{Spawned, Task, World, explore};
use crate::metadata::Metadata;
use crate::protocol::call::{End, cost};
use crate::protocol::callee::Finish;
use crate::protocol::caller::{OpenError, Opening};
use crate::protocol::connection::Phase;
use crate::protocol::encode::{Encode, Encoder, OpenRest};
use crate::protocol::envelope::wire::{Nonce, WireBody};
use crate::protocol::envelope::{self, Body, Inbound, Target};
use crate::protocol::frame::{FrameCodec, FrameReader};
use crate::protocol::handshake::{CallLimits, Role, Terms};
use crate::protocol::queue::{INLINE_BYTES, Payload};
use crate::protocol::roles::Arrival;
use crate::protocol::table::CallKey;
use crate::status::Status;
use crate::sync::checked::lock;

const METHOD: &str = "a.B/C";
const MAX_FRAME: usize = 1024 * 1024;

/// One connection and its driver's task.
struct Model {
    world: Arc<World>,
    link: Arc<Link>,
    socket: Socket,
    driver: Spawned,
    calls: Arc<Calls>,
}

/// Calls that have arrived and are not yet taken.
#[derive(Default)]
struct Calls {
    arrived: Mutex<VecDeque<(CallKey, u64)>>,
}

struct ModelHost(Arc<Calls>);

impl Host for ModelHost {
    fn resolve(&mut self, _: &[u8]) -> Target {
        Ok(0)
    }

    fn on_arrivals(&mut self, arrivals: &mut Vec<Arrival>) {
        lock(&self.0.arrived).extend(arrivals.drain(..).map(|arrival| (arrival.key, arrival.id)));
    }

    fn on_closed(&mut self) {}

    fn on_written(&mut self) -> bool {
        true
    }
}

impl Model {
    /// The socket takes `room` bytes before it is full, and `piece` bytes at once.
    fn new(role: Role, room: usize, piece: usize) -> Self {
        let limits = CallLimits { calls: 100, request_bytes: 1024 * 1024 };
        let terms = Terms {
            role,
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
        let (socket, input, output) = Socket::new(room, piece);
        let link = Arc::new(Link::new(output, terms));
        let calls = Arc::new(Calls::default());
        let host = ModelHost(Arc::clone(&calls));
        let shared = Arc::clone(&link);
        let world = Arc::new(World::default());
        let driver = world.spawn(move |task| {
            let reader = FrameReader::new(FrameCodec::new(Crc32Variant::Ieee, MAX_FRAME));
            let mut running = Box::pin(Driver::new(host, shared, input, reader).run());
            task.poll(|cx| running.as_mut().poll(cx));
        });
        Self { world, link, socket, driver, calls }
    }

    /// A thread of the application. Its waker takes the lock, so a thread that holds the lock must not wake it.
    fn sender(&self, work: impl FnOnce(&Arc<Task>, Arc<Link>) + Send + 'static) -> Spawned {
        let link = Arc::clone(&self.link);
        let locked = Arc::downgrade(&link);
        let on_wake = move || {
            if let Some(link) = locked.upgrade() {
                drop(link.lock());
            }
        };
        self.world.spawn_with(on_wake, move |task| work(task, link))
    }

    /// Another thread at the other end of the socket.
    fn other_end(&self, work: impl FnOnce(&Socket) + Send + 'static) {
        let socket = self.socket.clone();
        self.world.spawn(move |_| work(&socket));
    }

    /// Waits until every thread is idle, and checks that none of them has work left.
    fn settle(&self) {
        self.world.settle();
        let state = self.link.lock();
        if state.core.phase() == Phase::Closed {
            drop(state);
            assert!(self.driver.is_over(), "the driver was not told that the connection is closed");
            assert!(self.socket.is_dropped(), "the socket outlives the connection");
            return;
        }
        // After a write error there is no sink either, and no new call.
        let is_writable = state.sink.is_some() || !state.core.is_usable();
        assert!(is_writable, "the sink is nowhere, and nobody writes");
        assert!(!state.core.can_transmit(), "something waits to be written, and nobody writes it");
        let is_blocked = state.core.is_blocked();
        let wants_input = state.core.wants_input();
        let noticed = state.noticed;
        let phase = state.core.phase();
        drop(state);
        assert_eq!(noticed, phase, "the driver was not told of the connection's phase");
        if is_blocked {
            assert!(self.socket.is_full(), "the rest waits, and the socket has room");
            let driver = self.driver.task.waker();
            assert!(self.socket.tells(&driver), "the socket is full, and nobody hears when it is not");
        }
        assert!(!wants_input || !self.socket.has_unread(), "something arrived, and nobody reads it");
    }

    /// The other end reads `step` bytes whenever every thread is idle, until no write is blocked.
    fn drain(&self, step: usize) {
        self.settle();
        while self.link.peek(|core| core.is_blocked()) {
            self.socket.make_room(step);
            self.settle();
        }
    }

    fn written(&self) -> Written {
        Written::parse(&self.socket.written())
    }

    /// Drops the driver, and checks that nothing is left of the connection.
    fn end(self, senders: Vec<Spawned>) {
        let Self { world, link, socket, driver, .. } = self;
        driver.cancel();
        world.settle();
        for sender in senders {
            assert!(sender.is_over(), "a call waits for a connection that is gone");
        }
        assert!(socket.is_dropped(), "the socket outlives its driver");
        assert_eq!(link.peek(|core| core.phase()), Phase::Closed);
    }
}

/// What the other end got.
struct Written {
    frames: Vec<Inbound>,
    /// Bytes of a frame that is not whole.
    rest: usize,
}

impl Written {
    /// Checks that every frame is whole and undamaged.
    fn parse(bytes: &[u8]) -> Self {
        let mut reader = FrameReader::new(FrameCodec::new(Crc32Variant::Ieee, MAX_FRAME));
        let mut frames = Vec::new();
        let mut left = bytes;
        loop {
            while let Some(frame) = reader.next().expect("a frame") {
                frames.extend(envelope::decode(frame, &mut |_| Ok(0)).expect("an envelope"));
            }
            if left.is_empty() {
                break;
            }
            let mut room = reader.room();
            let taken = left.len().min(room.remaining_mut());
            room.put_slice(&left[..taken]);
            reader.note_read(taken);
            left = &left[taken..];
        }
        Self { frames, rest: reader.partial() }
    }

    /// What was written of each call, by its first message: its items in order, `Cancel` as a word.
    fn calls(&self) -> BTreeMap<String, Vec<String>> {
        let mut names = BTreeMap::new();
        let mut calls = BTreeMap::new();
        let mut last = 0;
        for Inbound { id, body } in &self.frames {
            let said = match body {
                Body::Open(open) => {
                    assert!(*id > last, "ids rise");
                    last = *id;
                    let name = text(open.message.as_ref().expect("a message"));
                    assert!(calls.insert(name.clone(), Vec::new()).is_none(), "{name} was written twice");
                    names.insert(*id, name);
                    continue;
                }
                Body::Item(item) => text(item),
                Body::Cancel => "cancel".to_owned(),
                other => other.name().to_owned(),
            };
            if *id > 0 {
                let name = names.get(id).expect("frames of a call follow its Open");
                calls.get_mut(name).expect("a call").push(said);
            }
        }
        calls
    }
}

fn text(bytes: &[u8]) -> String {
    String::decode(bytes).expect("text").chars().take(16).collect()
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

fn open(link: &Link, message: &str) -> Result<CallKey, OpenError> {
    let message = message.to_owned();
    let length = message.length();
    let mut rest = BytesMut::new();
    link.encoder().put_open_rest(&mut rest, &Metadata::new(), Some((&message, length))).expect("it fits");
    let is_small = rest.len() <= INLINE_BYTES;
    let bytes = rest.clone().freeze();
    let sum = (!is_small).then(|| Crc32Variant::Ieee.checksum(&rest));
    let rest = if is_small { Payload::Small(&rest) } else { Payload::Large(bytes) };
    let opening =
        Opening { method: METHOD, rest, sum, request_bytes: length as u64, deadline: None, reader: None };
    link.update(now(), |core, now| core.open(now, opening))
}

/// Sends an item once the call has its id; `false` where the call is over.
fn send_item(task: &Arc<Task>, link: &Link, key: CallKey, item: &str) -> bool {
    let mut id = Box::pin(id_of(link, key));
    let Some(Some(id)) = task.poll(|cx| id.as_mut().poll(cx)) else { return false };
    let item = item.to_owned();
    let mut frame = BytesMut::new();
    link.encoder().put_item(&mut frame, id, &item, item.length()).expect("it fits");
    link.update(now(), |core, _| core.send(key, Payload::Small(&frame), cost(item.length())))
}

/// Awaits the end of a call.
fn end_of(task: &Arc<Task>, link: &Arc<Link>, key: CallKey) -> Option<End> {
    let mut reader = CallReader::new(Arc::clone(link), key);
    task.poll(|cx| {
        loop {
            match reader.poll_next(cx) {
                Poll::Ready(Received::End(end)) => return Poll::Ready(end),
                Poll::Ready(Received::Headers(_) | Received::Item(_)) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    })
}

/// A frame that answers a call.
fn answer(id: u64) -> BytesMut {
    let mut frame = BytesMut::new();
    let empty = Metadata::new();
    let encoder = Encoder::new(Crc32Variant::Ieee, MAX_FRAME);
    encoder.put_close(&mut frame, id, &empty, &empty, Some((&"answer".to_owned(), 6 + 2))).expect("it fits");
    frame
}

/// Senders that open a call each and send an item on it.
fn senders_with_items(model: &Model, names: &[&'static str]) -> Vec<Spawned> {
    let sender = |name: &&'static str| {
        let name = *name;
        model.sender(move |task, link| {
            let key = open(&link, name).expect("it takes calls");
            assert!(send_item(task, &link, key, "one"));
            assert!(send_item(task, &link, key, "two"));
        })
    };
    names.iter().map(sender).collect()
}

fn check_items(model: &Model, names: &[&str]) {
    let written = model.written();
    assert_eq!(written.rest, 0);
    let calls = written.calls();
    assert_eq!(calls.keys().map(String::as_str).collect::<Vec<_>>(), names);
    assert!(calls.values().all(|items| *items == ["one", "two"]), "{calls:?}");
}

#[test]
fn what_two_send_leaves_in_order_through_a_socket_that_is_often_full() {
    explore(2500, || {
        let model = Model::new(Role::Client, 10, 7);
        let senders = senders_with_items(&model, &["a", "b"]);
        model.other_end(|socket| (0..3).for_each(|_| socket.make_room(15)));
        model.drain(25);
        check_items(&model, &["a", "b"]);
        model.end(senders);
    });
}

#[test]
fn what_three_send_leaves_while_the_socket_has_room() {
    explore(1500, || {
        let model = Model::new(Role::Client, 10_000, 10_000);
        let senders = senders_with_items(&model, &["a", "b", "c"]);
        model.drain(1);
        check_items(&model, &["a", "b", "c"]);
        model.end(senders);
    });
}

#[test]
fn large_frames_stay_whole_beside_small_ones() {
    explore(1500, || {
        let model = Model::new(Role::Client, 1000, 6000);
        let large: &str = &"l".repeat(INLINE_BYTES + 1);
        let large = large.to_owned();
        let mut senders = senders_with_items(&model, &["a"]);
        senders.push(model.sender(move |task, link| {
            let key = open(&link, &large).expect("it takes calls");
            assert!(send_item(task, &link, key, "one"));
            assert!(send_item(task, &link, key, "two"));
        }));
        model.other_end(|socket| (0..2).for_each(|_| socket.make_room(3000)));
        model.drain(3000);
        check_items(&model, &["a", "llllllllllllllll"]);
        model.end(senders);
    });
}

#[test]
fn a_call_that_is_given_up_during_a_write_is_gone_or_whole_and_cancelled() {
    explore(2500, || {
        let model = Model::new(Role::Client, 12, 9);
        let senders = senders_with_items(&model, &["stays"]);
        let gives_up = |name: &'static str| {
            model.sender(move |_, link| {
                let key = open(&link, name).expect("it takes calls");
                link.update(now(), |core, now| core.abandon(now, key));
            })
        };
        let abandoned = vec![gives_up("x"), gives_up("y")];
        model.other_end(|socket| (0..2).for_each(|_| socket.make_room(20)));
        model.drain(25);
        let written = model.written();
        assert_eq!(written.rest, 0);
        let mut calls = written.calls();
        assert_eq!(calls.remove("stays").expect("it is written"), ["one", "two"]);
        assert!(calls.values().all(|said| *said == ["cancel"]), "{calls:?}");
        // A call that was written stays until the other end closes it.
        assert_eq!(model.link.peek(|core| core.places().0 as usize), 1 + calls.len());
        model.end([senders, abandoned].into_iter().flatten().collect());
    });
}

#[test]
fn calls_that_others_fail_are_cancelled_while_more_is_sent() {
    explore(1000, || {
        let model = Model::new(Role::Client, 10_000, 10_000);
        let fails = |name: &'static str| {
            let key = open(&model.link, name).expect("it takes calls");
            let waits = model.sender(move |task, link| {
                assert!(matches!(end_of(task, &link, key), Some(End::Cancelled(_))), "{name}");
            });
            let status = Status::cancelled("by the other thread");
            let failing =
                model.sender(move |_, link| link.update(now(), |core, now| core.fail(now, key, status)));
            [waits, failing]
        };
        let mut senders: Vec<_> = ["a", "b"].into_iter().flat_map(fails).collect();
        senders.extend(senders_with_items(&model, &["stays"]));
        model.settle();
        let mut calls = model.written().calls();
        assert_eq!(calls.remove("stays").expect("it is written"), ["one", "two"]);
        assert!(calls.values().all(|said| *said == ["cancel"]), "{calls:?}");
        assert!(senders.iter().all(Spawned::is_over), "a call waits for an end that it has");
        model.end(senders);
    });
}

#[test]
fn a_frame_that_was_begun_is_finished_although_its_call_is_answered() {
    explore(1500, || {
        let model = Model::new(Role::Client, 1000, 9);
        let key = open(&model.link, "answered").expect("it takes calls");
        model.settle();
        model.socket.leave_room(5);
        let mut senders = vec![model.sender(move |task, link| {
            _ = send_item(task, &link, key, "one") && send_item(task, &link, key, "two");
        })];
        senders.extend(senders_with_items(&model, &["stays"]));
        model.other_end(|socket| socket.send(&answer(1)));
        model.drain(12);
        let written = model.written();
        assert_eq!(written.rest, 0);
        let calls = written.calls();
        assert_eq!(calls["stays"], ["one", "two"]);
        // What was not begun is not sent.
        assert!(
            ["one", "two"].starts_with(&calls["answered"].iter().map(String::as_str).collect::<Vec<_>>())
        );
        model.end(senders);
    });
}

/// What became of the calls of a connection that was lost.
#[derive(Default)]
struct Fates {
    /// Each call, and whether it may have been seen.
    lost: Mutex<Vec<(&'static str, bool)>>,
    refused: Mutex<usize>,
}

impl Fates {
    /// Opens calls and awaits their ends.
    fn sender(self: &Arc<Self>, model: &Model, names: &'static [&'static str]) -> Spawned {
        let fates = Arc::clone(self);
        model.sender(move |task, link| {
            for name in names {
                match open(&link, name) {
                    Err(OpenError::Closed) => *lock(&fates.refused) += 1,
                    Err(OpenError::NotAccepted) => panic!("the limit is not 0"),
                    Ok(key) => match end_of(task, &link, key) {
                        Some(End::Lost(lost)) => lock(&fates.lost).push((name, lost.sent)),
                        end => panic!("{name} ended with {end:?}"),
                    },
                }
            }
        })
    }

    /// A call that was reported as never sent is not among what was written.
    fn check(&self, calls: usize, written: &Written) {
        let lost = lock(&self.lost);
        assert_eq!(lost.len() + *lock(&self.refused), calls);
        let seen = written.calls();
        for (name, sent) in lost.iter() {
            assert!(*sent || !seen.contains_key(*name), "{name} was written, and reported as never sent");
        }
        // What is not whole belongs to one more call.
        let begun = seen.len() + usize::from(written.rest > 0);
        let sent = lost.iter().filter(|(_, sent)| *sent).count();
        assert!(begun <= sent, "{begun} calls were begun, and {sent} reported as sent");
    }
}

#[test]
fn a_driver_that_is_dropped_ends_every_call_and_drops_the_socket() {
    explore(2500, || {
        let model = Model::new(Role::Client, 12, 9);
        let fates = Arc::new(Fates::default());
        let senders = vec![fates.sender(&model, &["a"]), fates.sender(&model, &["b", "c"])];
        let driver = Arc::clone(&model.driver.task);
        model.other_end(move |socket| {
            socket.make_room(20);
            driver.cancel();
            socket.make_room(20);
        });
        let socket = model.socket.clone();
        model.end(senders);
        fates.check(3, &Written::parse(&socket.written()));
    });
}

#[test]
fn a_socket_that_breaks_ends_every_call() {
    explore(2500, || {
        let model = Model::new(Role::Client, 12, 9);
        let fates = Arc::new(Fates::default());
        let senders = vec![fates.sender(&model, &["a"]), fates.sender(&model, &["b", "c"])];
        model.other_end(|socket| {
            socket.make_room(20);
            socket.break_output();
        });
        model.settle();
        // Calls that can't have been seen are lost already. The others may still be answered.
        model.socket.end_input();
        model.settle();
        assert!(model.driver.is_over(), "the connection is not over");
        let written = model.written();
        model.end(senders);
        fates.check(3, &written);
    });
}

#[test]
fn a_stream_that_ends_ends_every_call() {
    explore(2500, || {
        let model = Model::new(Role::Client, 12, 9);
        let fates = Arc::new(Fates::default());
        let senders = vec![fates.sender(&model, &["a"]), fates.sender(&model, &["b", "c"])];
        model.other_end(|socket| {
            socket.make_room(20);
            socket.end_input();
        });
        model.drain(10);
        assert!(senders.iter().all(Spawned::is_over), "a call waits for a connection that is gone");
        let written = model.written();
        model.end(senders);
        fates.check(3, &written);
    });
}

#[test]
fn what_answered_calls_send_next_leaves_although_it_is_held_back() {
    explore(1500, || {
        let model = Model::new(Role::Client, 10_000, 30);
        let sender = |names: [&'static str; 2]| {
            model.sender(move |task, link| {
                for name in names {
                    let key = open(&link, name).expect("it takes calls");
                    assert!(matches!(end_of(task, &link, key), Some(End::Closed(None))), "{name}");
                }
            })
        };
        let senders = vec![sender(["a", "b"]), sender(["c", "d"]), sender(["e", "f"])];
        let mut answered = 0;
        model.settle();
        while let frames = model.written().frames
            && answered < frames.len()
        {
            // Calls that were opened together are answered together.
            let answers = frames[answered..].iter().flat_map(|frame| answer(frame.id));
            model.socket.send(&answers.collect::<Vec<_>>());
            answered = frames.len();
            model.settle();
        }
        assert_eq!(answered, 6);
        assert!(senders.iter().all(Spawned::is_over), "a call was not answered");
        model.end(senders);
    });
}

#[test]
fn a_server_answers_calls_that_came_together_from_any_thread() {
    explore(1500, || {
        let model = Model::new(Role::Server, 20, 15);
        let encoder = Encoder::new(Crc32Variant::Ieee, MAX_FRAME);
        let mut opens = BytesMut::new();
        for id in 1..=3 {
            let mut rest = BytesMut::new();
            let message = "q".to_owned();
            encoder.put_open_rest(&mut rest, &Metadata::new(), Some((&message, message.length()))).unwrap();
            encoder.put_open(&mut opens, id, METHOD, 0, OpenRest::Inline(&rest)).unwrap();
        }
        model.socket.send(&opens);
        model.settle();
        let handlers: Vec<_> = std::mem::take(&mut *lock(&model.calls.arrived))
            .into_iter()
            .map(|(key, id)| {
                model.sender(move |_, link| {
                    link.peek(|core| core.begin(now(), key)).expect("the call is open");
                    let frame = answer(id);
                    link.update(now(), |core, now| {
                        core.finish(now, key, Finish::Answered(Payload::Small(&frame)));
                    });
                })
            })
            .collect();
        assert_eq!(handlers.len(), 3);
        model.drain(20);
        let mut ids: Vec<_> = model.written().frames.iter().map(|frame| frame.id).collect();
        ids.sort_unstable();
        assert_eq!(ids, [1, 2, 3]);
        model.end(handlers);
    });
}

#[test]
fn reading_goes_on_once_the_answers_to_many_pings_are_written() {
    explore(200, || {
        let model = Model::new(Role::Client, 0, 10_000);
        let encoder = Encoder::new(Crc32Variant::Ieee, MAX_FRAME);
        let mut pings = BytesMut::new();
        for nonce in 0..80 {
            encoder.put(&mut pings, 0, WireBody::Ping(Nonce { nonce })).unwrap();
        }
        let more = pings.clone();
        model.other_end(move |socket| {
            socket.send(&pings);
            socket.make_room(10_000);
            socket.send(&more);
        });
        model.drain(10_000);
        let answers = model.written().frames.iter().filter(|frame| matches!(frame.body, Body::Pong)).count();
        assert_eq!(answers, 160);
        model.end(Vec::new());
    });
}

#[test]
fn a_connection_that_is_lost_on_any_thread_is_over_for_its_driver() {
    explore(1000, || {
        let model = Model::new(Role::Client, 12, 9);
        let fates = Arc::new(Fates::default());
        let senders = vec![fates.sender(&model, &["a", "b"])];
        let losing = model.sender(|_, link| link.lose(IpcError::PeerClosed));
        model.settle();
        assert!(losing.is_over());
        let written = model.written();
        model.end(senders);
        fates.check(2, &written);
    });
}
