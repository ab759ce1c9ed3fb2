//! The client: [`Channel`], its connection and its calls.

pub(crate) mod builder;
pub(crate) mod channel;
pub(crate) mod connect;
pub(crate) mod connection;
pub(crate) mod invoke;
pub(crate) mod method;
pub(crate) mod options;
pub(crate) mod shared;
pub(crate) mod state;
