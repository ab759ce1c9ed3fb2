//! The client: [`Channel`], its connection and its calls.

pub(crate) mod builder;
pub(crate) mod calls;
pub(crate) mod channel;
pub(crate) mod invoke;
pub(crate) mod reconnect;
pub(crate) mod shared;
pub(crate) mod state;
