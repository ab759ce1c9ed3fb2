//! What clippy would say of messages and enums, and of the functions that prost gives to enums.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{
    Attribute, Expr, ExprLit, ImplItem, ImplItemFn, ItemEnum, ItemImpl, ItemStruct, Lit, LitInt, Meta,
    TraitItem, parse_quote,
};

use super::{Allowed, names};

/// A struct may have this many fields that are `bool`.
const BOOLS: usize = 3;
/// A table with more entries than this may have more lines than clippy likes: one that is long takes three.
const ENTRIES: usize = 30;
/// Numbers with more digits than this get separators.
const DIGITS: usize = 5;

pub(super) fn of_struct(item: &ItemStruct, allowed: &mut Allowed) {
    let types = item.fields.iter().map(|field| field.ty.to_token_stream()).collect::<Vec<_>>();
    if types.iter().filter(|ty| ty.to_string() == "bool").count() > BOOLS {
        allowed.insert("struct_excessive_bools");
    }
    if types.iter().any(|ty| mentions(ty.clone(), &item.ident.to_string())) {
        allowed.insert("use_self");
    }
    if item.fields.iter().any(|field| prost(&field.attrs, "map =") && prost(&field.attrs, "message\"")) {
        allowed.insert("zero_sized_map_values");
    }
    let fields = item.fields.iter().filter_map(|field| field.ident.as_ref()).map(ToString::to_string);
    let fields = fields.collect::<Vec<_>>();
    if names::repeat(&item.ident.to_string(), &fields) {
        allowed.insert("struct_field_names");
    }
    if fields.iter().any(|name| name.starts_with('_')) {
        allowed.insert("pub_underscore_fields");
    }
    // prost gives optional fields functions of their names.
    if fields.iter().any(|name| name == "len") {
        allowed.insert("len_without_is_empty");
    }
    if lacks_eq(&item.attrs, types) {
        allowed.insert("derive_partial_eq_without_eq");
    }
}

pub(super) fn of_enum(item: &mut ItemEnum, allowed: &mut Allowed) {
    let variants = item.variants.iter().map(|variant| variant.ident.to_string());
    if names::repeat(&item.ident.to_string(), &variants.collect::<Vec<_>>()) {
        allowed.insert("enum_variant_names");
    }
    if item.variants.iter().any(|variant| prost(&variant.attrs, "message") || prost(&variant.attrs, "group"))
    {
        allowed.insert("large_enum_variant");
    }
    if lacks_eq(&item.attrs, item.variants.iter().map(|variant| variant.fields.to_token_stream())) {
        allowed.insert("derive_partial_eq_without_eq");
    }
    for (_, number) in item.variants.iter_mut().filter_map(|variant| variant.discriminant.as_mut()) {
        separate_thousands(number);
    }
}

/// The functions that prost gives to every enum.
pub(super) fn of_impl(item: &mut ItemImpl, allowed: &mut Allowed) {
    for function in item.items.iter_mut().filter_map(function_of_enum) {
        for attribute in &mut function.attrs {
            mark_as_code(attribute, "ProtoBuf");
        }
        function.attrs.push(parse_quote!(#[must_use]));
        if function.sig.receiver().is_some() {
            function.sig.constness = Some(parse_quote!(const));
            allowed.insert("trivially_copy_pass_by_ref");
        }
        if function.to_token_stream().into_iter().map(entries).sum::<usize>() > ENTRIES {
            allowed.insert("too_many_lines");
        }
    }
}

fn function_of_enum(item: &mut ImplItem) -> Option<&mut ImplItemFn> {
    match item {
        ImplItem::Fn(function) if function.sig.asyncness.is_none() => {
            let name = function.sig.ident.to_string();
            ["as_str_name", "from_str_name"].contains(&name.as_str()).then_some(function)
        }
        _ => None,
    }
}

/// How many entries tables have, which end with a comma each.
fn entries(token: TokenTree) -> usize {
    match token {
        TokenTree::Group(group) => group.stream().into_iter().map(entries).sum(),
        TokenTree::Punct(punct) => usize::from(punct.as_char() == ','),
        _ => 0,
    }
}

pub(super) fn attributes(item: &ImplItem) -> Option<&Vec<Attribute>> {
    match item {
        ImplItem::Fn(function) => Some(&function.attrs),
        _ => None,
    }
}

pub(super) fn attributes_in_trait(item: &TraitItem) -> Option<&Vec<Attribute>> {
    match item {
        TraitItem::Fn(function) => Some(&function.attrs),
        _ => None,
    }
}

/// Whether prost left out `Eq`, which it does where it isn't sure.
fn lacks_eq(attributes: &[Attribute], types: impl IntoIterator<Item = TokenStream>) -> bool {
    let derived = |name: &str| {
        attributes.iter().any(|attribute| match &attribute.meta {
            Meta::List(list) if list.path.is_ident("derive") => mentions(list.tokens.clone(), name),
            _ => false,
        })
    };
    let is_float = |ty: TokenStream| mentions(ty.clone(), "f32") || mentions(ty, "f64");
    derived("PartialEq") && !derived("Eq") && !types.into_iter().any(is_float)
}

fn mentions(tokens: TokenStream, name: &str) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == name,
        TokenTree::Group(group) => mentions(group.stream(), name),
        _ => false,
    })
}

/// Whether `#[prost(…)]` says `what`.
fn prost(attributes: &[Attribute], what: &str) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) if list.path.is_ident("prost") => list.tokens.to_string().contains(what),
        _ => false,
    })
}

fn mark_as_code(attribute: &mut Attribute, word: &str) {
    let Meta::NameValue(meta) = &mut attribute.meta else { return };
    if let Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) = &mut meta.value {
        let marked = text.value().replace(word, &format!("`{word}`"));
        *text = syn::LitStr::new(&marked, text.span());
    }
}

fn separate_thousands(number: &mut Expr) {
    match number {
        Expr::Unary(negative) => separate_thousands(&mut negative.expr),
        Expr::Lit(ExprLit { lit: Lit::Int(number), .. }) if number.base10_digits().len() > DIGITS => {
            let digits = number.base10_digits();
            let mut text = String::with_capacity(digits.len() + digits.len() / 3);
            for (index, digit) in digits.chars().enumerate() {
                if index > 0 && (digits.len() - index).is_multiple_of(3) {
                    text.push('_');
                }
                text.push(digit);
            }
            *number = LitInt::new(&text, Span::call_site());
        }
        _ => {}
    }
}
