//! Some seeds of the simulation of the runtime. `simulate-runtime` runs more of them, and replays one.

use ipc_tests::runtime_simulation::{Report, run};

#[test]
fn no_rule_is_broken_in_forty_simulations() {
    let mut report = Report::default();
    for seed in 0..40 {
        report.add(&run(seed, false));
    }
    assert_eq!(report.seeds, 40);
}
