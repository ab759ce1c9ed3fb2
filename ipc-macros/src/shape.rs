//! Takes the types of a method apart: `Request<…>`, and `Result<Response<…>, Status>`.
//!
//! Types are known by the last part of their path, for a macro sees names and not what they stand for. Must not know
//! what is done with the messages it finds.

use syn::{GenericArgument, PathArguments, PathSegment, ReturnType, Signature, Type, TypeParamBound};

/// The message in a request or a response, and whether there is a stream of them.
pub(crate) struct Body {
    pub(crate) message: Type,
    pub(crate) streams: bool,
}

/// What is in a request.
///
/// # Errors
/// It isn't `Request<Message>` or `Request<Streaming<Message>>`.
pub(crate) fn request(argument: &Type) -> syn::Result<Body> {
    let wrong = || {
        syn::Error::new_spanned(
            argument,
            "a method's argument is a request\n  help: write `Request<Message>`, or `Request<Streaming<Message>>`",
        )
    };
    let inner = only_argument(argument, "Request").ok_or_else(wrong)?;
    Ok(match only_argument(inner, "Streaming") {
        Some(message) => Body { message: message.clone(), streams: true },
        None => Body { message: inner.clone(), streams: false },
    })
}

/// What is in a response, and the whole type of the result.
///
/// # Errors
/// There is none, or it isn't `Result<Response<Message>, Status>` or
/// `Result<Response<impl Stream<Item = Result<Message, Status>> + Send + 'static>, Status>`.
pub(crate) fn response(signature: &Signature) -> syn::Result<(Body, Type)> {
    let ReturnType::Type(_, result) = &signature.output else {
        return Err(syn::Error::new(
            signature.ident.span(),
            "the method answers nothing\n  help: write `-> Result<Response<Message>, Status>`",
        ));
    };
    let wrong = |text: &str| syn::Error::new_spanned(result, text);
    let response = arguments(result, "Result").and_then(|arguments| match arguments[..] {
        [ok, _] => only_argument(ok, "Response"),
        _ => None,
    });
    let response = response.ok_or_else(|| {
        wrong("a method answers a response or a status\n  help: write `Result<Response<Message>, Status>`")
    })?;
    let body = match response {
        Type::ImplTrait(stream) => {
            let message = stream.bounds.iter().find_map(item_of_stream).ok_or_else(|| {
                wrong(
                    "the response is no stream of results\n  help: write \
                     `Response<impl Stream<Item = Result<Message, Status>> + Send + 'static>`",
                )
            })?;
            Body { message: message.clone(), streams: true }
        }
        message if last_segment(message).is_some_and(|segment| segment.ident == "Streaming") => {
            return Err(wrong(
                "`Streaming` is what a server is sent\n  help: answer with \
                 `Response<impl Stream<Item = Result<Message, Status>> + Send + 'static>`",
            ));
        }
        message => Body { message: message.clone(), streams: false },
    };
    Ok((body, Type::clone(result)))
}

/// The `Message` of a bound `Stream<Item = Result<Message, _>>`.
fn item_of_stream(bound: &TypeParamBound) -> Option<&Type> {
    let TypeParamBound::Trait(bound) = bound else { return None };
    let stream = bound.path.segments.last().filter(|segment| segment.ident == "Stream")?;
    let PathArguments::AngleBracketed(arguments) = &stream.arguments else { return None };
    arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::AssocType(item) if item.ident == "Item" => self::arguments(&item.ty, "Result")
            .and_then(|arguments| match arguments[..] {
                [message, _] => Some(message),
                _ => None,
            }),
        _ => None,
    })
}

/// The type in `Name<Type>`.
fn only_argument<'a>(ty: &'a Type, name: &str) -> Option<&'a Type> {
    match arguments(ty, name)?[..] {
        [argument] => Some(argument),
        _ => None,
    }
}

/// The types in `Name<…>`.
fn arguments<'a>(ty: &'a Type, name: &str) -> Option<Vec<&'a Type>> {
    let segment = last_segment(ty).filter(|segment| segment.ident == name)?;
    let PathArguments::AngleBracketed(arguments) = &segment.arguments else { return None };
    let types = arguments.args.iter().map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    });
    types.collect()
}

fn last_segment(ty: &Type) -> Option<&PathSegment> {
    match ty {
        Type::Path(path) => path.path.segments.last(),
        Type::Group(group) => last_segment(&group.elem),
        Type::Paren(paren) => last_segment(&paren.elem),
        _ => None,
    }
}
