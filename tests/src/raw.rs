//! Peers that say what a test tells them to: [`RawPeer`], one end of a connection, and [`RawServer`].
//!
//! They know frames and envelopes ([`wire`]) and keep none of the protocol's rules. Whatever they
//! wait for fails the test when it does not come.

#![expect(clippy::missing_panics_doc, reason = "what a test waits for fails it by a panic")]

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::local::{Listener, Stream};
use crate::wire::{self, Body, Checksum, Close, Envelope, GoAway, Hello, Open};

/// Longer than anything takes that works, on any machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// One end of a connection.
#[derive(Debug)]
pub struct RawPeer {
    stream: Stream,
    input: BytesMut,
    /// What the frames to and from the other side have now.
    pub sends: Checksum,
    /// What the frames from the other side have now.
    pub receives: Checksum,
}

/// Fails the test if `work` takes too long.
pub async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, work).await;
    done.unwrap_or_else(|_| panic!("waited {} s for {what}", PATIENCE.as_secs()))
}

impl RawPeer {
    /// Connects, and says nothing.
    pub async fn connect(path: impl AsRef<str>) -> Self {
        Self::over(soon("a connection", Stream::connect(path.as_ref())).await.expect("a server listens"))
    }

    const fn new(stream: Stream, input: BytesMut) -> Self {
        Self { stream, input, sends: Checksum::Ieee, receives: Checksum::Ieee }
    }

    /// One end of a stream.
    #[must_use]
    pub fn over(stream: Stream) -> Self {
        Self::new(stream, BytesMut::new())
    }

    /// As a client: says Hello, reads the server's, and goes on with the checksum that was asked for.
    pub async fn greet(&mut self, hello: Hello) -> Hello {
        let variant = hello.crc32_variant;
        self.send(0, hello).await;
        let answer = self.hello().await;
        self.switch(variant);
        answer
    }

    /// As a server: reads the client's Hello, says this one, and goes on with the checksum in it.
    pub async fn welcome(&mut self, hello: Hello) -> Hello {
        let client = self.hello().await;
        let variant = hello.crc32_variant;
        self.send(0, hello).await;
        self.switch(variant);
        client
    }

    const fn switch(&mut self, variant: i32) {
        let checksum = if variant == 1 { Checksum::Castagnoli } else { Checksum::Ieee };
        (self.sends, self.receives) = (checksum, checksum);
    }

    /// Sends an envelope.
    pub async fn send(&mut self, call_id: u64, body: impl Into<Body>) {
        self.write(&wire::frame_of(self.sends, call_id, body)).await;
    }

    /// Sends several envelopes in one write.
    pub async fn send_all<B: Into<Body>>(&mut self, frames: impl IntoIterator<Item = (u64, B)>) {
        let checksum = self.sends;
        let bytes: Vec<u8> =
            frames.into_iter().flat_map(|(id, body)| wire::frame_of(checksum, id, body)).collect();
        self.write(&bytes).await;
    }

    /// Sends any bytes.
    pub async fn write(&mut self, bytes: &[u8]) {
        soon("room to write", self.stream.write_all(bytes)).await.expect("the other side reads");
    }

    /// Whether the other side has let go of the stream for good, reading included.
    pub async fn is_shut(&mut self) -> bool {
        use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
        crate::clock::settle().await;
        // Which of the two it is depends on whether the last bytes had been read.
        self.stream.try_write(b"?").is_err_and(|error| matches!(error.kind(), BrokenPipe | ConnectionReset))
    }

    /// Writes what can be written without waiting; says how much that was.
    pub async fn write_now(&mut self, bytes: &[u8]) -> usize {
        crate::clock::settle().await;
        self.stream.try_write(bytes).unwrap_or(0)
    }

    /// Ends the own half of the stream.
    pub async fn half_close(&mut self) {
        self.stream.shutdown().await.expect("a stream to shut down");
    }

    /// Takes nothing from here on: the other side's writes fail, and it can go on reading.
    #[cfg(unix)]
    pub fn stop_reading(&self) {
        rustix::net::shutdown(&self.stream, rustix::net::Shutdown::Read).expect("a stream to shut down");
    }

    /// Reads at least so many raw bytes, to be taken as frames later.
    pub async fn read_some(&mut self, bytes: usize) {
        let enough = self.input.len() + bytes;
        while self.input.len() < enough {
            let read = soon("bytes", self.stream.read_buf(&mut self.input)).await.expect("a stream");
            assert!(read > 0, "the stream ended where bytes should come");
        }
    }

    /// Reads everything that has come, to be taken as frames later, and lets nobody else have a turn meanwhile.
    pub fn read_now(&mut self) {
        loop {
            self.input.reserve(64 * 1024);
            if !self.stream.try_read_buf(&mut self.input).is_ok_and(|read| read > 0) {
                return;
            }
        }
    }

    /// How many bytes have come that nobody has read.
    pub async fn unread(&mut self) -> usize {
        crate::clock::settle().await;
        _ = self.stream.try_read_buf(&mut self.input);
        self.input.len()
    }

    /// The next frame's message, `None` at the end of the stream.
    pub async fn frame(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = wire::take_frame(self.receives, &mut self.input) {
                return Some(frame);
            }
            match soon("a frame, or the end", self.stream.read_buf(&mut self.input)).await {
                Ok(0) => {
                    assert!(self.input.is_empty(), "the stream ended inside a frame");
                    return None;
                }
                Ok(_) => {}
                Err(error) => panic!("waiting for a frame: {error}"),
            }
        }
    }

    /// The next envelope, with a body of a known kind; `None` at the end of the stream.
    pub async fn next_or_end(&mut self) -> Option<(u64, Body)> {
        let envelope = Envelope::decode(self.frame().await?).expect("an envelope");
        Some((envelope.call_id, envelope.body.expect("a body")))
    }

    /// The next envelope.
    pub async fn next(&mut self) -> (u64, Body) {
        self.next_or_end().await.expect("a frame, not the end of the stream")
    }

    /// Waits for the end of the stream, and for nothing else.
    pub async fn ends(&mut self) {
        let next = self.next_or_end().await;
        assert_eq!(next, None, "the stream should have ended");
    }

    /// Waits for the other side to let go of the stream, whatever it still says.
    pub async fn is_let_go(&mut self) {
        self.rest().await;
    }

    /// How many bytes come before the other side lets go of the stream, those included that have come already.
    pub async fn rest(&mut self) -> usize {
        let mut rest = Vec::new();
        _ = soon("the end", self.stream.read_to_end(&mut rest)).await;
        self.input.len() + rest.len()
    }

    /// The next frame is a `GoAway` of this code, and the stream ends after it.
    pub async fn ends_with(&mut self, code: i32) -> GoAway {
        let go_away = self.farewell(code).await;
        self.ends().await;
        go_away
    }

    /// The next frame is a `GoAway` of this code.
    pub async fn farewell(&mut self, code: i32) -> GoAway {
        let (id, go_away) = self.go_away().await;
        let status = go_away.status.clone().unwrap_or_default();
        assert_eq!((id, status.code), (0, code), "{status:?}");
        go_away
    }

    /// The next frame is a unary answer, as a server should send it.
    pub async fn answered(&mut self, call_id: u64) -> Bytes {
        let (id, close) = self.close().await;
        assert_eq!((id, &close.status), (call_id, &None));
        close.message.expect("a message in the Close")
    }

    /// The next frame is the end of this call, with this code and `not_processed`.
    pub async fn closed(&mut self, call_id: u64, code: i32, not_processed: bool) -> Close {
        let (id, close) = self.close().await;
        let said = close.status.as_ref().map_or(0, |status| status.code);
        assert_eq!((id, said, close.not_processed), (call_id, code, not_processed), "{close:?}");
        close
    }

    /// A Ping goes out and its Pong is the next frame: what was sent before has had no answer.
    pub async fn is_quiet(&mut self) {
        const NONCE: u64 = 0x5ca1_ab1e;
        crate::clock::settle().await;
        self.send(0, wire::ping(NONCE)).await;
        let (id, pong) = self.pong().await;
        assert_eq!((id, pong.nonce), (0, NONCE));
    }

    /// The next frame is an `Open` with this id.
    pub async fn opened(&mut self, call_id: u64) -> Open {
        let (id, open) = self.open().await;
        assert_eq!(id, call_id);
        open
    }

    /// The next frame is an item of this call.
    pub async fn has_item(&mut self, call_id: u64) -> Bytes {
        let (id, item) = self.item().await;
        assert_eq!(id, call_id);
        item.message
    }

    /// The next frame cancels this call.
    pub async fn cancelled(&mut self, call_id: u64) {
        let (id, _) = self.cancel().await;
        assert_eq!(id, call_id);
    }

    /// What a streamed answer comes to: its items and its end. Headers may come before them.
    pub async fn streamed(&mut self, call_id: u64) -> (Vec<Bytes>, Close) {
        let mut items = Vec::new();
        let mut begun = false;
        loop {
            match self.next().await {
                (id, Body::Headers(_)) if id == call_id && !begun => {}
                (id, Body::Item(item)) if id == call_id => items.push(item.message),
                (id, Body::Close(close)) if id == call_id => return (items, close),
                // Credit for what the server's handler has read.
                (id, Body::Credit(_)) if id == call_id => continue,
                other => panic!("a streamed answer, not {other:?}"),
            }
            begun = true;
        }
    }
}

macro_rules! expectations {
    ($($name:ident $body:ident)*) => {
        impl RawPeer {
            $(
                #[doc = concat!("The next frame is a `", stringify!($body), "`: its call id and what it says.")]
                pub async fn $name(&mut self) -> (u64, wire::$body) {
                    match self.next().await {
                        (id, Body::$body(body)) => (id, body),
                        other => panic!("{} expected, not {other:?}", stringify!($body)),
                    }
                }
            )*
        }
    };
}

expectations! {
    open Open  headers Headers  item Item  half_closed HalfClose  close Close  cancel Cancel  credit Credit
    ping Ping  pong Pong  go_away GoAway
}

impl RawPeer {
    /// The next frame is a Hello with call id 0.
    pub async fn hello(&mut self) -> Hello {
        match self.next().await {
            (0, Body::Hello(hello)) => hello,
            other => panic!("Hello expected, not {other:?}"),
        }
    }
}

/// Listens at a path; a test plays the server on what it accepts.
#[derive(Debug)]
pub struct RawServer {
    listener: Listener,
}

impl RawServer {
    /// Listens.
    #[must_use]
    pub fn bind(path: impl AsRef<str>) -> Self {
        Self { listener: Listener::bind(path.as_ref()).expect("a free path") }
    }

    /// The next client, that has been told nothing.
    pub async fn accept(&self) -> RawPeer {
        RawPeer::over(soon("a client", self.listener.accept()).await.expect("a client").0)
    }

    /// The next client, past the Hellos.
    pub async fn greeted(&self) -> RawPeer {
        self.greeted_with(wire::hello()).await
    }

    /// The next client, past the Hellos.
    pub async fn greeted_with(&self, hello: Hello) -> RawPeer {
        let mut peer = self.accept().await;
        peer.welcome(hello).await;
        peer
    }

    /// Whether no client has come, once everything has happened that can.
    pub async fn nobody_comes(&self) -> bool {
        crate::clock::settle().await;
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        std::pin::pin!(self.listener.accept()).poll(&mut cx).is_pending()
    }
}
