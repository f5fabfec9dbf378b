//! `footbridge inbox`: what waits for users, to a terminal.
//!
//! Not here: what inboxes are, which the notifier is asked for; sending (`send`).

use std::io::{self, Write};

use anyhow::{Context, bail};
use clap::Subcommand;
use proto::v1::inbox_client::InboxClient;
use proto::v1::list_inbox_response::Waiting;
use proto::v1::settle_inbox_request::Settlement;
use proto::v1::{
    CountInboxRequest, CountInboxResponse, DeliveryRef, ForgetUserRequest, InboxPathsRequest,
    ListInboxRequest, PurgeInboxRequest, SettleInboxRequest,
};
use tonic::Status;
use tonic::transport::Channel;

use crate::deliveries;
use crate::grpc::{Notifier, default_url, shown};

/// The most messages that are asked for at once, as the notifier has it.
const PAGE: u32 = 1_000;

/// The columns of counts.
const COUNTS: &str = "DESTINATION\tPENDING\tDELIVERED\tSCHEDULED\tFAILED\tBYTES\tOLDEST";

/// Show what waits for users, and take it out.
#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = true,
    after_help = "An inbox is a user's, at a destination within the user such as /queue/news: what `footbridge send --user ann \
                  --durable /queue/news` puts in. The columns of tables are separated by tabs."
)]
pub(crate) struct Command {
    /// Where the notifier listens, or `footbridge dev` [env: FOOTBRIDGE_GRPC] [default: http://127.0.0.1:50051]
    #[arg(long, value_name = "URL", global = true)]
    grpc: Option<String>,
    /// The token that says who calls, where services are asked for one.
    #[arg(
        long,
        env = "FOOTBRIDGE_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN",
        global = true
    )]
    token: Option<String>,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List the messages in an inbox; or, without a destination, the inboxes of a user and how much is in each.
    Ls {
        /// Whose.
        user: String,
        /// The destination within the user, such as /queue/news [default: all, counted]
        destination: Option<String>,
    },
    /// Count what is in an inbox.
    Count(One),
    /// Print how messages stand, and each change as it happens.
    Watch {
        #[command(flatten)]
        messages: Messages,
        /// End once nothing more will become of any of them.
        #[arg(long)]
        until_final: bool,
    },
    /// Say that messages are done, in place of a client.
    Ack(Messages),
    /// Say that messages are refused for good, in place of a client.
    Reject(Messages),
    /// Drop messages from an inbox.
    Purge {
        #[command(flatten)]
        inbox: One,
        /// Which; or --all.
        #[arg(value_name = "MESSAGE", required_unless_present = "all", conflicts_with = "all")]
        messages: Vec<String>,
        /// Drop everything that is in the inbox.
        #[arg(long)]
        all: bool,
    },
    /// Forget a user with all that waits for that user.
    Forget {
        /// Whom.
        user: String,
    },
}

/// One inbox.
#[derive(Debug, clap::Args)]
struct One {
    /// Whose.
    user: String,
    /// The destination within the user, such as /queue/news.
    destination: String,
}

/// Some messages of one inbox.
#[derive(Debug, clap::Args)]
struct Messages {
    #[command(flatten)]
    inbox: One,
    /// Which.
    #[arg(value_name = "MESSAGE", required = true)]
    messages: Vec<String>,
}

impl Command {
    /// # Errors
    /// The notifier cannot be reached, or refuses.
    #[tokio::main(flavor = "current_thread")]
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let url = self.grpc.unwrap_or_else(default_url);
        let notifier = Notifier::connect(&url, self.token.as_deref()).await?;
        let client = InboxClient::new(notifier.channel());
        Asked { notifier, client, out: io::stdout() }.answer(self.what).await
    }
}

/// Who is asked, and where the answers go.
struct Asked<W> {
    notifier: Notifier,
    client: InboxClient<Channel>,
    out: W,
}

impl<W: Write> Asked<W> {
    async fn answer(mut self, what: What) -> anyhow::Result<()> {
        match what {
            What::Ls { user, destination: Some(destination) } => self.list(user, destination).await,
            What::Ls { user, destination: None } => self.inboxes(user).await,
            What::Count(One { user, destination }) => {
                let count = self.count(user, destination.clone()).await?;
                self.line(COUNTS)?;
                self.line(&counted(&destination, &count))
            }
            What::Watch { messages: Messages { inbox, messages }, until_final } => {
                let One { user, destination } = inbox;
                let of = |message_id| DeliveryRef {
                    users: vec![user.clone()],
                    destination: destination.clone(),
                    message_id,
                };
                let deliveries = messages.into_iter().map(of).collect();
                deliveries::watch(&self.notifier, deliveries, until_final, self.out).await
            }
            What::Ack(messages) => self.settle(messages, Settlement::Ack).await,
            What::Reject(messages) => self.settle(messages, Settlement::Reject).await,
            What::Purge { inbox: One { user, destination }, messages, all } => {
                let request = PurgeInboxRequest { user, destination, message_ids: messages, all };
                let purged = self.client.purge(self.notifier.call(request)).await;
                let dropped = self.said(purged)?.dropped;
                self.line(&format!("{dropped} dropped"))
            }
            What::Forget { user } => {
                let request = ForgetUserRequest { user };
                let forgotten = self.client.forget(self.notifier.call(request)).await;
                self.said(forgotten).map(drop)
            }
        }
    }

    async fn list(&mut self, user: String, destination: String) -> anyhow::Result<()> {
        self.line("MESSAGE\tSEQUENCE\tSTATE\tATTEMPTS\tSTORED\tDUE\tEXPIRES\tBYTES")?;
        let mut page_token = String::new();
        loop {
            let request = ListInboxRequest {
                user: user.clone(),
                destination: destination.clone(),
                page_size: PAGE,
                page_token,
            };
            let page = self.client.list(self.notifier.call(request)).await;
            let page = self.said(page)?;
            for message in &page.messages {
                self.line(&listed(message))?;
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(());
            }
        }
    }

    async fn inboxes(&mut self, user: String) -> anyhow::Result<()> {
        let request = InboxPathsRequest { user: user.clone() };
        let paths = self.client.paths(self.notifier.call(request)).await;
        let paths = self.said(paths)?.destinations;
        self.line(COUNTS)?;
        for path in paths {
            let count = self.count(user.clone(), path.clone()).await?;
            self.line(&counted(&path, &count))?;
        }
        Ok(())
    }

    async fn count(
        &mut self,
        user: String,
        destination: String,
    ) -> anyhow::Result<CountInboxResponse> {
        let request = CountInboxRequest { user, destination };
        let count = self.client.count(self.notifier.call(request)).await;
        self.said(count)
    }

    async fn settle(&mut self, some: Messages, settlement: Settlement) -> anyhow::Result<()> {
        let Messages { inbox: One { user, destination }, messages } = some;
        let count = messages.len() as u64;
        let request = SettleInboxRequest {
            user,
            destination,
            message_ids: messages,
            settlement: settlement.into(),
        };
        let settled = self.client.settle(self.notifier.call(request)).await;
        let settled = self.said(settled)?.settled;
        self.line(&format!("{settled} settled"))?;
        if settled < count {
            bail!("{} of {count} are not in the inbox, or scheduled", count - settled);
        }
        Ok(())
    }

    fn said<T>(&self, answer: Result<tonic::Response<T>, Status>) -> anyhow::Result<T> {
        match answer {
            Ok(answer) => Ok(answer.into_inner()),
            Err(status) => Err(self.notifier.explain(&status)),
        }
    }

    fn line(&mut self, line: &str) -> anyhow::Result<()> {
        writeln!(self.out, "{line}").context("cannot write")
    }
}

fn listed(message: &Waiting) -> String {
    let Waiting { message_id, sequence, delivery, stored_at, deliver_at, expires_at, bytes } =
        message;
    let delivery = delivery.unwrap_or_default();
    let sequence = if *sequence == 0 { "-".to_owned() } else { sequence.to_string() };
    [
        message_id.clone(),
        sequence,
        deliveries::state(&delivery).to_owned(),
        delivery.attempts.to_string(),
        time(stored_at.as_ref()),
        time(deliver_at.as_ref()),
        time(expires_at.as_ref()),
        bytes.to_string(),
    ]
    .join("\t")
}

fn counted(destination: &str, count: &CountInboxResponse) -> String {
    let CountInboxResponse { scheduled, pending, delivered, failed, bytes, oldest } = count;
    let (destination, oldest) = (shown(destination), time(oldest.as_ref()));
    format!("{destination}\t{pending}\t{delivered}\t{scheduled}\t{failed}\t{bytes}\t{oldest}")
}

fn time(time: Option<&impl ToString>) -> String {
    time.map_or_else(|| "-".to_owned(), ToString::to_string)
}
