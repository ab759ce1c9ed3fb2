//! Owns the trait that servers implement.

use proc_macro2::TokenStream;
use quote::quote;

use super::{attrs, response, runtime};
use crate::model::{Method, Service};

/// The trait.
pub(super) fn definition(service: &Service) -> TokenStream {
    let attributes = attrs::of_trait(service);
    let (visibility, ident) = (&service.visibility, &service.ident);
    let functions = service.methods.iter().map(|method| function(service, method));
    quote! {
        #attributes
        #visibility trait #ident: ::core::marker::Send + ::core::marker::Sync + 'static {
            #(#functions)*
        }
    }
}

fn function(service: &Service, method: &Method) -> TokenStream {
    let attributes = attrs::of_trait_function(method);
    let (ident, argument, answer) = (&method.ident, argument(service, method), answer(service, method));
    let (request, body) = if method.default_body {
        (quote!(_request), unimplemented(service, method))
    } else {
        (quote!(request), quote!(;))
    };
    quote! {
        #attributes
        fn #ident(&self, #request: #argument) -> impl #answer #body
    }
}

fn argument(service: &Service, method: &Method) -> TokenStream {
    if let Some(spelled) = &method.spelled {
        let argument = &spelled.argument;
        return quote!(#argument);
    }
    let (runtime, input) = (runtime(service), &method.input);
    if method.kind.client_streams() {
        quote!(#runtime::Request<#runtime::Streaming<#input>>)
    } else {
        quote!(#runtime::Request<#input>)
    }
}

fn answer(service: &Service, method: &Method) -> TokenStream {
    if let Some(spelled) = &method.spelled {
        let result = &spelled.result;
        return quote!(::core::future::Future<Output = #result> + ::core::marker::Send);
    }
    let (runtime, output) = (runtime(service), &method.output);
    if method.kind.server_streams() {
        quote!(#runtime::Streams<#output>)
    } else {
        quote!(#runtime::Answers<#output>)
    }
}

/// A body that answers `UNIMPLEMENTED`.
fn unimplemented(service: &Service, method: &Method) -> TokenStream {
    let (runtime, response) = (runtime(service), response(service, method));
    let name = format!("{}/{}", service.wire_name, method.wire_name);
    quote!({ #runtime::unimplemented::<#response>(#name) })
}
