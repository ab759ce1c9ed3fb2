//! Turns services into Rust.
//!
//! Owns the list of artefacts; each has a function of its own in one of the modules below. Must not know where a
//! service came from, and must not fail: what can't be emitted has been refused by [`validate`](crate::validate).

mod attrs;
mod client;
mod server;
mod service;

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::LitInt;

use crate::model::{Method, Package, Service};

/// The stubs of all services of a package.
#[must_use]
pub fn emit(package: &Package) -> TokenStream {
    package.services.iter().map(artefacts).collect()
}

fn artefacts(service: &Service) -> TokenStream {
    let mut artefacts = TokenStream::new();
    if service.parts.service_trait {
        artefacts.extend(service::definition(service));
    }
    if service.parts.client {
        artefacts.extend([client::definition(service), client::methods(service)]);
    }
    if service.parts.server {
        artefacts.extend([
            server::definition(service),
            server::constructors(service),
            server::clone(service),
            server::dispatch(service),
        ]);
    }
    artefacts
}

/// The one path that generated code names.
fn runtime(service: &Service) -> TokenStream {
    let runtime = &service.runtime;
    quote!(#runtime::codegen)
}

/// What is in a method's response, to those who don't make it.
fn response(service: &Service, method: &Method) -> TokenStream {
    let (runtime, output) = (runtime(service), &method.output);
    if method.kind.server_streams() { quote!(#runtime::Streaming<#output>) } else { quote!(#output) }
}

/// A service's fingerprint, as one reads such numbers.
fn fingerprint(service: &Service) -> LitInt {
    let digits = format!("{:016x}", service.fingerprint);
    let (high, low) = digits.split_at(8);
    let (groups, rest) = (high.split_at(4), low.split_at(4));
    let text = match service.fingerprint {
        0 => "0".to_owned(),
        _ => format!("0x{}_{}_{}_{}", groups.0, groups.1, rest.0, rest.1),
    };
    LitInt::new(&text, Span::call_site())
}
