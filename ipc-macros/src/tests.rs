use quote::{ToTokens as _, quote};
use syn::{Item, TraitItem};

/// The stubs of the service in `proto/traps/all_four_kinds.proto`: what follows the messages.
fn stubs_from_proto() -> syn::File {
    let directory = tempfile::tempdir().unwrap();
    let proto = concat!(env!("CARGO_MANIFEST_DIR"), "/../proto");
    ipc_codegen::configure()
        .out_dir(directory.path())
        .compile_protos(&["traps/all_four_kinds.proto"], &[proto])
        .unwrap();
    let text = std::fs::read_to_string(directory.path().join("traps.all_four_kinds.rs")).unwrap();
    let mut file = syn::parse_file(&text).unwrap();
    let first = file.items.iter().position(|item| matches!(item, Item::Trait(_))).unwrap();
    file.items.drain(..first);
    file
}

/// Takes out what the trait's functions return.
fn take_answers(file: &mut syn::File) -> Vec<String> {
    let Some(Item::Trait(service)) = file.items.first_mut() else { panic!("no trait comes first") };
    let functions = service.items.iter_mut().filter_map(|item| match item {
        TraitItem::Fn(function) => Some(&mut function.sig.output),
        _ => None,
    });
    functions
        .map(|output| std::mem::replace(output, syn::ReturnType::Default).into_token_stream().to_string())
        .collect()
}

#[test]
fn a_trait_and_a_schema_give_the_same_tokens() {
    let log = quote! {
        /// Keeps a log.
        pub trait Log {
            /// Adds one entry.
            async fn append(
                &self,
                request: ::ipc_runtime::codegen::Request<Entry>,
            ) -> ::core::result::Result<::ipc_runtime::codegen::Response<Summary>, ::ipc_runtime::codegen::Status>;

            /// Reads the entries from a number on, and those to come.
            #[ipc(no_side_effects)]
            async fn tail(
                &self,
                request: ::ipc_runtime::codegen::Request<Position>,
            ) -> ::core::result::Result<
                ::ipc_runtime::codegen::Response<
                    impl ::ipc_runtime::codegen::Stream<
                        Item = ::core::result::Result<Entry, ::ipc_runtime::codegen::Status>
                    > + ::core::marker::Send + 'static
                >,
                ::ipc_runtime::codegen::Status
            >;

            /// Adds many entries.
            async fn load(
                &self,
                request: ::ipc_runtime::codegen::Request<::ipc_runtime::codegen::Streaming<Entry>>,
            ) -> ::core::result::Result<::ipc_runtime::codegen::Response<Summary>, ::ipc_runtime::codegen::Status>;

            /// Adds entries, and answers each with its number.
            async fn copy(
                &self,
                request: ::ipc_runtime::codegen::Request<::ipc_runtime::codegen::Streaming<Entry>>,
            ) -> ::core::result::Result<
                ::ipc_runtime::codegen::Response<
                    impl ::ipc_runtime::codegen::Stream<
                        Item = ::core::result::Result<Position, ::ipc_runtime::codegen::Status>
                    > + ::core::marker::Send + 'static
                >,
                ::ipc_runtime::codegen::Status
            >;
        }
    };
    let mut from_proto = stubs_from_proto();
    let text = prettyplease::unparse(&from_proto);
    // What messages are made of can't be seen in a trait.
    let (_, fingerprint) = text.split_once("FINGERPRINT: ::core::primitive::u64 = ").unwrap();
    let fingerprint: syn::LitInt = syn::parse_str(fingerprint.split_once(';').unwrap().0).unwrap();
    let args = quote!(package = "traps.all_four_kinds", fingerprint = #fingerprint);
    let mut from_trait: syn::File = syn::parse2(super::expand(args, log).unwrap()).unwrap();

    // The one difference: what its author spelled is kept.
    let (spelled, named) = (take_answers(&mut from_trait), take_answers(&mut from_proto));
    let runtime = quote!(::ipc_runtime::codegen);
    assert_eq!(named[0], quote!(-> impl #runtime::Answers<Summary>).to_string());
    assert_eq!(named[1], quote!(-> impl #runtime::Streams<Entry>).to_string());
    let result = quote!(::core::result::Result<#runtime::Response<Summary>, #runtime::Status>);
    let future = quote!(-> impl ::core::future::Future<Output = #result> + ::core::marker::Send);
    assert_eq!(spelled[0], future.to_string());
    assert_eq!(prettyplease::unparse(&from_trait), prettyplease::unparse(&from_proto));
}

#[test]
fn options_decide_on_names_and_parts() {
    let service = quote! {
        trait Greeter {
            #[ipc(name = "Hi", idempotent)]
            async fn say_hello(&self, request: Request<()>) -> Result<Response<()>, Status>;
        }
    };
    let stubs = super::expand(quote!(package = "", name = "Salutation", server = false), service).unwrap();
    let text = prettyplease::unparse(&syn::parse2(stubs).unwrap());
    assert!(text.contains("\"/Salutation/Hi\""), "{text}");
    assert!(text.contains(".idempotent()"), "{text}");
    assert!(text.contains("trait Greeter") && text.contains("struct GreeterClient"), "{text}");
    assert!(!text.contains("GreeterServer"), "{text}");
}

#[test]
fn the_runtime_is_where_it_is_said_to_be() {
    let service = || {
        quote! {
            trait Greeter {
                async fn say_hello(&self, request: Request<()>) -> Result<Response<()>, Status>;
            }
        }
    };
    let usual = super::expand(quote!(package = "a"), service()).unwrap().to_string();
    let other = super::expand(quote!(package = "a", crate = "my_sdk::rt"), service()).unwrap().to_string();
    assert_eq!(other, usual.replace(":: ipc_runtime", "my_sdk :: rt"));
}
