//! Owns what stands above generated items: documentation and attributes.

use proc_macro2::TokenStream;
use quote::quote;

use crate::model::{Method, Service};

/// One `#[doc]` a line.
pub(super) fn docs<'a>(lines: impl IntoIterator<Item = &'a String>) -> TokenStream {
    lines.into_iter().map(|line| quote!(#[doc = #line])).collect()
}

/// What stands above the trait.
pub(super) fn of_trait(service: &Service) -> TokenStream {
    let docs = docs(&or_name(&service.docs, &service.wire_name));
    let (items, own) = (&service.attributes.server_items, &service.attributes.service_trait);
    quote!(#docs #(#items)* #(#own)*)
}

/// What stands above a function of the trait. Deprecation doesn't: who serves a method has to go on serving it.
pub(super) fn of_trait_function(method: &Method) -> TokenStream {
    let docs = docs(&or_name(&method.docs, &method.wire_name));
    let (convention, own) = (convention(method), &method.attributes);
    quote!(#docs #convention #(#own)*)
}

/// What stands above a function of the client.
pub(super) fn of_client_function(method: &Method) -> TokenStream {
    let mut lines = or_name(&method.docs, &method.wire_name);
    lines.extend(
        ["", " # Errors", " What the server answered, or what kept the call from being answered."]
            .map(String::from),
    );
    let docs = docs(&lines);
    let (deprecated, convention, own) = (&method.deprecated, convention(method), &method.attributes);
    quote!(#docs #deprecated #convention #(#own)*)
}

/// The documentation, or the name on the wire where there is none.
fn or_name(docs: &[String], wire_name: &str) -> Vec<String> {
    if docs.is_empty() { vec![format!(" `{wire_name}`.")] } else { docs.to_vec() }
}

/// Clippy expects something else than `&self`, or another answer, where a name is like this, but the schema has chosen it.
fn convention(method: &Method) -> Option<TokenStream> {
    let name = method.ident.to_string();
    let lint = match name.as_str() {
        "iter" | "iter_mut" => quote!(iter_not_returning_iterator),
        _ if ["from_", "into_"].iter().any(|prefix| name.starts_with(prefix))
            || (name.starts_with("to_") && name.ends_with("_mut")) =>
        {
            quote!(wrong_self_convention)
        }
        _ => return None,
    };
    Some(quote!(#[allow(clippy::#lint, reason = "the schema's name")]))
}
