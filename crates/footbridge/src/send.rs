//! `footbridge send`: messages from a terminal, by STOMP as a client or by gRPC as a service.

mod answers;
mod bodies;
mod durable;
mod grpc;
mod stomp;

use std::path::PathBuf;

use anyhow::{Context, bail};

use self::bodies::Bodies;
use self::durable::DurableOptions;
use crate::client::Target;

/// Send a message, or one for each line of standard input.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "footbridge send [OPTIONS] <DESTINATION> [BODY]",
    after_help = "Each message is confirmed by the server before the command ends. With --user, --session, --group or --all \
                  the destination is one within the users, such as /queue/news for those who are subscribed to \
                  /user/queue/news, and the answer says how many sessions there were. With --group it may be left out: \
                  then the message goes to those who are subscribed to /group/NAME. With --durable the answer says for how many users \
                  the message is stored, and `footbridge inbox` shows what waits for them."
)]
pub(crate) struct Command {
    #[command(flatten)]
    target: Target,
    /// Publish by gRPC, as services do, in place of STOMP. The URL is that of `footbridge notifier` or
    /// `footbridge dev` [env: FOOTBRIDGE_GRPC] [default: http://127.0.0.1:50051]
    #[arg(long, value_name = "URL", num_args = 0..=1)]
    #[arg(conflicts_with_all = ["url", "login", "passcode", "host"])]
    grpc: Option<Option<String>>,
    /// With --grpc: the token that says who calls, where services are asked for one.
    #[arg(long, env = "FOOTBRIDGE_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<String>,
    #[command(flatten)]
    recipients: RecipientOptions,
    #[command(flatten)]
    durable: DurableOptions,
    /// A header, as name:value; may be repeated.
    #[arg(short = 'H', long = "header", value_name = "NAME:VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// The body's type, such as application/json.
    #[arg(short = 't', long)]
    content_type: Option<String>,
    /// Send a file's content as the body.
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    // Not required, since `--grpc` may have taken it for its URL.
    /// Where to, such as /topic/public.
    destination: Option<String>,
    /// The body; without it and without --file each line of standard input is a message.
    body: Option<String>,
}

/// Whom it is for; with --grpc only, and of one kind.
#[derive(Debug, clap::Args)]
#[group(multiple = false, requires = "grpc")]
struct RecipientOptions {
    /// With --grpc: to all sessions of a user; may be repeated.
    #[arg(long = "user", value_name = "NAME")]
    users: Vec<String>,
    /// With --grpc: to one session, whose id `footbridge users` tells; may be repeated.
    #[arg(long = "session", value_name = "ID")]
    sessions: Vec<String>,
    /// With --grpc: to the members of a group; may be repeated.
    #[arg(long = "group", value_name = "NAME")]
    groups: Vec<String>,
    /// With --grpc: to every session there is.
    #[arg(long)]
    all: bool,
}

/// Whom messages are for, where that does not stand in their destination.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Recipients {
    Users(Vec<String>),
    Sessions(Vec<String>),
    Groups(Vec<String>),
    All,
}

impl RecipientOptions {
    fn recipients(self) -> Option<Recipients> {
        let Self { users, sessions, groups, all } = self;
        match () {
            () if !users.is_empty() => Some(Recipients::Users(users)),
            () if !sessions.is_empty() => Some(Recipients::Sessions(sessions)),
            () if !groups.is_empty() => Some(Recipients::Groups(groups)),
            () => all.then_some(Recipients::All),
        }
    }
}

/// What all messages of one call have in common.
struct Envelope {
    destination: String,
    content_type: Option<String>,
    headers: Vec<(String, String)>,
    durable: DurableOptions,
}

impl Command {
    /// # Errors
    /// The server cannot be reached or did not confirm every message; the input cannot be read.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        let sent = runtime.block_on(self.send());
        // Whoever reads from a terminal cannot be called back: do not wait for the next line.
        runtime.shutdown_background();
        sent
    }

    async fn send(mut self) -> anyhow::Result<()> {
        let mut too_many = None;
        let url = self.grpc.take().map(|mut url| {
            // `--grpc /topic/a` names a destination: a URL begins otherwise.
            if let Some(destination) = url.take_if(|url| url.starts_with('/')) {
                let body = self.destination.replace(destination);
                too_many = std::mem::replace(&mut self.body, body);
            }
            url.unwrap_or_else(crate::grpc::default_url)
        });
        let recipients = self.recipients.recipients();
        let mut destination = self.destination;
        if let Some(Recipients::Groups(_)) = recipients
            && self.body.is_none()
        {
            // One word alone is the body, unless it is a destination.
            self.body = destination.take_if(|word| !word.starts_with('/'));
            destination.get_or_insert_default();
        }
        let Some(destination) = destination else {
            let example = recipients.map_or("/topic/public", |_| "/queue/news");
            bail!("where to? Give a destination, such as {example}");
        };
        let bodies = match (self.body, self.file, too_many) {
            (_, _, Some(word)) | (Some(word), Some(_), _) => {
                bail!("one body is enough, so what is `{word}`? Text with spaces stands in quotes")
            }
            (Some(body), None, _) => Bodies::one(body.into_bytes()),
            (None, Some(file), _) => Bodies::one(
                tokio::fs::read(&file)
                    .await
                    .with_context(|| format!("cannot read {}", file.display()))?,
            ),
            (None, None, _) => Bodies::lines(),
        };
        if self.durable.has_key() && matches!(bodies, Bodies::Lines(_)) {
            bail!("--key is of one message, and each line is one: give the body");
        }
        let (content_type, headers, durable) = (self.content_type, self.headers, self.durable);
        let envelope = Envelope { destination, content_type, headers, durable };
        match url {
            Some(url) => {
                grpc::send(&url, self.token.as_deref(), recipients, envelope, bodies).await
            }
            None => stomp::send(&self.target, &envelope, bodies).await,
        }
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
