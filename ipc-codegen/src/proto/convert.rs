//! From prost-build's services to the model: names, types, kinds, comments and options of a schema.
//!
//! Must not know what a name may be ([`naming`]), nor what makes services wrong ([`validate`](crate::validate)).

use std::collections::{BTreeMap, BTreeSet};

use prost_build::Module;
use prost_types::method_options::IdempotencyLevel;
use syn::{Attribute, Type, parse_quote};

use super::comments::Comments;
use super::messages::Found;
use super::names::Names;
use super::options::Options;
use crate::error::Mistake;
use crate::model::{Attributes, Idempotency, Kind, Method, Origin, Package, Service};
use crate::naming::{self, Wanted, identifier};

/// What services are converted with.
pub(super) struct Converter<'a> {
    pub(super) options: &'a Options,
    pub(super) comments: &'a Comments,
    pub(super) names: &'a Names,
    pub(super) fingerprints: &'a BTreeMap<String, u64>,
    /// The names of the schema's files.
    pub(super) files: &'a [String],
    pub(super) mistakes: Vec<Mistake>,
}

/// The names of a service in Rust.
struct ServiceNames {
    service_trait: String,
    client: String,
    server: String,
}

impl Converter<'_> {
    /// The services of each module.
    ///
    /// # Errors
    /// Names of which nothing is left.
    pub(super) fn packages(mut self, found: Vec<Found>) -> Result<BTreeMap<Module, Package>, Vec<Mistake>> {
        let mut modules: BTreeMap<Module, Vec<Found>> = BTreeMap::new();
        for service in found {
            let module = Module::from_protobuf_package_name(&service.service.package);
            modules.entry(module).or_default().push(service);
        }
        let mut packages = BTreeMap::new();
        for (module, found) in modules {
            let package = self.package(&module, &found);
            packages.insert(module, package);
        }
        if self.mistakes.is_empty() { Ok(packages) } else { Err(self.mistakes) }
    }

    fn package(&mut self, module: &Module, found: &[Found]) -> Package {
        let taken = self.names.of(module);
        let names = self.service_names(found, taken.keys().cloned().collect());
        let services = found.iter().zip(names).map(|(found, names)| self.service(found, &names)).collect();
        Package { services, taken }
    }

    /// Traits first, so that a service called `GreeterClient` keeps its name and the client of `Greeter` gives way.
    fn service_names(&mut self, found: &[Found], mut taken: BTreeSet<String>) -> Vec<ServiceNames> {
        let mut round = |suffix| {
            let wanted: Vec<_> = found.iter().map(|found| self.wanted_type(found, suffix)).collect();
            naming::distribute(&wanted, &mut taken)
        };
        let (traits, clients, servers) = (round(""), round("Client"), round("Server"));
        let names = traits.into_iter().zip(clients).zip(servers);
        names
            .map(|((service_trait, client), server)| ServiceNames { service_trait, client, server })
            .collect()
    }

    fn wanted_type<'a>(&mut self, found: &'a Found, suffix: &str) -> Wanted<'a> {
        let wire_name = found.service.proto_name.as_str();
        if let Some(chosen) = self.options.service_names.get_exact(&path_of(&found.service)) {
            return Wanted { wire_name, name: format!("{chosen}{suffix}"), chosen: suffix.is_empty() };
        }
        let name = naming::camel(wire_name, suffix).unwrap_or_else(|| {
            if suffix.is_empty() {
                let path = path_of(&found.service);
                let remedy = format!("give it a name in Rust: `.rename_service(\"{path}\", \"…\")`");
                self.nothing_left(found, format!("service `{}`", &path[1..]), remedy);
            }
            format!("Nameless{suffix}")
        });
        Wanted { wire_name, name, chosen: false }
    }

    fn service(&mut self, found: &Found, names: &ServiceNames) -> Service {
        let path = path_of(&found.service);
        let docs = self.comments.on(found.file, &[6, index(found.index)]);
        let options = self.options;
        let methods = self.methods(found);
        Service {
            origin: Origin::File(self.files[found.file].clone()),
            wire_name: path[1..].to_owned(),
            fingerprint: self.fingerprints.get(&path).copied().unwrap_or_default(),
            runtime: options.runtime.clone(),
            ident: identifier(&names.service_trait),
            client_ident: identifier(&names.client),
            server_ident: identifier(&names.server),
            visibility: parse_quote!(pub),
            docs: options.documentation(&path, docs),
            deprecated: found.service.options.deprecated().then(deprecated),
            attributes: Attributes {
                service_trait: attributes(options.trait_attributes.get(&path)),
                client: attributes(options.client_attributes.get(&path)),
                client_items: attributes(options.client_item_attributes.get(&path)),
                server: attributes(options.server_attributes.get(&path)),
                server_items: attributes(options.server_item_attributes.get(&path)),
            },
            parts: options.parts,
            methods,
        }
    }

    fn methods(&mut self, found: &Found) -> Vec<Method> {
        let methods = &found.service.methods;
        let wanted: Vec<_> = methods.iter().map(|method| self.wanted_function(found, method)).collect();
        let mut taken = BTreeSet::from([naming::CONSTRUCTOR.to_owned()]);
        let names = naming::distribute(&wanted, &mut taken);
        let numbered = methods.iter().enumerate().zip(names);
        numbered.filter_map(|((index, method), name)| self.method(found, index, method, &name)).collect()
    }

    fn wanted_function<'a>(&mut self, found: &Found, method: &'a prost_build::Method) -> Wanted<'a> {
        let wire_name = method.proto_name.as_str();
        let path = format!("{}.{wire_name}", path_of(&found.service));
        if let Some(chosen) = self.options.method_names.get_exact(&path) {
            return Wanted { wire_name, name: chosen.clone(), chosen: true };
        }
        let name = naming::snake(wire_name).unwrap_or_else(|| {
            let subject = format!("service `{}`, method `{wire_name}`", &path_of(&found.service)[1..]);
            let remedy = format!("give it a name in Rust: `.rename_method(\"{path}\", \"…\")`");
            self.nothing_left(found, subject, remedy);
            "nameless".to_owned()
        });
        Wanted { wire_name, name, chosen: false }
    }

    fn method(
        &mut self,
        found: &Found,
        number: usize,
        method: &prost_build::Method,
        name: &str,
    ) -> Option<Method> {
        let path = format!("{}.{}", path_of(&found.service), method.proto_name);
        let docs = self.comments.on(found.file, &[6, index(found.index), 2, index(number)]);
        let (input, output) =
            (self.message_type(found, &method.input_type), self.message_type(found, &method.output_type));
        Some(Method {
            wire_name: method.proto_name.clone(),
            ident: identifier(name),
            kind: Kind::of(method.client_streaming, method.server_streaming),
            input: input?,
            output: output?,
            spelled: None,
            idempotency: match method.options.idempotency_level() {
                IdempotencyLevel::IdempotencyUnknown => Idempotency::Unknown,
                IdempotencyLevel::NoSideEffects => Idempotency::NoSideEffects,
                IdempotencyLevel::Idempotent => Idempotency::Idempotent,
            },
            docs: self.options.documentation(&path, docs),
            deprecated: method.options.deprecated().then(deprecated),
            attributes: attributes(self.options.method_attributes.get(&path)),
            default_body: self.options.default_stubs,
        })
    }

    /// A path that prost-build resolved, or that the user gave for a type.
    fn message_type(&mut self, found: &Found, path: &str) -> Option<Type> {
        let parsed = syn::parse_str(path);
        if let Err(error) = &parsed {
            let mistake = Mistake::new(
                format!("`{path}` is no type of Rust: {error}"),
                "look at the paths given with `.extern_path(\"…\", \"…\")`",
            );
            let subject = format!("service `{}`", &path_of(&found.service)[1..]);
            self.mistakes.push(mistake.in_file(&self.files[found.file]).about(subject));
        }
        parsed.ok()
    }

    fn nothing_left(&mut self, found: &Found, subject: String, remedy: String) {
        let mistake = Mistake::new("nothing is left of its name in Rust", remedy);
        self.mistakes.push(mistake.in_file(&self.files[found.file]).about(subject));
    }
}

/// The full name of a service in its schema, with a dot in front.
fn path_of(service: &prost_build::Service) -> String {
    let dot = if service.package.is_empty() { "" } else { "." };
    format!("{dot}{}.{}", service.package, service.proto_name)
}

/// An index in a schema's path.
fn index(index: usize) -> i32 {
    i32::try_from(index).unwrap_or(i32::MAX)
}

fn deprecated() -> Attribute {
    parse_quote!(#[deprecated])
}

fn attributes<'a>(given: impl Iterator<Item = &'a Vec<Attribute>>) -> Vec<Attribute> {
    given.flatten().cloned().collect()
}
