//! Finds the service that answers a method, from the method's path. It sees no bytes and runs nothing itself.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use super::dispatch::ServerCall;
use crate::error::IpcError;
use crate::layer::{Layers, ServerLayer};
use crate::protocol::envelope::ServiceInfo;
use crate::status::Status;

/// The trait that the generator implements for a service's server.
pub trait Service: Send + Sync + 'static {
    /// The full name, such as `greeter.v1.Greeter`.
    const NAME: &'static str;
    /// The methods' names on the wire. A method's index in this list identifies it.
    const METHODS: &'static [&'static str];
    /// Equal fingerprints on two sides mean the same schema. 0: unknown.
    const FINGERPRINT: u64 = 0;

    /// Answers a call of the method at this index in `METHODS`.
    fn dispatch(&self, method: usize, call: ServerCall);
}

/// A service with its own layers, inside the server's layers.
///
/// ```
/// # use ipc_runtime::{CallContext, Layered, Next, Server, ServerLayer, Status};
/// # fn add(service: impl ipc_runtime::codegen::Service, token: impl ServerLayer) {
/// // service: GreeterServer::new(MyGreeter)
/// let builder = Server::builder().add_service(Layered::new(service, token));
/// # drop(builder);
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Layered<S> {
    service: S,
    layers: Layers<Status>,
}

impl<S: Service> Layered<S> {
    /// `service` with `layer` around each of its calls. If it is wrapped again, the outer layer sees a call first.
    pub fn new(service: S, layer: impl ServerLayer) -> Self {
        Self { service, layers: Layers::one(layer) }
    }
}

impl<S: Service> Service for Layered<S> {
    const NAME: &'static str = S::NAME;
    const METHODS: &'static [&'static str] = S::METHODS;
    const FINGERPRINT: u64 = S::FINGERPRINT;

    fn dispatch(&self, method: usize, mut call: ServerCall) {
        call.add_layers(&self.layers);
        self.service.dispatch(method, call);
    }
}

/// A [`Service`] as a trait object.
trait Dispatch: Send + Sync {
    fn dispatch(&self, method: usize, call: ServerCall);
}

impl<S: Service> Dispatch for S {
    fn dispatch(&self, method: usize, call: ServerCall) {
        Service::dispatch(self, method, call);
    }
}

/// Where a method's calls go.
pub(crate) struct Route {
    service: Arc<dyn Dispatch>,
    method: usize,
    path: Arc<str>,
}

impl Route {
    pub(crate) fn dispatch(&self, call: ServerCall) {
        self.service.dispatch(self.method, call);
    }
}

/// All services of a server.
#[derive(Default)]
pub(crate) struct Router {
    routes: Vec<Route>,
    /// Indices in `routes`.
    by_path: HashMap<Box<[u8]>, usize>,
    services: Vec<ServiceInfo>,
    twice: Option<&'static str>,
    /// Of all routes, once they are served.
    paths: OnceLock<Arc<[Arc<str>]>>,
}

impl Router {
    pub(crate) fn add<S: Service>(&mut self, service: S) {
        if self.services.iter().any(|known| known.name == S::NAME) {
            self.twice.get_or_insert(S::NAME);
            return;
        }
        self.services.push(ServiceInfo { name: S::NAME.to_owned(), fingerprint: S::FINGERPRINT });
        let service: Arc<dyn Dispatch> = Arc::new(service);
        for (method, name) in S::METHODS.iter().enumerate() {
            let path = format!("/{}/{name}", S::NAME);
            let route = Route { service: Arc::clone(&service), method, path: Arc::from(path.as_str()) };
            self.by_path.insert(path.into_bytes().into(), self.routes.len());
            self.routes.push(route);
        }
    }

    /// Whether every service was added once.
    pub(crate) fn check(&self) -> Result<(), IpcError> {
        match self.twice {
            None => Ok(()),
            Some(name) => {
                Err(IpcError::invalid_input(format!("service {name} was added twice; add each service once")))
            }
        }
    }

    pub(crate) fn services(&self) -> &[ServiceInfo] {
        &self.services
    }

    /// The index of a call's route. `last` is the route of the previous call. It is checked first, because the next call
    /// often has the same route, and is updated.
    ///
    /// # Errors
    ///
    /// `UNIMPLEMENTED`, with the name of the missing service or method.
    pub(crate) fn find(&self, path: &[u8], last: &mut usize) -> Result<usize, Status> {
        if self.routes.get(*last).is_none_or(|route| route.path.as_bytes() != path) {
            *last = self.by_path.get(path).copied().ok_or_else(|| self.missing(path))?;
        }
        Ok(*last)
    }

    /// A route that was found.
    pub(crate) fn route(&self, route: usize) -> &Route {
        &self.routes[route]
    }

    /// The paths of all routes.
    pub(super) fn paths(&self) -> &Arc<[Arc<str>]> {
        self.paths.get_or_init(|| self.routes.iter().map(|route| Arc::clone(&route.path)).collect())
    }

    fn missing(&self, path: &[u8]) -> Status {
        let path = String::from_utf8_lossy(path);
        let shown: String = path.chars().take(256).collect();
        let service =
            path.strip_prefix('/').and_then(|path| path.rsplit_once('/')).map(|(service, _)| service);
        match service {
            Some(name) if self.services.iter().any(|known| known.name == name) => {
                Status::unimplemented(format!("service {name} has no method at {shown}"))
            }
            Some(_) => Status::unimplemented(format!("no such service: {shown}")),
            None => {
                Status::unimplemented(format!("no method path: {shown:?} (it is /package.Service/Method)"))
            }
        }
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router").field("services", &self.services).finish_non_exhaustive()
    }
}
