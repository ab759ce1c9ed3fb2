//! Reads the options of `#[ipc_service(…)]` and of `#[ipc(…)]`.
//!
//! Must not know about traits.

use ipc_codegen::model::Idempotency;
use proc_macro2::Span;
use syn::parse::Parser as _;
use syn::punctuated::Punctuated;
use syn::{Attribute, Expr, ExprLit, Lit, LitStr, Meta, Path, Token, parse_quote};

/// The options of the attribute.
pub(crate) struct ServiceArgs {
    pub(crate) package: String,
    pub(crate) name: Option<String>,
    pub(crate) fingerprint: u64,
    pub(crate) runtime: Path,
    pub(crate) client: bool,
    pub(crate) server: bool,
}

impl ServiceArgs {
    /// Reads them, and notes what is wrong with them.
    pub(crate) fn parse(args: proc_macro2::TokenStream, errors: &mut Vec<syn::Error>) -> Self {
        let mut read = Self {
            package: String::new(),
            name: None,
            fingerprint: 0,
            runtime: parse_quote!(::ipc_runtime),
            client: true,
            server: true,
        };
        let options = match Punctuated::<Meta, Token![,]>::parse_terminated.parse2(args) {
            Ok(options) => options,
            Err(error) => {
                errors.push(error);
                return read;
            }
        };
        let mut package = None;
        for option in &options {
            let result = match name_of(option).as_str() {
                "package" => string(option).map(|value| package = Some(value)),
                "name" => string(option).map(|value| read.name = Some(value.value())),
                "fingerprint" => number(option).map(|value| read.fingerprint = value),
                "crate" => string(option).and_then(|value| path(&value)).map(|value| read.runtime = value),
                "client" => boolean(option).map(|value| read.client = value),
                "server" => boolean(option).map(|value| read.server = value),
                _ => Err(unknown(option, "`package`, `name`, `fingerprint`, `crate`, `client` and `server`")),
            };
            errors.extend(result.err());
        }
        match package {
            Some(package) if is_package(&package.value()) => read.package = package.value(),
            Some(package) => errors.push(syn::Error::new(
                package.span(),
                format!("`{}` is no package\n  help: use names with dots between: `greeter.v1`", package.value()),
            )),
            None if names(&options, "package") => {}
            None => errors.push(syn::Error::new(
                Span::call_site(),
                "the service's package is missing\n  help: give it with `#[ipc_service(package = \"greeter.v1\")]`",
            )),
        }
        read
    }
}

/// The options of a method.
#[derive(Default)]
pub(crate) struct MethodArgs {
    pub(crate) name: Option<LitStr>,
    pub(crate) idempotency: Idempotency,
}

impl MethodArgs {
    /// Reads one `#[ipc(…)]` more, and notes what is wrong with it.
    pub(crate) fn read(&mut self, attribute: &Attribute, errors: &mut Vec<syn::Error>) {
        let options = match attribute.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated) {
            Ok(options) => options,
            Err(error) => return errors.push(error),
        };
        for option in &options {
            let result = match name_of(option).as_str() {
                "name" => string(option).map(|value| self.name = Some(value)),
                "idempotent" => word(option).map(|()| self.idempotency = Idempotency::Idempotent),
                "no_side_effects" => word(option).map(|()| self.idempotency = Idempotency::NoSideEffects),
                _ => Err(unknown(option, "`name`, `idempotent` and `no_side_effects`")),
            };
            errors.extend(result.err());
        }
    }
}

fn names(options: &Punctuated<Meta, Token![,]>, name: &str) -> bool {
    options.iter().any(|option| option.path().is_ident(name))
}

fn name_of(option: &Meta) -> String {
    option.path().get_ident().map(ToString::to_string).unwrap_or_default()
}

fn unknown(option: &Meta, known: &str) -> syn::Error {
    syn::Error::new_spanned(option.path(), format!("unknown option\n  help: there are {known}"))
}

fn string(option: &Meta) -> syn::Result<LitStr> {
    match value(option) {
        Some(Lit::Str(value)) => Ok(value.clone()),
        _ => Err(wrong(option, " = \"…\"")),
    }
}

fn path(value: &LitStr) -> syn::Result<Path> {
    value.parse().map_err(|_| {
        let text = format!("`{}` is no path\n  help: write `crate = \"my_sdk::ipc_runtime\"`", value.value());
        syn::Error::new(value.span(), text)
    })
}

fn number(option: &Meta) -> syn::Result<u64> {
    match value(option) {
        Some(Lit::Int(value)) => value.base10_parse(),
        _ => Err(wrong(option, " = 0x…")),
    }
}

fn boolean(option: &Meta) -> syn::Result<bool> {
    match value(option) {
        Some(Lit::Bool(value)) => Ok(value.value),
        _ => Err(wrong(option, " = false")),
    }
}

fn word(option: &Meta) -> syn::Result<()> {
    option.require_path_only().map(drop).map_err(|_| wrong(option, ""))
}

fn value(option: &Meta) -> Option<&Lit> {
    match option {
        Meta::NameValue(option) => match &option.value {
            Expr::Lit(ExprLit { lit, .. }) => Some(lit),
            _ => None,
        },
        _ => None,
    }
}

fn wrong(option: &Meta, right: &str) -> syn::Error {
    let name = name_of(option);
    syn::Error::new_spanned(option, format!("`{name}` isn't given that way\n  help: write `{name}{right}`"))
}

/// Names with dots between, or nothing.
fn is_package(package: &str) -> bool {
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    package.is_empty() || package.split('.').all(is_name)
}
