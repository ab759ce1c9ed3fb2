//! Owns the client: a struct around a channel, and a function for each method.

use proc_macro2::{Ident, Span, TokenStream};
use quote::quote;

use super::{attrs, fingerprint, response, runtime};
use crate::model::{Idempotency, Kind, Method, Service};

/// The struct.
pub(super) fn definition(service: &Service) -> TokenStream {
    let (runtime, visibility, ident) = (runtime(service), &service.visibility, &service.client_ident);
    let doc = if service.parts.service_trait {
        format!(" Calls a [`{}`].", service.ident)
    } else {
        format!(" Calls a `{}`.", service.wire_name)
    };
    let docs = attrs::docs([&doc]);
    let (items, own) = (&service.attributes.client_items, &service.attributes.client);
    let unread = service
        .methods
        .is_empty()
        .then(|| quote!(#[allow(dead_code, reason = "a service without methods reads nothing")]));
    quote! {
        #docs
        #(#items)*
        #(#own)*
        #[derive(::core::clone::Clone, ::core::fmt::Debug)]
        #visibility struct #ident {
            #unread
            channel: #runtime::Channel,
        }
    }
}

/// The constructor and the calls.
pub(super) fn methods(service: &Service) -> TokenStream {
    let (runtime, ident, items) = (runtime(service), &service.client_ident, &service.attributes.client_items);
    let deprecated = &service.deprecated;
    let functions = service.methods.iter().map(|method| function(service, method));
    let (name, fingerprint) = (&service.wire_name, fingerprint(service));
    quote! {
        #(#items)*
        impl #ident {
            /// What this was generated from, to be compared with what the server was.
            pub const SCHEMA: #runtime::Schema = #runtime::Schema::new(#name, #fingerprint);
            /// A client whose calls go through `channel`.
            #deprecated
            #[must_use]
            pub const fn new(channel: #runtime::Channel) -> Self {
                Self { channel }
            }
            #(#functions)*
        }
    }
}

fn function(service: &Service, method: &Method) -> TokenStream {
    let (runtime, attributes, ident) = (runtime(service), attrs::of_client_function(method), &method.ident);
    let (input, response) = (&method.input, response(service, method));
    let (call, description) = (call(method.kind), description(service, method));
    let (request, message) = if method.kind.client_streams() {
        (quote!(#runtime::IntoStreamingRequest<Message = #input>), quote!(request.into_streaming_request()))
    } else {
        (quote!(#runtime::IntoRequest<#input>), quote!(request.into_request()))
    };
    quote! {
        #attributes
        pub async fn #ident(&self, request: impl #request) -> #runtime::Outcome<#response> {
            let method = #description;
            self.channel.#call(method, #message).await
        }
    }
}

/// What the channel has to know of a method.
fn description(service: &Service, method: &Method) -> TokenStream {
    let path = format!("/{}/{}", service.wire_name, method.wire_name);
    let level = match method.idempotency {
        Idempotency::Unknown => None,
        Idempotency::NoSideEffects => Some(quote!(.no_side_effects())),
        Idempotency::Idempotent => Some(quote!(.idempotent())),
    };
    quote!(Self::SCHEMA.method(#path) #level)
}

/// The channel's function, and the server call's, for a kind of call.
pub(super) fn call(kind: Kind) -> Ident {
    let name = match kind {
        Kind::Unary => "unary",
        Kind::ServerStreaming => "server_streaming",
        Kind::ClientStreaming => "client_streaming",
        Kind::BidiStreaming => "bidi_streaming",
    };
    Ident::new(name, Span::call_site())
}
