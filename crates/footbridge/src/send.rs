//! `footbridge send`: messages from a terminal.

use std::path::PathBuf;

use anyhow::{Context, bail};
use stomp::{Command as Stomp, Frame, header};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::client::{Client, Target};

/// Send a message, or one for each line of standard input.
#[derive(Debug, clap::Args)]
#[command(after_help = "Each message is confirmed by a receipt before the command ends.")]
pub(crate) struct Command {
    #[command(flatten)]
    target: Target,
    /// A header, as name:value; may be repeated.
    #[arg(short = 'H', long = "header", value_name = "NAME:VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// The body's type, such as application/json.
    #[arg(short = 't', long)]
    content_type: Option<String>,
    /// Send a file's content as the body.
    #[arg(short, long, value_name = "FILE", conflicts_with = "body")]
    file: Option<PathBuf>,
    /// Where to, such as /topic/public.
    destination: String,
    /// The body; without it and without --file each line of standard input is a message.
    body: Option<String>,
}

impl Command {
    #[tokio::main(flavor = "current_thread")]
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let body = match (&self.body, &self.file) {
            (Some(body), _) => Some(body.clone().into_bytes()),
            (None, Some(file)) => Some(
                tokio::fs::read(file)
                    .await
                    .with_context(|| format!("cannot read {}", file.display()))?,
            ),
            (None, None) => None,
        };
        let mut client = Client::connect(&self.target).await?;
        match body {
            Some(body) => self.send(&mut client, body, "1").await?,
            None => {
                let mut lines = BufReader::new(tokio::io::stdin()).lines();
                let mut sent = 0_u64;
                while let Some(line) = lines.next_line().await.context("cannot read a line")? {
                    sent += 1;
                    self.send(&mut client, line.into_bytes(), &sent.to_string()).await?;
                }
            }
        }
        client.disconnect().await
    }

    async fn send(&self, client: &mut Client, body: Vec<u8>, receipt: &str) -> anyhow::Result<()> {
        let mut frame = Frame::new(Stomp::Send)
            .with_header(header::DESTINATION, self.destination.clone())
            .with_header(header::RECEIPT, receipt.to_owned())
            .with_body(body);
        if let Some(content_type) = &self.content_type {
            frame = frame.with_header(header::CONTENT_TYPE, content_type.clone());
        }
        for (name, value) in &self.headers {
            frame = frame.with_header(name.clone(), value.clone());
        }
        client.send(&frame).await?;
        client.receipt(receipt).await
    }
}

fn header(text: &str) -> anyhow::Result<(String, String)> {
    match text.split_once(':') {
        Some(("destination" | "receipt" | "content-length", _)) => {
            bail!("this header is set by the command")
        }
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => bail!("a header looks like name:value"),
    }
}
