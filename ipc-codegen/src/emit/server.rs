//! Owns the server: a struct around an implementation of the trait, and the way from a method's number to its function.

use proc_macro2::{Literal, TokenStream};
use quote::{format_ident, quote};

use super::client::call;
use super::{attrs, fingerprint, runtime};
use crate::model::{Method, Service};
use crate::naming::type_parameter;

/// With more lines than this for methods, clippy finds the function that tells them apart too long.
const LINES: usize = 90;

/// A method with a longer name may not fit into a line of `dispatch`.
const NAME: usize = 30;

/// The struct.
pub(super) fn definition(service: &Service) -> TokenStream {
    let (runtime, visibility, ident) = (runtime(service), &service.visibility, &service.server_ident);
    let parameter = type_parameter(&service.ident);
    let docs = attrs::docs([&format!(" Serves a [`{}`].", service.ident)]);
    let (items, own) = (&service.attributes.server_items, &service.attributes.server);
    quote! {
        #docs
        #(#items)*
        #(#own)*
        #[derive(::core::fmt::Debug)]
        #visibility struct #ident<#parameter> {
            service: #runtime::Arc<#parameter>,
        }
    }
}

/// The constructors.
pub(super) fn constructors(service: &Service) -> TokenStream {
    let (runtime, ident, items) = (runtime(service), &service.server_ident, &service.attributes.server_items);
    let (service_trait, parameter) = (&service.ident, type_parameter(&service.ident));
    quote! {
        #(#items)*
        impl<#parameter: #service_trait> #ident<#parameter> {
            /// Serves `service`.
            #[must_use]
            pub fn new(service: #parameter) -> Self {
                Self::from_arc(#runtime::Arc::new(service))
            }
            /// Serves a `service` that is shared.
            #[must_use]
            pub const fn from_arc(service: #runtime::Arc<#parameter>) -> Self {
                Self { service }
            }
        }
    }
}

/// `Clone`, whether or not the implementation can be cloned.
pub(super) fn clone(service: &Service) -> TokenStream {
    let (ident, items) = (&service.server_ident, &service.attributes.server_items);
    let parameter = type_parameter(&service.ident);
    quote! {
        #(#items)*
        impl<#parameter> ::core::clone::Clone for #ident<#parameter> {
            fn clone(&self) -> Self {
                Self { service: ::core::clone::Clone::clone(&self.service) }
            }
        }
    }
}

/// What the runtime's router calls.
pub(super) fn dispatch(service: &Service) -> TokenStream {
    let (runtime, ident, items) = (runtime(service), &service.server_ident, &service.attributes.server_items);
    let (service_trait, parameter) = (&service.ident, type_parameter(&service.ident));
    let (name, fingerprint) = (&service.wire_name, fingerprint(service));
    let methods = service.methods.iter().map(|method| &method.wire_name);
    let function = dispatch_function(service);
    quote! {
        #(#items)*
        impl<#parameter: #service_trait> #runtime::Service for #ident<#parameter> {
            const NAME: &'static ::core::primitive::str = #name;
            const METHODS: &'static [&'static ::core::primitive::str] = &[#(#methods),*];
            const FINGERPRINT: ::core::primitive::u64 = #fingerprint;
            #function
        }
    }
}

fn dispatch_function(service: &Service) -> TokenStream {
    let runtime = runtime(service);
    if service.methods.is_empty() {
        return quote! {
            fn dispatch(&self, _method: ::core::primitive::usize, call: #runtime::ServerCall) {
                call.unimplemented();
            }
        };
    }
    let lines = service.methods.iter().map(|method| if is_long(method) { 3 } else { 1 });
    let lines = (lines.sum::<usize>() > LINES)
        .then(|| quote!(#[allow(clippy::too_many_lines, reason = "a line for each method")]));
    let arms = service.methods.iter().enumerate().map(|(index, method)| arm(service, index, method));
    quote! {
        #lines
        fn dispatch(&self, method: ::core::primitive::usize, call: #runtime::ServerCall) {
            let service = ::core::clone::Clone::clone(&self.service);
            match method {
                #(#arms)*
                _ => call.unimplemented(),
            }
        }
    }
}

fn arm(service: &Service, index: usize, method: &Method) -> TokenStream {
    let (index, parameter) = (Literal::usize_unsuffixed(index), type_parameter(&service.ident));
    let (run, ident) = (format_ident!("run_{}", call(method.kind)), &method.ident);
    let call = quote!(call.#run(service, #parameter::#ident));
    // The layout puts braces around what is too long for a line, and clippy then wants a semicolon inside.
    if is_long(method) { quote!(#index => { #call; }) } else { quote!(#index => #call,) }
}

fn is_long(method: &Method) -> bool {
    method.ident.to_string().len() > NAME
}
