//! The rules for owners of sessions that their clients named.

use std::time::Duration;

use super::{hostile, soon, until, word};
use crate::{Boot, Claim, Owners, SessionName};

const LONG: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_secs(1);

fn a_session() -> SessionName {
    named(&format!("session-{}", word()))
}

fn named(name: &str) -> SessionName {
    SessionName::new(name.to_owned()).expect("a name")
}

async fn claim(owners: &impl Owners, session: &SessionName, boot: Boot) -> Claim {
    claim_for(owners, session, boot, LONG).await
}

async fn claim_for(
    owners: &impl Owners,
    session: &SessionName,
    boot: Boot,
    lifetime: Duration,
) -> Claim {
    soon(owners.claim(session, boot, lifetime)).await.expect("an answer")
}

async fn owner(owners: &impl Owners, session: &SessionName) -> Option<Boot> {
    soon(owners.owner(session)).await.expect("an answer")
}

async fn keep(owners: &impl Owners, sessions: &[SessionName], boot: Boot) -> Vec<SessionName> {
    soon(owners.keep(sessions, boot, LONG)).await.expect("an answer")
}

/// Whoever comes second is told who has it, as often as it asks.
pub async fn who_claims_first_is_the_owner(owners: &impl Owners) {
    let (session, one, other) = (a_session(), Boot::generate(), Boot::generate());
    assert_eq!(owner(owners, &session).await, None);
    for _ in 0..2 {
        assert_eq!(claim(owners, &session, one).await, Claim::Ours);
        assert_eq!(claim(owners, &session, other).await, Claim::Of(one));
        assert_eq!(owner(owners, &session).await, Some(one));
    }
}

/// Of many at once one gets it, and all the others the same answer.
pub async fn one_of_many_gets_it(owners: &impl Owners) {
    let session = a_session();
    let boots: Vec<_> = std::iter::repeat_with(Boot::generate).take(20).collect();
    let claims = boots.iter().map(|boot| claim(owners, &session, *boot));
    let claims = futures_util::future::join_all(claims).await;
    let owner = owner(owners, &session).await.expect("an owner");
    for (boot, claim) in boots.into_iter().zip(claims) {
        assert_eq!(claim, Claim::of(owner, boot));
    }
}

/// Whoever dies loses it.
pub async fn a_claim_is_over_by_itself(owners: &impl Owners) {
    let (session, dead, other) = (a_session(), Boot::generate(), Boot::generate());
    assert_eq!(claim_for(owners, &session, dead, SHORT).await, Claim::Ours);
    until(async || owner(owners, &session).await.is_none()).await;
    assert_eq!(claim(owners, &session, other).await, Claim::Ours);
    assert_eq!(owner(owners, &session).await, Some(other));
}

/// Keeping begins the lifetime anew, and so does another claim.
pub async fn who_keeps_it_has_it_longer(owners: &impl Owners) {
    let (kept, again, left, boot) = (a_session(), a_session(), a_session(), Boot::generate());
    for session in [&kept, &again] {
        assert_eq!(claim_for(owners, session, boot, SHORT).await, Claim::Ours);
    }
    assert_eq!(keep(owners, std::slice::from_ref(&kept), boot).await, []);
    assert_eq!(claim(owners, &again, boot).await, Claim::Ours);
    // It was claimed last and is over first.
    assert_eq!(claim_for(owners, &left, boot, SHORT).await, Claim::Ours);
    until(async || owner(owners, &left).await.is_none()).await;
    assert_eq!(owner(owners, &kept).await, Some(boot));
    assert_eq!(owner(owners, &again).await, Some(boot));
}

/// As a store may have lost it.
pub async fn keeping_claims_what_nobody_has(owners: &impl Owners) {
    let boot = Boot::generate();
    let sessions: Vec<_> = std::iter::repeat_with(a_session).take(1_500).collect();
    assert_eq!(keep(owners, &sessions, boot).await, []);
    for session in [&sessions[0], &sessions[1_499]] {
        assert_eq!(owner(owners, session).await, Some(boot));
    }
    assert_eq!(keep(owners, &[], boot).await, []);
}

/// And leaves it to the other.
pub async fn keeping_says_what_another_has(owners: &impl Owners) {
    let (ours, theirs) = (a_session(), a_session());
    let (boot, other) = (Boot::generate(), Boot::generate());
    assert_eq!(claim(owners, &theirs, other).await, Claim::Ours);
    let lost = keep(owners, &[ours.clone(), theirs.clone()], boot).await;
    assert_eq!(lost, std::slice::from_ref(&theirs));
    assert_eq!(owner(owners, &theirs).await, Some(other));
    assert_eq!(owner(owners, &ours).await, Some(boot));
}

/// Nobody gives up what another has.
pub async fn only_the_owner_releases_it(owners: &impl Owners) {
    let (session, one, other) = (a_session(), Boot::generate(), Boot::generate());
    assert_eq!(claim(owners, &session, one).await, Claim::Ours);
    let release = async |boot| {
        // Among others that nobody has.
        let sessions = [a_session(), session.clone(), a_session()];
        soon(owners.release(&sessions, boot)).await.expect("an answer");
    };
    release(other).await;
    assert_eq!(owner(owners, &session).await, Some(one));
    for _ in 0..2 {
        release(one).await;
        assert_eq!(owner(owners, &session).await, None);
    }
    assert_eq!(claim(owners, &session, other).await, Claim::Ours);
    soon(owners.release(&[], other)).await.expect("an answer");
}

/// None is taken for another.
pub async fn any_name_is_a_name(owners: &impl Owners) {
    let mut claimed = Vec::new();
    for name in hostile(&word()) {
        let (session, boot) = (named(&name), Boot::generate());
        assert_eq!(claim(owners, &session, boot).await, Claim::Ours, "{name:?}");
        claimed.push((session, boot));
    }
    for (session, boot) in claimed {
        assert_eq!(owner(owners, &session).await, Some(boot), "{session:?}");
    }
}
