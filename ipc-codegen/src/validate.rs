//! Finds what can't become code: names that clash, names that can't go on the wire.
//!
//! Owns the rules that hold for every service, whichever way it was described, and the remedies. Reports everything
//! that is wrong. Must not know how names are made ([`naming`](crate::naming)) nor how code is ([`emit`](crate::emit)).

use std::collections::BTreeMap;

use proc_macro2::Ident;

use crate::error::Mistake;
use crate::model::{Method, Origin, Package, Service};
use crate::naming::CONSTRUCTOR;

/// Checks all services of a package.
///
/// # Errors
/// Everything that is wrong with any of them.
pub fn validate(package: &Package) -> Result<(), Vec<Mistake>> {
    let mut mistakes = Vec::new();
    type_names(package, &mut mistakes);
    for service in &package.services {
        service_name(service, &mut mistakes);
        method_names(service, &mut mistakes);
        wire_names(service, &mut mistakes);
    }
    if mistakes.is_empty() { Ok(()) } else { Err(mistakes) }
}

/// The traits, clients and servers, against each other and against what the module has already.
fn type_names(package: &Package, mistakes: &mut Vec<Mistake>) {
    let mut taken = package.taken.clone();
    for service in &package.services {
        for (what, ident, wanted) in [
            ("trait", &service.ident, service.parts.service_trait),
            ("client", &service.client_ident, service.parts.client),
            ("server", &service.server_ident, service.parts.server),
        ] {
            if !wanted {
                continue;
            }
            let owner = format!("the {what} of service `{}`", service.wire_name);
            if let Some(other) = taken.insert(ident.to_string(), owner) {
                let problem = format!("its {what} would be named `{ident}`, which is the name of {other}");
                mistakes.push(about_service(service, problem, rename_service(service)));
            }
        }
    }
}

fn service_name(service: &Service, mistakes: &mut Vec<Mistake>) {
    if !service.wire_name.split('.').all(is_wire_identifier) {
        let problem = format!("`{}` can't be a service's name on the wire", service.wire_name);
        let remedy =
            "use letters, digits and underscores, with dots between the parts of the package: `greeter.v1`";
        mistakes.push(about_service(service, problem, remedy.to_owned()));
    }
}

fn method_names(service: &Service, mistakes: &mut Vec<Mistake>) {
    let mut taken: BTreeMap<String, &Method> = BTreeMap::new();
    for method in &service.methods {
        let name = method.ident.to_string();
        if service.parts.client && name == CONSTRUCTOR {
            let problem = format!("a client's constructor is named `{CONSTRUCTOR}`, so no method can be");
            mistakes.push(about_method(service, method, problem, rename_method(service, method)));
        }
        if let Some(other) = taken.insert(name, method) {
            let problem = format!(
                "its function would be named `{}`, as that of `{}` is",
                method.ident, other.wire_name
            );
            mistakes.push(about_method(service, method, problem, rename_method(service, method)));
        }
    }
}

fn wire_names(service: &Service, mistakes: &mut Vec<Mistake>) {
    let mut taken: BTreeMap<&str, &Ident> = BTreeMap::new();
    for method in &service.methods {
        if !is_wire_identifier(&method.wire_name) {
            let problem = format!("`{}` can't be a method's name on the wire", method.wire_name);
            let remedy = "use letters, digits and underscores, and no digit first".to_owned();
            mistakes.push(about_method(service, method, problem, remedy));
        }
        if let Some(other) = taken.insert(&method.wire_name, &method.ident) {
            let problem =
                format!("the name on the wire is `{}`, which `{other}` has already", method.wire_name);
            let remedy = "give one of them another with `#[ipc(name = \"…\")]`".to_owned();
            mistakes.push(about_method(service, method, problem, remedy));
        }
    }
}

fn is_wire_identifier(name: &str) -> bool {
    let is_first = |first: char| first.is_ascii_alphabetic() || first == '_';
    name.starts_with(is_first) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn rename_service(service: &Service) -> String {
    match &service.origin {
        Origin::File(_) => {
            format!("give it another name in Rust: `.rename_service(\".{}\", \"…\")`", service.wire_name)
        }
        Origin::Trait => "rename the trait, and keep its name on the wire with `name = \"…\"`".to_owned(),
    }
}

fn rename_method(service: &Service, method: &Method) -> String {
    match &service.origin {
        Origin::File(_) => {
            let path = format!(".{}.{}", service.wire_name, method.wire_name);
            format!("give it another name in Rust: `.rename_method(\"{path}\", \"…\")`")
        }
        Origin::Trait => {
            let name = &method.wire_name;
            format!("rename the function, and keep its name on the wire with `#[ipc(name = \"{name}\")]`")
        }
    }
}

fn about_service(service: &Service, problem: String, remedy: String) -> Mistake {
    let mistake = Mistake::new(problem, remedy)
        .at(service.ident.span())
        .about(format!("service `{}`", service.wire_name));
    in_file(service, mistake)
}

fn about_method(service: &Service, method: &Method, problem: String, remedy: String) -> Mistake {
    let mistake = Mistake::new(problem, remedy)
        .at(method.ident.span())
        .about(format!("service `{}`, method `{}`", service.wire_name, method.wire_name));
    in_file(service, mistake)
}

fn in_file(service: &Service, mistake: Mistake) -> Mistake {
    match &service.origin {
        Origin::File(file) => mistake.in_file(file),
        Origin::Trait => mistake,
    }
}
