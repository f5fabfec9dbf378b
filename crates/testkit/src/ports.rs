//! A block of ports of one's own on 127.0.0.1.
//!
//! Ports stay the owner's while its server is down, which "bind to port 0, then close" cannot give:
//! a client that keeps trying to reach a killed server could be handed that very port by the kernel
//! as its source port, and so connect to itself and keep the server from coming back. Therefore the
//! block lies below the usual ephemeral range (32768 and up), and its first port is held bound as
//! the mark that the block is taken; the kernel takes the mark away with the process.

use std::net::{Ipv4Addr, TcpListener};

use crate::StartError;

/// Ports in a block, the mark included.
const BLOCK: u16 = 8;
/// The blocks lie from here ...
const FROM: u16 = 20_480;
/// ... to here.
const TO: u16 = 30_720;

/// A block of ports that no other `Ports`, in any process, has.
#[derive(Debug)]
pub(crate) struct Ports {
    first: u16,
    /// Bound as long as the block is ours; nothing accepts on it.
    _mark: TcpListener,
}

impl Ports {
    /// How many ports a block gives.
    pub(crate) const COUNT: u16 = BLOCK - 1;

    /// Takes a block whose ports are all free at the moment.
    pub(crate) fn reserve() -> Result<Ports, StartError> {
        let blocks = (TO - FROM) / BLOCK;
        let start = rand::random_range(0..blocks);
        (0..blocks)
            .map(|n| FROM + (start + n) % blocks * BLOCK)
            .find_map(|mark| {
                let _mark = listen(mark)?;
                let first = mark + 1;
                let free = (first..first + Ports::COUNT).all(|port| listen(port).is_some());
                free.then_some(Ports { first, _mark })
            })
            .ok_or(StartError::NoPorts { from: FROM, to: TO })
    }

    /// The `n`th port of the block, from 0 to `COUNT` - 1.
    pub(crate) fn get(&self, n: u16) -> u16 {
        assert!(n < Ports::COUNT, "a block has {} ports", Ports::COUNT);
        self.first + n
    }
}

fn listen(port: u16) -> Option<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_do_not_overlap() {
        let blocks: Vec<Ports> = (0..50).map(|_| Ports::reserve().unwrap()).collect();
        let mut ports: Vec<u16> =
            blocks.iter().flat_map(|b| (0..Ports::COUNT).map(|n| b.get(n))).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 50 * usize::from(Ports::COUNT));
    }

    #[test]
    fn every_port_of_a_block_can_be_bound_by_its_owner() {
        let block = Ports::reserve().unwrap();
        let _servers: Vec<TcpListener> =
            (0..Ports::COUNT).map(|n| listen(block.get(n)).unwrap()).collect();
    }
}
