//! Where the bodies of messages come from.

use anyhow::Context;
use tokio::io::{AsyncBufReadExt, BufReader, Split, Stdin};

/// The bodies to send, in order.
pub(super) enum Bodies {
    /// One, until it is taken.
    One(Option<Vec<u8>>),
    /// The lines of standard input.
    Lines(Split<BufReader<Stdin>>),
}

impl Bodies {
    pub(super) fn one(body: Vec<u8>) -> Self {
        Self::One(Some(body))
    }

    pub(super) fn lines() -> Self {
        Self::Lines(BufReader::new(tokio::io::stdin()).split(b'\n'))
    }

    /// The next one, if there is one.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        match self {
            Self::One(body) => Ok(body.take()),
            Self::Lines(lines) => {
                let line = lines.next_segment().await.context("cannot read a line")?;
                Ok(line.map(|mut line| {
                    line.pop_if(|last| *last == b'\r');
                    line
                }))
            }
        }
    }
}
