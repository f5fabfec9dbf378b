//! What becomes of durable messages, to a terminal.

use std::io::Write;

use anyhow::{Context, bail};
use proto::v1::notifications_client::NotificationsClient;
use proto::v1::{Delivery, DeliveryRef, DeliveryState, WatchDeliveryRequest};

use crate::grpc::{Notifier, shown};

/// The most messages of users that one watch takes.
const MOST: usize = 1_000;

/// Prints how messages stand, and each change, until nothing more will become of any or, without `until_final`, for
/// ever.
pub(crate) async fn watch(
    notifier: &Notifier,
    deliveries: Vec<DeliveryRef>,
    until_final: bool,
    mut out: impl Write,
) -> anyhow::Result<()> {
    let count: usize = deliveries.iter().map(|of| of.users.len().max(1)).sum();
    if count > MOST {
        bail!("{count} messages of users are too many to watch: at most {MOST} are");
    }
    let mut client = NotificationsClient::new(notifier.channel());
    let request = WatchDeliveryRequest { deliveries, until_final };
    let events = client.watch_delivery(notifier.call(request)).await;
    let mut events = events.map_err(|status| notifier.explain(&status))?.into_inner();
    writeln!(out, "SINCE\tUSER\tMESSAGE\tSTATE\tATTEMPTS").context("cannot write")?;
    loop {
        let event = events.message().await.map_err(|status| notifier.explain(&status))?;
        let Some(event) = event else { return Ok(()) };
        let delivery = event.delivery.unwrap_or_default();
        let user = if event.user.is_empty() { "-".to_owned() } else { shown(&event.user) };
        let line = [&*since(&delivery), &*user, &*event.message_id, state(&delivery)].join("\t");
        writeln!(out, "{line}\t{}", delivery.attempts).context("cannot write")?;
        out.flush().context("cannot write")?;
    }
}

/// How a message stands, in a word.
pub(crate) fn state(delivery: &Delivery) -> &'static str {
    match delivery.state() {
        DeliveryState::Scheduled => "scheduled",
        DeliveryState::Pending => "pending",
        DeliveryState::Delivered => "delivered",
        DeliveryState::Acked => "acked",
        DeliveryState::Failed => "failed",
        DeliveryState::Expired => "expired",
        DeliveryState::Dropped => "dropped",
        DeliveryState::Unknown | DeliveryState::Unspecified => "unknown",
    }
}

/// Since when it stands so.
fn since(delivery: &Delivery) -> String {
    delivery.since.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string)
}
