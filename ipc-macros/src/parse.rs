//! Reads a trait into the model, and finds everything in it that can't be called from another process.
//!
//! Must not know what is made of the model.

use ipc_codegen::model::{Attributes, Kind, Method, Origin, Package, Parts, Service, Spelled};
use ipc_codegen::{Mistake, naming};
use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, format_ident};
use syn::ext::IdentExt as _;
use syn::{
    Attribute, Expr, ExprLit, FnArg, Generics, ItemTrait, Lit, Meta, Signature, TraitItem, TraitItemFn, Type,
    TypeParamBound,
};

use crate::args::{MethodArgs, ServiceArgs};
use crate::shape;

/// The service that a trait describes.
///
/// # Errors
/// Everything that is wrong with the trait and the attribute's options.
pub(crate) fn package(args: TokenStream, item: TokenStream) -> syn::Result<Package> {
    let span = item.clone().into_iter().next().map_or_else(Span::call_site, |token| token.span());
    let item: ItemTrait = syn::parse2(item).map_err(|error| {
        // A syntax error inside a trait is better told by itself.
        let text = "`#[ipc_service]` makes stubs from a trait\n  help: put it on `trait Name { … }`";
        if error.to_string().contains("`trait`") { syn::Error::new(span, text) } else { error }
    })?;
    let mut errors = Vec::new();
    let args = ServiceArgs::parse(args, &mut errors);
    let service = service(&args, item, &mut errors);
    if errors.is_empty() {
        Ok(Package { services: vec![service], ..Package::default() })
    } else {
        Err(combined(errors))
    }
}

/// One error that shows all of them.
pub(crate) fn combined(errors: impl IntoIterator<Item = syn::Error>) -> syn::Error {
    let all = errors.into_iter().reduce(|mut all, error| {
        all.combine(error);
        all
    });
    all.unwrap_or_else(|| syn::Error::new(Span::call_site(), "no stubs were made"))
}

/// A mistake as an error where it was made.
pub(crate) fn pointed(mistake: &Mistake) -> syn::Error {
    let span = mistake.span.unwrap_or_else(Span::call_site);
    syn::Error::new(span, format!("{}\n  help: {}", mistake.problem, mistake.remedy))
}

fn service(args: &ServiceArgs, item: ItemTrait, errors: &mut Vec<syn::Error>) -> Service {
    declaration(&item, errors);
    let ident = item.ident;
    let name = args.name.clone().unwrap_or_else(|| ident.unraw().to_string());
    let wire_name = if args.package.is_empty() { name } else { format!("{}.{name}", args.package) };
    let above = Above::read(item.attrs);
    let items: Vec<_> = above.own.iter().filter(|attribute| is_for_all(attribute)).cloned().collect();
    let methods = item.items.into_iter().filter_map(|item| method(item, errors)).collect();
    Service {
        origin: Origin::Trait,
        wire_name,
        fingerprint: args.fingerprint,
        runtime: args.runtime.clone(),
        client_ident: format_ident!("{}Client", ident),
        server_ident: format_ident!("{}Server", ident),
        ident,
        visibility: item.vis,
        docs: above.docs,
        deprecated: above.deprecated,
        attributes: Attributes {
            service_trait: above.own.into_iter().filter(|attribute| !is_for_all(attribute)).collect(),
            client_items: items.clone(),
            server_items: items,
            ..Attributes::default()
        },
        parts: Parts { service_trait: true, client: args.client, server: args.server },
        methods,
    }
}

/// What is wrong with the trait itself.
fn declaration(item: &ItemTrait, errors: &mut Vec<syn::Error>) {
    if let Some(token) = &item.unsafety {
        errors
            .push(syn::Error::new(token.span, "a service can't be an unsafe trait\n  help: remove `unsafe`"));
    }
    not_generic(&item.generics, "a service", errors);
    for bound in &item.supertraits {
        if !is_implied(bound) {
            errors.push(syn::Error::new_spanned(bound,
                "a service has no supertraits but `Send`, `Sync` and `'static`, which it always has\n  help: remove it",
            ));
        }
    }
}

fn is_implied(bound: &TypeParamBound) -> bool {
    match bound {
        TypeParamBound::Trait(bound) => bound
            .path
            .segments
            .last()
            .is_some_and(|segment| segment.ident == "Send" || segment.ident == "Sync"),
        TypeParamBound::Lifetime(lifetime) => lifetime.ident == "static",
        _ => false,
    }
}

fn not_generic(generics: &Generics, what: &str, errors: &mut Vec<syn::Error>) {
    let text = format!(
        "{what} can't be generic: the other process knows no type parameters\n  help: name the types"
    );
    if !generics.params.is_empty() {
        errors.push(syn::Error::new_spanned(&generics.params, &text));
    } else if let Some(clause) = &generics.where_clause {
        errors.push(syn::Error::new_spanned(clause, &text));
    }
}

fn method(item: TraitItem, errors: &mut Vec<syn::Error>) -> Option<Method> {
    let function = match item {
        TraitItem::Fn(function) => function,
        other => {
            let text = "a service has methods alone\n  help: move it to another trait";
            errors.push(syn::Error::new_spanned(&other, text));
            return None;
        }
    };
    if let Some(body) = &function.default {
        let text = "a service's method has no body\n  help: put a `;` in its place, and implement it where it's served";
        errors.push(syn::Error::new_spanned(body, text));
    }
    qualifiers(&function.sig, errors);
    not_generic(&function.sig.generics, "a method", errors);
    receiver(&function.sig, errors);
    let types = types(&function.sig, errors);
    let (args, above) = attributes(&function, errors);
    let (request, argument, response, result) = types?;
    let name = args.name.map(|name| name.value());
    Some(Method {
        wire_name: name.unwrap_or_else(|| naming::wire_name(&function.sig.ident)),
        ident: function.sig.ident,
        kind: Kind::of(request.streams, response.streams),
        input: request.message,
        output: response.message,
        spelled: Some(Spelled { argument, result }),
        idempotency: args.idempotency,
        docs: above.docs,
        deprecated: above.deprecated,
        attributes: above.own,
        default_body: false,
    })
}

fn qualifiers(signature: &Signature, errors: &mut Vec<syn::Error>) {
    if signature.asyncness.is_none() {
        errors.push(syn::Error::new(signature.fn_token.span, "a method is async\n  help: write `async fn`"));
    }
    let mut refuse = |span: Span, word: &str| {
        let text = format!("a method can't be `{word}`\n  help: remove `{word}`");
        errors.push(syn::Error::new(span, text));
    };
    if let Some(token) = &signature.constness {
        refuse(token.span, "const");
    }
    if let syn::Safety::Unsafe(token) = &signature.safety {
        refuse(token.span, "unsafe");
    }
    if let Some(abi) = &signature.abi {
        refuse(abi.extern_token.span, "extern");
    }
}

fn receiver(signature: &Signature, errors: &mut Vec<syn::Error>) {
    let text = "a method takes `&self`, for calls run at the same time\n  help: write `&self`";
    match signature.receiver() {
        Some(receiver) if !matches!(receiver.kind, syn::ReceiverKind::Reference(_, None, None)) => {
            errors.push(syn::Error::new_spanned(receiver, text));
        }
        Some(_) => {}
        None => errors.push(syn::Error::new(signature.ident.span(), text)),
    }
}

/// The request and its type, the response and the type of the result.
fn types(
    signature: &Signature,
    errors: &mut Vec<syn::Error>,
) -> Option<(shape::Body, Type, shape::Body, Type)> {
    let mut arguments = signature.inputs.iter().filter_map(|input| match input {
        FnArg::Typed(argument) => Some(&*argument.ty),
        FnArg::Receiver(_) => None,
    });
    let request = match (arguments.next(), arguments.next()) {
        (Some(argument), None) => shape::request(argument).map(|body| (body, argument.clone())),
        (_, second) => Err(syn::Error::new_spanned(
            second.map_or_else(|| signature.ident.to_token_stream(), ToTokens::to_token_stream),
            "a method takes one argument, the request\n  help: write `request: Request<Message>`, with a message \
             that holds all there is to send",
        )),
    };
    let request = request.map_err(|error| errors.push(error));
    let response = shape::response(signature).map_err(|error| errors.push(error));
    let ((request, argument), (response, result)) = (request.ok()?, response.ok()?);
    Some((request, argument, response, result))
}

fn attributes(function: &TraitItemFn, errors: &mut Vec<syn::Error>) -> (MethodArgs, Above) {
    let mut args = MethodArgs::default();
    let (ours, others): (Vec<_>, Vec<_>) =
        function.attrs.iter().cloned().partition(|attribute| attribute.path().is_ident("ipc"));
    for attribute in &ours {
        args.read(attribute, errors);
    }
    for attribute in &others {
        if attribute.path().is_ident("cfg") || attribute.path().is_ident("cfg_attr") {
            let text = "a method can't be left out of a service\n  help: put it in a trait of its own, with the \
                        attribute above that";
            errors.push(syn::Error::new_spanned(attribute, text));
        }
    }
    (args, Above::read(others))
}

/// Whether an attribute of the trait belongs on the client and the server too.
fn is_for_all(attribute: &Attribute) -> bool {
    ["cfg", "cfg_attr", "allow"].iter().any(|name| attribute.path().is_ident(name))
}

/// What stands above an item.
#[derive(Default)]
struct Above {
    docs: Vec<String>,
    deprecated: Option<Attribute>,
    own: Vec<Attribute>,
}

impl Above {
    fn read(attributes: Vec<Attribute>) -> Self {
        let mut above = Self::default();
        for attribute in attributes {
            if let Some(lines) = documentation(&attribute) {
                above.docs.extend(lines);
            } else if attribute.path().is_ident("deprecated") {
                above.deprecated = Some(attribute);
            } else {
                above.own.push(attribute);
            }
        }
        above
    }
}

/// The lines of a documentation comment.
fn documentation(attribute: &Attribute) -> Option<Vec<String>> {
    match &attribute.meta {
        Meta::NameValue(doc) if doc.path.is_ident("doc") => match &doc.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => {
                Some(text.value().split('\n').map(str::to_owned).collect())
            }
            _ => None,
        },
        _ => None,
    }
}
