use quote::quote;

/// The stubs of the service in `proto/greeter.proto`: what follows the messages.
fn stubs_from_proto() -> String {
    let directory = tempfile::tempdir().unwrap();
    let proto = concat!(env!("CARGO_MANIFEST_DIR"), "/../proto");
    ipc_codegen::configure().out_dir(directory.path()).compile_protos(&["greeter.proto"], &[proto]).unwrap();
    let text = std::fs::read_to_string(directory.path().join("greeter.v1.rs")).unwrap();
    let mut file = syn::parse_file(&text).unwrap();
    let first = file.items.iter().position(|item| matches!(item, syn::Item::Trait(_))).unwrap();
    file.items.drain(..first);
    prettyplease::unparse(&file)
}

/// Laid out as the text from a schema is, which has gone through the same.
fn laid_out(tokens: proc_macro2::TokenStream) -> String {
    prettyplease::unparse(&syn::parse2(tokens).unwrap())
}

#[test]
fn a_trait_and_a_schema_give_the_same_tokens() {
    let greeter = quote! {
        /// Says hello.
        pub trait Greeter {
            /// Greets one by name.
            #[ipc(no_side_effects)]
            async fn say_hello(
                &self,
                request: ::ipc_runtime::codegen::Request<HelloRequest>,
            ) -> ::core::result::Result<::ipc_runtime::codegen::Response<HelloReply>, ::ipc_runtime::codegen::Status>;

            /// Greets one again and again.
            async fn keep_greeting(
                &self,
                request: ::ipc_runtime::codegen::Request<HelloRequest>,
            ) -> ::core::result::Result<
                ::ipc_runtime::codegen::Response<
                    impl ::ipc_runtime::codegen::Stream<
                        Item = ::core::result::Result<HelloReply, ::ipc_runtime::codegen::Status>
                    > + ::core::marker::Send + 'static
                >,
                ::ipc_runtime::codegen::Status
            >;

            /// Greets all who are named, at once.
            async fn greet_all(
                &self,
                request: ::ipc_runtime::codegen::Request<::ipc_runtime::codegen::Streaming<HelloRequest>>,
            ) -> ::core::result::Result<::ipc_runtime::codegen::Response<HelloReply>, ::ipc_runtime::codegen::Status>;

            /// Greets each as they are named.
            async fn greet_each(
                &self,
                request: ::ipc_runtime::codegen::Request<::ipc_runtime::codegen::Streaming<HelloRequest>>,
            ) -> ::core::result::Result<
                ::ipc_runtime::codegen::Response<
                    impl ::ipc_runtime::codegen::Stream<
                        Item = ::core::result::Result<HelloReply, ::ipc_runtime::codegen::Status>
                    > + ::core::marker::Send + 'static
                >,
                ::ipc_runtime::codegen::Status
            >;
        }
    };
    let from_trait = super::expand(quote!(package = "greeter.v1"), greeter).unwrap();
    assert_eq!(laid_out(from_trait), stubs_from_proto());
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
    let text = laid_out(stubs);
    assert!(text.contains("\"/Salutation/Hi\""), "{text}");
    assert!(text.contains("Idempotency::Idempotent"), "{text}");
    assert!(text.contains("trait Greeter") && text.contains("struct GreeterClient"), "{text}");
    assert!(!text.contains("GreeterServer"), "{text}");
}
