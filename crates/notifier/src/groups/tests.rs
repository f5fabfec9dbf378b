//! Who is in which group, and from when on a removal holds.

use std::time::Duration;

use ::presence::{Boot, Groups as _, UserName};
use broker::{Destination, Link, PublishError, SubscribeRequest, Subscription};
use cluster::Letter;
use proto::v1::groups_server::Groups as _;
use tonic::Code;
use tonic_types::StatusExt;

use super::*;
use crate::config::Config;
use crate::fake_broker::{FakeBroker, OnPublish};
use crate::fixture::Fixture;

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn add(users: &[&str], sessions: &[&str]) -> Request<AddToGroupRequest> {
    let (users, sessions) = (names(users), names(sessions));
    Request::new(AddToGroupRequest { group: "dev".to_owned(), users, sessions, lifetime: None })
}

fn remove(users: &[&str], sessions: &[&str]) -> Request<RemoveFromGroupRequest> {
    let (users, sessions) = (names(users), names(sessions));
    Request::new(RemoveFromGroupRequest { group: "dev".to_owned(), users, sessions })
}

fn dev() -> GroupName {
    GroupName::new("dev").unwrap()
}

async fn list(groups: &Groups, page_size: u32, page_token: &str) -> ListGroupResponse {
    let (group, page_token) = ("dev".to_owned(), page_token.to_owned());
    let request = ListGroupRequest { group, page_size, page_token };
    groups.list(Request::new(request)).await.unwrap().into_inner()
}

async fn subscribed(fixture: &Fixture) -> Subscription {
    let topic = Destination::Topic(cluster::group(&dev()).unwrap());
    fixture.broker.subscribe(SubscribeRequest::new(topic, 10)).await.unwrap()
}

async fn next(subscription: &mut Subscription) -> Letter {
    cluster::read(&subscription.next().await.unwrap()).unwrap().letter
}

#[tokio::test(start_paused = true)]
async fn members_come_are_listed_and_go() {
    let fixture = Fixture::new();
    let groups = Groups::new(fixture.node.clone());
    let mut subscription = subscribed(&fixture).await;
    let session = fixture.session("guest").await;
    let added = groups.add(add(&["ann", "bob"], &[session.as_str()])).await.unwrap().into_inner();
    assert_eq!(added.added, 3);
    let added = groups.add(add(&["ann", "cid"], &[])).await.unwrap().into_inner();
    assert_eq!(added.added, 1);

    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let page = list(&groups, 2, &token).await;
        assert!(page.members.len() <= 2);
        seen.extend(page.members.into_iter().filter_map(|named| named.member));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    let user = |name: &str| member::Member::User(name.to_owned());
    let session_member = member::Member::Session(session.to_string());
    assert_eq!(seen, [session_member.clone(), user("ann"), user("bob"), user("cid")]);
    let count = CountGroupRequest { group: "dev".to_owned() };
    assert_eq!(groups.count(Request::new(count)).await.unwrap().into_inner().members, 4);
    for (member, expected) in
        [(user("ann"), &["dev"][..]), (session_member, &["dev"]), (user("guest"), &[])]
    {
        let of = GroupsOfRequest { member: Some(Named { member: Some(member) }) };
        assert_eq!(groups.of(Request::new(of)).await.unwrap().into_inner().groups, expected);
    }

    let removed = remove(&["ann", "nobody"], &[session.as_str()]);
    assert_eq!(groups.remove(removed).await.unwrap().into_inner().removed, 2);
    let target = |name: &str| Target::User(UserName::new(name).unwrap());
    let members = vec![target("ann"), target("nobody"), Target::Session(session)];
    assert_eq!(next(&mut subscription).await, Letter::Revoke { group: dev(), members });

    let delete = || Request::new(DeleteGroupRequest { group: "dev".to_owned() });
    assert!(groups.delete(delete()).await.unwrap().into_inner().deleted);
    let everybody = Letter::Revoke { group: dev(), members: Vec::new() };
    assert_eq!(next(&mut subscription).await, everybody);
    assert!(list(&groups, 0, "").await.members.is_empty());
    // Again, in case the first did not get so far.
    assert!(!groups.delete(delete()).await.unwrap().into_inner().deleted);
    assert_eq!(next(&mut subscription).await, everybody);
}

#[tokio::test(start_paused = true)]
async fn a_lifetime_ends_a_membership_or_a_group() {
    let fixture = Fixture::new();
    let groups = Groups::new(fixture.node.clone());
    let minute = prost_types::Duration { seconds: 60, nanos: 0 };
    let mut request = add(&["ann"], &[]);
    request.get_mut().lifetime = Some(minute);
    groups.add(request).await.unwrap();
    groups.add(add(&["bob"], &[])).await.unwrap();
    tokio::time::advance(Duration::from_secs(61)).await;
    let left = list(&groups, 0, "").await.members;
    assert_eq!(left, [Named { member: Some(member::Member::User("bob".to_owned())) }]);
    let lifetime = |group: &str, lifetime| {
        Request::new(SetGroupLifetimeRequest { group: group.to_owned(), lifetime })
    };
    groups.set_lifetime(lifetime("dev", Some(minute))).await.unwrap();
    groups.set_lifetime(lifetime("dev", None)).await.unwrap();
    tokio::time::advance(Duration::from_secs(61)).await;
    assert_eq!(list(&groups, 0, "").await.members.len(), 1, "it was taken back");
    groups.set_lifetime(lifetime("dev", Some(minute))).await.unwrap();
    tokio::time::advance(Duration::from_secs(61)).await;
    assert!(list(&groups, 0, "").await.members.is_empty());
    let status = groups.set_lifetime(lifetime("dev", Some(minute))).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::NotFound, "the group \"dev\" has no members")
    );
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_not_there_is_not_added_nor_anybody_with_it() {
    let fixture = Fixture::new();
    let groups = Groups::new(fixture.node.clone());
    let gone = SessionId::generate(Boot::generate());
    let status = groups.add(add(&["ann"], &[gone.as_str()])).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert!(status.message().contains(gone.as_str()), "{status:?}");
    assert!(list(&groups, 0, "").await.members.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_change_that_nodes_are_not_told_of_is_not_in_force_and_says_so() {
    let down = Link::Down("connection refused".to_owned());
    let unavailable = PublishError::Unavailable("connection refused".to_owned());
    for (link, on_publish) in [
        (down, OnPublish::Fail(unavailable)),
        (Link::Up, OnPublish::Hold),
        (Link::Up, OnPublish::Hang),
    ] {
        let broker = std::sync::Arc::new(FakeBroker::new(link, on_publish));
        let fixture = Fixture::over(broker.clone(), Config::default());
        let groups = Groups::new(fixture.node.clone());
        let (mut adding, mut removing) = (add(&["ann"], &[]), remove(&["ann"], &[]));
        for metadata in [adding.metadata_mut(), removing.metadata_mut()] {
            metadata.insert("grpc-timeout", "4S".parse().unwrap());
        }
        let start = tokio::time::Instant::now();
        let added = groups.add(adding).await.unwrap_err();
        assert_eq!(start.elapsed(), Duration::from_millis(3_600), "it is waited for");
        assert_eq!(fixture.store.size(&dev()).await, Ok(1));
        let start = tokio::time::Instant::now();
        let removed = groups.remove(removing).await.unwrap_err();
        assert_eq!(start.elapsed(), Duration::from_millis(3_600), "it is waited for");
        assert_eq!(fixture.store.size(&dev()).await, Ok(0));
        for (status, so) in [(added, NOT_HEARD), (removed, NOT_IN_FORCE)] {
            assert_eq!(status.code(), Code::Unavailable);
            assert!(status.message().ends_with(so), "{status:?}");
            assert_eq!(status.get_details_error_info().unwrap().reason, "NOT_IN_FORCE");
        }
        // Trying again is enough.
        broker.set_link(Link::Up);
        broker.on_publish(OnPublish::Answer(Ok(())));
        assert_eq!(groups.remove(remove(&["ann"], &[])).await.unwrap().into_inner().removed, 0);
        assert_eq!(groups.add(add(&["ann"], &[])).await.unwrap().into_inner().added, 1);
        assert_eq!(groups.add(add(&["ann"], &[])).await.unwrap().into_inner().added, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_wrong_request_is_told_its_field() {
    let fixture = Fixture::new();
    let groups = Groups::new(fixture.node.clone());
    let many: Vec<_> = (0..600).map(|n| n.to_string()).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let id = SessionId::generate(Boot::generate());
    let ids = vec![id.as_str(); 401];
    let long = "x".repeat(1_000);
    let field = |status: Status| {
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        status.get_details_bad_request().unwrap().field_violations[0].field.clone()
    };
    for (users, sessions, expected) in [
        (&[][..], &[][..], "sessions"),
        (&many, &ids, "users"),
        (&["ann", ""], &[], "users[1]"),
        (&[&long], &[], "users[0]"),
        (&["a\u{85}b"], &[], "users[0]"),
        (&["ann"], &["ann"], "sessions[0]"),
    ] {
        assert_eq!(field(groups.add(add(users, sessions)).await.unwrap_err()), expected);
        assert_eq!(field(groups.remove(remove(users, sessions)).await.unwrap_err()), expected);
    }
    for group in ["", &long, "a\nb", &".".repeat(100)] {
        let mut request = add(&["ann"], &[]);
        request.get_mut().group = group.to_owned();
        assert_eq!(field(groups.add(request).await.unwrap_err()), "group", "{group}");
    }
    for lifetime in [
        prost_types::Duration { seconds: 0, nanos: 0 },
        prost_types::Duration { seconds: -1, nanos: 0 },
        prost_types::Duration { seconds: i64::MAX, nanos: 0 },
    ] {
        let mut request = add(&["ann"], &[]);
        request.get_mut().lifetime = Some(lifetime);
        assert_eq!(field(groups.add(request).await.unwrap_err()), "lifetime");
    }
    let request =
        ListGroupRequest { group: "dev".to_owned(), page_size: 1_001, ..Default::default() };
    assert_eq!(field(groups.list(Request::new(request)).await.unwrap_err()), "page_size");
    let request = Request::new(GroupsOfRequest::default());
    assert_eq!(field(groups.of(request).await.unwrap_err()), "member");
}
