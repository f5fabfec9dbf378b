//! `footbridge listen`: messages to a terminal.

use std::io::Write;

use anyhow::Context;
use stomp::{Command as Stomp, Frame, header};

use crate::client::{Client, Target};

/// Print the messages that arrive at destinations.
#[derive(Debug, clap::Args)]
pub(crate) struct Command {
    #[command(flatten)]
    target: Target,
    /// Print each message's headers before its body.
    #[arg(short = 'i', long)]
    headers: bool,
    /// Stop after so many messages.
    #[arg(short = 'n', long)]
    count: Option<u64>,
    /// From where, such as /topic/public; may be repeated.
    #[arg(required = true)]
    destinations: Vec<String>,
}

impl Command {
    #[tokio::main(flavor = "current_thread")]
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let mut client = Client::connect(&self.target).await?;
        for (n, destination) in self.destinations.iter().enumerate() {
            let subscribe = Frame::new(Stomp::Subscribe)
                .with_header(header::ID, n.to_string())
                .with_header(header::DESTINATION, destination.clone());
            client.send(&subscribe).await?;
        }
        let mut left = self.count;
        while left != Some(0) {
            let next = tokio::select! {
                next = client.next() => next?,
                _ = tokio::signal::ctrl_c() => break,
            };
            let Some(frame) = next else { anyhow::bail!("the server closed the connection") };
            if frame.command == Stomp::Message {
                self.print(&frame).context("cannot write")?;
                left = left.map(|left| left - 1);
            }
        }
        client.disconnect().await
    }

    fn print(&self, frame: &Frame) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        if self.headers {
            for (name, value) in frame.headers.iter() {
                writeln!(out, "{name}:{value}")?;
            }
            writeln!(out)?;
        } else if self.destinations.len() > 1 {
            let shown = frame.headers.get(header::DESTINATION).map_or("", |text| text);
            write!(out, "{shown}\t")?;
        }
        out.write_all(&frame.body)?;
        out.write_all(b"\n")?;
        out.flush()
    }
}
