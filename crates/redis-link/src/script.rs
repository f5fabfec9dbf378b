//! Scripts that run in Redis, each a text that says in comments what its KEYS and ARGV are.
//!
//! Invariant: a connection that is handed out has all of them loaded, so they are called by their hash.

use std::fmt::Debug;
use std::marker::PhantomData;

use redis::{Cmd, Script};

/// The names of a set of scripts: an `enum` without values.
pub trait Lua: Copy + Debug + PartialEq + Send + Sync + 'static {
    /// All of them, each in its [`place`](Lua::place).
    const SOURCES: &'static [(Self, &'static str)];

    /// Where in [`SOURCES`](Lua::SOURCES) this one is.
    fn place(self) -> usize;
}

/// The scripts of a set, by their place.
#[derive(Debug)]
pub struct Scripts<L> {
    hashes: Vec<String>,
    set: PhantomData<L>,
}

impl<L: Lua> Scripts<L> {
    /// All of the set.
    #[must_use]
    pub fn new() -> Self {
        let hash = |(_, code): &(L, &str)| Script::new(code).get_hash().to_owned();
        Self { hashes: L::SOURCES.iter().map(hash).collect(), set: PhantomData }
    }

    /// The commands that load all of them.
    #[must_use]
    pub fn load(&self) -> Vec<Cmd> {
        let load = |(_, code): &(L, &str)| {
            let mut load = redis::cmd("SCRIPT");
            load.arg("LOAD").arg(*code);
            load
        };
        L::SOURCES.iter().map(load).collect()
    }

    /// The call of `script` on `keys`; its arguments are to be added.
    pub fn call(&self, script: L, keys: &[String]) -> Cmd {
        let mut call = redis::cmd("EVALSHA");
        call.arg(&self.hashes[script.place()]).arg(keys.len()).arg(keys);
        call
    }

    /// For a test of the set: whether each stands in its place and tells what its keys and arguments are.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check() -> Result<(), String> {
        for (n, (script, code)) in L::SOURCES.iter().enumerate() {
            if script.place() != n {
                return Err(format!("{script:?} does not stand in its place"));
            }
            if !code.starts_with("-- ") {
                return Err(format!("{script:?} does not say what it does"));
            }
            let (told, body): (Vec<_>, Vec<_>) =
                code.lines().partition(|line| line.starts_with("--"));
            for kind in ["KEYS", "ARGV"] {
                let all = format!("{kind}[1..]");
                for word in (1..=24).map(|n| format!("{kind}[{n}]")) {
                    let says = |line: &&str| line.contains(&word) || line.contains(&all);
                    if body.iter().any(|line| line.contains(&word)) && !told.iter().any(says) {
                        return Err(format!("{script:?} does not tell of {word}"));
                    }
                }
            }
        }
        Ok(())
    }
}

impl<L: Lua> Default for Scripts<L> {
    fn default() -> Self {
        Self::new()
    }
}
