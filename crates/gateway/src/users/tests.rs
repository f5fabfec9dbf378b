//! Delivery to sessions that have no turn.

use std::collections::VecDeque;
use std::task::{Context, Waker};

use broker::MessageId;
use presence::Boot;
use stomp::{Compat, Version};

use super::*;
use crate::message_frame::Shown;
use crate::transport::Framing;

const PATH: &str = "/queue/x";

fn shape(id: usize) -> Shape {
    Shape {
        framing: Framing::WebSocket,
        version: Version::V1_2,
        compat: Compat::Footbridge,
        subscription: Some(id.to_string().into()),
        shown: Shown::AsSubscribed("/user/queue/x".into()),
        acknowledged: false,
    }
}

fn take(mailbox: &Mailbox) -> usize {
    let mut frames = VecDeque::new();
    mailbox.take(&Context::from_waker(Waker::noop()), &mut frames);
    mailbox.written(frames.iter().map(Bytes::len).sum(), frames.len(), false);
    frames.len()
}

#[tokio::test]
async fn however_many_shapes_there_are_few_frames_wait_outside_mailboxes() {
    const SESSIONS: usize = 50;
    const SUBSCRIPTIONS: usize = 20;
    let users = Users::new(Arc::new(Metrics::new()));
    let boot = Boot::generate();
    let ann = UserName::new("ann").unwrap();
    let mut hearing = Vec::new();
    // No room beside one frame, which is admitted to an empty mailbox.
    let mailboxes: Vec<_> = (0..SESSIONS).map(|_| Arc::new(Mailbox::new(1))).collect();
    for (session, mailbox) in mailboxes.iter().enumerate() {
        let id = SessionId::generate(boot);
        let registered = Registered::alone(id, ann.clone(), Arc::clone(mailbox));
        assert!(users.enter(&registered, SESSIONS).is_ok());
        for n in 0..SUBSCRIPTIONS {
            let shape = shape(session * SUBSCRIPTIONS + n);
            hearing.push(users.hear(&registered, n as u32, Some(PATH.into()), shape));
        }
    }
    let content = Content { id: MessageId::new(), headers: Vec::new(), body: "x".into() };
    let addressed =
        Addressed { to: vec![Target::User(ann)], path: PATH.into(), audience: Vec::new(), content };
    let most = BEHIND_AT_ONCE + SUBSCRIPTIONS;
    let read = async {
        let (mut taken, mut waited) = (0, 0);
        while taken < SESSIONS * SUBSCRIPTIONS {
            tokio::task::yield_now().await;
            // Each frame that waits holds its mailbox, as its session does, and this test.
            let waiting: usize =
                mailboxes.iter().map(|mailbox| Arc::strong_count(mailbox) - 2).sum();
            assert!(waiting <= most, "{waiting}");
            waited = waited.max(waiting);
            taken += mailboxes.iter().map(|mailbox| take(mailbox)).sum::<usize>();
        }
        assert!(waited >= BEHIND_AT_ONCE, "{waited}");
    };
    tokio::join!(users.deliver(&addressed, false), read);
}
