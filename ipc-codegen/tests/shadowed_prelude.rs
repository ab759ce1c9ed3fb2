//! Compiles the goldens where nothing means what it usually means: without the prelude, among types, traits and modules
//! with the names that code relies on. Nothing here runs.

#![deny(warnings, clippy::all, clippy::pedantic, clippy::nursery)]
#![expect(missing_docs, reason = "messages have the documentation that their schemas give them")]

macro_rules! types {
    ($($name:ident)*) => { $(pub struct $name;)* };
}
macro_rules! traits {
    ($($name:ident)*) => { $(pub trait $name {})* };
}
macro_rules! modules {
    ($($name:ident)*) => { $(pub mod $name {})* };
}

pub use all_four_kinds as messages;

/// What shadows the prelude.
#[no_implicit_prelude]
pub mod shadows {
    types! { Result Option String Vec Box Arc Pin Request Response Streaming Status IpcError Method Channel Outcome }
    traits! {
        Send Sync Into From Future Stream IntoRequest IntoStreamingRequest Answers Streams Service ToString ToOwned
        Default Iterator Drop Fn FnOnce AsRef
    }
    modules! { core std alloc ipc_runtime prost }
}

/// Stubs alone: nothing at all is what it is elsewhere.
#[no_implicit_prelude]
pub mod with_messages_from_elsewhere {
    #[allow(unused_imports, reason = "the less of them is used, the better")]
    use crate::shadows::*;

    include!("golden/with_messages_from_elsewhere.rs");

    types! { Some None Ok Err }
    traits! { Clone Debug Copy PartialEq Eq Hash }
    modules! { str usize u64 bool }
}

/// A library that exports the runtime.
pub mod my_sdk {
    pub use ::ipc_runtime;
}

macro_rules! goldens {
    ($($trap:ident)*) => {
        $(
            #[no_implicit_prelude]
            pub mod $trap {
                // What the code that prost derives needs.
                #[allow(unused_imports, reason = "not every golden has every kind of message")]
                use ::core::prelude::v1::{Clone, Copy, Debug, Eq, Hash, None, Ok, Ord, PartialEq, PartialOrd, Some};
                #[allow(unused_imports, reason = "the less of them is used, the better")]
                use crate::shadows::*;

                ::core::include!(::core::concat!("golden/", ::core::stringify!($trap), ".rs"));
            }
        )*
    };
}

goldens! {
    all_four_kinds
    comments_not_meant_for_rustdoc
    deprecated_service
    edition_by_descriptor_set
    messages_named_like_the_prelude
    messages_named_like_the_stubs
    method_named_new
    methods_named_like_keywords
    methods_with_one_rust_name
    names_and_shapes_that_clippy_dislikes
    no_package
    package_named_like_keywords
    public_import_of_a_public_import
    service_without_methods
    services_named_like_the_prelude
    underscores_and_digits
    well_known_types_as_arguments
    with_a_runtime_from_elsewhere
    with_attributes
    with_btree_maps
    with_default_stubs
}
