//! Groups: who may subscribe, who may send, and how a membership ends.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use access::rules::Config as Rules;
use broker::MessageId;
use broker_embedded::EmbeddedBroker;
use cluster::{Content, Target};
use presence::{GroupName, Groups, Member, UserName};
use stomp::{Command, header};
use support::{Client, Node, SERVICE, config};

fn group() -> GroupName {
    GroupName::new("dev").unwrap()
}

fn ann() -> Member {
    Member::User(UserName::new("ann").unwrap())
}

/// A node where clients may do what they may by default, and everybody is who they say.
async fn node() -> Node {
    Node::start(config()).await
}

async fn send(node: &Node, body: &str) {
    let content =
        Content { id: MessageId::new(), headers: Vec::new(), body: body.to_owned().into() };
    node.router.to_group(SERVICE, &group(), content, false).await.unwrap().await.unwrap();
}

/// Removes members as a service does: in force when this returns.
async fn remove(node: &Node, members: &[Member], targets: Vec<Target>) {
    node.presence.remove(&group(), members).await.unwrap();
    node.router.revoke(SERVICE, &group(), targets).await.unwrap().await.unwrap();
}

async fn refused(client: &mut Client) -> u16 {
    client.error().await.2.unwrap()
}

#[tokio::test]
async fn members_subscribe_and_others_do_not() {
    let node = node().await;
    let mut by_user = node.connect_named("ann").await;
    let mut by_session = node.connect_named("bob").await;
    let mut stranger = node.connect_named("bob").await;
    let members = [ann(), Member::Session(by_session.session())];
    node.presence.add(&group(), &members, None).await.unwrap();
    for client in [&mut by_user, &mut by_session] {
        client.subscribe("1", "/group/dev").await;
    }
    send(&node, "to members").await;
    for client in [&mut by_user, &mut by_session] {
        let message = client.frame().await;
        assert_eq!(message.header(header::DESTINATION).unwrap(), "/group/dev");
        assert_eq!(&message.body[..], b"to members");
    }
    stranger.tell(Command::Subscribe, &[("id", "1"), ("destination", "/group/dev")]).await;
    assert_eq!(refused(&mut stranger).await, 4403);
    let mut nobody = node.connect().await;
    nobody.tell(Command::Subscribe, &[("id", "1"), ("destination", "/group/none")]).await;
    assert_eq!(refused(&mut nobody).await, 4403);
}

#[tokio::test]
async fn a_removal_is_in_force_for_all_that_is_sent_behind_it() {
    let node = node().await;
    let mut removed = node.connect_named("ann").await;
    let mut kept = node.connect_named("bob").await;
    let bob = Member::User(UserName::new("bob").unwrap());
    node.presence.add(&group(), &[ann(), bob], None).await.unwrap();
    removed.subscribe("errors", "/user/queue/errors").await;
    for client in [&mut removed, &mut kept] {
        client.subscribe("1", "/group/dev").await;
    }
    send(&node, "before").await;
    remove(&node, &[ann()], vec![Target::User(UserName::new("ann").unwrap())]).await;
    send(&node, "behind").await;
    assert_eq!(removed.body().await, "before");
    let note = removed.frame().await;
    assert_eq!(note.header(header::SUBSCRIPTION).unwrap(), "errors");
    assert_eq!(note.header("error").unwrap(), "unsubscribed");
    assert_eq!(note.header("error-destination").unwrap(), "/group/dev");
    assert_eq!(kept.body().await, "before");
    assert_eq!(kept.body().await, "behind");
    // The session goes on, and may come back once it is a member again.
    node.presence.add(&group(), &[ann()], None).await.unwrap();
    removed.subscribe("1", "/group/dev").await;
    send(&node, "again").await;
    assert_eq!(removed.body().await, "again");
}

#[tokio::test]
async fn who_is_a_member_otherwise_too_stays_one() {
    let node = node().await;
    let mut client = node.connect_named("ann").await;
    let members = [ann(), Member::Session(client.session())];
    node.presence.add(&group(), &members, None).await.unwrap();
    client.subscribe("1", "/group/dev").await;
    remove(&node, &[ann()], vec![Target::User(UserName::new("ann").unwrap())]).await;
    send(&node, "still").await;
    assert_eq!(client.body().await, "still");
    node.presence.delete(&group()).await.unwrap();
    node.router.revoke(SERVICE, &group(), Vec::new()).await.unwrap().await.unwrap();
    send(&node, "nobody").await;
    client.subscribe("2", "/topic/a").await;
    client.publish("/topic/a", "last").await;
    assert_eq!(client.body().await, "last");
}

#[tokio::test]
async fn by_default_members_send_to_their_group_and_nobody_else_does() {
    let broker = Arc::new(EmbeddedBroker::new(broker_embedded::Config::default()));
    let node = Node::start_by(Rules::Default, broker, config(), stomp::Config::default()).await;
    // Without a name of its own a session is a member by its id.
    let mut member = node.connect_anonymous().await;
    let membership = [Member::Session(member.session())];
    node.presence.add(&group(), &membership, Some(Duration::from_secs(60))).await.unwrap();
    member.subscribe("1", "/group/dev").await;
    member.publish_confirmed("/group/dev", "from a member").await;
    assert_eq!(member.body().await, "from a member");
    let mut other = node.connect().await;
    other.publish("/group/dev", "from a stranger").await;
    assert_eq!(refused(&mut other).await, 4403);
    send(&node, "last").await;
    assert_eq!(member.body().await, "last");
}

#[tokio::test]
async fn where_everything_is_open_everybody_sends_and_only_members_subscribe() {
    let node = node().await;
    let mut member = node.connect_named("ann").await;
    node.presence.add(&group(), &[ann()], None).await.unwrap();
    member.subscribe("1", "/group/dev").await;
    let mut other = node.connect_named("bob").await;
    other.publish_confirmed("/group/dev", "hello").await;
    assert_eq!(member.body().await, "hello");
}
