//! Simulates clients and a server through the whole runtime, on paused time: the public API, tokio's runtimes, and a network
//! in memory that behaves badly.
//!
//! Everything follows from one number, the seed, so what goes wrong can be replayed. What tokio draws by itself decides
//! only in which order tasks are woken that wait for one thing; users are polled in the order that the seed says.
//! `stage` runs it, `world` keeps what is checked, `call` and `service` check users and handlers.

mod call;
mod connector;
mod crowd;
mod network;
mod plan;
mod random;
mod report;
mod service;
mod settings;
mod stage;
mod world;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

#[expect(unreachable_pub, reason = "generated code is as public as its service")]
mod generated {
    ipc_runtime::include_proto!("test.simulation.v1");
}

pub use self::report::{Event, Report};
use self::stage::Stage;
use generated::{Piece, Simulated, SimulatedClient, SimulatedServer};

/// What handlers and connectors say that panic on purpose.
const ON_PURPOSE: &str = "as the simulation wants it";

thread_local! {
    /// A panic that nobody wanted. Tokio keeps those of tasks to itself.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

fn take_panic() -> Option<String> {
    PANIC.with(|panic| panic.borrow_mut().take())
}

/// Panics are kept for the simulation; those on purpose are not printed.
fn hear_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if info.payload().downcast_ref::<&str>() == Some(&ON_PURPOSE) {
                return;
            }
            let words = info.to_string();
            _ = PANIC.try_with(|panic| {
                if let Ok(mut panic) = panic.try_borrow_mut() {
                    panic.get_or_insert(words);
                }
            });
            before(info);
        }));
    });
}

/// Runs one seed; says what happens, if it is told to.
///
/// # Panics
///
/// If a rule was broken; the message names the seed.
#[must_use]
pub fn run(seed: u64, is_told: bool) -> Report {
    hear_panics();
    take_panic();
    match catch_unwind(AssertUnwindSafe(|| Stage::new(seed, is_told).run())) {
        Ok(report) => report,
        Err(panic) => {
            let words = panic.downcast_ref::<String>().map(String::as_str);
            let words = words.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
            panic!("seed {seed}: {words}");
        }
    }
}
