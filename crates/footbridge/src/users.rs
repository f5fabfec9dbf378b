//! `footbridge users`: who is online, to a terminal.
//!
//! Not here: what presence knows, which the notifier is asked for.

use std::io::{self, Write};

use anyhow::Context;
use proto::v1::presence_client::PresenceClient;
use proto::v1::{GetUsersRequest, ListUsersRequest, OnlineSession, get_users_response};
use tonic::transport::Channel;

use crate::grpc::{Notifier, default_url, shown};

/// The most users that are asked for at once, as the notifier has it.
const PAGE: u32 = 1_000;

/// List who is online: each session with its user, node, beginning, address and device.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The columns are separated by tabs. The command ends with code 1 where a user who is named has no session."
)]
pub(crate) struct Command {
    /// Where the notifier listens, or `footbridge dev` [env: FOOTBRIDGE_GRPC] [default: http://127.0.0.1:50051]
    #[arg(long, value_name = "URL")]
    grpc: Option<String>,
    /// The token that says who calls, where services are asked for one.
    #[arg(long, env = "FOOTBRIDGE_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<String>,
    /// Whose sessions [default: everybody's]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

impl Command {
    /// # Errors
    /// The notifier cannot be reached or does not say; a user who is named is not online.
    #[tokio::main(flavor = "current_thread")]
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let url = self.grpc.unwrap_or_else(default_url);
        let asked = Asked {
            notifier: Notifier::connect(&url, self.token.as_deref()).await?,
            out: io::stdout(),
        };
        match self.names.is_empty() {
            true => asked.everybody().await,
            false => asked.some(&self.names).await,
        }
    }
}

/// Who is asked, and where the answers go.
struct Asked<W> {
    notifier: Notifier,
    out: W,
}

impl<W: Write> Asked<W> {
    async fn everybody(mut self) -> anyhow::Result<()> {
        self.title()?;
        let mut client = self.client();
        let mut page_token = String::new();
        loop {
            let request = ListUsersRequest { page_size: PAGE, page_token };
            let page = client.list_users(self.notifier.call(request)).await;
            let page = page.map_err(|status| self.notifier.explain(&status))?.into_inner();
            let names: Vec<_> = page.users.into_iter().map(|user| user.user).collect();
            // Whoever left since is not there any more, and no mistake.
            self.print(&names).await?;
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(());
            }
        }
    }

    async fn some(mut self, names: &[String]) -> anyhow::Result<()> {
        self.title()?;
        let mut away = Vec::new();
        for names in names.chunks(PAGE as usize) {
            away.extend(self.print(names).await?);
        }
        match away.as_slice() {
            [] => Ok(()),
            away => anyhow::bail!("not online: {}", away.join(", ")),
        }
    }

    /// Prints the sessions of these, and returns those who have none, and why if that is known.
    async fn print(&mut self, names: &[String]) -> anyhow::Result<Vec<String>> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let request = GetUsersRequest { users: names.to_vec() };
        let users = self.client().get_users(self.notifier.call(request)).await;
        let users = users.map_err(|status| self.notifier.explain(&status))?.into_inner().users;
        let mut away = Vec::new();
        for user in users {
            if user.sessions.is_empty() {
                away.push(absent(&user));
            }
            for session in &user.sessions {
                writeln!(self.out, "{}", line(session)).context("cannot write")?;
            }
        }
        self.out.flush().context("cannot write")?;
        Ok(away)
    }

    fn title(&mut self) -> anyhow::Result<()> {
        writeln!(self.out, "USER\tSESSION\tNODE\tSINCE\tADDRESS\tDEVICE").context("cannot write")
    }

    fn client(&self) -> PresenceClient<Channel> {
        PresenceClient::new(self.notifier.channel()).max_decoding_message_size(LARGEST_ANSWER)
    }
}

/// A thousand users may have many sessions each, with attributes.
const LARGEST_ANSWER: usize = 1 << 30;

fn line(session: &OnlineSession) -> String {
    let since = session.since.as_ref().map(ToString::to_string).unwrap_or_default();
    let OnlineSession { id, user, node, address, device, .. } = session;
    [user, id, node, &since, address, device].map(|column| shown(column)).join("\t")
}

fn absent(user: &get_users_response::User) -> String {
    let name = shown(&user.user);
    match &user.banned_for {
        Some(rest) => format!("{name} (banned for {} s)", rest.seconds.max(1)),
        None => name,
    }
}
