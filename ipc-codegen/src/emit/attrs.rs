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
    let docs = docs(&service.docs);
    let (items, own) = (&service.attributes.server_items, &service.attributes.service_trait);
    quote!(#docs #(#items)* #(#own)*)
}

/// What stands above a function of the trait. Deprecation doesn't: who serves a method has to go on serving it.
pub(super) fn of_trait_function(method: &Method) -> TokenStream {
    let docs = docs(&method.docs);
    let own = &method.attributes;
    quote!(#docs #(#own)*)
}

/// What stands above a function of the client.
pub(super) fn of_client_function(method: &Method) -> TokenStream {
    let blank = (!method.docs.is_empty()).then(String::new);
    let lines = method
        .docs
        .iter()
        .chain(&blank)
        .map(String::as_str)
        .chain([" # Errors", " What the server answered, or what kept the call from being answered."]);
    let (deprecated, own) = (&method.deprecated, &method.attributes);
    quote!(#(#[doc = #lines])* #deprecated #(#own)*)
}
