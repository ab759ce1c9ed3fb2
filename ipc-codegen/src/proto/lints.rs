//! What clippy would say of code that nobody can change: a schema has chosen its names, its shapes and its words.
//!
//! Mends what callers don't see, and names the rest in an `#[allow]` on the item itself, where it applies, so that
//! nothing else is hidden. Must not know about schemas or services.

mod docs;
mod names;
mod shapes;

use std::collections::BTreeSet;

use quote::format_ident;
use syn::{Attribute, Ident, Item, parse_quote};

/// Clippy's names of what an item does.
type Allowed = BTreeSet<&'static str>;

/// Leaves nothing to say about any of `items`, nor about what is in them. They are in a module named `inside`.
pub(super) fn settle(items: &mut [Item], inside: &str) {
    for item in items {
        let mut allowed = Allowed::new();
        let attributes = match item {
            Item::Struct(item) => {
                shapes::of_struct(item, &mut allowed);
                docs::of(item.fields.iter().map(|field| &field.attrs), &mut allowed);
                &mut item.attrs
            }
            Item::Enum(item) => {
                shapes::of_enum(item, &mut allowed);
                docs::of(item.variants.iter().map(|variant| &variant.attrs), &mut allowed);
                &mut item.attrs
            }
            Item::Impl(item) => {
                shapes::of_impl(item, &mut allowed);
                docs::of(item.items.iter().filter_map(shapes::attributes), &mut allowed);
                &mut item.attrs
            }
            Item::Trait(item) => {
                docs::of(item.items.iter().filter_map(shapes::attributes_in_trait), &mut allowed);
                &mut item.attrs
            }
            Item::Mod(item) => {
                let name = item.ident.to_string();
                if name == inside {
                    allowed.insert("module_inception");
                }
                settle(item.content.as_mut().map_or(&mut [], |(_, items)| items), &name);
                &mut item.attrs
            }
            _ => continue,
        };
        docs::of([&*attributes], &mut allowed);
        attributes.extend(allow(&allowed));
    }
}

fn allow(allowed: &Allowed) -> Option<Attribute> {
    let names: Vec<Ident> = allowed.iter().map(|name| format_ident!("{name}")).collect();
    (!names.is_empty()).then(|| parse_quote!(#[allow(#(clippy::#names),*, reason = "the schema has it so")]))
}
