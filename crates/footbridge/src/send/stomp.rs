//! Sending as a client does: SEND frames, each with a receipt that is waited for.

use stomp::{Command, Frame, header};

use super::{Bodies, Envelope};
use crate::client::{Client, Target};

pub(super) async fn send(
    target: &Target,
    envelope: &Envelope,
    mut bodies: Bodies,
) -> anyhow::Result<()> {
    let mut client = Client::connect(target).await?;
    let mut sent = 0_u64;
    while let Some(body) = bodies.next().await? {
        sent += 1;
        let receipt = sent.to_string();
        client.send(&frame(envelope, body, &receipt)).await?;
        client.receipt(&receipt).await?;
    }
    client.disconnect().await
}

fn frame(envelope: &Envelope, body: Vec<u8>, receipt: &str) -> Frame {
    let mut frame = Frame::new(Command::Send)
        .with_header(header::DESTINATION, envelope.destination.clone())
        .with_header(header::RECEIPT, receipt.to_owned())
        .with_body(body);
    if let Some(content_type) = &envelope.content_type {
        frame = frame.with_header(header::CONTENT_TYPE, content_type.clone());
    }
    for (name, value) in &envelope.headers {
        frame = frame.with_header(name.clone(), value.clone());
    }
    frame
}
