//! The names that prost will give to messages, enums and modules, found before prost runs: services have to keep clear
//! of them, and what prost can't tell apart has to be refused with a remedy instead of a panic or of code that doesn't
//! compile.
//!
//! Must not know about services.

use std::collections::BTreeMap;

use prost_build::Module;
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto};

use crate::error::Mistake;
use crate::naming;

/// The names in one Rust module, each with what it was made from.
pub(super) type Scope = BTreeMap<String, String>;

/// The names in the module of each package.
#[derive(Default)]
pub(super) struct Names {
    modules: BTreeMap<Module, Scope>,
    mistakes: Vec<Mistake>,
    file: String,
}

/// What decides on names, besides the schema.
pub(super) struct Rules<'a> {
    /// Schema paths of types that are not generated.
    pub(super) external: &'a [String],
    /// Whether the values of enums keep the name of their enum.
    pub(super) retain_enum_prefix: bool,
    /// Whether the modules of packages are put inside each other.
    pub(super) nested: bool,
}

impl Names {
    /// Finds the names.
    ///
    /// # Errors
    /// What prost can't give a name of its own.
    pub(super) fn find(files: &[FileDescriptorProto], rules: &Rules<'_>) -> Result<Self, Vec<Mistake>> {
        let mut names = Self::default();
        for file in files {
            file.name().clone_into(&mut names.file);
            names.syntax(file);
            names.package(file, rules);
        }
        if rules.nested {
            names.nested_packages();
        }
        if names.mistakes.is_empty() { Ok(names) } else { Err(names.mistakes) }
    }

    /// The names in a package's module.
    pub(super) fn of(&self, module: &Module) -> Scope {
        let mut scope = self.modules.get(module).cloned().unwrap_or_default();
        for other in self.modules.keys() {
            if let Some(child) = child_of(module, other) {
                scope
                    .entry(child)
                    .or_insert_with(|| format!("the module of package `{}`", package_name(other)));
            }
        }
        scope
    }

    fn syntax(&mut self, file: &FileDescriptorProto) {
        let syntax = file.syntax.as_deref().unwrap_or("proto2");
        if !matches!(syntax, "proto2" | "proto3") {
            self.mistake(
                None,
                format!("its syntax is `{syntax}`, and what that means is lost in a decoded descriptor"),
                "give the file that `protoc` wrote to `.compile_descriptor_set(\"…\")`",
            );
        }
    }

    fn package(&mut self, file: &FileDescriptorProto, rules: &Rules<'_>) {
        let module = Module::from_protobuf_package_name(file.package());
        let path = if file.package().is_empty() { String::new() } else { format!(".{}", file.package()) };
        let mut scope = self.modules.remove(&module).unwrap_or_default();
        for message in &file.message_type {
            self.message(&path, message, rules, &mut scope);
        }
        for descriptor in &file.enum_type {
            self.enumeration(&path, descriptor, rules, &mut scope);
        }
        self.modules.insert(module, scope);
    }

    /// The package `a.b` inside `a`, where a message `B` of `a` may have a module `b` already.
    fn nested_packages(&mut self) {
        const REMEDY: &str = "rename one of them in the schema, or do without `.include_file(…)` and include the two \
                              packages apart from each other";
        for (module, scope) in &self.modules {
            for other in self.modules.keys() {
                if let Some((name, owner)) =
                    child_of(module, other).and_then(|child| scope.get_key_value(&child))
                {
                    let problem = format!("its module in Rust is `{name}`, as is {owner}");
                    let mistake =
                        Mistake::new(problem, REMEDY).about(format!("package `{}`", package_name(other)));
                    self.mistakes.push(mistake);
                }
            }
        }
    }

    fn message(&mut self, parent: &str, message: &DescriptorProto, rules: &Rules<'_>, scope: &mut Scope) {
        let path = format!("{parent}.{}", message.name());
        if rules.is_external(&path) || is_map_entry(message) {
            return;
        }
        let subject = format!("message `{}`", &path[1..]);
        self.take(scope, naming::camel(message.name(), ""), &subject);
        self.fields(message, &subject);
        let mut inner = Scope::new();
        for nested in &message.nested_type {
            self.message(&path, nested, rules, &mut inner);
        }
        for nested in &message.enum_type {
            self.enumeration(&path, nested, rules, &mut inner);
        }
        self.oneofs(message, &path, &mut inner);
        if !inner.is_empty() {
            self.take(scope, naming::snake(message.name()), &format!("the module of {subject}"));
        }
    }

    fn fields(&mut self, message: &DescriptorProto, subject: &str) {
        let mut scope = Scope::new();
        for field in message.field.iter().filter(|field| !is_in_oneof(field)) {
            self.take(
                &mut scope,
                naming::snake(field.name()),
                &format!("field `{}` of {subject}", field.name()),
            );
        }
        for (_, oneof, _) in real_oneofs(message) {
            self.take(&mut scope, naming::snake(oneof), &format!("oneof `{oneof}` of {subject}"));
        }
    }

    fn oneofs(&mut self, message: &DescriptorProto, path: &str, scope: &mut Scope) {
        let nested: Vec<_> = message.nested_type.iter().map(DescriptorProto::name).collect();
        let enums: Vec<_> = message.enum_type.iter().map(EnumDescriptorProto::name).collect();
        for (_, oneof, fields) in real_oneofs(message) {
            let subject = format!("oneof `{}.{oneof}`", &path[1..]);
            let name = naming::camel(oneof, "");
            // prost-build tells these two apart by itself.
            let clashes = nested.iter().chain(&enums).any(|other| naming::camel(other, "") == name);
            self.take(scope, if clashes { naming::camel(oneof, "OneOf") } else { name }, &subject);
            let mut variants = Scope::new();
            for field in fields {
                let subject = format!("field `{}` of {subject}", field.name());
                self.take(&mut variants, naming::camel(field.name(), ""), &subject);
            }
        }
    }

    fn enumeration(
        &mut self,
        parent: &str,
        descriptor: &EnumDescriptorProto,
        rules: &Rules<'_>,
        scope: &mut Scope,
    ) {
        let path = format!("{parent}.{}", descriptor.name());
        if rules.is_external(&path) {
            return;
        }
        let subject = format!("enum `{}`", &path[1..]);
        let name = naming::camel(descriptor.name(), "");
        self.take(scope, name.clone(), &subject);
        let mut variants = Scope::new();
        let mut numbers = Vec::new();
        for value in &descriptor.value {
            if numbers.contains(&value.number()) {
                continue;
            }
            numbers.push(value.number());
            let variant = naming::camel(value.name(), "");
            let stripped = match (&name, variant) {
                (Some(name), Some(variant)) if !rules.retain_enum_prefix => {
                    Some(without_prefix(name, &variant))
                }
                (_, variant) => variant,
            };
            self.take(&mut variants, stripped, &format!("value `{}` of {subject}", value.name()));
        }
    }

    fn take(&mut self, scope: &mut Scope, name: Option<String>, subject: &str) {
        const REMEDY: &str = "rename it in the schema, or map its message or enum to a Rust type of yours with \
                              `.extern_path(\"…\", \"…\")`";
        let Some(name) = name else {
            return self.mistake(Some(subject), "nothing is left of its name in Rust".to_owned(), REMEDY);
        };
        if let Some(other) = scope.insert(name.clone(), subject.to_owned()) {
            self.mistake(
                Some(subject),
                format!("its name in Rust is `{name}`, as is that of {other}"),
                REMEDY,
            );
        }
    }

    fn mistake(&mut self, subject: Option<&str>, problem: String, remedy: &str) {
        let mistake = Mistake::new(problem, remedy).in_file(&self.file);
        self.mistakes.push(match subject {
            Some(subject) => mistake.about(subject),
            None => mistake,
        });
    }
}

impl Rules<'_> {
    fn is_external(&self, path: &str) -> bool {
        let covers = |external: &str| {
            path.strip_prefix(external).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.external.iter().any(|external| covers(external))
    }
}

/// A module's package, but for the case of its letters.
fn package_name(module: &Module) -> String {
    module.parts().collect::<Vec<_>>().join(".")
}

/// The first part of `other` inside `module`.
fn child_of(module: &Module, other: &Module) -> Option<String> {
    let mut parts = other.parts();
    for part in module.parts() {
        if parts.next() != Some(part) {
            return None;
        }
    }
    parts.next().map(str::to_owned)
}

fn is_map_entry(message: &DescriptorProto) -> bool {
    message.options.as_ref().is_some_and(prost_types::MessageOptions::map_entry)
}

fn is_in_oneof(field: &FieldDescriptorProto) -> bool {
    field.oneof_index.is_some() && !field.proto3_optional()
}

/// The oneofs that the schema's author wrote, with their fields; an `optional` field of proto3 has one of its own.
fn real_oneofs(message: &DescriptorProto) -> impl Iterator<Item = (i32, &str, Vec<&FieldDescriptorProto>)> {
    (0_i32..).zip(&message.oneof_decl).filter_map(|(index, oneof)| {
        let is_in = |field: &&FieldDescriptorProto| is_in_oneof(field) && field.oneof_index() == index;
        let fields: Vec<_> = message.field.iter().filter(is_in).collect();
        if fields.is_empty() { None } else { Some((index, oneof.name(), fields)) }
    })
}

/// A value's name without its enum's, where an uppercase letter follows.
fn without_prefix(name: &str, variant: &str) -> String {
    let rest =
        variant.strip_prefix(name).filter(|rest| rest.starts_with(char::is_uppercase)).unwrap_or(variant);
    naming::camel(rest, "").map_or_else(|| variant.to_owned(), |_| rest.to_owned())
}
