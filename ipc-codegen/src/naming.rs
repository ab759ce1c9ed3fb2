//! Every change of case, every escaped keyword, and the one rule for names that are taken.
//!
//! The rule: **a name that is taken gets an underscore at its end, and another one while that is taken too.** Who
//! comes first keeps the plain name: messages and enums, then traits, then clients and servers; among methods, and
//! among services, the one that the schema spells in `UpperCamelCase`, then the others in alphabetical order, so that
//! reordering a schema renames nothing. Names on the wire never change.
//!
//! Must not know about schemas or syntax trees: strings in, identifiers out.

use std::collections::BTreeSet;

use heck::{ToSnakeCase, ToUpperCamelCase};
use proc_macro2::{Ident, Span};

/// A client's constructor has this name, so no method of a client can.
pub const CONSTRUCTOR: &str = "new";

/// The name of a Rust function, module or field for something of a schema, before clashes; `None` where nothing is left.
#[must_use]
pub fn snake(name: &str) -> Option<String> {
    escape(&name.to_snake_case())
}

/// The name of the Rust type for something of a schema, with `suffix`, before clashes; `None` where nothing is left.
#[must_use]
pub fn camel(name: &str, suffix: &str) -> Option<String> {
    let camel = name.to_upper_camel_case();
    if camel.is_empty() { None } else { escape(&format!("{camel}{suffix}")) }
}

/// The name on the wire of a function of a trait.
#[must_use]
pub fn wire_name(function: &Ident) -> String {
    let name = function.to_string();
    name.strip_prefix("r#").unwrap_or(&name).to_upper_camel_case()
}

/// The type parameter of a server whose trait is `service_trait`.
#[must_use]
pub fn type_parameter(service_trait: &Ident) -> Ident {
    let taken = BTreeSet::from([service_trait.to_string()]);
    identifier(&free("T".to_owned(), &taken))
}

/// An identifier for a name that this module made.
#[must_use]
pub fn identifier(name: &str) -> Ident {
    match name.strip_prefix("r#") {
        Some(keyword) => Ident::new_raw(keyword, Span::call_site()),
        None => Ident::new(name, Span::call_site()),
    }
}

/// `name`, or what the rule makes of it where it is taken.
#[must_use]
pub fn free(name: String, taken: &BTreeSet<String>) -> String {
    let mut name = name;
    while taken.contains(&name) {
        name = format!("{}_", name.strip_prefix("r#").unwrap_or(&name));
    }
    name
}

/// A name that something of a schema would like to have in Rust.
pub struct Wanted<'a> {
    /// Its name in the schema.
    pub wire_name: &'a str,
    /// Its name in Rust, as long as that isn't taken.
    pub name: String,
    /// Whether a user chose the name. It's never changed then; a clash is for [`validate`](crate::validate) to report.
    pub chosen: bool,
}

/// Gives each of `wanted` a name of its own, in the order of `wanted`. The names given are taken afterwards.
pub fn distribute(wanted: &[Wanted<'_>], taken: &mut BTreeSet<String>) -> Vec<String> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by_key(|&index| {
        let Wanted { wire_name, chosen, .. } = &wanted[index];
        (!chosen, *wire_name != wire_name.to_upper_camel_case(), *wire_name)
    });
    let mut names = vec![String::new(); wanted.len()];
    for index in order {
        let Wanted { name, chosen, .. } = &wanted[index];
        let name = if *chosen { name.clone() } else { free(name.clone(), taken) };
        taken.insert(name.clone());
        names[index] = name;
    }
    names
}

/// `name` as a Rust identifier: raw where it is a keyword, with an underscore where it can't be raw or starts with a
/// digit. What prost-build does to the names of messages and fields, so that all names of a module look alike.
fn escape(name: &str) -> Option<String> {
    match name {
        "" => None,
        "self" | "super" | "crate" | "extern" | "Self" => Some(format!("{name}_")),
        _ if name.starts_with(|first: char| first.is_ascii_digit()) => Some(format!("_{name}")),
        _ if syn::parse_str::<Ident>(name).is_err() || name == "gen" => Some(format!("r#{name}")),
        _ => Some(name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(wire_names: &[&'static str]) -> Vec<String> {
        let wanted =
            |name: &&'static str| Wanted { wire_name: name, name: snake(name).unwrap(), chosen: false };
        let wanted: Vec<_> = wire_names.iter().map(wanted).collect();
        distribute(&wanted, &mut BTreeSet::from([CONSTRUCTOR.to_owned()]))
    }

    #[test]
    fn words_are_told_apart() {
        for (wire, rust) in [
            ("SayHello", "say_hello"),
            ("GetURL", "get_url"),
            ("CloseIO", "close_io"),
            ("HashKV", "hash_kv"),
            ("FetchX509SVID", "fetch_x509svid"),
            ("process_animal", "process_animal"),
            ("_Get", "get"),
            ("Put_", "put"),
        ] {
            assert_eq!(snake(wire).as_deref(), Some(rust));
        }
    }

    #[test]
    fn keywords_are_escaped() {
        assert_eq!(snake("Async").as_deref(), Some("r#async"));
        assert_eq!(snake("gen").as_deref(), Some("r#gen"));
        assert_eq!(snake("Self").as_deref(), Some("self_"));
        assert_eq!(snake("Crate").as_deref(), Some("crate_"));
        assert_eq!(snake("Union").as_deref(), Some("union"));
        assert_eq!(camel("self", "").as_deref(), Some("Self_"));
        assert_eq!(camel("self", "Client").as_deref(), Some("SelfClient"));
        assert_eq!(identifier("r#async").to_string(), "r#async");
    }

    #[test]
    fn digits_do_not_lead() {
        assert_eq!(snake("_2nd").as_deref(), Some("_2nd"));
        assert_eq!(camel("_3", "").as_deref(), Some("_3"));
        assert_eq!(camel("_3", "Client").as_deref(), Some("_3Client"));
    }

    #[test]
    fn nothing_may_be_left() {
        assert_eq!(snake("__"), None);
        assert_eq!(camel("_", "Client"), None);
    }

    #[test]
    fn a_taken_name_gets_underscores_in_an_order_of_its_own() {
        assert_eq!(names(&["GetURL", "GetUrl", "get_url"]), ["get_url_", "get_url", "get_url__"]);
        assert_eq!(names(&["get_url", "GetUrl", "GetURL"]), ["get_url__", "get_url", "get_url_"]);
        assert_eq!(names(&["New"]), ["new_"]);
    }

    #[test]
    fn a_raw_name_that_is_taken_is_raw_no_more() {
        assert_eq!(names(&["Async", "ASYNC"]), ["r#async", "async_"]);
    }

    #[test]
    fn a_trait_called_t_moves_the_type_parameter() {
        assert_eq!(type_parameter(&identifier("Greeter")).to_string(), "T");
        assert_eq!(type_parameter(&identifier("T")).to_string(), "T_");
    }

    #[test]
    fn functions_go_on_the_wire_in_upper_camel_case() {
        assert_eq!(wire_name(&identifier("say_hello")), "SayHello");
        assert_eq!(wire_name(&identifier("r#async")), "Async");
    }
}
