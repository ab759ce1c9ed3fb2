//! Owns the trait that servers implement.

use proc_macro2::TokenStream;
use quote::quote;

use super::{attrs, runtime};
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
    let (ident, argument, result) = (&method.ident, argument(method), result(method));
    let (request, body) = if method.default_body {
        (quote!(_request), unimplemented(service, method))
    } else {
        (quote!(request), quote!(;))
    };
    quote! {
        #attributes
        fn #ident(
            &self,
            #request: #argument,
        ) -> impl ::core::future::Future<Output = #result> + ::core::marker::Send
        #body
    }
}

fn argument(method: &Method) -> TokenStream {
    if let Some(spelled) = &method.spelled {
        let argument = &spelled.argument;
        return quote!(#argument);
    }
    let (runtime, input) = (runtime(), &method.input);
    if method.kind.client_streams() {
        quote!(#runtime::Request<#runtime::Streaming<#input>>)
    } else {
        quote!(#runtime::Request<#input>)
    }
}

fn result(method: &Method) -> TokenStream {
    if let Some(spelled) = &method.spelled {
        let result = &spelled.result;
        return quote!(#result);
    }
    let (runtime, output) = (runtime(), &method.output);
    let body = if method.kind.server_streams() {
        let item = quote!(::core::result::Result<#output, #runtime::Status>);
        quote!(impl #runtime::Stream<Item = #item> + ::core::marker::Send + 'static)
    } else {
        quote!(#output)
    };
    quote!(::core::result::Result<#runtime::Response<#body>, #runtime::Status>)
}

/// A body that answers `UNIMPLEMENTED`.
fn unimplemented(service: &Service, method: &Method) -> TokenStream {
    let (runtime, output) = (runtime(), &method.output);
    // The error has to name some stream, so that `impl Stream` has a type.
    let body =
        if method.kind.server_streams() { quote!(#runtime::Streaming<#output>) } else { quote!(#output) };
    let message = format!("{}/{} is not implemented", service.wire_name, method.wire_name);
    quote!({
        let answer: ::core::result::Result<#runtime::Response<#body>, #runtime::Status> =
            ::core::result::Result::Err(#runtime::Status::unimplemented(#message));
        ::core::future::ready(answer)
    })
}
