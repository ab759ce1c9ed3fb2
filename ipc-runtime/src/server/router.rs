//! Which service answers a method: paths in, dispatchers out. It sees no bytes and runs nothing itself.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use super::dispatch::ServerCall;
use crate::error::IpcError;
use crate::status::Status;
use crate::wire::ServiceInfo;

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

/// A handler that pauses later than this holds others up.
const QUICK: Duration = Duration::from_micros(200);

/// How often in a row a handler must have paused quickly to count as quick.
const QUICK_AFTER: u8 = 16;

/// Where a method's calls go.
pub(crate) struct Route {
    service: Arc<dyn Dispatch>,
    method: usize,
    path: Arc<str>,
    /// How often in a row its handlers have paused, or ended, quickly.
    quick: AtomicU8,
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
            let route = Route {
                service: Arc::clone(&service),
                method,
                path: Arc::from(path.as_str()),
                quick: AtomicU8::new(0),
            };
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

    /// Where a call goes. `last` is where the one before it went, as often the next does: looked at first, and kept.
    ///
    /// # Errors
    ///
    /// `UNIMPLEMENTED` that names what is missing, the service or the method.
    pub(crate) fn find(&self, path: &[u8], last: &mut usize) -> Result<&Route, Status> {
        if self.routes.get(*last).is_none_or(|route| route.path.as_bytes() != path) {
            *last = self.by_path.get(path).copied().ok_or_else(|| self.missing(path))?;
        }
        Ok(&self.routes[*last])
    }

    /// Whether the method's handlers are known not to compute for long.
    pub(crate) fn is_quick(&self, route: usize) -> bool {
        self.routes[route].quick.load(Ordering::Relaxed) >= QUICK_AFTER
    }

    /// A handler has paused, or ended, after so long.
    pub(crate) fn note_pace(&self, route: usize, paused_after: Duration) {
        let quick = &self.routes[route].quick;
        let before = quick.load(Ordering::Relaxed);
        if paused_after > QUICK {
            quick.store(0, Ordering::Relaxed);
        } else if before < QUICK_AFTER {
            quick.store(before + 1, Ordering::Relaxed);
        }
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
