//! A connection among a peer that says anything, users who do anything, a transport that takes anything, and time.
//!
//! The users keep to what the link and those above it do; the peer keeps to nothing. After each step the bounds are checked,
//! what was written is read as a peer would, and in the end a connection that is still open must come to rest.

use std::collections::{BTreeMap, VecDeque};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{BufMut as _, Bytes, BytesMut};

use super::{Source, grammar, run};
use crate::config::Crc32Variant;
use crate::error::IpcError;
use crate::metadata::Metadata;
use crate::protocol::call::cost;
use crate::protocol::callee::Finish;
use crate::protocol::caller::Opening;
use crate::protocol::connection::{Connection, Phase};
use crate::protocol::encode::Encode;
use crate::protocol::ending::Ending;
use crate::protocol::envelope::wire::{Empty, GoAway, WireBody};
use crate::protocol::envelope::{
    Body, Close, CloseDetails, CloseMetadata, Inbound, Limited, Open, WireStatus, decode,
};
use crate::protocol::frame::{Frame, FrameCodec, FrameReader};
use crate::protocol::handshake::{CallLimits, Role, Terms};
use crate::protocol::outbox::Transmit;
use crate::protocol::queue::{INLINE_BYTES, Payload};
use crate::protocol::roles::Arrival;
use crate::protocol::table::CallKey;
use crate::status::Status;

const CORPUS: &str = include_str!("../../../testdata/fuzz/connections.txt");

/// The largest frame either way.
const MAX_FRAME: usize = 40_000;

/// Replies may pass the connection's own bound of 64 by what one read brings.
const MAX_BATCH: usize = 64;
const MAX_REPLIES: usize = 64 + MAX_BATCH;

/// What is chosen for one write, and a large frame.
const MAX_CHOSEN: usize = (64 + 16 + 8) * 1024 + MAX_FRAME;

/// The most that a refusal, a Pong, a Ping, a Cancel or a Credit takes.
const CONTROL: usize = 512;

/// What a user has done with a call.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent facts")]
struct User {
    id: u64,
    begun: bool,
    /// Its last frame was given to the connection.
    finished: bool,
    /// It sends no more items.
    half_closed: bool,
    has_sent: bool,
    items: VecDeque<crate::protocol::call::Waiting>,
    taken: u64,
}

/// What the peer has seen of a call.
#[derive(Debug, Default)]
struct Written {
    has_headers: bool,
    is_closed: bool,
    is_half_closed: bool,
}

struct Play<'a> {
    source: Source<'a>,
    core: Connection,
    terms: Terms,
    now: Instant,
    users: Vec<(CallKey, User)>,
    /// The highest id that the peer has opened.
    peer_opened: u64,
    in_flight: Option<Transmit>,
    reader: FrameReader,
    written: BTreeMap<u64, Written>,
    has_write_failed: bool,
    may_end: bool,
    credits: usize,
}

fn terms(source: &mut Source<'_>) -> Terms {
    let role = source.pick(&[Role::Server, Role::Client]);
    let calls = source.pick(&[3, 8, 1, 0]);
    let request_bytes = source.pick(&[u64::MAX, 100]);
    let limits = CallLimits { calls, request_bytes };
    let none = CallLimits { calls: 0, request_bytes: u64::MAX };
    let (own_limits, peer_limits) = match role {
        Role::Server => (limits, none),
        Role::Client => (none, limits),
    };
    Terms {
        role,
        variant: Crc32Variant::Ieee,
        max_frame_bytes: MAX_FRAME,
        send_limit: MAX_FRAME,
        window: source.pick(&[4096, 64, 1, 0, 1 << 62]),
        peer_window: source.pick(&[4096, 64, 1, 0, 1 << 62]),
        own_limits,
        peer_limits,
        read_timeout: Duration::from_secs(3),
        write_timeout: Duration::from_secs(1),
    }
}

impl Play<'_> {
    fn step(&mut self) {
        match self.source.below(16) {
            0..=4 => self.peer_speaks(),
            5..=10 => self.user_acts(),
            11 | 12 => self.begin_write(),
            13 => self.end_write(),
            14 => self.pass_time(),
            _ => self.rare(),
        }
        self.take_arrivals();
        self.core.wakeups().clear();
        self.assert_bounds();
    }

    // The peer.

    fn peer_speaks(&mut self) {
        let count = if self.source.one_in(16) { 1 + self.source.below(MAX_BATCH) } else { 1 };
        if !self.core.wants_input() {
            return;
        }
        self.core.note_read(self.now);
        let one = self.source.0;
        for _ in 0..count {
            // All of a batch are alike, but for the ids of Opens.
            self.source = Source(one);
            if let Some(inbound) = self.inbound() {
                if matches!(inbound.body, Body::Open(_)) {
                    self.peer_opened = self.peer_opened.max(inbound.id);
                }
                self.core.handle(self.now, inbound);
            }
        }
        let is_inside_frame = self.source.one_in(8);
        self.core.note_frames_taken(self.now, count, is_inside_frame);
    }

    fn inbound(&mut self) -> Option<Inbound> {
        if self.source.one_in(16) {
            let envelope = grammar::envelope(&mut self.source);
            return decode(Frame::Small(&envelope), &mut |_| Ok(0))
                .ok()?
                .filter(|found| found.id != u64::MAX);
        }
        let body = self.body();
        let id = if body.is_about_connection() {
            u64::from(self.source.one_in(32))
        } else if matches!(body, Body::Open(_)) && !self.source.one_in(16) {
            self.peer_opened + 1
        } else {
            self.source.byte().into()
        };
        let known: Vec<u64> = match self.terms.role {
            Role::Client => self.users.iter().map(|(_, user)| user.id).filter(|id| *id > 0).collect(),
            Role::Server => self.users.iter().map(|(_, user)| user.id).collect(),
        };
        let is_about_known = !body.is_about_connection() && !matches!(body, Body::Open(_));
        let id = if is_about_known && !known.is_empty() && !self.source.one_in(32) {
            self.source.pick(&known)
        } else {
            id
        };
        Some(Inbound { id, body })
    }

    fn body(&mut self) -> Body {
        let message = self.message();
        let choice = if self.source.one_in(8) { self.source.below(11) } else { 11 };
        let usual = match self.terms.role {
            Role::Server => [1, 1, 3, 3, 4, 6, 7, 8],
            Role::Client => [2, 3, 3, 3, 5, 5, 7, 8],
        };
        let choice = if choice == 11 { self.source.pick(&usual) } else { choice };
        match choice {
            0 => Body::Hello(Box::default()),
            1 => Body::Open(Open {
                target: if self.source.one_in(8) {
                    Err(Box::new(Status::unimplemented("none")))
                } else {
                    Ok(0)
                },
                timeout_us: self.source.pick(&[0, 1, 1_000_000, u64::MAX]),
                metadata: if self.source.one_in(8) {
                    Limited::TooLarge
                } else {
                    Limited::Within(self.metadata())
                },
                end_of_stream: self.source.below(2) == 0,
                message: if self.source.one_in(3) { None } else { Some(message) },
            }),
            2 if self.source.one_in(8) => Body::Headers(Limited::TooLarge),
            2 => Body::Headers(Limited::Within(self.metadata())),
            3 if self.source.one_in(4) => Body::Items(vec![message; 1 + self.source.below(20)]),
            3 => Body::Item(message),
            4 => Body::HalfClose,
            5 => Body::Close(self.close(message)),
            6 => Body::Cancel,
            7 => Body::Credit(self.source.pick(&[1, 100, 10_000, 1 << 61, u64::MAX])),
            8 => Body::Ping(7),
            9 => Body::Pong,
            _ => Body::GoAway(Box::new(GoAway {
                last_call_id: self.source.byte().into(),
                status: Some(WireStatus { code: self.source.pick(&[14, 13, 0]), ..WireStatus::default() }),
                retry_after_ms: self.source.byte().into(),
            })),
        }
    }

    fn message(&mut self) -> Bytes {
        let length = match self.source.below(8) {
            6 => self.source.below(256) * 100,
            7 => MAX_FRAME - 100,
            _ => self.source.below(40),
        };
        Bytes::from(vec![0x20; length])
    }

    fn metadata(&mut self) -> Metadata {
        let mut metadata = Metadata::new();
        if self.source.one_in(4) {
            let key = self.source.pick(&["key", "Bad Key", ""]);
            metadata.push_unchecked(key.into(), Bytes::from_static(b"value"));
        }
        metadata
    }

    fn close(&mut self, message: Bytes) -> Close {
        if self.source.below(2) == 0 {
            return Close { message: Some(message), more: None };
        }
        let metadata = CloseMetadata { headers: self.metadata(), trailers: self.metadata() };
        let more = CloseDetails {
            error: self.source.one_in(2).then(|| Status::aborted("why")),
            metadata: if self.source.one_in(8) { Limited::TooLarge } else { Limited::Within(metadata) },
            not_processed: self.source.one_in(4),
        };
        Close { message: None, more: Some(Box::new(more)) }
    }

    // The users.

    /// The host takes every call at once: it refuses it, or a handler will answer it.
    fn take_arrivals(&mut self) {
        let arrivals: Vec<Arrival> = self.core.arrivals().drain(..).collect();
        for arrival in arrivals {
            if self.source.one_in(8) {
                self.core.refuse(self.now, arrival.key, &Status::resource_exhausted("the server is full"));
            } else {
                self.users.push((arrival.key, User { id: arrival.id, ..User::default() }));
            }
        }
    }

    fn user_acts(&mut self) {
        if self.terms.role == Role::Client && (self.users.is_empty() || self.source.one_in(4)) {
            return self.open();
        }
        if self.users.is_empty() {
            return;
        }
        let at = self.source.below(self.users.len());
        let (key, mut user) = self.users.swap_remove(at);
        if let Poll::Ready(Some(id)) = self.core.poll_id(key, Waker::noop()) {
            user.id = id;
        }
        let is_done = match self.source.below(8) {
            0 | 1 => self.read(key, &mut user),
            2 | 3 => self.send_item(key, &mut user),
            4 => self.take(key, &mut user),
            _ => match self.terms.role {
                Role::Client => self.client_acts(key, &mut user),
                Role::Server => self.server_acts(key, &mut user),
            },
        };
        if !is_done {
            self.users.push((key, user));
        }
    }

    fn open(&mut self) {
        let message = self.message().to_vec();
        let mut rest = BytesMut::new();
        let encoder = self.core.encoder();
        let length = prost::Message::encoded_len(&message);
        let with_message = self.source.one_in(4).then_some((&message as &dyn Encode, length));
        if encoder.put_open_rest(&mut rest, &Metadata::new(), with_message).is_err() {
            return;
        }
        let request_bytes = with_message.map_or(0, |_| length as u64);
        let method = "/a.B/C";
        let timeout = self.source.pick(&[None, None, Some(0), Some(5), Some(5000)]);
        let deadline = timeout.map(|millis| self.now + Duration::from_millis(millis));
        let rest = rest.freeze();
        let payload = payload(&rest);
        let opening = Opening { method, rest: payload, sum: None, request_bytes, deadline, reader: None };
        if let Ok(key) = self.core.open(self.now, opening) {
            self.users.push((key, User { begun: true, ..User::default() }));
        }
    }

    fn read(&mut self, key: CallKey, user: &mut User) -> bool {
        self.core.next(key, &mut user.items, Waker::noop());
        self.credits += usize::from(self.terms.window == 0);
        false
    }

    fn take(&mut self, key: CallKey, user: &mut User) -> bool {
        if let Some(item) = user.items.pop_front() {
            user.taken = user.taken.saturating_add(item.cost);
            if self.core.taken(key, user.taken) {
                user.taken = 0;
                self.credits += 1;
            }
        }
        false
    }

    fn send_item(&mut self, key: CallKey, user: &mut User) -> bool {
        if user.id == 0 || user.half_closed || user.finished || !user.begun {
            return false;
        }
        let Poll::Ready(Some(credit)) = self.core.poll_send(key, Waker::noop()) else { return false };
        assert!(credit > 0);
        let message = self.message().to_vec();
        let length = prost::Message::encoded_len(&message);
        let mut frame = BytesMut::new();
        if self.core.encoder().put_item(&mut frame, user.id, &message, length).is_ok() {
            user.has_sent = true;
            assert!(self.core.send(key, payload(&frame.freeze()), cost(length)));
        }
        false
    }

    fn client_acts(&mut self, key: CallKey, user: &mut User) -> bool {
        match self.source.below(6) {
            0 if user.id > 0 && !user.half_closed => {
                user.half_closed = true;
                let mut frame = BytesMut::new();
                self.core.encoder().put(&mut frame, user.id, WireBody::HalfClose(Empty {})).unwrap();
                self.core.half_close(key, payload(&frame.freeze()));
                false
            }
            1 => {
                self.core.expire(self.now, key);
                false
            }
            2 => {
                self.core.fail(self.now, key, Status::internal("the user's own reasons"));
                false
            }
            3 => {
                self.core.is_answered(key);
                false
            }
            4 => {
                self.core.abandon(self.now, key);
                true
            }
            _ => false,
        }
    }

    fn server_acts(&mut self, key: CallKey, user: &mut User) -> bool {
        match self.source.below(5) {
            0 if !user.begun && !user.finished => user.begun = self.core.begin(self.now, key).is_ok(),
            1 if user.begun && !user.has_sent && !user.finished => {
                user.has_sent = true;
                let mut frame = BytesMut::new();
                self.core.encoder().put_headers(&mut frame, user.id, &Metadata::new()).unwrap();
                self.core.send_headers(key, payload(&frame.freeze()));
            }
            2 => {
                self.core.poll_over(key, Waker::noop());
            }
            3 if !user.finished => {
                self.finish(key, user);
                return self.source.below(2) == 0;
            }
            _ => {}
        }
        false
    }

    fn finish(&mut self, key: CallKey, user: &mut User) {
        user.finished = true;
        if !user.begun || self.source.one_in(3) {
            let words = "w".repeat(self.source.below(256) * 200);
            return self.core.finish(self.now, key, Finish::Failed(&Status::aborted(words)));
        }
        let message = self.message().to_vec();
        let mut frame = BytesMut::new();
        let none = Metadata::new();
        self.core
            .encoder()
            .put_close(&mut frame, user.id, &none, &none, Some((&message, message.length())))
            .unwrap();
        self.core.finish(self.now, key, Finish::Answered(payload(&frame.freeze())));
    }

    // The transport.

    fn begin_write(&mut self) {
        if self.in_flight.is_none() {
            self.in_flight = self.core.poll_transmit(self.now);
        }
        if self.source.below(4) > 0 {
            self.end_write();
        }
    }

    fn end_write(&mut self) {
        let Some(mut transmit) = self.in_flight.take() else { return };
        let most = match self.source.below(8) {
            0..=4 => usize::MAX,
            5 => self.source.below(256),
            6 => self.source.below(256) * 256,
            _ => {
                let rest = self.reader.missing().unwrap_or(0);
                rest + whole_frames(&transmit, rest, self.source.pick(&[0, 1, 2]))
            }
        };
        let taken = self.write(&mut transmit, most);
        self.core.transmitted(self.now, transmit, taken > 0);
        if self.source.one_in(64) {
            self.has_write_failed = true;
            self.may_end = true;
            self.core.handle_write_error(self.now);
        }
    }

    /// What the transport takes is read as the peer reads it.
    fn write(&mut self, transmit: &mut Transmit, most: usize) -> usize {
        let parts = transmit.parts().map(<[u8]>::to_vec);
        let mut left = most;
        let mut taken = 0;
        for part in parts {
            let mut part = &part[..part.len().min(left)];
            left -= part.len();
            taken += part.len();
            while !part.is_empty() {
                let mut room = self.reader.room();
                let (now, later) = part.split_at(part.len().min(room.remaining_mut()));
                room.put_slice(now);
                part = later;
                self.reader.note_read(now.len());
                self.take_written();
            }
        }
        transmit.advance(taken);
        taken
    }

    fn take_written(&mut self) {
        while let Some(frame) = self.reader.next().expect("whole frames") {
            let inbound = decode(frame, &mut |_| Ok(0)).expect("an envelope").expect("a body");
            let Inbound { id, body } = inbound;
            assert_eq!(id == 0, body.is_about_connection());
            if id == 0 {
                continue;
            }
            let is_open = matches!(body, Body::Open(_));
            match self.terms.role {
                Role::Client if is_open => {
                    assert!(self.written.last_key_value().is_none_or(|(last, _)| *last < id), "ids rise");
                }
                // Its Open may have been taken back meanwhile. A server ignores it then.
                Role::Client if matches!(body, Body::Credit(_)) && !self.written.contains_key(&id) => {
                    continue;
                }
                Role::Client => assert!(self.written.contains_key(&id), "{} before its Open", body.name()),
                Role::Server => assert!(id <= self.peer_opened, "{} of a call never opened", body.name()),
            }
            let written = self.written.entry(id).or_default();
            assert!(!written.is_closed, "{} after the end of call {id}", body.name());
            match body {
                Body::Close(_) | Body::Cancel => written.is_closed = true,
                Body::Headers(_) => assert!(!std::mem::replace(&mut written.has_headers, true)),
                Body::HalfClose => assert!(!std::mem::replace(&mut written.is_half_closed, true)),
                Body::Item(_) | Body::Items(_) => assert!(!written.is_half_closed),
                Body::Open(_)
                | Body::Credit(_)
                | Body::Hello(_)
                | Body::Ping(_)
                | Body::Pong
                | Body::GoAway(_) => {}
            }
        }
    }

    // Time, and what is rare.

    fn pass_time(&mut self) {
        self.now += Duration::from_millis(self.source.pick(&[1, 10, 400, 1000, 3000, 60_000]));
        self.handle_timeout();
    }

    fn handle_timeout(&mut self) {
        if self.core.timeout().is_some_and(|timeout| timeout <= self.now) {
            self.core.handle_timeout(self.now);
            let is_later = self.core.timeout().is_none_or(|timeout| timeout > self.now);
            assert!(is_later, "what is due was not done");
        }
    }

    fn rare(&mut self) {
        match (self.source.below(32), self.terms.role) {
            (24 | 25, Role::Server) => {
                self.may_end = true;
                self.core.drain(self.now);
            }
            (26, Role::Server) => {
                self.may_end = true;
                self.core.cut(self.now);
            }
            (27, Role::Client) => {
                self.may_end = true;
                self.core.release(self.now);
            }
            (16..=23, _) => self.rest(),
            (28, _) => self.core.handle_input_end(self.now, Ending::silent(IpcError::PeerClosed)),
            (29, _) => self.core.handle_input_end(self.now, Ending::frame(IpcError::Timeout)),
            (30, _) => self.core.lose(self.now, IpcError::PeerClosed),
            _ => {}
        }
    }

    // What must hold.

    fn assert_bounds(&self) {
        let core = &self.core;
        if self.terms.role == Role::Server {
            assert!(core.running() <= self.terms.own_limits.calls);
            assert_eq!(core.calls.len(), core.running() as usize);
        } else {
            assert!(core.places().0 <= self.terms.peer_limits.calls);
        }
        assert!(core.ids.len() <= core.calls.len());
        for call in core.calls.values() {
            let window = usize::try_from(self.terms.window).unwrap();
            // A message that came with the call's Open or Close costs no credit.
            assert!(call.waiting_bytes() <= window.saturating_add(2 * MAX_FRAME));
            assert!(call.queue.bytes() <= 64 * 1024 + 3 * MAX_FRAME, "{} bytes queued", call.queue.bytes());
        }
        let replies = core.outbox.replies();
        assert!(replies <= MAX_REPLIES, "{replies} replies wait");
        let waiting = core.outbox.waiting_bytes();
        let most = MAX_CHOSEN + (replies + self.credits + core.calls.len() + 64) * CONTROL;
        assert!(waiting <= most, "{waiting} bytes wait beside the calls' queues");
    }

    // The end: everybody is well-behaved from here on.

    fn come_to_rest(&mut self) {
        self.rest();
        if self.core.phase() == Phase::Open && !self.has_write_failed {
            assert!(!self.core.can_transmit() && !self.core.is_blocked());
            assert!(
                self.core.wants_input() && self.core.outbox.replies() == 0,
                "nothing waits, nothing is read"
            );
            self.end_calls();
        }
        let is_waiting = matches!(self.core.phase(), Phase::Flushing { .. });
        assert!(!is_waiting, "everything was written, and the connection waits for something");
    }

    /// The transport takes everything, and the peer answers each Ping.
    fn rest(&mut self) {
        let source = std::mem::replace(&mut self.source, Source(&[]));
        self.flush();
        if self.core.phase() == Phase::Open && !self.has_write_failed {
            assert!(!self.core.can_transmit() && !self.core.is_blocked());
            assert!(
                self.core.wants_input() && self.core.outbox.replies() == 0,
                "nothing waits, nothing is read"
            );
            assert!(self.core.outbox.is_flushed());
            self.stay_open();
        }
        self.source = source;
    }

    fn flush(&mut self) {
        self.end_write();
        for _ in 0..10_000 {
            let Some(mut transmit) = self.core.poll_transmit(self.now) else { return };
            self.write(&mut transmit, usize::MAX);
            self.core.transmitted(self.now, transmit, true);
        }
        panic!("it never ends");
    }

    /// A peer that answers each Ping keeps the connection open.
    fn stay_open(&mut self) {
        let ends = self.may_end || self.core.caller.is_closed_for_good();
        self.core.note_frames_taken(self.now, 1, false);
        for _ in 0..10 {
            let Some(due) = self.core.timeout() else { return };
            self.now = self.now.max(due);
            self.core.note_read(self.now);
            self.handle_timeout();
            self.flush();
            assert!(ends || self.core.phase() == Phase::Open, "a connection ended for no reason");
        }
    }

    /// All users are done with their calls, and a client's peer has closed them.
    fn end_calls(&mut self) {
        for (key, mut user) in std::mem::take(&mut self.users) {
            match self.terms.role {
                Role::Client => self.core.abandon(self.now, key),
                Role::Server if user.finished => {}
                Role::Server => self.finish(key, &mut user),
            }
        }
        self.flush();
        if self.terms.role == Role::Client {
            let open: Vec<u64> = self.core.ids.keys().copied().collect();
            for id in open {
                let body = Body::Close(Close { message: None, more: None });
                self.core.handle(self.now, Inbound { id, body });
            }
            self.flush();
        }
        assert_eq!((self.core.calls.len(), self.core.ids.len()), (0, 0), "calls are left over");
        assert_eq!((self.core.running(), self.core.places().0), (0, 0));
    }
}

/// The length of so many whole frames, after the rest of one that was begun.
fn whole_frames(transmit: &Transmit, rest: usize, count: usize) -> usize {
    let bytes = transmit.parts().concat();
    let mut end = 0;
    for _ in 0..count {
        let Some(header) = bytes.get(rest + end..).and_then(<[u8]>::first_chunk::<4>) else { break };
        end += 8 + usize::try_from(u32::from_le_bytes(*header)).unwrap();
    }
    end
}

fn payload(bytes: &Bytes) -> Payload<'_> {
    if bytes.len() <= INLINE_BYTES { Payload::Small(bytes) } else { Payload::Large(bytes.clone()) }
}

fn judge(input: &[u8]) {
    let mut source = Source(input);
    let terms = terms(&mut source);
    let now = Instant::now();
    let codec = FrameCodec::new(terms.variant, MAX_FRAME);
    let mut play = Play {
        source,
        core: Connection::new(now, terms),
        terms,
        now,
        users: Vec::new(),
        peer_opened: 0,
        in_flight: None,
        reader: FrameReader::new(codec),
        written: BTreeMap::new(),
        has_write_failed: false,
        may_end: false,
        credits: 0,
    };
    while !play.source.is_empty() {
        play.step();
    }
    play.come_to_rest();
}

#[test]
fn a_connection_keeps_its_bounds_whatever_happens() {
    run(CORPUS, 1_000, 400, judge);
}
