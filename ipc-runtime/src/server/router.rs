//! Which service answers a method: paths in, dispatchers out. It sees no bytes and runs nothing itself.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::dispatch::ServerCall;
use crate::error::IpcError;
use crate::protocol::envelope::ServiceInfo;
use crate::status::Status;

/// What the generator implements for a service's server.
pub trait Service: Send + Sync + 'static {
    /// The full name, such as `greeter.v1.Greeter`.
    const NAME: &'static str;
    /// The methods' wire names; a method is known by its place here.
    const METHODS: &'static [&'static str];
    /// Equal on two sides means the same schema; 0: unknown.
    const FINGERPRINT: u64 = 0;

    /// Answers a call of the method at this place in `METHODS`.
    fn dispatch(&self, method: usize, call: ServerCall);
}

/// A [`Service`] whose type is forgotten.
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
    /// Places in `routes`.
    by_path: HashMap<Box<[u8]>, usize>,
    services: Vec<ServiceInfo>,
    twice: Option<&'static str>,
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

    /// Where a call goes: the place of its route. `last` is where the one before it went, as often the next does: looked at
    /// first, and kept.
    ///
    /// # Errors
    ///
    /// `UNIMPLEMENTED` that names what is missing, the service or the method.
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

    /// The path of a route that was found.
    pub(crate) fn path(&self, route: usize) -> Arc<str> {
        Arc::clone(&self.routes[route].path)
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
