use ipc_macros::ipc_service;

#[ipc_service(package = "1", verbose)]
unsafe trait Greeter<T> {
    const LIMIT: usize;
    fn say_hello(self, name: String);
}

fn main() {}
