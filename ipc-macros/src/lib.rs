//! The `#[ipc_service]` attribute: the stubs that `ipc-codegen` makes from a `.proto` file, made from a trait.
//!
//! Use it through `typed-ipc-runtime`, which exports it. Owns the attribute's documentation and its way in and out of
//! the compiler; a trait is read in `parse`, the attribute's options in `args`, and what is made of them is decided by
//! `ipc-codegen`, for both front ends alike.

mod args;
mod parse;
mod shape;

use proc_macro2::TokenStream;

/// Makes a client and a server from a trait, as `ipc-codegen` does from the `service` of a `.proto` file.
///
/// ```
/// use ipc_runtime::{Request, Response, Status, Streaming, ipc_service};
/// # use ipc_runtime::codegen::Stream;
///
/// #[derive(Clone, PartialEq, prost::Message)]
/// pub struct HelloRequest {
///     #[prost(string, tag = "1")]
///     pub name: String,
/// }
/// # type HelloReply = HelloRequest;
///
/// #[ipc_service(package = "greeter.v1")]
/// pub trait Greeter {
///     /// Greets one by name.
///     #[ipc(no_side_effects)]
///     async fn say_hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloReply>, Status>;
///
///     /// Greets each as they are named.
///     async fn greet_each(
///         &self,
///         request: Request<Streaming<HelloRequest>>,
///     ) -> Result<Response<impl Stream<Item = Result<HelloReply, Status>> + Send + 'static>, Status>;
/// }
/// ```
///
/// gives the trait `Greeter`, which servers implement with `async fn`s, a `GreeterServer<T>` for them, and a
/// `GreeterClient`. Messages are any types that implement `prost::Message`.
///
/// A method takes `&self` and a `Request`, and answers `Result<Response<…>, Status>`. A `Streaming` in its request makes
/// it client streaming, an `impl Stream` in its response server streaming, and both bidirectional.
///
/// # Options
/// - `package = "greeter.v1"`: what stands before the service's name on the wire. It has to be given; `package = ""` is
///   a service without one.
/// - `name = "Greeter"`: the service's name on the wire, if not the trait's.
/// - `fingerprint = 0x…`: which schema this is, for clients and servers to notice that they were built from different
///   ones. A trait doesn't show what its messages are made of, so it's not computed; the stubs of a `.proto` file have it.
/// - `crate = "my_sdk::ipc_runtime"`: where `typed-ipc-runtime` is, if a dependency renames it or a library exports it.
/// - `client = false`, `server = false`: makes no client, no server.
///
/// # Options of methods
/// - `#[ipc(name = "SayHello")]`: the method's name on the wire, if not the function's in `UpperCamelCase`.
/// - `#[ipc(no_side_effects)]`, `#[ipc(idempotent)]`: calling it changes nothing, or the same again; such calls may be
///   retried.
#[proc_macro_attribute]
pub fn ipc_service(args: proc_macro::TokenStream, item: proc_macro::TokenStream) -> proc_macro::TokenStream {
    expand(args.into(), item.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Parse, validate, emit.
fn expand(args: TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    let package = parse::package(args, item)?;
    ipc_codegen::expand(&package).map_err(|mistakes| parse::combined(mistakes.iter().map(parse::pointed)))
}

#[cfg(test)]
mod tests;
