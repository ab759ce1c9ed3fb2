//! Tests of rules for both sides, or for several modules of one side. A test connects two cores by hand.

use std::collections::VecDeque;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::call::{End, Next, Waiting};
use super::callee::Finish;
use super::caller::Opening;
use super::connection::{Connection, Phase};
use super::ending::Ending;
use super::envelope;
use super::frame::{FrameCodec, FrameReader};
use super::handshake::{CallLimits, Role, Terms};
use super::outbox::Transmit;
use super::queue::{INLINE_BYTES, Payload};
use super::roles::Arrival;
use super::table::CallKey;
use crate::config::Crc32Variant;
use crate::error::IpcError;
use crate::metadata::Metadata;
use crate::status::Status;

const MAX_FRAME: usize = 64 * 1024;

/// A client's core, a server's core, and the time.
struct Duo {
    client: Connection,
    server: Connection,
    now: Instant,
}

fn terms(role: Role, window: u64, limits: CallLimits) -> Terms {
    let none = CallLimits { calls: 0, request_bytes: 0 };
    let is_client = role == Role::Client;
    Terms {
        role,
        variant: Crc32Variant::Ieee,
        max_frame_bytes: MAX_FRAME,
        send_limit: MAX_FRAME,
        window,
        peer_window: window,
        own_limits: if is_client { none } else { limits },
        peer_limits: if is_client { limits } else { none },
        read_timeout: Duration::from_secs(30),
        write_timeout: Duration::from_secs(10),
    }
}

impl Duo {
    fn new(window: u64, calls: u32, request_bytes: u64) -> Self {
        let limits = CallLimits { calls, request_bytes };
        let now = Instant::now();
        let connection = |role| Connection::new(now, terms(role, window, limits));
        Self { client: connection(Role::Client), server: connection(Role::Server), now }
    }

    /// Opens a call whose request has `bytes` bytes.
    fn open(&mut self, bytes: usize, deadline: Option<Instant>) -> CallKey {
        let mut rest = BytesMut::new();
        let message = vec![0_u8; bytes];
        self.client
            .encoder()
            .put_open_rest(
                &mut rest,
                &Metadata::new(),
                Some((&message, prost::Message::encoded_len(&message))),
            )
            .unwrap();
        let opening = Opening {
            method: "/a.B/C",
            rest: if rest.len() > INLINE_BYTES {
                Payload::Large(rest.freeze())
            } else {
                Payload::Small(&rest)
            },
            sum: None,
            request_bytes: bytes as u64,
            deadline,
            reader: None,
        };
        self.client.open(self.now, opening).unwrap()
    }

    /// The bytes that the client hands over for writing.
    fn hand_over(&mut self) -> Transmit {
        self.client.poll_transmit(self.now).unwrap()
    }

    /// Gives the bytes back: the transport took none of them.
    fn give_back(&mut self, transmit: Transmit) {
        self.client.transmitted(self.now, transmit, false);
    }

    /// Passes everything that the client has to write to the server.
    fn client_writes(&mut self) {
        pass(self.now, &mut self.client, &mut self.server);
    }

    fn server_writes(&mut self) {
        pass(self.now, &mut self.server, &mut self.client);
    }

    fn arrival(&mut self) -> Arrival {
        self.server.arrivals().pop().unwrap()
    }

    fn answer(&mut self, call: &Arrival) {
        let mut frame = BytesMut::new();
        let (headers, trailers) = (Metadata::new(), Metadata::new());
        self.server.encoder().put_close(&mut frame, call.id, &headers, &trailers, Some((&(), 0))).unwrap();
        self.server.finish(self.now, call.key, Finish::Answered(Payload::Small(&frame)));
    }

    /// The next part for the client's reader of a call.
    fn read(&mut self, key: CallKey) -> Option<Next> {
        self.client.next(key, &mut VecDeque::<Waiting>::new(), Waker::noop())
    }
}

/// Writes everything that one side has, and hands it to the other.
fn pass(now: Instant, from: &mut Connection, to: &mut Connection) {
    let mut wire = Vec::new();
    while let Some(mut transmit) = from.poll_transmit(now) {
        let parts = transmit.parts().concat();
        transmit.advance(parts.len());
        wire.extend(parts);
        from.transmitted(now, transmit, true);
    }
    let mut reader = FrameReader::new(FrameCodec::new(Crc32Variant::Ieee, MAX_FRAME));
    let mut wire = &wire[..];
    while !wire.is_empty() {
        let room = bytes::BufMut::remaining_mut(&reader.room()).min(wire.len());
        bytes::BufMut::put_slice(&mut reader.room(), &wire[..room]);
        reader.note_read(room);
        wire = &wire[room..];
        while let Some(frame) = reader.next().unwrap() {
            let inbound = envelope::decode(frame, &mut |_| Ok(0)).unwrap().unwrap();
            to.handle(now, inbound);
        }
    }
}

fn expired(next: Option<&Next>) -> bool {
    matches!(next, Some(Next::End(End::Expired { .. })))
}

#[test]
fn a_call_whose_end_was_read_before_its_close_arrives_leaves_with_the_close() {
    let mut duo = Duo::new(1000, 1, u64::MAX);
    let key = duo.open(10, None);
    duo.client_writes();
    duo.client.expire(duo.now, key);
    assert!(expired(duo.read(key).as_ref()));
    duo.client_writes();
    let call = duo.arrival();
    duo.answer(&call);
    duo.server_writes();
    duo.client.check_rest().unwrap();
}

#[test]
fn calls_that_expire_unsent_say_what_they_waited_for_and_leave_nothing() {
    let mut duo = Duo::new(1000, 1, u64::MAX);
    let keys = [duo.open(10, None), duo.open(10, None)];
    // The last first: the other one's place would be its own.
    duo.client.expire(duo.now, keys[1]);
    duo.client.expire(duo.now, keys[0]);
    let ends = keys.map(|key| match duo.read(key) {
        Some(Next::End(End::Expired { sent, admitted })) => (sent, admitted),
        other => panic!("{other:?}"),
    });
    assert_eq!(ends, [(false, true), (false, false)]);
    duo.client.check_rest().unwrap();
}

#[test]
fn without_a_window_a_reader_that_waited_before_the_call_had_an_id_is_sent_an_item() {
    let mut duo = Duo::new(0, 1, u64::MAX);
    let first = duo.open(10, None);
    let key = duo.open(10, None);
    assert!(duo.read(key).is_none());
    duo.client_writes();
    let call = duo.arrival();
    duo.answer(&call);
    duo.server_writes();
    assert!(duo.read(first).is_some());
    duo.client_writes();
    let call = duo.arrival();
    assert_eq!(duo.server.poll_send(call.key, Waker::noop()), Poll::Ready(Some(1)));
}

#[test]
fn small_requests_go_before_large_ones_that_have_just_come() {
    let mut duo = Duo::new(1000, 3, u64::MAX);
    duo.open(INLINE_BYTES + 1000, None);
    duo.open(INLINE_BYTES + 2000, None);
    duo.open(10, None);
    let [head, tail] = duo.hand_over().parts().map(<[u8]>::len);
    assert_eq!(head, 31 + 26, "the small request, and the head of a large one");
    assert!(tail > INLINE_BYTES && tail < INLINE_BYTES + 1500, "the first large one: {tail}");
}

#[test]
fn a_write_of_which_nothing_is_left_is_over() {
    let mut duo = Duo::new(1000, 1, u64::MAX);
    let key = duo.open(10, None);
    let transmit = duo.hand_over();
    duo.give_back(transmit);
    assert!(duo.client.is_blocked());
    let write_is_late = duo.now + Duration::from_secs(10);
    assert_eq!(duo.client.timeout(), Some(write_is_late));
    duo.client.abandon(duo.now, key);
    assert!(!duo.client.is_blocked() && !duo.client.can_transmit());
    duo.client.handle_timeout(write_is_late);
    assert_eq!(duo.client.phase(), Phase::Open);
}

#[test]
fn replies_in_front_of_a_call_that_was_dropped_do_not_count_for_ever() {
    let mut duo = Duo::new(1000, 1, u64::MAX);
    duo.client.handle(duo.now, envelope::Inbound { id: 0, body: envelope::Body::Ping(1) });
    let key = duo.open(10, None);
    let mut transmit = duo.hand_over();
    let pong = transmit.parts()[0][0] as usize + 8;
    transmit.advance(pong);
    duo.client.transmitted(duo.now, transmit, true);
    duo.client.abandon(duo.now, key);
    duo.client.check_rest().unwrap();
}

#[test]
fn calls_that_are_closed_leave_when_writing_has_failed() {
    let mut duo = Duo::new(1000, 2, u64::MAX);
    duo.open(10, None);
    duo.open(10, None);
    duo.client_writes();
    let second = duo.arrival();
    let first = duo.arrival();
    // The Close of the first waits behind an item that is large enough to take turns.
    let item = Bytes::from(vec![0; INLINE_BYTES + 1]);
    assert!(duo.server.send(first.key, Payload::Large(item), 1));
    duo.answer(&first);
    duo.server.handle_write_error(duo.now);
    duo.answer(&second);
    assert_eq!(duo.server.running(), 0);
    duo.server.check_rest().unwrap();
}

#[test]
fn a_connection_that_nobody_wants_ends_with_its_last_call_however_that_ends() {
    let ways: [fn(&mut Duo, CallKey); 3] = [
        |duo, key| duo.client.expire(duo.now, key),
        |duo, key| duo.client.fail(duo.now, key, Status::internal("a test")),
        |duo, _| {
            duo.now += Duration::from_secs(1);
            assert!(duo.client.poll_transmit(duo.now).is_none());
        },
    ];
    for way in ways {
        let mut duo = Duo::new(1000, 1, u64::MAX);
        // Large, so that it is not chosen at once.
        let key = duo.open(INLINE_BYTES, Some(duo.now + Duration::from_secs(1)));
        duo.client.release(duo.now);
        assert_eq!(duo.client.phase(), Phase::Open);
        way(&mut duo, key);
        assert!(matches!(duo.client.phase(), Phase::Lingering { .. }));
    }
}

#[test]
fn a_server_that_drains_ends_when_writing_fails_and_nothing_runs() {
    let mut duo = Duo::new(1000, 1, u64::MAX);
    duo.open(10, None);
    duo.client_writes();
    let call = duo.arrival();
    let item = Bytes::from(vec![0; INLINE_BYTES + 1]);
    assert!(duo.server.send(call.key, Payload::Large(item), 1));
    duo.answer(&call);
    duo.server.drain(duo.now);
    assert_eq!(duo.server.phase(), Phase::Open);
    duo.server.handle_write_error(duo.now);
    assert_eq!(duo.server.phase(), Phase::Closed);
}

#[test]
fn those_who_wait_behind_a_request_that_needs_many_bytes_move_up_when_it_is_given_up() {
    let bytes = 2 * INLINE_BYTES;
    let mut duo = Duo::new(1000, 3, 2 * bytes as u64);
    duo.open(bytes, None);
    let first = duo.open(2 * bytes, None);
    duo.open(bytes, None);
    assert_eq!(duo.client.places(), (1, 2));
    duo.client.abandon(duo.now, first);
    assert_eq!(duo.client.places(), (2, 1));
}

#[test]
fn credit_is_no_reason_to_write_once_a_connection_has_ended_or_its_call_is_gone() {
    let ways: [fn(&mut Duo, CallKey); 3] = [
        |duo, key| {
            duo.client.abandon(duo.now, key);
            // Its Cancel.
            drop(duo.hand_over());
        },
        |duo, _| duo.client.handle_input_end(duo.now, Ending::silent(IpcError::PeerClosed)),
        |duo, _| duo.client.handle_write_error(duo.now),
    ];
    for way in ways {
        let mut duo = Duo::new(0, 1, u64::MAX);
        let key = duo.open(10, None);
        duo.client_writes();
        assert!(duo.read(key).is_none());
        assert!(duo.client.can_transmit());
        way(&mut duo, key);
        assert!(!duo.client.can_transmit());
    }
}
