//! Twenty servers that all want one path, a thousand times.

use std::fs::File;
use std::os::unix::net::UnixListener;

use ipc_runtime::{Channel, IpcConfig};
use ipc_tests::actor::{ActorClient, Nothing};
use ipc_tests::raw::soon;
use ipc_tests::setup::place;
use rustix::fs::FlockOperation;

use crate::actors::Actor;

const RACERS: usize = 20;
const ROUNDS: usize = 1000;

/// Every so many rounds all processes are killed and others take their places.
const ROUNDS_OF_A_LIFE: usize = 100;

struct Race {
    config: IpcConfig,
    gate: File,
    racers: Vec<Actor>,
}

impl Race {
    fn new(config: IpcConfig) -> Self {
        let gate = File::create(format!("{}.gate", config.endpoint_path)).expect("a file");
        Self { config, gate, racers: Vec::new() }
    }

    fn fill(&mut self) {
        let path = &self.config.endpoint_path;
        let racer = || Actor::start(["race", path, &format!("{path}.gate")]);
        self.racers.resize_with(RACERS, racer);
    }

    /// All want the path at once; returns who has it.
    async fn run(&mut self) -> usize {
        rustix::fs::flock(&self.gate, FlockOperation::LockExclusive).expect("a lock");
        for racer in &mut self.racers {
            racer.tell("go").await;
        }
        rustix::fs::flock(&self.gate, FlockOperation::Unlock).expect("a lock");
        let mut said = Vec::new();
        for racer in &mut self.racers {
            said.push(racer.line().await);
        }
        let winners: Vec<_> = (0..RACERS).filter(|&racer| said[racer] == "won").collect();
        assert_eq!(winners.len(), 1, "{said:?}");
        let lost = format!(
            "lost binding {}: the server with pid {} has this endpoint; stop it or choose another endpoint_path",
            self.config.endpoint_path, self.racers[winners[0]].pid
        );
        for words in said.iter().filter(|&words| words != "won") {
            assert_eq!(*words, lost);
        }
        winners[0]
    }

    /// The path leads to this process.
    async fn works(&self, pid: u32) {
        let channel = soon("a connection", Channel::connect(&self.config)).await.expect("a server");
        assert_eq!(channel.peer_info().and_then(|peer| peer.pid), Some(pid));
        ActorClient::new(channel).who_am_i(Nothing {}).await.expect("an answer");
    }
}

#[tokio::test]
async fn of_20_servers_exactly_one_has_the_path_1000_times() {
    let (config, _directory) = place();
    let mut race = Race::new(config);
    for round in 0..ROUNDS {
        race.fill();
        let winner = race.run().await;
        if round % ROUNDS_OF_A_LIFE == ROUNDS_OF_A_LIFE - 1 {
            let alone = race.racers.swap_remove(winner);
            for loser in race.racers.drain(..) {
                loser.kill().await;
            }
            race.works(alone.pid).await;
            // Its socket stays, and its lock file with its pid.
            alone.kill().await;
            continue;
        }
        let winner = &mut race.racers[winner];
        let pid = winner.pid;
        race.works(pid).await;
        let winner = race.racers.iter_mut().find(|racer| racer.pid == pid).expect("the winner");
        winner.tell("leave").await;
        winner.says("left").await;
        if round % 2 == 0 {
            // The next ones find what a crash leaves.
            drop(UnixListener::bind(&race.config.endpoint_path).expect("a free path"));
        }
    }
}
