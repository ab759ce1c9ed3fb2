//! A program that tests start where a promise is about processes: a server or a client, as another user, with
//! another umask, with few descriptors.
//!
//! `actor [--umask OCTAL] [--user UID GID] [--descriptors N] ROLE …`; each role says what it takes and prints.

#[cfg(not(unix))]
fn main() {}

#[cfg(unix)]
mod client;
#[cfg(unix)]
mod race;
#[cfg(unix)]
mod server;

#[cfg(unix)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    unix::main()
}

#[cfg(unix)]
mod unix {
    use std::env::Args;
    use std::error::Error;
    use std::io::Write as _;

    use rustix::fs::{Mode, RawMode};
    use rustix::process::{Resource, Rlimit};

    use super::{client, race, server};

    /// The next argument, which must be there and be of this kind.
    pub(crate) fn next<T: std::str::FromStr>(args: &mut Args) -> Result<T, Box<dyn Error>> {
        let arg = args.next().ok_or("an argument is missing")?;
        arg.parse().map_err(|_| format!("{arg:?} is no {}", std::any::type_name::<T>()).into())
    }

    /// Tells the test something, on a line of its own.
    pub(crate) fn say(words: impl std::fmt::Display) {
        let mut output = std::io::stdout().lock();
        // A test that has gone away needs to hear nothing.
        _ = writeln!(output, "{words}").and_then(|()| output.flush());
    }

    pub(super) fn main() -> Result<(), Box<dyn Error>> {
        let mut args = std::env::args();
        args.next();
        let role = prepare(&mut args)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            match role.as_str() {
                "serve" => server::serve(args).await,
                "serve-activated" => server::serve_activated(args).await,
                "flicker" => server::flicker(args).await,
                "serve-and-list-descriptors" => server::list_descriptors(args).await,
                "take-and-list-descriptors" => server::take_and_list_descriptors(args).await,
                "race" => race::run(args).await,
                "call" => client::call(args).await,
                "listen" => client::listen(args).await,
                "path-for-user" => client::path_for_user(args),
                "be-silent" => client::be_silent(args).await,
                _ => Err(format!("no such role: {role}").into()),
            }
        })
    }

    /// Becomes what the options say, before there is any other thread; returns the role.
    fn prepare(args: &mut Args) -> Result<String, Box<dyn Error>> {
        loop {
            let arg: String = next(args)?;
            match arg.as_str() {
                "--umask" => {
                    let mask = RawMode::from_str_radix(&next::<String>(args)?, 8)?;
                    rustix::process::umask(Mode::from(mask));
                }
                "--descriptors" => {
                    let limit = Some(next(args)?);
                    let limit = Rlimit { current: limit, maximum: limit };
                    rustix::process::setrlimit(Resource::Nofile, limit)?;
                }
                "--user" => become_user(next(args)?, next(args)?)?,
                _ => return Ok(arg),
            }
        }
    }

    #[cfg(target_os = "linux")]
    fn become_user(uid: u32, gid: u32) -> rustix::io::Result<()> {
        let (uid, gid) = (rustix::process::Uid::from_raw(uid), rustix::process::Gid::from_raw(gid));
        rustix::thread::set_thread_groups(&[])?;
        rustix::thread::set_thread_res_gid(gid, gid, gid)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid)
    }

    #[cfg(not(target_os = "linux"))]
    fn become_user(_: u32, _: u32) -> rustix::io::Result<()> {
        Err(rustix::io::Errno::NOSYS)
    }
}
