//! Compiles the goldens, and lets no warning pass. Nothing here runs.

#![deny(warnings, missing_debug_implementations, clippy::all, clippy::pedantic, clippy::nursery)]
#![expect(missing_docs, reason = "messages have the documentation that their schemas give them")]

/// A library that exports the runtime.
pub mod my_sdk {
    pub use ::ipc_runtime;
}

macro_rules! goldens {
    ($($trap:ident)*) => {
        $(
            pub mod $trap {
                include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/", stringify!($trap), ".rs"));
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

/// Clippy says more of what no other crate can use, as in a program that includes its stubs itself.
#[allow(dead_code, unreachable_pub, reason = "no program uses all of a schema")]
mod private {
    include!("golden/names_and_shapes_that_clippy_dislikes.rs");
}
