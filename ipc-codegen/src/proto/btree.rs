//! Gives messages with `BTreeMap`s the standard library's `Debug`: prost's names `::prost` for them, wherever prost is.
//!
//! Must not know about schemas or services.

use syn::{Attribute, Item, Meta, parse_quote};

/// Mends all messages in `items`, and in the modules there.
pub(super) fn mend(items: &mut [Item]) {
    for item in items {
        match item {
            Item::Struct(item)
                if says(&item.attrs, "prost_path")
                    && !says(&item.attrs, "skip_debug")
                    && item.fields.iter().any(|field| says(&field.attrs, "btree_map")) =>
            {
                item.attrs.push(parse_quote!(#[prost(skip_debug)]));
                item.attrs.push(parse_quote!(#[derive(::core::fmt::Debug)]));
            }
            Item::Mod(item) => mend(item.content.as_mut().map_or(&mut [], |(_, items)| items)),
            _ => {}
        }
    }
}

/// Whether `#[prost(…)]` starts with `option`.
fn says(attributes: &[Attribute], option: &str) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) if list.path.is_ident("prost") => list.tokens.to_string().starts_with(option),
        _ => false,
    })
}
