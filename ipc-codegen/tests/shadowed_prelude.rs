//! Compiles stubs where nothing means what it usually means: without the prelude, among types, traits and modules with
//! the names that code relies on. Nothing here runs.

#![deny(warnings, clippy::all, clippy::pedantic, clippy::nursery)]
#![expect(missing_docs, reason = "messages have the documentation that their schemas give them")]

/// The messages; prost's code needs the prelude.
pub mod messages {
    include!("golden/all_four_kinds.rs");
}

/// The stubs.
#[no_implicit_prelude]
pub mod shadowed {
    include!("golden/with_messages_from_elsewhere.rs");

    macro_rules! types {
        ($($name:ident)*) => { $(pub struct $name;)* };
    }
    macro_rules! traits {
        ($($name:ident)*) => { $(pub trait $name {})* };
    }
    macro_rules! modules {
        ($($name:ident)*) => { $(pub mod $name {})* };
    }

    types! {
        Result Option Some Ok Err String Vec Box Arc Pin Request Response Streaming Status IpcError Method Channel
    }
    traits! { Send Sync Clone Debug Into From Future Stream IntoStreamingRequest Service }
    modules! { core std alloc ipc_runtime prost str usize u64 bool }
}
