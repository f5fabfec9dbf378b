//! A user's session at a node, as a test reads it: frame after frame, none of them skipped.

use std::collections::VecDeque;

use stomp::{Command, Frame, header};
use testkit::checker::{Client, ClientError};
use tokio::time::timeout;

use super::PATIENCE;

/// An open session.
pub(crate) struct Session {
    client: Client,
    /// What came while something else was waited for.
    early: VecDeque<Frame>,
    receipts: u32,
}

impl Session {
    /// Connects as `user`, who need not prove it.
    pub(crate) async fn connect(url: &str, user: &str) -> Self {
        Self::try_connect(url, user).await.unwrap()
    }

    /// As [`connect`](Self::connect), where it may be refused.
    pub(crate) async fn try_connect(url: &str, user: &str) -> Result<Self, ClientError> {
        let headers = [(header::LOGIN, user), (header::HEART_BEAT, "0,0")];
        let client = timeout(PATIENCE, Client::connect_with(url, &headers)).await;
        let client = client.expect("an answer to CONNECT")?;
        Ok(Self { client, early: VecDeque::new(), receipts: 0 })
    }

    /// Connects as `user` and subscribes to `/user/queue/x`, as `x`.
    pub(crate) async fn subscribed(url: &str, user: &str) -> Self {
        let mut session = Self::connect(url, user).await;
        session.subscribe("x", "/user/queue/x").await;
        session
    }

    /// Its id.
    pub(crate) fn id(&self) -> String {
        self.client.session().to_owned()
    }

    /// Subscribes, and returns when that is in force.
    pub(crate) async fn subscribe(&mut self, id: &str, destination: &str) {
        let frame = Frame::new(Command::Subscribe)
            .with_header(header::ID, id)
            .with_header(header::DESTINATION, destination);
        self.ask(frame).await.unwrap();
    }

    /// Sends, and returns when it is confirmed.
    pub(crate) async fn send(&mut self, destination: &str, body: &str) {
        let mut frame =
            Frame::new(Command::Send).with_header(header::DESTINATION, destination.to_owned());
        frame.body = body.to_owned().into();
        self.ask(frame).await.unwrap();
    }

    /// Says good-bye, and returns when the server has said it too.
    pub(crate) async fn disconnect(mut self) {
        self.ask(Frame::new(Command::Disconnect)).await.unwrap();
    }

    /// Sends a frame and waits for its receipt.
    pub(crate) async fn ask(&mut self, frame: Frame) -> Result<(), ClientError> {
        self.receipts += 1;
        let receipt = self.receipts.to_string();
        self.client.send(&frame.with_header(header::RECEIPT, receipt.clone())).await?;
        loop {
            let frame = self.frame().await?;
            let is_it = frame.command == Command::Receipt
                && frame.header(header::RECEIPT_ID).is_some_and(|id| **id == *receipt);
            if is_it {
                return Ok(());
            }
            self.early.push_back(frame);
        }
    }

    /// The subscription and the body of the next message, which must be the next frame.
    pub(crate) async fn next(&mut self) -> (String, String) {
        let frame = match self.early.pop_front() {
            Some(frame) => frame,
            None => self.frame().await.unwrap(),
        };
        assert_eq!(frame.command, Command::Message, "{frame:?}");
        let subscription = frame.header(header::SUBSCRIPTION).unwrap().to_string();
        (subscription, String::from_utf8(frame.body.to_vec()).unwrap())
    }

    /// That this, and nothing else, is what comes next.
    pub(crate) async fn hears(&mut self, subscription: &str, body: &str) {
        assert_eq!(self.next().await, (subscription.to_owned(), body.to_owned()));
    }

    /// What the session ends with; no frame may come before.
    pub(crate) async fn ended(mut self) -> ClientError {
        assert!(self.early.is_empty(), "{:?}", self.early);
        self.frame().await.expect_err("the end of the session")
    }

    async fn frame(&mut self) -> Result<Frame, ClientError> {
        timeout(PATIENCE, self.client.next()).await.expect("a frame")
    }
}
